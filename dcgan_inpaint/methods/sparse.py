"""Parseval frames as matrices, and the solver of the sparse methods.

An image is sparse in a frame if few of its coefficients are large. A hole is
filled by asking for an image that agrees with the known pixels and is sparse.
`sparse_dct`, `sparse_wavelet` and `mca` choose the frames and the thresholds.

Images are small, so a frame is a few matrices along rows and columns; it is
exact for every height and width. All frames are Parseval: `synthesise` is the
transpose of `analyse` and undoes it. They are pytrees, arguments of compiled
functions, and work on images [..., H, W].
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Images go through the solver in batches of this size, the last one filled up:
# one compilation, and a result that does not depend on how many there are.
_IMAGES_AT_ONCE = 16


def cosines(size: int) -> np.ndarray:
  """Returns the orthonormal DCT-II as a matrix, float64 [size, size].

  Args:
    size: of the signal; `cosines(size) @ signal` is its transform.
  """
  frequency, place = np.indices((size, size))
  matrix = np.cos(np.pi * frequency * (2 * place + 1) / (2 * size))
  matrix *= math.sqrt(2 / size)
  matrix[0] /= math.sqrt(2)
  return matrix


class Cosines(NamedTuple):
  """The DCT of all blocks, or of the whole image.

  Attributes:
    rows: float32 [P, H], the atoms along the height.
    columns: float32 [Q, W], the atoms along the width.
  """

  rows: jax.Array | np.ndarray
  columns: jax.Array | np.ndarray

  def analyse(self, images):
    """Returns the coefficients of [..., H, W]: a tuple of one [..., P, Q]."""
    return (_apply(self.rows, images, self.columns),)

  def synthesise(self, coefficients):
    """Returns images [..., H, W] from coefficients."""
    return _apply(self.rows.T, coefficients[0], self.columns.T)

  def norms(self):
    """Returns the atoms' lengths [P, Q]; those cut by the border are short."""
    rows, columns = (jnp.linalg.norm(m, axis=1) for m in self)
    return (rows[:, None] * columns,)


def global_cosines(height: int, width: int) -> Cosines:
  """Returns the orthonormal DCT of whole images."""
  return Cosines(np.float32(cosines(height)), np.float32(cosines(width)))


