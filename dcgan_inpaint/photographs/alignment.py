"""Between a photograph and the training crop: a similarity transform.

The networks know faces in one place and of one size, as OpenFace or CelebA's
authors aligned them. A transform is a 3x3 matrix that takes positions in the
crop to positions in the photograph by a rotation, a scale and a shift.
Positions are (x, y), and pixel i of the photograph covers the interval from i
to i + 1. The crop's own positions go from 0 to `SIZE`, however many pixels the
model's images have.

Crops are resampled as the training images were: the photograph is first read at
its own resolution, between pixels where the crop is rotated, and then resized
by Lanczos. For an upright box of whole pixels this equals `decoding.decode` to
the bit.
"""

import numpy as np
from PIL import Image
from skimage import transform

from dcgan_inpaint.search import spline

# Side of the crop in the units of its positions: pixels, at 64x64.
SIZE = 64

# Pixels around a window, so that interpolation finds its neighbours there.
_MARGIN = 2
# A crop's pixel counts as known if at least this part of its area is known.
_KNOWN = 0.1


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Returns the similarity transform that best maps points to other points.

  A rotation, a scale and a shift without reflection, by least squares (Umeyama,
  PAMI 13, 1991).

  Args:
    source: float [N, 2], N >= 2 points (x, y) that are not all the same.
    target: float [N, 2].

  Returns:
    float64 [3, 3].
  """
  # `SimilarityTransform.estimate` is deprecated in scikit-image 0.26, and 0.25
  # lacks `from_estimate`; both have this.
  return transform.estimate_transform("similarity", source, target).params


def upright(left: float, upper: float, side: float) -> np.ndarray:
  """Returns the transform from the crop to an upright square, [3, 3].

  Args:
    left: the square's left edge in the photograph.
    upper: its upper edge.
    side: its side in pixels.
  """
  step = side / SIZE
  return np.array([[step, 0, left], [0, step, upper], [0, 0, 1.0]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Returns points (x, y), float [..., 2], moved by a transform."""
  return points @ matrix[:2, :2].T + matrix[:2, 2]


def scale(matrix: np.ndarray) -> float:
  """Returns the width of one of the crop's units in the photograph's pixels."""
  return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def side(matrix: np.ndarray) -> int:
  """Returns the side of the crop in pixels of the photograph, at least 1."""
  return max(1, round(scale(matrix) * SIZE))


def window(matrix: np.ndarray, height: int, width: int) -> tuple[slice, slice]:
  """Returns the rows and columns of a photograph that hold the crop.

  A small margin is added; both are clipped to the photograph.

  Args:
    matrix: from the crop to the photograph.
    height: of the photograph.
    width: of the photograph.
  """
  corners = apply(matrix, SIZE * np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]]))
  low = np.floor(corners.min(axis=0)).astype(int) - _MARGIN
  high = np.ceil(corners.max(axis=0)).astype(int) + _MARGIN
  (left, upper), (right, lower) = (
    np.clip(x, 0, (width, height)) for x in (low, high)
  )
  return slice(upper, lower), slice(left, right)


def crop(
  photograph: np.ndarray, matrix: np.ndarray, size: int = SIZE
) -> np.ndarray:
  """Returns the training crop that a transform cuts from a photograph.

  Args:
    photograph: uint8 [H, W, 3]. Beyond its edges its last pixels are repeated.
    matrix: from the crop to the photograph.
    size: side of the result, pixels.

  Returns:
    uint8 [size, size, 3].
  """
  native = _native(photograph, matrix, mode="edge")
  rounded = np.clip(np.round(native), 0, 255).astype(np.uint8)
  image = Image.fromarray(rounded)
  if image.size != (size, size):
    image = image.resize((size, size), Image.Resampling.LANCZOS)
  return np.asarray(image)


def crop_mask(
  hole: np.ndarray, matrix: np.ndarray, size: int = SIZE
) -> np.ndarray:
  """Returns the mask of a crop: a pixel is known if a tenth of it is.

  A tenth is enough: the crop is cut from the result of `fill`, which is
  accurate near known pixels, and a higher bound would leave nothing known under
  a fine pattern of lost pixels. Beyond the photograph's edges nothing is known.

  Args:
    hole: bool [H, W], True = hole.
    matrix: from the crop to the photograph.
    size: side of the result, pixels.

  Returns:
    float32 [size, size, 1], 1 = known, 0 = hole.
  """
  known = (~hole).astype(np.float32)[..., None]
  native = _native(known, matrix, mode="constant")
  part = _resize(native.astype(np.float32), size, Image.Resampling.BOX)
  return (part >= _KNOWN).astype(np.float32)


