"""Every face in a photograph, and where the training crop lies on it.

This follows the paper's own preparation, OpenFace (Amos et al. 2016): find the
face, find its landmarks, align it by them, crop. With the extra `faces` the
detector and the 68 landmarks are OpenFace's own, dlib's (King 2009; Kazemi and
Sullivan 2014). Without it, scikit-image's bundled cascade of local binary
patterns finds boxes only: upright frontal faces, which are not levelled, with
more misses and more false alarms.

Detectors get a photograph whose hole is filled smoothly (`alignment.fill`): a
white rectangle hides a face that a smooth fill leaves visible. Of 120 faces of
CelebA with both eyes missing, dlib found 57 behind the smooth fill and 6 behind
white; with the mouth missing, 103 and 77.
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
_CERTAIN, _POSSIBLE = 0.25, -0.5


class Face(NamedTuple):
  """A face in a photograph.

  Attributes:
    matrix: float64 [3, 3], from the training crop to the photograph; see
      `alignment`.
    how: what aligned it: 'landmarks', 'box' (the detector's) or 'whole' (no
      detector was run).
  """

  matrix: np.ndarray
  how: str


class _Detection(NamedTuple):
  """What a detector found, in pixels of the image that it was given."""

  score: float
  box: tuple[float, float, float, float]  # Left, upper, right, lower.
  points: np.ndarray | None  # [5, 2], in the order of POINTS.


# From a photograph whose hole is filled, uint8 [H, W, 3], and the hole, bool
# [H, W], to its faces, the most certain first.
Detector = Callable[[np.ndarray, np.ndarray], list[Face]]


def create(
  name: str, field: str = "config.faces", size: int = alignment.SIZE
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

  Returns:
    A `Detector`. If no certain face touches the hole, less certain ones that do
    are returned too: what is missing lowers a face's score.

  Raises:
    errors.UserError: there is no such detector, or the extra is missing.
  """
  errors.check_choice(field, name, DETECTORS)
  if name == "dlib" and not _has_dlib():
    raise errors.UserError(
      f"{field}='dlib' needs dlib and its models: pip install "
      "'dcgan-inpaint[faces]', or take cascade, which is worse"
    )
  run, crop_of_box = _run_cascade, _CASCADE_BOX
  if name == "dlib" or (name == "auto" and _has_dlib()):
    run, crop_of_box = _run_dlib, _DLIB_BOX
  elif name == "auto":
    logging.info(
      "faces in photographs are found by scikit-image's cascade: upright ones "
      "from the front, by their boxes; pip install 'dcgan-inpaint[faces]' for "
      "OpenFace's detector and landmarks"
    )

  def detect(filled: np.ndarray, hole: np.ndarray) -> list[Face]:
    height, width = hole.shape
    is_face = (width, height) in (
      decoding.ALIGNED_SIZE,
      (size, size),
    )
    if name == "whole" or (name == "auto" and is_face):
      left, upper, right, _ = decoding.crop_box((width, height))
      return [Face(alignment.upright(left, upper, right - left), "whole")]
    image, reduction = _reduce(filled)
    detected = [
      (detection.score, _align(detection, reduction, hole, crop_of_box))
      for detection in run(image)
    ]
    faces = [face for score, face in detected if score >= _CERTAIN]
    if hole.any() and not any(touches(face, hole) for face in faces):
      faces += [
        face
        for score, face in detected
        if score < _CERTAIN and touches(face, hole)
      ]
    return faces

  return detect


def touches(face: Face, hole: np.ndarray) -> bool:
  """Tells whether any of the hole, bool [H, W], lies in the face's crop."""
  height, width = hole.shape
  return bool(np.any(alignment.covered(face.matrix, height, width) & hole))


