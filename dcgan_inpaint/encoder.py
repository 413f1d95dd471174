"""The encoder: from an image with a hole to the generator's activations.

  image, mask      64 x 64 x 4
  conv 5x5 / 2     32 x 32 x 128     GroupNorm and ReLU after each
  conv 5x5 / 2     16 x 16 x 256
  conv 5x5 / 2     8 x 8 x 512
  conv 5x5 / 2     4 x 4 x 1024
  dense, residual  4 x 4 x 1024      through `rank` values: every place sees all
  dense            4 x 4 x C         an offset to G's first activations
  skips            8 x 8 to 32 x 32  changes of G's next three activations

The channels are those of width 1. It starts the search where the frozen
generator already completes the image well (Lahiri et al. 2019, arXiv
1908.04968, predict z; the first activations say far more of a face than the
100 values of z). Beside what is known 4x4 places are too coarse: there each of
G's next three activations meets what E found at that size, as in a U-Net
(Ronneberger et al. 2015, arXiv 1505.04597). Convolutions of the DCGAN's own
kind have fast forms, which others lack on the CPU, and so there is no other
kind here.

What lies under the hole is not looked at, and an image's result does not depend
on its neighbours.

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
import math
from typing import Any
from typing import NamedTuple

from flax import linen as nn
from flax import struct
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import gan
from dcgan_inpaint import mask_families
from dcgan_inpaint import masks as masks_lib
from dcgan_inpaint import models
from dcgan_inpaint import pixels
from dcgan_inpaint import sharding

CHANNELS = (128, 256, 512, 1024)
# The layers that see all places at once.
_DENSE = ("mix_in", "mix_norm", "mix_out", "out_in", "out", "out_local")
# Squared error in [-1, 1] below which an image is as good as given back: an
# eighth of a grey level.
_EXACT = 1e-6


class GroupNorm(nn.Module):
  """Flax's `nn.GroupNorm` (Wu and He 2018), without its slow sums on the CPU.

  Flax sums over a group's pixels and channels at once; the few channels of a
  group leave vector registers empty. Here each channel is summed first, and a
  group's sums and its scale and shift are a handful of values: a quarter of the
  time for 32 channels, forwards and backwards.

  Attributes:
    num_groups: of channels, which they divide.
    dtype: of the result; statistics are float32.
    epsilon: added to the variance.
  """

  num_groups: int
  dtype: Any = jnp.float32
  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises each image's groups of channels; x is [B, H, W, C]."""
    b, h, w, channels = x.shape
    scale = self.param("scale", nn.initializers.ones, (channels,))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    x = jnp.float32(x)

    def mean(values):
      sums = jnp.sum(values, (1, 2)).reshape(b, self.num_groups, -1)
      size = h * w * channels // self.num_groups
      return jnp.sum(sums, -1, keepdims=True) / size

    middle = mean(x)
    # Rounding must not make it negative.
    variance = jnp.maximum(mean(x * x) - middle * middle, 0)
    factor = jax.lax.rsqrt(variance + self.epsilon)
    factor = factor * scale.reshape(self.num_groups, -1)
    shift = bias.reshape(self.num_groups, -1) - middle * factor
    factor, shift = (v.reshape(b, 1, 1, channels) for v in (factor, shift))
    return (x * factor + shift).astype(self.dtype)


class Guess(NamedTuple):
  """What E makes of images with holes.

  Attributes:
    offset: float32 [B, 4, 4, C], to be added to the first activations of z = 0.
    features: of E, for its skips into G's second, third and fourth activations:
      [B, 8, 8, ...], [B, 16, 16, ...] and [B, 32, 32, ...]; () without skips.
  """

  offset: jax.Array
  features: tuple[jax.Array, ...] = ()


