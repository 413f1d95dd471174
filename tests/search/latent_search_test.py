import dataclasses
import functools
import itertools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_search

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.networks import losses
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import details
from dcgan_inpaint.search import latent_search

# Compiled once for all tests that need nothing special.
default = functools.cache(tiny_search.make)


def start(index, number, seed=0):
  """Returns the latent from which a start of an image sets out."""
  key = jax.random.fold_in(jax.random.key(seed), index)
  key = jax.random.fold_in(key, number)
  return dcgan.sample_latents(key, 1, tiny.LATENT_SIZE)[0]


def at(latent):
  """Returns the state of a start that stands at a latent."""
  return latent_search.SearchState(
    np.uint32(0), latent, None, (), None, None, ()
  )


def papers_objective(networks, weights, latent, image, mask, prior_weight):
  """Returns equation 3 in numpy, of what the networks give."""
  generator, discriminator = networks
  generated = generator.apply(weights.generator, latent[None], train=False)
  logits = discriminator.apply(weights.discriminator, generated, train=False)
  probability = 1 / (1 + np.exp(-np.float64(logits[0, 0])))
  known = np.float64(mask) * generated[0] - np.float64(mask) * image
  return np.abs(known).sum() + prior_weight * np.log(1 - probability)


# --- what is minimised --------------------------------------------------------


