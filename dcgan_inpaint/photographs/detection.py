"""Every face in a photograph, and where the training crop lies on it.

This follows the paper's own preparation, OpenFace (Amos et al. 2016): find the
face, find its landmarks, align it by them, crop. With the extra `faces` the
detector and the landmarks are OpenFace's own (`dlib_faces`). Without it there
is `cascade`: boxes of upright frontal faces, which are not levelled, with more
misses.

Detectors get a photograph whose hole is filled smoothly (`alignment.fill`): a
white rectangle hides a face that a smooth fill leaves visible. Of 120 faces of
CelebA with both eyes missing, dlib found 57 behind the smooth fill and 6 behind
white; with the mouth missing, 103 and 77. With dlib, a face at the hole then
gets a `second_look`.
"""

from collections.abc import Callable
from typing import NamedTuple

from absl import logging
import numpy as np
from PIL import Image

from dcgan_inpaint.data import decoding
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import cascade
from dcgan_inpaint.photographs import dlib_faces
from dcgan_inpaint.photographs import second_look
from dcgan_inpaint.runtime import errors

DETECTORS = ("auto", "dlib", "cascade", "whole")

# dlib's landmarks in CelebA's aligned images of 178x218: the medians over 393
# training images, in pixels, within two pixels of CelebA's own. Left eye (of
# the picture), right eye, nose, corners of the mouth.
_ALIGNED_POINTS = np.array(
  [[69.4, 112.6], [107.6, 112.6], [88.2, 135.0], [71.0, 153.0], [106.0, 153.0]]
)
# The same in the training crop. dlib counts from a pixel's centre.
POINTS = (_ALIGNED_POINTS + 0.5 - decoding.FACE_BOX[:2]) * (
  alignment.SIZE / (decoding.FACE_BOX[2] - decoding.FACE_BOX[0])
)
# The crop relative to a detector's box, measured on the same images: its side,
# and its centre's offset from the box's centre (x, y), in sides of the box.
_DLIB_BOX = (1.42, -0.02, -0.117)
_CASCADE_BOX = (1.22, 0.0, -0.032)

# Larger photographs are reduced to this many pixels for a detector: at this
# size dlib takes 0.4 s.
_LONGEST_SIDE = 1280
# Scores of dlib's detector above which a detection is certain to be a face, and
# above which it may be one that a hole damages. Of 120 faces of CelebA 113 are
# certain; the badge on the suit of scikit-image's astronaut, 0.12, is not.
# Below the second a mean face in a large hole would be all there is of a face:
# between the moon's craters it is certain.
_CERTAIN, _POSSIBLE = 0.25, -0.7
# How often a face with hidden landmarks is looked at again: each time the mean
# face lies better. With both eyes missing in 50 validation images the crop is
# off by 5.6 pixels before, and by 4.9, 4.6 and 4.7 after the looks.
_LOOKS = 3


class Face(NamedTuple):
  """A face in a photograph.

  Attributes:
    matrix: float64 [3, 3], from the training crop to the photograph; see
      `alignment`.
    how: what aligned it: 'landmarks', 'box' (the detector's alone) or 'whole'
      (no detector was run).
  """

  matrix: np.ndarray
  how: str


# From a photograph whose hole is filled, uint8 [H, W, 3], and the hole, bool
# [H, W], to its faces, the most certain first.
Detector = Callable[[np.ndarray, np.ndarray], list[Face]]