class Skip(nn.Module):
  """Changes activations of G by features of E of the same size.

  Two products at each place; the second is zero at first, so that it changes
  nothing before it has learned.

  Attributes:
    dtype: the type the products are computed in.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array, activations: jax.Array) -> jax.Array:
    """Returns the activations after; both are [B, H, W, ...]."""
    shape, count = activations.shape, activations.shape[-1]
    # Products of matrices are faster on the CPU than those of four axes.
    features, activations = (
      x.reshape(-1, x.shape[-1]) for x in (features, activations)
    )
    both = jnp.concatenate([features, activations.astype(self.dtype)], axis=-1)
    inner = nn.relu(nn.Dense(count, dtype=self.dtype, name="in")(both))
    change = nn.Dense(
      count, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out"
    )(inner)
    return nn.relu(activations + change).reshape(shape)


class Encoder(nn.Module):
  """E: images and masks to offsets of G's first activations, and skips.

  Attributes:
    features: C, the channels of G's first activations.
    width: multiplies the channel counts.
    rank: values between the two products of each dense pair; 0 = as many as
      the last convolution has channels.
    dtype: the type the layers compute in.
    form: the form of the convolutions, see `convolutions`.
    skips: the channels of G's second, third and fourth activations, which E
      changes, too; () leaves them alone.
    dropout: share of the values in the middle of the dense pairs that a
      training step sets to 0 (Srivastava et al. 2014).
  """

  features: int
  width: float = 1.0
  rank: int = 0
  dtype: Any = jnp.float32
  form: str = "auto"
  skips: tuple[int, ...] = ()
  dropout: float = 0.0

  def setup(self):
    """Makes what `skip` and `__call__` share."""
    for layer, _ in enumerate(self.skips, start=2):
      setattr(self, f"skip_{layer}", Skip(self.dtype))

  def skip(
    self, features: jax.Array, activations: jax.Array, layer: int
  ) -> jax.Array:
    """Returns G's activations of `layer`, 2 to 4, with what E adds to them."""
    return getattr(self, f"skip_{layer}")(features, activations)

  @nn.compact
  def __call__(
    self, images: jax.Array, masks: jax.Array, *, train: bool = False
  ) -> Guess:
    """Maps images and masks to where a search starts.

    Args:
      images: [B, 64, 64, 3] in [-1, 1]; anything under the hole.
      masks: [B, 64, 64, 1], 1 = known.
      train: whether values are dropped, by the random numbers `dropout`.
    """
    known = jnp.where(masks > 0.5, images, 0)
    x = jnp.concatenate([known, masks], axis=-1)
    seen = []
    for layer, count in enumerate(models.scaled(CHANNELS, self.width)):
      x = models.Conv(
        count, False, False, self.dtype, self.form, name=f"conv_{layer}"
      )(x)
      x = nn.relu(self._norm(count, f"group_norm_{layer}")(x))
      seen.append(x)
    seen = tuple(seen[2::-1]) if self.skips else ()
    if self.is_initializing():
      for layer, found in enumerate(seen, start=2):
        blank = jnp.zeros((*found.shape[:3], self.skips[layer - 2]))
        self.skip(found, blank, layer)

    rank = self.rank or count
    shape, x = x.shape, x.reshape(len(x), -1)
    mixed = self._dense(rank, "mix_in")(x)
    mixed = nn.relu(nn.LayerNorm(dtype=self.dtype, name="mix_norm")(mixed))
    drop = nn.Dropout(self.dropout, deterministic=not train)
    mixed = drop(mixed)
    # Small last layers: it starts from the mean face, not from noise.
    x = nn.relu(x + self._dense(x.shape[-1], "mix_out", 1e-3)(mixed))
    wide = drop(nn.relu(self._dense(rank, "out_in")(x)))
    wide = self._dense(16 * self.features, "out", 1e-3)(wide)
    local = self._dense(self.features, "out_local", 1e-3)(x.reshape(shape))
    offset = jnp.float32(wide.reshape(-1, 4, 4, self.features) + local)
    return Guess(offset, seen)

  def _dense(self, features: int, name: str, deviation: float = 0.0):
    init = (
      nn.initializers.normal(deviation)
      if deviation
      else nn.initializers.lecun_normal()
    )
    return nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)

  def _norm(self, channels: int, name: str):
    # Eight groups, or as many as divide the channels of a small width.
    return GroupNorm(math.gcd(8, channels), dtype=self.dtype, name=name)


