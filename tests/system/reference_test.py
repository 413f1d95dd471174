"""The search with the shared reference model, on real faces."""

import jax
import numpy as np
import pytest
import reference_weights
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import pixels
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import losses
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings


@pytest.fixture(scope="module")
def reference(shared):
  """Returns G, D and their weights."""
  path = shared / "reference" / "dcgan_width0.5.npz"
  networks = dcgan.create(reference_weights.config(), 1)
  return *networks, reference_weights.load(path)


@pytest.fixture(scope="module")
def faces(shared):
  """Returns test faces, and the mean of validation faces, uint8."""

  def load(split, count):
    config = config_lib.data()
    config.name = "folder"
    config.path = str(shared / "celeba" / "faces64" / f"{split}.zip")
    config.max_images = count
    return data.load(config, "all", tiny.SHAPE).images

  mean = load("validation", 500).mean(axis=0, keepdims=True)
  return load("test", 64), np.uint8(mean.round())


def test_the_converter_fills_every_variable(reference):
  generator, discriminator, weights = reference
  keys = jax.random.split(jax.random.key(0))
  expected = jax.eval_shape(
    lambda: bundle.Weights(
      generator.init(keys[0], np.zeros((1, 100)), train=False),
      discriminator.init(keys[1], np.zeros((1, 64, 64, 3)), train=False),
    )
  )

  def kind(leaf):
    return leaf.shape, leaf.dtype

  assert jax.tree.map(kind, weights) == jax.tree.map(kind, expected)


@pytest.mark.slow
def test_generated_faces_are_coloured_as_faces_and_judged_so(reference, faces):
  generator, discriminator, weights = reference
  latents = dcgan.sample_latents(jax.random.key(0), 64, 100)
  generated = jax.jit(lambda w, z: generator.apply(w, z, train=False))(
    weights.generator, latents
  )
  judge = jax.jit(lambda w, x: discriminator.apply(w, x, train=False))
  generated_levels = np.float32(pixels.to_uint8(np.asarray(generated)))
  real_levels = np.float32(faces[0])
  for moment in (np.mean, np.std):
    np.testing.assert_allclose(
      moment(generated_levels, axis=(0, 1, 2)),
      moment(real_levels, axis=(0, 1, 2)),
      atol=12,
    )
  # Skin in the middle has more red than green, and more green than blue.
  middle = generated_levels[:, 24:40, 24:40].mean(axis=(1, 2))
  assert (
    np.mean((middle[:, 0] > middle[:, 1]) & (middle[:, 1] > middle[:, 2])) > 0.8
  )
  on_real = judge(weights.discriminator, pixels.to_float(faces[0]))
  on_fake = judge(weights.discriminator, generated)
  assert on_real.mean() > on_fake.mean() + 0.3


@pytest.mark.slow
def test_a_short_search_beats_the_mean_face(reference, faces):
  generator, discriminator, weights = reference
  originals, mean_face = faces[0][:4], faces[1]
  config = config_lib.search()
  config.steps = 60
  config.learning_rate = 0.1
  config.batch_size = 4
  loss = losses.VARIANTS["sigmoid_cross_entropy"]
  search = ensemble.Search(
    bundle.NetworkBundle(generator, discriminator, loss),
    search_settings.resolve(config),
    tiny.mesh(4),
  )
  masks = mask_sets.make(mask_settings.MaskSettings(), np.arange(4), 64, 64)
  found = search(weights, pixels.to_float(originals), masks)

  def hole_error(completed):
    difference = np.float32(completed) - np.float32(originals)
    return np.mean(difference[:, 16:48, 16:48] ** 2)

  completed = pixels.to_uint8(found.completed)
  np.testing.assert_array_equal(
    completed[:, :16], originals[:, :16], "known pixels"
  )
  assert hole_error(completed) < 0.8 * hole_error(mean_face)
