"""The job `benchmark`: methods x masks over one data set.

Every method gets the same images and, mask by mask, the same holes, and is run
and scored by the functions of the job `evaluate`. Methods that are slow
(`methods.Spec.slow`) get the first `config.benchmark.slow_images` images only;
so that they can be compared with the others, each row also has the means over
the images that every method completed (`common`).

Each chunk of images of each method and mask leaves a small file in `parts/`.
The same command again reads these and runs what is missing: a run that was cut
goes on, and another method or mask costs only itself. A file holds the digest
of all that its metrics depend on: the images, the holes, the method's settings
and model, the version of this package and the kind of device, whose times are
no other's. Where it differs, the chunk is run anew. A method whose code was
changed must be told: remove `parts/METHOD`.
"""

from collections.abc import Callable
from collections.abc import Iterator
import csv
import dataclasses
import functools
import hashlib
import importlib
import json
import math
import pathlib
import re
from typing import Any
from typing import NamedTuple

from absl import logging
import jax
import ml_collections
import numpy as np

import dcgan_inpaint
from dcgan_inpaint import data
from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.reports import html
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import progress
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model

_BINS = 10  # Of the hole's share of the image.


class Part(NamedTuple):
  """What a method made of images under one mask: a file of `parts/`.

  Attributes:
    metrics: {metric: float32 [N]}, NaN where the method failed.
    failed: bool [N].
    seconds: of the method for all N; compilation and fitting left out.
    fit_seconds: of the fit to training images that came before; NaN without.
    pictures: uint8 [K, H, W, 3], the completed images that are shown.
  """

  metrics: dict[str, np.ndarray]
  failed: np.ndarray
  seconds: float
  fit_seconds: float
  pictures: np.ndarray


