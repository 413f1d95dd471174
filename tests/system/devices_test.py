"""The search on any number of devices; the training is in `gan_test`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_search

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import losses
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings

COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "reduce-scatter",
  "collective-permute",
)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_any_number_of_devices_gives_the_same_results(devices):
  images, masks = tiny_search.some_images(11)
  expected, actual = (
    tiny_search.make(devices=count, batch_size=8)(
      tiny_search.SKETCH_WEIGHTS, images, masks
    )
    for count in (1, devices)
  )
  tiny_search.assert_results_close(actual, expected, 1e-5)


@pytest.fixture
def programs(monkeypatch):
  """Returns the compiled text of every function that is jitted and called."""
  jit, texts = jax.jit, []

  def recording(function, **options):
    jitted = jit(function, **options)

    def call(*arguments):
      texts.append(jitted.lower(*arguments).compile().as_text())
      return jitted(*arguments)

    return call

  monkeypatch.setattr(jax, "jit", recording)
  return texts


@pytest.mark.slow
def test_the_compiled_search_communicates_nothing(programs):
  generator, discriminator = tiny.networks()
  config = config_lib.search()
  config.update(steps=1, batch_size=8)
  loss = losses.VARIANTS["sigmoid_cross_entropy"]
  search = ensemble.Search(
    bundle.NetworkBundle(generator, discriminator, loss, tiny.LATENT_SIZE),
    search_settings.resolve(config),
    tiny.mesh(8),
  )
  images = np.zeros((8, tiny.SIZE, tiny.SIZE, 3), np.float32)
  search(tiny.weights(generator, discriminator), images, images[..., :1])
  # Those that begin, advance and end a batch; the rates are of no image.
  of_images = [x for x in programs if not x.startswith("HloModule jit_sched")]
  assert len(of_images) >= 3
  for text in of_images:
    assert "num_partitions=8" in text
    assert not [name for name in COLLECTIVES if name in text]


def test_a_collective_would_be_seen(programs):
  mesh = tiny.mesh(8)
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  jax.jit(jnp.sum)(jax.device_put(np.arange(8.0), split))
  assert "all-reduce" in programs[0]
