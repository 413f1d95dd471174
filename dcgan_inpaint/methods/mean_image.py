"""Fills every hole with the mean face: what a model knows that sees nothing.

The floor that a learned method must beat: it looks at no pixel of the image,
known or not. Faces of CelebA are aligned, which makes it a strong floor there
and a weak one for pictures of other things.
"""

import numpy as np


def complete(
  images: np.ndarray, masks: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
  """Returns the images with their holes filled by the mean training image.

  Args:
    images: float32 [N, H, W, 3] in [-1, 1]. What lies in the hole is ignored.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    mean_image: float32 [H, W, 3] in [-1, 1], the mean of the training images.

  Returns:
    float32 [N, H, W, 3]; the known pixels are those of `images`, to the bit.
  """
  return np.where(np.asarray(masks) > 0.5, images, np.float32(mean_image))
