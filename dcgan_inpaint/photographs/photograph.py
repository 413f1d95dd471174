"""One photograph with a hole: its faces as crops for the search, and back.

Each connected piece of the hole is filled by what fills it best. The wide ones
over a face are the model's: the search takes crops of its size, so every face
that such a piece touches is found (`detection`) and cropped (`alignment`), and
the search's result is warped back into the piece. What is thin for that face,
such as a scratch or a letter, holds nothing that its surroundings do not say,
and is interpolated, as is what no face covers. Every other pixel stays as it
is, to the bit.
"""

from collections.abc import Sequence
import importlib
from typing import NamedTuple

import numpy as np

from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.methods import spline as spline_method
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import blending
from dcgan_inpaint.search import spline

# What becomes of the part of a hole that no face covers: filled by the spline
# that suits its surroundings, left, or filled by a method by its name.
RESTS = (
  "auto",
  "leave",
  *(
    name
    for name, spec in methods.METHODS.items()
    if not spec.fits and not spec.trained
  ),
)

# Pieces of a hole that are thinner than this, in pixels of a 64x64 crop of the
# face, are interpolated.
_THIN = 2.5
# What a piece of a hole must touch to be the model's, in units of the crop (see
# `alignment`): the face, not what lies beside it. Left, upper, right, lower.
_FACE = (10, 4, 54, 64)
# Pixels around a hole: that a method by name and the smooth fill get, and
# beyond which nothing is looked at to complete it.
_SURROUNDINGS, _FAR = 64, 256


class Photograph(NamedTuple):
  """A photograph that is ready for the search.

  Attributes:
    pixels: uint8 [H, W, 3].
    hole: bool [H, W], True = hole.
    wide: bool [H, W], what the model fills, as far as faces cover it.
    thin: bool [H, W], what faces cover of the hole and is interpolated.
    found: number of faces in it.
    faces: the F of them that the model fills a piece of the hole in.
    crops: uint8 [F, S, S, 3], with the hole filled smoothly.
    masks: float32 [F, S, S, 1], 1 = known.
    picture: the photograph in its own kind of pixels, where it was a file.
    note: what is odd about its mask, as a line for the user, or ''.
  """

  pixels: np.ndarray
  hole: np.ndarray
  wide: np.ndarray
  thin: np.ndarray
  found: int
  faces: list[detection.Face]
  crops: np.ndarray
  masks: np.ndarray
  picture: picture_lib.Picture | None = None
  note: str = ""


def check_rest(rest: str, field: str = "config.rest") -> None:
  """Checks a name of `RESTS`.

  Raises:
    errors.UserError: there is none of this name, or its library is missing.
  """
  errors.check_choice(field, rest, RESTS)
  if rest in methods.METHODS:
    methods.names((rest,), field)


def prepare(
  image: np.ndarray,
  hole: np.ndarray,
  detect: detection.Detector,
  rest: str,
  size: int = alignment.SIZE,
) -> Photograph:
  """Finds the faces at the hole, and crops them.

  Args:
    image: uint8 [H, W, 3]; values in the hole are not read.
    hole: bool [H, W], True = hole; without one no face is searched for.
    detect: as `detection.create` returns it.
    rest: one of `RESTS`, for what no face covers.
    size: side of the crops, pixels.

  Raises:
    errors.UserError: there is no face at the hole, and `rest` is 'leave'.
  """
  filled, found = image, []
  if hole.any():
    window = spline.around(hole, _SURROUNDINGS)
    smooth = alignment.fill(image[window].astype(np.float32), hole[window])
    filled = image.copy()
    filled[window] = np.round(smooth).astype(np.uint8)
    found = detect(filled, hole)
  touched = [face for face in found if detection.touches(face, hole)]
  if hole.any() and not touched and rest == "leave":
    what = "no face at the hole" if found else "no face found"
    raise errors.UserError(
      f"{what}: --config.faces=whole takes the image for one face, and "
      "--config.rest=auto fills what no face covers"
    )
  wide, thin, faces = _assign(hole, touched, rest)
  crops = np.empty((len(faces), size, size, 3), np.uint8)
  masks = np.empty((len(faces), size, size, 1), np.float32)
  for i, face in enumerate(faces):
    crops[i] = alignment.crop(filled, face.matrix, size)
    masks[i] = alignment.crop_mask(hole, face.matrix, size)
  return Photograph(image, hole, wide, thin, len(found), faces, crops, masks)


