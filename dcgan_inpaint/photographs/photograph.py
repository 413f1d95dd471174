"""One photograph with a hole: its faces as crops for the search, and back.

The search takes crops of the model's size. Every face that the hole touches is
found (`detection`) and cropped (`alignment`); the search's result is warped
back into the hole, and every other pixel stays as it is, to the bit.
"""

from typing import NamedTuple

import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import biharmonic
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import blending

# What to do with the part of a hole that no face covers.
RESTS = ("leave", "biharmonic")


class Photograph(NamedTuple):
  """A photograph that is ready for the search.

  Attributes:
    pixels: uint8 [H, W, 3].
    hole: bool [H, W], True = hole.
    found: number of faces in it.
    faces: the F of them that the hole touches.
    crops: uint8 [F, S, S, 3], with the hole filled smoothly.
    masks: float32 [F, S, S, 1], 1 = known.
    picture: the photograph in its own kind of pixels, where it was a file.
    note: what is odd about its mask, as a line for the user, or ''.
  """

  pixels: np.ndarray
  hole: np.ndarray
  found: int
  faces: list[detection.Face]
  crops: np.ndarray
  masks: np.ndarray
  picture: picture_lib.Picture | None = None
  note: str = ""


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
    smooth = alignment.fill(image.astype(np.float32), hole)
    filled = np.round(smooth).astype(np.uint8)
    found = detect(filled, hole)
  faces = [face for face in found if detection.touches(face, hole)]
  if hole.any() and not faces and rest == "leave":
    what = "no face at the hole" if found else "no face found"
    raise errors.UserError(
      f"{what}: --config.faces=whole takes the image for one face, and "
      "--config.rest=biharmonic fills what no face covers"
    )
  crops = np.empty((len(faces), size, size, 3), np.uint8)
  masks = np.empty((len(faces), size, size, 1), np.float32)
  for i, face in enumerate(faces):
    crops[i] = alignment.crop(filled, face.matrix, size)
    masks[i] = alignment.crop_mask(hole, face.matrix, size)
  return Photograph(image, hole, len(found), faces, crops, masks)


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
  image = pixels.to_float(photograph.pixels)
  left = photograph.hole.copy()
  height, width = left.shape
  for face, crop in zip(photograph.faces, generated, strict=True):
    window = alignment.window(face.matrix, height, width)
    inside = (left & alignment.covered(face.matrix, height, width))[window]
    if not inside.any():
      continue  # A more certain face has filled it.
    warped = alignment.warp_back(crop, face.matrix, height, width)
    # Hole beyond the crop is hole for the blending too.
    part = _around(left[window])
    (blended,) = blending.blend(
      mode,
      warped[part][None],
      image[window][part][None],
      (~left[window][part]).astype(np.float32)[None, ..., None],
      alignment.scale(face.matrix),
    )
    image[window][part][inside[part]] = blended[inside[part]]
    left[window] &= ~inside
  if left.any() and rest == "biharmonic":
    known = (~left).astype(np.float32)[..., None]
    (image,) = biharmonic.complete(image[None], known[None])
  # A hole that is left keeps its own pixels; known ones come back to the bit.
  return pixels.to_uint8(image), left


def _around(hole: np.ndarray) -> tuple[slice, slice]:
  """Returns the rows and columns of a hole and of the pixels beside it."""
  rows, columns = (
    slice(max(0, places[0] - 1), places[-1] + 2)
    for places in (np.nonzero(hole.any(axis=axis))[0] for axis in (1, 0))
  )
  return rows, columns