def _reduce(photograph: np.ndarray) -> tuple[np.ndarray, float]:
  """Returns the image for a detector, and the size of its pixels."""
  image = Image.fromarray(photograph)
  reduction = max(1.0, max(image.size) / _LONGEST_SIDE)
  if reduction > 1:
    width, height = (max(1, round(x / reduction)) for x in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
  return np.asarray(image), reduction


def _align(
  detection: _Detection,
  reduction: float,
  hole: np.ndarray,
  crop_of_box: tuple[float, float, float],
) -> Face:
  """Returns the face aligned by its landmarks, or else by its box.

  Landmarks in the hole are guesses: if an eye or a corner of the mouth is
  hidden, the box is taken. It is hidden if most of its neighbourhood is hole; a
  scratch leaves enough. The nose is guessed well from the others.
  """
  left, upper, right, lower = np.multiply(detection.box, reduction)
  width = right - left
  if detection.points is not None:
    points = detection.points * reduction
    reach = max(1, round(width / 12))

    def hidden(x: int, y: int) -> bool:
      rows = slice(max(0, y - reach), max(0, y + reach + 1))
      columns = slice(max(0, x - reach), max(0, x + reach + 1))
      patch = hole[rows, columns]
      return patch.size > 0 and bool(patch.mean() > 0.5)

    if not any(hidden(*points[i].astype(int)) for i in (0, 1, 3, 4)):
      return Face(alignment.similarity(POINTS, points), "landmarks")
  scale, dx, dy = crop_of_box
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


def _has_dlib() -> bool:
  return all(
    importlib.util.find_spec(name)
    for name in ("dlib", "face_recognition_models")
  )


_DLIB_LOCK = threading.Lock()  # dlib's detector has mutable state.


@functools.cache
def _dlib_models() -> tuple[Any, Any]:
  """Returns dlib's face detector and its predictor of 68 landmarks."""
  import dlib  # pyright: ignore[reportMissingImports] # Of the extra `faces`.

  # Importing the package itself fails: it needs `pkg_resources`, which newer
  # setuptools lack.
  package = importlib.util.find_spec("face_recognition_models")
  assert package and package.submodule_search_locations
  models = pathlib.Path(package.submodule_search_locations[0]) / "models"
  path = models / "shape_predictor_68_face_landmarks.dat"
  # dlib is compiled: its names are known at run time alone.
  library: Any = dlib
  return library.get_frontal_face_detector(), library.shape_predictor(str(path))


def _run_dlib(image: np.ndarray) -> list[_Detection]:
  """Finds faces of 40 pixels and more, with landmarks."""
  with _DLIB_LOCK:
    detector, predictor = _dlib_models()
    # Upsampled once: the detector's own window is 80 pixels wide.
    boxes, scores, _ = detector.run(image, 1, _POSSIBLE)
    shapes = [predictor(image, box) for box in boxes]
  detections = []
  for box, score, shape in zip(boxes, scores, shapes, strict=True):
    points = np.array([(part.x + 0.5, part.y + 0.5) for part in shape.parts()])
    five = [
      points[36:42].mean(axis=0),
      points[42:48].mean(axis=0),
      *points[[30, 48, 54]],
    ]
    edges = (box.left(), box.top(), box.right() + 1, box.bottom() + 1)
    detections.append(_Detection(score, edges, np.stack(five)))
  return sorted(detections, key=lambda detection: -detection.score)


# scikit-image.


def _run_cascade(image: np.ndarray) -> list[_Detection]:
  """Finds boxes of upright frontal faces, the largest first.

  A box whose centre lies in a larger one is the same face.
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
  distinct = []
  for box in sorted(boxes, key=lambda box: -box["width"]):
    left, upper = box["c"], box["r"]
    right, lower = left + box["width"], upper + box["height"]
    x, y = (left + right) / 2, (upper + lower) / 2
    if not any(a < x < c and b < y < d for a, b, c, d in distinct):
      distinct.append((left, upper, right, lower))
  return [_Detection(_CERTAIN, box, None) for box in distinct]
