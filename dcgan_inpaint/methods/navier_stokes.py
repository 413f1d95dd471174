"""Fills holes by a fluid's equations, with OpenCV.

`cv2.inpaint(..., INPAINT_NS)`, named after M. Bertalmio, A. L. Bertozzi & G.
Sapiro, "Navier-Stokes, Fluid Dynamics, and Image and Video Inpainting", CVPR
2001, doi:10.1109/CVPR.2001.990497, in which the intensity is a stream function
and its Laplacian a vorticity that flows along the level lines. OpenCV does not
iterate that equation: it marches once from the rim inwards, and each pixel
becomes a mean of the known ones within `radius`, weighted by how well the level
lines there point at it. `bertalmio` is the iterated transport. The method
learns nothing, and the filled pixels are 8-bit levels.
"""

import numpy as np

from dcgan_inpaint.methods import filling
from dcgan_inpaint.methods import opencv


@filling.keeps_known_pixels
def complete(
  images: np.ndarray, masks: np.ndarray, radius: int = 3
) -> np.ndarray:
  """Returns the images with their holes filled by OpenCV's Navier-Stokes.

  Args:
    images: [N, H, W, C], as `filling.keeps_known_pixels` passes them.
    masks: [N, H, W, 1], likewise.
    radius: of the neighbourhood that a pixel is computed from, pixels.

  Raises:
    errors.UserError: OpenCV is not installed.
  """
  return opencv.inpaint(images, masks, radius, "navier_stokes", "INPAINT_NS")
