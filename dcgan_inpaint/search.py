"""The latent search: the face that agrees with what is known of an image.

For an image y and a mask M (1 = known) the search minimises, over z in
[-1, 1], with both networks frozen (the paper's equations 1 to 3; Yeh et al.
2017):

  L(z) = ||M * G(z) - M * y||_1 + lambda * log(1 - D(G(z)))

and completes the image as `M * y + (1 - M) * G(z)`. BatchNorm runs on its
stored statistics, so that an image's result does not depend on its neighbours.

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

from dcgan_inpaint import errors
from dcgan_inpaint import losses
from dcgan_inpaint import models
from dcgan_inpaint import sharding


class Weights(NamedTuple):
  """The frozen networks; an argument everywhere, as closures are folded."""

  generator: models.Variables
  discriminator: models.Variables


class SearchState(NamedTuple):
  """Where one start of one image stands: its latent and its optimiser."""

  latent: jax.Array
  optimizer: optax.OptState


class Result(NamedTuple):
  """What a search found, [N, ...] for N images.

  Attributes:
    completed: float32 [N, H, W, 3]; known pixels are the input's, to the bit.
    generated: float32 [N, H, W, 3], G(z) of the best start.
    latent: float32 [N, latent_size], z of the best start.
    loss: float32 [N, starts], L(z) of every start at the end.
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
    learning_rate = optax.cosine_decay_schedule(learning_rate, steps)
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


