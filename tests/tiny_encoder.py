"""An encoder of a few channels, and its generator."""

import functools

import jax
import numpy as np
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import encoder as encoder_lib

# Of the images: one layer has a skip, which compiles faster than three.
SIDE = 16
GENERATOR, DISCRIMINATOR = tiny.networks(image_size=SIDE)
FEATURES = 31  # Channels of G's first activations at the tiny width.


def settings(**fields):
  """Returns a section `config.encoder`, with other fields where given."""
  config = config_lib.encoder()
  config.width = tiny.WIDTH
  config.steps = 40
  config.learning_rate = 3e-3
  config.update(fields)
  return config


def create(**fields):
  """Returns E, of `settings` with other fields where given."""
  return encoder_lib.create(settings(**fields), GENERATOR)


def first_variables(encoder, seed=0):
  """Returns E's variables before training."""
  images, masks = some_images(1)
  # The default generator of random numbers takes long to compile.
  with jax.default_prng_impl("rbg"):
    return jax.jit(encoder.init)(jax.random.key(seed), images, masks)


@functools.cache
def networks():
  """Returns E with variables under which every value matters, and G's."""
  encoder = create()
  rng = np.random.RandomState(0)
  variables = jax.tree.map(
    lambda leaf: leaf + np.float32(0.1 * rng.randn(*leaf.shape)),
    first_variables(encoder),
  )
  return encoder, variables, tiny.weights(GENERATOR, DISCRIMINATOR).generator


def some_images(count=3):
  """Returns float32 images, and masks of random pixels."""
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype(np.float32)
  return images, np.float32(rng.random((count, SIDE, SIDE, 1)) > 0.3)


@functools.cache
def encode():
  """Returns E of `networks`, compiled."""
  encoder, variables, _ = networks()
  return jax.jit(functools.partial(encoder.apply, variables))
