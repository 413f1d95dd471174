import importlib.util

import numpy as np
import pytest
from skimage import data
from skimage import transform

from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.runtime import errors

needs_dlib = pytest.mark.skipif(
  not detection._has_dlib(), reason="needs the extra faces"
)
DETECTORS = [pytest.param("dlib", marks=needs_dlib), "cascade"]

# Where the astronaut's eyes, nose and mouth lie, read off the picture.
ASTRONAUT = np.array(
  [[203, 101], [247, 103], [223, 126], [202, 140], [246, 141]]
)


@pytest.fixture(scope="module")
def astronaut():
  return data.astronaut()


def box(*edges):
  """Returns a hole in the astronaut: (upper, lower, left, right)."""
  hole = np.zeros((512, 512), bool)
  hole[edges[0] : edges[1], edges[2] : edges[3]] = True
  return hole


NOTHING = box(0, 0, 0, 0)
EYE = box(92, 112, 192, 215)
MOUTH = box(136, 158, 198, 250)
NOSE = box(120, 132, 215, 232)
SCRATCH = box(40, 180, 201, 206) | box(139, 143, 180, 270)


def detect(detector, photograph, hole):
  """Finds faces as `photograph.prepare` does: with the hole filled."""
  filled = alignment.fill(np.float32(photograph), hole)
  return detection.create(detector)(np.uint8(np.round(filled)), hole)


def misses(face, points=ASTRONAUT):
  """Returns how far a face's features lie from their place, crop pixels."""
  crop = alignment.apply(np.linalg.inv(face.matrix), points + 0.5)
  return np.hypot(*(crop - detection.POINTS).T)


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_astronaut_is_found_and_aligned(astronaut, detector):
  found = detect(detector, astronaut, NOTHING)
  best = min(found, key=lambda face: misses(face).max())
  # Of 64 pixels; the eyes are 19 apart.
  assert misses(best).max() < (3 if detector == "dlib" else 6)
  assert best.how == ("landmarks" if detector == "dlib" else "box")
  if detector == "dlib":
    assert found == [best]  # The badge on her suit is none.


@needs_dlib
def test_landmarks_level_a_turned_face(astronaut):
  turn = transform.SimilarityTransform(rotation=np.radians(15))
  turned = np.uint8(
    transform.warp(astronaut, turn.inverse, preserve_range=True, mode="edge")
  )
  points = alignment.apply(turn.params, ASTRONAUT)
  face = detect("dlib", turned, NOTHING)[0]
  assert misses(face, points).max() < 3
  angle = np.degrees(np.arctan2(face.matrix[1, 0], face.matrix[0, 0]))
  assert angle == pytest.approx(15, abs=5)


@needs_dlib
def test_a_large_photograph_is_searched_small_and_aligned_at_its_size(
  astronaut,
):
  large = np.repeat(np.repeat(astronaut, 4, axis=0), 4, axis=1)
  face = detect("dlib", large, np.zeros((2048, 2048), bool))[0]
  assert misses(face, 4 * ASTRONAUT + 1.5).max() < 3


@needs_dlib
@pytest.mark.parametrize(
  "hole, how",
  [
    (NOSE, "landmarks"),
    (SCRATCH, "landmarks"),
    (EYE, "box"),
    (MOUTH, "box"),
  ],
)
def test_eyes_and_mouth_in_the_hole_leave_the_box(astronaut, hole, how):
  face = detect("dlib", astronaut, hole)[0]
  assert face.how == how
  assert misses(face).max() < 8


@pytest.mark.parametrize("detector", DETECTORS)
def test_no_face_is_found_where_there_is_none(detector):
  wall = data.brick()
  photograph = np.stack([wall] * 3, axis=-1)
  assert detect(detector, photograph, np.zeros(wall.shape, bool)) == []


def test_a_tiny_image_has_no_face():
  photograph = np.zeros((10, 20, 3), np.uint8)
  assert detect("cascade", photograph, np.zeros((10, 20), bool)) == []


def at(score, left):
  """Returns a detection whose box is 50 pixels wide."""
  return detection._Detection(score, (left, 10, left + 50, 60), None)


def test_a_doubtful_face_counts_where_the_hole_may_hide_it(monkeypatch):
  # Of boxes at 10, 200 and 300 the last two are doubtful.
  monkeypatch.setattr(
    detection, "_run_cascade",
    lambda image: [at(1, 10), at(-0.2, 200), at(-0.3, 300)],
  )  # fmt: skip
  photograph = np.zeros((512, 512, 3), np.uint8)

  def places(hole):
    faces = detect("cascade", photograph, hole)
    return [round(face.matrix[0, 2]) for face in faces]

  # The crop is wider than the box: it begins 6 pixels to the left.
  certain, doubtful = 4, 194
  assert places(NOTHING) == [certain]
  assert places(box(20, 30, 210, 220)) == [certain, doubtful]
  # A certain face explains the hole.
  assert places(box(20, 30, 20, 220)) == [certain]


