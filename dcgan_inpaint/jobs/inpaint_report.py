"""What the job `inpaint` writes: results, pictures beside them, and rows."""

from collections.abc import Sequence
import hashlib
import os
import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import image_files
from dcgan_inpaint.photographs import photograph as photograph_lib
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors

# Of results.csv.
COLUMNS = (
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


class Writer:
  """Writes the results, and the pictures beside them."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    output: pathlib.Path,
    blending: str,
  ):
    """Writes nothing yet.

    Args:
      config: the whole config.
      workdir: where the pictures go.
      output: where the results go.
      blending: how generated pixels are blended into a photograph.
    """
    self.workdir = workdir
    self._config, self._output, self._blending = config, output, blending
    # Of the contact sheet; kept in hidden files, for the run that resumes.
    self._columns: list[np.ndarray] = []

  def save(
    self,
    names: Sequence[str],
    photograph: photograph_lib.Photograph,
    generated: np.ndarray,
  ) -> np.ndarray:
    """Saves the results of an image, one for each sample, and its strips.

    Args:
      names: of the results.
      photograph: the image.
      generated: float32 [samples, F, S, S, 3], G(z) for each of its faces.

    Returns:
      bool [H, W], what is left of the hole.
    """
    config, left = self._config, photograph.hole
    for name, sample in zip(names, generated, strict=True):
      completed, left = photograph_lib.complete(
        photograph, sample, self._blending, config.rest
      )
      # The result is the last, as nothing is made again once it is there.
      if config.strips:
        masked = config.strips == "masked"
        view = _strip(photograph, completed, masked)
        pictures.save_png(self.workdir / "strips" / name, view)
      if len(self._columns) < config.contact_sheet:
        columns = _columns(photograph, sample, completed)
        self._columns += columns
        if columns and not jax.process_index():
          pictures.save_png(self._kept(name), np.concatenate(columns, axis=1))
      # A missing sample is made, and those beside it stay.
      path = self._output / name
      if config.overwrite or not path.exists():
        _save(path, photograph, completed, left, config)
    return left

  def recall(self, names: Sequence[str]) -> None:
    """Puts an image that an earlier run completed on the contact sheet.

    Args:
      names: of its results.
    """
    for name in names:
      path = self._kept(name)
      if len(self._columns) >= self._config.contact_sheet or not path.is_file():
        continue
      try:
        kept = pictures.load_png(path)
        # Four squares below each other, for each face.
        self._columns += np.split(kept, 4 * kept.shape[1] // len(kept), axis=1)
      except (errors.UserError, ValueError) as error:
        logging.warning("%s is left out of the contact sheet (%s)", name, error)

  def _kept(self, name: str) -> pathlib.Path:
    """Returns where a result's columns of the contact sheet are kept."""
    # A name of its own in one folder, whatever the result's.
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:24]
    return self.workdir / ".contact_sheet" / f"{digest}.png"

  def save_film(
    self, photograph: photograph_lib.Photograph, path: np.ndarray
  ) -> None:
    """Saves path.gif of the search's path, float [T, S, S, 3]."""
    frames = _film(photograph, path)
    pictures.save_gif(self.workdir / "path.gif", frames)

  def save_contact_sheet(self) -> None:
    """Saves contact_sheet.png of the images so far, in the first process."""
    if not self._columns or jax.process_index():
      return
    columns = np.stack(self._columns[: self._config.contact_sheet])
    labels = ("original", "masked", "G(z)", "completed")
    rows = np.split(columns, len(labels), axis=1)
    pictures.contact_sheet(
      self.workdir / "contact_sheet.png", dict(zip(labels, rows, strict=True))
    )


