import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_encoder

from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.training import encoder as encoder_training
from dcgan_inpaint.training import loop

GENERATOR = tiny_encoder.GENERATOR
SIDE = tiny_encoder.SIDE


def compiled_step(encoder, config):
  """Returns the function from the arguments of a step to (state, error)."""

  @jax.jit
  def step(*arguments):
    state, metrics = encoder_training.train_step(
      *arguments,
      encoder=encoder,
      generator=GENERATOR,
      latent_size=tiny.LATENT_SIZE,
      config=config,
    )
    return state, metrics["hole_mse"]

  return step


@pytest.mark.slow
def test_a_training_step_drops_values():
  _, variables, weights = tiny_encoder.networks()
  images, masks = tiny_encoder.some_images()
  images = np.uint8(np.round((images + 1) * 127.5))

  def error(dropout):
    config = tiny_encoder.settings(dropout=dropout)
    encoder = encoder_lib.create(config, GENERATOR)
    state = encoder_training.init_state(0, encoder, config)
    state = state.replace(variables=variables)
    step = compiled_step(encoder, config)
    return float(step(state, weights, images, masks, np.uint32(0))[1])

  assert error(0.5) != error(0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
  "generated_share, mirrored", [(0.0, False), (0.5, False), (0.0, True)]
)
def test_training_brings_the_error_in_the_hole_down(generated_share, mirrored):
  encoder, _, weights = tiny_encoder.networks()
  config = tiny_encoder.settings(
    generated_share=generated_share, flip=False, mirrored=mirrored
  )
  state = encoder_training.init_state(0, encoder, config)
  # Faces of the generator itself, which it can reconstruct.
  latents = np.random.default_rng(1).uniform(-1, 1, (2, tiny.LATENT_SIZE))
  faces = GENERATOR.apply(weights, np.float32(latents), train=False)
  images = np.uint8(np.round((np.asarray(faces) + 1) * 127.5))
  masks = mask_sets.make(mask_settings.MaskSettings(), range(2), SIDE, SIDE)
  step = compiled_step(encoder, config)
  errors_ = []
  for _ in range(40):
    state, error = step(state, weights, images, masks, np.uint32(0))
    errors_.append(float(error))
  assert int(state.step) == 40
  assert np.mean(errors_[-5:]) < 0.7 * np.mean(errors_[:5])


def test_the_mean_of_mirror_images_is_of_each_image_and_its_own():
  images, _ = tiny_encoder.some_images()
  pairs = encoder_training.mirror_pairs(images)
  assert pairs.shape == (6, SIDE, SIDE, 3)
  np.testing.assert_array_equal(pairs[::2], images)
  np.testing.assert_array_equal(pairs[1::2], np.flip(images, axis=2))
  rng = np.random.default_rng(1)
  completed = rng.random((6, SIDE, SIDE, 3)).astype(np.float32)
  mean = encoder_training.mean_of_pairs(completed)
  expected = (completed[::2] + np.flip(completed[1::2], axis=2)) / 2
  np.testing.assert_allclose(mean, expected, rtol=1e-6)


