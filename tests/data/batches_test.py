import numpy as np
import pytest

from dcgan_inpaint.data import batches

SETTINGS = {"batch_size": 4, "count": 22, "seed": 3}
PER_EPOCH = 5


def test_an_epoch_shows_every_image_once():
  rows = batches.indices(0, 6, batch_size=4, count=24, seed=3)
  assert rows.dtype == np.int32
  assert rows.shape == (6, 4)
  np.testing.assert_array_equal(np.sort(rows, axis=None), np.arange(24))
  assert np.any(rows.ravel() != np.arange(24))


def test_what_does_not_fill_a_batch_is_another_part_each_epoch():
  left_over = []
  for epoch in range(4):
    rows = batches.indices(epoch * PER_EPOCH, PER_EPOCH, **SETTINGS)
    assert len(np.unique(rows)) == rows.size == 20
    left_over.append(frozenset(range(22)) - frozenset(rows.ravel().tolist()))
  assert len(set(left_over)) > 1


def test_epochs_and_seeds_have_orders_of_their_own():
  first = batches.indices(0, PER_EPOCH, **SETTINGS)
  second = batches.indices(PER_EPOCH, PER_EPOCH, **SETTINGS)
  other = batches.indices(0, PER_EPOCH, **SETTINGS | {"seed": 4})
  assert np.any(first != second)
  assert np.any(first != other)


@pytest.mark.parametrize("cut", [1, 4, 5, 7, 12])
def test_a_resumed_run_sees_what_the_uninterrupted_one_saw(cut):
  whole = batches.indices(0, 13, **SETTINGS)
  before = batches.indices(0, cut, **SETTINGS)
  # Other runs in between leave nothing behind.
  batches.indices(0, 13, **SETTINGS | {"seed": 8})
  after = batches.indices(cut, 13 - cut, **SETTINGS)
  np.testing.assert_array_equal(np.concatenate([before, after]), whole)


def test_the_batch_may_be_the_whole_data_set():
  rows = batches.indices(0, 2, batch_size=3, count=3, seed=0)
  np.testing.assert_array_equal(np.sort(rows), [[0, 1, 2]] * 2)
