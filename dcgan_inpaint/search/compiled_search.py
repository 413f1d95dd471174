"""The search of a batch: all starts of all its images, in compiled programs.

`latent_search` has the search of one image from one start. Here it is mapped
over starts and images (`programs`), compiled once for each shape of a batch,
and sharded over the devices by images, without any communication between them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import profiling
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import latent_search
from dcgan_inpaint.search import programs
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
    programs: what is compiled, which searches of one structure share.
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
    self._stages = programs.stages(settings, mesh)
    # Compiled loops of convolutions are about ten times slower than single
    # calls on XLA's CPU backend, and faster than single calls elsewhere.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    self._steps_per_call = settings.steps_per_call or (1 if on_cpu else 50)
    self._values = programs.values(settings, mesh)
    self.programs = programs.shared(networks, settings, mesh)

  def prepare(self, weights: bundle.Weights) -> bundle.Weights:
    """Copies the weights to the devices, with what all steps can share."""
    weights = jax.device_put(weights, sharding.replicated(self.mesh))
    return self.programs.prepare(weights)

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

  def stages(self, samples: np.ndarray | int) -> list[programs.Stage]:
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
    return self.programs.begin(weights, self._values, problems)

  def enter(
    self,
    stage: programs.Stage,
    weights: bundle.Weights,
    states: latent_search.State,
  ) -> latent_search.State:
    """Returns the states before a stage's first step."""
    return self.programs.enter(stage.variable, weights, stage.rates, states)

  def advance(
    self,
    stage: programs.Stage,
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
    return Found(
      *jax.device_get(
        self.programs.end(weights, self._values, states, problems)
      )
    )

  def run(
    self,
    weights: bundle.Weights,
    problems: latent_search.Problem,
    stages: list[programs.Stage],
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
    stages: list[programs.Stage],
  ) -> None:
    """Compiles what `run` runs for these arguments."""
    states = self.begin(weights, problems)
    for stage in stages:
      states = self.enter(stage, weights, states)
      for steps in dict.fromkeys(self._calls(stage.steps)):
        # Not by `advance`: these are no steps of a search.
        states = self._advance(stage, steps, weights, states, problems)
    self.end(weights, states, problems)

  def _advance(
    self,
    stage: programs.Stage,
    steps: int,
    weights: bundle.Weights,
    states: latent_search.State,
    problems: latent_search.Problem,
  ) -> latent_search.State:
    """Returns the states after one compiled call."""
    return self.programs.advance(
      stage.variable,
      steps,
      weights,
      self._values,
      stage.rates,
      states,
      problems,
    )

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
  weights, *_ = bundle.each_encoder(
    jax.eval_shape(search.programs.prepare, weights)
  )
  states = jax.eval_shape(search.begin, weights, problems)
  stage = search._stages[0]
  enter = functools.partial(search.enter, stage)
  states = jax.eval_shape(enter, weights, states)
  steps = search._calls(stage.steps)[0]
  return search.programs.advance.lower(
    stage.variable,
    steps,
    weights,
    search._values,
    stage.rates,
    states,
    problems,
  )