def test_landmarks_are_fitted_by_least_squares(monkeypatch):
  # By hand: twice as large, a quarter turn, and a shift. Every point is then
  # moved by up to 2 pixels, and the residual of the fit is orthogonal to each
  # of its four parameters.
  exact = np.array([[0, -2, 200], [2, 0, 30], [0, 0, 1.0]])
  noise = np.random.default_rng(0).uniform(-2, 2, (5, 2))
  for moved in (0 * noise, noise):
    points = alignment.apply(exact, detection.POINTS) + moved
    monkeypatch.setattr(
      detection, "_run_cascade",
      lambda image, points=points: [
        detection._Detection(1, (60, 40, 180, 160), points)
      ],
    )  # fmt: skip
    (face,) = detect("cascade", np.zeros((512, 512, 3), np.uint8), NOTHING)
    assert face.how == "landmarks"
    x, y = detection.POINTS.T
    design = np.concatenate(  # Of (a, b, dx, dy): (a x - b y, b x + a y).
      [
        np.stack([x, -y, np.ones(5), np.zeros(5)], axis=1),
        np.stack([y, x, np.zeros(5), np.ones(5)], axis=1),
      ]
    )
    a, b, dx, dy = np.linalg.lstsq(design, points.T.ravel(), rcond=None)[0]
    expected = [[a, -b, dx], [b, a, dy], [0, 0, 1]]
    np.testing.assert_allclose(face.matrix, expected, atol=1e-9)
    if not moved.any():
      np.testing.assert_allclose(face.matrix, exact, atol=1e-9)


@pytest.mark.parametrize(
  "name, width, height, edges",
  [
    ("auto", 64, 64, (0, 0, 64)),
    ("auto", 178, 218, (25, 57, 128)),
    ("whole", 178, 218, (25, 57, 128)),
    ("whole", 300, 200, (50, 0, 200)),
  ],
)
def test_an_image_that_is_one_face_needs_no_detector(
  name, width, height, edges
):
  photograph = np.zeros((height, width, 3), np.uint8)
  (face,) = detect(name, photograph, np.zeros((height, width), bool))
  np.testing.assert_array_equal(face.matrix, alignment.upright(*edges))
  assert face.how == "whole"


def test_an_image_of_the_models_size_is_one_face():
  hole = np.ones((128, 128), bool)
  image = np.zeros((128, 128, 3), np.uint8)
  assert not detection.create("auto")(image, hole)
  (face,) = detection.create("auto", size=128)(image, hole)
  np.testing.assert_array_equal(face.matrix, alignment.upright(0, 0, 128))


@pytest.mark.parametrize("field", ["config.faces", "faces"])
def test_an_unknown_detector_is_refused_by_name(field):
  with pytest.raises(errors.UserError) as refused:
    detection.create("eigenfaces", field)
  for word in (field, "eigenfaces", *detection.DETECTORS):
    assert word in str(refused.value)


def test_without_the_extra_auto_takes_the_cascade_and_says_so(
  astronaut, monkeypatch, caplog
):
  caplog.set_level("INFO", logger="absl")
  find_spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec",
    lambda name: None if name == "dlib" else find_spec(name),
  )  # fmt: skip
  expected = detect("cascade", astronaut, NOTHING)
  assert not caplog.messages  # The user has chosen it.
  made = detect("auto", astronaut, NOTHING)
  (line,) = caplog.messages
  assert "cascade" in line and "dcgan-inpaint[faces]" in line
  assert [x.matrix.tolist() for x in made] == [
    x.matrix.tolist() for x in expected
  ]
  with pytest.raises(errors.UserError, match=r"config\.faces.*\[faces\]"):
    detection.create("dlib")


def test_the_targets_are_where_celeba_has_them(shared):
  lines = (
    (shared / "celeba/original/list_landmarks_align_celeba.txt")
    .read_text()
    .splitlines()
  )
  nominal = np.median(
    [np.float64(line.split()[1:]) for line in lines[2:]], axis=0
  ).reshape(5, 2)
  # Its nominal places; dlib's eyes are 2 pixels lower, 1 in the crop.
  assert np.abs(detection._ALIGNED_POINTS - nominal).max() <= 2
