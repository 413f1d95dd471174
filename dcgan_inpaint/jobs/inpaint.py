"""The job `inpaint`: completes a user's own images with a trained model.

Images come in whatever size they are and stay so; `photograph` has their way to
the search and back. What lies outside of the hole stays as it was, to the bit.

Nothing that one image becomes depends on the others: its starts and its random
mask are drawn from its name. So a run may be cut and gone on with, and every
image may be done alone.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import concurrent.futures
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
from dcgan_inpaint import pixels
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder
from dcgan_inpaint.masks import readers
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import photograph as photograph_lib
from dcgan_inpaint.reports import image_table
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.runtime import termination
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import film
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model

# Pixels of the photographs that are held at a time, beside one that is larger.
_MAX_PIXELS = 1 << 28

_COLUMNS = (
  "name",
  "status",
  "faces",
  "aligned_by",
  "hole_share",
  "left_share",
  "loss",
  "seconds",
  "reason",
)


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Completes the images of `config.input`.

  Each becomes `config.output`/NAME.png, with its sub folders, as soon as its
  batch is done; NAME_1.png, NAME_2.png and so on where `config.samples` is more
  than 1. What is there already stays, unless `config.overwrite`. An image that
  cannot be read, has no mask, or has no face at its hole, is named and left
  out. Of several processes, each does its share of the images.

  Leaves results.csv in `workdir`, a row an image, and what is asked for of
  contact_sheet.png, strips/NAME.png and path.gif.

  Args:
    config: the whole config.
    workdir: where these go, and the images by default.
    mesh: the devices; each process uses its own.

  Returns:
    One row, for results.json: `n` images were completed in this run, `skipped`
    were there already, and `failed` were left out, by all processes.

  Raises:
    errors.UserError: a field has a wrong value, or two images would get one
      name.
    errors.Stopped: SIGTERM came; the images done so far are saved.
  """
  mesh = sharding.local_mesh(mesh)
  settings = search_settings.resolve(config.search)
  workdir = pathlib.Path(workdir)
  output = pathlib.Path(config.output or workdir / "completed").expanduser()
  folder.check_apart(output, "config.output", config.input, "config.input")
  files.make_folder(output, "config.output")
  sources = folder.by_stem(folder.list_files(config.input, "config.input"))
  if config.gif and config.gif not in sources:
    raise errors.UserError(
      f"config.gif={config.gif!r} is none of the images: name one without its "
      f"suffix, such as {next(iter(sources))!r}"
    )
  hole_of = readers.reader(config.masks, config.mask)
  detect = detection.create(config.faces)
  model = trained_model.load(config.checkpoint, mesh)
  # Crops are not blended: photographs are, at their own scale.
  search = trained_model.make_search(
    model.networks, dataclasses.replace(settings, blending="paste"), mesh
  )

  # By the images that there are, not by those that are left: one process may
  # look what is left while another is at work.
  mine = list(sources)[sharding.process_slice(len(sources))]
  data_digest = data.digest(
    (_content(sources[stem]) for stem in mine),
    range(len(sources))[sharding.process_slice(len(sources))],
  )
  # Of files; a family is drawn from the config.
  mask_digest = None
  if mask_files := readers.files(config.masks, config.mask):
    mask_digest = data.digest_files(mask_files)
  names = {stem: _names(stem, config.samples) for stem in sources}
  pending = [
    stem
    for stem in mine
    if config.overwrite
    or not all((output / name).exists() for name in names[stem])
  ]
  skipped = [stem for stem in mine if stem not in set(pending)]
  if skipped:
    logging.info(
      "%s of %s images are in %s already and stay as they are "
      "(--config.overwrite=True makes them anew)",
      f"{len(skipped):,}", f"{len(mine):,}", output,
    )  # fmt: skip
  if config.gif in skipped:
    logging.warning("no path.gif: %s is not searched again", config.gif)

  def read(stem: str) -> photograph_lib.Photograph:
    encoded = sources[stem].read()
    image = np.asarray(decoding.open_rgb(encoded, stem))
    hole = hole_of(stem, encoded, *image.shape[:2])
    return photograph_lib.prepare(image, hole, detect, config.rest)

  first_process = jax.process_index() == 0
  done, failed, sheet = 0, 0, []
  size = search.batch_size(len(pending) * config.samples)
  with (
    termination.Watch() as watch,
    image_table.create(workdir, _COLUMNS) as write,
    progress.Progress(
      len(pending), description="inpaint", visible=first_process
    ) as bar,
  ):
    for stem in skipped:
      write({"name": sources[stem].name, "status": "there already"})
    if pending:
      with bar.paused():
        search.warm_up(
          model.weights,
          (size, dcgan.IMAGE_SIZE, dcgan.IMAGE_SIZE, 3),
          size=size,
        )
    for batch in _batches(pending, read, size, config.samples):
      if watch.due():
        raise errors.Stopped(
          f"stopped after {done:,} of {len(pending):,} images, which are in "
          f"{output}"
        )
      ready = {}
      for stem, photograph in batch:
        if isinstance(photograph, photograph_lib.Photograph):
          ready[stem] = photograph
          continue
        name, reason = sources[stem].name, str(photograph)
        logging.warning("left out %s: %s", name, reason)
        write({"name": name, "status": "failed", "reason": reason})
        failed += 1
        bar.update(1)
      start = bar.seconds
      generated, losses = _search(search, model, ready, config.samples, size)
      share = (bar.seconds - start) / max(1, len(ready))
      for stem, photograph in ready.items():
        start = bar.seconds
        for name, sample in zip(names[stem], generated[stem], strict=True):
          completed, left = photograph_lib.complete(
            photograph, sample, settings.blending, config.rest
          )
          # One sample that is missing costs its siblings nothing.
          if config.overwrite or not (output / name).exists():
            pictures.save_png(output / name, completed)
          if config.strips:
            strip = _strip(photograph, completed, config.strips == "masked")
            pictures.save_png(workdir / "strips" / name, strip)
          if len(sheet) < config.contact_sheet:
            sheet += _columns(photograph, sample, completed)
        if stem == config.gif and photograph.faces:
          frames = _film(search, model, photograph, _number(stem))
          pictures.save_gif(workdir / "path.gif", frames)
        row = {
          "name": sources[stem].name,
          **_status(photograph, left, config.rest),
          "loss": " ".join(f"{loss:.6g}" for loss in losses[stem]),
          "seconds": f"{share + bar.seconds - start:.3f}",
        }
        if row.get("reason"):
          logging.warning("%s: %s", row["name"], row["reason"])
        write(row)
        done += 1
        bar.update(1)
    seconds = bar.seconds

  if sheet and first_process:
    columns = zip(*sheet[: config.contact_sheet], strict=True)
    labels = ("original", "masked", "G(z)", "completed")
    pictures.contact_sheet(
      workdir / "contact_sheet.png",
      dict(zip(labels, map(np.stack, columns), strict=True)),
    )
  logging.info("%s images completed in %s", f"{done:,}", output)
  # One table for all processes; the slowest says how long it took.
  parts = sharding.gather(np.array([done, len(skipped), failed, seconds]))
  done, there, failed = map(int, parts[:, :3].sum(axis=0))
  if first_process:
    image_table.merge(workdir, _COLUMNS)
  seconds = parts[:, 3].max()
  return [
    {
      "method": "dcgan",
      "mask": config.masks,
      "mask_digest": mask_digest,
      "data_digest": data_digest,
      "n": done,
      "skipped": there,
      "failed": failed,
      "images_per_second": done / seconds if done else None,
      "step": model.step,
    }
  ]


