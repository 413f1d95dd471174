import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import exemplars
from dcgan_inpaint.methods import patchmatch

SIZE, HEIGHT, WIDTH = 5, 20, 24
EVERY = np.arange(HEIGHT * WIDTH)  # All patches are targets.

# Compiled once for two tests, and faster than step by step.
_search = jax.jit(patchmatch.search, static_argnums=(5, 6))
_sources = jax.jit(exemplars.sources, static_argnums=2)


def _stock(image, known):
  levels = exemplars.to_levels(jnp.asarray(image))
  return _sources(levels, jnp.asarray(known), SIZE)


def _brute_force(image, source, known):
  """Returns the distances [H * W, H * W] of patches to complete sources."""
  edge = ((2, 2), (2, 2), (0, 0))
  window = (SIZE, SIZE, 3)
  view = np.lib.stride_tricks.sliding_window_view
  targets = view(np.pad(image, edge), window).reshape(HEIGHT * WIDTH, -1, 3)
  sources = view(np.pad(source, edge), window).reshape(HEIGHT * WIDTH, -1, 3)
  inside = np.pad(np.ones((HEIGHT, WIDTH)), 2)
  inside = view(inside, window[:2]).reshape(HEIGHT * WIDTH, -1)
  whole = view(np.pad(known, 2), window[:2]).all((2, 3)).reshape(-1)
  squares = ((targets[:, None] - sources) ** 2).sum(-1)
  distances = (squares * inside[:, None]).sum(-1) / inside.sum(-1)[:, None]
  return np.where(whole, distances, np.inf)


def _photograph():
  astronaut = pixels.to_float(skimage.data.astronaut())
  image = astronaut[100 : 100 + HEIGHT, 200 : 200 + WIDTH]
  known = np.ones((HEIGHT, WIDTH), bool)
  known[8:13, 10:16] = False
  return image, known


@pytest.mark.slow
def test_the_field_comes_near_the_exhaustive_one_and_its_distances_are_true():
  image, known = _photograph()
  other = image[::-1].copy()  # Searches for itself in its mirror image.
  stock = _stock(other, known)
  levels = jnp.asarray(exemplars.to_levels(image))
  start = jnp.full(known.size, int(np.argmax(np.asarray(stock.allowed))))
  field, least = _search(
    stock, levels, start, EVERY, jax.random.key(0), SIZE, 24
  )
  expected = _brute_force(
    np.asarray(levels), np.asarray(exemplars.to_levels(other)), known
  )
  of_field = expected[np.arange(known.size), np.asarray(field)]
  np.testing.assert_allclose(least, of_field, rtol=1e-5)
  best = expected.min(-1)
  assert (of_field >= best - 1e-3).all()
  assert np.mean(of_field <= best + 1e-3) > 0.6
  assert of_field.mean() < 1.1 * best.mean()


def test_one_hit_spreads_over_a_region_that_was_moved():
  image, known = _photograph()
  known[:] = True
  moved = np.roll(image, (2, 3), (0, 1))
  stock = _stock(moved, known)
  # All but one start wrong, and sweeps without random hits only propagate it.
  start = np.full((HEIGHT, WIDTH), 2 * WIDTH + 2)
  start[9, 9] = 11 * WIDTH + 12
  levels = jnp.asarray(exemplars.to_levels(image))
  field, least = _search(
    stock,
    levels,
    jnp.asarray(start.reshape(-1)),
    EVERY,
    jax.random.key(0),
    SIZE,
    24,
  )
  # Where the patch and its copy are inside and do not wrap around.
  y, x = np.indices((HEIGHT, WIDTH))
  same = np.s_[2:-4, 2:-5]
  np.testing.assert_array_equal(
    np.asarray(field).reshape(HEIGHT, WIDTH)[same],
    ((y + 2) * WIDTH + x + 3)[same],
  )
  assert (np.asarray(least).reshape(HEIGHT, WIDTH)[same] == 0).all()


@pytest.mark.slow
def test_votes_are_the_weighted_mean_of_a_loop():
  rng = np.random.default_rng(0)
  image, _ = _photograph()
  known = rng.random((HEIGHT, WIDTH)) < 0.4
  stock = _stock(image, known)
  levels = jnp.asarray(exemplars.to_levels(image))
  field = rng.integers(0, known.size, known.size)
  weights = rng.random(known.size).astype(np.float32)
  voted = patchmatch.vote(
    stock, levels, jnp.asarray(field), EVERY, jnp.asarray(weights), SIZE
  )
  total, count = np.zeros_like(levels), np.zeros((HEIGHT, WIDTH, 1))
  inside = [range(HEIGHT), range(WIDTH)]
  for number, (y, x) in enumerate(np.ndindex(HEIGHT, WIDTH)):
    source_y, source_x = divmod(field[number], WIDTH)
    for dy, dx in np.ndindex(SIZE, SIZE):
      to = y + dy - 2, x + dx - 2
      from_ = source_y + dy - 2, source_x + dx - 2
      if (
        all(
          place in axis
          for pair in (to, from_)
          for place, axis in zip(pair, inside, strict=True)
        )
        and known[from_]
      ):
        total[to] += weights[number] * levels[from_]
        count[to] += weights[number]
  expected = np.where(count > 0, total / np.maximum(count, 1e-30), levels)
  np.testing.assert_allclose(voted, expected, atol=1e-2)


def test_as_many_patches_are_matched_as_lie_over_the_hole():
  known = np.ones((2, 41, 40), bool)
  known[1, 10:20, 5:15] = False  # A hole of 10 x 10; 14 x 14 patches of 5.
  known[0, 0, 0] = False
  counts = patchmatch._counts(known, SIZE)
  assert 14 * 14 <= counts[0] <= 1.25 * 14 * 14
  # At half the size a pixel is known if one of its four is.
  assert 9 * 8 <= counts[1] <= 1.25 * 9 * 8 and len(counts) == 2
  assert patchmatch._counts(known[:0], SIZE) == (1, 1)
