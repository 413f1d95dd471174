import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import losses
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import loop

BATCH = 8
# Of the images, where nothing depends on it: networks of two layers each.
SIDE = 16
SEED = np.uint32(5)


def arguments(dtype=jnp.float32, side=SIDE, **options):
  """Returns the keyword arguments of `train_step`."""
  generator, discriminator = tiny.networks(dtype=dtype, image_size=side)
  config = config_lib.train()
  config.update(options)
  return {
    "generator": generator,
    "discriminator": discriminator,
    "loss": losses.VARIANTS["sigmoid_cross_entropy"],
    "latent_size": tiny.LATENT_SIZE,
    "config": config,
  }


def abstract_state(keywords, seed=0):
  """Returns the shapes and types of the state, without computing it."""
  return jax.eval_shape(
    lambda: gan.init_state(
      seed,
      keywords["generator"],
      keywords["discriminator"],
      keywords["latent_size"],
      keywords["config"],
    )
  )


def first_state(keywords):
  """Returns an initial state, in NumPy, in which every weight matters."""
  weights = tiny.weights(keywords["generator"], keywords["discriminator"])
  # All the rest starts at 0.
  state = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype), abstract_state(keywords)
  )
  return state.replace(
    generator=weights.generator,
    discriminator=weights.discriminator,
    generator_ema=weights.generator,
  )


def images(count=BATCH, seed=0, side=SIDE):
  shape = (count, side, side, 3)
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@functools.cache
def weighted_step():
  """Returns a compiled step whose loss terms are weighted by an argument."""
  keywords = arguments(flip=False)

  def scaled(term, weight):
    return lambda logits: weight * term(logits)

  @jax.jit
  def step(state, images, seed, weights):
    terms = {
      name: scaled(getattr(keywords["loss"], name), weight)
      for name, weight in weights.items()
    }
    loss = dataclasses.replace(keywords["loss"], **terms)
    return gan.train_step(state, images, seed, **keywords | {"loss": loss})

  def call(state, images, seed=SEED, **weights):
    ones = dict.fromkeys(("real", "fake", "generator"), 1.0)
    return jax.device_get(step(state, images, seed, ones | weights))

  return keywords, call


@functools.cache
def compiled_steps(devices):
  """Returns an initial state, a data set and several steps as one function."""
  mesh = tiny.mesh(devices)
  keywords = arguments(side=32)
  dataset = sharding.place_images(images(24, side=32), mesh)

  def first():
    return jax.device_put(first_state(keywords), sharding.replicated(mesh))

  steps = loop.compile_steps(gan.GanTask(**keywords), mesh)

  def function(state, rows):
    return steps(state, dataset, rows, SEED, ())

  function.lower = lambda state, rows: steps.lower(
    state, dataset, rows, SEED, ()
  )
  return first, dataset, function


@functools.cache
def run(devices, steps, steps_per_call=1):
  """Returns the last state and the metrics of every step."""
  first, dataset, function = compiled_steps(devices)
  state, rows, every = first(), some_rows(steps), []
  for begin in range(0, steps, steps_per_call):
    call = rows[begin : begin + steps_per_call]
    state, metrics = function(state, call)
    # Read at once: programs with collectives on several CPU devices lock up
    # when many wait.
    every.append(jax.device_get(metrics))
  return jax.device_get(state), jax.tree.map(
    lambda *parts: np.concatenate(parts), *every
  )


def some_rows(steps):
  return np.random.default_rng(1).integers(0, 24, (steps, BATCH), np.int32)


def assert_trees_equal(actual, expected):
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_trees_differ(actual, expected):
  """Every leaf differs somewhere."""
  jax.tree.map(lambda x, y: np.any(x != y) or pytest.fail(), actual, expected)


def assert_trees_close(actual, expected, rtol=1e-4, atol=1e-6):
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol),
    actual,
    expected,
  )


# --- one step, compared with a straightforward implementation ---------------


