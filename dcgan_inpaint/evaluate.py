"""The job `evaluate`: fills the holes of a data set and scores every method.

All methods get the same images and the same masks, and are scored by one
function on 8-bit pixels, over the whole image (the paper's figures) and over
the hole alone.
"""

import pathlib
import time
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import masks as masks_lib
from dcgan_inpaint import methods
from dcgan_inpaint import metrics
from dcgan_inpaint import pixels
from dcgan_inpaint import progress
from dcgan_inpaint import report
from dcgan_inpaint import search as search_lib
from dcgan_inpaint import sharding
from dcgan_inpaint import trained

# Images scored at a time.
_BATCH = 256


def score(
  completed: np.ndarray, originals: np.ndarray, masks: np.ndarray
) -> dict[str, float]:
  """Returns the mean of every metric over the images, and 95 % intervals.

  Args:
    completed: uint8 [N, H, W, 3].
    originals: uint8 [N, H, W, 3].
    masks: float32 [N, H, W, 1].

  Returns:
    {metric: mean, metric_ci95: half width of the interval}.
  """
  parts = [
    jax.device_get(
      metrics.evaluate(
        completed[first : first + _BATCH],
        originals[first : first + _BATCH],
        masks[first : first + _BATCH],
      )
    )
    for first in range(0, len(originals), _BATCH)
  ]
  row = {}
  for name in parts[0]:
    mean, half_width = metrics.summarise(
      np.concatenate([part[name] for part in parts])
    )
    row |= {name: mean, f"{name}_ci95": half_width}
  return row


def check(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> None:
  """Refuses what `evaluate` would refuse, before hours of training.

  Args:
    config: the whole config.
    mesh: the devices.

  Raises:
    errors.UserError: a method, the mask or the search has a wrong value.
  """
  methods.names(config.evaluation.methods)
  masks_lib.make(config.mask, [0])
  search = config_lib.search_settings(config.search)
  search_lib.optimizer(
    search.optimizer, search.learning_rate, search.schedule, search.steps
  )
  sharding.check_divisible(search.batch_size, mesh, "config.search.batch_size")
  if "train" in config:
    trained.search_loss(search.loss, config.train.loss)


def evaluate(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Scores `config.evaluation.methods` on `config.data`.

  Leaves contact_sheet.png in `workdir`.

  Args:
    config: the whole config.
    workdir: where the results go.
    mesh: the devices.

  Returns:
    A row for each method, for results.json.
  """
  check(config, mesh)
  names = methods.names(config.evaluation.methods)
  model = trained.load(config.checkpoint, mesh)
  originals = data.load(
    config.data, config.data.split, limit=config.evaluation.images
  ).images
  images = pixels.to_float(originals)
  masks = masks_lib.make(
    config.mask, np.arange(len(images)), *images.shape[1:3]
  )
  logging.info(
    "%s images, masks %s (%s, %.1f %% hole), model of step %s",
    f"{len(images):,}", masks_lib.label(config.mask), masks_lib.digest(masks),
    100 * float(np.mean(masks_lib.hole_share(masks))), f"{model.step:,}",
  )  # fmt: skip

  shown = slice(0, config.evaluation.contact_sheet)
  sheet = {
    "original": originals[shown],
    "masked": report.masked_view(originals[shown], masks[shown]),
  }
  rows = []
  for name in names:
    with progress.Progress(len(images), description=name) as bar:
      with bar.paused():
        method = methods.create(
          name, model, config.search, mesh, images.shape, on_batch=bar.update
        )
      start = time.perf_counter()
      completion = method(images, masks)
      seconds = time.perf_counter() - start
    completed = pixels.to_uint8(completion.completed)
    rows.append(
      {
        "method": name,
        "mask": masks_lib.label(config.mask),
        "mask_digest": masks_lib.digest(masks),
        "n": len(images),
        **score(completed, originals, masks),
        "images_per_second": len(images) / seconds,
        "step": model.step,
      }
    )
    if completion.generated is not None:
      sheet["G(z)"] = pixels.to_uint8(completion.generated[shown])
      sheet["completed"] = completed[shown]
    else:
      sheet[name] = completed[shown]

  if shown.stop and jax.process_index() == 0:
    report.contact_sheet(pathlib.Path(workdir) / "contact_sheet.png", sheet)
  return rows
