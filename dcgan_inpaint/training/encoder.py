"""The training of the encoder: its state, its step and its loss.

The generator stays as it is while the encoder is trained. E sees faces with
holes of every family and learns the offset with which G gives the face back:
the squared error in the hole, and a little of that on the known pixels, each
image's in the logarithm. So a face is completed in one pass, near the mean of
what could lie under the hole.

A search may complete the mirror image too and take the mean. E can be trained
for that mean (`config.encoder.mirrored`), in which each pass may leave to the
other what that does better; a single pass is then worse.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import struct
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import pixels
from dcgan_inpaint.masks import families as mask_families
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import gan

# The layers that see all places at once.
_DENSE = ("mix_in", "mix_norm", "mix_out", "out_in", "out", "out_local")

# Squared error in [-1, 1] below which an image is as good as given back: an
# eighth of a grey level.
_EXACT = 1e-6


@struct.dataclass
class EncoderState:
  """What is trained and checkpointed.

  Attributes:
    step: updates done, int32.
    variables: of the encoder.
    optimizer: AdamW's moments.
  """

  step: jax.Array
  variables: dcgan.Variables
  optimizer: optax.OptState


def optimizer(config: Any) -> optax.GradientTransformation:
  """Returns AdamW with a cosine to 0, behind a clip of the gradient's norm.

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
  size = dcgan.IMAGE_SIZE
  images = jnp.zeros((1, size, size, 3))
  variables = encoder.init(jax.random.key(seed), images, images[..., :1])
  return EncoderState(
    step=jnp.int32(0),
    variables=variables,
    optimizer=optimizer(config).init(variables),
  )


def grow(
  variables: dcgan.Variables, smaller: dcgan.Variables
) -> dcgan.Variables:
  """Puts an encoder of lower rank in the place of a wider one's first values.

  Args:
    variables: of the encoder to be, as `init_state` makes them.
    smaller: of the trained one; it may lack skips, and no shape is larger.

  Returns:
    `variables`, with the leading part of every array taken from `smaller`.
  """
  grown = traverse_util.flatten_dict(variables)
  for name, given in traverse_util.flatten_dict(smaller).items():
    part = tuple(slice(size) for size in given.shape)
    grown[name] = grown[name].at[part].set(given)
  return traverse_util.unflatten_dict(grown)


def without_dense(variables: dcgan.Variables) -> dcgan.Variables:
  """Leaves out the dense layers, in which most of an encoder's values are.

  Args:
    variables: of an encoder.
  """
  flat = traverse_util.flatten_dict(variables)
  return traverse_util.unflatten_dict(
    {name: leaf for name, leaf in flat.items() if name[1] not in _DENSE}
  )


def mask_pool(families: str, count: int, seed: int) -> np.ndarray:
  """Draws the holes that an encoder is trained with.

  Half of them have their family's usual size, the others from half of it to
  one and a half.

  Args:
    families: names with commas; one that stands twice is drawn twice as often.
    count: how many masks.
    seed: what they are drawn from.

  Returns:
    float32 [count, 64, 64, 1], 1 = known.

  Raises:
    errors.UserError: a family is unknown.
  """
  names = [name.strip() for name in families.split(",")]
  rng = np.random.default_rng(seed)
  masks = []
  settings = config_lib.mask()
  settings.seed, usual = seed, (settings.share, settings.size)
  for index in range(count):
    settings.family = names[index % len(names)]
    settings.share, settings.size = usual
    settings.side = str(rng.choice(["left", "right", "top", "bottom"]))
    factor = rng.uniform(0.5, 1.5)
    if rng.random() < 0.5:
      share = mask_families.DEFAULT_SHARES.get(settings.family)
      size = mask_families.DEFAULT_SIZES.get(settings.family)
      if share:
        settings.share = min(0.95, factor * share)
      elif size and size >= 1:
        settings.size = float(max(2, round(factor * size)))
    masks.append(mask_sets.make(settings, [index])[0])
  return np.stack(masks)


