"""The search of one image from one start, compared with explicit equations."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_search

from dcgan_inpaint.networks import losses
from dcgan_inpaint.search import latent_search


def objective(latent, index, images, masks, **options):
  """Returns the loss of a start of `SKETCH` at a latent, and its image."""
  function = compiled_objective(tuple(options.items()))
  return function(latent, problem(images[index], masks[index]))


@functools.cache
def compiled_objective(options):
  networks = tiny_search.networks()
  settings = tiny_search.settings(**dict(options))

  def function(latent, problem):
    state = latent_search.State(np.uint32(0), latent)
    return latent_search.objective(
      networks, settings, tiny_search.SKETCH_WEIGHTS, state, problem
    )

  return jax.jit(function)


def problem(image, mask):
  return latent_search.Problem(image, mask, np.uint32(0), np.uint32(0))


# --- what is minimised --------------------------------------------------------


@pytest.mark.parametrize("prior_weight", [0.0, 0.1, 30.0])
def test_the_objective_is_the_papers_equation(prior_weight):
  generate = jax.jit(
    functools.partial(tiny_search.SKETCH[0].apply, train=False)
  )
  images, masks = tiny_search.some_images()
  for index in range(3):
    latent = tiny_search.start(index, 0)
    loss, generated = objective(
      latent, index, images, masks, prior_weight=prior_weight
    )
    expected = tiny_search.papers_objective(
      latent, images[index], masks[index], prior_weight
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    expected = generate(tiny_search.SKETCH_WEIGHTS.generator, latent[None])
    np.testing.assert_allclose(generated[None], expected, rtol=1e-5, atol=1e-6)


def test_importance_takes_the_masks_place_in_the_contextual_loss():
  images, masks = tiny_search.some_images()
  for index in range(3):
    latent = tiny_search.start(index, 0)
    loss, _ = objective(
      latent, index, images, masks, prior_weight=0.1, importance=True
    )
    expected = tiny_search.papers_objective(
      latent, images[index], losses.importance(masks[index]), 0.1
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


# --- the stages ---------------------------------------------------------------


@pytest.mark.parametrize(
  "options, expected",
  [
    ({}, [("latent", 8)]),
    ({"steps": 0}, []),
    ({"refine_steps": 3}, [("latent", 8), ("activations", 3)]),
    (
      {"start": "encoder", "refine_steps": 3},
      [("latent", 8), ("offset", 3), ("activations", 3)],
    ),
    (
      {"mode": "fidelity", "steps": None},
      [("offset", 30), ("activations", 30)],
    ),
  ],
)
def test_the_stages_are_those_that_have_steps(options, expected):
  stages = latent_search.stages(tiny_search.settings(**options))
  assert [(stage.variable, stage.steps) for stage in stages] == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_each_stage_moves_its_own_variable_alone(number):
  """With the functions of one start, whose result is the whole search's."""
  (image,), (mask,) = tiny_search.some_images(1)
  weights, y = tiny_search.parts_weights(), problem(image, mask)
  options = {"start": "encoder", "steps": 2, "refine_steps": 3, "starts": 2}
  settings = tiny_search.settings(**options)
  networks = tiny_search.networks(
    tiny_search.PARTS, encoder=tiny_search.ENCODER
  )

  @jax.jit
  def begin(number):
    encoded = tiny_search.ENCODER.apply(
      weights.encoder, image[None], mask[None]
    )
    return latent_search.begin(
      networks,
      settings,
      jax.random.fold_in(jax.random.key(settings.seed), 4),
      number,
      jax.tree.map(lambda x: x[0], encoded),
    )

  state = begin(np.uint32(number))
  for stage in latent_search.stages(settings):
    enter, step = (
      jax.jit(functools.partial(function, networks, settings, stage))
      for function in (latent_search.enter, latent_search.step)
    )
    state = before = enter(weights, state)
    for _ in range(stage.steps):
      state = step(weights, state, y)
    moved = {
      name
      for name in ("latent", "offset", "activations")
      if not np.array_equal(getattr(before, name), getattr(state, name))
    }
    # The encoder's own start does not settle.
    settles = stage.variable != "offset" or number > 0
    assert moved == ({stage.variable} if settles else set())
  objective = functools.partial(latent_search.objective, networks, settings)
  loss, _ = jax.jit(objective)(weights, state, y)
  search = tiny_search.make(
    tiny_search.PARTS, 1, encoder=tiny_search.ENCODER, **options
  )
  found = search(weights, image[None], mask[None], indices=[4])
  np.testing.assert_allclose(found.loss[0, number], loss, rtol=1e-5)


