import sys

import numpy as np
import pytest
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import navier_stokes
from dcgan_inpaint.runtime import errors


def test_a_hole_inside_is_opencv_s_own():
  cv2 = pytest.importorskip("cv2")
  image = skimage.data.astronaut()[100:124, 200:220]
  hole = np.zeros((24, 20), np.uint8)
  hole[8:16, 5:15] = 1
  expected = cv2.inpaint(image, hole, 3, cv2.INPAINT_NS)
  assert (expected != cv2.inpaint(image, hole, 3, cv2.INPAINT_TELEA)).any()
  masks = np.float32(1 - hole)[None, ..., None]
  completed = navier_stokes.complete(pixels.to_float(image)[None], masks)
  np.testing.assert_array_equal(pixels.to_uint8(completed[0]), expected)


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
  images = np.zeros((1, 8, 8, 3), np.float32)
  monkeypatch.setitem(sys.modules, "cv2", None)
  with pytest.raises(errors.UserError, match="'navier_stokes'.*opencv"):
    navier_stokes.complete(images, np.ones((1, 8, 8, 1), np.float32))
