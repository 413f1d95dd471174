"""The latent search: the face that agrees with what is known of an image.

For an image y and a mask M (1 = known) the search minimises, over z in
[-1, 1], with both networks frozen (the paper's equations 1 to 3; Yeh et al.
2017):

  L(z) = ||M * G(z) - M * y||_1 + lambda * log(1 - D(G(z)))

and completes the image as `M * y + (1 - M) * G(z)`. BatchNorm runs on its
stored statistics, so that an image's result does not depend on its neighbours.

That is the mode `paper`. z alone reaches few faces exactly, so the other modes
go on in activations h inside G (intermediate layer optimisation, Daras et al.
2021), where the objective gains a pull to where the refinement began:

  L(h) = ||M * G(h) - M * y||_1 + lambda * log(1 - D(G(h))) + pull * |h - h0|^2

`fidelity` and `realism` take G's first activations from an encoder, in one pass
and without any search of z; its skips change G's later activations, which the
refinement then moves, as they reach the known pixels more freely than the first
do. `fidelity` completes the mirror image as well and takes the mean: a
face and its mirror image are as likely, but networks do not treat them alike.
Where a model has several encoders, the mean is over what each of them gives:
networks trained apart err apart (deep ensembles, Lakshminarayanan et al. 2017).
`realism` gives that mean the strength of detail that a single face has
(`details`).
`config.SEARCH_MODES` has what each mode sets. Of several starts, or of several
samples of one image, the first is the encoder's own; the others have a random z
under its offset, and settle: before the refinement, as many steps on the first
activations, whose reach is wide, bring the light and the outlines of the hole
and of what is known together again.

The search is written for one image; `Search` maps it over many, compiles it
once for each shape, and splits the images over the devices without any
communication between them.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.networks import losses
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import details

# Of the steps in which starts beside the encoder's own settle.
_SETTLE_LEARNING_RATE = 0.01
_SETTLE_PULL = 1.0


class Weights(NamedTuple):
  """The frozen networks; an argument everywhere, as closures are folded.

  Attributes:
    generator: of G.
    discriminator: of D.
    encoder: of the encoder, or of the first of several; None without one.
    other_encoders: of the ones after it, which are of the same shape.
  """

  generator: dcgan.Variables
  discriminator: dcgan.Variables
  encoder: dcgan.Variables | None = None
  other_encoders: tuple[dcgan.Variables, ...] = ()


class SearchState(NamedTuple):
  """Where one start of one image stands.

  Attributes:
    number: of the start; 0 is the encoder's own.
    latent: z, [latent_size].
    offset: what is added to G's first activations, [4, 4, C]; None without an
      encoder.
    features: of the encoder, for its skips into G's later activations
      (`encoder.Guess`); () where there are none.
    activations: h, what `config.refine_layer` of G gets; None before they are
      refined, when they are those of the latent and the offset.
    anchor: the offset that a start set out from when it settles, then h0, the
      activations that the refinement set out from; what it is pulled to.
    optimizer: the optimiser's state, of the stage that runs.
  """

  number: jax.Array
  latent: jax.Array
  offset: jax.Array | None
  features: tuple[jax.Array, ...]
  activations: jax.Array | None
  anchor: jax.Array | None
  optimizer: optax.OptState


class Stage(NamedTuple):
  """A run of steps in one variable of the state.

  Attributes:
    variable: 'latent', 'offset' or 'activations'.
    steps: how many.
    optimizer: what makes them.
  """

  variable: str
  steps: int
  optimizer: optax.GradientTransformationExtraArgs


class Result(NamedTuple):
  """What a search found, [N, ...] for N images.

  Attributes:
    completed: float32 [N, H, W, 3]; known pixels are the input's, to the bit.
    generated: float32 [N, H, W, 3], G of the best start, or the mean over the
      starts (`reduce`); in the mean over their mirror images (`mirrored`) and
      the encoders; its details strengthened (`detail_gain`).
    latent: float32 [N, latent_size], z of the best start.
    loss: float32 [N, starts], the objective of every start at the end; both are
      those of the image as it is, by the first encoder.
  """

  completed: np.ndarray
  generated: np.ndarray
  latent: np.ndarray
  loss: np.ndarray


def complete(
  generated: jax.Array, image: jax.Array, mask: jax.Array
) -> jax.Array:
  """Returns `M * y + (1 - M) * G(z)`, the known pixels to the bit."""
  return jnp.where(mask > 0.5, image, generated)


def optimizer(
  name: str,
  learning_rate: float,
  schedule: str = "constant",
  steps: int = 1,
  field: str = "config.search.optimizer",
) -> optax.GradientTransformationExtraArgs:
  """Returns an optimiser of optax by name.

  Args:
    name: a function of `optax` or `optax.contrib` that takes `learning_rate`.
    learning_rate: the first learning rate.
    schedule: 'constant', or 'cosine', which falls to 0 over `steps`.
    steps: the length of the schedule.
    field: the config field that holds the name, for the message.

  Raises:
    errors.UserError: there is no such optimiser.
  """
  if schedule == "cosine":
    learning_rate = optax.cosine_decay_schedule(learning_rate, max(1, steps))
  factory = getattr(optax, name, None) or getattr(optax.contrib, name, None)
  try:
    made = factory(learning_rate=learning_rate)
  except (TypeError, ValueError) as error:
    raise errors.UserError(
      f"{field}={name!r} is not an optimiser of optax that takes a learning "
      "rate alone; take for instance adam, sgd, rmsprop, nadam, lion or lbfgs"
    ) from error
  if not isinstance(made, optax.GradientTransformation):
    raise errors.UserError(
      f"{field}={name!r} is of optax, but not an optimiser; take for instance "
      "adam, sgd, rmsprop, nadam, lion or lbfgs"
    )
  return optax.with_extra_args_support(made)


def _batched(features: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
  """Returns one image's features as those of a batch of one."""
  return tuple(x[None] for x in features)


