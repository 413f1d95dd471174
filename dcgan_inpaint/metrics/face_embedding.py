"""dlib's embedding of a face: 128 values, close for the same person.

D. E. King's network (dlib.net, "High quality face recognition with deep metric
learning", 2017) is a ResNet (He et al. 2015, arXiv 1512.03385) of 29 layers,
trained on about three million faces so that two faces of the same person are
within a distance of 0.6 and two of different persons farther apart; with that
threshold it classifies 99.38 % of the pairs of Labeled Faces in the Wild
correctly.

  chip              150 x 150 x 3     the face, turned upright by its landmarks
  conv 7x7 / 2      72 x 72 x 32
  max pool 3x3 / 2  35 x 35 x 32
  3 blocks          35 x 35 x 32      of two 3x3 convolutions and a sum
  4 blocks          17 x 17 x 64      the first with stride 2
  3 blocks          8 x 8 x 128
  3 blocks          4 x 4 x 256
  1 block           2 x 2 x 256
  mean, dense       128

dlib itself extracts the chip. The network runs in Flax with the weights of the
package `face_recognition_models`: the same values to 1e-6, in a tenth of dlib's
time on the CPU, and on an accelerator if there is one.
"""

from collections.abc import Callable
import functools
import importlib
import importlib.util
import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.runtime import errors

SIZE = 150  # The side of a chip.
DIMENSION = 128
# The distance below which dlib considers two faces the same person.
SAME_PERSON = 0.6

# The positions of the left eye (of the picture), the right eye, the tip of the
# nose and the corners of the mouth in a chip, relative to a pixel's centre: the
# means of the points of dlib's mean face (its `get_face_chip_details`, with a
# quarter of a face of padding).
_POINTS = np.array(
  [[47.55, 46.60], [100.48, 46.60], [74.01, 76.56], [50.41, 103.02],
   [97.61, 103.02]]
)  # fmt: skip

# Channels, blocks, and the stride of the first of them.
_STAGES = ((32, 3, 1), (64, 4, 2), (128, 3, 2), (256, 3, 2), (256, 1, 2))
_MEAN_COLOUR = (122.782, 117.001, 104.298)
_MODEL = "dlib_face_recognition_resnet_model_v1.dat"


class _Block(nn.Module):
  """Two convolutions with a shortcut.

  Attributes:
    channels: of the result.
    strides: of the first convolution, and of the shortcut's average.
  """

  channels: int
  strides: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, H', W', channels]; x is [B, H, W, C]."""
    y = nn.relu(_convolution(self.channels, 3, self.strides, "first")(x))
    y = _convolution(self.channels, 3, 1, "second")(y)
    if self.strides > 1:
      x = nn.avg_pool(x, (2, 2), (2, 2))
    # dlib aligns arrays of different sizes at the upper left corner and adds
    # them: fewer channels to more, and 3x3 and 1x1 pixels to 4x4 and 2x2.
    shape = np.maximum(x.shape, y.shape)
    x, y = (
      jnp.pad(v, [(0, n - m) for m, n in zip(v.shape, shape, strict=True)])
      for v in (x, y)
    )
    return nn.relu(x + y)


class FaceEmbedding(nn.Module):
  """dlib's network, its affine layers folded into the convolutions."""

  @nn.compact
  def __call__(self, chips: jax.Array) -> jax.Array:
    """Returns the embeddings, float32 [B, 128].

    Args:
      chips: uint8 [B, 150, 150, 3].
    """
    x = (jnp.float32(chips) - jnp.array(_MEAN_COLOUR)) / 256
    x = nn.relu(_convolution(32, 7, 2, "stem")(x))
    x = nn.max_pool(x, (3, 3), (2, 2))
    for name, channels, strides in _blocks():
      x = _Block(channels, strides, name=name)(x)
    dense = nn.Dense(
      DIMENSION, use_bias=False, precision="highest", name="dense"
    )
    return dense(x.mean((1, 2)))


def create(
  landmarks: np.ndarray, field: str = "config.evaluation.features"
) -> Callable[[np.ndarray], jax.Array]:
  """Returns the function that embeds faces.

  Args:
    landmarks: float [5, 2], the positions of the left eye (of the picture), the
      right eye, the nose and the corners of the mouth in the images (x, y), as
      fractions of their width and height: the same for all images, as in an
      aligned crop. They are not detected in each face, which would fail for
      poor completions.
    field: the config's name for these features, for the message.

  Returns:
    A function from images, uint8 [B, H, W, 3] of any size, to embeddings,
    float32 [B, 128]. Compiled for each B.

  Raises:
    errors.UserError: the extra `faces` is missing.
  """
  path = _model_path(field)
  params = _params(path)
  landmarks = np.asarray(landmarks, np.float64)

  def embed(images: np.ndarray) -> jax.Array:
    return _apply(params, np.stack([chip(i, landmarks) for i in images]))

  return embed