def test_the_search_is_adam_on_the_papers_equation():
  """Compared with a straightforward loop for one image."""
  # The paper's networks without their larger layers.
  images, masks = tiny_search.some_images(4, side=16)
  generator, discriminator = networks = tiny.networks(image_size=16)
  weights = tiny.weights(*networks)
  search = tiny_search.make(networks, 4, steps=5, starts=2)
  found = search(weights, images, masks)

  @jax.value_and_grad
  def objective(latent, weights, image, mask):
    generated = generator.apply(weights.generator, latent[None], train=False)
    logit = discriminator.apply(weights.discriminator, generated, train=False)
    prior = jnp.log(1 - jax.nn.sigmoid(logit[0, 0]))
    return jnp.sum(jnp.abs(mask * generated[0] - mask * image)) + 0.1 * prior

  adam = optax.adam(optax.cosine_decay_schedule(0.03, 5))

  @jax.jit
  def step(latent, state, image, mask):
    value, gradient = objective(latent, weights, image, mask)
    update, state = adam.update(gradient, state)
    return value, jnp.clip(latent + update, -1, 1), state

  for index in range(4):
    values = []
    for number in range(2):
      latent = tiny_search.start(index, number)
      state = adam.init(latent)
      for _ in range(5):
        _, latent, state = step(latent, state, images[index], masks[index])
      value, *_ = step(latent, state, images[index], masks[index])
      values.append(value)
    np.testing.assert_allclose(found.loss[index], values, rtol=1e-4)


@pytest.mark.parametrize(
  "learning_rate", [pytest.param(1.0, marks=pytest.mark.slow), 100.0]
)
def test_latents_stay_where_the_generator_was_trained(learning_rate):
  images, masks = tiny_search.some_images()
  search = tiny_search.make(
    optimizer="sgd", learning_rate=learning_rate, steps=3
  )
  latents = search(tiny_search.SKETCH_WEIGHTS, images, masks).latent
  assert latents.shape == (tiny_search.COUNT, tiny.LATENT_SIZE)
  assert np.abs(latents).max() == 1


def test_the_loss_of_every_start_is_that_of_its_latent_and_falls():
  images, masks = tiny_search.some_images()
  result = tiny_search.default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  assert result.loss.shape == (tiny_search.COUNT, 3)
  for index, row in enumerate(result.loss):
    found = tiny_search.papers_objective(
      result.latent[index], images[index], masks[index], 0.1
    )
    # The lowest loss of its starts, and below each one's initial loss.
    np.testing.assert_allclose(found, row.min(), rtol=1e-5)
    for number, loss in enumerate(row):
      begin = tiny_search.papers_objective(
        tiny_search.start(index, number), images[index], masks[index], 0.1
      )
      assert loss < begin


# --- the encoder and the activations inside G ---------------------------------


@functools.cache
def skips_by_hand():
  """Returns images, masks, weights, and the images of E's output."""
  encoder, variables = tiny_search.dcgan_encoder()
  weights = tiny_search.dcgan_weights()._replace(encoder=variables)
  images, masks = tiny_search.some_images(2, side=tiny.SIZE)
  expected, changes = jax.jit(by_hand)(
    *jax.jit(encoder.apply)(variables, images, masks), weights
  )
  assert len(changes) == 3
  assert min(np.abs(change).max() for change in changes) > 1e-3
  return images, masks, weights, expected


