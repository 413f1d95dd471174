"""Every face in a photograph, and how the training crop lies on it.

The way of the paper's own preparation, OpenFace (Amos et al. 2016): find the
face, find its landmarks, align it by them, crop. With the extra `faces` the
detector and the 68 landmarks are OpenFace's own, dlib's (King 2009; Kazemi and
Sullivan 2014). Without it, scikit-image's bundled cascade of local binary
patterns finds boxes only: upright frontal faces, not turned to lie level, with
more misses and more false alarms.

A hole is filled smoothly before anything is searched (`alignment.fill`): what
lies under it is not looked at, and a white rectangle hides a face that a smooth
one leaves visible. Of 120 faces of CelebA with both eyes missing, dlib found 57
behind the smooth fill and 6 behind white; with the mouth missing, 103 and 77.
"""

from collections.abc import Callable
import functools
import importlib.util
import pathlib
import threading
from typing import Any
from typing import NamedTuple

from absl import logging
import numpy as np
from PIL import Image

from dcgan_inpaint.data import decoding
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.runtime import errors

DETECTORS = ("auto", "dlib", "cascade", "whole")

# Where dlib's landmarks lie in CelebA's aligned images of 178x218: the medians
# over 393 training images, in pixels. They are within two pixels of CelebA's
# own. Left eye (of the picture), right eye, nose, corners of the mouth.
_ALIGNED_POINTS = np.array(
  [[69.4, 112.6], [107.6, 112.6], [88.2, 135.0], [71.0, 153.0], [106.0, 153.0]]
)
# The same in the training crop. The 68 points count from a pixel's centre.
POINTS = (_ALIGNED_POINTS + 0.5 - decoding.FACE_BOX[:2]) * (
  alignment.SIZE / (decoding.FACE_BOX[2] - decoding.FACE_BOX[0])
)
# The crop beside a detector's box, measured on the same images: its side, and
# where its centre lies from the box's centre (x, y), in sides of the box.
_DLIB_BOX = (1.42, -0.02, -0.117)
_CASCADE_BOX = (1.22, 0.0, -0.032)

# Detectors see at most so many pixels a side: 0.4 s for dlib.
_LONGEST_SIDE = 1280
# Scores of dlib's detector above which a face is sure, and above which it may
# be one with a hole in it. Of 120 faces of CelebA 113 are sure; the badge on
# the suit of scikit-image's astronaut, 0.12, is not.
_SURE, _UNSURE = 0.25, -0.5


class Face(NamedTuple):
  """A face in a photograph.

  Attributes:
    matrix: float64 [3, 3], from the training crop to the photograph; see
      `alignment`.
    how: what it was aligned by: 'landmarks', 'box' (the detector's) or 'whole'
      (nothing was searched).
  """

  matrix: np.ndarray
  how: str


class _Found(NamedTuple):
  """What a detector found, in pixels of the image that it was given."""

  score: float
  box: tuple[float, float, float, float]  # Left, upper, right, lower.
  points: np.ndarray | None  # [5, 2], in the order of POINTS.


Find = Callable[[np.ndarray, np.ndarray], list[Face]]


def create(name: str, field: str = "config.faces") -> Find:
  """Returns the function that finds the faces of a photograph.

  Args:
    name: one of `DETECTORS`. 'dlib' needs the extra `faces`; 'cascade' is
      scikit-image's; 'auto' is the first of these that is there, but takes an
      image of 64x64 pixels, and an aligned one of CelebA (178x218), for what it
      is; 'whole' takes every image for one face: its centre square, or
      CelebA's box.
    field: the config's name for it, for the message.

  Returns:
    A function of a photograph, uint8 [H, W, 3], and its hole, bool [H, W],
    which returns its faces, the surest first. Nothing under the hole is looked
    at. Where a hole is, faces count that are less sure but touched by it, if no
    sure one is: what is missing makes them less sure.

  Raises:
    errors.UserError: the extra is missing.
  """
  if name == "dlib" and not _dlib_is_there():
    raise errors.UserError(
      f"{field}='dlib' needs dlib and its models: pip install "
      "'dcgan-inpaint[faces]', or take cascade, which is worse"
    )
  detect, around = _by_cascade, _CASCADE_BOX
  if name == "dlib" or (name == "auto" and _dlib_is_there()):
    detect, around = _by_dlib, _DLIB_BOX
  elif name == "auto":
    logging.info(
      "faces in photographs are looked for by scikit-image's cascade: upright "
      "ones from the front, by their boxes; pip install "
      "'dcgan-inpaint[faces]' for OpenFace's detector and landmarks"
    )

  def find(photograph: np.ndarray, hole: np.ndarray) -> list[Face]:
    height, width = hole.shape
    is_face = (width, height) in (
      decoding.ALIGNED_SIZE,
      (alignment.SIZE, alignment.SIZE),
    )
    if name == "whole" or (name == "auto" and is_face):
      left, upper, right, _ = decoding.crop_box((width, height))
      return [Face(alignment.upright(left, upper, right - left), "whole")]
    image, reduction = _reduce(photograph, hole)
    faces = [
      (found.score, _align(found, reduction, hole, around))
      for found in detect(image)
    ]
    sure = [face for score, face in faces if score >= _SURE]
    if hole.any() and not any(touches(face, hole) for face in sure):
      sure += [
        face for score, face in faces if score < _SURE and touches(face, hole)
      ]
    return sure

  return find


