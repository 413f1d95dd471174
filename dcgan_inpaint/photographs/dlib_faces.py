"""dlib's detector of faces and its 68 landmarks: OpenFace's own.

Both come with the extra `faces` (King 2009; Kazemi and Sullivan 2014).
"""

import functools
import importlib.util
import pathlib
import threading
from typing import Any
from typing import NamedTuple

import numpy as np


class Found(NamedTuple):
  """What a detector found, in pixels of the image that it was given.

  Attributes:
    score: how sure it is.
    box: left, upper, right, lower.
    points: [68, 2], landmarks (x, y), or None: the detector has none.
  """

  score: float
  box: tuple[float, float, float, float]
  points: np.ndarray | None


def is_installed() -> bool:
  """Tells whether dlib and its models can be imported."""
  return all(
    importlib.util.find_spec(name)
    for name in ("dlib", "face_recognition_models")
  )


_LOCK = threading.Lock()  # dlib's detector has mutable state.


@functools.cache
def models() -> tuple[Any, Any]:
  """Returns dlib's face detector and its predictor of 68 landmarks."""
  import dlib  # pyright: ignore[reportMissingImports] # Of the extra `faces`.

  # Importing the package itself fails: it needs `pkg_resources`, which newer
  # setuptools lack.
  package = importlib.util.find_spec("face_recognition_models")
  assert package and package.submodule_search_locations
  path = (
    pathlib.Path(package.submodule_search_locations[0])
    / "models/shape_predictor_68_face_landmarks.dat"
  )
  # dlib is compiled: its names are known at run time alone.
  library: Any = dlib
  return library.get_frontal_face_detector(), library.shape_predictor(str(path))


def run(image: np.ndarray, least: float, doublings: int = 1) -> list[Found]:
  """Finds faces with their landmarks, the surest first.

  Args:
    image: uint8 [H, W, 3].
    least: the lowest score.
    doublings: how often the image is enlarged first. The detector's own window
      is 80 pixels wide.
  """
  with _LOCK:
    detector, predictor = models()
    boxes, scores, _ = detector.run(image, doublings, least)
    shapes = [predictor(image, box) for box in boxes]
  found = []
  for box, score, shape in zip(boxes, scores, shapes, strict=True):
    # dlib counts from a pixel's centre.
    points = np.array([(part.x + 0.5, part.y + 0.5) for part in shape.parts()])
    edges = (box.left(), box.top(), box.right() + 1, box.bottom() + 1)
    found.append(Found(score, edges, points))
  return sorted(found, key=lambda one: -one.score)
