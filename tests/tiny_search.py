"""The smallest search: networks of one layer each."""

from flax import linen as nn
import jax.numpy as jnp
import numpy as np
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import losses
from dcgan_inpaint.search import latent_search

LOSS = losses.VARIANTS["sigmoid_cross_entropy"]
SIDE = 8
COUNT = 6  # Images: one batch of four and a ragged one.


class Sketch(nn.Module):
  """The smallest G: one layer. The search asks for no more."""

  @nn.compact
  def __call__(self, z, *, train):
    x = nn.tanh(nn.Dense(SIDE * SIDE * 3, name="dense")(z))
    return x.reshape(-1, SIDE, SIDE, 3)


class Critic(nn.Module):
  """The smallest D."""

  @nn.compact
  def __call__(self, x, *, train):
    return nn.Dense(1, name="dense")(x.reshape(len(x), -1))


SKETCH = (Sketch(), Critic())
SKETCH_WEIGHTS = latent_search.Weights(
  tiny.variables(SKETCH[0], jnp.zeros((1, tiny.LATENT_SIZE))),
  tiny.variables(SKETCH[1], jnp.zeros((1, SIDE, SIDE, 3))),
)


def make(networks=SKETCH, devices=4, loss=LOSS, encoder=None, **options):
  """Returns a search, of few steps unless told otherwise."""
  config = config_lib.search()
  config.steps = 8
  config.batch_size = 4
  config.starts = 3
  config.update(options)
  return latent_search.Search(
    *networks, loss, config, tiny.LATENT_SIZE, tiny.mesh(devices), encoder
  )


def some_images(count=COUNT, side=SIDE, seed=0):
  """Returns images of noise, and masks with holes of noise."""
  rng = np.random.default_rng(seed)
  images = rng.uniform(-1, 1, (count, side, side, 3)).astype(np.float32)
  masks = np.float32(rng.random((count, side, side, 1)) > 0.3)
  return images, masks


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
