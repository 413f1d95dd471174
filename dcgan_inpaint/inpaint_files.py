"""The job `inpaint`: completes a user's own images with a trained model.

Images come in whatever size they are and are brought to 64x64 as in training
(`data.decoding`: an aligned image of CelebA is cropped to its face, any other
to its centre square; masks likewise). The results are 64x64, and their known
pixels are those of the 64x64 input, to the bit.

Nothing that one image becomes depends on the others: its starts and its random
mask are drawn from its name. So a run may be cut and gone on with, and every
image may be done alone.
"""

from collections.abc import Callable
import pathlib
from typing import Any
import zlib

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import errors
from dcgan_inpaint import masks as masks_lib
from dcgan_inpaint import models
from dcgan_inpaint import pixels
from dcgan_inpaint import progress
from dcgan_inpaint import report
from dcgan_inpaint import sharding
from dcgan_inpaint import termination
from dcgan_inpaint import trained
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder

# Columns of contact_sheet.png.
_SHOWN = 12


def inpaint_files(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Completes the images of `config.input`.

  Each becomes `config.output`/NAME.png, with its sub folders, as soon as its
  batch is done. What is there already stays, unless `config.overwrite`. An
  image that cannot be read, or that has no mask, is named and left out.
  Of several processes, each does its share of the images. Leaves
  contact_sheet.png in `workdir`.

  Args:
    config: the whole config.
    workdir: where the contact sheet goes, and the images by default.
    mesh: the devices of this process.

  Returns:
    One row, for results.json: `n` images were completed in this run, `skipped`
    were there already, and `failed` were left out, by all processes.

  Raises:
    errors.UserError: a field has a wrong value, or two images would get one
      name.
    errors.Stopped: SIGTERM came; the images done so far are saved.
  """
  output = pathlib.Path(config.output or pathlib.Path(workdir) / "completed")
  output = output.expanduser()
  _check_apart(config.input, output)
  files = _by_stem(folder.list_files(config.input, "config.input"))
  mask_of = _mask_reader(config)
  model = trained.load(config.checkpoint, mesh)
  search = trained.make_search(model, config.search, mesh)

  # By the images that there are, not by those that are left: one process may
  # look what is left while another is at work.
  mine = list(files)[sharding.share(len(files))]
  pending = [
    stem
    for stem in mine
    if config.overwrite or not (output / f"{stem}.png").exists()
  ]
  skipped = len(mine) - len(pending)
  if skipped:
    logging.info(
      "%s of %s images are in %s already and stay as they are "
      "(--config.overwrite=True makes them anew)",
      f"{skipped:,}", f"{len(mine):,}", output,
    )  # fmt: skip

  done, failed, shown = 0, 0, []
  size = search.batch_size(len(pending))
  shape = (size, models.IMAGE_SIZE, models.IMAGE_SIZE, 3)
  first_process = jax.process_index() == 0
  bar = progress.Progress(
    len(pending), description="inpaint", visible=first_process
  )
  with termination.Watch() as watch, bar:
    if pending:
      with bar.paused():
        search.warm_up(model.weights, shape)
    for first in range(0, len(pending), size):
      if watch.due():
        raise errors.Stopped(
          f"stopped after {done:,} of {len(pending):,} images, which are in "
          f"{output}"
        )
      batch = pending[first : first + size]
      originals, failures = decoding.decode_all(
        lambda i, batch=batch: files[batch[i]].read(),
        len(batch),
        models.IMAGE_SIZE,
      )
      masks = np.ones((*originals.shape[:3], 1), np.float32)
      for i in set(range(len(batch))) - failures.keys():
        try:
          masks[i] = mask_of(batch[i])
        except errors.UserError as error:
          failures[i] = error
      for i, error in sorted(failures.items()):
        logging.warning("left out %s: %s", files[batch[i]].name, error)
      kept = [i for i in range(len(batch)) if i not in failures]
      failed += len(failures)
      bar.update(len(failures))
      if not kept:
        continue

      originals, masks = originals[kept], masks[kept]
      found = search(
        model.weights,
        pixels.to_float(originals),
        masks,
        indices=[_number(batch[i]) for i in kept],
        size=size,
      )
      completed = pixels.to_uint8(found.completed)
      for i, image in zip(kept, completed, strict=True):
        report.save_png(output / f"{batch[i]}.png", image)
      done += len(kept)
      bar.update(len(kept))
      if len(shown) < _SHOWN:
        generated = pixels.to_uint8(found.generated)
        shown += zip(originals, masks, generated, completed, strict=True)
    seconds = bar.seconds

  if shown and first_process:
    originals, masks, generated, completed = map(
      np.stack, zip(*shown[:_SHOWN], strict=True)
    )
    report.contact_sheet(
      pathlib.Path(workdir) / "contact_sheet.png",
      {
        "original": originals,
        "masked": report.masked_view(originals, masks),
        "G(z)": generated,
        "completed": completed,
      },
    )
  logging.info("%s images completed in %s", f"{done:,}", output)
  # One table for all processes; the slowest says how long it took.
  parts = sharding.gather(np.array([done, skipped, failed, seconds]))
  done, skipped, failed = map(int, parts[:, :3].sum(axis=0))
  seconds = parts[:, 3].max()
  return [
    {
      "method": "dcgan",
      "mask": config.masks,
      "n": done,
      "skipped": skipped,
      "failed": failed,
      "images_per_second": done / seconds if done else None,
      "step": model.step,
    }
  ]


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


def _number(stem: str) -> int:
  """Returns the number by which an image's random draws are made: 32 bits."""
  return zlib.crc32(stem.encode())


def _mask_reader(
  config: ml_collections.ConfigDict,
) -> Callable[[str], np.ndarray]:
  """Returns the function from an image's stem to its mask [64, 64, 1].

  It raises errors.UserError where that image has no mask, or one without a
  hole. What is wrong with `config.masks` altogether is raised here.
  """
  settings = config.mask.copy_and_resolve_references()
  size = models.IMAGE_SIZE

  def make(stem: str) -> np.ndarray:
    return masks_lib.make(settings, [_number(stem)], size, size)[0]

  path = pathlib.Path(config.masks).expanduser()
  if config.masks in masks_lib.FAMILIES:
    settings.family = config.masks
    make("")  # A wrong field is wrong for every image.
    return make
  settings.family = "file"
  if path.is_file() and path.suffix.lower() == ".zip":
    raise errors.UserError(
      f"config.masks={config.masks!r}: a zip of masks is not read; unpack it, "
      "and give the folder"
    )
  if path.is_file():
    settings.path = str(path)
    mask = make("")
    return lambda stem: mask
  if not config.masks or not path.is_dir():
    raise errors.UserError(
      f"config.masks={config.masks!r}: give a mask file, a folder of masks, or "
      f"one of {', '.join(masks_lib.FAMILIES)}"
    )
  files = _by_stem(folder.list_files(str(path), "config.masks"))

  def read(stem: str) -> np.ndarray:
    if stem not in files:
      raise errors.UserError(f"{path} holds no mask of that name")
    settings.path = str(path / files[stem].name)
    return make(stem)

  return read