def create(
  name: str,
  field: str = "config.faces",
  size: int = alignment.SIZE,
  mean_image: np.ndarray | None = None,
) -> Detector:
  """Returns the function that finds the faces of a photograph.

  Args:
    name: one of `DETECTORS`. 'dlib' needs the extra `faces`; 'cascade' is
      scikit-image's; 'auto' is the first of these that is installed, but takes
      an image of the model's size, or an aligned one of CelebA (178x218), as
      one face; 'whole' takes every image as one face: its centre square, or
      CelebA's box.
    field: the config's name for it, for the message.
    size: side of the model's images, pixels.
    mean_image: uint8 [S, S, C], the mean of the model's training images, for
      second looks with dlib; without it there are none.

  Returns:
    A `Detector`. Of what is less than certain it returns what touches the hole
    and is certain at a second look: the hole has lowered its score.

  Raises:
    errors.UserError: there is no such detector, or the extra is missing.
  """
  errors.check_choice(field, name, DETECTORS)
  has_dlib = dlib_faces.is_installed()
  if name == "dlib" and not has_dlib:
    raise errors.UserError(
      f"{field}='dlib' needs dlib and its models: pip install "
      "'dcgan-inpaint[faces]', or take cascade, which is worse"
    )
  if name == "auto" and not has_dlib:
    logging.info(
      "faces in photographs are found by scikit-image's cascade: upright ones "
      "from the front, by their boxes; pip install 'dcgan-inpaint[faces]' for "
      "OpenFace's detector and landmarks"
    )
  with_dlib = name == "dlib" or (name == "auto" and has_dlib)

  def detect(filled: np.ndarray, hole: np.ndarray) -> list[Face]:
    height, width = hole.shape
    is_face = (width, height) in (
      decoding.ALIGNED_SIZE,
      (size, size),
    )
    if name == "whole" or (name == "auto" and is_face):
      left, upper, right, _ = decoding.crop_box((width, height))
      return [Face(alignment.upright(left, upper, right - left), "whole")]
    reduced, lost, reduction = _reduce(filled, hole)
    if with_dlib:
      faces = _by_landmarks(reduced, lost, mean_image)
    else:
      faces = [
        Face(_crop_of_box(box, _CASCADE_BOX), "box")
        for box in cascade.run(reduced)
      ]
    enlarge = np.diag([reduction, reduction, 1.0])
    return [face._replace(matrix=enlarge @ face.matrix) for face in faces]

  return detect


def touches(face: Face, hole: np.ndarray) -> bool:
  """Tells whether any of the hole, bool [H, W], lies in the face's crop."""
  height, width = hole.shape
  return bool(np.any(alignment.covered(face.matrix, height, width) & hole))


def five_points(points: np.ndarray) -> np.ndarray:
  """Returns the five of `POINTS`, [5, 2], of dlib's 68 landmarks, [68, 2]."""
  left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
  return np.stack([left, right, *points[[30, 48, 54]]])


def _reduce(
  photograph: np.ndarray, hole: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
  """Returns the image for a detector, its hole, and the size of its pixels."""
  image = Image.fromarray(photograph)
  reduction = max(1.0, max(image.size) / _LONGEST_SIDE)
  if reduction > 1:
    width, height = (max(1, round(x / reduction)) for x in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    lost = Image.fromarray(hole.astype(np.float32))
    lost = lost.resize((width, height), Image.Resampling.BOX)
    hole = np.asarray(lost) > 0
  return np.asarray(image), hole, reduction


def _by_landmarks(
  image: np.ndarray, hole: np.ndarray, mean_image: np.ndarray | None
) -> list[Face]:
  """Returns the faces that dlib finds, the surest first."""
  faces = []
  for found in dlib_faces.run(image, _POSSIBLE):
    look = second_look.align(found, hole)
    certain = found.score >= _CERTAIN
    face = None
    if look is None:
      face = Face(_crop_of_box(found.box, _DLIB_BOX), "box")
    else:
      face = Face(look.matrix, "landmarks")
    if not certain and not touches(face, hole):
      continue
    hidden = look is None or look.hidden
    if mean_image is not None and hole.any() and (hidden or not certain):
      better = _look_again(image, hole, face.matrix, mean_image)
      if better is not None:
        certain, face = True, Face(better, "landmarks")
    if certain:
      faces.append(face)
  return faces


def _look_again(
  image: np.ndarray,
  hole: np.ndarray,
  matrix: np.ndarray,
  mean_image: np.ndarray,
) -> np.ndarray | None:
  """Returns a face's transform by second looks, or None if it is not sure."""
  better = None
  for _ in range(_LOOKS):
    look = second_look.again(
      dlib_faces.run, image, hole, matrix, mean_image, _CERTAIN
    )
    if look is None:
      break
    matrix = better = look.matrix
    if not look.hidden:
      break
  return better


def _crop_of_box(
  box: tuple[float, float, float, float],
  crop: tuple[float, float, float],
) -> np.ndarray:
  """Returns the transform to the crop that lies about a detector's box."""
  left, upper, right, lower = box
  width = right - left
  scale, dx, dy = crop
  side = scale * width
  return alignment.upright(
    (left + right) / 2 + dx * width - side / 2,
    (upper + lower) / 2 + dy * width - side / 2,
    side,
  )
