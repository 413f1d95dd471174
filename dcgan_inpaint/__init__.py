"""Image inpainting with a DCGAN: train it, then search its latent space.

  import dcgan_inpaint

  completed = dcgan_inpaint.inpaint("photo.jpg", "mask.png")

fills the hole in a photograph, which may be an array or a Pillow image too,
with the model that comes with the package; `load_pretrained` returns that
model, or one of yours. Training and evaluation are jobs of the command line,
`dcgan_inpaint.main`.
"""

from dcgan_inpaint.api import clear_caches
from dcgan_inpaint.api import inpaint
from dcgan_inpaint.api import load_pretrained
from dcgan_inpaint.runtime import errors

__all__ = ["clear_caches", "errors", "inpaint", "load_pretrained"]
__version__ = "0.1.0"
