"""The search of a batch: all starts of all its images, in compiled programs.

`latent_search` has the search of one image from one start. Here it is mapped
over starts and images, compiled once for each shape of a batch, and sharded
over the devices by images, without any communication between them.
"""

import copy
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import profiling
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import latent_search
from dcgan_inpaint.search import settings as search_settings

# Calls of steps that may be in flight: they hold memory, and programs on many
# CPU devices lock up when too many are.
_CALLS_IN_FLIGHT = 8


class Found(NamedTuple):
  """The result of the search of a batch, [N, ...] for N images.

  Attributes:
    generated: float32 [N, H, W, C], G of the best start, or the mean over the
      starts (`reduce`).
    latent: float32 [N, latent_size], z of the best start.
    loss: float32 [N, starts], the final objective of every start.
  """

  generated: np.ndarray
  latent: np.ndarray
  loss: np.ndarray


class CompiledSearch:
  """The search of a batch; nothing is compiled before it is called.

  Its functions take and return arrays on the devices: those of a batch are
  sharded by images, and the weights are replicated.

  Attributes:
    networks: G, D and E.
    settings: of the search.
    mesh: the devices.
  """

  def __init__(
    self,
    networks: bundle.NetworkBundle,
    settings: search_settings.SearchSettings,
    mesh: jax.sharding.Mesh,
  ):
    """Prepares the compiled functions.

    Args:
      networks: G, D and E.
      settings: of the search.
      mesh: the devices that images are sharded over.

    Raises:
      errors.UserError: there is no encoder to start from, or the devices do not
        divide the batch.
    """
    sharding.check_divisible(
      settings.batch_size, mesh, "config.search.batch_size"
    )
    if settings.start == "encoder" and networks.encoder is None:
      raise errors.UserError(
        f"config.search.mode={settings.mode!r} starts from an encoder, and "
        "this model has none: train one with configs/encoder.py, or start from "
        "random latents with --config.search.start=random "
        "--config.search.starts=8 --config.search.steps=250"
      )
    if settings.refine_steps:
      settings = settings.for_layers(networks.generator.layers)
    self.networks = networks
    self.settings = settings
    self.mesh = mesh
    self._stages = latent_search.stages(settings)
    # Compiled loops of convolutions are about ten times slower than single
    # calls on XLA's CPU backend, and faster than single calls elsewhere.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    self._steps_per_call = settings.steps_per_call or (1 if on_cpu else 50)

    replicated = sharding.replicated(mesh)
    batched = sharding.batch_sharding(mesh)
    self._seed = jax.device_put(np.uint32(settings.seed), replicated)
    self._prepare = jax.jit(
      functools.partial(bundle.prepare, networks),
      in_shardings=replicated,
      out_shardings=replicated,
    )
    self._begin = jax.jit(
      functools.partial(begin, networks, settings),
      in_shardings=(replicated, replicated, batched),
      out_shardings=batched,
    )
    self._enter = jax.jit(
      functools.partial(enter, networks, settings),
      in_shardings=(replicated, batched),
      out_shardings=batched,
      static_argnums=0,
    )
    self._advance = jax.jit(
      functools.partial(advance, networks, settings),
      in_shardings=(replicated, batched, batched),
      out_shardings=batched,
      static_argnums=(0, 1),
      donate_argnums=3,
    )
    self._end = jax.jit(
      functools.partial(end, networks, settings),
      in_shardings=(replicated, batched, batched),
      out_shardings=batched,
    )

  def with_seed(self, seed: int) -> "CompiledSearch":
    """Returns the search from another seed; what is compiled is shared.

    Args:
      seed: what the starts are drawn from.
    """
    other = copy.copy(self)
    other.settings = dataclasses.replace(self.settings, seed=seed)
    other._seed = jax.device_put(
      np.uint32(seed), sharding.replicated(self.mesh)
    )
    return other

  def prepare(self, weights: bundle.Weights) -> bundle.Weights:
    """Copies the weights to the devices, with what all steps can share."""
    weights = jax.device_put(weights, sharding.replicated(self.mesh))
    return self._prepare(weights)

  def place(
    self,
    images: np.ndarray,
    masks: np.ndarray,
    numbers: np.ndarray,
    samples: np.ndarray,
  ) -> latent_search.Problem:
    """Copies a batch to the devices.

    Args:
      images: float32 [N, H, W, C] in [-1, 1]; any values under the hole.
      masks: float32 [N, H, W, 1], 1 = known.
      numbers: uint32 [N], the number of each image.
      samples: uint32 [N], the number of the sample to make of each image.
    """
    # Zeros under the hole: no value there reaches the loss, not even NaN.
    known = np.where(masks > 0.5, images, np.float32(0))
    problems = (
      known,
      masks.astype(np.float32),
      numbers.astype(np.uint32),
      samples.astype(np.uint32),
    )
    return latent_search.Problem(
      *jax.device_put(problems, sharding.batch_sharding(self.mesh))
    )

  def stages(self, samples: np.ndarray | int) -> list[latent_search.Stage]:
    """Returns the stages of a batch of these samples of its images.

    If each image has one start, the encoder's own, no start needs to settle.
    """
    if self.settings.starts > 1 or np.any(np.asarray(samples) > 0):
      return self._stages
    return [stage for stage in self._stages if stage.variable != "offset"]

  def begin(
    self, weights: bundle.Weights, problems: latent_search.Problem
  ) -> latent_search.State:
    """Returns the states before the first step, [N, starts, ...]."""
    return self._begin(weights, self._seed, problems)

  def enter(
    self,
    stage: latent_search.Stage,
    weights: bundle.Weights,
    states: latent_search.State,
  ) -> latent_search.State:
    """Returns the states before a stage's first step."""
    return self._enter(stage, weights, states)

  def advance(
    self,
    stage: latent_search.Stage,
    steps: int,
    weights: bundle.Weights,
    states: latent_search.State,
    problems: latent_search.Problem,
  ) -> latent_search.State:
    """Returns the states after some steps of a stage; donates those before."""

    def wait() -> None:
      jax.block_until_ready(states)

    for call, count in enumerate(self._calls(steps), start=1):
      with profiling.call("search", count, wait):
        states = self._advance(stage, count, weights, states, problems)
      if call % _CALLS_IN_FLIGHT == 0:
        wait()
    return states

  def end(
    self,
    weights: bundle.Weights,
    states: latent_search.State,
    problems: latent_search.Problem,
  ) -> Found:
    """Returns the result, fetched from the devices."""
    return Found(*jax.device_get(self._end(weights, states, problems)))

  def run(
    self,
    weights: bundle.Weights,
    problems: latent_search.Problem,
    stages: list[latent_search.Stage],
  ) -> Found:
    """Searches for a batch.

    Args:
      weights: what `prepare` returned, with only the encoder to start from.
      problems: what `place` returned.
      stages: what `stages` returned.
    """
    # All arrays are on the devices: no transfers between steps.
    with jax.transfer_guard("disallow"):
      states = self.begin(weights, problems)
      for stage in stages:
        states = self.enter(stage, weights, states)
        states = self.advance(stage, stage.steps, weights, states, problems)
      return self.end(weights, states, problems)

  def warm_up(
    self,
    weights: bundle.Weights,
    problems: latent_search.Problem,
    stages: list[latent_search.Stage],
  ) -> None:
    """Compiles what `run` runs for these arguments."""
    states = self.begin(weights, problems)
    for stage in stages:
      states = self.enter(stage, weights, states)
      for steps in dict.fromkeys(self._calls(stage.steps)):
        # Not by `advance`: these are no steps of a search.
        states = self._advance(stage, steps, weights, states, problems)
    self.end(weights, states, problems)

  def _calls(self, steps: int) -> list[int]:
    """Returns the number of steps of each call, `steps` in total."""
    calls, rest = divmod(steps, self._steps_per_call)
    return [self._steps_per_call] * calls + [rest] * (rest > 0)


