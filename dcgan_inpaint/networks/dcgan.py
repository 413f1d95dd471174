"""The DCGAN's generator and discriminator, layer by layer as in the paper.

At the paper's size of 64x64 pixels in colour these are its tables:

Table 1, generator (width 1)          Table 2, discriminator (width 1)
  z                100                  image            64 x 64 x 3
  dense, reshape   4 x 4 x 1024         conv 5x5 / 2     32 x 32 x 64
  deconv 5x5 / 2   8 x 8 x 512          conv 5x5 / 2     16 x 16 x 128
  deconv 5x5 / 2   16 x 16 x 256        conv 5x5 / 2     8 x 8 x 256
  deconv 5x5 / 2   32 x 32 x 128        conv 5x5 / 2     4 x 4 x 512
  deconv 5x5 / 2   64 x 64 x 3          dense            1
  BatchNorm and ReLU between,           leaky ReLU 0.2, BatchNorm after
  tanh at the end                       the first layer on

Other sizes add or drop layers at the end of the image by one rule: where the
sides double, the channels halve, as in the tables (and as DCGANs of 128x128 are
commonly built). So every layer between takes about as many operations, and all
that lies within 32x32 is the same:

  side of the image   G after the dense layer        D
  32                  1024, 512, 256                 128, 256, 512
  64                  1024, 512, 256, 128            64, 128, 256, 512
  128                 1024, 512, 256, 128, 64        32, 64, 128, 256, 512
  256                 1024, 512, 256, 128, 64, 32    16, 32, 64, 128, 256, 512

Weights start as in DCGAN (Radford et al. 2016): normal with deviation 0.02. A
layer that BatchNorm follows has no bias, since the norm would take it away.

Parameters and running statistics are float32 whatever `dtype` the layers
compute in.
"""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from dcgan_inpaint.networks import convolutions

# {'params': ..., 'batch_stats': ...}: what `apply` takes.
Variables = Mapping[str, Any]

# Channels at 4x4 (tables 1 and 2).
GENERATOR_CHANNELS = 1024
DISCRIMINATOR_CHANNELS = 512

_INIT = nn.initializers.normal(0.02)


def channel_counts(
  coarsest: int, image_size: int, width: float
) -> tuple[int, ...]:
  """Returns the channels at 4x4, 8x8 and so on to half the image's side.

  Args:
    coarsest: those at 4x4 and width 1; they halve where the side doubles.
    image_size: side of the image, 8 times a power of two.
    width: multiplies the channels; each count is at least one.

  Raises:
    ValueError: there is no such image.
  """
  layers = image_size.bit_length() - 3
  if layers < 1 or image_size != 4 << layers:
    raise ValueError(f"images of {image_size} pixels: take 32, 64, 128 or 256")
  return tuple(
    max(1, round(width * coarsest / 2**layer)) for layer in range(layers)
  )