def complete(
  photograph: Photograph, generated: np.ndarray, mode: str, rest: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a photograph with its hole filled, and the hole that is left.

  Where the crops of two faces overlap, the more certain face is taken.

  Args:
    photograph: the photograph.
    generated: float32 [F, S, S, 3], G(z) for each of its faces.
    mode: one of `blending.MODES`.
    rest: one of `RESTS`, for what no face covers.

  Returns:
    image: uint8 [H, W, 3].
    left: bool [H, W], what no face covers.
  """
  completed = photograph.pixels.copy()
  left = photograph.hole.copy()
  if left.any():
    # What is far from the hole changes nothing.
    window = spline.around(left, _FAR)
    completed[window], left[window] = _complete(
      _part(photograph, window), generated, mode, rest
    )
  return completed, left


def _part(photograph: Photograph, window: tuple[slice, slice]) -> Photograph:
  """Returns the part of a photograph, and its faces, that a window holds."""
  rows, columns = window
  shift = np.array([[1, 0, -columns.start], [0, 1, -rows.start], [0, 0, 1.0]])
  return photograph._replace(
    pixels=photograph.pixels[window],
    hole=photograph.hole[window],
    wide=photograph.wide[window],
    thin=photograph.thin[window],
    faces=[
      face._replace(matrix=shift @ face.matrix) for face in photograph.faces
    ],
  )


def _complete(
  photograph: Photograph, generated: np.ndarray, mode: str, rest: str
) -> tuple[np.ndarray, np.ndarray]:
  """As `complete`, of a part with all that is near the hole."""
  image = pixels.to_float(photograph.pixels)
  left = photograph.hole.copy()
  height, width = left.shape
  for face, crop in zip(photograph.faces, generated, strict=True):
    window = alignment.window(face.matrix, height, width)
    inside = left & photograph.wide
    inside = (inside & alignment.covered(face.matrix, height, width))[window]
    if not inside.any():
      continue  # A more certain face has filled it.
    warped = alignment.warp_back(crop, face.matrix, height, width)
    # Hole beyond the crop is hole for the blending too.
    blended = blending.blend_one(
      mode,
      warped,
      image[window],
      left[window],
      alignment.scale(face.matrix),
    )
    image[window][inside] = blended[inside]
    left[window] &= ~inside
  thin = left & photograph.thin
  if rest == "auto" or thin.any():
    filled = spline_method.fill(image, left)
    done = left if rest == "auto" else thin
    image[done] = filled[done]
  left &= ~thin
  if rest in methods.METHODS and left.any():
    _fill_by(rest, image, left)
  # A hole that is left keeps its own pixels; known ones come back to the bit.
  return pixels.to_uint8(image), left


def _assign(
  hole: np.ndarray, faces: Sequence[detection.Face], rest: str
) -> tuple[np.ndarray, np.ndarray, list[detection.Face]]:
  """Returns what the model fills and what is interpolated within faces.

  Args:
    hole: bool [H, W].
    faces: that touch it.
    rest: one of `RESTS`. With 'leave' the model also fills what lies beside a
      face, in its crop.

  Returns:
    wide: bool [H, W], the pieces of the hole that the model fills, as far as a
      crop covers them.
    thin: bool [H, W], the pieces that are thin for a face, as far as its crop
      covers them.
    searched: the faces with a piece of the first kind.
  """
  wide, thin, searched = np.zeros_like(hole), np.zeros_like(hole), []
  if not faces:
    return wide, thin, searched
  label, thickness = spline.pieces(hole)
  for face in faces:
    inside = hole & alignment.covered(face.matrix, *hole.shape)
    of_face = inside
    if rest != "leave":
      of_face = hole & alignment.covered(face.matrix, *hole.shape, box=_FACE)
    is_thin = thickness < _THIN * alignment.scale(face.matrix)
    touched = np.bincount(label[of_face], minlength=len(thickness)) > 0
    model = touched & ~is_thin
    thin |= inside & is_thin[label]
    wide |= inside & model[label]
    if model.any():
      searched.append(face)
  return wide & ~thin, thin, searched


def _fill_by(name: str, image: np.ndarray, left: np.ndarray) -> None:
  """Fills what is left of an image, float32 [H, W, 3], in place."""
  method = importlib.import_module(f"{methods.__name__}.{name}")
  window = spline.around(left, _SURROUNDINGS)
  known = (~left[window]).astype(np.float32)[..., None]
  (image[window],) = method.complete(image[window][None], known[None])