def lower(
  search: CompiledSearch, weights: bundle.Weights, shape: tuple[int, ...]
) -> jax.stages.Lowered:
  """Returns the lowered program of the first call of steps, for its cost.

  Args:
    search: the search.
    weights: the frozen networks, or their shapes.
    shape: of the batch, [N, H, W, C].
  """
  problems = jax.eval_shape(
    lambda: latent_search.Problem(
      jnp.zeros(shape),
      jnp.zeros((*shape[:3], 1)),
      jnp.zeros(shape[:1], jnp.uint32),
      jnp.zeros(shape[:1], jnp.uint32),
    )
  )
  weights, *_ = bundle.each_encoder(jax.eval_shape(search._prepare, weights))
  states = jax.eval_shape(search.begin, weights, problems)
  stage = search._stages[0]
  enter = functools.partial(search.enter, stage)
  states = jax.eval_shape(enter, weights, states)
  steps = search._calls(stage.steps)[0]
  return search._advance.lower(stage, steps, weights, states, problems)


def begin(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  weights: bundle.Weights,
  seed: jax.Array,
  problems: latent_search.Problem,
) -> latent_search.State:
  """Returns the initial states of all starts of all images."""
  encoded = None
  if settings.start == "encoder":
    encoded = networks.encode(weights, problems.image, problems.mask)

  def begin(
    number: jax.Array,
    sample: jax.Array,
    encoded: encoder_lib.EncoderOutput | None,
  ) -> latent_search.State:
    key = jax.random.fold_in(jax.random.key(seed), number)
    # The starts of consecutive samples have consecutive numbers.
    first = sample * settings.starts
    starts = first + jnp.arange(settings.starts, dtype=jnp.uint32)
    return jax.vmap(
      functools.partial(latent_search.begin, networks, settings, key),
      in_axes=(0, None),
    )(starts, encoded)

  return jax.vmap(begin)(problems.number, problems.sample, encoded)


