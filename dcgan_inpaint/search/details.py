"""Gives a mean of many faces the strength of detail that one face has.

The least squared error is reached by the mean of all faces that could be under
a hole, and that is smoother than any of them: where it is not known how a line
runs, the mean shows less of it. Of all images with the details of a face, the
one nearest in squared error follows from the mean alone, and for Gaussian
images it is the mean with each component scaled by the ratio of the two
deviations (Freirich, Michaeli and Meir, "A Theory of the Distortion-Perception
Tradeoff in Wasserstein Space", NeurIPS 2021). It costs far less error than to
draw a face at random, which doubles it.

Here the details are what a blur of `BLUR` pixels takes away. How much weaker
they are in the mean hardly depends on the kind of hole, only on how far the
nearest known pixel is (measured on validation faces, docs/ablations.md), and so
the scale is a function of that distance.
"""

import numpy as np

# Deviation of the blur, in pixels of a 64x64 face.
BLUR = 1.5
# On the rim, this share of what is added in the depth of a hole; from there on
# what is missing falls by e with every pixel.
_RIM = 0.37


def strengthen(
  generated: np.ndarray, masks: np.ndarray, gain: float
) -> np.ndarray:
  """Returns generated images with stronger details.

  Args:
    generated: float32 [N, H, W, C] in [-1, 1], G(z) over the whole image.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    gain: what multiplies the details far from all known pixels; 1 changes
      nothing. Known pixels count as the hole's rim, so that blending compares
      like with like there.

  Returns:
    float32 [N, H, W, C] in [-1, 1]. An image does not depend on its neighbours
    in the batch.
  """
  if gain == 1:
    return generated
  from scipy import ndimage  # Here, as jobs without details need not wait.

  blurred = ndimage.gaussian_filter(
    generated, (0, BLUR, BLUR, 0), mode="nearest"
  )
  scale = np.stack([_scale(mask[..., 0] > 0.5, gain) for mask in masks])
  strong = blurred + scale[..., None] * (generated - blurred)
  return np.clip(strong, -1, 1).astype(np.float32)


def _scale(known: np.ndarray, gain: float) -> np.ndarray:
  """Returns what multiplies the details of each pixel, [H, W]."""
  if not known.any():
    return np.full(known.shape, gain)
  from scipy import ndimage

  distance = np.asarray(ndimage.distance_transform_edt(~known))
  distance = np.maximum(distance, 1)
  depth = 1 - (1 - _RIM) * np.exp(1 - distance)
  return 1 + (gain - 1) * depth
