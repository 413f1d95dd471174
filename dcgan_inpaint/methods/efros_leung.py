"""Fills a hole pixel by pixel, each from a similar neighbourhood.

A. A. Efros & T. K. Leung, "Texture Synthesis by Non-parametric Sampling", ICCV
1999, doi:10.1109/ICCV.1999.790383. From the rim inwards, the pixels with most
filled neighbours first (ties at random), a pixel is copied from the centre of a
known window similar to its own. The distance is the squared difference over the
known part of its window, weighted by a Gaussian; one of the windows within 1 +
`tolerance` times the least distance is drawn uniformly.

Differences from the paper: up to `_AT_ONCE` pixels are filled in a step, no two
of them nearer than `_APART`, so that one matrix product compares them all.
Holes that leave no complete window are filled as described in `exemplars`. The
threshold on the distance in the authors' later pseudo-code is left out.

The method grows textures. Its windows are small and its choices random, so in a
large hole of a face it drifts into skin or hair.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import exemplars
from dcgan_inpaint.methods import filling

_AT_ONCE = 16
_APART = 4


class _State(NamedTuple):
  """The image while it is filled; flat, [H * W, ...].

  Attributes:
    levels: float32 [H * W, C], 8-bit levels.
    filled: bool, known or filled.
    origin: int32, the pixel that is copied here.
    step: int32, how many steps were done.
  """

  levels: jax.Array
  filled: jax.Array
  origin: jax.Array
  step: jax.Array


@filling.keeps_known_pixels
def complete(
  images: np.ndarray,
  masks: np.ndarray,
  window_size: int = 9,
  tolerance: float = 0.1,
  seed: int = 0,
) -> np.ndarray:
  """Returns the images with their holes filled by Efros and Leung's method.

  Args:
    images: [N, H, W, C], as `filling.keeps_known_pixels` passes them.
    masks: [N, H, W, 1], likewise.
    window_size: side of the windows, an odd number of pixels: the size of the
      texture's elements. Their Gaussian has a standard deviation of
      `window_size / 6.4`.
    tolerance: the paper's epsilon.
    seed: of the random choices, the same for every image.
  """
  fill = functools.partial(
    _fill_batch, seed=seed, size=window_size, tolerance=tolerance
  )
  return exemplars.in_batches(fill, images, masks)


@functools.partial(jax.jit, static_argnames="size")
def _fill_batch(
  images: jax.Array,
  known: jax.Array,
  seed: int,
  size: int,
  tolerance: float,
) -> jax.Array:
  fill = functools.partial(
    _fill, key=jax.random.key(seed), size=size, tolerance=tolerance
  )
  return jax.vmap(fill)(images, known)


def _fill(
  image: jax.Array,
  known: jax.Array,
  key: jax.Array,
  size: int,
  tolerance: float,
) -> jax.Array:
  """Fills one image [H, W, C] with zeros in its hole."""
  shape = known.shape
  width, pixels = shape[1], known.size
  levels = exemplars.to_levels(image)
  stock = exemplars.sources(levels, known, size)
  gaussian = _gaussian(size)

  def unfinished(state):
    return known.any() & ~state.filled.all()

  def fill_pixels(state):
    order_key, choice_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    centres = _next(state.filled.reshape(shape), order_key)
    places = exemplars.patch_indices(
      centres // width, centres % width, size, shape
    )
    values = state.levels.at[places].get(mode="fill", fill_value=0)
    filled = state.filled.at[places].get(mode="fill", fill_value=False)
    origin = exemplars.choose(
      choice_key,
      exemplars.distances(stock, values, filled * gaussian),
      tolerance,
    )
    return _State(
      state.levels.at[centres].set(
        stock.values[origin, size * size // 2], mode="drop"
      ),
      state.filled.at[centres].set(True, mode="drop"),
      state.origin.at[centres].set(origin, mode="drop"),
      state.step + 1,
    )

  flat = known.reshape(-1)
  start = _State(
    levels.reshape(-1, levels.shape[-1]),
    flat,
    jnp.where(flat, jnp.arange(pixels), -1),
    jnp.int32(0),
  )
  end = jax.lax.while_loop(unfinished, fill_pixels, start)
  return exemplars.copy(image, end.origin)


def _next(filled: jax.Array, key: jax.Array) -> jax.Array:
  """Returns the flat indices [_AT_ONCE] of the next pixels; H * W is none."""
  beside = exemplars.neighbours(filled)
  count = jnp.sum(jnp.stack(list(beside.values())), 0)
  score = count + jax.random.uniform(key, filled.shape)
  score = jnp.where(~filled & (count > 0), score, -1)
  first = jnp.argmax(score)
  y, x = np.indices(filled.shape)
  width = filled.shape[1]
  apart = ((y - first // width) % _APART == 0) & (
    (x - first % width) % _APART == 0
  )
  score = jnp.where(apart, score, -1).reshape(-1)
  best, centres = jax.lax.top_k(score, min(_AT_ONCE, filled.size))
  return jnp.where(best > 0, centres, filled.size)


def _gaussian(size: int) -> np.ndarray:
  """Returns the weights [size * size] of a window's pixels, 1 at its centre."""
  y, x = np.indices((size, size)).reshape(2, -1) - size // 2
  weights = np.exp(-(y**2 + x**2) / (2 * (size / 6.4) ** 2))
  return weights.astype(np.float32)