@pytest.mark.slow
def test_an_image_and_its_mirror_image_teach_the_same_mean():
  encoder, variables, weights = tiny_encoder.networks()
  config = tiny_encoder.settings(flip=False, mirrored=True, steps=1)
  state = encoder_training.init_state(0, encoder, config)
  state = state.replace(variables=variables)
  images, _ = tiny_encoder.some_images()
  images = np.uint8(np.round((images + 1) * 127.5))
  mask = np.ones((1, SIDE, SIDE, 1), np.float32)
  mask[:, 5:20, 3:18] = 0
  step = compiled_step(encoder, config)
  (one, error), (other, same) = (
    step(state, weights, images[:, :, way], mask[:, :, way], np.uint32(0))
    for way in (np.s_[:], np.s_[::-1])
  )
  np.testing.assert_allclose(error, same, rtol=1e-4)
  # AdamW's first moments are the gradient up to a factor.
  for ours, mirrored in zip(
    *(jax.tree.leaves(optax.tree.get(s.optimizer, "mu")) for s in (one, other)),
    strict=True,
  ):
    np.testing.assert_allclose(ours, mirrored, rtol=1e-2, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_error_is_that_of_the_holes_pixels(mirrored):
  encoder, variables, weights = tiny_encoder.networks()
  config = tiny_encoder.settings(flip=False, mirrored=mirrored)
  state = encoder_training.init_state(0, encoder, config)
  state = state.replace(variables=variables)
  rng = np.random.default_rng(2)
  images = rng.integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
  mask = mask_sets.make(mask_settings.MaskSettings(), [0], SIDE, SIDE)
  step = compiled_step(encoder, config)
  _, error = step(state, weights, images, mask, np.uint32(0))
  apply = jax.jit(GENERATOR.apply, static_argnames=("train", "method"))
  origin = apply(
    weights,
    jnp.zeros((1, tiny.LATENT_SIZE)),
    train=False,
    method="first_activations",
  )
  masks = np.repeat(mask, 4, axis=0)

  def completed(images):
    guess = tiny_encoder.encode()(images / np.float32(127.5) - 1, masks)
    return encoder_lib.Networks(
      encoder, GENERATOR, variables, weights
    ).generate(origin + guess.offset, guess.features)

  generated = completed(images)
  if mirrored:
    generated += np.flip(completed(np.flip(images, axis=2)), axis=2)
    generated /= 2
  difference = (np.asarray(generated) + 1) * 127.5 - images
  hole = slice(SIDE // 4, 3 * SIDE // 4)
  expected = np.mean(difference[:, hole, hole] ** 2)
  np.testing.assert_allclose(error, expected, rtol=1e-4)


def test_every_image_counts_by_the_ratio_of_its_error():
  images = np.zeros((2, 64, 64, 3), np.float32)
  masks = np.ones((2, 64, 64, 1), np.float32)
  masks[0, :32] = 0  # A wide hole, with an error of 0.4 on every value ...
  # ... and a narrow one, with 0.1; 0.2 where pixels are known.
  masks[1, :2] = 0
  errors_ = np.where(masks > 0.5, 0.2, np.reshape([0.4, 0.1], (2, 1, 1, 1)))
  completed = images + np.float32(errors_)
  loss, in_hole = encoder_training.completion_loss(
    completed, images, masks, 0.0
  )
  np.testing.assert_allclose(loss, np.log([0.16, 0.01]).mean(), rtol=1e-3)
  np.testing.assert_allclose(in_hole, (32 * 0.16 + 2 * 0.01) / 34, rtol=1e-5)
  loss, _ = encoder_training.completion_loss(completed, images, masks, 0.5)
  each = [(0.16 + 0.5 * 0.04) / 1.5, (2 * 0.01 + 31 * 0.04) / 33]
  np.testing.assert_allclose(loss, np.log(each).mean(), rtol=1e-3)


def test_what_is_given_back_exactly_has_a_gradient():
  images, masks = tiny_encoder.some_images()

  @jax.jit
  @jax.grad
  def gradient(completed, images):
    return encoder_training.completion_loss(completed, images, masks, 0.1)[0]

  np.testing.assert_array_equal(gradient(images, images), 0)


def test_the_learning_rate_rises_and_falls_to_nothing():
  """As seen in the size of AdamW's steps under a constant gradient."""
  transform = encoder_training.optimizer(
    tiny_encoder.settings(steps=100, weight_decay=0.0)
  )
  params = jnp.zeros(1)
  state, sizes = transform.init(params), []

  @jax.jit
  def update(state, params):
    updates, state = transform.update(jnp.ones(1), state, params)
    return updates, state, optax.apply_updates(params, updates)

  for _ in range(100):
    updates, state, params = update(state, params)
    sizes.append(float(-updates[0]))
  assert np.argmax(sizes) == 10
  np.testing.assert_allclose(max(sizes), 3e-3, rtol=1e-3)
  assert sizes[0] == 0 and sizes[-1] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
def test_devices_exchange_no_images(mirrored):
  encoder, _, weights = tiny_encoder.networks()
  config = tiny_encoder.settings(generated_share=0.25, mirrored=mirrored)
  task = encoder_training.EncoderTask(
    encoder=encoder,
    generator=GENERATOR,
    latent_size=tiny.LATENT_SIZE,
    config=config,
  )
  steps = loop.compile_steps(task, tiny.mesh(4))
  state = encoder_training.init_state(0, encoder, config)
  faces = np.zeros((32, SIDE, SIDE, 3), np.uint8)
  indices = np.zeros((1, 16), np.int32)
  pool = np.ones((2, SIDE, SIDE, 1), np.float32)
  frozen = encoder_training.Frozen(weights, pool)
  text = (
    steps.lower(state, faces, indices, np.uint32(0), frozen).compile().as_text()
  )
  assert "num_partitions=4" in text and "all-reduce" in text  # Of gradients.
  assert "all-to-all" not in text and "collective-permute" not in text
  # No device has the whole batch, except for the bytes it looks up.
  assert f"f32[4,{SIDE},{SIDE},3]" in text
  assert not any(f"f32[{n},{SIDE},{SIDE},3]" in text for n in (16, 32))
