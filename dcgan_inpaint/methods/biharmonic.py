"""Fills holes with the smoothest surface through the known pixels.

Each hole solves the biharmonic equation, colour by colour, with
`skimage.restoration.inpaint_biharmonic` (S. B. Damelin & N. S. Hoang, "On
Surface Completion and Image Inpainting by Biharmonic Functions: Numerical
Aspects", 2018, doi:10.1155/2018/3950312). The method has no parameters and
learns nothing: it is strong if known pixels are everywhere (random pixels) and
blurs, or overshoots up to the range of the known values, in a large hole. For
each mask it solves one linear system with an unknown for each pixel of the
hole, so it is fast for 64x64 images and slow for holes of many thousand pixels.
"""

import numpy as np
from skimage import restoration

from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.methods import filling

# How many images with the same hole, and thus the same system, are solved at
# once.
_IMAGES_AT_ONCE = 64


@filling.keeps_known_pixels
def complete(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Returns the images with their holes filled smoothly."""
  holes = masks[..., 0] < 0.5
  completed = images.copy()
  for members in mask_sets.groups(masks):
    hole = holes[members[0]]
    if hole.all() or not hole.any():
      continue
    for start in range(0, len(members), _IMAGES_AT_ONCE):
      chunk = members[start : start + _IMAGES_AT_ONCE]
      completed[chunk] = _fill(completed[chunk], hole)
  return completed


def _fill(images: np.ndarray, hole: np.ndarray) -> np.ndarray:
  """Fills one hole [H, W] of several images [K, H, W, C], float64 inside.

  scikit-image solves each channel separately, clips it to its own known values,
  and returns these unchanged; so the channels of K images can be passed as
  those of one.
  """
  stacked = np.concatenate(images.astype(np.float64), axis=-1)
  filled = restoration.inpaint_biharmonic(stacked, hole, channel_axis=-1)
  return np.stack(np.split(filled, len(images), axis=-1))
