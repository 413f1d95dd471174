import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.training import encoder as encoder_training

GENERATOR, DISCRIMINATOR = tiny.networks()
FEATURES = 31  # Of the generator's first activations at the tiny width.


def settings(**fields):
  config = config_lib.encoder()
  config.width = tiny.WIDTH
  config.steps = 40
  config.learning_rate = 3e-3
  config.update(fields)
  return config


@functools.cache
def networks():
  """Returns E with variables under which every value counts, and G's."""
  encoder = encoder_lib.create(settings(), GENERATOR)
  state = encoder_training.init_state(0, encoder, settings())
  rng = np.random.RandomState(0)
  variables = jax.tree.map(
    lambda leaf: leaf + np.float32(0.1 * rng.randn(*leaf.shape)),
    state.variables,
  )
  return encoder, variables, tiny.weights(GENERATOR, DISCRIMINATOR).generator


def some_images(count=3):
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (count, 64, 64, 3)).astype(np.float32)
  return images, np.float32(rng.random((count, 64, 64, 1)) > 0.3)


def compiled_step(encoder, config):
  step = functools.partial(
    encoder_training.train_step,
    encoder=encoder,
    generator=GENERATOR,
    latent_size=tiny.LATENT_SIZE,
    config=config,
  )
  return jax.jit(step)


@functools.cache
def encode():
  encoder, variables, _ = networks()
  return jax.jit(functools.partial(encoder.apply, variables))


