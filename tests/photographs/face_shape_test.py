import numpy as np
import pytest
from skimage import transform

from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import face_shape

ALL = np.ones(68, bool)
MEAN, COVARIANCE = face_shape.statistics()


def face(values=MEAN):
  """Returns landmarks and a box that are observed as these values."""
  points = np.zeros((68, 2))
  places = values[:-3].reshape(-1, 2)
  for part, place in zip(face_shape.PARTS.values(), places, strict=True):
    points[list(part)] = place
  x, y, width = values[-3:]
  half = width / 2
  return points, (x - half, y - half, x + half, y + half)


def moved(points, box, matrix):
  """Returns a face and its box as they lie in a photograph."""
  centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
  half = alignment.scale(matrix) * (box[2] - box[0]) / 2
  x, y = alignment.apply(matrix, centre)
  edges = (x - half, y - half, x + half, y + half)
  return alignment.apply(matrix, points), edges


def turn(degrees, scale=3.0):
  return transform.SimilarityTransform(
    rotation=np.radians(degrees), scale=scale, translation=(200, 30)
  ).params


def hide(*parts):
  visible = ALL.copy()
  for part in parts:
    visible[list(face_shape.PARTS[part])] = False
  return visible


def corners_off(matrix, expected):
  """Returns how far the crop's corners are off, in its pixels, in the mean."""
  corners = alignment.SIZE * np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]])
  back = np.linalg.inv(expected) @ matrix
  return np.hypot(*(alignment.apply(back, corners) - corners).T).mean()


def test_the_statistics_are_those_of_aligned_faces():
  count = len(MEAN)
  assert COVARIANCE.shape == (count, count)
  np.testing.assert_array_equal(COVARIANCE, COVARIANCE.T)
  assert np.linalg.eigvalsh(COVARIANCE).min() > 0
  places = dict(zip(face_shape.PARTS, MEAN[:-3].reshape(-1, 2), strict=True))
  names = (
    "left eye",
    "right eye",
    "left corner of the mouth",
    "right corner of the mouth",
  )
  # Measured on other training images: `detection.POINTS`.
  five = np.stack([places[name] for name in names])
  assert np.abs(five - detection.POINTS[[0, 1, 3, 4]]).max() < 1
  # CelebA's alignment holds the eyes better than the cheeks.
  spread = dict(
    zip(face_shape.PARTS, np.diag(COVARIANCE)[:-3].reshape(-1, 2), strict=True)
  )
  assert max(spread["left eye"]) < 0.3 * max(spread["left cheek"])


@pytest.mark.parametrize("degrees", [-30, 0, 20])
def test_a_mean_face_is_found_where_it_lies(degrees):
  expected = turn(degrees)
  points, box = moved(*face(), expected)
  matrix = face_shape.fit(points, box, ALL)
  np.testing.assert_allclose(matrix, expected, atol=1e-3)


def test_the_fit_is_generalised_least_squares():
  # Near the crop itself the fit is linear in (a, b, dx, dy). By whitening with
  # a Cholesky factor and numpy's own least squares.
  rng = np.random.default_rng(0)
  values = MEAN + rng.multivariate_normal(0 * MEAN, 0.05 * COVARIANCE)
  points, box = face(values)
  matrix = face_shape.fit(points, box, ALL)
  assert matrix is not None
  again = face_shape.observe(points, box, matrix)
  rows = []
  for i in range(len(MEAN) // 2):
    x, y = MEAN[2 * i : 2 * i + 2]
    rows += [[x, -y, 1, 0], [y, x, 0, 1]]
  design = np.array([*rows, [MEAN[-1], 0, 0, 0]])
  factor = np.linalg.cholesky(
    COVARIANCE + face_shape._ADDED * np.eye(len(MEAN))
  )
  left = np.linalg.lstsq(
    np.linalg.solve(factor, design), np.linalg.solve(factor, again), rcond=None
  )[0]
  # Nothing is left to be changed.
  np.testing.assert_allclose(left, [1, 0, 0, 0], atol=0.02)


@pytest.mark.parametrize(
  "parts",
  [
    ["left eye"],
    ["left eye", "right eye"],
    ["nose", "bridge of the nose"],
    [
      "left corner of the mouth",
      "right corner of the mouth",
      "upper lip",
      "lower lip",
    ],
    ["left eye", "left brow", "left cheek", "left corner of the mouth"],
  ],
)
def test_a_hidden_part_that_is_guessed_wrong_does_little(parts):
  # As faces differ, and hidden parts five pixels off besides.
  rng = np.random.default_rng(1)
  expected = turn(12)
  hidden, shown, all_seen = [], [], []
  wrong = np.zeros(68)
  wrong[~hide(*parts)] = 5
  for _ in range(40):
    values = rng.multivariate_normal(MEAN, COVARIANCE)
    points, box = face(values)
    away = points + wrong[:, None] * [0.6, 0.8]
    for visible, guess, result in (
      (hide(*parts), away, hidden),
      (ALL, away, shown),
      (ALL, points, all_seen),
    ):
      matrix = face_shape.fit(*moved(guess, box, expected), visible)
      result.append(corners_off(matrix, expected))
  assert np.mean(hidden) < 0.95 * np.mean(shown)
  assert np.mean(hidden) < np.mean(all_seen) + 1.5


def test_where_little_is_seen_there_is_no_fit():
  seen = ("left eye", "right eye")
  visible = hide(*(part for part in face_shape.PARTS if part not in seen))
  assert face_shape.fit(*face(), visible) is None