def touches(face: Face, hole: np.ndarray) -> bool:
  """Tells whether any of the hole, bool [H, W], lies in the face's crop."""
  return bool(np.any(alignment.covered(face.matrix, *hole.shape) & hole))


def _reduce(
  photograph: np.ndarray, hole: np.ndarray
) -> tuple[np.ndarray, float]:
  """Returns the image for a detector, and what to multiply its pixels by."""
  filled = alignment.fill(np.float32(photograph), hole)
  image = Image.fromarray(np.uint8(np.round(filled)))
  reduction = max(1.0, max(image.size) / _LONGEST_SIDE)
  if reduction > 1:
    image = image.resize(
      [max(1, round(x / reduction)) for x in image.size],
      Image.Resampling.LANCZOS,
    )
  return np.asarray(image), reduction


def _align(
  found: _Found,
  reduction: float,
  hole: np.ndarray,
  around: tuple[float, float, float],
) -> Face:
  """Returns the face by its landmarks, or by its box where these are missing.

  Landmarks in the hole are guesses: with an eye or a corner of the mouth hidden
  the box is taken. It is hidden if most of what is around it is hole; a scratch
  leaves enough. The nose is guessed well from the others.
  """
  left, upper, right, lower = np.multiply(found.box, reduction)
  width = right - left
  if found.points is not None:
    points = found.points * reduction
    reach = max(1, round(width / 12))

    def hidden(x: int, y: int) -> bool:
      rows = slice(max(0, y - reach), max(0, y + reach + 1))
      columns = slice(max(0, x - reach), max(0, x + reach + 1))
      patch = hole[rows, columns]
      return patch.size > 0 and patch.mean() > 0.5

    if not any(hidden(*points[i].astype(int)) for i in (0, 1, 3, 4)):
      return Face(alignment.similarity(POINTS, points), "landmarks")
  scale, dx, dy = around
  side = scale * width
  return Face(
    alignment.upright(
      (left + right) / 2 + dx * width - side / 2,
      (upper + lower) / 2 + dy * width - side / 2,
      side,
    ),
    "box",
  )


# dlib.


def _dlib_is_there() -> bool:
  return all(
    importlib.util.find_spec(name)
    for name in ("dlib", "face_recognition_models")
  )


_ONE_AT_A_TIME = threading.Lock()  # dlib's detector holds a state of its own.


@functools.cache
def _dlib_models() -> tuple[Any, Any]:
  """Returns dlib's face detector and its predictor of 68 landmarks."""
  import dlib

  # Importing the package itself fails: it asks for `pkg_resources`, which
  # newer setuptools no longer have.
  package = importlib.util.find_spec("face_recognition_models")
  models = pathlib.Path(package.submodule_search_locations[0]) / "models"
  path = models / "shape_predictor_68_face_landmarks.dat"
  return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))


def _by_dlib(image: np.ndarray) -> list[_Found]:
  """Finds faces of 40 pixels and more, with landmarks."""
  with _ONE_AT_A_TIME:
    detector, predictor = _dlib_models()
    # Once enlarged: the detector's own window is 80 pixels wide.
    boxes, scores, _ = detector.run(image, 1, _UNSURE)
    shapes = [predictor(image, box) for box in boxes]
  found = []
  for box, score, shape in zip(boxes, scores, shapes, strict=True):
    points = np.array([(part.x + 0.5, part.y + 0.5) for part in shape.parts()])
    five = [
      points[36:42].mean(axis=0),
      points[42:48].mean(axis=0),
      *points[[30, 48, 54]],
    ]
    edges = (box.left(), box.top(), box.right() + 1, box.bottom() + 1)
    found.append(_Found(score, edges, np.stack(five)))
  return sorted(found, key=lambda face: -face.score)


# scikit-image.


def _by_cascade(image: np.ndarray) -> list[_Found]:
  """Finds boxes of upright frontal faces, the largest first.

  A box whose centre lies in a larger one is the same face again.
  """
  from skimage import data
  from skimage import feature

  cascade = feature.Cascade(data.lbp_frontal_face_cascade_filename())
  shorter = min(image.shape[:2])
  least = max(24, shorter // 12)  # 24 is the cascade's own window.
  if shorter < least:
    return []
  boxes = cascade.detect_multi_scale(
    img=image,
    scale_factor=1.2,
    step_ratio=1,
    min_size=(least, least),
    max_size=(shorter, shorter),
  )
  kept = []
  for box in sorted(boxes, key=lambda box: -box["width"]):
    left, upper = box["c"], box["r"]
    right, lower = left + box["width"], upper + box["height"]
    x, y = (left + right) / 2, (upper + lower) / 2
    if not any(a < x < c and b < y < d for a, b, c, d in kept):
      kept.append((left, upper, right, lower))
  return [_Found(_SURE, box, None) for box in kept]