def plain_step(state, real, latents, keywords):
  """One step as described in the papers; returns both networks after it.

  Two separate gradients, each through all layers that it needs; Adam with the
  DCGAN's settings and the given moments.
  """
  generator, discriminator = keywords["generator"], keywords["discriminator"]
  loss = keywords["loss"]
  adam = optax.adam(2e-4, b1=0.5)

  def apply(network, variables, params, batch):
    output, updated = network.apply(
      {"params": params, "batch_stats": variables["batch_stats"]},
      batch,
      train=True,
      mutable=["batch_stats"],
    )
    return output, {"params": params, **updated}

  def discriminator_loss(params):
    fake, _ = apply(
      generator, state.generator, state.generator["params"], latents
    )
    on_real, after = apply(discriminator, state.discriminator, params, real)
    on_fake, after = apply(discriminator, after, params, fake)
    value = loss.real(on_real).mean() + loss.fake(on_fake).mean()
    return value, after["batch_stats"]

  params = state.discriminator["params"]
  (d_loss, stats), gradient = jax.value_and_grad(
    discriminator_loss, has_aux=True
  )(params)
  updates, _ = adam.update(gradient, state.discriminator_optimizer)
  new_discriminator = {
    "params": optax.apply_updates(params, updates),
    "batch_stats": stats,
  }

  def generator_loss(params):
    fake, after = apply(generator, state.generator, params, latents)
    logits, _ = apply(
      discriminator, new_discriminator, new_discriminator["params"], fake
    )
    return loss.generator(logits).mean(), after["batch_stats"]

  params = state.generator["params"]
  (g_loss, stats), gradient = jax.value_and_grad(generator_loss, has_aux=True)(
    params
  )
  updates, _ = adam.update(gradient, state.generator_optimizer)
  new_generator = {
    "params": optax.apply_updates(params, updates),
    "batch_stats": stats,
  }
  return new_generator, new_discriminator, d_loss, g_loss


def test_a_step_is_two_separate_updates_by_adam():
  keywords, step = weighted_step()
  state = first_state(keywords)
  # Not the first step: there Adam only uses the gradient's sign, which is
  # arbitrary for gradients of almost zero.
  for seed in (1, 2):
    state, _ = step(state, images(seed=seed))
  key = jax.random.fold_in(jax.random.key(SEED), 2)
  latents = dcgan.sample_latents(
    jax.random.split(key)[0], BATCH, tiny.LATENT_SIZE
  )
  real = images(seed=3)

  after, metrics = step(state, real)
  expected = jax.jit(functools.partial(plain_step, keywords=keywords))(
    state, real / np.float32(127.5) - 1, latents
  )
  actual = (
    after.generator,
    after.discriminator,
    metrics["discriminator_loss"],
    metrics["generator_loss"],
  )
  assert_trees_close(actual, expected, rtol=2e-4, atol=2e-6)
  assert_trees_differ(after.generator, state.generator)
  assert_trees_differ(after.discriminator, state.discriminator)


def test_the_generators_update_leaves_the_discriminator_untouched():
  keywords, step = weighted_step()
  before = first_state(keywords)
  after, _ = step(before, images(), real=0.0, fake=0.0)
  assert_trees_differ(after.generator["params"], before.generator["params"])
  assert_trees_equal(
    after.discriminator["params"], before.discriminator["params"]
  )
  # Its statistics are those of its own two batches: the generator's update,
  # with a loss or without, does not change them.
  neither, _ = step(before, images(), real=0.0, fake=0.0, generator=0.0)
  assert_trees_equal(
    after.discriminator["batch_stats"], neither.discriminator["batch_stats"]
  )


def test_the_discriminators_update_leaves_the_generator_untouched():
  keywords, step = weighted_step()
  before = first_state(keywords)
  after, _ = step(before, images(), generator=0.0)
  assert_trees_differ(
    after.discriminator["params"], before.discriminator["params"]
  )
  assert_trees_equal(after.generator["params"], before.generator["params"])


@pytest.mark.slow
def test_a_weight_on_roughness_makes_generated_images_smoother():
  def train(weight):
    """Returns the first step's loss of G, and its roughness after 20."""
    keywords = arguments(roughness_weight=weight, learning_rate=2e-3)
    step = jax.jit(functools.partial(gan.train_step, **keywords))
    state = first_state(keywords)
    flat = np.full((BATCH, SIDE, SIDE, 3), 128, np.uint8)
    losses_of_g = []
    for _ in range(20):
      state, metrics = step(state, flat, SEED)
      losses_of_g.append(metrics["generator_loss"])
    made = gan.samples(
      state.generator,
      generator=keywords["generator"],
      seed=0,
      count=8,
      latent_size=tiny.LATENT_SIZE,
    )
    rough = losses.excess_roughness(np.float32(made), np.float32(flat))
    return losses_of_g[0], rough

  (first, rough), (weighted_first, smooth) = train(0.0), train(100.0)
  assert smooth < 0.5 * rough
  # What is logged stays the adversarial loss, without the penalty.
  np.testing.assert_allclose(weighted_first, first, rtol=1e-5)


