"""The job `evaluate`: fills the holes of a data set and scores every method.

All methods get the same images and the same masks, and are scored by one
function on 8-bit pixels, over the whole image, as in the paper, and over the
hole alone; and, where `config.evaluation.features` names some, by how real the
completed images look and whether the faces are still the same persons
(`metrics/realism.py`). The job `benchmark` runs and scores its methods by the
same functions.
"""

from collections.abc import Sequence
import functools
import pathlib
import time
from typing import Any
from typing import NamedTuple

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import data
from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.jobs import scored_features
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.metrics import pixel_errors
from dcgan_inpaint.networks import losses
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model

# Images scored at a time.
_BATCH = 256
# Training images, at the most, that a method is fitted to.
_TRAINING_IMAGES = 20_000


class Filled(NamedTuple):
  """What a method made of some images.

  Attributes:
    completed: uint8 [N, H, W, C]; grey where the method failed.
    generated: G(z), of the same shape, where the method has one.
    failed: bool [N]: the method raised an error for the image, or returned
      something that is not finite.
    seconds: what the method took for all of them.
  """

  completed: np.ndarray
  generated: np.ndarray | None
  failed: np.ndarray
  seconds: float


def fill(
  method: methods.Method,
  images: np.ndarray,
  masks: np.ndarray,
  indices: Sequence[int] | None = None,
) -> Filled:
  """Runs a method, and takes its time.

  A failure costs an image, not the run: where the method raises an error, it
  gets the images one by one, and those that fail alone are named and counted.

  Args:
    method: of `methods.create`.
    images: float32 [N, H, W, C] in [-1, 1].
    masks: float32 [N, H, W, 1], 1 = known.
    indices: the images' places in their data set; 0, 1, 2 ... by default.

  Raises:
    errors.UserError: from the method; a mistake that no image is to blame for.
    Exception: of a full disk or memory, likewise; see `errors.of_machine`.
  """
  indices = range(len(images)) if indices is None else indices
  start = time.perf_counter()
  try:
    completion = method(images, masks, indices)
  except errors.UserError:
    raise
  except Exception as error:  # noqa: BLE001 (Any method, any error.)
    if errors.of_machine(error):  # No image is to blame.
      raise
    if len(images) > 1:
      alone = [
        fill(method, images[[i]], masks[[i]], [index])
        for i, index in enumerate(indices)
      ]
      return _join(alone)
    logging.warning(
      "image %s failed: %s: %s", indices[0], type(error).__name__, error
    )
    completion = methods.Completion(np.full_like(images, np.nan))
  seconds = time.perf_counter() - start
  completed, generated = completion
  failed = ~np.isfinite(completed).all((1, 2, 3))
  completed = np.where(failed[:, None, None, None], np.float32(0), completed)
  if generated is not None:
    generated = pixels.to_uint8(np.nan_to_num(generated))
  return Filled(pixels.to_uint8(completed), generated, failed, seconds)


def _join(alone: list[Filled]) -> Filled:
  """Returns what was filled image by image as if it were at once."""
  completed, generated, failed, seconds = zip(*alone, strict=True)
  return Filled(
    np.concatenate(completed),
    # An image that failed has no G(z); the others of its chunk do without.
    None if any(x is None for x in generated) else np.concatenate(generated),
    np.concatenate(failed),
    sum(seconds),
  )


