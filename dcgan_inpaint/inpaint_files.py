"""The job `inpaint`: completes a user's own images with a trained model.

Images come in whatever size they are and stay so. The model knows 64x64 crops
of faces: every face that the hole touches is found (`faces`), brought to that
crop (`alignment`), completed by the search, and laid back into the hole. What
lies outside of the hole stays as it was, to the bit.

Nothing that one image becomes depends on the others: its starts and its random
mask are drawn from its name. So a run may be cut and gone on with, and every
image may be done alone.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import concurrent.futures
import contextlib
import csv
import os
import pathlib
from typing import Any
from typing import NamedTuple
import zlib

from absl import logging
import jax
import ml_collections
import numpy as np
from PIL import Image

from dcgan_inpaint import alignment
from dcgan_inpaint import blending
from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import errors
from dcgan_inpaint import faces as faces_lib
from dcgan_inpaint import mask_families
from dcgan_inpaint import masks as masks_lib
from dcgan_inpaint import models
from dcgan_inpaint import pixels
from dcgan_inpaint import progress
from dcgan_inpaint import report
from dcgan_inpaint import search as search_lib
from dcgan_inpaint import sharding
from dcgan_inpaint import termination
from dcgan_inpaint import trained
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder
from dcgan_inpaint.methods import biharmonic

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


class _Photograph(NamedTuple):
  """A photograph that is ready for the search.

  Attributes:
    pixels: uint8 [H, W, 3].
    hole: bool [H, W], True = hole.
    found: how many faces it has.
    faces: the F of them that the hole touches.
    crops: uint8 [F, 64, 64, 3], with the hole filled smoothly.
    masks: float32 [F, 64, 64, 1], 1 = known.
  """

  pixels: np.ndarray
  hole: np.ndarray
  found: int
  faces: list[faces_lib.Face]
  crops: np.ndarray
  masks: np.ndarray


def inpaint_files(
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
    mesh: the devices of this process.

  Returns:
    One row, for results.json: `n` images were completed in this run, `skipped`
    were there already, and `failed` were left out, by all processes.

  Raises:
    errors.UserError: a field has a wrong value, or two images would get one
      name.
    errors.Stopped: SIGTERM came; the images done so far are saved.
  """
  workdir = pathlib.Path(workdir)
  output = pathlib.Path(config.output or workdir / "completed").expanduser()
  _check_apart(config.input, output)
  report.make_folder(output, "config.output")
  files = _by_stem(folder.list_files(config.input, "config.input"))
  if config.gif and config.gif not in files:
    raise errors.UserError(
      f"config.gif={config.gif!r} is none of the images: name one without its "
      f"suffix, such as {next(iter(files))!r}"
    )
  if (
    config.samples > 1
    and config_lib.search_settings(config.search).start == "encoder"
  ):
    raise errors.UserError(
      f"config.samples={config.samples}: the encoder of "
      f"config.search.mode={config.search.mode!r} knows one start, and all "
      "samples would be the same; take --config.search.mode=paper"
    )
  hole_of = _hole_reader(config)
  find = faces_lib.create(config.faces)
  model = trained.load(config.checkpoint, mesh)
  search = trained.make_search(model, config.search, mesh)

  # By the images that there are, not by those that are left: one process may
  # look what is left while another is at work.
  mine = list(files)[sharding.share(len(files))]
  data_digest = data.digest(
    (_content(files[stem]) for stem in mine),
    range(len(files))[sharding.share(len(files))],
  )
  # Of files; a family is drawn from the config.
  mask_digest = None
  if config.masks != "alpha" and config.masks not in masks_lib.FAMILIES:
    mask_digest = data.digest_files(config.masks)
  names = {stem: _names(stem, config.samples) for stem in files}
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

  def read(stem: str) -> _Photograph:
    return _read(files[stem].read(), stem, hole_of, find, config.rest)

  first_process = jax.process_index() == 0
  done, failed, sheet = 0, 0, []
  size = search.batch_size(len(pending) * config.samples)
  with (
    termination.Watch() as watch,
    _table(_table_path(workdir)) as write,
    progress.Progress(
      len(pending), description="inpaint", visible=first_process
    ) as bar,
  ):
    for stem in skipped:
      write({"name": files[stem].name, "status": "there already"})
    if pending:
      with bar.paused():
        search.warm_up(
          model.weights, (size, models.IMAGE_SIZE, models.IMAGE_SIZE, 3)
        )
    for batch in _batches(pending, read, size, config.samples):
      if watch.due():
        raise errors.Stopped(
          f"stopped after {done:,} of {len(pending):,} images, which are in "
          f"{output}"
        )
      start = bar.seconds
      ready = {}
      for stem, photograph in batch:
        if isinstance(photograph, _Photograph):
          ready[stem] = photograph
          continue
        name, reason = files[stem].name, str(photograph)
        logging.warning("left out %s: %s", name, reason)
        write({"name": name, "status": "failed", "reason": reason})
        failed += 1
        bar.update(1)
      generated, losses = _search(search, model, ready, config.samples, size)
      for stem, photograph in ready.items():
        for name, sample in zip(names[stem], generated[stem], strict=True):
          completed, left = _complete(photograph, sample, config)
          report.save_png(output / name, completed)
          if config.strips:
            strip = _strip(photograph, completed, config.strips == "masked")
            report.save_png(workdir / "strips" / name, strip)
          if len(sheet) < config.contact_sheet:
            sheet += _columns(photograph, sample, completed)
        if stem == config.gif and photograph.faces:
          frames = _film(search, model, photograph, _number(stem))
          report.save_gif(workdir / "path.gif", frames)
        row = {
          "name": files[stem].name,
          **_status(photograph, left, config.rest),
          "loss": " ".join(f"{loss:.6g}" for loss in losses[stem]),
          "seconds": f"{(bar.seconds - start) / len(ready):.3f}",
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
    report.contact_sheet(
      workdir / "contact_sheet.png",
      dict(zip(labels, map(np.stack, columns), strict=True)),
    )
  logging.info("%s images completed in %s", f"{done:,}", output)
  # One table for all processes; the slowest says how long it took.
  parts = sharding.gather(np.array([done, len(skipped), failed, seconds]))
  done, there, failed = map(int, parts[:, :3].sum(axis=0))
  if first_process:
    _merge_tables(workdir)
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


# What is done.


def _check_apart(inputs: str, output: pathlib.Path) -> None:
  """Refuses an output folder in which the images themselves lie."""
  for path in inputs.split(","):
    path = pathlib.Path(path.strip()).expanduser().resolve()
    if path.is_dir() and output.resolve().is_relative_to(path):
      raise errors.UserError(
        f"config.output={str(output)!r} lies in config.input={str(path)!r}, "
        "and results would be taken for images: take a folder elsewhere"
      )


def _by_stem(files: list[folder.File]) -> dict[str, folder.File]:
  """Returns the files under their names without suffix; refuses doubles."""
  stems = {}
  for file in files:
    stem = str(pathlib.PurePosixPath(file.name).with_suffix(""))
    if stem in stems:
      raise errors.UserError(
        f"{stems[stem].name} and {file.name} have one name but for the suffix: "
        "rename one, or give them in separate runs"
      )
    stems[stem] = file
  return stems


def _names(stem: str, samples: int) -> list[str]:
  """Returns the names of an image's results."""
  if samples == 1:
    return [f"{stem}.png"]
  return [f"{stem}_{number + 1}.png" for number in range(samples)]


def _number(stem: str, face: int = 0, sample: int = 0) -> int:
  """Returns the number by which random draws are made: 32 bits.

  The first sample of the first face is what one image of one face has.
  """
  more = f"\0{face}\0{sample}" if face or sample else ""
  return zlib.crc32(f"{stem}{more}".encode())


def _hole_reader(
  config: ml_collections.ConfigDict,
) -> Callable[[str, bytes, int, int], np.ndarray]:
  """Returns the function that gives an image its hole.

  It takes the image's stem, the bytes of its file, its height and width, and
  returns bool [H, W], True = hole. It raises errors.UserError where that image
  has no mask. What is wrong with `config.masks` altogether is raised here.
  """
  settings = config.mask.copy_and_resolve_references()

  def make(stem, height, width, **fields):
    own = settings.copy_and_resolve_references()  # Threads share `settings`.
    own.update(fields)
    (mask,) = masks_lib.make(
      own, [_number(stem)], height, width, allow_empty=True
    )
    return mask[..., 0] < 0.5

  if config.masks == "alpha":
    return lambda stem, encoded, height, width: decoding.transparency(encoded)

  path = pathlib.Path(config.masks).expanduser()
  if config.masks in masks_lib.FAMILIES:
    settings.family = config.masks
    usual = mask_families.USUAL_SIZES.get(config.masks, 0)
    # Most of what is wrong is wrong for every image. Pixels depend on its size.
    side = models.IMAGE_SIZE
    size = settings.size if settings.size < 1 else 0.0
    make("", side, side, size=size, position="")

    def draw(stem, encoded, height, width):
      del encoded
      size = settings.size
      if not size and usual >= 1:
        # The usual pixels are those of a 64x64 face, and grow with the image.
        size = float(max(1, round(usual * min(height, width) / side)))
      return make(stem, height, width, size=size)

    return draw

  settings.family = "file"
  if path.is_file() and path.suffix.lower() == ".zip":
    raise errors.UserError(
      f"config.masks={config.masks!r}: a zip of masks is not read; unpack it, "
      "and give the folder"
    )
  if path.is_file():
    settings.path = str(path)
    try:
      with Image.open(path) as mask:
        width, height = mask.size
    except Exception:  # noqa: BLE001 (`make` finds words for it.)
      width = height = models.IMAGE_SIZE
    make("", height, width)
    return lambda stem, encoded, height, width: make(stem, height, width)
  if not config.masks or not path.is_dir():
    raise errors.UserError(
      f"config.masks={config.masks!r}: give a mask file, a folder of masks, "
      f"alpha, or one of {', '.join(masks_lib.FAMILIES)}"
    )
  files = _by_stem(folder.list_files(str(path), "config.masks"))

  def read(stem, encoded, height, width):
    del encoded
    if stem not in files:
      raise errors.UserError(f"{path} holds no mask of that name")
    return make(stem, height, width, path=str(path / files[stem].name))

  return read


# Reading.


def _content(file: folder.File) -> bytes:
  """Returns a file's bytes; none where it cannot be read, as `_read` says."""
  try:
    return file.read()
  # A damaged zip raises many kinds.
  except Exception:  # noqa: BLE001
    return b""


def _read(
  encoded: bytes,
  stem: str,
  hole_of: Callable[[str, bytes, int, int], np.ndarray],
  find: faces_lib.Find,
  rest: str,
) -> _Photograph:
  """Reads an image, its hole and its faces."""
  image = np.asarray(decoding.open_rgb(encoded, stem))
  height, width = image.shape[:2]
  hole = hole_of(stem, encoded, height, width)
  found = find(image, hole) if hole.any() else []
  faces = [face for face in found if faces_lib.touches(face, hole)]
  if hole.any() and not faces and rest == "leave":
    what = "no face at the hole" if found else "no face found"
    raise errors.UserError(
      f"{what}: --config.faces=whole takes the image for one face, and "
      "--config.rest=biharmonic fills what no face covers"
    )
  filled = np.uint8(np.round(alignment.fill(np.float32(image), hole)))
  side = models.IMAGE_SIZE
  crops = np.empty((len(faces), side, side, 3), np.uint8)
  masks = np.empty((len(faces), side, side, 1), np.float32)
  for i, face in enumerate(faces):
    crops[i] = alignment.crop(filled, face.matrix)
    masks[i] = alignment.crop_mask(hole, face.matrix)
  return _Photograph(image, hole, len(found), faces, crops, masks)


def _batches(
  stems: Sequence[str],
  read: Callable[[str], _Photograph],
  size: int,
  samples: int,
) -> Iterator[list[tuple[str, _Photograph | Exception]]]:
  """Yields what was read, or why not, as soon as `size` searches are ready."""
  batch, searches, area = [], 0, 0
  for stem, photograph in _read_ahead(stems, read):
    batch.append((stem, photograph))
    if isinstance(photograph, _Photograph):
      searches += len(photograph.faces) * samples
      area += photograph.hole.size
    if max(searches, len(batch)) >= size or area >= _MAX_PIXELS:
      yield batch
      batch, searches, area = [], 0, 0
  if batch:
    yield batch


def _read_ahead(
  stems: Sequence[str], read: Callable[[str], _Photograph]
) -> Iterator[tuple[str, _Photograph | Exception]]:
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
  search: search_lib.Search,
  model: trained.Trained,
  photographs: dict[str, _Photograph],
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
  shape = (models.IMAGE_SIZE, models.IMAGE_SIZE, 3)
  generated, loss = np.empty((0, *shape), np.float32), np.empty(0)
  if wanted:
    found = search(
      model.weights,
      pixels.to_float(
        np.stack([photographs[s].crops[f] for s, f, _ in wanted])
      ),
      np.stack([photographs[s].masks[f] for s, f, _ in wanted]),
      indices=[_number(*one) for one in wanted],
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


def _complete(
  photograph: _Photograph,
  generated: np.ndarray,
  config: ml_collections.ConfigDict,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a photograph with its hole filled, and the hole that is left.

  Where the crops of two faces overlap, the surer one is taken.

  Args:
    photograph: the photograph.
    generated: float32 [F, 64, 64, 3], G(z) for each of its faces.
    config: the whole config.

  Returns:
    uint8 [H, W, 3], and bool [H, W]: what no face covers.
  """
  image = pixels.to_float(photograph.pixels)
  left = photograph.hole.copy()
  height, width = left.shape
  for face, crop in zip(photograph.faces, generated, strict=True):
    part = alignment.window(face.matrix, height, width)
    inside = (left & alignment.covered(face.matrix, height, width))[part]
    known = np.float32(~left[part])[..., None]
    laid = alignment.back(crop, face.matrix, height, width)
    # What is hole beyond the crop is hole for the blending too.
    (blended,) = blending.blend(
      config.search.blending, laid[None], image[part][None], known[None]
    )
    image[part][inside] = blended[inside]
    left[part] &= ~inside
  if left.any() and config.rest == "biharmonic":
    known = np.float32(~left)[..., None]
    (image,) = biharmonic.complete(image[None], known[None])
  # A hole that is left keeps its own pixels; all others come back to the bit.
  return pixels.to_uint8(image), left


# What is left behind.


def _table_path(workdir: pathlib.Path, process: int | None = None):
  """Returns the table of a process; of one process alone it is results.csv."""
  if jax.process_count() == 1:
    return workdir / "results.csv"
  process = jax.process_index() if process is None else process
  return workdir / f"results.process_{process}.csv"


def _merge_tables(workdir: pathlib.Path) -> None:
  """Makes results.csv of the tables of several processes, which it removes."""
  if jax.process_count() == 1:
    return
  parts = [_table_path(workdir, i) for i in range(jax.process_count())]
  with _table(workdir / "results.csv") as write:
    for part in parts:
      with part.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
          write(row)
      part.unlink()


@contextlib.contextmanager
def _table(path: pathlib.Path) -> Iterator[Callable[[dict[str, Any]], None]]:
  """Yields the function that adds a row to a new CSV file.

  A row is on disk as soon as it is known, for runs that are cut. An earlier
  file is set aside.
  """
  report.set_aside(path)
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, _COLUMNS)
    writer.writeheader()

    def write(row: dict[str, Any]) -> None:
      writer.writerow(row)
      file.flush()

    yield write


def _status(
  photograph: _Photograph, left: np.ndarray, rest: str
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
  photograph: _Photograph, completed: np.ndarray, masked: bool
) -> np.ndarray:
  """Returns the image, its mask (white is the hole) and the result in a row."""
  image, hole = photograph.pixels, photograph.hole[..., None]
  if masked:
    (image,) = report.masked_view(image[None], ~hole)
  mask = np.where(hole, np.uint8(255), np.zeros_like(image))
  return report.grid([image, mask, completed], 3)


def _columns(
  photograph: _Photograph, generated: np.ndarray, completed: np.ndarray
) -> list[tuple[np.ndarray, ...]]:
  """Returns a column of the contact sheet for each face, 64x64."""
  columns = []
  for face, mask, crop in zip(
    photograph.faces, photograph.masks, generated, strict=True
  ):
    original = alignment.crop(photograph.pixels, face.matrix)
    (masked,) = report.masked_view(original[None], mask)
    result = alignment.crop(completed, face.matrix)
    columns.append((original, masked, pixels.to_uint8(crop), result))
  return columns


def _film(
  search: search_lib.Search,
  model: trained.Trained,
  photograph: _Photograph,
  number: int,
) -> list[np.ndarray]:
  """Returns frames of G(z) and of the completed crop, for the first face."""
  crop, mask = photograph.crops[0], photograph.masks[0]
  path = search.path(model.weights, pixels.to_float(crop), mask, index=number)
  frames = []
  for generated in pixels.to_uint8(path):
    pair = [generated, np.where(mask > 0.5, crop, generated)]
    large = np.repeat(np.repeat(pair, 4, axis=1), 4, axis=2)
    frames.append(report.grid(large, 2, padding=8))
  return frames