# Names.


def _names(stem: str, samples: int) -> list[str]:
  """Returns the names of an image's results."""
  if samples == 1:
    return [f"{stem}.png"]
  return [f"{stem}_{number + 1}.png" for number in range(samples)]


def _number(stem: str, face: int = 0) -> int:
  """Returns the number by which random draws are made: 32 bits."""
  text = f"{stem}\0{face}" if face else stem
  # A name on disk may hold bytes that are no text.
  return zlib.crc32(text.encode(errors="surrogateescape"))


# Reading.


def _content(file: folder.File) -> bytes:
  """Returns a file's bytes; none where it cannot be read, as `_read` says."""
  try:
    return file.read()
  # A damaged zip raises many kinds.
  except Exception:  # noqa: BLE001
    return b""


def _batches(
  stems: Sequence[str],
  read: Callable[[str], photograph_lib.Photograph],
  size: int,
  samples: int,
) -> Iterator[list[tuple[str, photograph_lib.Photograph | Exception]]]:
  """Yields what was read, or why not, as soon as `size` searches are ready."""
  batch, searches, area = [], 0, 0
  for stem, photograph in _read_ahead(stems, read):
    batch.append((stem, photograph))
    if isinstance(photograph, photograph_lib.Photograph):
      searches += len(photograph.faces) * samples
      area += photograph.hole.size
    if max(searches, len(batch)) >= size or area >= _MAX_PIXELS:
      yield batch
      batch, searches, area = [], 0, 0
  if batch:
    yield batch


def _read_ahead(
  stems: Sequence[str], read: Callable[[str], photograph_lib.Photograph]
) -> Iterator[tuple[str, photograph_lib.Photograph | Exception]]:
  """Yields each stem and what was read, or why not; threads do the work."""
  threads = os.cpu_count() or 1
  waiting = collections.deque()

  def first():
    stem, future = waiting.popleft()
    try:
      return stem, future.result()
    # One bad file costs that file alone; Pillow raises many kinds.
    except Exception as error:  # noqa: BLE001
      return stem, error

  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for stem in stems:
      waiting.append((stem, pool.submit(read, stem)))
      if len(waiting) > threads:
        yield first()
    while waiting:
      yield first()


