"""Image inpainting with a DCGAN: train it, then search its latent space.

  import dcgan_inpaint

  completed = dcgan_inpaint.inpaint(images, masks)

fills the holes in 64x64 faces with the packaged model, and `load_pretrained`
returns that model, or your own. Training, evaluation and images of other sizes
are jobs of the command line, `dcgan_inpaint.main`.
"""

from dcgan_inpaint.api import inpaint
from dcgan_inpaint.api import load_pretrained

__all__ = ["inpaint", "load_pretrained"]
__version__ = "0.1.0"