class Conv(nn.Module):
  """A 5x5 convolution of stride 2, or its transpose, with Flax's parameters.

  Attributes:
    features: channels of the output.
    transposed: doubles the sides instead of halving them.
    use_bias: whether a bias is added.
    dtype: the type that is computed in.
    implementation: one of `convolutions.IMPLEMENTATIONS`.
  """

  features: int
  transposed: bool = False
  use_bias: bool = False
  dtype: Any = jnp.float32
  implementation: str = "plain"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, Cin] to half or twice the sides, and to `features`."""
    shape = (5, 5, x.shape[-1], self.features)
    kernel = self.param("kernel", _INIT, shape, jnp.float32)
    convolve = (
      convolutions.transposed if self.transposed else convolutions.strided
    )
    # Of `prepare`, if it was called.
    prepared = self.get_variable("prepared", "kernel")
    x = convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      self.implementation,
      prepared,
    )
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros_init(), shape[-1:])
      x = x + bias.astype(self.dtype)
    return x


class Generator(nn.Module):
  """G: a latent to an image (paper, table 1).

  Attributes:
    image_size: side of the images, pixels; 64 is the paper's.
    image_channels: 3 (RGB), the paper's, or 1 (grey).
    width: multiplies every channel count; 1 is the paper's.
    batch_norm_momentum: how much of the running statistics a step keeps.
    dtype: the type the layers compute in.
    implementation: of the convolutions, one of `convolutions.IMPLEMENTATIONS`.
  """

  image_size: int = 64
  image_channels: int = 3
  width: float = 1.0
  batch_norm_momentum: float = 0.9
  dtype: Any = jnp.float32
  implementation: str = "plain"

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """The height, the width and the channels of an image."""
    return self.image_size, self.image_size, self.image_channels

  @property
  def channels(self) -> tuple[int, ...]:
    """Of the activations that each deconvolution gets; 4x4 come first."""
    return channel_counts(GENERATOR_CHANNELS, self.image_size, self.width)

  @property
  def layers(self) -> int:
    """How many deconvolutions there are; 4 at 64x64."""
    return len(self.channels)

  def setup(self):
    """Makes the layers."""
    first, *others = self.channels
    self.dense = nn.Dense(
      4 * 4 * first, use_bias=False, dtype=self.dtype, kernel_init=_INIT
    )
    # Attributes name the parameters: dense, deconv_1 ... and batch_norm_0 ...
    for layer in range(self.layers):
      setattr(
        self,
        f"batch_norm_{layer}",
        nn.BatchNorm(momentum=self.batch_norm_momentum, dtype=self.dtype),
      )
    for layer, features in enumerate([*others, self.image_channels], start=1):
      conv = Conv(
        features,
        transposed=True,
        use_bias=layer == self.layers,
        dtype=self.dtype,
        implementation=self.implementation,
      )
      setattr(self, f"deconv_{layer}", conv)

  def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
    """Maps latents [B, latent_size] to images [B, S, S, C] in [-1, 1]."""
    return self.from_activations(
      self.first_activations(z, train=train), train=train
    )

  def first_activations(self, z: jax.Array, *, train: bool) -> jax.Array:
    """Maps latents to what the first deconvolution gets, [B, 4, 4, C] >= 0."""
    x = self.dense(z)
    x = x.reshape(-1, 4, 4, x.shape[-1] // 16)
    return nn.relu(self.batch_norm_0(x, use_running_average=not train))

  def from_activations(
    self, x: jax.Array, *, train: bool, layer: int = 1
  ) -> jax.Array:
    """Maps what deconvolution `layer` gets to images [B, S, S, C] in [-1, 1].

    Args:
      x: [B, 4, 4, ...] of the first layer, [B, 8, 8, ...] of the second, ...
      train: whether BatchNorm takes the batch's statistics.
      layer: 1 to `layers`.
    """
    last = self.layers
    x = self.later_activations(x, train=train, first=layer, last=last)
    x = getattr(self, f"deconv_{last}")(x)
    return jnp.tanh(x.astype(jnp.float32))

  def later_activations(
    self, x: jax.Array, *, train: bool, last: int, first: int = 1
  ) -> jax.Array:
    """Maps what the deconvolution `first` gets to what `last` gets."""
    for layer in range(first, last):
      x = getattr(self, f"deconv_{layer}")(x)
      norm = getattr(self, f"batch_norm_{layer}")
      x = nn.relu(norm(x, use_running_average=not train))
    return x


class Discriminator(nn.Module):
  """D: an image to its logits (paper, table 2).

  Attributes:
    outputs: logits an image; one, or two for `softmax_cross_entropy`.
    image_size: side of the images, pixels.
    width, batch_norm_momentum, dtype, implementation: as the generator's.
  """

  outputs: int = 1
  image_size: int = 64
  width: float = 1.0
  batch_norm_momentum: float = 0.9
  dtype: Any = jnp.float32
  implementation: str = "plain"

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps images [B, S, S, C] in [-1, 1] to logits [B, outputs] float32."""
    coarsest_first = channel_counts(
      DISCRIMINATOR_CHANNELS, self.image_size, self.width
    )
    for layer, features in enumerate(coarsest_first[::-1]):
      first = layer == 0
      x = Conv(
        features,
        use_bias=first,
        dtype=self.dtype,
        implementation=self.implementation,
        name=f"conv_{layer}",
      )(x)
      if not first:
        x = nn.BatchNorm(
          use_running_average=not train,
          momentum=self.batch_norm_momentum,
          dtype=self.dtype,
          name=f"batch_norm_{layer}",
        )(x)
      x = nn.leaky_relu(x, 0.2)
    x = x.reshape(x.shape[0], -1)
    # In float32 always: a logit of bfloat16 would have three digits.
    return nn.Dense(
      self.outputs, dtype=jnp.float32, kernel_init=_INIT, name="dense"
    )(x)


def create(config: Any, outputs: int) -> tuple[Generator, Discriminator]:
  """Returns the two networks that `config.model` describes.

  The first call may build the convolutions (`convolutions.choose`), and comes
  before anything is traced.

  Args:
    config: the section `config.model`.
    outputs: the discriminator's outputs, `AdversarialLoss.outputs`.

  Raises:
    errors.UserError: `config.model.convolution` cannot be had here.
  """
  common = {
    # Models of older formats have neither a size nor channels.
    "image_size": config.get("image_size", Generator.image_size),
    "width": config.width,
    "batch_norm_momentum": config.batch_norm_momentum,
    "dtype": jnp.dtype(config.dtype),
    "implementation": convolutions.choose(config.convolution),
  }
  channels = config.get("image_channels", Generator.image_channels)
  return (
    Generator(image_channels=channels, **common),
    Discriminator(outputs=outputs, **common),
  )


def prepare(
  network: Generator | Discriminator, variables: Variables
) -> Variables:
  """Adds to a frozen network what is made of its kernels once, for speed.

  What it computes stays the same.

  Args:
    network: G or D.
    variables: its parameters and statistics.

  Returns:
    `variables`, with a collection `prepared`: of each convolution what
    `convolutions.prepare` returns.
  """
  made = {
    name: {
      "kernel": convolutions.prepare(
        layer["kernel"].astype(network.dtype),
        network.implementation,
        transposed=isinstance(network, Generator),
      )
    }
    for name, layer in variables["params"].items()
    if "conv" in name
  }
  return {**variables, "prepared": made}


def sample_latents(key: jax.Array, count: int, latent_size: int) -> jax.Array:
  """Draws latents [count, latent_size], uniform in [-1, 1]."""
  return jax.random.uniform(key, (count, latent_size), minval=-1.0, maxval=1.0)


def parameter_count(variables: Variables) -> int:
  """Returns how many values are trained."""
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
