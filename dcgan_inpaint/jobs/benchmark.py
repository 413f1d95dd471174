"""The job `benchmark`: methods x masks over one data set.

Every method gets the same images and, mask by mask, the same holes, and is run
and scored by the functions of the job `evaluate`. Methods that are slow
(`methods.Spec.slow`) get the first `config.benchmark.slow_images` images only;
so that they can be compared with the others, each row also has the means over
the images that every method completed (`common`).

Each chunk of images of each method and mask leaves a small file in `parts/`
(`benchmark_parts`). The same command again reads these and runs what is
missing: an interrupted run continues, and one more method or mask costs only
itself. A file holds a digest of everything that its metrics depend on: the
images, the holes, the method's settings and model, the version of this package,
and the kind and number of devices, since times depend on them. Where it
differs, the chunk is run again. A change to a method's code is not noticed:
remove `parts/METHOD` after one.
"""

from collections.abc import Callable
import dataclasses
import functools
import hashlib
import json
import math
import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

import dcgan_inpaint
from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.jobs import benchmark_parts
from dcgan_inpaint.jobs import benchmark_report
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.jobs import scored_features
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.metrics import features as features_lib
from dcgan_inpaint.metrics import pixel_errors
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model


def check(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, side: int
) -> tuple[
  list[str],
  dict[str, mask_settings.MaskSettings],
  search_settings.SearchSettings,
]:
  """Refuses what cannot be run, before any image is loaded.

  Args:
    config: the whole config.
    mesh: the devices.
    side: of the images, pixels.

  Returns:
    The methods' names, the settings of each mask by its name, and those of
    the search.

  Raises:
    errors.UserError: a method, a mask or the search has a wrong value.
  """
  names, search = evaluate.check_methods(
    config.benchmark.methods, "config.benchmark.methods", config, mesh
  )
  if not names:
    raise errors.UserError(
      "config.benchmark.methods is empty: take all, or some of "
      f"{', '.join(methods.METHODS)}"
    )
  scored_features.names(config.benchmark, config.data, "config.benchmark")
  field = "config.benchmark.masks"
  settings = mask_sets.parse_several(
    config.benchmark.masks, config.mask, field, side
  )
  for mask, of_mask in settings.items():
    try:
      mask_sets.make(of_mask, [0], side, side)
    except errors.UserError as error:
      raise errors.UserError(f"{field}, {mask!r}: {error}") from error
  if len({benchmark_parts.file_name(x) for x in settings}) < len(settings):
    raise errors.UserError(
      f"{field}={config.benchmark.masks!r}: two holes would share a file name; "
      "leave one out"
    )
  return list(dict.fromkeys(names)), settings, search


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Runs `config.benchmark.methods` under `config.benchmark.masks`.

  Leaves in `workdir`: report.html, results.csv, figures.npz with the metrics of
  every image, contact_sheet.png with every method under every mask, and
  contact_sheets/MASK.png.

  Args:
    config: the whole config.
    workdir: where the results go.
    mesh: the devices.

  Returns:
    A row for each method and mask, for results.json. Beside its means, and the
    metrics of realism on `config.benchmark.features`, `common`
    has those over the images that all methods completed under that mask, and
    `by_hole_area` those over the images whose hole takes 0-10 %, 10-20 % ... of
    the image, the upper bound included (Liu et al., ECCV 2018).

  Raises:
    errors.UserError: of `check`; the images or the model cannot be read.
  """
  # A model says the size of the images, whether a method needs it or not.
  model = None
  if config.checkpoint.path:
    model = trained_model.load(config.checkpoint, mesh)
  image_shape = _image_shape(model)
  names, settings, search = check(config, mesh, image_shape[0])
  faces = data.load(
    config.data,
    config.data.split,
    image_shape,
    limit=config.benchmark.images,
  )
  masks = {
    mask: mask_sets.make(
      of_mask, range(len(faces.images)), *faces.images.shape[1:3]
    )
    for mask, of_mask in settings.items()
  }
  digests = [mask_sets.digest(of_mask) for of_mask in masks.values()]
  for digest, (mask, of_mask) in zip(digests, masks.items(), strict=True):
    logging.info(
      "%s: masks %s, %.1f %% hole", mask, digest,
      100 * np.mean(mask_sets.hole_share(of_mask)),
    )  # fmt: skip
  logging.info(
    "%s images, %s methods, mask set %s", f"{len(faces.images):,}", len(names),
    _digest(*digests),
  )  # fmt: skip
  if any(methods.METHODS[name].trained for name in names):
    # It says which field is missing.
    model = model or trained_model.load(config.checkpoint, mesh)
  # Loaded only if something must be fitted, and then once for all.
  training = functools.cache(
    lambda: evaluate.training_images(config.data, image_shape)
  )
  features = scored_features.create(
    config.benchmark, config.data, training, "config.benchmark"
  )
  parts, folder = {}, pathlib.Path(workdir)
  for name in names:
    create = functools.partial(
      methods.create, name, model, search, mesh, training=training
    )
    parts[name] = _run(
      name, create, _identity(name, config, search, model), config.benchmark,
      folder / "parts" / name, faces.images, masks, features,
    )  # fmt: skip

  data_digest = data.digest(faces.images, range(len(faces.images)))
  step = model.step if model else None
  scored = benchmark_report.Scored(
    features,
    scored_features.extract(features, faces.images, len(faces.images)),
  )
  rows = benchmark_report.make_rows(parts, masks, data_digest, step, scored)
  benchmark_report.write(folder, config, rows, parts, masks, faces)
  logging.info("report: %s", folder / "report.html")
  return rows


def _image_shape(
  model: trained_model.TrainedModel | None,
) -> data.ImageShape:
  """Returns the shape of the images: the model's, or without one the usual."""
  if model:
    return model.image_shape
  usual = config_lib.model()
  return usual.image_size, usual.image_size, usual.image_channels


