"""How many operations a step takes, counted from the networks' layers.

A multiplication and its addition are two operations. Only products are counted
(convolutions and dense layers), all 25 taps of a kernel at every place, borders
included, whatever computes them; normalisation, activations, losses and
optimisers are a few operations a value and are left out. So the count depends
on the model, not on the program that XLA makes of it.
"""

import itertools

from dcgan_inpaint.networks import dcgan

_TAPS = 5 * 5


def generator(width: float, latent_size: int) -> int:
  """Returns the operations of one pass of G for one latent.

  Args:
    width: multiplies every channel count.
    latent_size: values of z.
  """
  channels = (*dcgan.scaled(dcgan.GENERATOR_CHANNELS, width), 3)
  return 2 * (_dense(width, latent_size) + _convolutions(channels, 4 * 4))


def discriminator(width: float, outputs: int = 1) -> int:
  """Returns the operations of one pass of D for one image.

  Args:
    width: multiplies every channel count.
    outputs: its logits.
  """
  channels = (3, *dcgan.scaled(dcgan.DISCRIMINATOR_CHANNELS, width))
  dense = 4 * 4 * channels[-1] * outputs
  # Seen from its end, D doubles the sides as G does.
  return 2 * (dense + _convolutions(channels[::-1], 4 * 4))


def train_step(width: float, latent_size: int, outputs: int = 1) -> int:
  """Returns the operations of `gan.train_step` for each image of the batch.

  A pass forwards, one back to the activations and one to the kernels cost the
  same each. G goes through all three once. D does so for the real and for the
  generated image, and without the kernels in G's turn. Gradients that are not
  needed are left out: of the images in D's turn, and of the latents.

  Args:
    width: multiplies every channel count.
    latent_size: values of z.
    outputs: D's logits.
  """
  to_image = 2 * _first_convolution(width)
  return (
    3 * generator(width, latent_size)
    - 2 * _dense(width, latent_size)
    + 2 * (3 * discriminator(width, outputs) - to_image)
    + 2 * discriminator(width, outputs)
  )


def search_step(
  width: float, latent_size: int, outputs: int = 1, prior: bool = True
) -> int:
  """Returns the operations of one step of the search for one start.

  Args:
    width: multiplies every channel count.
    latent_size: values of z.
    outputs: D's logits.
    prior: whether the objective asks D at all.
  """
  pair = generator(width, latent_size)
  if prior:
    pair += discriminator(width, outputs)
  return 2 * pair


def _dense(width: float, latent_size: int) -> int:
  """Returns the products of G's dense layer."""
  return latent_size * 4 * 4 * dcgan.scaled(dcgan.GENERATOR_CHANNELS, width)[0]


def _first_convolution(width: float) -> int:
  """Returns the products of D's first convolution."""
  features = dcgan.scaled(dcgan.DISCRIMINATOR_CHANNELS, width)[0]
  return (dcgan.IMAGE_SIZE // 2) ** 2 * _TAPS * 3 * features


def _convolutions(channels: tuple[int, ...], places: int) -> int:
  """Returns the products of layers that each double the sides.

  Args:
    channels: of the first layer's input and of each output.
    places: pixels of the first layer's input.
  """
  return sum(
    places * 4**layer * _TAPS * cin * cout
    for layer, (cin, cout) in enumerate(itertools.pairwise(channels))
  )
