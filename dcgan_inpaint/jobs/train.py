"""The job `train`: adversarial training, then the job `evaluate`."""

import functools
import pathlib
import signal
from typing import Any

from absl import logging
import jax
import ml_collections

from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.jobs import validation
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.training import checkpoints
from dcgan_inpaint.training import feed
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import loop


def total_steps(config: Any, images: int) -> int:
  """Returns how many steps `config.train` asks for, over so many images."""
  return config.steps or round(config.epochs * (images // config.batch_size))


def run_and_evaluate(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """The job: `run`, then the job `evaluate` for what it trained.

  Args:
    config: the whole config; where `evaluation.methods` is empty, nothing is
      evaluated.
    workdir: where the run lives.
    mesh: the devices of all processes.

  Returns:
    The rows of both.
  """
  # Before hours of training.
  evaluate.check(config, sharding.local_mesh(mesh))
  rows = run(config, workdir, mesh)
  if jax.process_count() > 1:
    # JAX's handler let training save; what follows is repeated.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
  if config.evaluation.methods:
    rows += evaluate.run(evaluate.of_training(config, workdir), workdir, mesh)
  return rows


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Trains a DCGAN, or goes on with the training that `workdir` holds.

  Leaves in `workdir`: checkpoints/, metrics.jsonl and TensorBoard's files,
  samples/, inpainted/, losses.png, mean_image.png and config.json.

  Args:
    config: the whole config.
    workdir: where the run lives.
    mesh: the devices.

  Returns:
    A row with the throughput and the last inversion MSE, for results.json.

  Raises:
    errors.UserError: the data is missing, the workdir holds another run, or
      the loss is no longer finite.
    errors.Stopped: a signal came, and the last step is saved.
  """
  settings = config.train
  networks = bundle.NetworkBundle(
    *gan.networks(config), latent_size=config.model.latent_size
  )
  images = feed.load(config, "train", networks.generator.image_shape, mesh)
  task = gan.GanTask(
    generator=networks.generator,
    discriminator=networks.discriminator,
    loss=networks.loss,
    latent_size=networks.latent_size,
    config=settings,
    seed=config.seed,
    validate=validation.inversion(config, networks, mesh),
  )
  shapes = jax.eval_shape(
    functools.partial(task.init, sharding.replicated(mesh))
  )
  steps = total_steps(settings, images.count)
  logging.info(
    "%s training images of %s (%s), %s steps of %s; parameters: generator %s, "
    "discriminator %s",
    f"{images.count:,}", config.data.name,
    "streamed" if images.source else "on the devices", f"{steps:,}",
    settings.batch_size,
    f"{dcgan.parameter_count(shapes.generator):,}",
    f"{dcgan.parameter_count(shapes.discriminator):,}",
  )  # fmt: skip
  trained = loop.run(
    task,
    images,
    config,
    pathlib.Path(workdir),
    steps=steps,
    data_pictures={"mean_image.png": images.mean_image},
  )
  rate = trained.per_second
  return [
    {
      "what": "train",
      "batch": settings.batch_size,
      "steps": trained.steps,
      "data_digest": images.digest,
      # None where an earlier run had done it all.
      "per_second": rate,
      "milliseconds_per_step": rate and 1000 * settings.batch_size / rate,
      checkpoints.INVERSION_MSE: trained.error,
    }
  ]
