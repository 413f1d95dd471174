"""Networks of a few channels, for tests that need any networks at all."""

import contextlib

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.search import bundle
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import gan

WIDTH = 0.03
LATENT_SIZE = 5
SIZE = 64
SHAPE = (SIZE, SIZE, 3)


def mesh(devices: int) -> jax.sharding.Mesh:
  """Returns a mesh as `sharding.create_mesh` does, over some devices only."""
  return jax.make_mesh(
    (devices,),
    ("data",),
    axis_types=(AxisType.Auto,),
    devices=jax.devices()[:devices],
  )


def record_traces(monkeypatch) -> list[str | int]:
  """Returns what JAX's profiler is told from now on, in place of tracing.

  "start" and "stop" are those of a trace, numbers the first steps of calls.
  """
  done = []
  session = ("start_trace", lambda folder, **unused: done.append("start"))
  monkeypatch.setattr(jax.profiler, *session)
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: done.append("stop"))
  monkeypatch.setattr(
    jax.profiler,
    "StepTraceAnnotation",
    lambda kind, step_num: done.append(step_num) or contextlib.nullcontext(),
  )
  return done


def variables(module, example, seed=0):
  """Returns variables under which every value of a network matters.

  Freshly initialised weights give almost grey images, which hide errors. These
  are scaled to their layer's inputs, and NumPy draws them from a stream that
  never changes.
  """
  rng = np.random.RandomState(seed)

  def draw(path, leaf):
    name = path[-1].key
    if name == "kernel":
      deviation = 1.5 / np.sqrt(np.prod(leaf.shape[:-1]))
      return np.float32(deviation * rng.randn(*leaf.shape))
    if name in ("scale", "var"):
      return np.float32(rng.uniform(0.5, 2, leaf.shape))
    return np.float32(0.3 * rng.randn(*leaf.shape))

  shapes = jax.eval_shape(
    lambda: module.init(jax.random.key(0), example, train=False)
  )
  return jax.tree_util.tree_map_with_path(draw, shapes)


def networks(outputs=1, image_channels=3, **options):
  """Returns G and D."""
  options = {"width": WIDTH, "implementation": "auto", **options}
  options["implementation"] = convolutions.choose(options["implementation"])
  return (
    dcgan.Generator(image_channels=image_channels, **options),
    dcgan.Discriminator(outputs=outputs, **options),
  )


def weights(generator, discriminator, seed=0) -> bundle.Weights:
  """Returns variables of both networks."""
  image = jnp.zeros((1, *generator.image_shape))
  return bundle.Weights(
    variables(generator, jnp.zeros((1, LATENT_SIZE)), seed),
    variables(discriminator, image, seed + 1),
  )


def train_config(**fields):
  """Returns a config of the job `train`: 6 steps of 8 of 16 synthetic faces.

  Args:
    **fields: more fields, with `__` instead of the dot: `train__steps=3`.
  """
  config = config_lib.train_job()
  config.model.width = WIDTH
  config.model.latent_size = LATENT_SIZE
  config.data.max_images = 16
  config.train.batch_size = 8
  config.train.steps = 6
  config.train.steps_per_call = 1
  config.train.log_every = 1
  config.train.save_every = 3
  config.train.sample_every = 6
  config.train.validation_images = 2
  config.train.validation_steps = 2
  config.search.steps = 3
  config.search.batch_size = 4
  config.evaluation.images = 3
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in fields.items()}
  )
  return config


def encoder_config(checkpoint, **fields):
  """Returns a config of the job `train_encoder`: 4 steps of 8 faces.

  Args:
    checkpoint: the workdir of the generator's training.
    **fields: as for `train_config`.
  """
  config = config_lib.train_encoder_job()
  config.checkpoint.path, config.checkpoint.step = str(checkpoint), "latest"
  config.data.max_images = 16
  config.encoder.width = WIDTH
  config.encoder.batch_size = 8
  config.encoder.mask_pool = 8
  config.encoder.steps = 4
  config.encoder.steps_per_call = 1
  config.encoder.log_every = 1
  config.encoder.save_every = 2
  config.encoder.validation_images = 2
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in fields.items()}
  )
  return config


def saved_state(workdir, step, **fields) -> gan.GanState:
  """Returns a checkpoint of a `train_config` of fields, as NumPy arrays."""
  config = train_config(**fields)
  generator, discriminator, _ = gan.networks(config)
  state = jax.eval_shape(
    lambda: gan.init_state(
      0, generator, discriminator, LATENT_SIZE, config.train
    )
  )
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with checkpoints_lib.existing(str(workdir)) as checkpoints:
    return jax.device_get(
      checkpoints.restore(step, checkpoints_lib.abstract(state, one))
    )
