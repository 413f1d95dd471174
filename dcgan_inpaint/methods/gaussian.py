"""Common parts of the linear models: training images as one Gaussian.

If the pixels of an image are jointly Gaussian, the best estimate of the hidden
ones is linear in the known ones: their conditional mean. `ridge` uses the
sample covariance with a weight on its diagonal; `ppca` that of a few directions
and noise.
"""

from collections.abc import Callable

import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.masks import mask_sets

# Images centred at a time, while the covariance is summed.
_BATCH = 2048


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the mean and the covariance of the images' values.

  The cost is N D^2 multiplications and 4 D^2 bytes, D = H W C: 600 MB and, for
  20,000 images of 64x64, about 40 s of a CPU core.

  Args:
    images: uint8 [N, H, W, C].

  Returns:
    float32 mean [H, W, C] and covariance [D, D], of values in [-1, 1].
  """
  mean = (images.mean(0, dtype=np.float64) / 127.5 - 1).astype(np.float32)
  covariance = np.zeros((mean.size, mean.size), np.float32)
  for first in range(0, len(images), _BATCH):
    batch = pixels.to_float(images[first : first + _BATCH]) - mean
    batch = batch.reshape(-1, mean.size)
    covariance += batch.T @ batch
  return mean, covariance / np.float32(len(images))


def fill(
  images: np.ndarray,
  masks: np.ndarray,
  mean: np.ndarray,
  predict: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
  """Returns the images with holes filled by `predict`, mask by mask.

  Args:
    images: float32 [N, H, W, C] in [-1, 1].
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    mean: float32 [H, W, C] of the training images.
    predict: from the known values' positions, bool [D], and the images that
      share them, float32 [n, D] minus the mean and 0 where hidden, to the
      hidden values minus the mean, float32 [n, hidden]. Called once per mask.

  Returns:
    float32 [N, H, W, C].

  Raises:
    ValueError: the images' shape is not that of the training images.
  """
  if images.shape[1:] != mean.shape:
    raise ValueError(
      f"fitted to images of shape {mean.shape}, not {images.shape[1:]}"
    )
  known = masks > 0.5
  completed = np.where(known, images, mean)
  for members in mask_sets.groups(masks):
    places = np.broadcast_to(known[members[0]], mean.shape).ravel()
    # Without known pixels, the prediction is the mean.
    if places.all() or not places.any():
      continue
    values = completed[members].reshape(len(members), -1)
    values[:, ~places] += predict(places, values - mean.ravel())
    completed[members] = values.reshape(-1, *mean.shape)
  return completed
