import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_encoder

from dcgan_inpaint.networks import encoder as encoder_lib


@pytest.mark.parametrize(
  "groups, channels, dtype",
  [
    (8, 32, jnp.float32),
    (1, 5, jnp.float32),
    (4, 12, jnp.bfloat16),
    pytest.param(4, 12, jnp.float32, marks=pytest.mark.slow),
    pytest.param(8, 32, jnp.bfloat16, marks=pytest.mark.slow),
    pytest.param(1, 5, jnp.bfloat16, marks=pytest.mark.slow),
  ],
)
def test_the_fast_group_norm_equals_flaxs(groups, channels, dtype):
  rng = np.random.default_rng(0)
  x, pulled = (3 + rng.normal(size=(2, 3, 6, 4, channels))).astype(dtype)
  params = {
    "scale": np.float32(rng.normal(size=channels)),
    "bias": np.float32(rng.normal(size=channels)),
  }

  def values_and_gradients(norm, params, x):
    y, pull_back = jax.vjp(norm.apply, {"params": params}, x)
    return y, *pull_back(pulled.astype(y.dtype))

  # Compiled together, which takes half as long.
  @jax.jit
  def both(*arguments):
    norms = (
      encoder_lib.GroupNorm(groups, dtype=dtype),
      nn.GroupNorm(groups, dtype=dtype),
    )
    key = jax.random.key(0)
    return [
      (norm.init(key, x), values_and_gradients(norm, *arguments))
      for norm in norms
    ]

  (first, ours), (flaxs_first, flaxs) = both(params, x)
  jax.tree.map(np.testing.assert_array_equal, first, flaxs_first)
  pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(flaxs), strict=True)
  bound = 1e-4 if dtype == jnp.float32 else 0.05
  for value, expected in pairs:
    assert value.dtype == expected.dtype
    np.testing.assert_allclose(
      np.float32(value), np.float32(expected), rtol=bound, atol=bound
    )


def test_a_guess_has_the_shapes_of_the_generators_activations():
  images, masks = tiny_encoder.some_images()
  encoder, variables, weights = tiny_encoder.networks()

  def apply(x, method, **options):
    return tiny_encoder.GENERATOR.apply(
      weights, x, train=False, method=method, **options
    )

  @jax.jit
  def activations_and_changes(features):
    first = apply(jnp.zeros((3, tiny.LATENT_SIZE)), "first_activations")
    layers = range(2, 2 + len(features))
    later = [apply(first, "later_activations", last=layer) for layer in layers]
    changed = [
      encoder.apply(variables, *values, method="skip")
      for values in zip(features, later, layers, strict=True)
    ]
    return first, later, changed

  guess = tiny_encoder.encode()(images, masks)
  first, later, changed = activations_and_changes(guess.features)
  assert guess.offset.shape == first.shape == (3, 4, 4, tiny_encoder.FEATURES)
  assert guess.offset.dtype == jnp.float32
  assert len(guess.features) == 1  # Of the layer 2.
  for features, x, y in zip(guess.features, later, changed, strict=True):
    assert features.shape[:3] == x.shape[:3]
    assert y.shape == x.shape and y.min() >= 0


