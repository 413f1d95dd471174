"""The networks of a search, and their weights."""

import dataclasses
from typing import NamedTuple
from typing import cast

import jax

from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.networks import losses


@dataclasses.dataclass(frozen=True)
class NetworkBundle:
  """The networks of a search, without their weights.

  Attributes:
    generator: G.
    discriminator: D, which returns `loss.outputs` logits.
    loss: the variant whose `prior` is the perceptual loss.
    latent_size: values of z.
    encoder: E, which a search may start from; None without one.
  """

  generator: dcgan.Generator
  discriminator: dcgan.Discriminator
  loss: losses.AdversarialLoss
  latent_size: int = 100
  encoder: encoder_lib.Encoder | None = None

  def generate(self, weights: "Weights", latents: jax.Array) -> jax.Array:
    """Returns G(z), [B, H, W, C], of latents [B, latent_size]."""
    return cast(
      jax.Array,
      self.generator.apply(weights.generator, latents, train=False),
    )

  def discriminate(self, weights: "Weights", images: jax.Array) -> jax.Array:
    """Returns the logits of D, [B, loss.outputs], of images [B, H, W, C]."""
    return cast(
      jax.Array,
      self.discriminator.apply(weights.discriminator, images, train=False),
    )

  def encode(
    self, weights: "Weights", images: jax.Array, masks: jax.Array
  ) -> encoder_lib.EncoderOutput:
    """Returns the output of E for images [B, H, W, C], masks [B, H, W, 1]."""
    if self.encoder is None or weights.encoder is None:
      raise ValueError("there is no encoder")
    return cast(
      encoder_lib.EncoderOutput,
      self.encoder.apply(weights.encoder, images, masks),
    )

  def first_activations(
    self, weights: "Weights", latents: jax.Array
  ) -> jax.Array:
    """Returns G's first activations, [B, 4, 4, C], of latents."""
    return cast(
      jax.Array,
      self.generator.apply(
        weights.generator, latents, train=False, method="first_activations"
      ),
    )

  def decoder(self, weights: "Weights") -> encoder_lib.Networks:
    """Returns G from its first activations on, with the skips of E."""
    return encoder_lib.Networks(
      self.encoder, self.generator, weights.encoder, weights.generator
    )


class Weights(NamedTuple):
  """The weights of the frozen networks.

  They are always passed as arguments: XLA treats a closure's arrays as
  constants and folds them.

  Attributes:
    generator: of G.
    discriminator: of D.
    encoder: of the encoder, or of the first of several; None without one.
    other_encoders: of the other encoders, which have the same shapes.
  """

  generator: dcgan.Variables
  discriminator: dcgan.Variables
  encoder: dcgan.Variables | None = None
  other_encoders: tuple[dcgan.Variables, ...] = ()


def prepare(networks: NetworkBundle, weights: Weights) -> Weights:
  """Adds what all steps of a search share to the weights (`dcgan.prepare`)."""
  return weights._replace(
    generator=dcgan.prepare(networks.generator, weights.generator),
    discriminator=dcgan.prepare(networks.discriminator, weights.discriminator),
  )


def each_encoder(weights: Weights, count: int = 0) -> list[Weights]:
  """Returns the weights once for each encoder, with only that encoder.

  Args:
    weights: of all networks.
    count: how many encoders to take, the first ones; 0 = all.
  """
  encoders = [weights.encoder, *weights.other_encoders]
  return [
    weights._replace(encoder=encoder, other_encoders=())
    for encoder in encoders[: count or None]
  ]
