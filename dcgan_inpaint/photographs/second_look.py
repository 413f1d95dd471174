"""A second look at a face with a hole: upright, with the mean face in the hole.

A detector and its landmarks are thrown off by the smooth fill of a hole. Once a
face is aligned, however roughly, the mean of the training images can be laid
into the hole, in the light of the pixels around it. The face is then more
complete, stands upright and has the size that the detector knows: its score
tells whether the hole alone has made a face doubtful, and its landmarks are
better.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import dlib_faces
from dcgan_inpaint.photographs import face_shape

# The window in which a face is looked at, in units of the crop and in pixels:
# the crop and three eighths of its side on each side. A face is 47 units wide
# and 118 pixels.
_LOW = -24
_SIDE = alignment.SIZE - 2 * _LOW
_PIXELS = 280
# From the window to the crop.
_WINDOW = alignment.upright(_LOW, _LOW, _SIDE)
# How far a face's box may lie from its place in the crop, in the crop's units.
_REACH = 14
# By how much the mean face's contrast is changed at most.
_CONTRAST = (0.3, 1.5)
# A landmark is hidden if most of its neighbourhood is hole: the square that
# reaches this part of the box's width to each side. A scratch leaves enough.
_NEIGHBOURHOOD = 1 / 12

# Finds faces: (image, least score, doublings).
Run = Callable[[np.ndarray, float, int], list[dlib_faces.Found]]


class Look(NamedTuple):
  """What is seen of a face.

  Attributes:
    score: how sure the detector is of it.
    matrix: from the crop to the photograph.
    hidden: whether any landmark lies in the hole.
  """

  score: float
  matrix: np.ndarray
  hidden: bool


def align(found: dlib_faces.Found, hole: np.ndarray) -> Look | None:
  """Returns a face aligned by those of its landmarks that are seen.

  Args:
    found: the face.
    hole: bool [H, W] of the image in which it was found, True = hole.

  Returns:
    Its score and its transform, or None where most landmarks are hidden.
  """
  assert found.points is not None
  visible = ~hidden(found, hole)
  matrix = face_shape.fit(found.points, found.box, visible)
  if matrix is None:
    return None
  return Look(found.score, matrix, not visible.all())


def again(
  run: Run,
  filled: np.ndarray,
  hole: np.ndarray,
  matrix: np.ndarray,
  mean_image: np.ndarray,
  least: float,
) -> Look | None:
  """Returns what is seen of a face with the mean face in its hole.

  Args:
    run: the detector.
    filled: uint8 [H, W, 3], the photograph, its hole filled smoothly.
    hole: bool [H, W], True = hole.
    matrix: from the crop to the photograph, as far as it is known.
    mean_image: uint8 [S, S, 3] or [S, S, 1], the mean training image.
    least: the lowest score.

  Returns:
    The face, or None if it is not found, or little of it is seen.
  """
  # Beyond the photograph's edges everything is hole here.
  to_photograph = matrix @ _WINDOW
  image = alignment.crop(filled, to_photograph, _PIXELS)
  unknown = alignment.crop_mask(hole, to_photograph, _PIXELS)[..., 0] == 0
  completed = _with_mean(image, unknown, mean_image)
  scale = _SIDE / _PIXELS
  expected = face_shape.statistics()[0][-3:-1]
  for found in run(completed, least, 0):  # The surest first.
    place = np.add(found.box[:2], found.box[2:]) / 2 * scale + _LOW
    if np.hypot(*(place - expected)) < _REACH:
      look = align(found, unknown)
      if look is None:
        return None
      to_crop = alignment.upright(_LOW, _LOW, scale * alignment.SIZE)
      return look._replace(matrix=matrix @ to_crop @ look.matrix)
  return None


def hidden(found: dlib_faces.Found, hole: np.ndarray) -> np.ndarray:
  """Tells which landmarks lie in the hole or outside of the image, bool [68].

  Args:
    found: the face.
    hole: bool [H, W] of the image in which it was found, True = hole.
  """
  assert found.points is not None
  reach = max(1, round((found.box[2] - found.box[0]) * _NEIGHBOURHOOD))

  def is_hidden(x: int, y: int) -> bool:
    rows = slice(max(0, y - reach), max(0, y + reach + 1))
    columns = slice(max(0, x - reach), max(0, x + reach + 1))
    patch = hole[rows, columns]
    return patch.size == 0 or bool(patch.mean() > 0.5)

  return np.array([is_hidden(*point) for point in found.points.astype(int)])


def _with_mean(
  image: np.ndarray, hole: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
  """Returns the window with the mean face in its hole, uint8 [P, P, 3].

  The mean gets the contrast of the known pixels of the crop, and what they
  differ from it by is continued smoothly into the hole.
  """
  side = round(_PIXELS * alignment.SIZE / _SIDE)
  margin = (_PIXELS - side) // 2
  channels = [
    Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC)
    for plane in np.moveaxis(mean_image, -1, 0).copy()
  ]
  mean = np.stack([np.asarray(x) for x in channels], -1).astype(np.float32)
  mean = np.broadcast_to(mean, (side, side, 3))
  known = ~hole[margin : margin + side, margin : margin + side]
  if known.any():
    here = image[margin : margin + side, margin : margin + side][known]
    expected = mean[known] - mean[known].mean(axis=0)
    power = float((expected**2).sum())
    if power > 0:
      contrast = float((expected * here).sum()) / power
      mean = mean * np.float32(np.clip(contrast, *_CONTRAST))
  mean = np.pad(mean, [(margin, margin)] * 2 + [(0, 0)], mode="edge")
  completed = mean + alignment.fill(image - mean, hole)
  return np.clip(np.round(completed), 0, 255).astype(np.uint8)
