"""The training of the encoder: its state, its step and its loss.

The generator is frozen while the encoder is trained. E sees faces with holes of
every family and learns the offset with which G reconstructs the face. The loss
is the logarithm of each image's squared error in the hole, plus a little of
that on the known pixels. E thus completes a face in one pass, near the mean of
the faces that are possible under the hole.

A search may complete the mirror image too and take the mean. E can be trained
for that mean (`config.encoder.mirrored`). Each pass may then leave to the other
what that one does better, and a single pass becomes worse.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any
from typing import ClassVar
from typing import NamedTuple
from typing import cast

from flax import struct
import jax
import jax.numpy as jnp
import optax

from dcgan_inpaint import pixels
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.training import checkpoints
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import warm_start

# Squared error in [-1, 1] below which an image counts as reconstructed: an
# eighth of a grey level.
_EXACT = 1e-6


@struct.dataclass
class EncoderState:
  """The state that is trained and checkpointed.

  Attributes:
    step: the number of updates, int32.
    variables: of the encoder.
    optimizer: AdamW's moments.
  """

  step: jax.Array
  variables: dcgan.Variables
  optimizer: optax.OptState


class Frozen(NamedTuple):
  """The arrays that the steps only read.

  Attributes:
    generator: the variables of G.
    masks: float32 [K, S, S, 1], the pool that masks are drawn from.
  """

  generator: dcgan.Variables
  masks: jax.Array


def optimizer(config: Any) -> optax.GradientTransformation:
  """Returns AdamW with a cosine schedule to 0, after clipping the gradient.

  Args:
    config: the section `config.encoder`.
  """
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, config.learning_rate, min(100, config.steps // 10), config.steps
  )
  return optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(schedule, weight_decay=config.weight_decay),
  )


def init_state(
  seed: int, encoder: encoder_lib.Encoder, config: Any
) -> EncoderState:
  """Returns the state before the first step; `config` is `config.encoder`."""
  size, channels = encoder.image_size, encoder.image_channels
  images = jnp.zeros((1, size, size, channels))
  variables = encoder.init(jax.random.key(seed), images, images[..., :1])
  return EncoderState(
    step=jnp.int32(0),
    variables=variables,
    optimizer=optimizer(config).init(variables),
  )


def completion_loss(
  completed: jax.Array,
  images: jax.Array,
  masks: jax.Array,
  known_weight: float,
) -> tuple[jax.Array, jax.Array]:
  """Returns the loss of the encoder, and the error in the holes.

  Args:
    completed: G's images, [B, S, S, C] in [-1, 1].
    images: the real images.
    masks: [B, S, S, 1], 1 = known.
    known_weight: weight of a known pixel's squared error; in the hole it is 1.

  Returns:
    The mean over the images of the logarithm of each one's error, which is what
    PSNR averages: otherwise wide holes, whose error is many times that of
    narrow ones, would dominate. And the mean squared error over the pixels of
    all holes.
  """
  error = jnp.mean((completed - images) ** 2, axis=-1, keepdims=True)
  in_hole = jnp.sum((1 - masks) * error) / jnp.sum(1 - masks)
  weight = 1 - masks + known_weight * masks
  each = jnp.sum(weight * error, (1, 2, 3)) / jnp.sum(weight, (1, 2, 3))
  return jnp.mean(jnp.log(each + _EXACT)), in_hole


def mirror_pairs(images: jax.Array) -> jax.Array:
  """Inserts the mirror image, left to right, after every image.

  A pair stays on the device of its image.

  Args:
    images: images or masks, [B, H, W, ...].

  Returns:
    [2 B, H, W, ...].
  """
  pairs = jnp.stack([images, images[:, :, ::-1]], axis=1)
  return pairs.reshape(-1, *images.shape[1:])


def mean_of_pairs(completed: jax.Array) -> jax.Array:
  """Returns the mean of each image and its mirror image, mirrored back.

  Args:
    completed: pairs in the order of `mirror_pairs`, [2 B, H, W, ...].
  """
  pairs = completed.reshape(-1, 2, *completed.shape[1:])
  return (pairs[:, 0] + pairs[:, 1, :, ::-1]) / 2


def train_step(
  state: EncoderState,
  generator_variables: dcgan.Variables,
  images: jax.Array,
  masks: jax.Array,
  seed: jax.Array,
  *,
  encoder: encoder_lib.Encoder,
  generator: dcgan.Generator,
  latent_size: int,
  config: Any,
  split: Callable[[jax.Array], jax.Array] = lambda batch: batch,
) -> tuple[EncoderState, dict[str, jax.Array]]:
  """Updates the encoder once.

  Args:
    state: the state before.
    generator_variables: of the frozen generator.
    images: uint8 [B, S, S, C], real images.
    masks: float32 [K, S, S, 1], the pool that masks are drawn from.
    seed: the run's seed; all randomness is a function of it and of the step.
    encoder: E.
    generator: G.
    latent_size: values of z.
    config: the section `config.encoder`.
    split: shards a batch over the devices.

  Returns:
    The state after, and `hole_mse`, the mean squared error in the hole on the
    8-bit scale; NaN if the update is not finite, so that no such state is
    saved.
  """
  key = jax.random.fold_in(jax.random.key(seed), state.step)
  flip_key, mask_key, latent_key = jax.random.split(key, 3)
  dropout_key = jax.random.fold_in(key, 0)
  count = len(images)
  images = pixels.to_float(images)
  if config.flip:
    images = gan.flip(flip_key, images)
  generated = round(config.generated_share * count)
  if generated:
    # Faces that G can reconstruct exactly, instead of real ones. Every row
    # gets one, used or not: to fill only some rows, devices would have to
    # exchange images.
    latents = split(dcgan.sample_latents(latent_key, count, latent_size))
    fakes = cast(
      jax.Array, generator.apply(generator_variables, latents, train=False)
    )
    first = jnp.arange(count)[:, None, None, None] < generated
    images = jnp.where(first, fakes, images)
  rows = split(jax.random.randint(mask_key, (count,), 0, len(masks)))
  masks = masks[rows]
  origin = cast(
    jax.Array,
    generator.apply(
      generator_variables,
      jnp.zeros((1, latent_size)),
      train=False,
      method="first_activations",
    ),
  )

  def loss(variables):
    seen = images, masks
    if config.mirrored:
      seen = map(mirror_pairs, seen)
    guess = cast(
      encoder_lib.EncoderOutput,
      encoder.apply(
        variables, *seen, train=True, rngs={"dropout": dropout_key}
      ),
    )
    completed = encoder_lib.Networks(
      encoder, generator, variables, generator_variables
    ).generate(origin + guess.offset, guess.features)
    if config.mirrored:
      completed = mean_of_pairs(completed)
    return completion_loss(completed, images, masks, config.known_weight)

  (_, in_hole), gradient = jax.value_and_grad(loss, has_aux=True)(
    state.variables
  )
  updates, optimizer_state = optimizer(config).update(
    gradient, state.optimizer, state.variables
  )
  state = EncoderState(
    step=state.step + 1,
    variables=cast(
      dcgan.Variables, optax.apply_updates(state.variables, updates)
    ),
    optimizer=optimizer_state,
  )
  finite = jnp.isfinite(optax.tree.norm(updates))
  return state, {"hole_mse": jnp.where(finite, in_hole * 127.5**2, jnp.nan)}


@dataclasses.dataclass(frozen=True)
class EncoderTask:
  """The training of an encoder, as a `loop.Task`.

  Attributes:
    encoder: E.
    generator: G.
    latent_size: values of z.
    config: the section `config.encoder`.
    generator_digest: identifies G's weights.
    frozen: the variables of G and the pool of masks.
    seed: the seed of the initial weights.
    given: the variables that a warm start takes over, or None.
    validate: see `loop.Task`.
  """

  name: ClassVar[str] = "encoder"
  metric: ClassVar[str] = checkpoints.COMPLETION_MSE
  fixed_fields: ClassVar[tuple[str, ...]] = (
    "seed",
    "data.name",
    "data.path",
    "data.validation_path",
    "data.ids",
    "data.crop",
    "data.ids",
    "data.max_images",
    "data.seed",
    "encoder.width",
    "encoder.rank",
    "encoder.skips",
    "encoder.dropout",
    "encoder.mirrored",
    "encoder.dtype",
    "encoder.warm_start",
    "encoder.fresh_dense",
    "encoder.families",
    "encoder.mask_pool",
    "encoder.known_weight",
    "encoder.generated_share",
    "encoder.flip",
    "encoder.batch_size",
    "encoder.learning_rate",
    "encoder.weight_decay",
  )

  encoder: encoder_lib.Encoder
  generator: dcgan.Generator
  latent_size: int
  config: Any
  generator_digest: str = ""
  frozen: Frozen | None = None
  seed: int = 0
  given: dcgan.Variables | None = None
  validate: Callable[[EncoderState], tuple[float, Any]] | None = None

  @property
  def meta(self) -> dict[str, str]:
    """The generator, as an encoder is only useful for one."""
    return {"generator": self.generator_digest}

  @functools.cached_property
  def _first_state(self) -> Callable[[], EncoderState]:
    # The same function object each time, so that JAX traces it once for both
    # its shapes and its values.
    return functools.partial(init_state, self.seed, self.encoder, self.config)

  @property
  def sample(self) -> None:
    """None: pictures need held-out images, which `validate` has."""

  def init(self, placed: jax.sharding.Sharding) -> EncoderState:
    """Returns the state before the first step."""
    state = jax.jit(self._first_state, out_shardings=placed)()
    if self.given is not None:
      # An argument, since constants would be stored in the compiled program.
      grow = jax.jit(warm_start.grow, out_shardings=placed)
      state = state.replace(variables=grow(state.variables, self.given))
    return state

  def step(
    self,
    state: EncoderState,
    images: jax.Array,
    seed: jax.Array,
    frozen: Frozen,
    split: Callable[[jax.Array], jax.Array],
  ) -> tuple[EncoderState, dict[str, jax.Array]]:
    """Updates the encoder once, see `train_step`."""
    return train_step(
      state,
      frozen.generator,
      images,
      frozen.masks,
      seed,
      encoder=self.encoder,
      generator=self.generator,
      latent_size=self.latent_size,
      config=self.config,
      split=split,
    )
