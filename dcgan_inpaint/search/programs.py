"""The compiled programs of a search, shared by searches of one structure.

Seed, rates and weights of the objective are arguments, as the networks' weights
are: another value of theirs compiles nothing.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import latent_search
from dcgan_inpaint.search import optimizers
from dcgan_inpaint.search import settings as search_settings

# Structures whose programs are kept.
_KEPT = 8
# Rates are tables whose lengths are multiples of it, so that few shapes exist.
_TABLE = 1024


class Values(NamedTuple):
  """What of the settings changes no program, as arrays on the devices.

  Attributes:
    seed: uint32, of the starts.
    spread: float32, likewise.
    prior_weight: float32; not used where it is 0.
    proximal_weight: float32.
  """

  seed: jax.Array
  spread: jax.Array
  prior_weight: jax.Array
  proximal_weight: jax.Array


class Stage(NamedTuple):
  """A stage of the search, as in `latent_search`.

  Attributes:
    variable: of the state, which its steps change.
    steps: how many.
    rates: float32 [T], on the devices, T > steps: the rate of each step.
  """

  variable: str
  steps: int
  rates: jax.Array


class Programs:
  """The compiled functions; nothing is compiled before they are called.

  Their arguments are those of the functions below, without networks and
  settings. Arrays of a batch are sharded by images, all others replicated.

  Attributes:
    prepare: of weights, see `bundle.prepare`.
    begin: of weights, values and problems.
    enter: of a variable's name, weights, the stage's rates and states.
    advance: of a variable's name, a number of steps, weights, values, the
      stage's rates, states (donated) and problems.
    end: of weights, values, states and problems.
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
      settings: of the search; only their structure matters.
      mesh: the devices that images are sharded over.
    """
    replicated = sharding.replicated(mesh)
    batched = sharding.batch_sharding(mesh)

    def of(values: Values) -> search_settings.SearchSettings:
      return _with_values(settings, values)

    def stage(variable: str, rates: jax.Array) -> latent_search.Stage:
      return latent_search.Stage(
        variable, 0, optimizers.make(settings.optimizer, _rate(settings, rates))
      )

    self.prepare = jax.jit(
      functools.partial(bundle.prepare, networks),
      in_shardings=replicated,
      out_shardings=replicated,
    )
    self.begin = jax.jit(
      lambda weights, values, problems: begin(
        networks, of(values), weights, values.seed, problems
      ),
      in_shardings=(replicated, replicated, batched),
      out_shardings=batched,
    )
    self.enter = jax.jit(
      lambda variable, weights, rates, states: enter(
        networks, settings, stage(variable, rates), weights, states
      ),
      in_shardings=(replicated, replicated, batched),
      out_shardings=batched,
      static_argnums=0,
    )
    self.advance = jax.jit(
      lambda variable, steps, weights, values, rates, states, problems: advance(
        networks,
        of(values),
        stage(variable, rates),
        steps,
        weights,
        states,
        problems,
      ),  # fmt: skip
      in_shardings=(replicated, replicated, replicated, batched, batched),
      out_shardings=batched,
      static_argnums=(0, 1),
      donate_argnums=5,
    )
    self.end = jax.jit(
      lambda weights, values, states, problems: end(
        networks, of(values), weights, states, problems
      ),
      in_shardings=(replicated, replicated, batched, batched),
      out_shardings=batched,
    )


def shared(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  mesh: jax.sharding.Mesh,
) -> Programs:
  """Returns the programs of a search, those of an earlier one if they fit.

  Args:
    networks: G, D and E.
    settings: of the search.
    mesh: the devices that images are sharded over.
  """
  return _shared(networks, _structure(settings), mesh)


@functools.lru_cache(maxsize=_KEPT)
def _shared(
  networks: bundle.NetworkBundle,
  structure: search_settings.SearchSettings,
  mesh: jax.sharding.Mesh,
) -> Programs:
  return Programs(networks, structure, mesh)


def clear() -> None:
  """Forgets all programs; searches that exist keep theirs."""
  _shared.cache_clear()


def _structure(
  settings: search_settings.SearchSettings,
) -> search_settings.SearchSettings:
  """Returns the settings with one value for all that changes no program."""
  return dataclasses.replace(
    settings,
    # Of these, `Values` and rates are arguments ...
    seed=0,
    spread=1.0,
    prior_weight=float(settings.prior_weight != 0),
    proximal_weight=1.0,
    learning_rate=0.0,
    refine_learning_rate=0.0,
    steps=0,
    refine_steps=0,
    # ... the networks hold these ...
    loss="",
    dtype="",
    # ... and the rest is done with the programs' results.
    mode="",
    mirrored=False,
    encoders=0,
    blending="",
    detail_gain=1.0,
    batch_size=0,
    steps_per_call=0,
  )


def values(
  settings: search_settings.SearchSettings, mesh: jax.sharding.Mesh
) -> Values:
  """Returns the values of a search's settings, on the devices."""
  found = (
    np.uint32(settings.seed),
    np.float32(settings.spread),
    np.float32(settings.prior_weight),
    np.float32(settings.proximal_weight),
  )
  return Values(*jax.device_put(found, sharding.replicated(mesh)))


def stages(
  settings: search_settings.SearchSettings, mesh: jax.sharding.Mesh
) -> list[Stage]:
  """Returns the stages of a search that have steps.

  Args:
    settings: of the search.
    mesh: the devices that the rates are copied to.
  """
  made = []
  for variable, steps, rate in latent_search.plan(settings):
    schedule = optimizers.schedule(settings.schedule, rate, steps)
    # Some optimisers ask for the rate of the step after.
    table = _table(schedule, steps + 1 + -(steps + 1) % _TABLE)
    made.append(
      Stage(variable, steps, jax.device_put(table, sharding.replicated(mesh)))
    )
  return made


def _table(schedule: optax.ScalarOrSchedule, size: int) -> np.ndarray:
  """Returns the rates of some steps from the first, float32 [size]."""
  if not isinstance(schedule, Callable):
    return np.full(size, schedule, np.float32)
  # Compiled with its constants, as it would be within a step: to the bit.
  with jax.transfer_guard("allow"):
    return jax.device_get(jax.jit(jax.vmap(schedule))(np.arange(size)))


def _rate(
  settings: search_settings.SearchSettings, rates: jax.Array
) -> optax.ScalarOrSchedule:
  """Returns the learning rate of an optimiser, from its argument."""
  if settings.schedule == "constant":
    return rates[0]
  return lambda count: jnp.take(rates, count, mode="clip")


def _with_values(
  settings: search_settings.SearchSettings, values: Values
) -> search_settings.SearchSettings:
  """Returns settings with traced values, for `latent_search`."""
  return dataclasses.replace(
    settings,
    spread=values.spread,
    # Without a prior, there is none to compile.
    prior_weight=settings.prior_weight and values.prior_weight,
    proximal_weight=values.proximal_weight,
  )


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
