import importlib.util
import zipfile

import numpy as np
from PIL import Image
import pytest
from skimage import data

from dcgan_inpaint.metrics import face_embedding
from dcgan_inpaint.metrics import features
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import dlib_faces
from dcgan_inpaint.runtime import errors

FACE128 = detection.POINTS / alignment.SIZE  # The landmarks of the crop.
# Positions of the astronaut's eyes, nose and mouth, read from the picture.
ASTRONAUT = np.array(
  [[203, 101], [247, 103], [223, 126], [202, 140], [246, 141]]
)

needs_dlib = pytest.mark.skipif(
  not dlib_faces.is_installed(), reason="needs the extra faces"
)


@pytest.fixture(scope="module")
def model():
  """Returns dlib's own network."""
  import dlib

  return dlib.face_recognition_model_v1(str(face_embedding._model_path("")))


def _crop(size):
  """Returns the astronaut's face as the training crop shows it."""
  matrix = alignment.similarity(detection.POINTS, ASTRONAUT + 0.5)
  corner = matrix[:2, 2]
  side = alignment.scale(matrix) * alignment.SIZE
  image = Image.fromarray(data.astronaut())
  return np.asarray(
    image.resize(
      (size, size), Image.Resampling.LANCZOS, (*corner, *(corner + side))
    )
  )


@needs_dlib
def test_the_network_is_dlib_s(model):
  rng = np.random.default_rng(0)
  tiles = rng.integers(0, 256, (3, 10, 10, 3)).repeat(15, 1).repeat(15, 2)
  chips = np.uint8(
    np.concatenate([tiles, rng.integers(0, 256, (1, 150, 150, 3))])
  )
  params = face_embedding._params(face_embedding._model_path(""))
  expected = np.array(model.compute_face_descriptor(list(chips)))
  found = face_embedding._apply(params, chips)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.abs(expected).max() > 0.2


@pytest.mark.slow
@needs_dlib
def test_a_chip_lies_as_dlib_s_own(model):
  import dlib

  photograph = data.astronaut()
  box = max(
    dlib.get_frontal_face_detector()(photograph, 1), key=dlib.rectangle.area
  )
  _, predictor = dlib_faces.models()
  shape = predictor(photograph, box)
  own = dlib.get_face_chip(photograph, shape, size=150, padding=0.25)
  (found, *_) = dlib_faces.run(photograph, 0)
  assert found.points is not None
  points = detection.five_points(found.points)
  ours = face_embedding.chip(photograph, points / 512)
  # dlib fits 36 points, this package five: they agree within a pixel or two.
  inner = slice(20, 130)
  moved = [
    np.abs(
      np.float32(ours[inner, inner])
      - np.roll(own, (y, x), (0, 1))[inner, inner]
    ).mean()
    for y in (-4, 0, 4)
    for x in (-4, 0, 4)
  ]
  assert np.argmin(moved) == 4
  embed = face_embedding.create(points / 512)
  distance = np.linalg.norm(
    embed(photograph[None])[0] - np.array(model.compute_face_descriptor(own))
  )
  assert distance < 0.2


@needs_dlib
@pytest.mark.parametrize("size", [64, 128, 400])
def test_a_face_of_any_size_is_itself(size):
  embed = face_embedding.create(FACE128)
  whole = face_embedding.create(ASTRONAUT / 512)(data.astronaut()[None])
  distance = np.linalg.norm(embed(_crop(size)[None]) - whole)
  assert distance < (0.35 if size == 64 else 0.25)


@needs_dlib
def test_a_chip_beyond_the_edge_repeats_it():
  flat = np.full((64, 64, 3), 200, np.uint8)
  for landmarks in (FACE128, FACE128 + 0.5, FACE128 - 0.7):
    assert (face_embedding.chip(flat, landmarks) == 200).all()


@needs_dlib
def test_an_image_s_embedding_does_not_depend_on_the_others():
  faces = np.stack([_crop(64), 255 - _crop(64)] * 20)
  extract = features.create("dlib", landmarks=FACE128).extract
  found = extract(faces)
  assert found.shape == (40, 128) and found.dtype == np.float32
  np.testing.assert_allclose(found[38:], found[:2], atol=1e-6)
  np.testing.assert_allclose(extract(faces[:1]), found[:1], atol=1e-6)


@pytest.mark.slow
@needs_dlib
def test_faces_of_one_person_are_closer_than_of_two(shared):
  with zipfile.ZipFile(shared / "celeba/faces64/validation.zip") as file:
    names = sorted(file.namelist())[:40]
    faces = np.stack([Image.open(file.open(name)) for name in names])
  extract = features.create("dlib", landmarks=FACE128).extract
  found, mirrored = extract(faces), extract(faces[:, :, ::-1])
  same = np.linalg.norm(found - mirrored, axis=1)
  apart = np.linalg.norm(found[:, None] - found, axis=2)[np.triu_indices(40, 1)]
  assert same.max() < face_embedding.SAME_PERSON
  assert np.mean(apart > face_embedding.SAME_PERSON) > 0.9


@pytest.mark.parametrize("missing", ["dlib", "face_recognition_models"])
def test_without_the_extra_one_line_names_it(monkeypatch, missing):
  find_spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: None if name == missing else find_spec(name),
  )
  with pytest.raises(
    errors.UserError, match=rf"config.x.*{missing}.*\[faces\]"
  ):
    features.create("dlib", landmarks=FACE128, field="config.x")


@needs_dlib
@pytest.mark.parametrize("damage", ["cut", "another", "missing"])
def test_a_damaged_network_is_refused(tmp_path, damage):
  data = face_embedding._model_path("").read_bytes()
  path = tmp_path / "network.dat"
  if damage != "missing":
    other = data.replace(b"\x01\x05con_4", b"\x01\x05bn_c4")
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else other)
  with pytest.raises(errors.UserError, match=r"network.dat.*\[faces\]"):
    face_embedding._params(path)
