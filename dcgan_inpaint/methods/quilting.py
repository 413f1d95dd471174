"""Fills a hole with blocks that are joined along the least visible seam.

A. A. Efros & W. T. Freeman, "Image Quilting for Texture Synthesis and
Transfer", SIGGRAPH 2001, doi:10.1145/383259.383296. Blocks on a grid, each
overlapping the one to its left and the one above, are filled in raster order. A
block is drawn from the source blocks whose squared difference over the overlap
is within 1 + `tolerance` times the least. In the overlap, old and new block
meet along the minimum-error boundary cut: the path of least squared difference
from end to end, by dynamic programming.

The paper grows a texture on an empty canvas; here a hole is filled:

- the grid covers the whole image, and blocks without a pixel of the hole are
  skipped;
- a block is compared over all of its pixels that are known or filled, so that
  it also has to fit the pixels below and to the right;
- known pixels are always kept. The cut decides between old and new where an
  earlier block filled the hole; empty pixels take the new block.

Holes that leave no complete block are filled as described in `exemplars`: a
source has to know at least half as many of the missing pixels as the best does,
and the grid is repeated until nothing is missing. A pixel that no source knows
becomes mid-grey, which only happens in an almost empty image.

The method joins textures. It has no model of faces, and blocks leave steps in
brightness.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import exemplars
from dcgan_inpaint.methods import filling


class _State(NamedTuple):
  """The image while it is filled; flat, [H * W, ...].

  Attributes:
    levels: float32 [H * W, C], 8-bit levels.
    filled: bool, known or filled.
    origin: int32, the pixel that is copied here; -1 is none.
    block: int32, the last block's index on the grid.
    step: int32, how many blocks are done.
  """

  levels: jax.Array
  filled: jax.Array
  origin: jax.Array
  block: jax.Array
  step: jax.Array


@filling.keeps_known_pixels
def complete(
  images: np.ndarray,
  masks: np.ndarray,
  block_size: int = 13,
  overlap: int = 5,
  tolerance: float = 0.1,
  seed: int = 0,
) -> np.ndarray:
  """Returns the images with their holes filled by image quilting.

  Args:
    images: [N, H, W, C], as `filling.keeps_known_pixels` passes them.
    masks: [N, H, W, 1], likewise.
    block_size: side of the blocks, an odd number of pixels.
    overlap: of blocks, in pixels, at most half a block.
    tolerance: how much worse than the best a block may be; 0.1 in the paper.
    seed: of the random choices, the same for every image.
  """
  fill = functools.partial(
    _fill_batch,
    seed=seed,
    size=block_size,
    overlap=overlap,
    tolerance=tolerance,
  )
  return exemplars.in_batches(fill, images, masks)


def cut(errors: jax.Array) -> jax.Array:
  """Returns the minimum-error boundary from the first row to the last.

  Args:
    errors: float32 [L, O] of each pixel of an overlap.

  Returns:
    int32 [L]: the column in each row, at most one from that of the preceding
    row, for which the sum of the errors is least (the paper's section 2.1).
  """
  columns = jnp.arange(errors.shape[1])

  def down(total, row):
    padded = jnp.pad(total, 1, constant_values=jnp.inf)
    total = row + jnp.minimum(
      jnp.minimum(padded[:-2], padded[2:]), padded[1:-1]
    )
    return total, total

  def up(column, totals):
    near = jnp.abs(columns - column) <= 1
    column = jnp.argmin(jnp.where(near, totals, jnp.inf))
    return column, column

  _, totals = jax.lax.scan(down, errors[0], errors[1:])
  totals = jnp.concatenate([errors[:1], totals])
  last = jnp.argmin(totals[-1])
  _, path = jax.lax.scan(up, last, totals, reverse=True)
  return jnp.int32(path)


@functools.partial(jax.jit, static_argnames=("size", "overlap"))
def _fill_batch(
  images: jax.Array,
  known: jax.Array,
  seed: int,
  size: int,
  overlap: int,
  tolerance: float,
) -> jax.Array:
  fill = functools.partial(
    _fill,
    key=jax.random.key(seed),
    size=size,
    overlap=overlap,
    tolerance=tolerance,
  )
  return jax.vmap(fill)(images, known)


def _fill(
  image: jax.Array,
  known: jax.Array,
  key: jax.Array,
  size: int,
  overlap: int,
  tolerance: float,
) -> jax.Array:
  """Fills one image [H, W, C] with zeros in its hole."""
  shape = known.shape
  width, pixels = shape[1], known.size
  levels = exemplars.to_levels(image)
  stock = exemplars.sources(levels, known, size)
  blocks = _grid(shape, size, overlap)
  flat = known.reshape(-1)

  def unfinished(state):
    return known.any() & ~state.filled.all()

  def fill_block(state):
    missing = (~state.filled).at[blocks].get(mode="fill", fill_value=False)
    wait = (jnp.arange(len(blocks)) - state.block - 1) % len(blocks)
    block = jnp.argmin(jnp.where(missing.any(-1), wait, len(blocks)))
    places, missing = blocks[block], missing[block]
    values = state.levels.at[places].get(mode="fill", fill_value=0)
    filled = state.filled.at[places].get(mode="fill", fill_value=False)
    fixed = flat.at[places].get(mode="fill", fill_value=True)

    gains = jnp.where(stock.allowed, stock.known @ jnp.float32(missing), 0)
    gain = gains.max()
    distances = exemplars.distances(
      stock, values[None], jnp.float32(filled)[None]
    )
    source = exemplars.choose(
      jax.random.fold_in(key, state.step),
      jnp.where(2 * gains >= gain, distances, jnp.inf),
      tolerance,
    )[0]
    new, offered = stock.values[source], stock.known[source] > 0

    both = filled & offered
    errors = jnp.where(both, jnp.sum((values - new) ** 2, -1), 0)
    errors = errors.reshape(size, size)
    across, down = jnp.arange(size), jnp.arange(size)[:, None]
    beyond = (across >= cut(errors[:, :overlap])[:, None]) & (
      down >= cut(errors[:overlap].T)
    )
    sewn = beyond & ((across < overlap) | (down < overlap))
    taken = ~fixed & offered & (missing | sewn.reshape(-1))
    origin = exemplars.patch_indices(
      source // width, source % width, size, shape
    )
    # Pixels that no source knows would make the loop endless.
    origin = jnp.where(gain > 0, origin, -1)
    places = jnp.where(jnp.where(gain > 0, taken, missing), places, pixels)
    return _State(
      state.levels.at[places].set(new, mode="drop"),
      state.filled.at[places].set(True, mode="drop"),
      state.origin.at[places].set(origin, mode="drop"),
      block,
      state.step + 1,
    )

  start = _State(
    levels.reshape(-1, levels.shape[-1]),
    flat,
    jnp.where(flat, jnp.arange(pixels), -1),
    jnp.int32(-1),
    jnp.int32(0),
  )
  end = jax.lax.while_loop(unfinished, fill_block, start)
  return exemplars.copy(image, end.origin)


def _grid(shape: tuple[int, ...], size: int, overlap: int) -> jax.Array:
  """Returns the flat indices [blocks, size * size] of a grid of blocks."""
  y, x = (
    np.arange(0, max(length - overlap, 1), size - overlap) + size // 2
    for length in shape
  )
  y, x = np.meshgrid(y, x, indexing="ij")
  return exemplars.patch_indices(y.reshape(-1), x.reshape(-1), size, shape)
