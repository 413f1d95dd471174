"""Fills the hole of one photograph, as `dcgan-inpaint photo mask out.png` does.

It is the job `inpaint` with that command's fields, for a model that stays
loaded and searches that stay compiled. For the same file, hole and settings the
result is the same, to the bit.
"""

from collections.abc import Callable
import copy
import dataclasses
import pathlib
import runpy
from typing import Any

import numpy as np

from dcgan_inpaint import command_line
from dcgan_inpaint.jobs import inpaint
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import face_search
from dcgan_inpaint.photographs import image_files
from dcgan_inpaint.photographs import photograph as photograph_lib
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.web import opening

MODES = ("fidelity", "realism", "paper")
MAX_SAMPLES = 8
_MAX_STEM = 50  # Characters of a result's name that are the photograph's.

# What is done, from 0 to 1, and what comes next.
Progress = Callable[[float, str], object]


@dataclasses.dataclass(frozen=True)
class Request:
  """What is to be filled, and how.

  Attributes:
    photograph: its file.
    hole: the hole, by its parts.
    folder: where the results go.
    mode: one of `MODES`, such as the `default_mode`.
    seed: what the search's starts are drawn from.
    samples: different completions, 1 to `MAX_SAMPLES`.
  """

  photograph: pathlib.Path
  hole: opening.Hole
  folder: pathlib.Path
  mode: str = "fidelity"
  seed: int = 0
  samples: int = 1


@dataclasses.dataclass(frozen=True)
class Filled:
  """What became of a request.

  Attributes:
    results: files of the completions, at the photograph's size.
    mask: the file of the hole, at that size; white is the hole.
    before: file of the photograph as the browser shows it.
    after: files of the completions as the browser shows them.
    near: files of what is around the hole in them.
    faces: the number of faces that the model has filled a part of.
  """

  results: list[pathlib.Path]
  mask: pathlib.Path
  before: pathlib.Path
  after: list[pathlib.Path]
  near: list[pathlib.Path]
  faces: int


def default_mode() -> str:
  """Returns the mode of `MODES` that the job `inpaint` has by default."""
  return _config().search.mode


class Filler:
  """A model, ready to fill holes."""

  def __init__(self, model: str = "pretrained"):
    """Loads the model.

    Args:
      model: as for `dcgan_inpaint.load_pretrained`.

    Raises:
      errors.UserError: there is no such model, or it cannot be read.
    """
    self._config = _config()
    self._config.checkpoint.path = model
    self._mesh = sharding.local_mesh(sharding.create_mesh())
    self._model = trained_model.load(self._config.checkpoint, self._mesh)
    size = self._model.image_shape[0]
    self._detect = detection.create(
      self._config.faces, size=size, mean_image=self._model.mean_image
    )

  def warm_up(self) -> None:
    """Loads and compiles what one completion in the default mode runs."""
    blank = np.zeros((128, 128), np.uint8)
    self._detect(np.repeat(blank[..., None], 3, axis=-1), blank > 0)
    try:
      search = self._search(default_mode(), 0)
    except errors.UserError:
      return  # A model without an encoder has other modes.
    size = search.batch_size(1)
    shape = (size, *self._model.image_shape)
    search.warm_up(self._model.weights, shape, size=size)

  def fill(self, request: Request, tell: Progress) -> Filled:
    """Fills the hole of a photograph.

    Args:
      request: the photograph, and how.
      tell: is told how far it is.

    Raises:
      errors.UserError: the photograph or its mask cannot be read, there is no
        hole, a setting is wrong, or nothing fills this hole.
    """
    _check(request)
    tell(0.05, "Reading the photograph")
    picture = opening.read_picture(request.photograph)
    hole = opening.read_hole(request.hole, picture)
    shown = picture_lib.rgb(picture)
    tell(0.15, "Looking for faces")
    photograph = photograph_lib.prepare(
      shown,
      hole,
      self._detect,
      self._config.rest,
      self._model.image_shape[0],
    )
    stem = request.photograph.stem
    count = len(photograph.faces)
    if count:
      what = "a face" if count == 1 else f"{count} faces"
      tell(0.3, f"Completing {what}")
    search = self._search(request.mode, request.seed)
    generated, _ = face_search.search_all(
      search,
      self._model,
      {stem: photograph},
      inpaint.image_number,
      request.samples,
      search.batch_size(request.samples),
    )
    folder = request.folder
    folder.mkdir(parents=True)
    box = opening.around(hole)
    results, after, near = [], [], []
    for i, sample in enumerate(generated[stem]):
      of_all = f" {i + 1} of {request.samples}" if request.samples > 1 else ""
      tell(0.7 + 0.3 * i / request.samples, f"Filling the hole{of_all}")
      completed, _ = photograph_lib.complete(
        photograph, sample, self._config.search.blending, self._config.rest
      )
      # What was erased is opaque once it is filled.
      opaque = np.ones_like(hole) if request.hole.alpha else None
      result = picture_lib.filled(picture, completed, hole, opaque=opaque)
      number = f"_{i + 1}" if request.samples > 1 else ""
      results.append(folder / f"{stem[:_MAX_STEM]}_filled{number}.png")
      image_files.save(results[-1], result)
      seen = picture_lib.rgb(result)
      after.append(folder / f"after{i + 1}.png")
      pictures.save_png(after[-1], opening.to_shown(seen))
      near.append(folder / f"near{i + 1}.png")
      pictures.save_png(near[-1], opening.to_shown(seen[box]))
    mask = folder / f"{stem[:_MAX_STEM]}_mask.png"
    pictures.save_png(mask, np.where(hole, np.uint8(255), np.uint8(0)))
    before = folder / "before.png"
    pictures.save_png(before, opening.to_shown(shown))
    return Filled(results, mask, before, after, near, count)

  def _search(self, mode: str, seed: int) -> ensemble.Search:
    """Returns the search in a mode; what is compiled is kept."""
    section = copy.deepcopy(self._config.search)
    section.mode, section.seed = mode, seed
    settings = search_settings.resolve(section)
    # Crops are not blended: photographs are, at their own scale.
    return trained_model.make_search(
      self._model.networks,
      dataclasses.replace(settings, blending="paste"),
      self._mesh,
    )


def _config() -> Any:
  """Returns the config of the job `inpaint`."""
  return runpy.run_path(command_line.find_config("inpaint"))["get_config"]()


def _check(request: Request) -> None:
  """Refuses settings that no page sends, and a browser could."""
  errors.check_choice("mode", request.mode, MODES)
  for name, value, most in (
    ("completions", request.samples, MAX_SAMPLES),
    ("seed", request.seed, 2**32 - 1),
  ):
    least = 1 if name == "completions" else 0
    if not (isinstance(value, int) and least <= value <= most):
      raise errors.UserError(
        f"{name}: {value!r} is no whole number from {least} to {most}"
      )
