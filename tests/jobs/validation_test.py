import jax
import numpy as np
import pytest
import tiny
import tiny_encoder

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import pixels
from dcgan_inpaint.jobs import validation
from dcgan_inpaint.networks import losses
from dcgan_inpaint.search import blending
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.training import encoder as encoder_training
from dcgan_inpaint.training import gan

SIDE = tiny_encoder.SIDE
SHAPE = (SIDE, SIDE, 3)
CENTRE = slice(SIDE // 4, 3 * SIDE // 4)


def mean_squared_error(images, originals):
  return np.mean((images.astype(np.float64) - originals) ** 2)


@pytest.mark.slow
def test_completions_are_scored_as_they_are_blended():
  encoder, variables, _ = tiny_encoder.networks()
  weights = jax.device_put(
    tiny.weights(tiny_encoder.GENERATOR, tiny_encoder.DISCRIMINATOR)
  )
  networks = bundle.NetworkBundle(
    tiny_encoder.GENERATOR,
    tiny_encoder.DISCRIMINATOR,
    losses.get("sigmoid_cross_entropy"),
    tiny.LATENT_SIZE,
  )
  model = trained_model.TrainedModel(
    weights=weights,
    networks=networks,
    config=tiny.train_config(model__image_size=SIDE),
    step=0,
    mean_image=np.zeros(SHAPE, np.uint8),
  )
  config = tiny.encoder_config("", encoder__validation_images=3)
  validate = validation.completion(config, model, encoder, tiny.mesh(2))
  state = encoder_training.EncoderState(
    step=np.int32(0), variables=variables, optimizer=()
  )
  error, pictures = validate(jax.device_put(state))
  rows = pictures["completed"]
  assert list(rows) == ["original", "masked", "G", "completed"]
  originals = data.load(config.data, "validation", SHAPE, limit=3).images
  np.testing.assert_array_equal(rows["original"], originals)
  hole = np.zeros((3, SIDE, SIDE, 1), bool)
  hole[:, CENTRE, CENTRE] = True
  blended = blending.blend(
    "screened",
    pixels.to_float(rows["G"]),
    pixels.to_float(originals),
    np.float32(~hole),
    SIDE / search_settings.SIDE,
  )
  # G's image is one that was rounded.
  difference = np.abs(rows["completed"] - np.float32(pixels.to_uint8(blended)))
  assert difference.max() <= 2
  assert error == pytest.approx(
    mean_squared_error(rows["completed"], originals), rel=1e-4
  )
  pasted = np.where(hole, rows["G"], originals)
  assert abs(error - mean_squared_error(pasted, originals)) > 0.01 * error


@pytest.mark.slow
def test_inversions_are_scored_without_a_hole_and_shown_with_one():
  generator, discriminator = tiny.networks(image_size=SIDE)
  weights = tiny.weights(generator, discriminator)
  config = tiny.train_config(model__image_size=SIDE, train__validation_images=3)
  mesh = tiny.mesh(2)
  networks = bundle.NetworkBundle(
    generator, discriminator, losses.get(config.train.loss), tiny.LATENT_SIZE
  )
  validate = validation.inversion(config, networks, mesh)
  state = gan.GanState(
    step=np.int32(0),
    generator=(),
    discriminator=weights.discriminator,
    generator_optimizer=(),
    discriminator_optimizer=(),
    generator_ema=weights.generator,
  )
  error, pictures = validate(jax.device_put(state))
  rows = pictures["inpainted"]
  assert list(rows) == ["original", "masked", "G(z)", "completed"]
  held_out = data.load(config.data, "validation", SHAPE, limit=12).images
  np.testing.assert_array_equal(rows["original"], held_out)
  hole = np.zeros((12, SIDE, SIDE, 1), bool)
  hole[:, CENTRE, CENTRE] = True
  np.testing.assert_array_equal(
    rows["completed"], np.where(hole, rows["G(z)"], held_out)
  )
  # The same search by its own interface.
  settings = config_lib.search()
  settings.update(steps=2, learning_rate=0.1, prior_weight=0.0, batch_size=16)
  search = ensemble.Search(networks, search_settings.resolve(settings), mesh)
  known = np.ones((3, SIDE, SIDE, 1), np.float32)
  found = search(weights, pixels.to_float(held_out[:3]), known, size=16)
  assert error == pytest.approx(
    mean_squared_error(pixels.to_uint8(found.generated), held_out[:3]), rel=1e-4
  )


def test_nothing_is_validated_without_held_out_images():
  config = tiny.train_config(train__validation_images=0)
  assert validation.inversion(config, None, None) is None
  config = tiny.encoder_config("", encoder__validation_images=0)
  assert validation.completion(config, None, None, None) is None