def check(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> tuple[
  list[str],
  dict[str, ml_collections.ConfigDict],
  search_settings.SearchSettings,
]:
  """Refuses what cannot be run, before anything is loaded.

  Args:
    config: the whole config.
    mesh: the devices.

  Returns:
    The methods' names, the settings of each mask by its name, and those of
    the search.

  Raises:
    errors.UserError: a method, a mask or the search has a wrong value, or there
      is more than one process.
  """
  if jax.process_count() > 1:
    raise errors.UserError(
      "the job 'benchmark' times its methods in one process: start it on one "
      "host"
    )
  names, search = evaluate.check_methods(
    config.benchmark.methods, "config.benchmark.methods", config, mesh
  )
  if not names:
    raise errors.UserError(
      "config.benchmark.methods is empty: take all, or some of "
      f"{', '.join(methods.METHODS)}"
    )
  field = "config.benchmark.masks"
  settings = mask_sets.parse(config.benchmark.masks, config.mask, field)
  for mask, of_mask in settings.items():
    try:
      mask_sets.make(of_mask, [0])
    except errors.UserError as error:
      raise errors.UserError(f"{field}, {mask!r}: {error}") from error
  if len({_file_name(mask) for mask in settings}) < len(settings):
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
    A row for each method and mask, for results.json. Beside its means, `common`
    has those over the images that all methods completed under that mask, and
    `by_hole_area` those over the images whose hole takes 0-10 %, 10-20 % ... of
    the image, the upper bound included (Liu et al., ECCV 2018).
  """
  names, settings, search = check(config, mesh)
  workdir = pathlib.Path(workdir)
  faces = data.load(
    config.data, config.data.split, limit=config.benchmark.images
  )
  masks = {
    mask: mask_sets.make(
      of_mask, np.arange(len(faces.images)), *faces.images.shape[1:3]
    )
    for mask, of_mask in settings.items()
  }
  digests = {mask: mask_sets.digest(of) for mask, of in masks.items()}
  for mask, of_mask in masks.items():
    logging.info(
      "%s: masks %s, %.1f %% hole", mask, digests[mask],
      100 * np.mean(mask_sets.hole_share(of_mask)),
    )  # fmt: skip
  logging.info(
    "%s images, %s methods, mask set %s", f"{len(faces.images):,}", len(names),
    _digest(*digests.values()),
  )  # fmt: skip
  model = None
  if any(methods.METHODS[name].trained for name in names):
    model = trained_model.load(config.checkpoint, mesh)
  # Loaded only if a method is fitted anew, and then once for all of them.
  training = functools.cache(lambda: evaluate.training_images(config.data))
  parts = {}
  for name in names:
    create = functools.partial(
      methods.create, name, model, search, mesh, training=training
    )
    parts[name] = _run(
      name, create, _identity(name, config, search, model), config.benchmark,
      workdir / "parts" / name, faces.images, masks,
    )  # fmt: skip

  data_digest = data.digest(faces.images, range(len(faces.images)))
  rows = _rows(parts, masks, digests, data_digest, model)
  _write_csv(workdir / "results.csv", rows)
  _write_metrics(workdir / "figures.npz", parts, masks, faces.names)
  _write_pictures(workdir, parts, masks, faces)
  html.write(
    workdir / "report.html",
    results.collect("benchmark", config, rows),
    {name: _summary(name) for name in names},
    faces.names[: config.benchmark.contact_sheet],
    faces.images[: config.benchmark.contact_sheet],
    [_shown(mask, masks[mask], digests[mask], parts, faces) for mask in masks],
  )
  logging.info("report: %s", workdir / "report.html")
  return rows


def _run(
  name: str,
  create: Callable[..., methods.Method],
  identity: str,
  options: ml_collections.ConfigDict,
  folder: pathlib.Path,
  images: np.ndarray,
  masks: dict[str, np.ndarray],
) -> dict[str, Part]:
  """Runs what is missing of one method.

  Args:
    name: of the method.
    create: makes it, from the shape of a chunk and `on_fit`.
    identity: the digest of all that it does.
    options: the section `config.benchmark`.
    folder: where its parts lie.
    images: uint8 [N, H, W, 3].
    masks: {mask: float32 [N, H, W, 1]}.

  Returns:
    {mask: its part for all images that the method gets}.
  """
  count = len(images)
  if methods.METHODS[name].slow and options.slow_images:
    count = min(count, options.slow_images)
  size = min(count, options.chunk)
  found, pending = {}, []
  for mask in masks:
    for first in range(0, count, size):
      rows = slice(first, min(first + size, count))
      path = folder / _file_name(mask) / f"{first:06d}.npz"
      digest = _digest(identity, images[rows], masks[mask][rows] > 0.5)
      shown = max(0, min(options.contact_sheet, rows.stop) - first)
      found[mask, first] = _read(path, digest, shown)
      if found[mask, first] is None:
        pending.append((mask, rows, path, digest, shown))
  total = count * len(masks)
  done = total - sum(rows.stop - rows.start for _, rows, *_ in pending)
  if done:
    logging.info(
      "%s: %s of %s images were done before", name, f"{done:,}", f"{total:,}"
    )

  if pending:
    with progress.Progress(total, description=name, initial=done) as bar:
      fits = [math.nan]
      with bar.paused():
        method = create((size, *images.shape[1:]), on_fit=fits.append)
      for mask, rows, path, digest, shown in pending:
        filled = _fill(method, images, masks[mask], rows, size)
        part = Part(
          evaluate.metrics(filled, images[rows], masks[mask][rows]),
          filled.failed,
          filled.seconds,
          fits[-1],
          filled.completed[:shown],
        )
        _write(path, digest, part)
        found[mask, rows.start] = part
        bar.update(rows.stop - rows.start)
  return {
    mask: _join([part for (of, _), part in found.items() if of == mask])
    for mask in masks
  }


def _fill(method, originals, masks, rows, size) -> evaluate.Filled:
  """Runs a method on one chunk, which is filled up to the size of the others.

  The last chunk may be shorter; with its first image as often as it takes, it
  has the shape that the method was compiled for. Its time is shared out.
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
  """Returns the digest of a method's settings and of what it has learnt."""
  devices = jax.devices()
  settings = {
    "method": name,
    "version": dcgan_inpaint.__version__,
    "devices": [devices[0].device_kind, len(devices)],
  }
  learnt = []
  if methods.METHODS[name].family == "dcgan":
    settings["search"] = dataclasses.asdict(search)
  if methods.METHODS[name].fits:
    settings["data"] = config.data.to_dict()
  if methods.METHODS[name].trained:
    learnt = [*jax.tree.leaves(model.weights), model.mean_image]
  return _digest(json.dumps(settings, sort_keys=True), *learnt)


def _digest(*contents: Any) -> str:
  """Returns 16 hexadecimal digits of arrays and texts."""
  sha = hashlib.sha256()
  for content in contents:
    array = np.asarray(content)
    sha.update(f"{array.dtype}{array.shape}".encode())
    sha.update(array.tobytes())
  return sha.hexdigest()[:16]


def _file_name(mask: str) -> str:
  return re.sub(r"[^a-z0-9.]+", "_", mask.lower()).strip("_.")


def _write(path: pathlib.Path, digest: str, part: Part) -> None:
  with files.replacing(path) as temporary, temporary.open("wb") as file:
    np.savez(
      file, digest=digest, **part.metrics, **part._asdict() | {"metrics": 0}
    )


def _read(path: pathlib.Path, digest: str, shown: int) -> Part | None:
  """Returns a part, or None where it is missing, broken or of other things."""
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = dict(file)
      if str(arrays.pop("digest")) != digest:
        logging.info(
          "%s is of other images, holes, settings or devices: run anew", path
        )
        return None
      fields = {name: arrays.pop(name) for name in Part._fields}
    if len(fields["pictures"]) < shown:
      return None
    return Part(
      **fields
      | {
        "metrics": arrays,
        "seconds": float(fields["seconds"]),
        "fit_seconds": float(fields["fit_seconds"]),
        "pictures": fields["pictures"][:shown],
      }
    )
  except FileNotFoundError:
    return None
  # numpy and zipfile raise many kinds.
  except Exception as error:  # noqa: BLE001
    logging.warning("%s cannot be read (%s): run anew", path, error)
    return None


def _join(parts: list[Part]) -> Part:
  """Returns the parts of one method and mask as one."""
  return Part(
    {
      name: np.concatenate([part.metrics[name] for part in parts])
      for name in parts[0].metrics
    },
    np.concatenate([part.failed for part in parts]),
    sum(part.seconds for part in parts),
    # A run that was cut has fitted anew: the same fit, timed twice.
    float(np.mean([part.fit_seconds for part in parts])),
    np.concatenate([part.pictures for part in parts]),
  )


def _rows(
  parts: dict[str, dict[str, Part]],
  masks: dict[str, np.ndarray],
  digests: dict[str, str],
  data_digest: str,
  model: trained_model.TrainedModel | None,
) -> list[dict[str, Any]]:
  """Returns the rows of results.json, mask by mask."""
  rows = []
  for mask, of_mask in masks.items():
    shares = mask_sets.hole_share(of_mask)
    common = _common([of_method[mask] for of_method in parts.values()])
    for name, of_method in parts.items():
      spec = methods.METHODS[name]
      rows.append(
        {
          "method": name,
          "family": spec.family,
          "mask": mask,
          "mask_digest": digests[mask],
          "data_digest": data_digest,
          **_means(of_method[mask], shares, common),
          "step": model.step if spec.trained else None,
        }
      )
  return rows


def _common(parts: list[Part]) -> np.ndarray:
  """Returns which images all of the methods completed, bool [N]."""
  count = max(len(part.failed) for part in parts)
  common = np.ones(count, bool)
  for part in parts:
    common[len(part.failed) :] = False
    common[: len(part.failed)] &= ~part.failed
  return common


def _means(
  part: Part, shares: np.ndarray, common: np.ndarray
) -> dict[str, Any]:
  """Returns what a row says of a part: its means, its failures, its times.

  Args:
    part: of all images that the method got, the first of the set.
    shares: the holes' shares of all images, float [M].
    common: bool [M], the images that all methods completed.
  """
  count = len(part.failed)
  return {
    **_over(part, np.ones(count, bool)),
    "failures": int(np.sum(part.failed)),
    "seconds_per_image": part.seconds / count,
    "images_per_second": count / part.seconds,
    "fit_seconds": None if math.isnan(part.fit_seconds) else part.fit_seconds,
    "common": _over(part, common[:count]),
    "by_hole_area": [
      {"hole_area": area, **_over(part, chosen)}
      for area, chosen in _areas(shares[:count])
      if np.any(chosen)
    ],
  }


def _over(part: Part, chosen: np.ndarray) -> dict[str, Any]:
  """Returns the means over some of the images: those with True, bool [N]."""
  metrics = {name: values[chosen] for name, values in part.metrics.items()}
  return {"n": int(np.sum(chosen & ~part.failed)), **evaluate.score(metrics)}


def _areas(shares: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
  """Yields each bin's name and which images have a hole of that share."""
  # A rounded share, so that one half is not a little more than one half.
  bins = np.ceil(np.round(shares * _BINS, 6)).astype(int)
  for upper in range(1, _BINS + 1):
    yield f"{10 * upper - 10}-{10 * upper} %", bins == upper


def _summary(name: str) -> str:
  """Returns a line on a method: the first of its module's description."""
  try:
    module = importlib.import_module(f"dcgan_inpaint.methods.{name}")
  except ModuleNotFoundError:  # The latent search is no module of `methods`.
    module = importlib.import_module("dcgan_inpaint.search.latent_search")
  return module.__doc__.partition("\n")[0]


def _write_csv(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  """Writes every mean: a line for all images, for the common ones, each bin."""
  lines = []
  for row in rows:
    shared = {
      name: value
      for name, value in row.items()
      if name not in ("common", "by_hole_area")
    }
    lines.append({"images": "all", **shared})
    lines.append({"images": "common", **shared, **row["common"]})
    for area in row["by_hole_area"]:
      means = {name: area[name] for name in area if name != "hole_area"}
      lines.append({"images": f"hole {area['hole_area']}", **shared, **means})
  with files.replacing(path) as temporary, temporary.open("w") as file:
    writer = csv.DictWriter(file, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(results.plain(lines))


def _write_metrics(
  path: pathlib.Path,
  parts: dict[str, dict[str, Part]],
  masks: dict[str, np.ndarray],
  image_names: list[str],
) -> None:
  """Writes the metrics of every image: float32 [methods, masks, images].

  NaN where a method failed, or did not get the image. `methods`, `masks` and
  `images` hold the names, `hole_share` [masks, images] the shares of the holes.
  """
  first = next(iter(parts.values()))
  arrays = {
    name: np.full(
      (len(parts), len(masks), len(image_names)), np.nan, np.float32
    )
    for name in next(iter(first.values())).metrics
  }
  for i, of_method in enumerate(parts.values()):
    for j, part in enumerate(of_method.values()):
      for name, values in part.metrics.items():
        arrays[name][i, j, : len(values)] = values
  with files.replacing(path) as temporary, temporary.open("wb") as file:
    np.savez_compressed(
      file,
      methods=list(parts),
      masks=list(masks),
      images=image_names,
      hole_share=[mask_sets.hole_share(of) for of in masks.values()],
      **arrays,
    )


def _write_pictures(
  workdir: pathlib.Path,
  parts: dict[str, dict[str, Part]],
  masks: dict[str, np.ndarray],
  faces: data.ImageSet,
) -> None:
  """Writes a contact sheet for each mask, and one of all masks."""
  sheets = {}
  for mask, of_mask in masks.items():
    completed = {name: of[mask].pictures for name, of in parts.items()}
    shown = max(map(len, completed.values()))
    originals = faces.images[:shown]
    sheets[mask] = {
      "original": originals,
      "masked": pictures.masked_view(originals, of_mask[:shown]),
      **completed,
    }
    captioned = {
      _caption(row, parts[row][mask]) if row in parts else row: images
      for row, images in sheets[mask].items()
    }
    path = workdir / "contact_sheets" / f"{_file_name(mask)}.png"
    pictures.contact_sheet(path, captioned)
  # A column a mask, each with another image, of those that all methods have.
  count = min(len(rows) for sheet in sheets.values() for rows in sheet.values())
  columns = [
    {row: images[i % count] for row, images in sheet.items()}
    for i, sheet in enumerate(sheets.values())
  ]
  pictures.contact_sheet(
    workdir / "contact_sheet.png",
    {row: np.stack([column[row] for column in columns]) for row in columns[0]},
  )


def _caption(name: str, part: Part) -> str:
  """Returns a method's name with its means over all images."""
  mse, ssim = (np.nanmean(part.metrics[metric]) for metric in ("mse", "ssim"))
  return f"{name}: MSE {mse:.0f}, SSIM {ssim:.2f}"


def _shown(
  mask: str,
  masks: np.ndarray,
  digest: str,
  parts: dict[str, dict[str, Part]],
  faces: data.ImageSet,
) -> html.Mask:
  """Returns what the report shows of one mask."""
  of_mask = {name: of[mask] for name, of in parts.items()}
  shown = max(len(part.pictures) for part in of_mask.values())
  return html.Mask(
    name=mask,
    digest=digest,
    hole_share=float(np.mean(mask_sets.hole_share(masks))),
    masked=pictures.masked_view(faces.images[:shown], masks[:shown]),
    completed={name: part.pictures for name, part in of_mask.items()},
    figures={
      name: {
        metric: values[: len(part.pictures)]
        for metric, values in part.metrics.items()
      }
      for name, part in of_mask.items()
    },
  )