def completion_loss(
  completed: jax.Array,
  images: jax.Array,
  masks: jax.Array,
  known_weight: float,
) -> tuple[jax.Array, jax.Array]:
  """Returns what the encoder is trained to make small.

  Args:
    completed: G's images, [B, 64, 64, 3] in [-1, 1].
    images: the real ones.
    masks: [B, 64, 64, 1], 1 = known.
    known_weight: of a known pixel's squared error, where one in the hole has 1.

  Returns:
    The mean over the images of the logarithm of each one's error, which is what
    PSNR averages: else a wide hole, whose error is many times a narrow one's,
    would drown it. And the mean squared error over all holes' pixels.
  """
  error = jnp.mean((completed - images) ** 2, axis=-1, keepdims=True)
  in_hole = jnp.sum((1 - masks) * error) / jnp.sum(1 - masks)
  weight = 1 - masks + known_weight * masks
  each = jnp.sum(weight * error, (1, 2, 3)) / jnp.sum(weight, (1, 2, 3))
  return jnp.mean(jnp.log(each + _EXACT)), in_hole


def mirror_pairs(images: jax.Array) -> jax.Array:
  """Puts its mirror image, left to right, behind every image.

  A pair stays on the device of its image.

  Args:
    images: or masks, [B, H, W, ...].

  Returns:
    [2 B, H, W, ...].
  """
  pairs = jnp.stack([images, images[:, :, ::-1]], axis=1)
  return pairs.reshape(-1, *images.shape[1:])


def mean_of_pairs(completed: jax.Array) -> jax.Array:
  """Returns the mean of every image and of the next one, mirrored back.

  Args:
    completed: what became of `mirror_pairs`, [2 B, H, W, ...].
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
) -> tuple[EncoderState, jax.Array]:
  """Updates the encoder once.

  Args:
    state: the state before.
    generator_variables: of the frozen generator.
    images: uint8 [B, 64, 64, 3], real ones.
    masks: float32 [K, 64, 64, 1], the pool that masks are drawn from.
    seed: the run's seed; what is random is a function of it and of the step.
    encoder: E.
    generator: G.
    latent_size: values of z.
    config: the section `config.encoder`.
    split: splits a batch over the devices.

  Returns:
    The state after, and the mean squared error in the hole on the 8-bit scale;
    NaN where the update is not finite, so that no such state is saved.
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
    # Faces that G can give back exactly, in the place of real ones. Every row
    # gets one, used or not: to fill some rows alone, devices would exchange
    # images.
    latents = split(dcgan.sample_latents(latent_key, count, latent_size))
    fakes = generator.apply(generator_variables, latents, train=False)
    first = jnp.arange(count)[:, None, None, None] < generated
    images = jnp.where(first, fakes, images)
  rows = split(jax.random.randint(mask_key, (count,), 0, len(masks)))
  masks = masks[rows]
  origin = generator.apply(
    generator_variables,
    jnp.zeros((1, latent_size)),
    train=False,
    method="first_activations",
  )

  def loss(variables):
    seen = images, masks
    if config.mirrored:
      seen = map(mirror_pairs, seen)
    guess = encoder.apply(
      variables, *seen, train=True, rngs={"dropout": dropout_key}
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
    variables=optax.apply_updates(state.variables, updates),
    optimizer=optimizer_state,
  )
  finite = jnp.isfinite(optax.tree.norm(updates))
  return state, jnp.where(finite, in_hole * 127.5**2, jnp.nan)


def compile_steps(
  mesh: jax.sharding.Mesh, **networks
) -> Callable[..., tuple[EncoderState, jax.Array]]:
  """Returns many steps as one compiled function, as `gan.compile_steps`.

  Args:
    mesh: the devices that batches are split over.
    **networks: the keyword arguments of `train_step`.

  Returns:
    A function of the state (donated), the frozen generator's variables, the
    data set uint8 [N, 64, 64, 3] that lies on the devices, indices int32
    [steps, B] into it, the pool of masks and the seed; it gives the state after
    and the error in the hole of each step, [steps].
  """
  one = sharding.replicated(mesh)
  split = functools.partial(
    jax.lax.with_sharding_constraint, shardings=sharding.batch_sharding(mesh)
  )

  def steps(state, frozen, dataset, indices, masks, seed):
    def step(state, rows):
      images = split(dataset[rows])
      return train_step(
        state, frozen, images, masks, seed, split=split, **networks
      )

    return jax.lax.scan(step, state, indices)

  return jax.jit(
    steps,
    in_shardings=(one, one, sharding.batch_sharding(mesh), one, one, one),
    out_shardings=(one, one),
    donate_argnums=0,
  )
