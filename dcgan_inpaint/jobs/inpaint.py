"""The job `inpaint`: completes a user's own images with a trained model.

Images keep their size, and every pixel outside of the hole stays as it is, to
the bit; `photographs` has the way to the search and back.

What an image becomes does not depend on the others: its starts and its random
mask are drawn from its name. So an interrupted run can be continued, and any
image can be done alone.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import os
import pathlib
from typing import Any
import zlib

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import data
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import file_names
from dcgan_inpaint.data import folder
from dcgan_inpaint.jobs import inpaint_report
from dcgan_inpaint.jobs import result_names
from dcgan_inpaint.masks import readers
from dcgan_inpaint.photographs import batches
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import face_search
from dcgan_inpaint.photographs import image_files
from dcgan_inpaint.photographs import photograph as photograph_lib
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.reports import image_table
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import budget
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lock
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.runtime import termination
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import film
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model

# Seconds that the work on an image may go on once the job is to stop.
_GRACE = 5.0


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Completes the images of `config.input`.

  Each becomes `config.output`/NAME.png, with its subfolders, as soon as its
  batch is done; or NAME_1.png, NAME_2.png and so on if `config.samples` is more
  than 1. The one result of one image may be a file of its own name and format
  (`config.output=NAME.jpg`). Results that exist stay, unless
  `config.overwrite`, and what was given always stays. An image that cannot be
  read, has no mask, or has no face at its hole is named and left out. Each of
  several processes does its `process_slice` of the images.

  Leaves results.csv in `workdir`, a row per image, and on request
  contact_sheet.png, strips/NAME.png and path.gif.

  Args:
    config: the whole config.
    workdir: where these go, and the images by default.
    mesh: the devices; each process uses its own.

  Returns:
    One row, for results.json: `n` images were completed in this run, `skipped`
    existed already, and `failed` were left out, by all processes.

  Raises:
    errors.UserError: a field has a wrong value, or a result would take the
      place of an image or a mask.
    errors.Stopped: a signal came; the images done so far are saved.
  """
  mesh = sharding.local_mesh(mesh)
  settings = search_settings.resolve(config.search)
  images = _find_images(config, pathlib.Path(workdir))
  hole_of = readers.reader(config.masks, config.mask, config.max_megapixels)
  model = trained_model.load(config.checkpoint, mesh)
  # As many pixels at a time as a single image may have.
  memory = budget.Budget(config.max_megapixels * 1e6)
  read = _reader(config, images, hole_of, model, memory)
  # Crops are not blended: photographs are, at their own scale.
  search = trained_model.make_search(
    model.networks, dataclasses.replace(settings, blending="paste"), mesh
  )

  digests = _digests(config, images)
  pending, existing = _pending(config, images)
  writer = inpaint_report.Writer(
    config, pathlib.Path(workdir), images.output, settings.blending
  )
  size = search.fixed_size
  with (
    _alone(images.output, writer.workdir, named=images.record is None),
    termination.Watch(grace=_GRACE) as watch,
    image_table.create(writer.workdir, inpaint_report.COLUMNS) as write_row,
    progress.Progress(
      len(pending), description="inpaint", visible=jax.process_index() == 0
    ) as bar,
  ):
    for stem in existing:
      write_row({"name": images.sources[stem].name, "status": "there already"})
      writer.recall(images.results[stem])
    if pending:
      with bar.paused():
        search.warm_up(
          model.weights,
          (size, *model.image_shape),
          size=size,
        )
    done, failed = 0, 0

    def stop_if_due() -> None:
      if watch.due():
        raise errors.Stopped(
          f"stopped after {done:,} of {len(pending):,} images, which are in "
          f"{images.output}"
        )

    for batch in batches.read(pending, read, size, config.samples):
      stop_if_due()
      ready = {}
      for stem, item in batch:
        if isinstance(item, photograph_lib.Photograph):
          ready[stem] = item
        else:
          write_row(_failure(images.sources[stem].name, item))
          failed += 1
          bar.update(1)
      start = bar.seconds
      generated, losses = face_search.search_all(
        search, model, ready, image_number, config.samples, size
      )
      search_seconds = (bar.seconds - start) / max(1, len(ready))
      for stem, photograph in ready.items():
        stop_if_due()
        start = bar.seconds
        if images.record:
          images.record.claim(images.sources[stem], images.results[stem])
        with memory.hold(photograph.hole.size):
          left = writer.save(images.results[stem], photograph, generated[stem])
        if stem == config.gif and photograph.faces:
          path = _path(search, model, photograph, image_number(stem))
          writer.save_film(photograph, path)
        row = {
          "name": images.sources[stem].name,
          **inpaint_report.status(
            photograph, images.results[stem][0], left, config.rest
          ),
          "loss": " ".join(f"{loss:.6g}" for loss in losses[stem]),
          "seconds": f"{search_seconds + bar.seconds - start:.3f}",
        }
        if row["reason"]:
          logging.warning("%s: %s", row["name"], row["reason"])
        write_row(row)
        done += 1
        bar.update(1)
    seconds = bar.seconds

  writer.save_contact_sheet()
  logging.info("%s images completed in %s", f"{done:,}", images.output)
  counts = _gather_counts(writer.workdir, done, len(existing), failed, seconds)
  return [
    {"method": "dcgan", "mask": config.masks, **digests, **counts}
    | {"step": model.step}
  ]