@pytest.mark.parametrize("size, colours", [(32, 1), (128, 3), (256, 1)])
def test_at_other_sizes_a_skip_leads_into_every_later_activation(size, colours):
  generator = tiny.networks(image_size=size, image_channels=colours)[0]
  encoder = encoder_lib.create(tiny_encoder.settings(), generator)
  images = np.zeros((2, *generator.image_shape), np.float32)
  latents = np.zeros((2, tiny.LATENT_SIZE), np.float32)

  def complete():
    key = jax.random.key(0)
    networks = encoder_lib.Networks(
      encoder,
      generator,
      encoder.init(key, images, images[..., :1]),
      generator.init(key, latents, train=False),
    )
    first = generator.apply(
      networks.generator_variables,
      latents,
      train=False,
      method="first_activations",
    )
    guess = encoder.apply(networks.encoder_variables, images, images[..., :1])
    later = [
      networks.later_activations(first, guess.features, last=layer)
      for layer in range(2, generator.layers + 1)
    ]
    whole = networks.generate(first + guess.offset, guess.features)
    return first, guess, later, whole

  first, guess, later, whole = jax.eval_shape(complete)
  assert guess.offset.shape == first.shape == (2, 4, 4, generator.channels[0])
  sides = [4 * 2**layer for layer in range(1, generator.layers)]
  assert sides[-1] == size // 2
  assert [x.shape[1] for x in guess.features] == sides
  assert [x.shape[1:] for x in later] == [
    (side, side, count)
    for side, count in zip(sides, generator.channels[1:], strict=True)
  ]
  assert whole.shape == images.shape


def assert_guesses_equal(actual, expected, **bounds):
  for one, other in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(one, other, **bounds)


def test_what_lies_under_the_hole_is_not_looked_at():
  images, masks = tiny_encoder.some_images()
  guess = tiny_encoder.encode()(images, masks)
  for below in (0.7, np.nan):
    changed = np.where(masks > 0.5, images, np.float32(below))
    assert_guesses_equal(
      tiny_encoder.encode()(changed, masks), guess, rtol=0, atol=0
    )
  for other in ((-images, masks), (images, masks[::-1])):
    pairs = zip(
      tiny_encoder.encode()(*other).features, guess.features, strict=True
    )
    assert (
      np.abs(tiny_encoder.encode()(*other).offset - guess.offset).max() > 1e-3
    )
    assert all(np.abs(a - b).max() > 1e-3 for a, b in pairs)


def test_an_image_does_not_depend_on_its_neighbours():
  images, masks = tiny_encoder.some_images()
  together = tiny_encoder.encode()(images, masks)
  for i in range(3):
    assert_guesses_equal(
      tiny_encoder.encode()(images[i : i + 1], masks[i : i + 1]),
      jax.tree.map(lambda x, i=i: x[i : i + 1], together),
      rtol=1e-4,
      atol=1e-5,
    )


def test_values_are_dropped_in_training_alone():
  images, masks = tiny_encoder.some_images()
  _, variables, _ = tiny_encoder.networks()
  encoder = encoder_lib.create(
    tiny_encoder.settings(dropout=0.25), tiny_encoder.GENERATOR
  )

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
    offset, tiny_encoder.encode()(images, masks).offset, rtol=1e-4, atol=1e-5
  )
  seen = []
  for seed in (0, 0, 1):
    offset, dropped = between(jax.random.key(seed), train=True)
    seen.append(np.asarray(offset))
    assert len(dropped) == len(whole) == 2
    # The second value depends on the dropout of the first.
    left = np.asarray(dropped[0]) != 0
    np.testing.assert_allclose(
      dropped[0][left], whole[0][left] / 0.75, rtol=1e-4, atol=1e-5
    )
    assert 0.6 < left[np.asarray(whole[0]) != 0].mean() < 0.9
  np.testing.assert_array_equal(seen[0], seen[1])
  assert np.abs(seen[0] - seen[2]).max() > 1e-3


def test_the_first_guess_is_near_the_face_of_no_offset():
  encoder = encoder_lib.create(tiny_encoder.settings(), tiny_encoder.GENERATOR)
  variables = tiny_encoder.first_variables(encoder)
  guess = jax.jit(encoder.apply)(variables, *tiny_encoder.some_images())
  assert np.abs(guess.offset).max() < 0.1
  for layer, features in enumerate(guess.features, start=2):
    count = encoder.skips[layer - 2]
    later = np.float32(np.random.default_rng(0).random(features.shape))
    later = np.resize(later, (*features.shape[:3], count))
    same = encoder.apply(variables, features, later, layer, method="skip")
    np.testing.assert_array_equal(same, later)