def covered(
  matrix: np.ndarray,
  height: int,
  width: int,
  box: tuple[float, float, float, float] = (0, 0, SIZE, SIZE),
) -> np.ndarray:
  """Returns which pixels' centres lie in the crop, bool [height, width].

  Args:
    matrix: from the crop to the photograph.
    height: of the photograph.
    width: of the photograph.
    box: the part of the crop that is meant: left, upper, right, lower.
  """
  rows, columns = window(matrix, height, width)
  x, y = np.meshgrid(np.r_[columns] + 0.5, np.r_[rows] + 0.5)
  place = apply(np.linalg.inv(matrix), np.stack([x, y], axis=-1))
  inside = np.zeros((height, width), bool)
  # Half a pixel inside the edge, a centre may be off by a rounding error only.
  low, high = np.array(box[:2]) - 1e-6, np.array(box[2:]) + 1e-6
  inside[rows, columns] = np.all((place > low) & (place < high), axis=-1)
  return inside


def warp_back(
  generated: np.ndarray, matrix: np.ndarray, height: int, width: int
) -> np.ndarray:
  """Returns a crop warped back onto its window of the photograph.

  It is resized by Lanczos to its size there, then rotated and shifted. 64x64
  pixels hold little detail, so their result is soft in a large photograph.

  Args:
    generated: float32 [S, S, 3].
    matrix: from the crop to the photograph.
    height: of the photograph.
    width: of the photograph.

  Returns:
    float32 [h, w, 3], the part of the photograph that `window` returns. Outside
    the crop its last pixels are repeated.
  """
  rows, columns = window(matrix, height, width)
  native = side(matrix)
  large = _resize(generated, native, Image.Resampling.LANCZOS)
  to_photograph = matrix @ np.diag([SIZE / native, SIZE / native, 1.0])
  to_window = _shift(-columns.start, -rows.start) @ to_photograph
  shape = (rows.stop - rows.start, columns.stop - columns.start)
  return _warp(large, np.linalg.inv(to_window), shape, "edge")


def fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
  """Returns an image whose hole is filled smoothly from its known pixels.

  Pull-push (Gortler et al., "The Lumigraph", SIGGRAPH 1996): known pixels are
  averaged over squares of doubling side until none is empty, and the averages
  are interpolated linearly on the way back. It takes about as long as reading
  the image a few times, whatever the hole. The result is for detectors, which
  respond to the edges of a white rectangle, and for crops.

  Args:
    image: float32 [H, W, 3]; values in the hole are not read.
    hole: bool [H, W], True = hole. If everything is hole, the result is 0.

  Returns:
    float32 [H, W, 3], known pixels to the bit.
  """
  if not hole.any():
    return image
  if hole.all():
    return np.zeros_like(image)
  coarse = fill(*spline.reduce(image, hole))
  pulled = spline.enlarge(coarse, hole.shape, Image.Resampling.BILINEAR)
  return np.where(hole[..., None], pulled, image)


def _native(image: np.ndarray, matrix: np.ndarray, mode: str) -> np.ndarray:
  """Returns the crop at the photograph's own resolution, float [s, s, C]."""
  rows, columns = window(matrix, *image.shape[:2])
  size = side(matrix)
  from_native = matrix @ np.diag([SIZE / size, SIZE / size, 1.0])
  to_window = _shift(-columns.start, -rows.start) @ from_native
  part = image[rows, columns].astype(np.float32)
  return _warp(part, to_window, (size, size), mode)


def _warp(
  image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int], mode: str
) -> np.ndarray:
  """Returns `image` read at `matrix @ position`, interpolated linearly.

  scikit-image counts positions from the centre of the first pixel.
  """
  centred = _shift(-0.5, -0.5) @ matrix @ _shift(0.5, 0.5)
  return transform.warp(
    image, centred, output_shape=shape, order=1, mode=mode, preserve_range=True
  )


def _shift(x: float, y: float) -> np.ndarray:
  return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _resize(
  image: np.ndarray, size: int, resampling: Image.Resampling
) -> np.ndarray:
  """Returns a float32 image [h, w, C] resized to [size, size, C]."""
  if image.shape[:2] == (size, size):
    return image
  return np.stack(
    [
      np.asarray(Image.fromarray(plane).resize((size, size), resampling))
      for plane in np.moveaxis(image, -1, 0).copy()
    ],
    axis=-1,
  )
