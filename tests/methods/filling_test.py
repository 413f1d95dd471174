import numpy as np
import pytest

from dcgan_inpaint.methods import filling


def _images(count):
  """Returns images of noise in [-1, 1] and masks with holes of noise."""
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (count, 6, 5, 3)).astype(np.float32)
  masks = (rng.random((count, 6, 5, 1)) < 0.5).astype(np.float32)
  return images, masks


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32, np.float64])
def test_a_method_sees_no_hidden_pixel_and_changes_no_known_one(kind):
  images, masks = _images(3)
  known = masks[..., 0] == 1
  hidden = np.where(masks == 1, images, np.float32(np.nan))
  given = []

  @filling.keeps_known_pixels
  def complete(images, masks, value):
    given.extend([images, masks])
    return np.full_like(images, value)

  completed = complete(hidden, masks.astype(kind), value=3.0)
  np.testing.assert_array_equal(given[0], np.where(masks == 1, images, 0))
  np.testing.assert_array_equal(given[1], masks)
  assert all(array.dtype == np.float32 for array in given)
  assert completed.dtype == np.float32
  np.testing.assert_array_equal(completed[known], images[known])
  np.testing.assert_array_equal(completed[~known], 1)  # Clipped.


@pytest.mark.parametrize("count", [0, 1, 4, 6, 7])
def test_calls_have_one_shape_and_results_keep_their_order(count):
  images, masks = _images(count)
  calls = []

  def fill(images, masks):
    calls.append((images, masks))
    return images + masks

  filled = filling.in_batches(fill, images, masks, 3)
  np.testing.assert_array_equal(filled, images + masks)
  assert filled.dtype == np.float32
  assert len(calls) == -(-count // 3)
  for batch, holes in calls:
    assert batch.shape == (3, 6, 5, 3) and holes.shape == (3, 6, 5, 1)
  for batch, holes in calls[-1:]:
    missing = -count % 3
    # The padding has no holes to fill.
    assert (holes[3 - missing :] == 1).all()
    assert (batch[3 - missing :] == 0).all()