def by_hand(offsets, features, weights):
  """Returns the images of E's offsets and features, and the skips' changes."""
  encoder = weights.encoder["params"]

  def apply(x, method, **options):
    return tiny_search.DCGAN[0].apply(
      weights.generator, x, train=False, method=method, **options
    )

  origin = apply(jnp.zeros((1, tiny.LATENT_SIZE)), "first_activations")
  activations, changes = origin + offsets, []
  for layer, found in enumerate(features, start=2):
    x = apply(activations, "later_activations", first=layer - 1, last=layer)
    dense = encoder[f"skip_{layer}"]
    inner = jnp.concatenate([found, x], axis=-1) @ dense["in"]["kernel"]
    inner = jnp.maximum(inner + dense["in"]["bias"], 0)
    change = inner @ dense["out"]["kernel"] + dense["out"]["bias"]
    changes.append(change)
    activations = jnp.maximum(x + change, 0)
  return apply(activations, "from_activations", layer=4), changes


def test_without_steps_what_the_encoder_gives_fills_the_hole():
  images, masks = tiny_search.some_images()
  found = tiny_search.from_encoder()(tiny_search.parts_weights(), images, masks)
  _, generated = tiny_search.encoded(images, masks)
  np.testing.assert_allclose(found.generated, generated, atol=1e-6)
  expected = np.where(masks > 0.5, images, generated)
  np.testing.assert_allclose(found.completed, expected, atol=1e-6)
  np.testing.assert_array_equal(found.latent, 0)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [1, 3, 4])
def test_skips_change_what_lies_between_the_offset_and_its_image(layer):
  images, masks, weights, expected = skips_by_hand()
  encoder, _ = tiny_search.dcgan_encoder()
  search = tiny_search.make(
    tiny_search.DCGAN, 2, encoder=encoder, start="encoder", steps=0, starts=1,
    # It starts at E's output, and stays there.
    refine_steps=1, refine_learning_rate=1e-9, refine_layer=layer,
  )  # fmt: skip
  found = search(weights, images, masks)
  np.testing.assert_allclose(found.generated, expected, atol=1e-4)


def test_samples_after_the_first_lie_around_the_encoders_own():
  images, masks = tiny_search.some_images(1)
  repeated = np.repeat(images, 4, axis=0), np.repeat(masks, 4, axis=0)
  found = {
    spread: tiny_search.from_encoder(spread=spread)(
      tiny_search.parts_weights(), *repeated, indices=[7] * 4, samples=range(4)
    ).generated
    for spread in (0.0, 0.1, 0.5)
  }
  (first,) = tiny_search.from_encoder()(
    tiny_search.parts_weights(), images, masks, indices=[7]
  ).generated
  away = {
    spread: np.abs(generated - first).mean(axis=(1, 2, 3))
    for spread, generated in found.items()
  }
  assert not away[0.0].any() and not away[0.1][0] and not away[0.5][0]
  assert np.all(away[0.1][1:] > 0) and np.all(away[0.5] >= 2 * away[0.1])
  for a, b in itertools.combinations(found[0.5], 2):
    assert np.abs(a - b).mean() > 0.01


