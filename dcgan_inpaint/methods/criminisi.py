"""Fills a hole patch by patch, edges first, with the best copies.

A. Criminisi, P. Perez & K. Toyama, "Region Filling and Object Removal by
Exemplar-Based Image Inpainting", IEEE Transactions on Image Processing 13(9),
2004, doi:10.1109/TIP.2004.833105. It repeats three steps:

1. Priorities. Each pixel p of the hole's rim gets P(p) = C(p) D(p). The
   confidence C is the mean confidence of the patch around p (1 where known, 0
   in the hole). The data term D = |isophote . n| is large where an edge runs
   into the hole: the isophote is the steepest gradient of the patch, rotated by
   90 degrees, and n is the normal of the rim.
2. The missing pixels of the patch with the highest priority are copied from the
   source patch that is nearest over its other pixels.
3. The new pixels get the confidence C(p).

What the paper leaves open: gradients are central differences of the mean of
RGB, taken where all four neighbours are known or filled; the normal is that of
the hole's indicator, by central differences; the mean C is over the part of the
patch inside the image; D has `_LEAST_DATA` added, so that flat parts are filled
in the order of their confidence; the first pixel, or patch, wins a tie. Holes
that leave no complete patch are filled as described in `exemplars`.

The method continues edges and textures, and has no model of faces: it covers an
eye with cheek. It is greedy; early mistakes grow.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import exemplars
from dcgan_inpaint.methods import filling

_LEAST_DATA = 1e-3


class _State(NamedTuple):
  """The image while it is filled; flat, [H * W, ...].

  Attributes:
    levels: float32 [H * W, C], 8-bit levels.
    filled: bool, known or filled.
    confidence: float32, 0 where not filled.
    origin: int32, the pixel that is copied here.
  """

  levels: jax.Array
  filled: jax.Array
  confidence: jax.Array
  origin: jax.Array


@filling.keeps_known_pixels
def complete(
  images: np.ndarray, masks: np.ndarray, patch_size: int = 9
) -> np.ndarray:
  """Returns the images with their holes filled by Criminisi's method.

  Args:
    images: [N, H, W, C], as `filling.keeps_known_pixels` passes them.
    masks: [N, H, W, 1], likewise.
    patch_size: side of the patches, an odd number of pixels; the paper's 9.
  """
  fill = functools.partial(_fill_batch, size=patch_size)
  return exemplars.in_batches(fill, images, masks)


def priorities(
  levels: jax.Array, filled: jax.Array, confidence: jax.Array, size: int
) -> tuple[jax.Array, jax.Array]:
  """Returns the priority P of each pixel, and the confidence C of its patch.

  Args:
    levels: float32 [H, W, C], 8-bit levels.
    filled: bool [H, W], known or filled.
    confidence: float32 [H, W], 0 where not filled.
    size: of the patches, an odd number of pixels.

  Returns:
    P, float32 [H, W], -1 off the rim (the pixels of the hole with a filled one
    above, below, left or right), and C, float32 [H, W].
  """
  area = _over_patch(jnp.ones_like(confidence), size, jnp.add)
  patch_confidence = _over_patch(confidence, size, jnp.add) / area

  beside = exemplars.neighbours(filled)
  four = [beside[step] for step in ((-1, 0), (1, 0), (0, -1), (0, 1))]
  measured = functools.reduce(jnp.logical_and, four, filled)
  gradient = _slopes(levels.mean(-1) / 255) * measured
  steepest = _over_patch(
    jnp.stack([*gradient, jnp.sum(gradient**2, 0)], -1), size, _steeper
  )
  normal = _slopes(1 - jnp.float32(filled))
  length = jnp.maximum(jnp.hypot(*normal), 1e-6)
  # The isophote is the gradient rotated by 90 degrees.
  across = steepest[..., 0] * normal[1] - steepest[..., 1] * normal[0]
  data = jnp.abs(across) / length + _LEAST_DATA

  rim = ~filled & functools.reduce(jnp.logical_or, four)
  return jnp.where(rim, patch_confidence * data, -1), patch_confidence


@functools.partial(jax.jit, static_argnames="size")
def _fill_batch(images: jax.Array, known: jax.Array, size: int) -> jax.Array:
  return jax.vmap(functools.partial(_fill, size=size))(images, known)


def _fill(image: jax.Array, known: jax.Array, size: int) -> jax.Array:
  """Fills one image [H, W, C] with zeros in its hole."""
  shape = known.shape
  width, pixels = shape[1], known.size
  levels = exemplars.to_levels(image)
  stock = exemplars.sources(levels, known, size)

  def unfinished(state):
    return known.any() & ~state.filled.all()

  def fill_patch(state):
    priority, confidence = priorities(
      state.levels.reshape(levels.shape),
      state.filled.reshape(shape),
      state.confidence.reshape(shape),
      size,
    )
    centre = jnp.argmax(priority)
    places = exemplars.patch_indices(
      centre // width, centre % width, size, shape
    )
    values = state.levels.at[places].get(mode="fill", fill_value=0)
    filled = state.filled.at[places].get(mode="fill", fill_value=False)
    nearest = jnp.argmin(
      exemplars.distances(stock, values[None], jnp.float32(filled)[None])
    )
    origin = exemplars.patch_indices(
      nearest // width, nearest % width, size, shape
    )
    copied = ~filled & (stock.known[nearest] > 0)
    places = jnp.where(copied, places, pixels)
    return _State(
      state.levels.at[places].set(stock.values[nearest], mode="drop"),
      state.filled.at[places].set(True, mode="drop"),
      state.confidence.at[places].set(
        confidence.reshape(-1)[centre], mode="drop"
      ),
      state.origin.at[places].set(origin, mode="drop"),
    )

  flat = known.reshape(-1)
  start = _State(
    levels.reshape(-1, levels.shape[-1]),
    flat,
    jnp.float32(flat),
    jnp.where(flat, jnp.arange(pixels), -1),
  )
  end = jax.lax.while_loop(unfinished, fill_patch, start)
  return exemplars.copy(image, end.origin)


def _slopes(values: jax.Array) -> jax.Array:
  """Returns central differences [2, H, W] of [H, W], along y and x."""
  padded = jnp.pad(values, 1, mode="edge")
  along_y = padded[2:, 1:-1] - padded[:-2, 1:-1]
  along_x = padded[1:-1, 2:] - padded[1:-1, :-2]
  return jnp.stack([along_y, along_x]) / 2


def _steeper(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.where(b[..., 2:] > a[..., 2:], b, a)


def _over_patch(
  values: jax.Array,
  size: int,
  combine: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
  """Combines [H, W, ...] over the patch around each pixel; zeros outside."""
  for axis in (0, 1):
    length = values.shape[axis]
    padding = [(0, 0)] * values.ndim
    padding[axis] = (size // 2, size // 2)
    padded = jnp.pad(values, padding)
    values = functools.reduce(
      combine,
      [
        jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
        for i in range(size)
      ],
    )
  return values
