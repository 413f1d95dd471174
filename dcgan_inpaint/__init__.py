"""Image inpainting with a DCGAN: train it, then search its latent space."""

__version__ = "0.1.0"
