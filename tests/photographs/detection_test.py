import importlib.util
import pathlib

import numpy as np
from PIL import Image
import pytest
from skimage import data
from skimage import transform
from skimage import util

from dcgan_inpaint import pretrained
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import dlib_faces
from dcgan_inpaint.photographs import face_shape
from dcgan_inpaint.runtime import errors

needs_dlib = pytest.mark.skipif(
  not dlib_faces.is_installed(), reason="needs the extra faces"
)
DETECTORS = [pytest.param("dlib", marks=needs_dlib), "cascade"]

# Where the astronaut's eyes, nose and mouth lie, read off the picture.
ASTRONAUT = np.array(
  [[203, 101], [247, 103], [223, 126], [202, 140], [246, 141]]
)


# Of the model that comes with the package.
MEAN_FACE = np.load(pathlib.Path(pretrained.__file__).parent / "weights.npz")[
  "mean_image"
]


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
EYES = box(90, 114, 188, 262)
HALF = box(40, 180, 150, 224)
SCRATCH = box(40, 180, 201, 206) | box(139, 143, 180, 270)


def detect(detector, photograph, hole, mean_image=None):
  """Finds faces as `photograph.prepare` does: with the hole filled."""
  filled = alignment.fill(np.float32(photograph), hole)
  run = detection.create(detector, mean_image=mean_image)
  return run(np.uint8(np.round(filled)), hole)


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
  "hole, most",
  [(NOSE, 3), (SCRATCH, 3), (EYE, 4), (MOUTH, 4), (EYES, 5), (HALF, 6)],
)
def test_what_is_seen_of_a_face_keeps_it_in_its_place(astronaut, hole, most):
  (face,) = detect("dlib", astronaut, hole, MEAN_FACE)
  assert face.how == "landmarks"
  assert misses(face).max() < most


@needs_dlib
def test_a_hole_over_most_of_a_face_leaves_the_box(astronaut, monkeypatch):
  found = dlib_faces.run(astronaut, 0)[0]
  monkeypatch.setattr(dlib_faces, "run", lambda *_: [found])
  (face,) = detect("dlib", astronaut, box(60, 160, 185, 265))
  assert face.how == "box" and misses(face).max() < 8


# Pictures of scikit-image that show no face. Coins do, from the side.
NO_FACE = (
  "brick",
  "cat",
  "cell",
  "checkerboard",
  "clock",
  "coffee",
  "colorwheel",
  "grass",
  "gravel",
  "horse",
  "hubble_deep_field",
  "immunohistochemistry",
  "microaneurysms",
  "moon",
  "page",
  "retina",
  "rocket",
  "text",
)
NOISE = (1, 2, 4, 8, 16, 32)


def without_a_face(name):
  """Returns a picture by its name, or noise of a scale, at most 400 pixels."""
  if isinstance(name, int):
    rng = np.random.default_rng(name)
    side = 400 // name
    image = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
    return np.asarray(image.resize((400, 400), Image.Resampling.BICUBIC))
  image = Image.fromarray(util.img_as_ubyte(getattr(data, name)()))
  image = image.convert("RGB")
  image.thumbnail((400, 400), Image.Resampling.LANCZOS)
  return np.asarray(image)


@pytest.mark.slow
@pytest.mark.parametrize("detector", DETECTORS)
def test_pictures_without_a_face_have_none(detector):
  false = []
  for name in (*NO_FACE, *NOISE):
    picture = without_a_face(name)
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width] / min(height, width)
    none = np.zeros((height, width), bool)
    spots = (x % 0.4 - 0.2) ** 2 + (y % 0.4 - 0.2) ** 2 < 0.08**2
    for hole in (none, spots):
      if detect(detector, picture, hole, MEAN_FACE):
        false.append((name, bool(hole.any())))
  assert len(false) <= (0 if detector == "dlib" else 4), false


@pytest.mark.parametrize("detector", DETECTORS)
def test_no_face_is_found_where_there_is_none(detector):
  wall = data.brick()
  photograph = np.stack([wall] * 3, axis=-1)
  assert detect(detector, photograph, np.zeros(wall.shape, bool)) == []


def landmarks(left):
  """Returns 68 landmarks as in a crop of 64 pixels that begins at `left`."""
  mean = face_shape.statistics()[0]
  points = np.zeros((68, 2))
  for part, place in zip(
    face_shape.PARTS.values(), mean[:-3].reshape(-1, 2), strict=True
  ):
    points[list(part)] = place
  return points + (left, 10)


def at(score, left):
  """Returns what a detector finds of a face in an upright crop."""
  x, y, width = face_shape.statistics()[0][-3:]
  x, y = x + left, y + 10
  edges = (x - width / 2, y - width / 2, x + width / 2, y + width / 2)
  return dlib_faces.Found(score, edges, landmarks(left))


@pytest.mark.parametrize("second", [0.1, 0.5])
def test_a_doubtful_face_counts_if_the_hole_alone_makes_it_so(
  monkeypatch, second
):
  # Of crops at 10, 200 and 300 the last two are doubtful.
  first = [at(1, 10), at(-0.2, 200), at(-0.3, 300)]

  def run(image, least, doublings=1):
    if doublings:
      return [found for found in first if found.score >= least]
    # The second look: the window shows the face where it was expected.
    scale = len(image) / 112
    found = at(second, 24)
    shift = np.array([0, 14])
    return [
      dlib_faces.Found(
        second,
        tuple(np.array(found.box) * scale + np.tile(shift * scale, 2)),
        (found.points + shift) * scale,
      )
    ] * (second >= least)

  monkeypatch.setattr(dlib_faces, "is_installed", lambda: True)
  monkeypatch.setattr(dlib_faces, "run", run)
  photograph = np.zeros((512, 512, 3), np.uint8)

  def places(hole, mean_image=MEAN_FACE):
    faces = detect("dlib", photograph, hole, mean_image)
    return [round(face.matrix[0, 2]) for face in faces]

  assert places(NOTHING) == [10]
  assert places(box(400, 410, 200, 220)) == [10]
  expected = [10, 200] if second > 0.25 else [10]
  assert places(box(35, 45, 215, 235)) == expected
  assert places(box(35, 45, 215, 235), None) == [10]


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