@pytest.mark.parametrize("groups, channels", [(8, 32), (4, 12), (1, 5)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_fast_group_norm_equals_flaxs(groups, channels, dtype):
  rng = np.random.default_rng(0)
  x, pulled = jnp.asarray(3 + rng.normal(size=(2, 3, 6, 4, channels)), dtype)
  params = {
    "scale": np.float32(rng.normal(size=channels)),
    "bias": np.float32(rng.normal(size=channels)),
  }

  @functools.partial(jax.jit, static_argnums=0)
  def values_and_gradients(norm):
    y, pull_back = jax.vjp(norm.apply, {"params": params}, x)
    return y, *pull_back(pulled.astype(y.dtype))

  ours = encoder_lib.GroupNorm(groups, dtype=dtype)
  flaxs = nn.GroupNorm(groups, dtype=dtype)
  key = jax.random.key(0)
  jax.tree.map(
    np.testing.assert_array_equal, ours.init(key, x), flaxs.init(key, x)
  )
  pairs = zip(
    jax.tree.leaves(values_and_gradients(ours)),
    jax.tree.leaves(values_and_gradients(flaxs)),
    strict=True,
  )
  bound = 1e-4 if dtype == jnp.float32 else 0.05
  for value, expected in pairs:
    assert value.dtype == expected.dtype
    np.testing.assert_allclose(
      np.float32(value), np.float32(expected), rtol=bound, atol=bound
    )


def test_a_guess_has_the_shapes_of_the_generators_activations():
  images, masks = some_images()
  encoder, variables, weights = networks()

  def apply(x, method, **options):
    return GENERATOR.apply(weights, x, train=False, method=method, **options)

  activations = apply(jnp.zeros((3, tiny.LATENT_SIZE)), "first_activations")
  guess = encode()(images, masks)
  assert guess.offset.shape == activations.shape == (3, 4, 4, FEATURES)
  assert guess.offset.dtype == jnp.float32
  for layer, features in enumerate(guess.features, start=2):
    later = apply(activations, "later_activations", last=layer)
    assert features.shape[:3] == later.shape[:3]
    changed = encoder.apply(variables, features, later, layer, method="skip")
    assert changed.shape == later.shape and changed.min() >= 0
  assert layer == 4


def assert_guesses_equal(actual, expected, **bounds):
  for one, other in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(one, other, **bounds)


def test_what_lies_under_the_hole_is_not_looked_at():
  images, masks = some_images()
  guess = encode()(images, masks)
  for below in (0.7, np.nan):
    changed = np.where(masks > 0.5, images, np.float32(below))
    assert_guesses_equal(encode()(changed, masks), guess, rtol=0, atol=0)
  for other in ((-images, masks), (images, masks[::-1])):
    pairs = zip(encode()(*other).features, guess.features, strict=True)
    assert np.abs(encode()(*other).offset - guess.offset).max() > 1e-3
    assert all(np.abs(a - b).max() > 1e-3 for a, b in pairs)


def test_an_image_does_not_depend_on_its_neighbours():
  images, masks = some_images()
  together = encode()(images, masks)
  for i in range(3):
    assert_guesses_equal(
      encode()(images[i : i + 1], masks[i : i + 1]),
      jax.tree.map(lambda x, i=i: x[i : i + 1], together),
      rtol=1e-4,
      atol=1e-5,
    )


def test_values_are_dropped_in_training_alone():
  images, masks = some_images()
  _, variables, _ = networks()
  encoder = encoder_lib.create(settings(dropout=0.25), GENERATOR)

  @functools.partial(jax.jit, static_argnames="train")
  def between(key, train):
    guess, kept = encoder.apply(
      variables,
      images,
      masks,
      train=train,
      rngs={"dropout": key},
      capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
    )
    ((calls,),) = (x.values() for x in kept["intermediates"].values())
    return guess.offset, calls

  offset, whole = between(jax.random.key(0), train=False)
  np.testing.assert_allclose(
    offset, encode()(images, masks).offset, rtol=1e-4, atol=1e-5
  )
  seen = []
  for seed in (0, 0, 1):
    offset, dropped = between(jax.random.key(seed), train=True)
    seen.append(np.asarray(offset))
    assert len(dropped) == len(whole) == 2
    # The second value depends on what was dropped of the first.
    left = np.asarray(dropped[0]) != 0
    np.testing.assert_allclose(
      dropped[0][left], whole[0][left] / 0.75, rtol=1e-4, atol=1e-5
    )
    assert 0.6 < left[np.asarray(whole[0]) != 0].mean() < 0.9
  np.testing.assert_array_equal(seen[0], seen[1])
  assert np.abs(seen[0] - seen[2]).max() > 1e-3


def test_the_first_guess_is_near_the_face_of_no_offset():
  encoder = encoder_lib.create(settings(), GENERATOR)
  variables = encoder_training.init_state(0, encoder, settings()).variables
  guess = jax.jit(encoder.apply)(variables, *some_images())
  assert np.abs(guess.offset).max() < 0.1
  for layer, features in enumerate(guess.features, start=2):
    count = encoder.skips[layer - 2]
    later = np.float32(np.random.default_rng(0).random(features.shape))
    later = np.resize(later, (*features.shape[:3], count))
    same = encoder.apply(variables, features, later, layer, method="skip")
    np.testing.assert_array_equal(same, later)


def test_a_training_step_drops_values():
  _, variables, weights = networks()
  images, masks = some_images()
  images = np.uint8(np.round((images + 1) * 127.5))

  def error(dropout):
    config = settings(dropout=dropout)
    encoder = encoder_lib.create(config, GENERATOR)
    state = encoder_training.init_state(0, encoder, config)
    state = state.replace(variables=variables)
    step = compiled_step(encoder, config)
    return float(step(state, weights, images, masks, np.uint32(0))[1])

  assert error(0.5) != error(0.0)


@pytest.mark.parametrize(
  "generated_share, mirrored", [(0.0, False), (0.5, False), (0.0, True)]
)
def test_training_brings_the_error_in_the_hole_down(generated_share, mirrored):
  encoder, _, weights = networks()
  config = settings(
    generated_share=generated_share, flip=False, mirrored=mirrored
  )
  state = encoder_training.init_state(0, encoder, config)
  # Faces of the generator itself: it can give them back.
  latents = np.random.default_rng(1).uniform(-1, 1, (2, tiny.LATENT_SIZE))
  faces = GENERATOR.apply(weights, np.float32(latents), train=False)
  images = np.uint8(np.round((np.asarray(faces) + 1) * 127.5))
  masks = mask_sets.make(config_lib.mask(), range(2))
  step = compiled_step(encoder, config)
  errors_ = []
  for _ in range(40):
    state, error = step(state, weights, images, masks, np.uint32(0))
    errors_.append(float(error))
  assert int(state.step) == 40
  assert np.mean(errors_[-5:]) < 0.7 * np.mean(errors_[:5])


def test_the_mean_of_mirror_images_is_of_each_image_and_its_own():
  images, _ = some_images()
  pairs = encoder_training.mirror_pairs(images)
  assert pairs.shape == (6, 64, 64, 3)
  np.testing.assert_array_equal(pairs[::2], images)
  np.testing.assert_array_equal(pairs[1::2], np.flip(images, axis=2))
  rng = np.random.default_rng(1)
  completed = rng.random((6, 64, 64, 3)).astype(np.float32)
  mean = encoder_training.mean_of_pairs(completed)
  expected = (completed[::2] + np.flip(completed[1::2], axis=2)) / 2
  np.testing.assert_allclose(mean, expected, rtol=1e-6)


def test_an_image_and_its_mirror_image_teach_the_same_mean():
  encoder, variables, weights = networks()
  config = settings(flip=False, mirrored=True, steps=1)
  state = encoder_training.init_state(0, encoder, config)
  state = state.replace(variables=variables)
  images, _ = some_images()
  images = np.uint8(np.round((images + 1) * 127.5))
  mask = np.ones((1, 64, 64, 1), np.float32)
  mask[:, 10:30, 5:25] = 0
  step = compiled_step(encoder, config)
  (one, error), (other, same) = (
    step(state, weights, images[:, :, way], mask[:, :, way], np.uint32(0))
    for way in (np.s_[:], np.s_[::-1])
  )
  np.testing.assert_allclose(error, same, rtol=1e-4)
  # AdamW's first moments are the gradient, but for a factor.
  for ours, mirrored in zip(
    *(jax.tree.leaves(optax.tree.get(s.optimizer, "mu")) for s in (one, other)),
    strict=True,
  ):
    np.testing.assert_allclose(ours, mirrored, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_error_is_that_of_the_holes_pixels(mirrored):
  encoder, variables, weights = networks()
  config = settings(flip=False, mirrored=mirrored)
  state = encoder_training.init_state(0, encoder, config)
  state = state.replace(variables=variables)
  rng = np.random.default_rng(2)
  images = rng.integers(0, 256, (4, 64, 64, 3), np.uint8)
  mask = mask_sets.make(config_lib.mask(), [0])
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
    guess = encode()(images / np.float32(127.5) - 1, masks)
    return encoder_lib.Networks(
      encoder, GENERATOR, variables, weights
    ).generate(origin + guess.offset, guess.features)

  generated = completed(images)
  if mirrored:
    generated += np.flip(completed(np.flip(images, axis=2)), axis=2)
    generated /= 2
  difference = (np.asarray(generated) + 1) * 127.5 - images
  expected = np.mean(difference[:, 16:48, 16:48] ** 2)
  np.testing.assert_allclose(error, expected, rtol=1e-4)


def test_every_image_counts_by_the_ratio_of_its_error():
  images = np.zeros((2, 64, 64, 3), np.float32)
  masks = np.ones((2, 64, 64, 1), np.float32)
  masks[0, :32] = 0  # A wide hole, with an error of 0.4 on every value ...
  masks[1, :2] = (
    0  # ... and a narrow one, with 0.1; 0.2 where pixels are known.
  )
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
  images, masks = some_images()
  gradient = jax.grad(
    lambda x: encoder_training.completion_loss(x, images, masks, 0.1)[0]
  )(images)
  np.testing.assert_array_equal(gradient, 0)


def test_growing_keeps_what_the_smaller_encoder_knows():
  ranks = [encoder_lib.create(settings(rank=r), GENERATOR) for r in (3, 5)]
  smaller, fresh = (
    encoder_training.init_state(seed, encoder, settings()).variables
    for seed, encoder in enumerate(ranks)
  )
  grown = encoder_training.grow(fresh, smaller)["params"]
  kernel = grown["mix_in"]["kernel"]
  np.testing.assert_array_equal(
    kernel[:, :3], smaller["params"]["mix_in"]["kernel"]
  )
  np.testing.assert_array_equal(
    kernel[:, 3:], fresh["params"]["mix_in"]["kernel"][:, 3:]
  )
  np.testing.assert_array_equal(
    grown["mix_out"]["kernel"],
    np.concatenate(
      [
        smaller["params"]["mix_out"]["kernel"],
        fresh["params"]["mix_out"]["kernel"][3:],
      ]
    ),
  )
  for name in ("conv_0", "conv_3"):
    np.testing.assert_array_equal(
      grown[name]["kernel"], smaller["params"][name]["kernel"]
    )


def test_a_pool_holds_every_family_as_often_as_it_is_named():
  pool = encoder_training.mask_pool("centre, centre,half", 90, seed=3)
  assert pool.shape == (90, 64, 64, 1) and set(np.unique(pool)) == {0.0, 1.0}
  halves = 1 - pool[2::3].mean(axis=(1, 2, 3))
  np.testing.assert_array_equal(halves, 0.5)
  centres = np.delete(pool, np.s_[2::3], axis=0)
  np.testing.assert_array_equal(centres[:, 32, 32], 0)
  sizes = np.sqrt((1 - centres).sum(axis=(1, 2, 3)))
  assert sizes.min() >= 16 and sizes.max() <= 48
  # About half of them have the usual size.
  assert 20 <= np.sum(sizes == 32) <= 45
  assert len({mask.tobytes() for mask in pool[2::3]}) == 4  # All four sides.


def test_a_pool_is_drawn_from_its_seed():
  families = config_lib.encoder().families
  pool = encoder_training.mask_pool(families, 20, seed=1)
  np.testing.assert_array_equal(
    encoder_training.mask_pool(families, 20, seed=1), pool
  )
  assert np.any(encoder_training.mask_pool(families, 20, seed=2) != pool)
  assert (pool.min(axis=(1, 2, 3)) == 0).all()  # Every mask has a hole.


def test_an_unknown_family_is_refused():
  with pytest.raises(errors.UserError, match="centre"):
    encoder_training.mask_pool("centre,circle", 2, seed=0)


def test_the_learning_rate_rises_and_falls_to_nothing():
  """By the size of AdamW's steps under a constant gradient."""
  transform = encoder_training.optimizer(settings(steps=100, weight_decay=0.0))
  params = jnp.zeros(1)
  state, sizes = transform.init(params), []
  for _ in range(100):
    updates, state = transform.update(jnp.ones(1), state, params)
    sizes.append(float(-updates[0]))
    params = optax.apply_updates(params, updates)
  assert np.argmax(sizes) == 10
  np.testing.assert_allclose(max(sizes), 3e-3, rtol=1e-3)
  assert sizes[0] == 0 and sizes[-1] < 1e-5


@pytest.mark.parametrize("mirrored", [False, True])
def test_devices_exchange_no_images(mirrored):
  encoder, _, weights = networks()
  config = settings(generated_share=0.25, mirrored=mirrored)
  steps = encoder_training.compile_steps(
    tiny.mesh(4),
    encoder=encoder,
    generator=GENERATOR,
    latent_size=tiny.LATENT_SIZE,
    config=config,
  )
  state = encoder_training.init_state(0, encoder, config)
  faces = np.zeros((32, 64, 64, 3), np.uint8)
  indices = np.zeros((1, 16), np.int32)
  pool = np.ones((2, 64, 64, 1), np.float32)
  text = (
    steps.lower(state, weights, faces, indices, pool, np.uint32(0))
    .compile()
    .as_text()
  )
  assert "num_partitions=4" in text and "all-reduce" in text  # Of gradients.
  assert "all-to-all" not in text and "collective-permute" not in text
  # No device has all of a batch, but for the bytes it looks up.
  assert "f32[4,64,64,3]" in text
  assert not any(f"f32[{n},64,64,3]" in text for n in (16, 32))
