import sys

import numpy as np
import pytest
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import telea
from dcgan_inpaint.runtime import errors


def _images(height=24, width=20):
  """Returns float32 [4, H, W, 3] photographs and masks of several kinds."""
  pytest.importorskip("cv2")
  rng = np.random.default_rng(0)
  astronaut = skimage.data.astronaut()
  corners = rng.integers(0, 480, (4, 2))
  images = np.stack([astronaut[y:, x:][:height, :width] for y, x in corners])
  masks = np.ones((4, height, width, 1), np.float32)
  masks[:, 8:16, 5:15] = 0
  masks[1, :, 10:] = 0  # At the border, where OpenCV needs help.
  masks[2] = rng.random((height, width, 1)) < 0.3
  return pixels.to_float(images), masks


def test_a_hole_inside_is_opencv_s_own():
  images, masks = _images()
  cv2 = pytest.importorskip("cv2")
  hole = masks[0, ..., 0] == 0
  image = pixels.to_uint8(images[0])
  expected = cv2.inpaint(image, np.uint8(hole), 3, cv2.INPAINT_TELEA)
  completed = telea.complete(images[:1], masks[:1])[0]
  np.testing.assert_array_equal(pixels.to_uint8(completed), expected)


def test_known_pixels_come_back_to_the_bit():
  images, masks = _images()
  images = images + np.float32(1e-3)  # Between the 8-bit levels.
  completed = telea.complete(images, masks)
  assert completed.dtype == np.float32
  known = masks[..., 0] == 1
  np.testing.assert_array_equal(completed[known], images[known])
  assert (completed[~known] != images[~known]).any()


@pytest.mark.parametrize("hidden", [-1, 1, np.nan])
def test_the_true_pixels_in_the_hole_do_not_matter(hidden):
  images, masks = _images()
  other = np.where(masks == 1, images, np.float32(hidden))
  np.testing.assert_array_equal(
    telea.complete(other, masks), telea.complete(images, masks)
  )


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_hole_at_the_border_continues_the_colours_beside_it(side):
  pytest.importorskip("cv2")
  masks = np.ones((1, 24, 20, 1), np.float32)
  part = {
    "left": np.s_[:, :, :8],
    "right": np.s_[:, :, 12:],
    "top": np.s_[:, :8],
    "bottom": np.s_[:, 12:],
  }
  masks[part[side]] = 0
  # The colours change along the rim and are constant away from it.
  y, x = np.mgrid[-1:1:24j, -1:1:20j]
  shades = y if side in ("left", "right") else x
  images = np.repeat(shades[None, ..., None], 3, axis=3).astype(np.float32)
  errors_in_hole = (telea.complete(images, masks) - images)[masks[..., 0] == 0]
  # 2.2 to 3.6 8-bit levels; OpenCV alone has 4.5 to 7.4.
  assert abs(errors_in_hole).mean() < 4 / 127.5


def test_an_image_without_a_hole_is_kept_and_one_without_a_rim_is_grey():
  images, masks = (x[:2] for x in _images())
  masks[0], masks[1] = 1, 0
  completed = telea.complete(images, masks)
  np.testing.assert_array_equal(completed[0], images[0])
  np.testing.assert_allclose(completed[1], 0, atol=1 / 127.5)
  assert telea.complete(images[:0], masks[:0]).shape == (0, 24, 20, 3)


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
  images = np.zeros((1, 8, 8, 3), np.float32)
  monkeypatch.setitem(sys.modules, "cv2", None)
  with pytest.raises(errors.UserError, match=r"dcgan-inpaint\[opencv\]"):
    telea.complete(images, np.ones((1, 8, 8, 1), np.float32))
