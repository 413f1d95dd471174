"""The latent search: the face that agrees with an image's known pixels.

For an image y and a mask M (1 = known) the search minimises over z in [-1, 1],
with both networks frozen, the paper's equations 1 to 3 (Yeh et al. 2017):

  contextual(z) = ||M * G(z) - M * y||_1                                     (1)
  prior(z)      = log(1 - D(G(z)))                                           (2)
  L(z)          = contextual(z) + lambda * prior(z)                          (3)

G(z) then fills the hole, as `M * y + (1 - M) * G(z)` (`blending`). BatchNorm
runs on its stored statistics, so that an image's result does not depend on its
neighbours.

Few faces are in the range of z. A search may continue in activations h inside G
(intermediate layer optimisation, Daras et al. 2021), where the objective has an
additional proximal term with the initial activations h0:

  L(h) = contextual(h) + lambda * prior(h) + proximal_weight * |h - h0|^2

It may start from an encoder, which returns an offset to G's first activations
in one pass, without any search of z. Its skips change G's later activations,
which the refinement then optimises, as they fit the known pixels more freely
than the first do. The first start of an image is the encoder's own. The others
add the encoder's offset to the activations of a random z, and settle: before
the refinement, as many steps on the first activations, which affect large
regions, match light and outlines in the hole to the known pixels again.

Here is the search of one image from one start, in pure functions: `begin`, then
`enter` and its `step`s for each of the `stages`. `compiled_search` maps them
over starts and images.
"""

from typing import NamedTuple
from typing import cast

import jax
import jax.numpy as jnp
import optax

from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder
from dcgan_inpaint.networks import losses
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import optimizers
from dcgan_inpaint.search import settings as search_settings

# For the steps in which starts other than the encoder's own settle.
_SETTLE_LEARNING_RATE = 0.01
_SETTLE_PULL = 1.0


class Problem(NamedTuple):
  """An image to complete.

  Attributes:
    image: y, float32 [H, W, C] in [-1, 1], finite in the hole.
    mask: M, float32 [H, W, 1], 1 = known.
    number: uint32, of the image; its starts are drawn from it.
    sample: uint32, which of the image's samples this is, 0 = the first.
  """

  image: jax.Array
  mask: jax.Array
  number: jax.Array
  sample: jax.Array


class State(NamedTuple):
  """The state of one start of one image.

  Attributes:
    number: uint32, of the start; 0 is the encoder's own.
    latent: z, [latent_size].
    offset: added to G's first activations, [4, 4, C]; None without an encoder.
    features: of `encoder.EncoderOutput`, for its skips; () without any.
    activations: h, the input of G's `refine_layer`; None before the refinement,
      while they follow from the latent and the offset.
    anchor: the centre of the proximal term: the offset when the start begins to
      settle, then h0; None before.
    optimizer: the optimiser's state, of the current stage.
  """

  number: jax.Array
  latent: jax.Array
  offset: jax.Array | None = None
  features: tuple[jax.Array, ...] = ()
  activations: jax.Array | None = None
  anchor: jax.Array | None = None
  optimizer: optax.OptState = ()


class Stage(NamedTuple):
  """Steps of one optimiser on one variable of the state.

  Attributes:
    variable: 'latent', 'offset' (in which starts settle) or 'activations'.
    steps: how many.
    optimizer: of these steps.
  """

  variable: str
  steps: int
  optimizer: optax.GradientTransformationExtraArgs


def plan(
  settings: search_settings.SearchSettings,
) -> list[tuple[str, int, float]]:
  """Returns variable, steps and initial rate of the stages that have steps."""
  settle_steps = settings.refine_steps if settings.start == "encoder" else 0
  planned = [
    ("latent", settings.steps, settings.learning_rate),
    ("offset", settle_steps, _SETTLE_LEARNING_RATE),
    ("activations", settings.refine_steps, settings.refine_learning_rate),
  ]
  return [(variable, steps, rate) for variable, steps, rate in planned if steps]


def stages(settings: search_settings.SearchSettings) -> list[Stage]:
  """Returns the stages of a search that have steps."""
  return [
    Stage(
      variable,
      steps,
      optimizers.make(
        settings.optimizer,
        optimizers.schedule(settings.schedule, rate, steps),
      ),
    )
    for variable, steps, rate in plan(settings)
  ]


