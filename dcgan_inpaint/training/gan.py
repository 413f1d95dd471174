"""The state of adversarial training, and the step that changes it.

A step is one update of the discriminator and one of the generator, which share
one pass of the generator, as in DCGAN (Radford et al. 2016). The
discriminator sees real and generated images as separate batches, since
BatchNorm over a mixture would help it to distinguish them.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any
from typing import ClassVar
from typing import cast

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcgan_inpaint import pixels
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import losses
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import checkpoints

# Images in the picture of samples.
_SAMPLES = 64


@struct.dataclass
class GanState:
  """All that training changes, and what is checkpointed.

  Attributes:
    step: the number of updates, int32.
    generator: parameters and running statistics of G.
    discriminator: parameters and running statistics of D.
    generator_optimizer: Adam's moments for G.
    discriminator_optimizer: Adam's moments for D.
    generator_ema: exponential moving average of `generator`, its statistics
      included: averaged weights under statistics of other weights give images
      of the wrong colours.
  """

  step: jax.Array
  generator: dcgan.Variables
  discriminator: dcgan.Variables
  generator_optimizer: optax.OptState
  discriminator_optimizer: optax.OptState
  generator_ema: dcgan.Variables


def networks(
  config: Any,
) -> tuple[dcgan.Generator, dcgan.Discriminator, losses.AdversarialLoss]:
  """Returns G, D and the loss variant that a whole config describes."""
  loss = losses.get(config.train.loss)
  return *dcgan.create(config.model, loss.outputs), loss


def _optimizer(config: Any) -> optax.GradientTransformation:
  return optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)


def init_state(
  seed: int,
  generator: dcgan.Generator,
  discriminator: dcgan.Discriminator,
  latent_size: int,
  config: Any,
) -> GanState:
  """Returns the state before the first step.

  Args:
    seed: the run's seed.
    generator: G.
    discriminator: D.
    latent_size: values of z.
    config: the section `config.train`.
  """
  keys = jax.random.split(jax.random.key(seed))
  latents = jnp.zeros((2, latent_size))
  images = jnp.zeros((2, *generator.image_shape))
  g = generator.init(keys[0], latents, train=False)
  d = discriminator.init(keys[1], images, train=False)
  optimizer = _optimizer(config)
  return GanState(
    step=jnp.int32(0),
    generator=g,
    discriminator=d,
    generator_optimizer=optimizer.init(g["params"]),
    discriminator_optimizer=optimizer.init(d["params"]),
    # A copy: the same buffer twice could not be donated.
    generator_ema=jax.tree.map(jnp.copy, g),
  )


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
  """Mirrors about half of the images, left to right."""
  mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
  return jnp.where(mirrored, images[:, :, ::-1], images)


def train_step(
  state: GanState,
  images: jax.Array,
  seed: jax.Array,
  *,
  generator: dcgan.Generator,
  discriminator: dcgan.Discriminator,
  loss: losses.AdversarialLoss,
  latent_size: int,
  config: Any,
  split: Callable[[jax.Array], jax.Array] = lambda batch: batch,
) -> tuple[GanState, dict[str, jax.Array]]:
  """Updates both networks once.

  Args:
    state: the state before.
    images: uint8 [B, S, S, C], real images.
    seed: the run's seed; all randomness is a function of it and of the step.
    generator: G.
    discriminator: D.
    loss: the loss variant.
    latent_size: values of z.
    config: the section `config.train`.
    split: shards a batch over the devices.

  Returns:
    The state after, and scalars: the losses, D's mean logits on real and on
    generated images, and the L2 norm of each network's update.
  """
  key = jax.random.fold_in(jax.random.key(seed), state.step)
  latent_key, flip_key = jax.random.split(key)
  real = pixels.to_float(images)
  if config.flip:
    real = flip(flip_key, real)
  # Sharded explicitly: otherwise every device would generate the whole batch.
  latents = split(dcgan.sample_latents(latent_key, len(images), latent_size))
  optimizer = _optimizer(config)

  def generate(params):
    variables = {**state.generator, "params": params}
    fake, updated = generator.apply(
      variables, latents, train=True, mutable=["batch_stats"]
    )
    return fake, updated["batch_stats"]

  # One pass serves both updates: D's uses its images, and G's pulls D's
  # gradient back through it.
  fake, pull_back, generator_stats = jax.vjp(
    generate, state.generator["params"], has_aux=True
  )

  def discriminate(params, stats, batch):
    logits, updated = discriminator.apply(
      {"params": params, "batch_stats": stats},
      batch,
      train=True,
      mutable=["batch_stats"],
    )
    return logits, updated["batch_stats"]

  def discriminator_loss(params):
    on_real, stats = discriminate(
      params, state.discriminator["batch_stats"], real
    )
    on_fake, stats = discriminate(params, stats, jax.lax.stop_gradient(fake))
    value = jnp.mean(loss.real(on_real)) + jnp.mean(loss.fake(on_fake))
    return value, (stats, on_real, on_fake)

  (d_loss, (stats, on_real, on_fake)), gradient = jax.value_and_grad(
    discriminator_loss, has_aux=True
  )(state.discriminator["params"])
  d_updates, discriminator_optimizer = optimizer.update(
    gradient, state.discriminator_optimizer
  )
  new_discriminator = {
    "params": optax.apply_updates(state.discriminator["params"], d_updates),
    "batch_stats": stats,
  }

  # The generator's update, against the updated discriminator, of which nothing
  # changes here, not even the running statistics.
  def generator_loss(batch):
    logits, _ = discriminate(new_discriminator["params"], stats, batch)
    adversarial = jnp.mean(loss.generator(logits))
    if not config.roughness_weight:
      return adversarial, adversarial
    penalty = losses.excess_roughness(batch, real)
    return adversarial + config.roughness_weight * penalty, adversarial

  (_, g_loss), image_gradient = jax.value_and_grad(
    generator_loss, has_aux=True
  )(fake)
  (gradient,) = pull_back(image_gradient)
  g_updates, generator_optimizer = optimizer.update(
    gradient, state.generator_optimizer
  )
  new_generator = {
    "params": optax.apply_updates(state.generator["params"], g_updates),
    "batch_stats": generator_stats,
  }

  # Early on the average follows closely; otherwise it would contain the
  # initialisation for thousands of steps.
  decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
  generator_ema = cast(
    dcgan.Variables,
    optax.incremental_update(new_generator, state.generator_ema, 1 - decay),
  )

  metrics = {
    "discriminator_loss": d_loss,
    "generator_loss": g_loss,
    "real_logit": jnp.mean(on_real[:, -1]),
    "fake_logit": jnp.mean(on_fake[:, -1]),
    # Not finite as soon as any parameter is not; the losses, computed before
    # the update, show it a step later.
    "discriminator_update": optax.tree.norm(d_updates),
    "generator_update": optax.tree.norm(g_updates),
  }
  state = GanState(
    step=state.step + 1,
    generator=new_generator,
    discriminator=new_discriminator,
    generator_optimizer=generator_optimizer,
    discriminator_optimizer=discriminator_optimizer,
    generator_ema=generator_ema,
  )
  return state, metrics


@functools.partial(
  jax.jit, static_argnames=("generator", "seed", "count", "latent_size")
)
def samples(
  variables: dcgan.Variables,
  *,
  generator: dcgan.Generator,
  seed: int,
  count: int,
  latent_size: int,
) -> jax.Array:
  """Returns images of G, uint8 [count, S, S, C], the same for every state.

  Args:
    variables: of G.
    generator: G.
    seed: the seed of the latents.
    count: how many images.
    latent_size: values of z.
  """
  latents = dcgan.sample_latents(jax.random.key(seed), count, latent_size)
  images = generator.apply(variables, latents, train=False)
  return pixels.to_uint8(cast(jax.Array, images))


@dataclasses.dataclass(frozen=True)
class GanTask:
  """Adversarial training, as a `loop.Task`.

  Attributes:
    generator: G.
    discriminator: D.
    loss: the loss variant.
    latent_size: values of z.
    config: the section `config.train`.
    seed: the seed of the initial weights and of the samples.
    validate: see `loop.Task`.
  """

  name: ClassVar[str] = "train"
  metric: ClassVar[str] = checkpoints.INVERSION_MSE
  fixed_fields: ClassVar[tuple[str, ...]] = (
    "seed",
    "model",
    "data.name",
    "data.path",
    "data.validation_path",
    "data.ids",
    "data.crop",
    "data.ids",
    "data.max_images",
    "data.seed",
    "train.loss",
    "train.batch_size",
    "train.learning_rate",
    "train.beta1",
    "train.beta2",
    "train.ema_decay",
    "train.roughness_weight",
    "train.flip",
  )

  generator: dcgan.Generator
  discriminator: dcgan.Discriminator
  loss: losses.AdversarialLoss
  latent_size: int
  config: Any
  seed: int = 0
  validate: Callable[[GanState], tuple[float, Any]] | None = None

  @property
  def meta(self) -> dict[str, Any]:
    """Nothing: the config alone identifies a training."""
    return {}

  @property
  def frozen(self) -> tuple[()]:
    """Nothing: both networks are trained."""
    return ()

  @functools.cached_property
  def _first_state(self) -> Callable[[], GanState]:
    # The same function object each time, so that JAX traces it once for both
    # its shapes and its values.
    return functools.partial(
      init_state,
      self.seed,
      self.generator,
      self.discriminator,
      self.latent_size,
      self.config,
    )

  def init(self, placed: jax.sharding.Sharding) -> GanState:
    """Returns the state before the first step."""
    return jax.jit(self._first_state, out_shardings=placed)()

  def step(
    self,
    state: GanState,
    images: jax.Array,
    seed: jax.Array,
    frozen: tuple[()],
    split: Callable[[jax.Array], jax.Array],
  ) -> tuple[GanState, dict[str, jax.Array]]:
    """Updates both networks once, see `train_step`."""
    del frozen
    return train_step(
      state,
      images,
      seed,
      generator=self.generator,
      discriminator=self.discriminator,
      loss=self.loss,
      latent_size=self.latent_size,
      config=self.config,
      split=split,
    )

  def sample(self, state: GanState) -> np.ndarray:
    """Returns a picture of generated images, uint8 [H, W, C]."""
    images = samples(
      sharding.local_copy(state.generator_ema),
      generator=self.generator,
      seed=self.seed,
      count=_SAMPLES,
      latent_size=self.latent_size,
    )
    return pictures.grid(np.asarray(images), columns=8)
