import numpy as np
import pytest
import skimage.data
import skimage.restoration

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import biharmonic


def _images(height=24, width=20):
  """Returns float32 [7, H, W, 3] photographs and masks of several kinds."""
  rng = np.random.default_rng(0)
  astronaut = pixels.to_float(skimage.data.astronaut())
  corners = rng.integers(0, 480, (7, 2))
  images = np.stack([astronaut[y:, x:][:height, :width] for y, x in corners])
  masks = np.ones((7, height, width, 1), np.float32)
  masks[:, 8:16, 5:15] = 0
  masks[1, :, 10:] = 0  # At the border.
  masks[3] = rng.random((height, width, 1)) < 0.3
  return images, masks


def test_each_image_is_scikit_image_s_own_and_known_pixels_keep_their_bits():
  images, masks = _images()
  completed = biharmonic.complete(images, masks)
  assert completed.dtype == np.float32
  for image, mask, result in zip(images, masks, completed, strict=True):
    hole = mask[..., 0] == 0
    expected = skimage.restoration.inpaint_biharmonic(
      image.astype(np.float64), hole, channel_axis=-1
    )
    np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_array_equal(result[~hole], image[~hole])


@pytest.mark.parametrize("hidden", [-1, 1, np.nan])
def test_the_true_pixels_in_the_hole_do_not_matter(hidden):
  images, masks = _images()
  other = np.where(masks == 1, images, np.float32(hidden))
  np.testing.assert_array_equal(
    biharmonic.complete(other, masks), biharmonic.complete(images, masks)
  )


def test_an_image_does_not_depend_on_its_neighbours(monkeypatch):
  images, masks = _images()
  together = biharmonic.complete(images, masks)
  monkeypatch.setattr(biharmonic, "_IMAGES_AT_ONCE", 2)
  np.testing.assert_array_equal(biharmonic.complete(images, masks), together)
  for i in range(7):
    alone = biharmonic.complete(images[i : i + 1], masks[i : i + 1])
    np.testing.assert_array_equal(alone[0], together[i])


def test_a_plane_is_filled_exactly():
  y, x = np.mgrid[-1:1:32j, -1:1:32j]
  plane = np.stack([x, y, (x - y) / 2], axis=-1).astype(np.float32)[None]
  masks = np.ones((1, 32, 32, 1), np.float32)
  masks[:, 8:24, 8:24] = 0
  np.testing.assert_allclose(
    biharmonic.complete(plane * masks, masks), plane, atol=1e-6
  )


def test_an_image_without_a_hole_is_kept_and_one_without_a_rim_is_grey():
  images, masks = (x[:2] for x in _images())
  masks[0], masks[1] = 1, 0
  completed = biharmonic.complete(images, masks)
  np.testing.assert_array_equal(completed[0], images[0])
  np.testing.assert_array_equal(completed[1], np.zeros_like(images[1]))
  assert biharmonic.complete(images[:0], masks[:0]).shape == (0, 24, 20, 3)
