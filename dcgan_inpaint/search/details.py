"""Gives a mean of many faces the strength of detail that one face has.

The mean of all possible faces under a hole has the least squared error, and is
smoother than any of them: where the position of a line is uncertain, the mean
shows less of it. Among all images with the details of a face, the one nearest
in squared error is a function of the mean alone; for Gaussian images it is the
mean with each component scaled by the ratio of the two standard deviations
(Freirich, Michaeli and Meir, "A Theory of the Distortion-Perception Tradeoff in
Wasserstein Space", NeurIPS 2021). This costs far less error than drawing a
random face, which doubles it.

Here the details are what a blur of `BLUR` pixels removes. How much weaker they
are in the mean hardly depends on the kind of hole, only on the distance to the
nearest known pixel (measured on validation faces, docs/ablations.md), so the
scale is a function of that distance.
"""

import numpy as np

# Standard deviation of the blur, in pixels of a 64x64 face (`scale`).
BLUR = 1.5
# The fraction, on the rim, of what is added deep in a hole; the remainder falls
# by a factor of e with every pixel of a 64x64 face from there.
_RIM = 0.37


def strengthen(
  generated: np.ndarray, masks: np.ndarray, gain: float, scale: float = 1.0
) -> np.ndarray:
  """Returns generated images with stronger details.

  Args:
    generated: float32 [N, H, W, C] in [-1, 1], G(z) over the whole image.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    gain: factor on the details far from all known pixels; 1 changes nothing.
      Known pixels are treated as the hole's rim, so that blending compares like
      with like there.
    scale: how many pixels one of a 64x64 face is wide.

  Returns:
    float32 [N, H, W, C] in [-1, 1]. An image does not depend on the others in
    the batch.
  """
  if gain == 1:
    return generated
  from scipy import ndimage  # Slow to import, and not always used.

  blurred = ndimage.gaussian_filter(
    generated, (0, scale * BLUR, scale * BLUR, 0), mode="nearest"
  )
  factor = np.stack(
    [_factor(mask[..., 0] > 0.5, gain, scale) for mask in masks]
  )
  strong = blurred + factor[..., None] * (generated - blurred)
  return np.clip(strong, -1, 1).astype(np.float32)


def _factor(known: np.ndarray, gain: float, scale: float) -> np.ndarray:
  """Returns the factor on the details of each pixel, [H, W]."""
  if not known.any():
    return np.full(known.shape, gain)
  from scipy import ndimage

  distance = np.asarray(ndimage.distance_transform_edt(~known))
  distance = np.maximum(distance / scale, 1)
  depth = 1 - (1 - _RIM) * np.exp(1 - distance)
  return 1 + (gain - 1) * depth
