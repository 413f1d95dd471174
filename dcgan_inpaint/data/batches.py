"""The order in which training sees its images.

The order is a function of the seed and the step alone: a run that is resumed,
or that runs on another number of devices, sees what an uninterrupted one sees.
"""

import functools

import numpy as np


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
  """Returns the epoch's permutation, cached: each of its batches needs it."""
  order = np.random.default_rng((seed, epoch)).permutation(count)
  return order.astype(np.int32)


def indices(
  first_step: int, steps: int, *, batch_size: int, count: int, seed: int
) -> np.ndarray:
  """Returns which images the steps from `first_step` on see.

  An epoch is a permutation of all images, cut into batches. The remainder of
  the division is dropped, other images in each epoch.

  Args:
    first_step: the first step, counted from 0.
    steps: how many steps.
    batch_size: images a step, at most `count`.
    count: images of the data set.
    seed: the run's seed.

  Returns:
    int32 [steps, batch_size], each in [0, count).
  """
  per_epoch = count // batch_size
  rows = np.empty((steps, batch_size), np.int32)
  for row, step in enumerate(range(first_step, first_step + steps)):
    epoch, batch = divmod(step, per_epoch)
    start = batch * batch_size
    rows[row] = _order(seed, epoch, count)[start : start + batch_size]
  return rows
