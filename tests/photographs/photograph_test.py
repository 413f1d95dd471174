import numpy as np
import pytest
from skimage import data

from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import dlib_faces
from dcgan_inpaint.photographs import photograph
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import blending

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (150, 200, 3), dtype=np.uint8)
# Two crops that overlap in columns 80 to 99.
FIRST = detection.Face(alignment.upright(20, 30, 80), "whole")
SECOND = detection.Face(alignment.upright(80, 30, 80), "whole")
GENERATED = RNG.uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)


def prepare(hole, *found, rest="leave"):
  return photograph.prepare(IMAGE, hole, lambda *_: list(found), rest)


def hole_of(*boxes):
  hole = np.zeros(IMAGE.shape[:2], bool)
  for upper, lower, left, right in boxes:
    hole[upper:lower, left:right] = True
  return hole


def test_only_faces_at_the_hole_are_searched():
  prepared = prepare(hole_of((50, 60, 110, 120)), FIRST, SECOND)
  assert prepared.found == 2 and prepared.faces == [SECOND]
  assert prepared.crops.shape == (1, 64, 64, 3)
  # 10 of 80 pixels are 8 of 64.
  assert (prepared.masks == 0).sum() == pytest.approx(64, abs=20)


def test_without_a_hole_no_face_is_searched_for():
  prepared = prepare(hole_of(), FIRST)
  assert prepared.found == 0 and prepared.faces == []


@pytest.mark.parametrize("found", [[], [FIRST]])
def test_without_a_face_the_rest_decides(found):
  hole = hole_of((0, 10, 0, 10))
  with pytest.raises(errors.UserError) as refused:
    prepare(hole, *found)
  for field in ("config.faces", "config.rest"):
    assert field in str(refused.value)
  # Whether there is a face elsewhere makes two messages.
  assert ("at the hole" in str(refused.value)) == bool(found)
  assert prepare(hole, *found, rest="auto").faces == []


def test_one_fill_serves_the_detector_and_the_crops(monkeypatch):
  fill, filled, seen = alignment.fill, [], []

  def count(image, hole):
    # It calls itself for smaller images.
    if len(hole) > 75:
      filled.append(1)
    return fill(image, hole)

  def detect(image, hole):
    seen.append(image)
    return [FIRST]

  monkeypatch.setattr(alignment, "fill", count)
  hole = hole_of((50, 60, 60, 70))
  prepared = photograph.prepare(IMAGE, hole, detect, "leave")
  assert len(filled) == 1
  (image,) = seen
  np.testing.assert_array_equal(image[~hole], IMAGE[~hole])
  expected = fill(np.float32(IMAGE), hole)
  np.testing.assert_array_equal(image, np.uint8(np.round(expected)))
  crop = alignment.crop(image, FIRST.matrix)
  np.testing.assert_array_equal(prepared.crops, crop[None])


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(
      "dlib",
      marks=pytest.mark.skipif(
        not dlib_faces.is_installed(), reason="needs the extra faces"
      ),
    ),
    "cascade",
  ],
)
def test_nothing_under_the_hole_is_read(name):
  astronaut = data.astronaut()
  hole = np.zeros(astronaut.shape[:2], bool)
  hole[92:112, 192:215] = True  # An eye.
  other = np.where(hole[..., None], 255 - astronaut, astronaut)
  detect = detection.create(name)
  expected, prepared = (
    photograph.prepare(image, hole, detect, "leave")
    for image in (astronaut, other)
  )
  assert len(expected.faces) > 0 and expected.found == prepared.found
  for face, same in zip(prepared.faces, expected.faces, strict=True):
    np.testing.assert_array_equal(face.matrix, same.matrix)
    assert face.how == same.how
  np.testing.assert_array_equal(prepared.crops, expected.crops)
  np.testing.assert_array_equal(prepared.masks, expected.masks)


@pytest.mark.parametrize("mode", blending.MODES)
def test_the_hole_is_blended_as_if_with_all_of_the_crop(mode):
  # One hole, and another that reaches beyond the crop.
  hole = hole_of((40, 70, 40, 60), (100, 130, 25, 35))
  done, left = photograph.complete(
    prepare(hole, FIRST), GENERATED[:1], mode, "leave"
  )
  rows, columns = window = alignment.window(FIRST.matrix, *hole.shape)
  (expected,) = blending.blend(
    mode,
    alignment.warp_back(GENERATED[0], FIRST.matrix, *hole.shape)[None],
    pixels.to_float(IMAGE[window])[None],
    np.float32(~hole[window])[None, ..., None],
    alignment.scale(FIRST.matrix),
  )
  inside = hole & ~left
  assert not prepare(hole, FIRST).thin.any()
  assert left.sum() == 20 * 10 and left[110:130, 25:35].all()
  np.testing.assert_array_equal(done[~inside], IMAGE[~inside])
  expected = np.int32(pixels.to_uint8(expected))
  seen = inside[window]
  np.testing.assert_allclose(done[window][seen], expected[seen], atol=1)
  assert rows.start == 28 and columns.start == 18  # It was in the window.


