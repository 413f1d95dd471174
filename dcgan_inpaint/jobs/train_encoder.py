"""The job `train_encoder`: the loop around `encoder.train_step`.

The same command again goes on where the last checkpoint stands.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np
import PIL

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import pixels
from dcgan_inpaint.data import batches
from dcgan_inpaint.jobs import train
from dcgan_inpaint.masks import families
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.metrics import pixel_errors
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import encoder as encoder_training
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import metric_writer

# What may not change when a run is resumed, see `train.check_same_run` ...
_FIXED = ("seed", "encoder", "data")
# ... but for these, which only say how long, how often and where to.
_FREE = (
  "encoder.steps",
  "encoder.steps_per_call",
  "encoder.log_every",
  "encoder.save_every",
  "encoder.max_to_keep",
  "encoder.validation_images",
  "data.split",
  "data.test_path",
  "data.placement",
  "data.workers",
)
# Calls that may wait on the devices at a time.
_CALLS_IN_FLIGHT = 8
_SHOWN = 12


def _validation(
  config: ml_collections.ConfigDict,
  model: trained_model.TrainedModel,
  encoder: encoder_lib.Encoder,
  mesh: jax.sharding.Mesh,
) -> Callable[[dcgan.Variables], tuple[float, dict[str, np.ndarray]]]:
  """Returns the function that completes held-out images by the encoder alone.

  It gives the mean squared error of the completed images (8-bit, whole) and
  the rows of a contact sheet.
  """
  originals = data.load(
    config.data, "validation", limit=config.encoder.validation_images
  ).images
  masks = mask_sets.make(config.mask, np.arange(len(originals)))
  devices = mesh.devices.size
  settings = dataclasses.replace(
    search_settings.resolve(config_lib.search(), "fidelity"),
    refine_steps=0,
    batch_size=-(-16 // devices) * devices,
  )
  search = trained_model.make_search(
    dataclasses.replace(model.networks, encoder=encoder), settings, mesh
  )

  def validate(variables):
    found = search(
      model.weights._replace(encoder=variables, other_encoders=()),
      pixels.to_float(originals),
      masks,
    )
    completed = pixels.to_uint8(found.completed)
    error = float(np.mean(pixel_errors.mse(completed, originals)))
    shown = slice(0, _SHOWN)
    return error, {
      "original": originals[shown],
      "masked": pictures.masked_view(originals[shown], masks[shown]),
      "G": pixels.to_uint8(found.generated[shown]),
      "completed": completed[shown],
    }

  return validate


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Trains an encoder, or goes on with the training that `workdir` holds.

  Leaves in `workdir`: checkpoints/, metrics.jsonl, completed/ and config.json.

  Args:
    config: the whole config.
    workdir: where the run lives.
    mesh: the devices.

  Returns:
    A row with the throughput and the last validation, for results.json.

  Raises:
    errors.UserError: the data or the generator's checkpoint is missing, the
      workdir holds the encoder of another generator, or there is none of this
      width to go on from.
  """
  settings = config.encoder
  sharding.check_divisible(
    settings.batch_size, mesh, "config.encoder.batch_size"
  )
  workdir = pathlib.Path(workdir)
  first_process = jax.process_index() == 0

  model = trained_model.load(config.checkpoint, mesh)
  generator, _, _ = gan.networks(model.config)
  encoder = encoder_lib.create(settings, generator)
  if settings.warm_start:
    _check_warm_start(model.encoder, encoder)
  elif settings.fresh_dense:
    raise errors.UserError(
      "config.encoder.fresh_dense keeps the convolutions of a trained encoder: "
      "set config.encoder.warm_start=True, too, or leave it out"
    )
  real = data.load(config.data, "train").images
  dataset, image_count = sharding.place_images(real, mesh), len(real)
  digest = data.digest(real, range(len(real)))
  del real  # The devices have it.
  one = sharding.replicated(mesh)
  holes = settings.families, settings.mask_pool, config.seed
  pool = cache.array(
    lambda: encoder_training.mask_pool(*holes) > 0.5,
    [encoder_training, config_lib, mask_sets, families, np, PIL],
    *holes,
  )
  pool = jax.device_put(np.float32(pool), one)

  init = functools.partial(
    encoder_training.init_state, config.seed, encoder, settings
  )
  shapes = jax.eval_shape(init)
  logging.info(
    "%s training images, %s steps of %s; parameters: encoder %s",
    f"{image_count:,}", f"{settings.steps:,}", settings.batch_size,
    f"{sum(leaf.size for leaf in jax.tree.leaves(shapes.variables)):,}",
  )  # fmt: skip
  meta = {
    "config": checkpoints_lib.as_json(config),
    "images": image_count,
    "generator": trained_model.digest(model.weights.generator),
  }
  checkpoints = checkpoints_lib.Checkpoints(
    workdir / "checkpoints",
    settings.max_to_keep,
    metric=checkpoints_lib.COMPLETION_MSE,
  )
  restored = checkpoints.restore_latest(
    checkpoints_lib.abstract(shapes, one),
    check=lambda then: _check_same_run(then, meta),
  )
  if restored is None:
    step, state = 0, jax.jit(init, out_shardings=one)()
    if settings.warm_start:
      given = model.weights.encoder
      if settings.fresh_dense:
        given = encoder_training.without_dense(given)
      grow = jax.jit(encoder_training.grow, out_shardings=one)
      grown = grow(state.variables, given)
      state = state.replace(variables=grown)
  else:
    step, state = restored
    logging.info("resuming %s at step %s", workdir, f"{step:,}")
  if first_process:
    with files.replacing(workdir / "config.json") as path:
      path.write_text(json.dumps(meta["config"], indent=2))

  on_cpu = mesh.devices.flat[0].platform == "cpu"
  steps_per_call = settings.steps_per_call or (1 if on_cpu else 20)
  train_steps = encoder_training.compile_steps(
    mesh,
    encoder=encoder,
    generator=generator,
    latent_size=model.config.model.latent_size,
    config=settings,
  )
  validate = None
  if settings.validation_images:
    validate = _validation(config, model, encoder, mesh)

  writer = metric_writer.MetricWriter(workdir, resume_step=step)
  bar = progress.Progress(
    settings.steps * settings.batch_size,
    description="train encoder",
    initial=step * settings.batch_size,
  )
  error, pending, means = None, [], []
  with checkpoints, writer, bar:
    while step < settings.steps:
      count = min(steps_per_call, settings.steps - step)
      indices = batches.indices(
        step,
        count,
        batch_size=settings.batch_size,
        count=image_count,
        seed=config.seed,
      )
      state, hole_mse = train_steps(
        state,
        model.weights.generator,
        dataset,
        indices,
        pool,
        np.uint32(config.seed),
      )
      before, step = step, step + count
      pending.append(hole_mse)
      due = functools.partial(
        train.due, before=before, step=step, last=settings.steps
      )
      saving = due(settings.save_every)
      # Reading a figure bounds the steps in flight.
      if len(pending) >= _CALLS_IN_FLIGHT or due(settings.log_every) or saving:
        figures = np.concatenate(jax.device_get(pending))
        if not np.isfinite(figures).all():
          raise errors.UserError(
            f"non-finite loss before step {step}: lower "
            "config.encoder.learning_rate, and start in another --workdir"
          )
        bar.update(
          len(figures) * settings.batch_size, hole_mse=float(figures.mean())
        )
        means.extend(figures)
        pending.clear()
      if due(settings.log_every) or saving:
        writer.scalars(step, {"hole_mse": float(np.mean(means))})
        means.clear()
      if saving:
        with bar.paused():
          if validate:
            error, sheet = validate(state.variables)
            writer.scalars(step, {checkpoints_lib.COMPLETION_MSE: error})
            logging.info("step %s: completion MSE %.1f", f"{step:,}", error)
            if first_process:
              pictures.contact_sheet(
                workdir / "completed" / f"step_{step:06d}.png", sheet
              )
          checkpoints.save(step, state, meta, error)
          writer.flush()
  return [
    {
      "what": "train_encoder",
      "batch": settings.batch_size,
      "steps": step,
      "data_digest": digest,
      "per_second": bar.rate or None,
      checkpoints_lib.COMPLETION_MSE: error,
    }
  ]