@pytest.mark.parametrize(
  "name",
  [
    # Of one logit, and of two.
    name
    if name in ("sigmoid_cross_entropy", "softmax_cross_entropy")
    else pytest.param(name, marks=pytest.mark.slow)
    for name in losses.VARIANTS
  ],
)
def test_every_variant_trains_by_the_names_of_the_metrics(name):
  loss = losses.VARIANTS[name]
  generator, discriminator = tiny.networks(loss.outputs, image_size=SIDE)
  keywords = arguments() | {
    "generator": generator,
    "discriminator": discriminator,
    "loss": loss,
  }
  before = abstract_state(keywords)
  after, metrics = jax.eval_shape(
    functools.partial(gan.train_step, **keywords), before, images(), SEED
  )
  assert after == before
  assert set(metrics) == {
    "discriminator_loss", "generator_loss", "real_logit", "fake_logit",
    "discriminator_update", "generator_update",
  }  # fmt: skip
  assert {(x.shape, x.dtype) for x in metrics.values()} == {
    ((), jnp.dtype("float32"))
  }


# --- the average, the counts, the randomness --------------------------------


@pytest.mark.parametrize(
  "step_number, decay", [(0, 0.1), (90, 0.91), (100_000, 0.999)]
)
def test_the_average_follows_weights_and_statistics(step_number, decay):
  keywords, step = weighted_step()
  assert keywords["config"].ema_decay == 0.999
  state = first_state(keywords)
  state = state.replace(
    step=np.int32(step_number),
    generator_ema=jax.tree.map(lambda x: x + 1, state.generator_ema),
  )
  after, _ = step(state, images())
  expected = jax.tree.map(
    lambda old, new: decay * old + (1 - decay) * new,
    state.generator_ema,
    after.generator,
  )
  assert set(after.generator_ema) == {"params", "batch_stats"}
  assert_trees_close(after.generator_ema, expected, rtol=1e-5)


@pytest.mark.slow
def test_steps_are_counted():
  state, metrics = run(4, 4)
  assert state.step == 4
  assert state.step.dtype == np.int32
  for optimizer in (state.generator_optimizer, state.discriminator_optimizer):
    assert optax.tree_utils.tree_get(optimizer, "count") == 4
  assert {value.shape for value in metrics.values()} == {(4,)}


def test_the_same_state_twice_gives_the_same_to_the_bit():
  keywords, step = weighted_step()
  state = first_state(keywords)
  assert_trees_equal(step(state, images()), step(state, images()))


@pytest.mark.parametrize("other", [{"seed": SEED + 1}, {"step": 1}])
def test_another_seed_or_step_draws_other_latents(other):
  keywords, step = weighted_step()
  state = first_state(keywords)
  _, metrics = step(state, images())
  state = state.replace(step=np.int32(other.get("step", 0)))
  _, changed = step(state, images(), other.get("seed", SEED))
  assert changed["fake_logit"] != metrics["fake_logit"]
  assert changed["real_logit"] == metrics["real_logit"]


class Blank:
  """A generator of grey images."""

  def apply(self, variables, latents, *, train, mutable):
    value = variables["params"]["value"]
    shape = (len(latents), SIDE, SIDE, 3)
    return jnp.broadcast_to(value, shape), variables


class Witness:
  """A discriminator that records its inputs."""

  def __init__(self):
    self.seen = []

  def apply(self, variables, batch, *, train, mutable):
    assert train
    assert mutable == ["batch_stats"]
    if not isinstance(batch, jax.core.Tracer):
      self.seen.append(np.asarray(batch))
    scale = variables["params"]["scale"]
    return scale * batch.mean((1, 2, 3))[:, None], variables