def test_samples_after_the_first_settle_in_the_first_activations():
  """By the same steps, on the objective with its proximal term, of sample 1."""
  images, masks = tiny_search.some_images(1)
  weights = tiny_search.parts_weights()
  offsets, _ = tiny_search.encoded(images, masks)
  search = tiny_search.from_encoder(
    refine_layer=2,
    refine_steps=3,
    refine_learning_rate=1e-9,  # The second activations do not move.
    spread=0.7,
    prior_weight=0.0,
  )
  found = search(
    weights,
    *(np.repeat(x, 2, axis=0) for x in (images, masks)),
    indices=[4, 4],
    samples=[0, 1],
  )
  alone = search(weights, images, masks, indices=[4])
  np.testing.assert_allclose(found.generated[0], alone.generated[0], atol=1e-6)

  def apply(x, method):
    return tiny_search.PARTS[0].apply(
      weights.generator, x, train=False, method=method
    )

  def generated(offset):
    first = apply(found.latent[1:], "first_activations")
    return apply(first + offset, "from_activations")

  @jax.value_and_grad
  def objective(offset):
    contextual = jnp.sum(masks * jnp.abs(generated(offset) - images))
    return contextual + jnp.sum((offset - offsets) ** 2)

  assert np.abs(found.latent[1]).max() > 0.1 and not found.latent[0].any()
  adam = optax.adam(optax.cosine_decay_schedule(0.01, 3))

  @jax.jit
  def settled(offsets):
    offset, state = offsets, adam.init(offsets)
    for _ in range(3):
      update, state = adam.update(objective(offset)[1], state)
      offset = offset + update
    return generated(offset), generated(offsets)

  after, before = settled(offsets)
  np.testing.assert_allclose(found.generated[1:], after, atol=1e-5)
  assert np.abs(found.generated[1:] - before).max() > 1e-3


@pytest.mark.parametrize("layer", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_refinement_is_adam_on_the_objective_with_its_pull(layer):
  images, masks = tiny_search.some_images(1)
  weights = tiny_search.parts_weights()
  offsets, _ = tiny_search.encoded(images, masks)

  def apply(x, method, **options):
    return tiny_search.PARTS[0].apply(
      weights.generator, x, train=False, method=method, **options
    )

  @jax.value_and_grad
  def objective(activations, origin):
    generated = apply(activations, "from_activations", layer=layer)
    logit = tiny_search.PARTS[1].apply(
      weights.discriminator, generated, train=False
    )
    return (
      jnp.sum(masks * jnp.abs(generated - images))
      + 0.5 * jnp.log(1 - jax.nn.sigmoid(logit[0, 0]))
      + 0.7 * jnp.sum((activations - origin) ** 2)
    )

  adam = optax.adam(optax.cosine_decay_schedule(0.02, 4))

  @jax.jit
  def refined(offsets):
    first = apply(jnp.zeros((1, tiny.LATENT_SIZE)), "first_activations")
    origin = apply(first + offsets, "later_activations", last=layer)
    activations, state = origin, adam.init(origin)
    for _ in range(4):
      _, gradient = objective(activations, origin)
      update, state = adam.update(gradient, state)
      activations = activations + update
    return (
      objective(origin, origin)[0],
      objective(activations, origin)[0],
      apply(activations, "from_activations", layer=layer),
    )

  before, after, generated = refined(offsets)
  search = tiny_search.from_encoder(
    refine_steps=4,
    refine_layer=layer,
    refine_learning_rate=0.02,
    proximal_weight=0.7,
    prior_weight=0.5,
  )
  found = search(weights, images, masks)
  assert after < 0.99 * before
  np.testing.assert_allclose(found.loss[0, 0], after, rtol=1e-5)
  np.testing.assert_allclose(found.generated, generated, atol=1e-5)


@pytest.mark.slow
def test_a_strong_pull_leaves_the_activations_where_they_are():
  images, masks = tiny_search.some_images()
  _, generated = tiny_search.encoded(images, masks)
  moved = {}
  for pull in (0.0, 1e6):
    search = tiny_search.from_encoder(
      refine_steps=20, proximal_weight=pull, optimizer="lbfgs"
    )
    found = search(tiny_search.parts_weights(), images, masks)
    moved[pull] = np.abs(found.generated - generated).max()
  assert moved[1e6] < 1e-3 < 0.05 < moved[0.0]


@pytest.mark.slow
def test_random_latents_are_refined_too():
  images, masks = tiny_search.some_images()
  weights = tiny_search.parts_weights()
  plain = tiny_search.make(tiny_search.PARTS, steps=5, starts=2)(
    weights, images, masks
  )
  refined = tiny_search.make(
    tiny_search.PARTS, steps=5, starts=2, refine_steps=5, proximal_weight=0.1
  )(weights, images, masks)
  assert np.all(refined.loss < plain.loss)
