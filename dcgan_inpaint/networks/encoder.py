"""The encoder: from an image with a hole to the generator's activations.

Of an image of 64x64 pixels in colour:

  image, mask      64 x 64 x 4
  conv 5x5 / 2     32 x 32 x 128     GroupNorm and ReLU after each
  conv 5x5 / 2     16 x 16 x 256
  conv 5x5 / 2     8 x 8 x 512
  conv 5x5 / 2     4 x 4 x 1024
  dense, residual  4 x 4 x 1024      through `rank` values: every place sees all
  dense            4 x 4 x C         an offset to G's first activations
  skips            8 x 8 to 32 x 32  changes of G's next three activations

The channels are those of width 1; at other sizes layers come or go at the end
of the image, by the rule of `dcgan`. It starts the search where the frozen
generator already completes the image well (Lahiri et al. 2019, arXiv
1908.04968, predict z; the first activations say far more of a face than the
100 values of z). Beside what is known 4x4 places are too coarse: there each of
G's next activations meets what E found at that size, as in a U-Net
(Ronneberger et al. 2015, arXiv 1505.04597). All convolutions are of the DCGAN's
own kind, which has fast implementations on the CPU; others lack them.

What lies under the hole is not looked at, and an image's result does not depend
on its neighbours.
"""

import math
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from dcgan_inpaint.networks import dcgan

# Channels at 4x4.
CHANNELS = 1024


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


class EncoderOutput(NamedTuple):
  """What E makes of images with holes.

  Attributes:
    offset: float32 [B, 4, 4, C], to be added to the first activations of z = 0.
    features: of E, for its skips into G's second activations and all after
      them: [B, 8, 8, ...], [B, 16, 16, ...] to half the image's side; ()
      without skips.
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
    image_size: side of the images, pixels.
    image_channels: of an image, 3 or 1.
    width: multiplies the channel counts.
    rank: values between the two products of each dense pair; 0 = as many as
      the last convolution has channels.
    dtype: the type the layers compute in.
    implementation: of the convolutions, one of `convolutions.IMPLEMENTATIONS`.
    skips: the channels of G's second activations and of all after them, which E
      changes, too; () leaves them alone.
    dropout: share of the values in the middle of the dense pairs that a
      training step sets to 0 (Srivastava et al. 2014).
  """

  features: int
  image_size: int = 64
  image_channels: int = 3
  width: float = 1.0
  rank: int = 0
  dtype: Any = jnp.float32
  implementation: str = "plain"
  skips: tuple[int, ...] = ()
  dropout: float = 0.0

  def setup(self):
    """Makes what `skip` and `__call__` share."""
    for layer, _ in enumerate(self.skips, start=2):
      setattr(self, f"skip_{layer}", Skip(self.dtype))

  def skip(
    self, features: jax.Array, activations: jax.Array, layer: int
  ) -> jax.Array:
    """Returns G's activations of `layer`, from 2 on, with what E adds."""
    return getattr(self, f"skip_{layer}")(features, activations)

  @nn.compact
  def __call__(
    self, images: jax.Array, masks: jax.Array, *, train: bool = False
  ) -> EncoderOutput:
    """Maps images and masks to where a search starts.

    Args:
      images: [B, S, S, C] in [-1, 1]; anything under the hole.
      masks: [B, S, S, 1], 1 = known.
      train: whether values are dropped, by the random numbers `dropout`.
    """
    known = jnp.where(masks > 0.5, images, 0)
    x = jnp.concatenate([known, masks], axis=-1)
    channels = dcgan.channel_counts(CHANNELS, self.image_size, self.width)
    found = []
    for layer, count in enumerate(channels[::-1]):
      x = dcgan.Conv(
        count,
        dtype=self.dtype,
        implementation=self.implementation,
        name=f"conv_{layer}",
      )(x)
      x = nn.relu(self._norm(count, f"group_norm_{layer}")(x))
      found.append(x)
    # From the smallest on, in the order of the generator's layers.
    features = found[-2::-1] if self.skips else []
    if self.is_initializing():
      skips = zip(features, self.skips, strict=True)
      for layer, (feature, count) in enumerate(skips, start=2):
        self.skip(feature, jnp.zeros((*feature.shape[:3], count)), layer)

    rank = self.rank or channels[0]
    shape, x = x.shape, x.reshape(x.shape[0], -1)
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
    return EncoderOutput(offset, tuple(features))

  def _dense(
    self, features: int, name: str, deviation: float = 0.0
  ) -> nn.Dense:
    init = (
      nn.initializers.normal(deviation)
      if deviation
      else nn.initializers.lecun_normal()
    )
    return nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)

  def _norm(self, channels: int, name: str) -> GroupNorm:
    # Eight groups, or as many as divide the channels of a small width.
    return GroupNorm(math.gcd(8, channels), dtype=self.dtype, name=name)


def create(config: Any, generator: dcgan.Generator) -> Encoder:
  """Returns the encoder that `config.encoder` describes, for a generator.

  Args:
    config: the section `config.encoder`.
    generator: G, whose activations it predicts.
  """
  first, *later = generator.channels
  return Encoder(
    features=first,
    image_size=generator.image_size,
    image_channels=generator.image_channels,
    # Models of older formats have neither field.
    skips=tuple(later) if config.get("skips", False) else (),
    width=config.width,
    rank=config.rank,
    dropout=config.get("dropout", 0.0),
    dtype=jnp.dtype(config.dtype),
    implementation=generator.implementation,
  )


def _apply(network: Any, *arguments: Any, **options: Any) -> jax.Array:
  """Returns what a frozen network gives; Flax's own type is wider."""
  return network.apply(*arguments, **options)


class Networks(NamedTuple):
  """E and the G whose activations it predicts, with their variables.

  Attributes:
    encoder: E, or None, of a search that starts without.
    generator: G.
    encoder_variables: of E.
    generator_variables: of G.
  """

  encoder: Encoder | None
  generator: dcgan.Generator
  encoder_variables: dcgan.Variables | None
  generator_variables: dcgan.Variables

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
      features: of E, for its skips (`EncoderOutput`); () is G alone.
      last: `first` to `generator.layers`.
      first: from 1 on.
    """
    # The layers between two skips.
    ends = range(first + 1, last + 1) if features else [last]
    for end in ends:
      activations = _apply(
        self.generator,
        self.generator_variables,
        activations,
        train=False,
        first=first,
        last=end,
        method="later_activations",
      )
      if features:
        activations = _apply(
          self.encoder,
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
      last = self.generator.layers
      activations = self.later_activations(
        activations, features, first=layer, last=last
      )
      layer = last
    return _apply(
      self.generator,
      self.generator_variables,
      activations,
      train=False,
      layer=layer,
      method="from_activations",
    )