def chip(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
  """Returns the part of an image that the network sees, as dlib extracts it.

  Rotated upright, and scaled bilinearly. If the crop is tight, its last rows
  and columns are repeated; dlib has black there.

  Args:
    image: uint8 [H, W, 3].
    landmarks: see `create`.

  Returns:
    uint8 [150, 150, 3].
  """
  height, width = image.shape[:2]
  # dlib's coordinates are relative to a pixel's centre.
  points = landmarks * (width, height) - 0.5
  box = _chip_details(points).rect
  reach = max(
    -box.left(), -box.top(), box.right() - width + 1, box.bottom() - height + 1
  )
  # The corners of a rotated chip are up to 21 % of its width outside its box.
  padding = max(0, int(np.ceil(reach + 0.21 * box.width())))
  padded = np.pad(
    image, ((padding, padding), (padding, padding), (0, 0)), mode="edge"
  )
  return _dlib().extract_image_chip(padded, _chip_details(points + padding))


def _dlib() -> Any:
  return importlib.import_module("dlib")  # Optional, and without types.


def _chip_details(points: np.ndarray) -> Any:
  """Returns dlib's description of the chip for landmarks [5, 2] in pixels."""
  dlib = _dlib()
  return dlib.chip_details(
    dlib.dpoints([dlib.dpoint(*point) for point in _POINTS]),
    dlib.dpoints([dlib.dpoint(*point) for point in points]),
    dlib.chip_dims(SIZE, SIZE),
  )


@jax.jit
def _apply(params: Any, chips: jax.Array) -> jax.Array:
  return FaceEmbedding().apply({"params": params}, chips)  # pyright: ignore


def _convolution(channels: int, size: int, strides: int, name: str) -> nn.Conv:
  return nn.Conv(
    channels,
    (size, size),
    strides,
    padding="SAME" if strides == 1 else "VALID",
    precision="highest",
    name=name,
  )


def _blocks() -> list[tuple[str, int, int]]:
  """Returns the name, the channels and the stride of each block."""
  rows = [
    (channels, strides if i == 0 else 1)
    for channels, count, strides in _STAGES
    for i in range(count)
  ]
  return [(f"block_{i}", *row) for i, row in enumerate(rows)]


# The weights.


def _model_path(field: str) -> pathlib.Path:
  missing = [
    name
    for name in ("dlib", "face_recognition_models")
    if importlib.util.find_spec(name) is None
  ]
  if missing:
    raise errors.UserError(
      f"{field}: dlib's features need {' and '.join(missing)}: pip install "
      "'dcgan-inpaint[faces]'"
    )
  # Importing the package itself fails: it imports `pkg_resources`, which newer
  # versions of setuptools no longer have.
  package = importlib.util.find_spec("face_recognition_models")
  assert package is not None and package.submodule_search_locations
  return pathlib.Path(package.submodule_search_locations[0]) / "models" / _MODEL


@functools.cache
def _params(path: pathlib.Path) -> dict[str, Any]:
  """Returns the parameters of `FaceEmbedding`.

  Args:
    path: a network file written by dlib.

  Raises:
    errors.UserError: it is not this network, or damaged.
  """
  try:
    reader = _Reader(path.read_bytes())
    params: dict[str, Any] = {"stem": reader.convolution(3, 32, 7)}
    before = 32
    for name, channels, _ in _blocks():
      params[name] = {
        "first": reader.convolution(before, channels, 3),
        "second": reader.convolution(channels, channels, 3),
      }
      before = channels
    kernel = reader.values(b"fc_2", before * DIMENSION, skipped=2)
    params["dense"] = {"kernel": kernel.reshape(before, DIMENSION)}
  except (OSError, ValueError, IndexError) as error:
    raise errors.UserError(
      f"{path}: dlib's face network cannot be read ({error}): install "
      "'dcgan-inpaint[faces]' again"
    ) from error
  return jax.device_put(params)


class _Reader:
  """Reads layers from a file of dlib's, in the order of their use.

  dlib/serialize.h and dlib/cuda/tensor.h: an integer is a byte with the number
  of its bytes, followed by these, little-endian; a string is its length and its
  characters; a tensor is the integer 2, four sizes and its float32 values. A
  layer begins with its name; its other properties are known and skipped.
  """

  def __init__(self, data: bytes):
    self._data, self._position = data, 0

  def convolution(self, before: int, channels: int, size: int) -> Any:
    """Returns a convolution with the following affine layer folded in."""
    count = channels * before * size**2
    values = self.values(b"con_4", count + channels)
    kernel, bias = values[:count], values[count:]
    kernel = kernel.reshape(channels, before, size, size).transpose(2, 3, 1, 0)
    scale, shift = self.values(b"affine_", 2 * channels).reshape(2, channels)
    return {"kernel": kernel * scale, "bias": bias * scale + shift}

  def values(self, layer: bytes, count: int, skipped: int = 0) -> np.ndarray:
    """Returns the values of the next layer of a kind, float32 [count].

    Args:
      layer: dlib's name for the kind.
      count: of its values.
      skipped: integers between the name and the tensor.
    """
    name = bytes([1, len(layer)]) + layer
    self._position = self._data.index(name, self._position) + len(name)
    for _ in range(skipped):
      self._integer()
    version, *sizes = (self._integer() for _ in range(5))
    if version != 2 or np.prod(sizes) != count:
      raise ValueError(f"a layer of shape {sizes}, and not of {count} values")
    values = np.frombuffer(self._data, "<f4", count, self._position)
    self._position += values.nbytes
    return values.astype(np.float32)

  def _integer(self) -> int:
    size = self._data[self._position]
    start = self._position + 1
    self._position = start + size
    return int.from_bytes(self._data[start : self._position], "little")
