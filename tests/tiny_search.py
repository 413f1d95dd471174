"""The smallest search: networks of one or two layers each."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.networks import losses
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings

LOSS = losses.VARIANTS["sigmoid_cross_entropy"]
SIDE = 8
COUNT = 6  # Images: one batch of four and an incomplete one.


class Sketch(nn.Module):
  """The smallest G: one layer, which is all that the search needs."""

  @nn.compact
  def __call__(self, z, *, train):
    x = nn.tanh(nn.Dense(SIDE * SIDE * 3, name="dense")(z))
    return x.reshape(-1, SIDE, SIDE, 3)


class Critic(nn.Module):
  """The smallest D."""

  @nn.compact
  def __call__(self, x, *, train):
    return nn.Dense(1, name="dense")(x.reshape(len(x), -1))


class Parts(nn.Module):
  """The smallest G with inner activations, of two layers."""

  layers = 2

  def setup(self):
    self.dense = nn.Dense(4 * 4 * 2)
    self.middle = nn.Dense(24)
    self.out = nn.Dense(SIDE * SIDE * 3)

  def __call__(self, z, *, train):
    return self.from_activations(
      self.first_activations(z, train=train), train=train
    )

  def first_activations(self, z, *, train):
    return nn.relu(self.dense(z)).reshape(-1, 4, 4, 2)

  def later_activations(self, x, *, train, last, first=1):
    if first == last:
      return x
    return nn.relu(self.middle(x.reshape(len(x), -1)))

  def from_activations(self, x, *, train, layer=1):
    x = self.later_activations(x, train=train, first=layer, last=2)
    return nn.tanh(self.out(x)).reshape(-1, SIDE, SIDE, 3)


class Encoder(nn.Module):
  """The smallest E, for `Parts`."""

  @nn.compact
  def __call__(self, images, masks):
    x = jnp.concatenate([images * masks, masks], axis=-1)
    offsets = nn.Dense(4 * 4 * 2)(x.reshape(len(x), -1))
    return encoder_lib.EncoderOutput(offsets.reshape(-1, 4, 4, 2))


SKETCH = (Sketch(), Critic())
SKETCH_WEIGHTS = bundle.Weights(
  tiny.variables(SKETCH[0], jnp.zeros((1, tiny.LATENT_SIZE))),
  tiny.variables(SKETCH[1], jnp.zeros((1, SIDE, SIDE, 3))),
)
PARTS = (Parts(), Critic())
ENCODER = Encoder()
DCGAN = tiny.networks()


def settings(**options):
  """Returns settings, of few steps unless told otherwise."""
  config = config_lib.search()
  config.steps = 8
  config.batch_size = 4
  config.starts = 3
  config.update(options)
  return search_settings.resolve(config)


def networks(modules=SKETCH, loss=LOSS, encoder=None):
  """Returns the bundle of G, D and E."""
  return bundle.NetworkBundle(*modules, loss, tiny.LATENT_SIZE, encoder)


def make(modules=SKETCH, devices=4, loss=LOSS, encoder=None, **options):
  """Returns a search, of few steps unless told otherwise."""
  return ensemble.Search(
    networks(modules, loss, encoder), settings(**options), tiny.mesh(devices)
  )


# Compiled once for all tests that need nothing special.
default = functools.cache(make)


def from_encoder(**options):
  """Returns a search that starts from `ENCODER`, without steps on z."""
  options = {"start": "encoder", "steps": 0, "starts": 1, **options}
  return make(PARTS, encoder=ENCODER, **options)


@functools.cache
def parts_weights(seed=3):
  """Returns the weights of `PARTS` and of `ENCODER`, drawn from a seed."""
  images, masks = some_images(1)
  return bundle.Weights(
    tiny.variables(PARTS[0], jnp.zeros((1, tiny.LATENT_SIZE))),
    SKETCH_WEIGHTS.discriminator,
    jax.jit(ENCODER.init)(jax.random.key(seed), images, masks),
  )


def encoded(images, masks):
  """Returns E's offsets and the images that G makes of them."""
  # The weights are kept, so they must not be drawn while a function is traced.
  return _encoded(parts_weights(), images, masks)


@jax.jit
def _encoded(weights, images, masks):
  offsets = ENCODER.apply(weights.encoder, images, masks).offset
  origin = PARTS[0].apply(
    weights.generator,
    jnp.zeros((1, tiny.LATENT_SIZE)),
    train=False,
    method="first_activations",
  )
  generated = PARTS[0].apply(
    weights.generator, origin + offsets, train=False, method="from_activations"
  )
  return offsets, generated


@functools.cache
def dcgan_weights():
  """Returns the weights of `DCGAN`."""
  return tiny.weights(*DCGAN)


@functools.cache
def dcgan_encoder():
  """Returns an encoder with skips for `DCGAN`, and its weights."""
  config = config_lib.encoder()
  config.width = tiny.WIDTH
  encoder = encoder_lib.create(config, DCGAN[0])
  images, masks = some_images(1, side=tiny.SIZE)
  # JAX's default random number generator takes long to compile.
  with jax.default_prng_impl("rbg"):
    variables = jax.jit(encoder.init)(jax.random.key(0), images, masks)
  # No value stays at zero, as those of the skips are at first.
  rng = np.random.RandomState(0)
  return encoder, jax.tree.map(
    lambda leaf: leaf + np.float32(0.1 * rng.randn(*leaf.shape)), variables
  )


def some_images(count=COUNT, side=SIDE, seed=0):
  """Returns images of noise, and masks with holes of noise."""
  rng = np.random.default_rng(seed)
  images = rng.uniform(-1, 1, (count, side, side, 3)).astype(np.float32)
  masks = np.float32(rng.random((count, side, side, 1)) > 0.3)
  return images, masks


@jax.jit
def start(index, number, seed=0):
  """Returns the initial latent of a start of an image."""
  key = jax.random.fold_in(jax.random.key(seed), index)
  key = jax.random.fold_in(key, number)
  return jax.random.uniform(key, (1, tiny.LATENT_SIZE), minval=-1, maxval=1)[0]


@jax.jit
def _sketch(latent):
  """Returns the image of `SKETCH`, [1, H, W, 3], and its logits."""
  generator, discriminator = SKETCH
  generated = generator.apply(
    SKETCH_WEIGHTS.generator, latent[None], train=False
  )
  return generated, discriminator.apply(
    SKETCH_WEIGHTS.discriminator, generated, train=False
  )


def papers_objective(latent, image, mask, prior_weight):
  """Returns equation 3 for `SKETCH`, in NumPy."""
  generated, logits = jax.device_get(_sketch(latent))
  probability = 1 / (1 + np.exp(-np.float64(logits[0, 0])))
  known = np.float64(mask) * generated[0] - np.float64(mask) * image
  return np.abs(known).sum() + prior_weight * np.log(1 - probability)


def assert_results_equal(actual, expected, rows=slice(None)):
  for name, value in actual._asdict().items():
    np.testing.assert_array_equal(
      value[rows], getattr(expected, name)[rows], name
    )


def assert_results_close(actual, expected, tolerance):
  for name, value in actual._asdict().items():
    np.testing.assert_allclose(
      value, getattr(expected, name), tolerance, tolerance, err_msg=name
    )
