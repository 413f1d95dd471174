import jax
import numpy as np
import pytest

from dcgan_inpaint.methods import efros_leung


@pytest.mark.slow
def test_a_periodic_texture_of_random_colours_is_grown_exactly():
  # Each colour appears once in the tile, so any window identifies its position.
  tile = np.random.default_rng(0).uniform(-1, 1, (5, 4, 3)).astype(np.float32)
  image = np.tile(tile, (5, 5, 1))[None, :22, :19]
  masks = np.ones((1, 22, 19, 1), np.float32)
  masks[:, 8:13, :13] = 0  # Windows of every phase remain.
  completed = efros_leung.complete(image * masks, masks, window_size=5)
  np.testing.assert_array_equal(completed, image)


def test_pixels_of_a_step_are_of_the_rim_and_apart():
  filled = np.ones((22, 19), bool)
  filled[4:18, 3:17] = False
  found = np.asarray(efros_leung._next(filled, jax.random.key(0)))
  found = found[found < filled.size]
  y, x = found // 19, found % 19
  rim = np.pad(np.zeros((12, 12), bool), 1, constant_values=True)
  assert rim[y - 4, x - 3].all()
  # A corner has the most filled neighbours.
  assert (y[0], x[0]) in [(4, 3), (4, 16), (17, 3), (17, 16)]
  gaps = np.maximum(abs(y[:, None] - y), abs(x[:, None] - x))
  assert gaps[~np.eye(len(found), dtype=bool)].min() >= 4