def test_crops_have_the_size_of_the_model():
  hole = hole_of((40, 70, 40, 60))
  prepared = photograph.prepare(IMAGE, hole, lambda *_: [FIRST], "leave", 128)
  known = alignment.crop(IMAGE, FIRST.matrix, 128)
  seen = prepared.masks[0, ..., 0] > 0.5
  assert prepared.crops.shape == (1, 128, 128, 3)
  far = np.zeros((128, 128), bool)
  far[:8] = True  # Nothing here is resampled with the hole, from row 16 on.
  np.testing.assert_array_equal(prepared.crops[0][far], known[far])
  np.testing.assert_array_equal(
    prepared.masks[0], alignment.crop_mask(hole, FIRST.matrix, 128)
  )
  assert 0.5 < seen.mean() < 1


def test_where_two_crops_overlap_the_more_certain_face_is_taken():
  hole = hole_of((50, 60, 70, 110))
  both, _ = photograph.complete(
    prepare(hole, FIRST, SECOND), GENERATED, "paste", "leave"
  )
  first, left = photograph.complete(
    prepare(hole, FIRST), GENERATED[:1], "paste", "leave"
  )
  np.testing.assert_array_equal(both[:, :100], first[:, :100])
  assert left[50:60, 100:110].all() and left.sum() == 100
  assert (both[left] != IMAGE[left]).mean() > 0.9


# Thin for FIRST, whose crop is 80 pixels wide: 3 are 2.4 of 64.
STROKE = (80, 83, 40, 90)


def smooth_image():
  y, x = np.mgrid[:150, :200]
  return np.uint8(np.stack([x, y, (x + y) / 2], -1))


@pytest.mark.parametrize("rest", photograph.RESTS[:2])
def test_thin_pieces_are_interpolated_and_wide_ones_are_the_model_s(rest):
  hole = hole_of((40, 60, 40, 60), STROKE)
  image = smooth_image()
  both = photograph.prepare(image, hole, lambda *_: [FIRST], rest)
  assert both.faces == [FIRST]
  np.testing.assert_array_equal(both.thin, hole_of(STROKE))
  done, left = photograph.complete(both, GENERATED[:1], "paste", rest)
  assert not left.any()
  np.testing.assert_allclose(
    np.int32(done)[both.thin], np.int32(image)[both.thin], atol=1
  )
  warped = alignment.warp_back(GENERATED[0], FIRST.matrix, *hole.shape)
  window = alignment.window(FIRST.matrix, *hole.shape)
  wide = hole_of((40, 60, 40, 60))
  np.testing.assert_array_equal(
    done[wide], pixels.to_uint8(warped)[wide[window]]
  )


@pytest.mark.parametrize("rest, searched", [("leave", 1), ("auto", 0)])
def test_what_lies_beside_a_face_is_not_the_model_s(rest, searched):
  # In the crop's first 8 of 80 columns, and beyond it.
  image, hole = smooth_image(), hole_of((60, 80, 5, 28))
  prepared = photograph.prepare(image, hole, lambda *_: [FIRST], rest)
  assert len(prepared.faces) == searched
  done, left = photograph.complete(
    prepared, GENERATED[:searched], "paste", rest
  )
  assert left.sum() == (300 if searched else hole.sum())
  if not searched:
    np.testing.assert_allclose(np.int32(done), np.int32(image), atol=1)


def test_where_all_is_thin_no_face_is_searched():
  prepared = prepare(hole_of(STROKE), FIRST)
  assert prepared.found == 1 and prepared.faces == []
  done, left = photograph.complete(prepared, GENERATED[:0], "paste", "leave")
  assert not left.any()
  assert (done[hole_of(STROKE)] != IMAGE[hole_of(STROKE)]).any()


@pytest.mark.parametrize("rest", ["auto", "harmonic", "biharmonic"])
def test_what_no_face_covers_is_filled(rest):
  image = smooth_image()
  hole = hole_of((5, 15, 150, 160))
  prepared = photograph.prepare(image, hole, lambda *_: [], rest)
  done, left = photograph.complete(prepared, GENERATED[:0], "spline", rest)
  np.testing.assert_array_equal(left, hole)
  np.testing.assert_array_equal(done[~hole], image[~hole])
  np.testing.assert_allclose(np.int32(done), np.int32(image), atol=1)


def test_a_method_whose_library_is_missing_is_refused(monkeypatch):
  monkeypatch.setattr(methods, "_missing_library", lambda name: "OpenCV")
  with pytest.raises(errors.UserError, match="rest.*telea.*OpenCV"):
    photograph.check_rest("telea")
  with pytest.raises(errors.UserError, match="ridge.*auto, leave"):
    photograph.check_rest("ridge")