class Search:
  """A search over any number of images, compiled once for each batch shape."""

  def __init__(
    self,
    generator: dcgan.Generator,
    discriminator: dcgan.Discriminator,
    loss: losses.AdversarialLoss,
    config: Any,
    latent_size: int = 100,
    mesh: jax.sharding.Mesh | None = None,
    encoder: encoder_lib.Encoder | None = None,
  ):
    """Prepares the compiled functions; nothing is compiled yet.

    Args:
      generator: G.
      discriminator: D, which gives `loss.outputs` logits.
      loss: the variant whose `prior` is the perceptual loss.
      config: the section `config.search`.
      latent_size: values of z.
      mesh: the devices that images are split over; all by default.
      encoder: E, where the search starts from one.

    Raises:
      errors.UserError: the optimiser is unknown, there is no encoder to start
        from, or the devices do not divide the batch.
    """
    config = config_lib.search_settings(config)
    self._generator = generator
    self._discriminator = discriminator
    self._encoder = encoder
    self._loss = loss
    self._config = config
    self._latent_size = latent_size
    self._mesh = mesh or sharding.create_mesh()
    sharding.check_divisible(
      config.batch_size, self._mesh, "config.search.batch_size"
    )
    if config.start == "encoder" and encoder is None:
      raise errors.UserError(
        f"config.search.mode={config.mode!r} starts from an encoder, and this "
        "model has none: train one with configs/encoder.py, or start from "
        "random latents with --config.search.start=random "
        "--config.search.starts=8 --config.search.steps=250"
      )
    self._stages = [
      Stage(
        variable,
        steps,
        optimizer(config.optimizer, learning_rate, config.schedule, steps),
      )
      for variable, steps, learning_rate in (
        ("latent", config.steps, config.learning_rate),
        (
          "offset",
          config.refine_steps if config.start == "encoder" else 0,
          _SETTLE_LEARNING_RATE,
        ),
        ("activations", config.refine_steps, config.refine_learning_rate),
      )
      if steps
    ]
    # Compiled loops of convolutions are about ten times slower than single
    # calls on XLA's CPU backend, and faster than calls everywhere else.
    on_cpu = self._mesh.devices.flat[0].platform == "cpu"
    self._steps_per_call = config.steps_per_call or (1 if on_cpu else 50)
    # All of a batch lies on `data`, the weights on every device.
    one = sharding.replicated(self._mesh)
    many = sharding.batch_sharding(self._mesh)
    self._prepared = jax.jit(
      self._prepare_networks, in_shardings=one, out_shardings=one
    )
    self._begin = jax.jit(
      self._begin_batch,
      in_shardings=(one, one, many, many, many, many),
      out_shardings=many,
    )
    self._enter = jax.jit(
      self._enter_batch,
      in_shardings=(many, one),
      out_shardings=many,
      static_argnums=2,
    )
    self._advance = jax.jit(
      self._advance_batch,
      in_shardings=(many, one, many, many),
      out_shardings=many,
      static_argnums=(4, 5),
      donate_argnums=0,
    )
    self._end = jax.jit(
      jax.vmap(self._end_image, in_axes=(0, None, 0, 0)),
      in_shardings=(many, one, many, many),
      out_shardings=many,
    )

  def _prepare_networks(self, weights: Weights) -> Weights:
    return weights._replace(
      generator=dcgan.prepare(self._generator, weights.generator),
      discriminator=dcgan.prepare(self._discriminator, weights.discriminator),
    )

  def _prepare(self, weights: Weights) -> Weights:
    """Brings the weights to the devices, with what all steps can share."""
    weights = jax.device_put(weights, sharding.replicated(self._mesh))
    return self._prepared(weights)

  def _each_encoder(self, weights: Weights) -> list[Weights]:
    """Returns the weights once for each encoder that is used, with it alone."""
    encoders = [weights.encoder]
    if self._config.start == "encoder":
      encoders += weights.other_encoders
    return [
      weights._replace(encoder=encoder, other_encoders=())
      for encoder in encoders[: self._config.encoders or None]
    ]

  # One image, one start.

  def _first_activations(
    self, state: SearchState, weights: Weights
  ) -> jax.Array:
    """Returns G's first activations [1, 4, 4, C] of a latent and an offset."""
    activations = self._generator.apply(
      weights.generator,
      state.latent[None],
      train=False,
      method="first_activations",
    )
    return activations if state.offset is None else activations + state.offset

  def _generate(self, state: SearchState, weights: Weights) -> jax.Array:
    """Returns the image [1, H, W, 3] of where a start stands."""
    if state.activations is not None:
      activations, layer = state.activations[None], self._config.refine_layer
    elif state.offset is not None:
      activations, layer = self._first_activations(state, weights), 1
    else:
      return self._generator.apply(
        weights.generator, state.latent[None], train=False
      )
    return self._networks(weights).generate(
      activations, _batched(state.features), layer=layer
    )

  def _networks(self, weights: Weights) -> encoder_lib.Networks:
    return encoder_lib.Networks(
      self._encoder, self._generator, weights.encoder, weights.generator
    )

  def objective(
    self,
    state: SearchState,
    weights: Weights,
    image: jax.Array,
    mask: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns what is minimised, and the generated image, of one start.

    Args:
      state: where the start stands.
      weights: the frozen networks.
      image: y, [H, W, 3].
      mask: M, [H, W, 1].

    Returns:
      The loss, a scalar, and the generated image [H, W, 3].
    """
    generated = self._generate(state, weights)
    weighed = losses.importance(mask) if self._config.importance else mask
    loss = losses.contextual(generated[0], image, weighed)
    if self._config.prior_weight:
      logits = self._discriminator.apply(
        weights.discriminator, generated, train=False
      )
      loss += self._config.prior_weight * self._loss.prior(logits)[0]
    if state.activations is not None:
      pull = jnp.sum((state.activations - state.anchor) ** 2)
      loss += self._config.proximal_weight * pull
    elif state.anchor is not None:
      loss += _SETTLE_PULL * jnp.sum((state.offset - state.anchor) ** 2)
    return loss, generated[0]

  def _begin_start(
    self,
    key: jax.Array,
    number: jax.Array,
    guess: encoder_lib.EncoderOutput | None,
  ) -> SearchState:
    """Makes the state before the first step, of an image's start `number`."""
    key = jax.random.fold_in(key, number)
    latent = dcgan.sample_latents(key, 1, self._latent_size)[0]
    if self._config.start == "encoder":
      # The encoder's offsets are from the activations of z = 0: the first start
      # is where it says, the others lie around that.
      latent *= jnp.where(number > 0, self._config.spread, 0.0)
    offset, features = guess or (None, ())
    return SearchState(number, latent, offset, features, None, None, ())

  def _enter_start(
    self, state: SearchState, weights: Weights, stage: Stage
  ) -> SearchState:
    """Makes the optimiser's state for a stage, and the activations it moves."""
    if stage.variable == "activations":
      (start,) = self._networks(weights).later_activations(
        self._first_activations(state, weights),
        _batched(state.features),
        last=self._config.refine_layer,
      )
      state = state._replace(activations=start, anchor=start)
    elif stage.variable == "offset":
      state = state._replace(anchor=state.offset)
    variable = getattr(state, stage.variable)
    return state._replace(optimizer=stage.optimizer.init(variable))

  def _advance_start(
    self,
    state: SearchState,
    weights: Weights,
    image: jax.Array,
    mask: jax.Array,
    stage: Stage,
  ) -> SearchState:
    variable = getattr(state, stage.variable)

    def loss(variable):
      moved = state._replace(**{stage.variable: variable})
      return self.objective(moved, weights, image, mask)[0]

    value, gradient = jax.value_and_grad(loss)(variable)
    updates, optimizer_state = stage.optimizer.update(
      gradient,
      state.optimizer,
      variable,
      value=value,
      grad=gradient,
      value_fn=loss,
    )
    if stage.variable == "offset":
      updates = jnp.where(state.number > 0, updates, 0)
    variable = optax.apply_updates(variable, updates)
    if stage.variable == "latent":
      # z was drawn from [-1, 1], and G knows nothing beyond.
      variable = jnp.clip(variable, -1.0, 1.0)
    return state._replace(
      **{stage.variable: variable}, optimizer=optimizer_state
    )

  # One image, all its starts.

  def _begin_image(
    self,
    seed: jax.Array,
    index: jax.Array,
    sample: jax.Array,
    guess: encoder_lib.EncoderOutput | None,
  ) -> SearchState:
    key = jax.random.fold_in(jax.random.key(seed), index)
    # A sample's starts follow those of the sample before it.
    count = self._config.starts
    numbers = sample * count + jnp.arange(count, dtype=jnp.uint32)
    begin = jax.vmap(self._begin_start, in_axes=(None, 0, None))
    return begin(key, numbers, guess)

  def _end_image(
    self,
    states: SearchState,
    weights: Weights,
    image: jax.Array,
    mask: jax.Array,
  ) -> Result:
    objective = functools.partial(
      self.objective, weights=weights, image=image, mask=mask
    )
    loss, generated = jax.vmap(objective)(states)
    # A start whose loss is not finite must not win over one whose is.
    finite = jnp.isfinite(loss)
    best = jnp.argmin(jnp.where(finite, loss, jnp.inf))
    kept = generated[best]
    if self._config.reduce == "mean":
      # The least squared error is the posterior's mean, and the starts are a
      # sample of it.
      weight = finite[:, None, None, None]
      mean = jnp.sum(jnp.where(weight, generated, 0), 0) / jnp.sum(finite)
      kept = jnp.where(jnp.any(finite), mean, kept)
    return Result(
      completed=complete(kept, image, mask),
      generated=kept,
      latent=states.latent[best],
      loss=loss,
    )

  # A batch of images.

  def _begin_batch(
    self,
    weights: Weights,
    seed: jax.Array,
    indices: jax.Array,
    samples: jax.Array,
    images: jax.Array,
    masks: jax.Array,
  ) -> SearchState:
    guesses = None
    if self._config.start == "encoder":
      guesses = self._encoder.apply(weights.encoder, images, masks)
    return jax.vmap(self._begin_image, in_axes=(None, 0, 0, 0))(
      seed, indices, samples, guesses
    )

  def _enter_batch(
    self, states: SearchState, weights: Weights, stage: int
  ) -> SearchState:
    enter = functools.partial(self._enter_start, stage=self._stages[stage])
    over_starts = jax.vmap(enter, in_axes=(0, None))
    return jax.vmap(over_starts, in_axes=(0, None))(states, weights)

  def _advance_batch(
    self,
    states: SearchState,
    weights: Weights,
    images: jax.Array,
    masks: jax.Array,
    stage: int,
    steps: int,
  ) -> SearchState:
    advance = functools.partial(self._advance_start, stage=self._stages[stage])
    over_starts = jax.vmap(advance, in_axes=(0, None, None, None))
    over_images = jax.vmap(over_starts, in_axes=(0, None, 0, 0))

    def step(states, _):
      return over_images(states, weights, images, masks), None

    return jax.lax.scan(step, states, length=steps)[0]

  def _run_batch(
    self,
    weights: Weights,
    images: jax.Array,
    masks: jax.Array,
    indices: jax.Array,
    samples: jax.Array,
    others: bool,
    each_call_once: bool = False,
  ) -> Result:
    """Searches for a batch; `others`: beside each image's very first start."""
    seed = jnp.uint32(self._config.seed)
    states = self._begin(weights, seed, indices, samples, images, masks)
    for stage, (variable, steps, _) in enumerate(self._stages):
      if variable == "offset" and not others:
        continue
      states = self._enter(states, weights, stage)
      calls, rest = divmod(steps, self._steps_per_call)
      for call in range(min(calls, 1) if each_call_once else calls):
        states = self._advance(
          states, weights, images, masks, stage, self._steps_per_call
        )
        if call % 8 == 7:
          # Steps in flight are bounded: they hold memory, and programs on many
          # CPU devices lock up when too many wait.
          jax.block_until_ready(states)
      if rest:
        states = self._advance(states, weights, images, masks, stage, rest)
    return jax.device_get(self._end(states, weights, images, masks))

  def path(
    self,
    weights: Weights,
    image: np.ndarray,
    mask: np.ndarray,
    *,
    index: int = 0,
    frames: int = 50,
  ) -> np.ndarray:
    """Returns what the search of one image goes through, for a film.

    Args:
      weights: the frozen networks.
      image: float32 [H, W, 3] in [-1, 1].
      mask: float32 [H, W, 1], 1 = known.
      index: the image's number, as in a call.
      frames: about how many moments to see; at most one a step.

    Returns:
      float32 [F, H, W, 3]: what is generated before the first step and after
      every so many, by the start that wins, or in the mean (`reduce`); of the
      image and its mirror image (`mirrored`) and of the encoders in the mean.
    """
    paths = []
    for one in self._each_encoder(self._prepare(weights)):
      paths.append(self._path(one, image, mask, index, frames))
      if self._config.mirrored:
        turned = self._path(one, image[:, ::-1], mask[:, ::-1], index, frames)
        paths.append(turned[:, :, ::-1])
    seen = np.mean(paths, axis=0)
    return details.strengthen(
      seen, np.broadcast_to(mask, (len(seen), *mask.shape)),
      self._config.detail_gain,
    )  # fmt: skip

  def _path(
    self,
    weights: Weights,
    image: np.ndarray,
    mask: np.ndarray,
    index: int,
    frames: int,
  ) -> np.ndarray:
    """Returns the path of one image, as it is, by one encoder."""
    # A whole batch of the one image: the shape is what devices can split.
    rows = self.batch_size(1)
    many = sharding.batch_sharding(self._mesh)
    known = np.where(mask > 0.5, image, np.float32(0))
    images, masks, indices = (
      jax.device_put(np.stack([x] * rows), many)
      for x in (known, np.float32(mask), np.uint32(index))
    )
    generate = jax.jit(jax.vmap(self._generate, in_axes=(0, None)))

    def look(states: SearchState) -> np.ndarray:
      states = jax.device_get(states._replace(anchor=None, optimizer=()))
      of_starts = jax.tree.map(lambda x: x[0], states)
      return jax.device_get(generate(of_starts, weights))[:, 0]

    seed, samples = jnp.uint32(self._config.seed), np.zeros_like(indices)
    states = self._begin(weights, seed, indices, samples, images, masks)
    seen = [look(states)]
    stages = {
      number: stage
      for number, stage in enumerate(self._stages)
      if stage.variable != "offset" or self._config.starts > 1
    }
    every = max(1, sum(stage.steps for stage in stages.values()) // frames)
    for number, stage in stages.items():
      states = self._enter(states, weights, number)
      for first in range(0, stage.steps, every):
        last = min(first + every, stage.steps)
        while first < last:
          part = min(last - first, self._steps_per_call)
          states = self._advance(states, weights, images, masks, number, part)
          first += part
        seen.append(look(states))
    if self._config.reduce == "mean":
      return np.stack(seen).mean(axis=1)
    loss = jax.device_get(self._end(states, weights, images, masks).loss[0])
    best = np.argmin(np.where(np.isfinite(loss), loss, np.inf))
    return np.stack(seen)[:, best]

  def batch_size(self, count: int) -> int:
    """Returns the images of a compiled batch for `count` images in all.

    The configured size, or the next power of two where there are fewer, so
    that one image alone does not pay for a whole batch and few shapes exist.
    """
    devices = self._mesh.devices.size
    needed = max(devices, 1 << (count - 1).bit_length())
    needed += -needed % devices
    return min(needed, self._config.batch_size)

  def lower(
    self, weights: Weights, shape: tuple[int, ...]
  ) -> jax.stages.Lowered:
    """Returns the program of one call of steps, to ask what it takes.

    Args:
      weights: the frozen networks.
      shape: of the batch, [size, H, W, 3].
    """
    images, masks, indices = (
      jax.ShapeDtypeStruct((shape[0], *of), dtype)
      for of, dtype in (
        (shape[1:], np.float32),
        ((*shape[1:3], 1), np.float32),
        ((), np.uint32),
      )
    )
    seed = jax.ShapeDtypeStruct((), np.uint32)
    weights, *_ = self._each_encoder(jax.eval_shape(self._prepared, weights))
    states = jax.eval_shape(
      self._begin, weights, seed, indices, indices, images, masks
    )
    states = jax.eval_shape(lambda *x: self._enter(*x, 0), states, weights)
    steps = min(self._stages[0].steps, self._steps_per_call)
    return self._advance.lower(states, weights, images, masks, 0, steps)

  def warm_up(self, weights: Weights, shape: tuple[int, ...]) -> None:
    """Compiles what a search by batches of `shape`, [size, H, W, 3], runs."""
    weights, *_ = self._each_encoder(self._prepare(weights))
    many = sharding.batch_sharding(self._mesh)
    images = jax.device_put(np.zeros(shape, np.float32), many)
    indices = jax.device_put(np.zeros(shape[0], np.uint32), many)
    self._run_batch(
      weights,
      images,
      images[..., :1],
      indices,
      indices,
      others=self._config.starts > 1,
      each_call_once=True,
    )

  def __call__(
    self,
    weights: Weights,
    images: np.ndarray,
    masks: np.ndarray,
    *,
    indices: Sequence[int] | None = None,
    samples: Sequence[int] | None = None,
    size: int | None = None,
    on_batch: Callable[[int], None] = lambda count: None,
  ) -> Result:
    """Searches for every image.

    Args:
      weights: the frozen networks.
      images: float32 [N, H, W, 3] in [-1, 1]; what lies under a hole is not
        looked at.
      masks: float32 [N, H, W, 1], 1 = known.
      indices: the images' numbers, of 32 bits; 0, 1, 2 ... by default. An
        image's starts are drawn from the seed and its number, so a set may be
        cut into several calls.
      samples: which sample of its image each is to be; 0 by default. The starts
        of sample 1 are other ones than those of sample 0, and so on.
      size: images of a compiled batch; `batch_size(N)` by default. Calls of
        one size share what is compiled.
      on_batch: called with the number of images that each batch finished.

    Returns:
      The results, as numpy arrays, in the order of the images.
    """
    size = size or self.batch_size(len(images))
    indices = np.uint32(range(len(images)) if indices is None else indices)
    samples = np.uint32(np.zeros(len(images)) if samples is None else samples)
    weights, *more = self._each_encoder(self._prepare(weights))
    put = functools.partial(
      jax.device_put, device=sharding.batch_sharding(self._mesh)
    )
    results = []
    for first in range(0, len(images), size):
      # A ragged last batch is filled up with its first image: one shape, one
      # compilation.
      rows = np.arange(first, first + size)
      rows = np.where(rows < len(images), rows, first)
      # Zeros under the hole: nothing there can reach the loss, not even a NaN.
      known = np.where(masks[rows] > 0.5, images[rows], np.float32(0))
      numbers = indices[rows], samples[rows]
      first_samples = samples[rows] == 0
      several = self._config.starts > 1
      straight = put((known, masks[rows], *numbers))
      found = self._run_batch(
        weights, *straight, others=several or not first_samples.all()
      )
      generated = found.generated
      if (self._config.mirrored or more) and first_samples.any():
        guesses = [generated]
        for one in more:
          guess = self._run_batch(one, *straight, others=several)
          guesses.append(guess.generated)
        if self._config.mirrored:
          turned = put((known[:, :, ::-1], masks[rows, :, ::-1], *numbers))
          for one in (weights, *more):
            guess = self._run_batch(one, *turned, others=several)
            guesses.append(guess.generated[:, :, ::-1])
        # A sample after the first is one face of those that could be there, and
        # the mirror image's, or another encoder's, is another: no mean of them
        # is a face.
        generated = np.where(
          first_samples[:, None, None, None],
          np.mean(guesses, axis=0),
          generated,
        )
      generated = details.strengthen(
        generated, masks[rows], self._config.detail_gain
      )
      if generated is not found.generated:
        completed = np.where(masks[rows] > 0.5, known, generated)
        found = found._replace(completed=completed, generated=generated)
      results.append(found)
      on_batch(min(size, len(images) - first))
    return jax.tree.map(
      lambda *leaves: np.concatenate(leaves)[: len(images)], *results
    )