def local_cosines(height: int, width: int, block: int) -> Cosines:
  """Returns the DCT of blocks that overlap by half, under a sine window.

  The squares of the windows add up to one at each pixel, so the frame is
  Parseval; it has four times as many coefficients as the image has pixels, and
  more at the border, over which the first and last blocks hang.

  Args:
    height: of the images, pixels.
    width: of the images, pixels.
    block: side of a block, pixels; even.

  Raises:
    ValueError: the block's side is odd.
  """
  if block % 2:
    raise ValueError(f"blocks overlap by half: a side of {block} is odd")

  def atoms(size):
    window = np.sin(np.pi * (np.arange(block) + 0.5) / block)
    windowed = cosines(block) * window
    starts = range(0, size + block // 2, block // 2)
    matrix = np.zeros((len(starts), block, size + 2 * block))
    for rows, start in zip(matrix, starts, strict=True):
      rows[:, start : start + block] = windowed
    half = block // 2  # By which the first block hangs over the border.
    return matrix[:, :, half : half + size].reshape(-1, size)

  return Cosines(np.float32(atoms(height)), np.float32(atoms(width)))


class Wavelets(NamedTuple):
  """Undecimated wavelets: every level at every shift.

  Attributes:
    rows: for each level (low, high), float32 [H, H] each, along the height.
    columns: the same along the width, [W, W].
  """

  rows: tuple
  columns: tuple

  def analyse(self, images):
    """Returns three details [..., H, W] of each level, and what is left."""
    coefficients = []
    for rows, columns in zip(self.rows, self.columns, strict=True):
      (low, high), (left, right) = rows, columns
      coefficients += [
        _apply(low, images, right),
        _apply(high, images, left),
        _apply(high, images, right),
      ]
      images = _apply(low, images, left)
    return (*coefficients, images)

  def synthesise(self, coefficients):
    """Returns images [..., H, W] from coefficients."""
    *details, images = coefficients
    for level in reversed(range(len(self.rows))):
      (low, high), (left, right) = self.rows[level], self.columns[level]
      horizontal, vertical, diagonal = details[3 * level : 3 * level + 3]
      images = (
        _apply(low.T, images, left.T)
        + _apply(low.T, horizontal, right.T)
        + _apply(high.T, vertical, left.T)
        + _apply(high.T, diagonal, right.T)
      )
    return images

  def norms(self):
    """Returns the atoms' lengths: 2^-level, and 0 for what is left.

    So the coarsest means are never thresholded: they are not sparse.
    """
    levels = range(1, len(self.rows) + 1)
    return (*(2.0**-level for level in levels for _ in range(3)), 0.0)


def wavelets(height: int, width: int, levels: int) -> Wavelets:
  """Returns Daubechies' wavelets of four taps, undecimated and periodic.

  Args:
    height: of the images, pixels.
    width: of the images, pixels.
    levels: number of octaves.
  """
  root = math.sqrt(3)
  # I. Daubechies, "Orthonormal bases of compactly supported wavelets",
  # Communications on Pure and Applied Mathematics 41 (1988), N = 2; divided by
  # sqrt(2) once more, as nothing is decimated.
  low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / 8
  high = low[::-1] * [1, -1, 1, -1]

  def circulant(taps, size, step):
    matrix = np.zeros((size, size))
    for tap, value in enumerate(taps):
      # Centred, so that the levels do not drift apart.
      places = (np.arange(size) + (2 * tap - 3) * step // 2) % size
      matrix[np.arange(size), places] += value
    return np.float32(matrix)

  def pairs(size):
    return tuple(
      (circulant(low, size, 2**level), circulant(high, size, 2**level))
      for level in range(levels)
    )

  return Wavelets(pairs(height), pairs(width))


def complete(
  images: np.ndarray,
  masks: np.ndarray,
  frames: Sequence[Cosines | Wavelets],
  thresholds: Sequence[float],
) -> np.ndarray:
  """Returns the images with their holes filled by what is sparse in `frames`.

  Args:
    images: float32 [N, H, W, 3] in [-1, 1]. What lies in the hole is ignored.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole. An image without a known
      pixel becomes mid-grey (0).
    frames: for images of H x W pixels; see `decompose`.
    thresholds: one an iteration.

  Returns:
    float32 [N, H, W, 3] in [-1, 1]; the known pixels are those of `images`, to
    the bit.
  """
  masks = np.asarray(masks)
  known = np.where(masks > 0.5, images, np.float32(0))
  thresholds = np.asarray(thresholds, np.float32)
  completed = known.copy()
  for start in range(0, len(known), _IMAGES_AT_ONCE):
    here = slice(start, start + _IMAGES_AT_ONCE)
    count = len(known[here])
    sides = ((0, _IMAGES_AT_ONCE - count), (0, 0), (0, 0), (0, 0))
    batch, seen = (np.pad(x[here], sides) for x in (known, masks))
    parts = decompose(batch, seen, tuple(frames), thresholds)
    filled = np.clip(sum(map(np.asarray, parts)), -1, 1)[:count]
    completed[here] = np.where(masks[here] > 0.5, known[here], filled)
  return completed


@jax.jit
def decompose(
  images: jax.Array,
  masks: jax.Array,
  frames: tuple[Cosines | Wavelets, ...],
  thresholds: jax.Array,
) -> list[jax.Array]:
  """Splits images into parts, each sparse in its frame; their sum fills holes.

  Block-coordinate relaxation with a falling threshold: in turn, each part takes
  up what the known pixels leave unexplained, and its coefficients below the
  threshold are dropped. It is the algorithm of M. Elad, J.-L. Starck,
  P. Querre & D. L. Donoho, "Simultaneous cartoon and texture image inpainting
  using morphological component analysis (MCA)", Applied and Computational
  Harmonic Analysis 19 (2005), section 3, doi:10.1016/j.acha.2005.03.005, with
  hard thresholds. With one frame it is the iterative thresholding of
  O. G. Guleryuz, "Nonlinear approximation based image recovery using adaptive
  sparse reconstructions and iterated denoising", IEEE TIP 15 (2006).

  A coefficient's size is taken over the three colours together, so that these
  share their atoms, and relative to its atom's length.

  Args:
    images: float32 [N, H, W, C]; the hole's values must be finite, and count
      for nothing.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    frames: one a part.
    thresholds: float32 [K], one an iteration, in the images' unit.

  Returns:
    A list of float32 [N, H, W, C], one a frame. The mean of the known pixels
    belongs to the first.
  """
  known = jnp.moveaxis(masks, -1, 1)
  images = jnp.moveaxis(images, -1, 1) * known
  total = images.sum((2, 3), keepdims=True)
  mean = total / jnp.maximum(known.sum((2, 3), keepdims=True), 1)
  centred = (images - mean) * known

  def keep_large(coefficients, norm, threshold):
    energy = jnp.sum(coefficients**2, axis=1, keepdims=True)
    return jnp.where(energy > (threshold * norm) ** 2, coefficients, 0)

  def iterate(parts, threshold):
    for index, frame in enumerate(frames):
      residual = known * (centred - sum(parts))
      coefficients = frame.analyse(parts[index] + residual)
      kept = [
        keep_large(values, norm, threshold)
        for values, norm in zip(coefficients, frame.norms(), strict=True)
      ]
      parts[index] = frame.synthesise(kept)
    return parts, None

  start = [jnp.zeros_like(centred) for _ in frames]
  parts, _ = jax.lax.scan(iterate, start, thresholds)
  parts[0] += mean
  return [jnp.moveaxis(part, 1, -1) for part in parts]


def falling(first: float, last: float, iterations: int) -> np.ndarray:
  """Returns thresholds that fall by the same factor at each iteration."""
  return np.geomspace(first, last, iterations)


def _apply(rows, images, columns):
  # An accelerator would round the products to TF32 or bfloat16.
  with jax.default_matmul_precision("highest"):
    return rows @ images @ columns.T