# Searching.


def _search(
  search: ensemble.Search,
  model: trained_model.TrainedModel,
  photographs: dict[str, photograph_lib.Photograph],
  samples: int,
  size: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns G(z) and the loss for all faces of some photographs.

  Returns:
    {stem: float32 [samples, F, 64, 64, 3]}, and {stem: float [samples]}, the
    sum over the faces.
  """
  wanted = [
    (stem, face, sample)
    for stem, photograph in photographs.items()
    for sample in range(samples)
    for face in range(len(photograph.faces))
  ]
  shape = (dcgan.IMAGE_SIZE, dcgan.IMAGE_SIZE, 3)
  generated, loss = np.empty((0, *shape), np.float32), np.empty(0)
  if wanted:
    found = search(
      model.weights,
      pixels.to_float(
        np.stack([photographs[s].crops[f] for s, f, _ in wanted])
      ),
      np.stack([photographs[s].masks[f] for s, f, _ in wanted]),
      indices=[_number(s, f) for s, f, _ in wanted],
      samples=[sample for *_, sample in wanted],
      size=size,
    )
    generated, loss = found.generated, found.loss.min(axis=1)
  images, losses, first = {}, {}, 0
  for stem, photograph in photographs.items():
    faces = len(photograph.faces)
    part = slice(first, first + samples * faces)
    images[stem] = generated[part].reshape(samples, faces, *shape)
    losses[stem] = loss[part].reshape(samples, faces).sum(axis=1)
    first = part.stop
  return images, losses


# What is left behind.


def _status(
  photograph: photograph_lib.Photograph, left: np.ndarray, rest: str
) -> dict[str, Any]:
  """Returns what became of a photograph, for its row of the table."""
  reasons = []
  if any(face.how == "box" for face in photograph.faces):
    reasons.append(
      "aligned by the detector's box: eyes or mouth lie in the hole, or the "
      "detector knows no landmarks"
    )
  status = "completed"
  if not photograph.hole.any():
    status = "no hole"
    reasons.append("the mask leaves no hole, and the image comes back as it is")
  if left.any():
    share = f"{100 * left.sum() / photograph.hole.sum():.2g} % of the hole"
    if rest == "leave":
      status = "partly"
      reasons.append(f"{share} lies outside of every face and stays as it was")
    else:
      reasons.append(f"{share} lies outside of every face: filled smoothly")
  return {
    "status": status,
    "faces": photograph.found,
    "aligned_by": " ".join(face.how for face in photograph.faces),
    "hole_share": f"{photograph.hole.mean():.6g}",
    "left_share": f"{left.mean():.6g}",
    "reason": "; ".join(reasons),
  }


def _strip(
  photograph: photograph_lib.Photograph, completed: np.ndarray, masked: bool
) -> np.ndarray:
  """Returns the image, its mask (white is the hole) and the result in a row."""
  image, hole = photograph.pixels, photograph.hole[..., None]
  if masked:
    (image,) = pictures.masked_view(image[None], ~hole)
  mask = np.where(hole, np.uint8(255), np.zeros_like(image))
  return pictures.grid([image, mask, completed], 3)


def _columns(
  photograph: photograph_lib.Photograph,
  generated: np.ndarray,
  completed: np.ndarray,
) -> list[tuple[np.ndarray, ...]]:
  """Returns a column of the contact sheet for each face, 64x64."""
  columns = []
  for face, mask, crop in zip(
    photograph.faces, photograph.masks, generated, strict=True
  ):
    original = alignment.crop(photograph.pixels, face.matrix)
    (masked,) = pictures.masked_view(original[None], mask)
    result = alignment.crop(completed, face.matrix)
    columns.append((original, masked, pixels.to_uint8(crop), result))
  return columns


def _film(
  search: ensemble.Search,
  model: trained_model.TrainedModel,
  photograph: photograph_lib.Photograph,
  number: int,
) -> list[np.ndarray]:
  """Returns frames of G(z) and of the completed crop, for the first face."""
  crop, mask = photograph.crops[0], photograph.masks[0]
  path = film.path(
    search, model.weights, pixels.to_float(crop), mask, index=number
  )
  frames = []
  for generated in pixels.to_uint8(path):
    pair = [generated, np.where(mask > 0.5, crop, generated)]
    large = np.repeat(np.repeat(pair, 4, axis=1), 4, axis=2)
    frames.append(pictures.grid(large, 2, padding=8))
  return frames