def create(config: Any, generator: models.Generator) -> Encoder:
  """Returns the encoder that `config.encoder` describes, for a generator.

  Args:
    config: the section `config.encoder`.
    generator: G, whose activations it predicts.
  """
  first, *later = models.scaled(models.GENERATOR_CHANNELS, generator.width)
  return Encoder(
    features=first,
    # Encoders of before had neither skips nor dropout.
    skips=tuple(later) if config.get("skips", False) else (),
    width=config.width,
    rank=config.rank,
    dropout=config.get("dropout", 0.0),
    dtype=jnp.dtype(config.dtype),
    form=generator.form,
  )


class Networks(NamedTuple):
  """E and the G whose activations it predicts, with their variables.

  Attributes:
    encoder: E, or None, of a search that starts without.
    generator: G.
    encoder_variables: of E.
    generator_variables: of G.
  """

  encoder: Encoder | None
  generator: models.Generator
  encoder_variables: models.Variables | None
  generator_variables: models.Variables

  def later_activations(
    self,
    activations: jax.Array,
    features: tuple[jax.Array, ...],
    *,
    last: int,
    first: int = 1,
  ) -> jax.Array:
    """Maps what G's deconvolution `first` gets to what `last` gets.

    Args:
      activations: [B, H, W, ...].
      features: of E, for its skips (`Guess`); () is G alone.
      last: `first` to 4.
      first: 1 to 4.
    """
    # The layers between two skips.
    ends = range(first + 1, last + 1) if features else [last]
    for end in ends:
      activations = self.generator.apply(
        self.generator_variables,
        activations,
        train=False,
        first=first,
        last=end,
        method="later_activations",
      )
      if features:
        activations = self.encoder.apply(
          self.encoder_variables,
          features[end - 2],
          activations,
          end,
          method="skip",
        )
      first = end
    return activations

  def generate(
    self,
    activations: jax.Array,
    features: tuple[jax.Array, ...],
    *,
    layer: int = 1,
  ) -> jax.Array:
    """Maps what G's deconvolution `layer` gets to images in [-1, 1]."""
    if features:
      activations = self.later_activations(
        activations, features, first=layer, last=4
      )
      layer = 4
    return self.generator.apply(
      self.generator_variables,
      activations,
      train=False,
      layer=layer,
      method="from_activations",
    )


@struct.dataclass
class EncoderState:
  """What is trained and checkpointed.

  Attributes:
    step: updates done, int32.
    variables: of the encoder.
    optimizer: AdamW's moments.
  """

  step: jax.Array
  variables: models.Variables
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


def init_state(seed: int, encoder: Encoder, config: Any) -> EncoderState:
  """Returns the state before the first step; `config` is `config.encoder`."""
  size = models.IMAGE_SIZE
  images = jnp.zeros((1, size, size, 3))
  variables = encoder.init(jax.random.key(seed), images, images[..., :1])
  return EncoderState(
    step=jnp.int32(0),
    variables=variables,
    optimizer=optimizer(config).init(variables),
  )


def grow(
  variables: models.Variables, smaller: models.Variables
) -> models.Variables:
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


def without_dense(variables: models.Variables) -> models.Variables:
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
      share = mask_families.USUAL_SHARES.get(settings.family)
      size = mask_families.USUAL_SIZES.get(settings.family)
      if share:
        settings.share = min(0.95, factor * share)
      elif size and size >= 1:
        settings.size = float(max(2, round(factor * size)))
    masks.append(masks_lib.make(settings, [index])[0])
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
  generator_variables: models.Variables,
  images: jax.Array,
  masks: jax.Array,
  seed: jax.Array,
  *,
  encoder: Encoder,
  generator: models.Generator,
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
    latents = split(models.sample_latents(latent_key, count, latent_size))
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
    completed = Networks(
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
    jax.lax.with_sharding_constraint, shardings=sharding.split(mesh)
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
    in_shardings=(one, one, sharding.split(mesh), one, one, one),
    out_shardings=(one, one),
    donate_argnums=0,
  )
