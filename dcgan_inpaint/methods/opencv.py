"""Common part of the two methods of OpenCV: `cv2.inpaint`, made safe.

OpenCV works on 8-bit values, so the filled pixels are 8-bit levels. If a hole
touches the image's own border, OpenCV fills it badly and even reads the hidden
pixels (opencv/opencv issues 6065 and 28648). The hole is therefore blank, and
image and mask get a border of replicated pixels, which halves the error there.
"""

import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.runtime import errors


def inpaint(
  images: np.ndarray, masks: np.ndarray, radius: int, method: str, flag: str
) -> np.ndarray:
  """Returns the images with their holes filled by OpenCV, one by one.

  Args:
    images: float32 [N, H, W, C] in [-1, 1], 0 in the holes.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    radius: of the neighbourhood that a pixel is computed from, pixels.
    method: its name, for the error.
    flag: OpenCV's name for the algorithm.

  Returns:
    float32 [N, H, W, C] in [-1, 1].

  Raises:
    errors.UserError: OpenCV is not installed.
  """
  try:
    import cv2
  except ImportError as error:
    raise errors.UserError(
      f"method {method!r} needs OpenCV: pip install 'dcgan-inpaint[opencv]'"
    ) from error
  border = radius + 1
  inside = slice(border, -border)
  filled = []
  # NaN has no 8-bit value; an image with NaN fails because of its known pixels.
  finite = np.where(np.isnan(images), np.float32(0), images)
  for image, mask in zip(pixels.to_uint8(finite), masks, strict=True):
    image = np.pad(image, ((border, border), (border, border), (0, 0)), "edge")
    hole = np.pad(np.uint8(mask[..., 0] < 0.5), border, "edge")
    image = cv2.inpaint(image, hole, radius, getattr(cv2, flag))
    filled.append(image[inside, inside])
  filled = np.array(filled, np.uint8).reshape(images.shape)
  return np.asarray(pixels.to_float(filled))
