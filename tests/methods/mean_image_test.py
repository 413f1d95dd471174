import numpy as np

from dcgan_inpaint.methods import mean_image


def test_known_pixels_come_back_to_the_bit_and_the_hole_is_the_mean():
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (3, 8, 9, 3)).astype(np.float32)
  masks = (rng.random((3, 8, 9, 1)) < 0.5).astype(np.float32)
  mean = rng.uniform(-1, 1, (8, 9, 3)).astype(np.float32)
  images[0, 0, 0], masks[0, 0, 0] = np.nan, 0  # Values in the hole are ignored.
  completed = mean_image.complete(images, masks, mean)
  assert completed.dtype == np.float32
  known = masks[..., 0] == 1
  np.testing.assert_array_equal(completed[known], images[known])
  np.testing.assert_array_equal(
    completed[~known], np.broadcast_to(mean, images.shape)[~known]
  )