def _check_warm_start(
  given: encoder_lib.Encoder | None, wanted: encoder_lib.Encoder
) -> None:
  """Refuses to go on from no encoder, or from one that does not fit in."""
  if given is None:
    raise errors.UserError(
      "config.encoder.warm_start goes on from an encoder, and "
      "config.checkpoint brings none: name the workdir of its training as "
      "config.checkpoint.encoder"
    )
  # What the rank 0 stands for.
  last = dcgan.scaled(encoder_lib.CHANNELS, given.width)[-1]
  ranks = given.rank or last, wanted.rank or last
  if given.width != wanted.width or ranks[0] > ranks[1]:
    raise errors.UserError(
      "config.encoder.warm_start goes on from an encoder of "
      f"config.encoder.width={given.width} and rank={ranks[0]}; these are "
      f"{wanted.width} and {ranks[1]}: take that width and no lower rank, or "
      "start afresh"
    )
  if given.skips and not wanted.skips:
    raise errors.UserError(
      "config.encoder.warm_start goes on from an encoder with skips: leave "
      "config.encoder.skips=True, or start afresh"
    )


def _check_same_run(then: dict[str, Any], now: dict[str, Any]) -> None:
  """Refuses to go on for another generator, or under another config."""
  if then["generator"] != now["generator"]:
    raise errors.UserError(
      "the encoder in --workdir was trained for another generator: take "
      "another --workdir"
    )
  # What runs of before had.
  before = {
    "skips": False,
    "dropout": 0.0,
    "mirrored": False,
    "fresh_dense": False,
  }
  for field, value in before.items():
    then["config"]["encoder"].setdefault(field, value)
  train.check_same_run(then, now, _FIXED, _FREE)
