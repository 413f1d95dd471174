"""How many operations a step takes, counted from the networks' layers.

A multiplication and its addition are two operations. Only products are counted
(convolutions and dense layers), all 25 taps of a kernel at every place, borders
included, whatever computes them; normalisation, activations, losses and
optimisers are a few operations a value and are left out. So the count depends
on the model, not on the program that XLA makes of it.
"""

import itertools
from typing import TypeAlias

from dcgan_inpaint.networks import dcgan

_TAPS = 5 * 5

# The height, the width and the channels of an image.
_Shape: TypeAlias = tuple[int, int, int]


def generator(width: float, latent_size: int, image_shape: _Shape) -> int:
  """Returns the operations of one pass of G for one latent.

  Args:
    width: multiplies every channel count.
    latent_size: values of z.
    image_shape: (S, S, C) of the images.
  """
  size, _, colours = image_shape
  channels = dcgan.channel_counts(dcgan.GENERATOR_CHANNELS, size, width)
  dense = latent_size * 4 * 4 * channels[0]
  return 2 * (dense + _convolutions((*channels, colours)))


def discriminator(width: float, image_shape: _Shape, outputs: int = 1) -> int:
  """Returns the operations of one pass of D for one image.

  Args:
    width: multiplies every channel count.
    image_shape: (S, S, C) of the images.
    outputs: its logits.
  """
  size, _, colours = image_shape
  channels = dcgan.channel_counts(dcgan.DISCRIMINATOR_CHANNELS, size, width)
  dense = 4 * 4 * channels[0] * outputs
  # Seen from its end, D doubles the sides as G does.
  return 2 * (dense + _convolutions((*channels, colours)))


def train_step(
  width: float, latent_size: int, image_shape: _Shape, outputs: int = 1
) -> int:
  """Returns the operations of `gan.train_step` for each image of the batch.

  A pass forwards, one back to the activations and one to the kernels cost the
  same each. G goes through all three once. D does so for the real and for the
  generated image, and without the kernels in G's turn. Gradients that are not
  needed are left out: of the images in D's turn, and of the latents.

  Args:
    width: multiplies every channel count.
    latent_size: values of z.
    image_shape: (S, S, C) of the images.
    outputs: D's logits.
  """
  size, _, colours = image_shape
  dense = (
    latent_size
    * 4
    * 4
    * dcgan.channel_counts(dcgan.GENERATOR_CHANNELS, size, width)[0]
  )
  finest = dcgan.channel_counts(dcgan.DISCRIMINATOR_CHANNELS, size, width)[-1]
  to_image = 2 * (size // 2) ** 2 * _TAPS * colours * finest
  of_discriminator = discriminator(width, image_shape, outputs)
  return (
    3 * generator(width, latent_size, image_shape)
    - 2 * dense
    + 2 * (3 * of_discriminator - to_image)
    + 2 * of_discriminator
  )


def search_step(
  width: float,
  latent_size: int,
  image_shape: _Shape,
  outputs: int = 1,
  prior: bool = True,
) -> int:
  """Returns the operations of one step of the search for one start.

  Args:
    width: multiplies every channel count.
    latent_size: values of z.
    image_shape: (S, S, C) of the images.
    outputs: D's logits.
    prior: whether the objective asks D at all.
  """
  pair = generator(width, latent_size, image_shape)
  if prior:
    pair += discriminator(width, image_shape, outputs)
  return 2 * pair


def _convolutions(channels: tuple[int, ...]) -> int:
  """Returns the products of layers that each double the sides, from 4x4 on.

  Args:
    channels: of the first layer's input and of each output.
  """
  return sum(
    4 * 4 * 4**layer * _TAPS * cin * cout
    for layer, (cin, cout) in enumerate(itertools.pairwise(channels))
  )
