"""Where a face's landmarks lie in the training crop, and how surely.

dlib's 68 landmarks are those of iBUG 300-W (Sagonas et al. 2013), counted from
0. Their means over parts of a face and the detector's box are taken for normal:
`face_shape.csv` has their mean and their covariance in the crops of CelebA's
training images, which CelebA's authors have aligned. `fit` finds the similarity
transform that makes what was found most likely (generalised least squares;
Aitken 1936). So a part counts for as much as it says: the eyes for much, the
cheeks for little, the mouth with the chin, and a part in a hole for nothing.
docs/photographs.md says how the file is made.
"""

import functools
import pathlib

import numpy as np

from dcgan_inpaint.photographs import alignment

# Which of the 68 landmarks make a part; left and right are the picture's.
PARTS = {
  "left eye": range(36, 42),
  "right eye": range(42, 48),
  "left brow": range(17, 22),
  "right brow": range(22, 27),
  "bridge of the nose": range(27, 30),
  "nose": range(30, 36),
  "left corner of the mouth": (48,),
  "right corner of the mouth": (54,),
  "upper lip": (50, 51, 52, 61, 62, 63),
  "lower lip": (56, 57, 58, 65, 66, 67),
  "left cheek": range(5),
  "chin": range(7, 10),
  "right cheek": range(12, 17),
}

_STATISTICS = pathlib.Path(__file__).parent / "face_shape.csv"
# Variance that is added to every number, and to those of a hidden part, in
# squared pixels of the crop. Chosen on validation images.
_ADDED, _HIDDEN = 0.2, 16.0
# The side of the crop in sides of the box, and how far its centre lies above
# the box's: where the fit begins. It is repeated since the covariance holds in
# the crop's frame, which the first steps find.
_BEGIN = (1.35, -0.12)
_STEPS = 3


@functools.cache
def statistics() -> tuple[np.ndarray, np.ndarray]:
  """Returns the mean, float64 [N], and the covariance, [N, N], of `observe`."""
  table = np.loadtxt(_STATISTICS, delimiter=",")
  lower = np.tril(table[:, 1:])
  return table[:, 0], lower + np.tril(lower, -1).T


def observe(
  points: np.ndarray,
  box: tuple[float, float, float, float],
  matrix: np.ndarray,
) -> np.ndarray:
  """Returns what was found of a face, in the crop's units.

  Args:
    points: float [68, 2], landmarks (x, y) in the photograph.
    box: the detector's: left, upper, right, lower.
    matrix: [3, 3], from the crop to the photograph.

  Returns:
    float64 [N]: x and y of each part, of the box's centre, and its width.
  """
  left, upper, right, lower = box
  places = [points[list(part)].mean(axis=0) for part in PARTS.values()]
  places.append(np.array([(left + right) / 2, (upper + lower) / 2]))
  places = alignment.apply(np.linalg.inv(matrix), np.stack(places))
  return np.append(places, (right - left) / alignment.scale(matrix))


def fit(
  points: np.ndarray,
  box: tuple[float, float, float, float],
  visible: np.ndarray,
) -> np.ndarray | None:
  """Returns the most likely transform from the crop to the photograph.

  Args:
    points: float [68, 2], landmarks (x, y) in the photograph.
    box: the detector's: left, upper, right, lower.
    visible: bool [68], which of them are seen; the others are guesses.

  Returns:
    float64 [3, 3], or None where so little is seen that the box is all.
  """
  seen = np.array([visible[list(part)].mean() > 0.5 for part in PARTS.values()])
  if seen.sum() < len(PARTS) / 4:
    return None
  mean, covariance = statistics()
  added = np.append(np.repeat(np.where(seen, 0, _HIDDEN), 2), [0, 0, 0])
  design = _design(mean)
  # Rows that weigh what is observed: the residual's inverse covariance.
  weighted = np.linalg.solve(covariance + np.diag(_ADDED + added), design).T
  matrix = _begin(box)
  for _ in range(_STEPS):
    # What is observed is the mean, moved: (a x - b y + dx, b x + a y + dy).
    a, b, dx, dy = np.linalg.solve(
      weighted @ design, weighted @ observe(points, box, matrix)
    )
    matrix = matrix @ np.array([[a, -b, dx], [b, a, dy], [0, 0, 1]])
  return matrix


def _begin(box: tuple[float, float, float, float]) -> np.ndarray:
  left, upper, right, lower = box
  width = right - left
  side, above = _BEGIN[0] * width, _BEGIN[1] * width
  return alignment.upright(
    (left + right - side) / 2, (upper + lower - side) / 2 + above, side
  )


def _design(mean: np.ndarray) -> np.ndarray:
  """Returns the derivative of what is observed by (a, b, dx, dy), [N, 4].

  The width of the box follows the scale alone: to the first order that is a,
  and the box stays upright however the face is turned.
  """
  x, y = mean[:-1].reshape(-1, 2).T
  one, zero = np.ones_like(x), np.zeros_like(x)
  design = np.zeros((len(mean), 4))
  design[:-1:2] = np.stack([x, -y, one, zero], axis=1)
  design[1:-1:2] = np.stack([y, x, zero, one], axis=1)
  design[-1, 0] = mean[-1]
  return design
