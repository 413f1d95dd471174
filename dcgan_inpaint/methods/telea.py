"""Fills holes by fast marching, with OpenCV.

`cv2.inpaint(..., INPAINT_TELEA)` (A. Telea, "An Image Inpainting Technique
Based on the Fast Marching Method", Journal of Graphics Tools 9, 2004,
doi:10.1080/10867651.2004.10487596): from the rim inwards, each pixel becomes a
weighted mean of the known ones within `radius`. It learns nothing and smears
the rim's colours over a large hole. The filled pixels are 8-bit levels.
"""

import numpy as np

from dcgan_inpaint.methods import filling
from dcgan_inpaint.methods import opencv


@filling.keeps_known_pixels
def complete(
  images: np.ndarray, masks: np.ndarray, radius: int = 3
) -> np.ndarray:
  """Returns the images with their holes filled by Telea's method.

  Args:
    images: [N, H, W, C], as `filling.keeps_known_pixels` passes them.
    masks: [N, H, W, 1], likewise.
    radius: of the neighbourhood that a pixel is computed from, pixels.

  Raises:
    errors.UserError: OpenCV is not installed.
  """
  return opencv.inpaint(images, masks, radius, "telea", "INPAINT_TELEA")