@pytest.mark.parametrize("prior_weight", [0.0, 0.1, 30.0])
def test_the_objective_is_the_papers_equation(prior_weight):
  images, masks = tiny_search.some_images()
  search = tiny_search.make(prior_weight=prior_weight)
  for index in range(3):
    latent = start(index, 0)
    loss, generated = search.objective(
      at(latent), tiny_search.SKETCH_WEIGHTS, images[index], masks[index]
    )
    expected = papers_objective(
      tiny_search.SKETCH,
      tiny_search.SKETCH_WEIGHTS,
      latent,
      images[index],
      masks[index],
      prior_weight,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(
      generated[None],
      tiny_search.SKETCH[0].apply(
        tiny_search.SKETCH_WEIGHTS.generator, latent[None], train=False
      ),
      rtol=1e-5,
      atol=1e-6,
    )


def test_importance_takes_the_masks_place_in_the_contextual_loss():
  images, masks = tiny_search.some_images()
  search = tiny_search.make(prior_weight=0.1, importance=True)
  for index in range(3):
    latent = start(index, 0)
    loss, _ = search.objective(
      at(latent), tiny_search.SKETCH_WEIGHTS, images[index], masks[index]
    )
    expected = papers_objective(
      tiny_search.SKETCH,
      tiny_search.SKETCH_WEIGHTS,
      latent,
      images[index],
      losses.importance(masks[index]),
      0.1,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_loss_of_every_start_is_that_of_its_latent_and_falls():
  images, masks = tiny_search.some_images()
  result = default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  assert result.loss.shape == (tiny_search.COUNT, 3)
  for index, row in enumerate(result.loss):
    found = papers_objective(
      tiny_search.SKETCH,
      tiny_search.SKETCH_WEIGHTS,
      result.latent[index],
      images[index],
      masks[index],
      0.1,
    )
    # The lowest of its starts, and below where each of them began.
    np.testing.assert_allclose(found, row.min(), rtol=1e-5)
    for number, loss in enumerate(row):
      begin = papers_objective(
        tiny_search.SKETCH,
        tiny_search.SKETCH_WEIGHTS,
        start(index, number),
        images[index],
        masks[index],
        0.1,
      )
      assert loss < begin


def test_more_starts_leave_the_first_as_it_was():
  images, masks = tiny_search.some_images()
  one = tiny_search.make(starts=1)(tiny_search.SKETCH_WEIGHTS, images, masks)
  three = default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  np.testing.assert_allclose(one.loss[:, 0], three.loss[:, 0], rtol=1e-5)
  assert np.any(three.loss.argmin(axis=1) > 0)


def test_a_start_whose_loss_is_not_finite_does_not_win():
  def prior(logits):
    return jnp.where(logits[:, 0] > 0.6, jnp.nan, 0.0)

  loss = dataclasses.replace(tiny_search.LOSS, prior=prior)
  images, masks = tiny_search.some_images()
  # Too slow to leave the place where they start.
  search = tiny_search.make(loss=loss, starts=8, learning_rate=1e-6)
  result = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  lost = np.isnan(result.loss)
  assert np.all(lost.any(axis=1) & ~lost.all(axis=1))
  for index, row in enumerate(result.loss):
    found = papers_objective(
      tiny_search.SKETCH,
      tiny_search.SKETCH_WEIGHTS,
      result.latent[index],
      images[index],
      masks[index],
      0.0,
    )
    np.testing.assert_allclose(found, np.nanmin(row), rtol=1e-5)


@pytest.mark.parametrize("learning_rate", [1.0, 100.0])
def test_latents_stay_where_the_generator_was_trained(learning_rate):
  images, masks = tiny_search.some_images()
  search = tiny_search.make(
    optimizer="sgd", learning_rate=learning_rate, steps=3
  )
  latents = search(tiny_search.SKETCH_WEIGHTS, images, masks).latent
  assert latents.shape == (tiny_search.COUNT, tiny.LATENT_SIZE)
  assert np.abs(latents).max() == 1


# --- the completed image ------------------------------------------------------


def test_known_pixels_come_back_to_the_bit():
  images, masks = tiny_search.some_images()
  images[0, 0, 0] = [-0.0, np.float32(1e-42), 3e38]
  masks[0, 0, 0] = 1
  result = default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  known = np.broadcast_to(masks > 0, images.shape)
  np.testing.assert_array_equal(
    result.completed.view(np.uint32)[known], images.view(np.uint32)[known]
  )
  np.testing.assert_array_equal(
    result.completed[~known], result.generated[~known]
  )
  assert np.any(result.generated[known] != images[known])


@pytest.mark.parametrize("secret", [np.nan, np.inf, 0.0])
def test_what_the_hole_hides_does_not_matter(secret):
  images, masks = tiny_search.some_images()
  hidden = np.where(masks > 0, images, np.float32(secret))
  tiny_search.assert_results_equal(
    default()(tiny_search.SKETCH_WEIGHTS, hidden, masks),
    default()(tiny_search.SKETCH_WEIGHTS, images, masks),
  )


# --- many images --------------------------------------------------------------


def test_vmapped_equals_one_by_one():
  images, masks = tiny_search.some_images()
  together = default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  alone = tiny_search.make(devices=1, batch_size=1)
  for index in range(tiny_search.COUNT):
    one = slice(index, index + 1)
    # Not to the bit: a product of one row is summed in another order.
    tiny_search.assert_results_close(
      alone(
        tiny_search.SKETCH_WEIGHTS, images[one], masks[one], indices=[index]
      ),
      latent_search.Result(*(value[one] for value in together)),
      1e-5,
    )


def test_permuting_the_images_permutes_the_results():
  images, masks = tiny_search.some_images()
  order = np.array([5, 2, 0, 3, 1, 4])
  search = default()
  straight = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  # An image's starts are drawn by its number, which goes with it.
  permuted = search(
    tiny_search.SKETCH_WEIGHTS, images[order], masks[order], indices=order
  )
  tiny_search.assert_results_equal(
    permuted, latent_search.Result(*(value[order] for value in straight))
  )


def test_neighbours_do_not_matter():
  images, masks = tiny_search.some_images(4)
  others = images.copy(), masks.copy()
  for mine, other in zip(
    others, tiny_search.some_images(4, seed=1), strict=True
  ):
    mine[[0, 3]] = other[[0, 3]]
  expected = default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  actual = default()(tiny_search.SKETCH_WEIGHTS, *others)
  tiny_search.assert_results_equal(actual, expected, rows=slice(1, 3))
  assert np.any(actual.latent[0] != expected.latent[0])


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_a_set_may_be_cut_into_several_calls(cut):
  images, masks = tiny_search.some_images()
  search = default()
  parts = [
    search(tiny_search.SKETCH_WEIGHTS, images[:cut], masks[:cut]),
    search(
      tiny_search.SKETCH_WEIGHTS,
      images[cut:],
      masks[cut:],
      indices=range(cut, tiny_search.COUNT),
    ),
  ]
  joined = latent_search.Result(
    *(np.concatenate(values) for values in zip(*parts, strict=True))
  )
  tiny_search.assert_results_equal(
    joined, search(tiny_search.SKETCH_WEIGHTS, images, masks)
  )


def test_padding_of_a_ragged_batch_changes_nothing():
  images, masks = tiny_search.some_images(5)
  finished = []
  padded = default()(
    tiny_search.SKETCH_WEIGHTS, images, masks, on_batch=finished.append
  )
  assert finished == [4, 1]
  assert len(padded.completed) == 5
  full_images, full_masks = tiny_search.some_images(8, seed=3)
  full_images[:5], full_masks[:5] = images, masks
  full = default()(tiny_search.SKETCH_WEIGHTS, full_images, full_masks)
  tiny_search.assert_results_equal(padded, full, rows=slice(5))


def traced(**options):
  """Returns a search, and a list that grows whenever its loss is traced."""
  traces = []

  def prior(logits):
    traces.append(logits.shape)
    return tiny_search.LOSS.prior(logits)

  loss = dataclasses.replace(tiny_search.LOSS, prior=prior)
  return tiny_search.make(loss=loss, **options), traces


def test_ragged_batches_are_traced_once():
  search, traces = traced()
  images, masks = tiny_search.some_images(11)
  search(tiny_search.SKETCH_WEIGHTS, images[:4], masks[:4])
  once = len(traces)
  assert once > 0
  for count in (11, 4, 3, 9):
    search(tiny_search.SKETCH_WEIGHTS, images[:count], masks[:count])
  assert len(traces) == once


def test_after_warm_up_nothing_is_left_to_trace():
  search, traces = traced(steps=5, steps_per_call=2)
  images, masks = tiny_search.some_images(9)
  shape = (search.batch_size(len(images)), *images.shape[1:])
  search.warm_up(tiny_search.SKETCH_WEIGHTS, shape)
  warm = len(traces)
  assert warm > 0
  search(tiny_search.SKETCH_WEIGHTS, images, masks)
  assert len(traces) == warm


def test_calls_of_one_size_share_what_is_compiled():
  search, traces = traced(batch_size=8)
  images, masks = tiny_search.some_images(8)
  large = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  once = len(traces)
  small = search(tiny_search.SKETCH_WEIGHTS, images[:2], masks[:2], size=8)
  assert len(traces) == once
  tiny_search.assert_results_equal(
    small, latent_search.Result(*(value[:2] for value in large))
  )


@pytest.mark.parametrize(
  "devices, batch_size, count, expected",
  [
    (1, 64, 1, 1),
    (1, 64, 3, 4),
    (4, 64, 1, 4),
    (4, 64, 5, 8),
    (4, 64, 64, 64),
    (4, 64, 1000, 64),
    (3, 66, 4, 6),
    (3, 66, 64, 66),
  ],
)
def test_few_images_do_not_pay_for_a_whole_batch(
  devices, batch_size, count, expected
):
  search = tiny_search.make(devices=devices, batch_size=batch_size)
  assert search.batch_size(count) == expected


def test_a_batch_that_the_devices_do_not_divide_is_refused():
  with pytest.raises(errors.UserError, match="config.search.batch_size=6.*8"):
    tiny_search.make(batch_size=6)


@pytest.mark.parametrize("steps_per_call", [3, 8, 20])
def test_steps_per_call_do_not_matter(steps_per_call):
  images, masks = tiny_search.some_images(4)
  search = tiny_search.make(steps_per_call=steps_per_call)
  tiny_search.assert_results_close(
    search(tiny_search.SKETCH_WEIGHTS, images, masks),
    default()(tiny_search.SKETCH_WEIGHTS, images, masks),
    1e-5,
  )


def test_the_seed_draws_the_starts():
  images, masks = tiny_search.some_images(4)
  first = default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  other = tiny_search.make(seed=1)(tiny_search.SKETCH_WEIGHTS, images, masks)
  assert np.all(first.latent != other.latent)


# --- optimisers ---------------------------------------------------------------


@pytest.mark.parametrize(
  "name, learning_rate",
  [
    ("sgd", 1e-3),
    ("adam", 0.05),
    ("nadam", 0.05),
    ("rmsprop", 0.02),
    ("lion", 0.02),
    ("lbfgs", 1.0),
    ("prodigy", 1.0),  # Of optax.contrib.
  ],
)
def test_any_optimiser_of_optax_finds_a_generated_face(name, learning_rate):
  wanted = jnp.stack([start(100, number) for number in range(4)])
  images = np.asarray(
    tiny_search.SKETCH[0].apply(
      tiny_search.SKETCH_WEIGHTS.generator, wanted, train=False
    )
  )
  masks = tiny_search.some_images(4)[1]
  search = tiny_search.make(
    optimizer=name,
    learning_rate=learning_rate,
    schedule="constant",
    steps=60,
    prior_weight=0.0,
    starts=2,
  )
  result = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  begun = [
    papers_objective(
      tiny_search.SKETCH,
      tiny_search.SKETCH_WEIGHTS,
      start(index, 0),
      images[index],
      masks[index],
      0.0,
    )
    for index in range(4)
  ]
  assert result.loss.min(axis=1).mean() < 0.5 * np.mean(begun)


@pytest.mark.parametrize(
  "name",
  ["adamm", "", "losses", "softmax_cross_entropy", "linear_schedule", "chain"],
)
def test_what_is_no_optimiser_is_refused(name):
  with pytest.raises(errors.UserError) as error:
    tiny_search.make(optimizer=name)
  message = str(error.value)
  assert message.startswith(f"config.search.optimizer={name!r}")
  assert "adam, sgd, rmsprop, nadam, lion or lbfgs" in message


def test_the_cosine_falls_to_nothing():
  optimizer = latent_search.optimizer("sgd", 2.0, "cosine", 4)
  state = optimizer.init(jnp.zeros(()))
  for step in range(6):
    update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
    rate = 1 + np.cos(np.pi * min(step, 4) / 4)
    np.testing.assert_allclose(update, -rate, atol=1e-6)


# --- the DCGAN's own networks, over devices -----------------------------------

DCGAN = tiny.networks()


@functools.cache
def dcgan_weights():
  return tiny.weights(*DCGAN)


@functools.cache
def dcgan_encoder():
  settings = config_lib.encoder()
  settings.width = tiny.WIDTH
  encoder = encoder_lib.create(settings, DCGAN[0])
  images, masks = tiny_search.some_images(1, side=tiny.SIZE)
  variables = encoder.init(jax.random.key(0), images, masks)
  # No value stays at nought, as the skips' are at first.
  rng = np.random.RandomState(0)
  return encoder, jax.tree.map(
    lambda leaf: leaf + np.float32(0.1 * rng.randn(*leaf.shape)), variables
  )


@functools.cache
def dcgan_result(devices):
  images, masks = tiny_search.some_images(4, side=tiny.SIZE)
  search = default(DCGAN, devices, steps=5, starts=2)
  return search(dcgan_weights(), images, masks)


def test_one_and_four_devices_find_the_same():
  tiny_search.assert_results_close(dcgan_result(4), dcgan_result(1), 1e-5)


def test_the_search_is_adam_on_the_papers_equation():
  """Against a loop that a reader would write first, of one image."""
  images, masks = tiny_search.some_images(4, side=tiny.SIZE)
  generator, discriminator = DCGAN
  weights = dcgan_weights()

  @jax.jit
  @jax.value_and_grad
  def objective(latent, weights, image, mask):
    generated = generator.apply(weights.generator, latent[None], train=False)
    logit = discriminator.apply(weights.discriminator, generated, train=False)
    prior = jnp.log(1 - jax.nn.sigmoid(logit[0, 0]))
    return jnp.sum(jnp.abs(mask * generated[0] - mask * image)) + 0.1 * prior

  adam = optax.adam(optax.cosine_decay_schedule(0.03, 5))
  for index in range(4):
    values = []
    for number in range(2):
      latent = start(index, number)
      state = adam.init(latent)
      for _ in range(5):
        _, gradient = objective(latent, weights, images[index], masks[index])
        update, state = adam.update(gradient, state)
        latent = jnp.clip(latent + update, -1, 1)
      value, _ = objective(latent, weights, images[index], masks[index])
      values.append(value)
    np.testing.assert_allclose(dcgan_result(4).loss[index], values, rtol=1e-4)


COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)


@pytest.mark.parametrize("start", ["random", "encoder"])
def test_devices_have_nothing_to_say_to_each_other(start):
  encoder, encoder_variables = dcgan_encoder()
  search = tiny_search.make(
    DCGAN, 4, encoder=encoder, steps=5, starts=2, start=start, refine_steps=2,
    refine_layer=3,
  )  # fmt: skip
  weights = dcgan_weights()._replace(encoder=encoder_variables)
  images, masks = tiny_search.some_images(4, side=tiny.SIZE)
  indices = np.arange(4, dtype=np.uint32)
  batch = (images, masks)
  begun = (weights, np.uint32(0), indices, 0 * indices, *batch)
  stage = len(search._stages) - 1
  states = search._enter(search._begin(*begun), weights, stage)
  programs = (
    search._begin.lower(*begun),
    search._enter.lower(states, weights, stage),
    search._advance.lower(states, weights, *batch, stage, 1),
    search._end.lower(states, weights, *batch),
  )
  for lowered in programs:
    compiled = lowered.compile()
    assert not [name for name in COLLECTIVES if name in compiled.as_text()]
    for leaf in jax.tree.leaves(compiled.output_shardings):
      assert len(leaf.device_set) == 4
      assert not leaf.is_fully_replicated


# --- the encoder and the activations inside G ---------------------------------


class Parts(nn.Module):
  """The smallest G with activations inside, of two layers."""

  def setup(self):
    self.dense = nn.Dense(4 * 4 * 2)
    self.middle = nn.Dense(24)
    self.out = nn.Dense(tiny_search.SIDE * tiny_search.SIDE * 3)

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
    return nn.tanh(self.out(x)).reshape(
      -1, tiny_search.SIDE, tiny_search.SIDE, 3
    )


class Guess(nn.Module):
  """The smallest E."""

  @nn.compact
  def __call__(self, images, masks):
    x = jnp.concatenate([images * masks, masks], axis=-1)
    offsets = nn.Dense(4 * 4 * 2)(x.reshape(len(x), -1))
    return encoder_lib.EncoderOutput(offsets.reshape(-1, 4, 4, 2))


PARTS = (Parts(), tiny_search.Critic())
GUESS = Guess()


@functools.cache
def parts_weights():
  images, masks = tiny_search.some_images(1)
  return latent_search.Weights(
    tiny.variables(PARTS[0], jnp.zeros((1, tiny.LATENT_SIZE))),
    tiny_search.SKETCH_WEIGHTS.discriminator,
    GUESS.init(jax.random.key(3), images, masks),
  )


def guessed(images, masks):
  """Returns E's offsets and what G makes of them."""
  weights = parts_weights()
  offsets = GUESS.apply(weights.encoder, images, masks).offset
  origin = PARTS[0].apply(
    weights.generator,
    jnp.zeros((1, tiny.LATENT_SIZE)),
    train=False,
    method="first_activations",
  )
  generated = PARTS[0].apply(
    weights.generator, origin + offsets, train=False, method="from_activations"
  )
  return offsets, np.asarray(generated)


def from_guess(**options):
  options = {"start": "encoder", "steps": 0, "starts": 1, **options}
  return tiny_search.make(PARTS, encoder=GUESS, **options)


def test_without_steps_the_encoders_guess_fills_the_hole():
  images, masks = tiny_search.some_images()
  found = from_guess()(parts_weights(), images, masks)
  _, generated = guessed(images, masks)
  np.testing.assert_allclose(found.generated, generated, atol=1e-6)
  expected = np.where(masks > 0.5, images, generated)
  np.testing.assert_allclose(found.completed, expected, atol=1e-6)
  np.testing.assert_array_equal(found.latent, 0)


def skips_by_hand(offsets, features, weights):
  """Returns what G makes of E's offsets and features."""
  encoder = weights.encoder["params"]

  def apply(x, method, **options):
    return DCGAN[0].apply(
      weights.generator, x, train=False, method=method, **options
    )

  origin = apply(jnp.zeros((1, tiny.LATENT_SIZE)), "first_activations")
  activations = origin + offsets
  for layer, found in enumerate(features, start=2):
    x = apply(activations, "later_activations", first=layer - 1, last=layer)
    dense = encoder[f"skip_{layer}"]
    inner = np.concatenate([found, x], axis=-1) @ dense["in"]["kernel"]
    inner = np.maximum(inner + dense["in"]["bias"], 0)
    change = inner @ dense["out"]["kernel"] + dense["out"]["bias"]
    assert np.abs(change).max() > 1e-3
    activations = np.maximum(x + change, 0)
  return apply(activations, "from_activations", layer=4)


@pytest.mark.parametrize("layer", [1, 3, 4])
def test_skips_change_what_lies_between_the_guess_and_its_image(layer):
  encoder, variables = dcgan_encoder()
  weights = dcgan_weights()._replace(encoder=variables)
  images, masks = tiny_search.some_images(2, side=tiny.SIZE)
  guess = encoder.apply(variables, images, masks)
  expected = skips_by_hand(*guess, weights)
  search = tiny_search.make(
    DCGAN, 2, encoder=encoder, start="encoder", steps=0, starts=1,
    # It sets out from the guess, and goes nowhere.
    refine_steps=1, refine_learning_rate=1e-9, refine_layer=layer,
  )  # fmt: skip
  found = search(weights, images, masks)
  np.testing.assert_allclose(found.generated, expected, atol=1e-4)


def test_the_starts_of_a_sample_follow_those_of_the_sample_before():
  images, masks = tiny_search.some_images(2)
  six = tiny_search.make(starts=6)(tiny_search.SKETCH_WEIGHTS, images, masks)
  for sample in range(3):
    two = tiny_search.make(starts=2)(
      tiny_search.SKETCH_WEIGHTS, images, masks, samples=[sample] * 2
    )
    own = slice(2 * sample, 2 * sample + 2)
    np.testing.assert_allclose(two.loss, six.loss[:, own], rtol=1e-5)


def test_samples_after_the_first_lie_around_the_encoders_guess():
  images, masks = tiny_search.some_images(1)
  repeated = np.repeat(images, 4, axis=0), np.repeat(masks, 4, axis=0)
  found = {
    spread: from_guess(spread=spread)(
      parts_weights(), *repeated, indices=[7] * 4, samples=range(4)
    ).generated
    for spread in (0.0, 0.1, 0.5)
  }
  (guess,) = from_guess()(parts_weights(), images, masks, indices=[7]).generated
  away = {
    spread: np.abs(generated - guess).mean(axis=(1, 2, 3))
    for spread, generated in found.items()
  }
  assert not away[0.0].any() and not away[0.1][0] and not away[0.5][0]
  assert np.all(away[0.1][1:] > 0) and np.all(away[0.5] >= 2 * away[0.1])
  for a, b in itertools.combinations(found[0.5], 2):
    assert np.abs(a - b).mean() > 0.01


def test_samples_after_the_first_settle_in_the_first_activations():
  """By the same steps, on the objective with its pull, of sample 1."""
  images, masks = tiny_search.some_images(1)
  weights = parts_weights()
  offsets, _ = guessed(images, masks)
  search = from_guess(
    refine_layer=2,
    refine_steps=3,
    refine_learning_rate=1e-9,  # The second activations stay as they are.
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
    return PARTS[0].apply(weights.generator, x, train=False, method=method)

  def generated(offset):
    first = apply(found.latent[1:], "first_activations")
    return apply(first + offset, "from_activations")

  @jax.value_and_grad
  def objective(offset):
    contextual = jnp.sum(masks * jnp.abs(generated(offset) - images))
    return contextual + jnp.sum((offset - offsets) ** 2)

  assert np.abs(found.latent[1]).max() > 0.1 and not found.latent[0].any()
  adam = optax.adam(optax.cosine_decay_schedule(0.01, 3))
  offset, state = offsets, adam.init(offsets)
  for _ in range(3):
    update, state = adam.update(objective(offset)[1], state)
    offset = offset + update
  np.testing.assert_allclose(found.generated[1:], generated(offset), atol=1e-5)
  assert np.abs(found.generated[1:] - generated(offsets)).max() > 1e-3


def test_the_encoder_gets_no_pixel_from_under_the_hole():
  images, masks = tiny_search.some_images()
  search = from_guess(refine_steps=3)
  found = search(parts_weights(), images, masks)
  changed = np.where(masks > 0.5, images, np.float32(np.nan))
  tiny_search.assert_results_equal(
    search(parts_weights(), changed, masks), found
  )


@pytest.mark.parametrize("layer", [1, 2])
def test_the_refinement_is_adam_on_the_objective_with_its_pull(layer):
  images, masks = tiny_search.some_images(1)
  weights = parts_weights()
  offsets, _ = guessed(images, masks)

  def apply(x, method, **options):
    return PARTS[0].apply(
      weights.generator, x, train=False, method=method, **options
    )

  first = apply(jnp.zeros((1, tiny.LATENT_SIZE)), "first_activations")
  origin = apply(first + offsets, "later_activations", last=layer)

  @jax.value_and_grad
  def objective(activations):
    generated = apply(activations, "from_activations", layer=layer)
    logit = PARTS[1].apply(weights.discriminator, generated, train=False)
    return (
      jnp.sum(masks * jnp.abs(generated - images))
      + 0.5 * jnp.log(1 - jax.nn.sigmoid(logit[0, 0]))
      + 0.7 * jnp.sum((activations - origin) ** 2)
    )

  adam = optax.adam(optax.cosine_decay_schedule(0.02, 4))
  activations, state = origin, adam.init(origin)
  for _ in range(4):
    _, gradient = objective(activations)
    update, state = adam.update(gradient, state)
    activations = activations + update
  search = from_guess(
    refine_steps=4,
    refine_layer=layer,
    refine_learning_rate=0.02,
    proximal_weight=0.7,
    prior_weight=0.5,
  )
  found = search(weights, images, masks)
  expected = objective(activations)[0]
  assert expected < 0.99 * objective(origin)[0]
  np.testing.assert_allclose(found.loss[0, 0], expected, rtol=1e-5)
  np.testing.assert_allclose(
    found.generated,
    apply(activations, "from_activations", layer=layer),
    atol=1e-5,
  )


def test_a_strong_pull_leaves_the_guess_where_it_is():
  images, masks = tiny_search.some_images()
  _, generated = guessed(images, masks)
  moved = {}
  for pull in (0.0, 1e6):
    search = from_guess(
      refine_steps=20, proximal_weight=pull, optimizer="lbfgs"
    )
    found = search(parts_weights(), images, masks)
    moved[pull] = np.abs(found.generated - generated).max()
  assert moved[1e6] < 1e-3 < 0.05 < moved[0.0]


def test_random_latents_are_refined_too():
  images, masks = tiny_search.some_images()
  weights = parts_weights()
  plain = tiny_search.make(PARTS, steps=5, starts=2)(weights, images, masks)
  refined = tiny_search.make(
    PARTS, steps=5, starts=2, refine_steps=5, proximal_weight=0.1
  )(weights, images, masks)
  assert np.all(refined.loss < plain.loss)


def test_the_mean_over_the_starts_is_kept_where_it_is_asked_for():
  images, masks = tiny_search.some_images()
  weights = parts_weights()
  mean = tiny_search.make(PARTS, steps=5, starts=3, reduce="mean")(
    weights, images, masks
  )
  generated = []
  for number in range(3):
    # The same steps, but with the states in sight.
    search = tiny_search.make(PARTS, steps=5, starts=3)
    states = search._begin(
      weights,
      np.uint32(0),
      np.arange(4, dtype=np.uint32),
      np.zeros(4, np.uint32),
      images[:4],
      masks[:4],
    )
    states = search._enter(states, weights, 0)
    for _ in range(5):
      states = search._advance(states, weights, images[:4], masks[:4], 0, 1)
    latents = states.latent[:, number]
    generated.append(PARTS[0].apply(weights.generator, latents, train=False))
  expected = np.mean(generated, axis=0)
  np.testing.assert_allclose(mean.generated[:4], expected, atol=1e-5)


def test_an_image_and_its_mirror_image_are_completed_alike():
  images, masks = tiny_search.some_images()
  plain, both = (
    tiny_search.make(PARTS, steps=5),
    tiny_search.make(PARTS, steps=5, mirrored=True),
  )
  weights = parts_weights()
  alone = plain(weights, images, masks).generated
  turned = plain(weights, images[:, :, ::-1], masks[:, :, ::-1]).generated
  found = both(weights, images, masks)
  expected = (alone + turned[:, :, ::-1]) / 2
  np.testing.assert_allclose(found.generated, expected, atol=1e-6)
  np.testing.assert_array_equal(
    found.completed, np.where(masks > 0.5, images, found.generated)
  )
  again = both(weights, images[:, :, ::-1], masks[:, :, ::-1])
  np.testing.assert_allclose(
    again.completed[:, :, ::-1], found.completed, atol=1e-6
  )
  # A mean is no sample of what could be there.
  samples = np.arange(tiny_search.COUNT) % 2
  mixed, others = (
    search(weights, images, masks, samples=samples) for search in (both, plain)
  )
  second = samples == 1
  for field in ("generated", "completed"):
    for one, expected in ((~second, found), (second, others)):
      np.testing.assert_allclose(
        getattr(mixed, field)[one], getattr(expected, field)[one], atol=1e-6
      )


def several_encoders():
  """Returns the weights of three models of one encoder, and of one of three."""
  images, masks = tiny_search.some_images(1)
  each = [
    parts_weights()._replace(
      encoder=GUESS.init(jax.random.key(seed), images, masks)
    )
    for seed in (3, 4, 5)
  ]
  first, *others = (weights.encoder for weights in each)
  return each, each[0]._replace(encoder=first, other_encoders=tuple(others))


@pytest.mark.parametrize(
  ("encoders", "mirrored"), [(0, False), (0, True), (2, True), (1, False)]
)
def test_several_encoders_give_the_mean_of_what_each_of_them_gives(
  encoders, mirrored
):
  images, masks = tiny_search.some_images()
  each, together = several_encoders()
  options = {"mirrored": mirrored, "refine_steps": 2, "refine_layer": 2}
  alone = [from_guess(**options)(w, images, masks) for w in each]
  assert np.abs(alone[0].generated - alone[1].generated).max() > 0.05
  used = alone[: encoders or None]
  mean = from_guess(**options, encoders=encoders)
  found = mean(together, images, masks)
  expected = np.mean([one.generated for one in used], axis=0)
  np.testing.assert_allclose(found.generated, expected, atol=1e-6)
  np.testing.assert_array_equal(
    found.completed, np.where(masks > 0.5, images, found.generated)
  )
  np.testing.assert_allclose(found.loss, alone[0].loss, rtol=1e-6)
  # A sample after the first is the first encoder's.
  samples = np.arange(tiny_search.COUNT) % 2
  mixed, first = (
    search(weights, images, masks, samples=samples).generated
    for search, weights in ((mean, together), (from_guess(**options), each[0]))
  )
  np.testing.assert_allclose(mixed[::2], found.generated[::2], atol=1e-6)
  np.testing.assert_allclose(mixed[1::2], first[1::2], atol=1e-6)
  path = mean.path(together, images[2], masks[2], index=2)
  np.testing.assert_allclose(path[-1], found.generated[2], atol=1e-5)


def test_encoders_that_do_not_start_the_search_are_not_run():
  images, masks = tiny_search.some_images()
  each, together = several_encoders()
  search = tiny_search.make(PARTS, steps=3)
  np.testing.assert_array_equal(
    search(together, images, masks).generated,
    search(each[0], images, masks).generated,
  )


def test_the_details_of_the_mean_are_strengthened_where_it_is_asked_for():
  images, masks = tiny_search.some_images()
  options = {"steps": 5, "mirrored": True}
  mean, strong = (
    tiny_search.make(PARTS, detail_gain=gain, **options)(
      parts_weights(), images, masks
    )
    for gain in (1.0, 3.0)
  )
  expected = details.strengthen(mean.generated, masks, 3.0)
  assert np.abs(expected - mean.generated).max() > 0.05
  np.testing.assert_allclose(strong.generated, expected, atol=1e-6)
  np.testing.assert_array_equal(
    strong.completed, np.where(masks > 0.5, images, strong.generated)
  )


def test_a_mode_that_wants_an_encoder_says_so_where_there_is_none():
  with pytest.raises(errors.UserError) as error:
    tiny_search.make(mode="fidelity", steps=None, starts=None)
  message = str(error.value)
  assert message.startswith("config.search.mode='fidelity'")
  assert "configs/encoder.py" in message


# --- the path -----------------------------------------------------------------


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"steps_per_call": 2},
    {"reduce": "mean"},
    {"mirrored": True},
    {"detail_gain": 2.0},
  ],
  ids=["best", "some steps in a call", "mean", "mirrored", "details"],
)
def test_the_path_ends_where_the_search_ends(options):
  images, masks = tiny_search.some_images()
  search = tiny_search.make(**options)
  found = search(
    tiny_search.SKETCH_WEIGHTS,
    images,
    masks,
    indices=range(7, 7 + tiny_search.COUNT),
  )
  path = search.path(
    tiny_search.SKETCH_WEIGHTS, images[2], masks[2], index=9, frames=4
  )
  assert path.shape == (
    5,
    tiny_search.SIDE,
    tiny_search.SIDE,
    3,
  )  # Eight steps, two a frame.
  np.testing.assert_allclose(path[-1], found.generated[2], atol=1e-5)
  # Every frame is another moment, and the first is before the first step.
  assert np.abs(np.diff(path, axis=0)).max(axis=(1, 2, 3)).min() > 0
  before = tiny_search.make(**{**options, "steps": 0})(
    tiny_search.SKETCH_WEIGHTS, images[2:3], masks[2:3], indices=[9]
  )
  if "reduce" in options:  # Which start wins is another at that moment.
    np.testing.assert_allclose(path[0], before.generated[0], atol=1e-5)


def test_a_path_is_not_longer_than_the_search():
  images, masks = tiny_search.some_images()
  path = tiny_search.make(steps=3).path(
    tiny_search.SKETCH_WEIGHTS, images[0], masks[0]
  )
  assert len(path) == 4
  assert np.abs(np.diff(path, axis=0)).max(axis=(1, 2, 3)).min() > 0