def what_the_discriminator_sees(flip):
  witness = Witness()
  keywords = arguments(flip=flip) | {
    "generator": Blank(),
    "discriminator": witness,
  }
  adam = optax.adam(2e-4, b1=0.5, b2=0.999)
  value, scale = {"value": jnp.zeros(())}, {"scale": jnp.ones(())}
  blank = {"params": value, "batch_stats": {}}
  state = gan.GanState(
    step=np.int32(0),
    generator=blank,
    generator_ema=blank,
    generator_optimizer=adam.init(value),
    discriminator={"params": scale, "batch_stats": {}},
    discriminator_optimizer=adam.init(scale),
  )
  gan.train_step(state, images(32), SEED, **keywords)
  return witness.seen


def test_real_and_generated_images_are_batches_of_their_own():
  real, fake = what_the_discriminator_sees(flip=False)
  np.testing.assert_allclose(real, images(32) / 127.5 - 1, atol=1e-6)
  np.testing.assert_array_equal(fake, np.zeros_like(real))


def test_about_half_of_the_real_images_are_mirrored():
  real, _ = what_the_discriminator_sees(flip=True)
  plain = images(32) / np.float32(127.5) - 1
  kept = np.isclose(real, plain, atol=1e-6).all((1, 2, 3))
  mirrored = np.isclose(real, plain[:, :, ::-1], atol=1e-6).all((1, 2, 3))
  assert np.all(kept ^ mirrored)
  assert 6 <= mirrored.sum() <= 26


# --- compiled, over devices --------------------------------------------------


@pytest.mark.slow
def test_steps_in_one_call_equal_single_steps():
  state, metrics = run(4, 4, steps_per_call=4)
  single_state, single_metrics = run(4, 4)
  assert_trees_close(metrics, single_metrics, rtol=1e-5)
  assert_trees_close(state, single_state, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_any_number_of_devices_gives_the_same_losses(devices):
  _, expected = run(1, 10)
  _, actual = run(devices, 10)
  assert_trees_close(actual, expected, rtol=1e-5, atol=1e-5)
  # They are of ten different steps.
  assert len(np.unique(expected["discriminator_loss"])) == 10


@pytest.mark.slow
def test_every_device_does_its_share_of_the_work():
  flops = {}
  for devices in (1, 4):
    first, dataset, function = compiled_steps(devices)
    compiled = function.lower(first(), some_rows(1)).compile()
    flops[devices] = compiled.cost_analysis()["flops"]
  # A quarter, except for the optimisers, which run on every device.
  assert flops[4] < 0.3 * flops[1]


@pytest.mark.slow
def test_the_old_state_is_donated():
  first, dataset, function = compiled_steps(4)
  before = first()
  after, _ = jax.block_until_ready(function(before, some_rows(1)))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
  assert not dataset.is_deleted()
  assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(after))


@pytest.mark.slow
def test_bfloat16_trains_float32_weights():
  keywords = arguments(dtype=jnp.bfloat16, flip=False)
  state = first_state(keywords)
  after, metrics = jax.jit(functools.partial(gan.train_step, **keywords))(
    state, images(), SEED
  )
  assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(
    lambda x: x.dtype, state
  )
  kinds = {leaf.dtype for leaf in jax.tree.leaves((after, metrics))}
  assert kinds == {jnp.dtype("float32"), jnp.dtype("int32")}
  assert_trees_differ(after.generator, state.generator)
  # Close to float32's result, but not equal.
  _, exact = weighted_step()[1](state, images())
  for name, value in metrics.items():
    np.testing.assert_allclose(value, exact[name], rtol=0.05, atol=0.05)
    assert value != exact[name]


@pytest.mark.slow
def test_a_first_state_is_a_function_of_the_seed():
  keywords = arguments()

  @jax.jit
  def init(seed):
    return gan.init_state(
      seed,
      keywords["generator"],
      keywords["discriminator"],
      tiny.LATENT_SIZE,
      keywords["config"],
    )

  # The default generator of random numbers takes long to compile.
  with jax.default_prng_impl("rbg"):
    state, again, other = init(0), init(0), init(1)
  assert_trees_equal(again, state)
  for network in ("generator", "discriminator"):
    kernel = getattr(state, network)["params"]["dense"]["kernel"]
    assert np.all(
      kernel != getattr(other, network)["params"]["dense"]["kernel"]
    )
  assert state.step == 0
  assert_trees_equal(state.generator_ema, state.generator)
