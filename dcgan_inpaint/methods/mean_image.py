"""Fills every hole with the mean training image, whatever the known pixels.

The baseline that a learned method must beat: it uses no pixel of the image.
Faces of CelebA are aligned, which makes it a strong baseline there and a weak
one for other images.
"""

import numpy as np

from dcgan_inpaint.methods import filling


@filling.keeps_known_pixels
def complete(
  images: np.ndarray, masks: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
  """Returns the mean training image for each of the images.

  Args:
    images: [N, H, W, C], as `filling.keeps_known_pixels` passes them.
    masks: [N, H, W, 1], likewise.
    mean_image: float32 [H, W, C] in [-1, 1], the mean of the training images.
  """
  del masks
  return np.broadcast_to(np.float32(mean_image), images.shape)