# The images, and what is to be done.


@dataclasses.dataclass(frozen=True)
class _Images:
  """The images of the job, by their names without suffix.

  Attributes:
    sources: {stem: file}, those of all processes.
    stems: those of this process.
    results: {stem: the names of its results}.
    output: the folder of the results.
    record: of whose they are; None for a result that has a name of its own.
  """

  sources: dict[str, folder.File]
  stems: list[str]
  results: dict[str, list[str]]
  output: pathlib.Path
  record: result_names.Record | None


def _alone(
  output: pathlib.Path, workdir: pathlib.Path, named: bool = False
) -> contextlib.AbstractContextManager[None]:
  """Keeps other runs from the results.

  Args:
    output: the folder of the results.
    workdir: which is this run's already.
    named: whether the result has a name of its own, beside which others may be
      written.
  """
  if named or output.resolve() == workdir.resolve():
    return contextlib.nullcontext()
  return lock.hold(output, "config.output", inside=False)


def _find_images(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> _Images:
  """Returns the images of `config.input`; makes the folder of the results."""
  output = pathlib.Path(config.output or workdir / "completed").expanduser()
  places = [(output, "config.output"), (workdir, "--workdir")]
  for place, field in places:
    file_names.check_apart(place, field, config.input, "config.input")
  if mask_files := readers.files(config.masks, config.mask):
    for place, field in places:
      file_names.check_apart(place, field, (mask_files,), "config.masks")
  given = folder.list_files(config.input, "config.input")
  masks = _mask_files(config)
  # Masks may lie below the folder of the images.
  roots = {file.source.resolve() for file in given}
  among = [
    file.path
    for file in masks
    if file.path and any(map(file.source.resolve().is_relative_to, roots))
  ]
  sources = file_names.by_own_name(file_names.without(given, among))
  if not sources:
    raise errors.UserError(
      f"config.masks={config.masks!r} holds every image of config.input="
      f"{config.input!r}: give the masks a folder of their own"
    )
  if config.gif and config.gif not in sources:
    raise errors.UserError(
      f"config.gif={config.gif!r} is none of the images: name one without its "
      f"suffix, such as {next(iter(sources))!r}"
    )
  named = image_files.is_named(output)
  if named and len(sources) > 1:
    raise errors.UserError(
      f"config.output={str(output)!r} names a file for {len(sources)} images: "
      "name a folder"
    )
  root = output.parent if named else output
  files.make_folder(root, "config.output")
  # Sliced before any result is looked for: one process may look while another
  # is at work.
  stems = list(sources)[sharding.process_slice(len(sources))]
  record = result_names.Record(root)
  results = {
    stem: result_names.numbered(output.name, config.samples)
    if named
    else record.names(file, stem, config.samples)
    for stem, file in sources.items()
  }
  paths = [root / name for names in results.values() for name in names]
  file_names.check_kept(paths, [*given, *masks], "config.output")
  if config.overwrite and not named:
    _check_not_beside(root, given)
  if named and not config.overwrite:
    for path in paths:
      if path.exists():
        raise errors.UserError(
          f"{path} exists and stays as it is: name another file, or replace "
          "it by --config.overwrite=True"
        )
  return _Images(sources, stems, results, root, None if named else record)


def _mask_files(config: ml_collections.ConfigDict) -> list[folder.File]:
  """Returns the files of the masks, which are neither images nor replaced."""
  path = readers.files(config.masks, config.mask)
  if path is None:
    return []
  return folder.list_files((path,), "config.masks")


def _check_not_beside(output: pathlib.Path, given: list[folder.File]) -> None:
  """Refuses to replace what lies beside images that were named one by one."""
  for file in given:
    if file.path == file.source and file.source.resolve().parent == (
      output.resolve()
    ):
      raise errors.UserError(
        f"config.output={str(output)!r} is the folder of {str(file.path)!r}, "
        "and --config.overwrite=True could replace other images there: choose "
        "another folder, or name the result, as in --config.output="
        f"{str(output / (file.stem + '_filled.png'))!r}"
      )


def image_number(stem: str, face: int = 0) -> int:
  """Returns the number from which an image's draws are made: 32 bits."""
  text = f"{stem}\0{face}" if face else stem
  # File names may hold bytes that are not valid text.
  return zlib.crc32(text.encode(errors="surrogateescape"))


def _reader(
  config: ml_collections.ConfigDict,
  images: _Images,
  hole_of: readers.Reader,
  model: trained_model.TrainedModel,
  memory: budget.Budget,
) -> Callable[[str], photograph_lib.Photograph]:
  """Returns the function that reads an image with its hole and its faces."""
  size = model.image_shape[0]
  detect = detection.create(
    config.faces, size=size, mean_image=model.mean_image
  )

  def read(stem: str) -> photograph_lib.Photograph:
    for name in images.results[stem]:
      files.check_name(images.output / name)
    file = images.sources[stem]
    encoded = file.read()
    width, height = decoding.image_size(encoded, config.max_megapixels)
    with memory.hold(width * height):
      try:
        return _read(stem, file, encoded)
      except MemoryError:
        raise decoding.out_of_memory(encoded, config.max_megapixels) from None

  def _read(
    stem: str, file: folder.File, encoded: bytes
  ) -> photograph_lib.Photograph:
    picture = image_files.read(encoded, file.name, config.max_megapixels)
    height, width = picture.values.shape[:2]
    names = (stem, file.stem, file.name)
    mask = hole_of(names, height, width, picture.alpha)
    try:
      prepared = photograph_lib.prepare(
        picture_lib.rgb(picture), mask.hole, detect, config.rest, size
      )
    except errors.UserError as error:
      raise errors.UserError(
        "; ".join(filter(None, [str(error), mask.note]))
      ) from error
    return prepared._replace(picture=picture, note=mask.note)

  return read


def _digests(
  config: ml_collections.ConfigDict, images: _Images
) -> dict[str, str | None]:
  """Returns what tells these masks and images from others, for the row."""
  count = len(images.sources)
  data_digest = data.digest(
    (_content(images.sources[stem]) for stem in images.stems),
    range(count)[sharding.process_slice(count)],
  )
  # Of mask files; a family is drawn from the config.
  mask_digest = None
  if mask_files := readers.files(config.masks, config.mask):
    mask_digest = data.digest_files(mask_files)
  return {"mask_digest": mask_digest, "data_digest": data_digest}


def _content(file: folder.File) -> bytes:
  """Returns a file's bytes; none if it cannot be read, which `run` reports."""
  try:
    return file.read()
  # A damaged zip raises many kinds.
  except Exception:  # noqa: BLE001
    return b""


def _pending(
  config: ml_collections.ConfigDict, images: _Images
) -> tuple[list[str], list[str]]:
  """Returns this process's images that are to be done, and those that exist."""
  pending, existing = [], []
  for stem in images.stems:
    exists = all(
      os.path.isfile(images.output / name) for name in images.results[stem]
    )
    (existing if exists and not config.overwrite else pending).append(stem)
  if existing:
    logging.info(
      "%s of %s images exist in %s and stay as they are "
      "(--config.overwrite=True replaces them)",
      f"{len(existing):,}", f"{len(images.stems):,}", images.output,
    )  # fmt: skip
  if config.gif in existing:
    logging.warning("no path.gif: %s is not searched again", config.gif)
  return pending, existing


# Searching.


def _path(
  search: ensemble.Search,
  model: trained_model.TrainedModel,
  photograph: photograph_lib.Photograph,
  number: int,
) -> np.ndarray:
  """Returns G(z) along the search's path, for the first face."""
  crop, mask = photograph.crops[0], photograph.masks[0]
  path = film.path(
    search,
    model.weights,
    face_search.for_model(model, crop),
    mask,
    index=number,
  )
  return face_search.in_colour(path)


# The rows.


def _failure(name: str, error: Exception) -> dict[str, Any]:
  """Returns the row of an image that is left out, and logs it."""
  logging.warning("left out %s: %s", name, error)
  return {"name": name, "status": "failed", "reason": str(error)}


def _gather_counts(
  workdir: pathlib.Path, done: int, existing: int, failed: int, seconds: float
) -> dict[str, Any]:
  """Merges the tables of all processes; returns their counts, for the row."""
  parts = sharding.gather(np.array([done, existing, failed, seconds]))
  if jax.process_index() == 0:
    image_table.merge(workdir, inpaint_report.COLUMNS)
  done, existing, failed = map(int, parts[:, :3].sum(axis=0))
  seconds = parts[:, 3].max()  # Of the slowest process.
  return {
    "n": done,
    "skipped": existing,
    "failed": failed,
    "images_per_second": done / seconds if done else None,
  }
