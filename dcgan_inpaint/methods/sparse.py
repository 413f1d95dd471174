"""Parseval frames as matrices, and the solver of the sparse methods.

An image is sparse in a frame if few of its coefficients are large. A hole is
filled by finding a sparse image that agrees with the known pixels.
`sparse_dct`, `sparse_wavelet` and `mca` choose the frames and the thresholds.

Images are small, so a frame consists of a few matrices along rows and columns;
it is exact for every height and width. All frames are Parseval: `synthesise` is
the transpose of `analyse` and inverts it. They are pytrees, arguments of
compiled functions, and work on images [..., H, W].
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import filling

# The solver's batch size; the last batch is padded: one compilation, and a
# result that does not depend on the number of images.
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


_Array = jax.Array | np.ndarray
_Pair = tuple[_Array, _Array]


class Cosines(NamedTuple):
  """The DCT of all blocks, or of the whole image.

  Attributes:
    rows: float32 [P, H], the atoms along the height.
    columns: float32 [Q, W], the atoms along the width.
  """

  rows: _Array
  columns: _Array

  def analyse(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the coefficients of [..., H, W]: a tuple of one [..., P, Q]."""
    return (_apply(self.rows, images, self.columns),)

  def synthesise(self, coefficients: Sequence[jax.Array]) -> jax.Array:
    """Returns images [..., H, W] from coefficients."""
    return _apply(self.rows.T, coefficients[0], self.columns.T)

  def norms(self) -> tuple[jax.Array]:
    """Returns the atoms' lengths [P, Q]; those cut by the border are short."""
    rows, columns = (jnp.linalg.norm(m, axis=1) for m in self)
    return (rows[:, None] * columns,)


def global_cosines(height: int, width: int) -> Cosines:
  """Returns the orthonormal DCT of whole images."""
  return Cosines(
    cosines(height).astype(np.float32), cosines(width).astype(np.float32)
  )


def local_cosines(height: int, width: int, block: int) -> Cosines:
  """Returns the DCT of blocks that overlap by half, under a sine window.

  The squares of the windows add up to one at each pixel, so the frame is
  Parseval; it has four times as many coefficients as the image has pixels, and
  more at the border, which the first and last blocks overhang.

  Args:
    height: of the images, pixels.
    width: of the images, pixels.
    block: side of a block, pixels; even.

  Raises:
    ValueError: the block's side is odd.
  """
  if block % 2:
    raise ValueError(f"blocks overlap by half: a side of {block} is odd")

  def atoms(size: int) -> np.ndarray:
    window = np.sin(np.pi * (np.arange(block) + 0.5) / block)
    windowed = cosines(block) * window
    starts = range(0, size + block // 2, block // 2)
    matrix = np.zeros((len(starts), block, size + 2 * block))
    for rows, start in zip(matrix, starts, strict=True):
      rows[:, start : start + block] = windowed
    half = block // 2  # The first block's overhang over the border.
    inside = matrix[:, :, half : half + size].reshape(-1, size)
    return inside.astype(np.float32)

  return Cosines(atoms(height), atoms(width))


class Wavelets(NamedTuple):
  """Undecimated wavelets: every level at every shift.

  Attributes:
    rows: for each level (low, high), float32 [H, H] each, along the height.
    columns: the same along the width, [W, W].
  """

  rows: tuple[_Pair, ...]
  columns: tuple[_Pair, ...]

  def analyse(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """Returns three details [..., H, W] of each level, and the remainder."""
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

  def synthesise(self, coefficients: Sequence[jax.Array]) -> jax.Array:
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

  def norms(self) -> tuple[float, ...]:
    """Returns the atoms' lengths: 2^-level, and 0 for the remainder.

    With 0 the coarsest means, which are not sparse, are never thresholded.
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
  # sqrt(2) again, as there is no decimation.
  low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / 8
  high = low[::-1] * [1, -1, 1, -1]

  def circulant(taps: np.ndarray, size: int, step: int) -> np.ndarray:
    matrix = np.zeros((size, size))
    for tap, value in enumerate(taps):
      # Centred, so that the levels do not drift apart.
      places = (np.arange(size) + (2 * tap - 3) * step // 2) % size
      matrix[np.arange(size), places] += value
    return matrix.astype(np.float32)

  def pairs(size: int) -> tuple[_Pair, ...]:
    return tuple(
      (circulant(low, size, 2**level), circulant(high, size, 2**level))
      for level in range(levels)
    )

  return Wavelets(pairs(height), pairs(width))


def fill(
  images: np.ndarray,
  masks: np.ndarray,
  frames: Sequence[Cosines | Wavelets],
  thresholds: np.ndarray,
) -> np.ndarray:
  """Returns the images with holes filled by images sparse in `frames`.

  Args:
    images: float32 [N, H, W, C], 0 in the holes.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    frames: for images of H x W pixels; see `decompose`.
    thresholds: float [K], one per iteration.

  Returns:
    float32 [N, H, W, C].
  """
  thresholds = thresholds.astype(np.float32)

  def fill_batch(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    first, *others = decompose(images, masks, tuple(frames), thresholds)
    return sum(map(np.asarray, others), start=np.asarray(first))

  return filling.in_batches(fill_batch, images, masks, _IMAGES_AT_ONCE)


@jax.jit
def decompose(
  images: jax.Array,
  masks: jax.Array,
  frames: tuple[Cosines | Wavelets, ...],
  thresholds: jax.Array,
) -> list[jax.Array]:
  """Splits images into parts, each sparse in its frame; their sum fills holes.

  Block-coordinate relaxation with a decreasing threshold: in turn, the residual
  on the known pixels is added to each part, and its coefficients below the
  threshold are set to 0. It is the algorithm of M. Elad, J.-L. Starck,
  P. Querre & D. L. Donoho, "Simultaneous cartoon and texture image inpainting
  using morphological component analysis (MCA)", Applied and Computational
  Harmonic Analysis 19 (2005), section 3, doi:10.1016/j.acha.2005.03.005, with
  hard thresholds. With one frame it is the iterative thresholding of
  O. G. Guleryuz, "Nonlinear approximation based image recovery using adaptive
  sparse reconstructions and iterated denoising", IEEE TIP 15 (2006).

  A coefficient's size is its norm over the three colours, so that these share
  their atoms, relative to its atom's length.

  Args:
    images: float32 [N, H, W, C]; the hole's values must be finite, and are
      ignored.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    frames: one per part.
    thresholds: float32 [K], one per iteration, in the images' unit.

  Returns:
    A list of float32 [N, H, W, C], one per frame. The mean of the known pixels
    is part of the first.
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
  """Returns thresholds that decrease by the same factor per iteration."""
  return np.geomspace(first, last, iterations)


def _apply(rows: _Array, images: jax.Array, columns: _Array) -> jax.Array:
  # An accelerator would round the products to TF32 or bfloat16.
  with jax.default_matmul_precision("highest"):
    return jnp.matmul(jnp.matmul(rows, images), columns.T)