def objective(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  weights: bundle.Weights,
  state: State,
  problem: Problem,
) -> tuple[jax.Array, jax.Array]:
  """Returns L of a state, a scalar, and its G(z), [H, W, C]."""
  generated = generate(networks, settings, weights, state)
  mask = problem.mask
  if settings.importance:
    mask = losses.importance(mask)
  loss = losses.contextual(generated, problem.image, mask)  # (1)
  # It may be an argument of a compiled program, and is not 0 then.
  if isinstance(settings.prior_weight, jax.Array) or settings.prior_weight:
    logits = networks.discriminate(weights, generated[None])
    prior = networks.loss.prior(logits)[0]  # (2)
    loss += settings.prior_weight * prior  # (3)
  if state.activations is not None and state.anchor is not None:
    distance = jnp.sum((state.activations - state.anchor) ** 2)
    loss += settings.proximal_weight * distance
  elif state.offset is not None and state.anchor is not None:
    distance = jnp.sum((state.offset - state.anchor) ** 2)
    loss += _SETTLE_PULL * distance
  return loss, generated


def generate(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  weights: bundle.Weights,
  state: State,
) -> jax.Array:
  """Returns the image that G generates from a state, [H, W, C]."""
  if state.activations is not None:
    activations, layer = state.activations[None], settings.refine_layer
  elif state.offset is not None:
    activations, layer = _first_activations(networks, weights, state), 1
  else:
    return networks.generate(weights, state.latent[None])[0]
  features = tuple(x[None] for x in state.features)
  decoder = networks.decoder(weights)
  return decoder.generate(activations, features, layer=layer)[0]


def begin(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  key: jax.Array,
  number: jax.Array,
  encoded: encoder.EncoderOutput | None,
) -> State:
  """Returns the initial state of start `number`; `encoded` is E's output."""
  key = jax.random.fold_in(key, number)
  latent = dcgan.sample_latents(key, 1, networks.latent_size)[0]
  if encoded is None:
    return State(number, latent)
  # The offset is relative to the activations of z = 0: the first start is E's
  # output, and the others lie around it.
  latent *= jnp.where(number > 0, settings.spread, 0.0)
  return State(number, latent, encoded.offset, encoded.features)


def enter(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  stage: Stage,
  weights: bundle.Weights,
  state: State,
) -> State:
  """Returns the state before a stage's first step."""
  if stage.variable == "activations":
    (activations,) = networks.decoder(weights).later_activations(
      _first_activations(networks, weights, state),
      tuple(x[None] for x in state.features),
      last=settings.refine_layer,
    )
    state = state._replace(activations=activations, anchor=activations)
  elif stage.variable == "offset":
    state = state._replace(anchor=state.offset)
  variable = getattr(state, stage.variable)
  return state._replace(optimizer=stage.optimizer.init(variable))


def step(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  stage: Stage,
  weights: bundle.Weights,
  state: State,
  problem: Problem,
) -> State:
  """Returns the state after one more step of a stage."""
  variable = getattr(state, stage.variable)

  def loss(variable: jax.Array) -> jax.Array:
    moved = state._replace(**{stage.variable: variable})
    return objective(networks, settings, weights, moved, problem)[0]

  value, gradient = jax.value_and_grad(loss)(variable)
  updates, optimizer = stage.optimizer.update(
    gradient,
    state.optimizer,
    variable,
    value=value,
    grad=gradient,
    value_fn=loss,
  )
  if stage.variable == "offset":  # The encoder's own start does not settle.
    updates = jnp.where(state.number > 0, cast(jax.Array, updates), 0)
  variable = cast(jax.Array, optax.apply_updates(variable, updates))
  if stage.variable == "latent":  # z stays in the range that G is trained on.
    variable = jnp.clip(variable, -1.0, 1.0)
  return state._replace(**{stage.variable: variable}, optimizer=optimizer)


def _first_activations(
  networks: bundle.NetworkBundle, weights: bundle.Weights, state: State
) -> jax.Array:
  """Returns G's first activations [1, 4, 4, C] of a latent and an offset."""
  activations = networks.first_activations(weights, state.latent[None])
  return activations if state.offset is None else activations + state.offset