def enter(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  stage: latent_search.Stage,
  weights: bundle.Weights,
  states: latent_search.State,
) -> latent_search.State:
  """Returns the states before a stage's first step."""
  enter = functools.partial(latent_search.enter, networks, settings, stage)
  over_starts = jax.vmap(enter, in_axes=(None, 0))
  return jax.vmap(over_starts, in_axes=(None, 0))(weights, states)


def advance(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  stage: latent_search.Stage,
  steps: int,
  weights: bundle.Weights,
  states: latent_search.State,
  problems: latent_search.Problem,
) -> latent_search.State:
  """Returns the states after some steps of a stage."""
  step = functools.partial(latent_search.step, networks, settings, stage)
  over_starts = jax.vmap(step, in_axes=(None, 0, None))
  over_images = jax.vmap(over_starts, in_axes=(None, 0, 0))

  def body(states: latent_search.State, _: None):
    return over_images(weights, states, problems), None

  return jax.lax.scan(body, states, length=steps)[0]


def end(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  weights: bundle.Weights,
  states: latent_search.State,
  problems: latent_search.Problem,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the fields of `Found`: of the best start, or of their mean."""
  objective = functools.partial(latent_search.objective, networks, settings)

  def end(
    states: latent_search.State, problem: latent_search.Problem
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    loss, generated = jax.vmap(objective, in_axes=(None, 0, None))(
      weights, states, problem
    )
    # A start whose loss is not finite must not win over one whose loss is.
    finite = jnp.isfinite(loss)
    best = jnp.argmin(jnp.where(finite, loss, jnp.inf))
    kept = generated[best]
    if settings.reduce == "mean":
      # The posterior's mean has the least squared error, and the starts are
      # samples of the posterior.
      weight = finite[:, None, None, None]
      mean = jnp.sum(jnp.where(weight, generated, 0), 0) / jnp.sum(finite)
      kept = jnp.where(jnp.any(finite), mean, kept)
    return kept, states.latent[best], loss

  return jax.vmap(end)(states, problems)
