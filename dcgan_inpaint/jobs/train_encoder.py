"""The job `train_encoder`: an encoder for the generator of a checkpoint."""

import functools
import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections

from dcgan_inpaint.jobs import validation
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.training import checkpoints
from dcgan_inpaint.training import encoder as encoder_training
from dcgan_inpaint.training import feed
from dcgan_inpaint.training import loop
from dcgan_inpaint.training import mask_pool
from dcgan_inpaint.training import warm_start


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Trains an encoder, or goes on with the training that `workdir` holds.

  Leaves in `workdir`: checkpoints/, metrics.jsonl and TensorBoard's files,
  completed/ and config.json.

  Args:
    config: the whole config.
    workdir: where the run lives.
    mesh: the devices.

  Returns:
    A row with the throughput and the last validation, for results.json.

  Raises:
    errors.UserError: the data or the generator's checkpoint is missing, the
      workdir holds the encoder of another generator, there is none of this
      width to go on from, or the error is no longer finite.
    errors.Stopped: a signal came, and the last step is saved.
  """
  settings = config.encoder
  model = trained_model.load(config.checkpoint, mesh)
  generator = model.networks.generator
  encoder = encoder_lib.create(settings, generator)
  given = warm_start.take_over(
    settings, encoder, model.encoder, model.weights.encoder
  )
  images = feed.load(config, "encoder", model.image_shape, mesh)
  masks = mask_pool.load(
    settings.families,
    settings.mask_pool,
    config.seed,
    side=model.image_shape[0],
  )
  task = encoder_training.EncoderTask(
    encoder=encoder,
    generator=generator,
    latent_size=model.config.model.latent_size,
    config=settings,
    generator_digest=trained_model.digest(model.weights.generator),
    frozen=encoder_training.Frozen(
      model.weights.generator, sharding.replicate(masks, mesh)
    ),
    seed=config.seed,
    given=given,
    validate=validation.completion(config, model, encoder, mesh),
  )
  shapes = jax.eval_shape(
    functools.partial(task.init, sharding.replicated(mesh))
  )
  logging.info(
    "%s training images of %s (%s), %s steps of %s; parameters: encoder %s",
    f"{images.count:,}", config.data.name,
    "streamed" if images.source else "on the devices", f"{settings.steps:,}",
    settings.batch_size, f"{dcgan.parameter_count(shapes.variables):,}",
  )  # fmt: skip
  trained = loop.run(
    task, images, config, pathlib.Path(workdir), steps=settings.steps
  )
  return [
    {
      "what": "train_encoder",
      "batch": settings.batch_size,
      "steps": trained.steps,
      "data_digest": images.digest,
      "per_second": trained.per_second,
      checkpoints.COMPLETION_MSE: trained.error,
    }
  ]
