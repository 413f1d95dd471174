"""Fills every hole with the harmonic function that its rim determines.

The steady state of isotropic diffusion, and the smoothest membrane: colour by
colour, the Laplacian is 0 in the hole, and there is no flow across the image's
border (T. F. Chan & J. Shen, "Mathematical Models for Local Nontexture
Inpaintings", SIAM J. Appl. Math. 62, 2002, doi:10.1137/S0036139900368844). Each
pixel becomes the mean of its neighbours, so no value leaves the range of the
rim, and no edge is continued: a large hole becomes a blur.

It equals Poisson blending of a constant generated image, so `blending.poisson`
solves it.
"""

import numpy as np

from dcgan_inpaint.methods import filling
from dcgan_inpaint.search import blending


@filling.keeps_known_pixels
def complete(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Returns the images with harmonic holes."""
  return blending.blend("poisson", np.zeros_like(images), images, masks)