def _run(
  name: str,
  create: Callable[..., methods.Method],
  identity: str,
  options: ml_collections.ConfigDict,
  folder: pathlib.Path,
  images: np.ndarray,
  masks: dict[str, np.ndarray],
  features: list[features_lib.Features],
) -> dict[str, benchmark_parts.Part]:
  """Runs the chunks of one method that are missing.

  Args:
    name: of the method.
    create: makes it, from the shape of a chunk and `on_fit`.
    identity: of `_identity`.
    options: the section `config.benchmark`.
    folder: of its parts.
    images: uint8 [N, H, W, C].
    masks: {mask: float32 [N, H, W, 1]}.
    features: those that realism is measured on.

  Returns:
    {mask: the part of all images that the method gets}.
  """
  count = len(images)
  if methods.METHODS[name].slow and options.slow_images:
    count = min(count, options.slow_images)
  size = min(count, options.chunk)
  found: dict[tuple[str, int], benchmark_parts.Part] = {}
  pending = []
  for mask in masks:
    for first in range(0, count, size):
      rows = slice(first, min(first + size, count))
      path = folder / benchmark_parts.file_name(mask) / f"{first:06d}.npz"
      digest = _digest(identity, images[rows], masks[mask][rows] > 0.5)
      shown = max(0, min(options.contact_sheet, rows.stop) - first)
      if part := benchmark_parts.read(
        path,
        digest,
        shown,
        [feature.name for feature in features],
        image_shape=images.shape[1:],
        count=rows.stop - first,
        names=pixel_errors.METRICS,
      ):
        found[mask, first] = part
      else:
        pending.append((mask, rows, path, digest, shown))
  total = count * len(masks)
  done = total - sum(rows.stop - rows.start for _, rows, *_ in pending)
  if done:
    logging.info(
      "%s: %s of %s images are done already", name, f"{done:,}", f"{total:,}"
    )

  if pending:
    with progress.Progress(total, description=name, initial=done) as bar:
      fits = [math.nan]
      with bar.paused():
        method = create((size, *images.shape[1:]), on_fit=fits.append)
      for mask, rows, path, digest, shown in pending:
        filled = _fill(method, images, masks[mask], rows, size)
        part = benchmark_parts.Part(
          metrics=evaluate.metrics(filled, images[rows], masks[mask][rows]),
          failed=filled.failed,
          seconds=filled.seconds,
          fit_seconds=fits[-1],
          pictures=filled.completed[:shown],
          features={
            feature.name: feature.extract(filled.completed)
            for feature in features
          },
        )
        benchmark_parts.write(path, digest, part)
        found[mask, rows.start] = part
        bar.update(rows.stop - rows.start)
  return {
    mask: benchmark_parts.join(
      [found[key] for key in sorted(found) if key[0] == mask]
    )
    for mask in masks
  }


def _fill(
  method: methods.Method,
  originals: np.ndarray,
  masks: np.ndarray,
  rows: slice,
  size: int,
) -> evaluate.Filled:
  """Runs a method on one chunk, padded to the size of the others.

  The last chunk may be shorter. It is padded with copies of its first image to
  the shape that the method was compiled for, and gets its part of the time.
  """
  indices = np.arange(rows.start, rows.start + size)
  indices = np.where(indices < rows.stop, indices, rows.start)
  filled = evaluate.fill(
    method, pixels.to_float(originals[indices]), masks[indices], indices
  )
  count = rows.stop - rows.start
  return filled._replace(
    completed=filled.completed[:count],
    failed=filled.failed[:count],
    seconds=filled.seconds * count / size,
  )


def _identity(
  name: str,
  config: ml_collections.ConfigDict,
  search: search_settings.SearchSettings,
  model: trained_model.TrainedModel | None,
) -> str:
  """Returns the digest of a method's settings and of what it has learned."""
  devices = jax.devices()
  settings = {
    "method": name,
    "version": dcgan_inpaint.__version__,
    "devices": [devices[0].device_kind, len(devices)],
  }
  if "inception" in lists.words(config.benchmark.features):
    settings["inception"] = config.benchmark.inception
  learned = []
  if methods.METHODS[name].family == "dcgan":
    if model:
      search = search.for_layers(model.networks.generator.layers)
    settings["search"] = dataclasses.asdict(search)
  if methods.METHODS[name].fits:
    settings["data"] = config.data.to_dict()
  if methods.METHODS[name].trained and model:
    learned = [*jax.tree.leaves(model.weights), model.mean_image]
  return _digest(json.dumps(settings, sort_keys=True), *learned)


def _digest(*contents: Any) -> str:
  """Returns 16 hexadecimal digits of arrays and texts."""
  sha = hashlib.sha256()
  for content in contents:
    array = np.asarray(content)
    sha.update(f"{array.dtype}{array.shape}".encode())
    sha.update(array.tobytes())
  return sha.hexdigest()[:16]