class Search:
  """A search over any number of images, compiled once for each batch shape."""

  def __init__(
    self,
    generator: models.Generator,
    discriminator: models.Discriminator,
    loss: losses.AdversarialLoss,
    config: Any,
    latent_size: int = 100,
    mesh: jax.sharding.Mesh | None = None,
  ):
    """Prepares the compiled functions; nothing is compiled yet.

    Args:
      generator: G.
      discriminator: D, which gives `loss.outputs` logits.
      loss: the variant whose `prior` is the perceptual loss.
      config: the section `config.search`.
      latent_size: values of z.
      mesh: the devices that images are split over; all by default.

    Raises:
      errors.UserError: the optimiser is unknown, or the devices do not divide
        the batch.
    """
    self._generator = generator
    self._discriminator = discriminator
    self._loss = loss
    self._config = config
    self._latent_size = latent_size
    self._mesh = mesh or sharding.create_mesh()
    sharding.check_divisible(
      config.batch_size, self._mesh, "config.search.batch_size"
    )
    self._optimizer = optimizer(
      config.optimizer, config.learning_rate, config.schedule, config.steps
    )
    # Compiled loops of convolutions are about ten times slower than single
    # calls on XLA's CPU backend, and faster than calls everywhere else.
    on_cpu = self._mesh.devices.flat[0].platform == "cpu"
    self._steps_per_call = config.steps_per_call or (1 if on_cpu else 50)
    # All of a batch lies on `data`, the weights on every device.
    one = sharding.replicated(self._mesh)
    many = sharding.split(self._mesh)
    self._begin = jax.jit(
      jax.vmap(self._begin_image, in_axes=(None, 0)),
      in_shardings=(one, many),
      out_shardings=many,
    )
    self._advance = jax.jit(
      self._advance_batch,
      in_shardings=(many, one, many, many),
      out_shardings=many,
      static_argnums=4,
      donate_argnums=0,
    )
    self._end = jax.jit(
      jax.vmap(self._end_image, in_axes=(0, None, 0, 0)),
      in_shardings=(many, one, many, many),
      out_shardings=many,
    )

  # One image, one start.

  def objective(
    self, latent: jax.Array, weights: Weights, image: jax.Array, mask: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns L(z) and G(z) of one latent for one image.

    Args:
      latent: z, [latent_size].
      weights: the frozen networks.
      image: y, [H, W, 3].
      mask: M, [H, W, 1].

    Returns:
      The loss, a scalar, and the generated image [H, W, 3].
    """
    generated = self._generator.apply(
      weights.generator, latent[None], train=False
    )
    loss = losses.contextual(generated[0], image, mask)
    if self._config.prior_weight:
      logits = self._discriminator.apply(
        weights.discriminator, generated, train=False
      )
      loss += self._config.prior_weight * self._loss.prior(logits)[0]
    return loss, generated[0]

  def _begin_start(self, key: jax.Array) -> SearchState:
    latent = models.sample_latents(key, 1, self._latent_size)[0]
    return SearchState(latent, self._optimizer.init(latent))

  def _advance_start(
    self,
    state: SearchState,
    weights: Weights,
    image: jax.Array,
    mask: jax.Array,
  ) -> SearchState:
    def loss(latent):
      return self.objective(latent, weights, image, mask)[0]

    value, gradient = jax.value_and_grad(loss)(state.latent)
    updates, optimizer_state = self._optimizer.update(
      gradient,
      state.optimizer,
      state.latent,
      value=value,
      grad=gradient,
      value_fn=loss,
    )
    latent = optax.apply_updates(state.latent, updates)
    # z was drawn from [-1, 1], and G knows nothing beyond.
    return SearchState(jnp.clip(latent, -1.0, 1.0), optimizer_state)

  # One image, all its starts.

  def _begin_image(self, seed: jax.Array, index: jax.Array) -> SearchState:
    key = jax.random.fold_in(jax.random.key(seed), index)
    starts = jnp.arange(self._config.starts)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, starts)
    return jax.vmap(self._begin_start)(keys)

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
    loss, generated = jax.vmap(objective)(states.latent)
    # A start whose loss is not finite must not win over one whose is.
    best = jnp.argmin(jnp.where(jnp.isfinite(loss), loss, jnp.inf))
    return Result(
      completed=complete(generated[best], image, mask),
      generated=generated[best],
      latent=states.latent[best],
      loss=loss,
    )

  # A batch of images.

  def _advance_batch(
    self,
    states: SearchState,
    weights: Weights,
    images: jax.Array,
    masks: jax.Array,
    steps: int,
  ) -> SearchState:
    over_starts = jax.vmap(self._advance_start, in_axes=(0, None, None, None))
    over_images = jax.vmap(over_starts, in_axes=(0, None, 0, 0))

    def step(states, _):
      return over_images(states, weights, images, masks), None

    return jax.lax.scan(step, states, length=steps)[0]

  def _run_batch(
    self, weights: Weights, images: Any, masks: Any, indices: np.ndarray
  ) -> Result:
    states = self._begin(jnp.uint32(self._config.seed), indices)
    calls, rest = divmod(self._config.steps, self._steps_per_call)
    for call in range(calls):
      states = self._advance(
        states, weights, images, masks, self._steps_per_call
      )
      if call % 8 == 7:
        # Steps in flight are bounded: they hold memory, and programs on many
        # CPU devices lock up when too many wait.
        jax.block_until_ready(states)
    if rest:
      states = self._advance(states, weights, images, masks, rest)
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
      frames: moments to see; no more than there are steps.

    Returns:
      float32 [frames + 1, H, W, 3]: G(z) of the start that wins, before the
      first step and after every so many.
    """
    # A whole batch of the one image: the shape is what devices can split.
    rows = self.batch_size(1)
    many = sharding.split(self._mesh)
    weights = jax.device_put(weights, sharding.replicated(self._mesh))
    known = np.where(mask > 0.5, image, np.float32(0))
    images, masks, indices = (
      jax.device_put(np.stack([x] * rows), many)
      for x in (known, np.float32(mask), np.uint32(index))
    )
    states = self._begin(jnp.uint32(self._config.seed), indices)
    moments = self._config.steps * np.arange(frames + 1) // frames
    latents = [jax.device_get(states.latent)[0]]
    for steps in np.diff(np.unique(moments)).tolist():
      while steps:
        part = min(steps, self._steps_per_call)
        states = self._advance(states, weights, images, masks, part)
        steps -= part
      latents.append(jax.device_get(states.latent)[0])
    loss = self._end(states, weights, images, masks).loss[0]
    best = jnp.argmin(jnp.where(jnp.isfinite(loss), loss, jnp.inf))
    seen = np.stack(latents)[:, int(best)]
    generate = jax.jit(functools.partial(self._generator.apply, train=False))
    return jax.device_get(generate(weights.generator, seen))

  def batch_size(self, count: int) -> int:
    """Returns the images of a compiled batch for `count` images in all.

    The configured size, or the next power of two where there are fewer, so
    that one image alone does not pay for a whole batch and few shapes exist.
    """
    devices = self._mesh.devices.size
    needed = max(devices, 1 << (count - 1).bit_length())
    needed += -needed % devices
    return min(needed, self._config.batch_size)

  def warm_up(self, weights: Weights, shape: tuple[int, ...]) -> None:
    """Compiles what a search by batches of `shape`, [size, H, W, 3], runs."""
    rows = shape[0]
    one, many = sharding.replicated(self._mesh), sharding.split(self._mesh)
    weights = jax.device_put(weights, one)
    images = jax.device_put(np.zeros((rows, *shape[1:]), np.float32), many)
    indices = jax.device_put(np.zeros(rows, np.uint32), many)
    states = self._begin(jnp.uint32(0), indices)
    for steps in {
      min(self._steps_per_call, self._config.steps),
      self._config.steps % self._steps_per_call,
    } - {0}:
      states = self._advance(states, weights, images, images[..., :1], steps)
    jax.block_until_ready(self._end(states, weights, images, images[..., :1]))

  def __call__(
    self,
    weights: Weights,
    images: np.ndarray,
    masks: np.ndarray,
    *,
    indices: Sequence[int] | None = None,
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
      size: images of a compiled batch; `batch_size(N)` by default. Calls of
        one size share what is compiled.
      on_batch: called with the number of images that each batch finished.

    Returns:
      The results, as numpy arrays, in the order of the images.
    """
    size = size or self.batch_size(len(images))
    indices = np.uint32(range(len(images)) if indices is None else indices)
    weights = jax.device_put(weights, sharding.replicated(self._mesh))
    many = sharding.split(self._mesh)
    results = []
    for first in range(0, len(images), size):
      # A ragged last batch is filled up with its first image: one shape, one
      # compilation.
      rows = np.arange(first, first + size)
      rows = np.where(rows < len(images), rows, first)
      # Zeros under the hole: nothing there can reach the loss, not even a NaN.
      known = np.where(masks[rows] > 0.5, images[rows], np.float32(0))
      result = self._run_batch(
        weights,
        jax.device_put(known, many),
        jax.device_put(masks[rows], many),
        jax.device_put(indices[rows], many),
      )
      results.append(result)
      on_batch(min(size, len(images) - first))
    return jax.tree.map(
      lambda *leaves: np.concatenate(leaves)[: len(images)], *results
    )
