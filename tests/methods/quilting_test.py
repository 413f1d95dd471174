import itertools

import numpy as np
import pytest
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import quilting


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_is_the_best_of_all_paths(seed):
  errors = np.random.default_rng(seed).integers(0, 50, (6, 4))
  paths = [
    path
    for path in itertools.product(range(4), repeat=6)
    if abs(np.diff(path)).max() <= 1
  ]
  costs = [
    sum(errors[row, column] for row, column in enumerate(p)) for p in paths
  ]
  found = np.asarray(quilting.cut(np.float32(errors)))
  assert tuple(found) in paths
  assert errors[np.arange(6), found].sum() == min(costs)


@pytest.mark.slow
def test_a_hole_with_one_fitting_source_is_filled_from_there():
  # The right half repeats the left one; nothing else is similar to the rim.
  astronaut = pixels.to_float(skimage.data.astronaut())[100:122, 200:219]
  image = np.concatenate([astronaut, astronaut], 1)
  masks = np.ones((1, 22, 38, 1), np.float32)
  masks[:, 8:15, 5:12] = 0
  completed = quilting.complete(
    image[None] * masks, masks, block_size=7, overlap=3
  )
  np.testing.assert_array_equal(completed[0], image)