def status(
  photograph: photograph_lib.Photograph,
  name: str,
  left: np.ndarray,
  rest: str,
) -> dict[str, Any]:
  """Returns what became of a photograph, for its row of results.csv.

  Args:
    photograph: the photograph.
    name: of its result, whose format may not keep all of it.
    left: bool [H, W], the part of its hole that no face covers.
    rest: what was done with that part, one of `photograph.RESTS`.
  """
  reasons = list(filter(None, [photograph.note]))
  if photograph.picture and (
    lost := image_files.what_is_lost(name, photograph.picture)
  ):
    reasons.append(f"{lost}: name a .png for that")
  if any(face.how == "box" for face in photograph.faces):
    reasons.append(
      "aligned by the detector's box: most of the face lies in the hole, or "
      "the detector knows no landmarks"
    )
  word = "completed"
  if not photograph.hole.any():
    word = "no hole"
    reasons.append("the image comes back as it is")
  if left.any():
    share = 100 * left.sum() / photograph.hole.sum()
    part = f"{share:.{2 if share < 99.5 else 3}g} % of the hole"
    if rest == "leave":
      word = "partly"
      reasons.append(f"{part} lies outside of every face and stays as it was")
    else:
      how = "smoothly" if rest == "auto" else f"by {rest}"
      reasons.append(f"{part} lies outside of every face: filled {how}")
  return {
    "status": word,
    "faces": photograph.found,
    "aligned_by": " ".join(face.how for face in photograph.faces),
    "hole_share": f"{photograph.hole.mean():.6g}",
    "left_share": f"{left.mean():.6g}",
    "reason": "; ".join(reasons),
  }


def _save(
  path: pathlib.Path,
  photograph: photograph_lib.Photograph,
  completed: np.ndarray,
  left: np.ndarray,
  config: ml_collections.ConfigDict,
) -> None:
  """Saves a result in the photograph's own kind of pixels.

  Args:
    path: of the result.
    photograph: the photograph.
    completed: uint8 [H, W, 3], with its hole filled.
    left: bool [H, W], what no face covers.
    config: the whole config.
  """
  assert photograph.picture
  there = ~left if config.rest == "leave" else np.ones_like(left)
  # What was erased is opaque once it is filled.
  opaque = there if config.masks == "alpha" else None
  done = photograph.hole & there
  image_files.save(
    path,
    picture_lib.filled(photograph.picture, completed, done, opaque=opaque),
  )


def _strip(
  photograph: photograph_lib.Photograph, completed: np.ndarray, masked: bool
) -> np.ndarray:
  """Returns an image, its mask (white is the hole) and the result in a row.

  Args:
    photograph: the photograph.
    completed: uint8 [H, W, 3], the result.
    masked: whether a pattern covers the hole of the image.

  Returns:
    uint8, the three side by side.
  """
  image, hole = photograph.pixels, photograph.hole[..., None]
  if masked:
    (image,) = pictures.masked_view(image[None], ~hole)
  mask = np.where(hole, np.uint8(255), np.zeros_like(image))
  return pictures.grid([image, mask, completed], 3)


def _columns(
  photograph: photograph_lib.Photograph,
  generated: np.ndarray,
  completed: np.ndarray,
) -> list[np.ndarray]:
  """Returns a column of the contact sheet for each face.

  Args:
    photograph: the photograph.
    generated: float32 [F, S, S, 3], G(z) for each of its faces.
    completed: uint8 [H, W, 3], the result.

  Returns:
    The original, the masked, the generated and the completed crop of each face,
    below each other, uint8 [4 * S, S, 3].
  """
  made = []
  for face, mask, crop in zip(
    photograph.faces, photograph.masks, generated, strict=True
  ):
    original = alignment.crop(photograph.pixels, face.matrix, len(crop))
    (masked,) = pictures.masked_view(original[None], mask)
    result = alignment.crop(completed, face.matrix, len(crop))
    generated_crop = pixels.to_uint8(crop)
    made.append(np.concatenate([original, masked, generated_crop, result]))
  return made


def _film(
  photograph: photograph_lib.Photograph, path: np.ndarray
) -> list[np.ndarray]:
  """Returns frames of G(z) beside the completed crop, for the first face.

  Args:
    photograph: the photograph.
    path: float [T, S, S, 3], G(z) along the search's path.
  """
  crop, mask = photograph.crops[0], photograph.masks[0]
  scale = max(1, 256 // len(crop))
  frames = []
  for generated in pixels.to_uint8(path):
    pair = [generated, np.where(mask > 0.5, crop, generated)]
    large = np.repeat(np.repeat(pair, scale, axis=1), scale, axis=2)
    frames.append(pictures.grid(large, 2, padding=8))
  return frames
