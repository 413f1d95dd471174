import numpy as np
import pytest

from dcgan_inpaint import config
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.training import mask_pool


def test_a_pool_holds_every_family_as_often_as_it_is_named():
  pool = mask_pool.draw("centre, centre,half", 90, seed=3, side=64)
  assert pool.shape == (90, 64, 64, 1) and set(np.unique(pool)) == {0.0, 1.0}
  halves = 1 - pool[2::3].mean(axis=(1, 2, 3))
  np.testing.assert_array_equal(halves, 0.5)
  centres = np.delete(pool, np.s_[2::3], axis=0)
  np.testing.assert_array_equal(centres[:, 32, 32], 0)
  sizes = np.sqrt((1 - centres).sum(axis=(1, 2, 3)))
  assert sizes.min() >= 16 and sizes.max() <= 48
  # About half of them have the default size.
  assert 20 <= np.sum(sizes == 32) <= 45
  assert len({mask.tobytes() for mask in pool[2::3]}) == 4  # All four sides.


def test_a_pool_is_drawn_from_its_seed():
  families = config.encoder().families
  pool = mask_pool.draw(families, 20, seed=1, side=64)
  np.testing.assert_array_equal(
    mask_pool.draw(families, 20, seed=1, side=64), pool
  )
  assert np.any(mask_pool.draw(families, 20, seed=2, side=64) != pool)
  assert (pool.min(axis=(1, 2, 3)) == 0).all()  # Every mask has a hole.


def test_an_unknown_family_is_refused():
  with pytest.raises(errors.UserError, match="centre"):
    mask_pool.draw("centre,circle", 2, seed=0, side=64)