def metrics(
  filled: Filled, originals: np.ndarray, masks: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns every metric of every image, {metric: float32 [N]}.

  Args:
    filled: what a method made of the images.
    originals: uint8 [N, H, W, C].
    masks: float32 [N, H, W, 1].

  Returns:
    The metrics of `pixel_errors.evaluate`; NaN where the method failed.
  """
  parts = [
    jax.device_get(
      pixel_errors.evaluate(
        filled.completed[first : first + _BATCH],
        originals[first : first + _BATCH],
        masks[first : first + _BATCH],
      )
    )
    for first in range(0, len(originals), _BATCH)
  ]
  return {
    name: np.where(
      filled.failed, np.nan, np.concatenate([part[name] for part in parts])
    )
    for name in parts[0]
  }


def score(
  image_metrics: dict[str, np.ndarray], count: int | None = None
) -> dict[str, float]:
  """Returns the mean of every metric over the images, and 95 % intervals.

  Args:
    image_metrics: {metric: float [N]}, of `metrics`; NaN counts for nothing.
    count: the images of all processes, of which these are this one's share;
      these by default.

  Returns:
    {metric: mean, metric_ci95: half width of the interval}.
  """
  row = {}
  for name, values in image_metrics.items():
    if count is not None:
      values = sharding.gather_slices(values, count)
    mean, half_width = pixel_errors.summarise(values)
    row |= {name: mean, f"{name}_ci95": half_width}
  return row


def check(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> tuple[list[str], search_settings.SearchSettings]:
  """Refuses what `evaluate` would refuse, before hours of training.

  Args:
    config: the whole config of the training.
    mesh: the devices.

  Returns:
    The methods, and the settings of the search.

  Raises:
    errors.UserError: a method, the mask or the search has a wrong value.
  """
  names, settings = check_methods(
    config.evaluation.methods, "config.evaluation.methods", config, mesh
  )
  side = config.model.image_size
  mask_sets.make(mask_sets.parse(config.masks, config.mask), [0], side, side)
  scored_features.names(config.evaluation, config.data, "config.evaluation")
  if 0 < config.evaluation.samples < max(2, jax.process_count()):
    raise errors.UserError(
      f"config.evaluation.samples={config.evaluation.samples} is too few for "
      f"{jax.process_count()} processes: take 10,000 or more, or 0 for none"
    )
  trained_model.search_loss(settings.loss, losses.get(config.train.loss))
  return names, settings


def of_training(
  config: ml_collections.ConfigDict, workdir: str
) -> ml_collections.ConfigDict:
  """Returns the config by which `run` scores what a training left.

  Args:
    config: the whole config of the training; `checkpoint` names only the step.
    workdir: where the training lives.
  """
  scored = ml_collections.ConfigDict(config.to_dict())
  scored.checkpoint.path = workdir
  scored.checkpoint.loss = config.train.loss
  scored.checkpoint.encoder = ""
  return scored


def check_methods(
  listed: str | tuple[str, ...],
  field: str,
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
) -> tuple[list[str], search_settings.SearchSettings]:
  """Refuses what the methods that a field lists would refuse.

  Args:
    listed: the field's value.
    field: its name, for messages.
    config: the whole config.
    mesh: the devices.

  Returns:
    The methods, and the settings of the search.

  Raises:
    errors.UserError: a method or the search has a wrong value, or a method
      would be scored on the images that it is fitted to.
  """
  names = methods.names(listed, field)
  for name in names:
    if methods.METHODS[name].fits and config.data.split in ("train", "all"):
      raise errors.UserError(
        f"{field} names {name!r}, which is fitted to the training images, and "
        f"config.data.split={config.data.split!r} would score it on them: "
        "choose 'test' or 'validation' (a folder's own are "
        "config.data.test_path and config.data.validation_path)"
      )
  settings = search_settings.resolve(config.search)
  sharding.check_divisible(
    settings.batch_size, mesh, "config.search.batch_size"
  )
  return names, settings


def training_images(
  config: ml_collections.ConfigDict, image_shape: data.ImageShape
) -> np.ndarray:
  """Returns the images that methods are fitted to, uint8 [N, S, S, C].

  Args:
    config: the section `config.data`.
    image_shape: (S, S, C) of the images.
  """
  return data.load(config, "train", image_shape, limit=_TRAINING_IMAGES).images


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Scores `config.evaluation.methods` on `config.data`.

  Leaves contact_sheet.png in `workdir`. Of several processes, each does its
  share of the images.

  Args:
    config: the whole config.
    workdir: where the results go.
    mesh: the devices; each process uses its own.

  Returns:
    A row for each method, for results.json, and one for the generator's
    samples where `config.evaluation.samples` wants them.
  """
  mesh = sharding.local_mesh(mesh)
  names, settings = check_methods(
    config.evaluation.methods, "config.evaluation.methods", config, mesh
  )
  holes = mask_sets.parse(config.masks, config.mask)
  model = trained_model.load(config.checkpoint, mesh)
  # What is wrong with the holes shows before images are read.
  mask_sets.make(holes, [0], *model.image_shape[:2])
  loaded = data.load(
    config.data,
    config.data.split,
    model.image_shape,
    limit=config.evaluation.images,
    rows=sharding.process_slice if jax.process_count() > 1 else None,
  )
  originals, count = loaded.images, loaded.total
  if count < jax.process_count():
    raise errors.UserError(
      f"config.data holds {count} images to score, and there are "
      f"{jax.process_count()} processes: take fewer processes"
    )
  images = pixels.to_float(originals)
  masks = mask_sets.make(holes, np.arange(count), *images.shape[1:3])
  mask_name = mask_sets.label(holes, min(masks.shape[1:3]))
  mask_digest = mask_sets.digest(masks)
  holed = mask_sets.hole_share(masks) > 0
  mine = range(count)[sharding.process_slice(count)]
  masks = masks[mine]
  data_digest = data.digest(originals, mine)
  logging.info(
    "%s images, masks %s (%s, %.1f %% hole), model of step %s",
    f"{count:,}", mask_name, mask_digest,
    100 * float(np.mean(mask_sets.hole_share(masks))), f"{model.step:,}",
  )  # fmt: skip

  # Loaded only if something is fitted, and then once for all.
  training = functools.cache(
    lambda: training_images(config.data, model.image_shape)
  )
  features = scored_features.create(
    config.evaluation, config.data, training, "config.evaluation"
  )
  original_features = scored_features.extract(features, originals, count)
  shown = slice(0, config.evaluation.contact_sheet)
  sheet = {
    "original": originals[shown],
    "masked": pictures.masked_view(originals[shown], masks[shown]),
  }
  rows = []
  for name in names:
    with progress.Progress(
      len(images), description=name, visible=jax.process_index() == 0
    ) as bar:
      with bar.paused():
        method = methods.create(
          name,
          model,
          settings,
          mesh,
          images.shape,
          on_batch=bar.update,
          training=training,
        )
      filled = fill(method, images, masks, mine)
    failed = sharding.gather_slices(filled.failed.astype(float), count) > 0
    failures = int(failed.sum())
    rows.append(
      {
        "method": name,
        "mask": mask_name,
        "mask_digest": mask_digest,
        "data_digest": data_digest,
        "n": count - failures,
        "failures": failures,
        **score(metrics(filled, originals, masks), count),
        **scored_features.score(
          features,
          scored_features.extract(features, filled.completed, count),
          original_features,
          holed & ~failed,
        ),
        # The slowest process says how long it took.
        "images_per_second": count
        / sharding.gather(np.array([filled.seconds])).max(),
        "step": model.step,
      }
    )
    if filled.generated is not None:
      sheet["G(z)"] = filled.generated[shown]
      sheet["completed"] = filled.completed[shown]
    else:
      sheet[name] = filled.completed[shown]

  if features and config.evaluation.samples:
    rows.append(
      {
        "samples": config.evaluation.samples,
        "data_digest": data_digest,
        **scored_features.score_samples(
          features,
          original_features,
          model,
          config.evaluation.samples,
          config.search.seed,
        ),
        "step": model.step,
      }
    )
  if shown.stop and jax.process_index() == 0:
    pictures.contact_sheet(pathlib.Path(workdir) / "contact_sheet.png", sheet)
  return rows
