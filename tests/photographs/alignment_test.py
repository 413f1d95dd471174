import io

import numpy as np
from PIL import Image
import pytest
from skimage import data
from skimage import transform

from dcgan_inpaint.data import decoding
from dcgan_inpaint.photographs import alignment


def turned(scale=3.0, degrees=20.0, shift=(150.0, 40.0)):
  """Returns a similarity transform, by scikit-image."""
  return transform.SimilarityTransform(
    scale=scale, rotation=np.radians(degrees), translation=shift
  ).params


@pytest.fixture
def photograph():
  return np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


SOURCE = np.array([[0, 0], [4, 0], [4, 2], [0, 2.0]])


@pytest.mark.parametrize(
  "target, expected",
  [
    # A quarter turn, twice as large, 10 to the right and 20 down: exact.
    (
      [[10, 20], [10, 28], [6, 28], [6, 20]],
      [[0, -2, 10], [2, 0, 20], [0, 0, 1]],
    ),
    # Two corners are pulled out and two pushed in by 1, along x: the centre is
    # (2, 1), where the pulls cancel; the scale that fits best is 1.
    ([[-1, 0], [5, 0], [3, 2], [1, 2]], np.eye(3)),
    # A mirror image: no rotation comes near it, and least squares shrinks by
    # (16 - 4) / (16 + 4); the centre (2, 1) goes to (-2, 1).
    (
      [[0, 0], [-4, 0], [-4, 2], [0, 2]],
      [[-0.6, 0, -0.8], [0, -0.6, 1.6], [0, 0, 1]],
    ),
  ],
)
def test_a_similarity_fits_points_best_and_never_mirrors(target, expected):
  fitted = alignment.similarity(SOURCE, np.float64(target))
  np.testing.assert_allclose(fitted, expected, atol=1e-12)


def test_a_similarity_of_noisy_points_is_the_complex_regression():
  # In the complex plane a similarity is z -> a z + b, which is linear.
  rng = np.random.default_rng(0)
  source, target = rng.normal(size=(2, 5, 2))
  z, w = source @ [1, 1j], target @ [1, 1j]
  a, b = np.linalg.lstsq(np.stack([z, np.ones(5)], 1), w, rcond=None)[0]
  expected = [[a.real, -a.imag, b.real], [a.imag, a.real, b.imag], [0, 0, 1]]
  fitted = alignment.similarity(source, target)
  np.testing.assert_allclose(fitted, expected, atol=1e-12)


def test_a_transform_moves_points_as_by_hand():
  # A quarter turn, twice as large, 10 to the right and 20 down.
  quarter = np.array([[0, -2, 10], [2, 0, 20], [0, 0, 1.0]])
  points = np.array([[0, 0], [1, 0], [3, 4.0]])
  expected = [[10, 20], [10, 22], [2, 26]]
  np.testing.assert_array_equal(alignment.apply(quarter, points), expected)
  assert alignment.side(quarter) == 128


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize(
  "width, height", [(178, 218), (200, 128), (64, 64), (301, 127), (40, 50)]
)
def test_an_upright_crop_is_what_training_sees(width, height, size):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (height, width, 3), np.uint8)
  encoded = io.BytesIO()
  Image.fromarray(image).save(encoded, "png")
  left, upper, right, lower = decoding.crop_box((width, height))
  matrix = alignment.upright(left, upper, right - left)
  np.testing.assert_array_equal(
    alignment.crop(image, matrix, size),
    decoding.decode(encoded.getvalue(), size),
  )
  covered = np.zeros((height, width), bool)
  covered[upper:lower, left:right] = True
  np.testing.assert_array_equal(
    alignment.covered(matrix, height, width), covered
  )


def test_a_turned_crop_shows_what_the_transform_says():
  # A ramp: each pixel's value is its own place.
  y, x = np.mgrid[:300, :400] + 0.5
  ramp = np.uint8(np.stack([x / 2, y / 2, 0 * x], axis=-1))
  crop = alignment.crop(ramp, turned())
  v, u = np.mgrid[:64, :64] + 0.5
  place = alignment.apply(turned(), np.stack([u, v], axis=-1))
  # Rounded down to 8 bits when the ramp was made, and to the nearest after.
  np.testing.assert_allclose(crop[..., :2], place / 2 - 0.5, atol=1.01)


def test_a_larger_crop_comes_back_sharper():
  picture = data.astronaut()[:256, :256]
  matrix = alignment.upright(64, 32, 160)
  part = np.float32(picture[32:192, 64:224])
  errors = []
  for size in (32, 64, 128):
    crop = alignment.crop(picture, matrix, size)
    assert crop.shape == (size, size, 3)
    back = alignment.warp_back(np.float32(crop), matrix, 256, 256)
    rows, columns = alignment.window(matrix, 256, 256)
    inside = back[32 - rows.start :, 64 - columns.start :][:160, :160]
    errors.append(np.mean((inside - part) ** 2))
  assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


@pytest.mark.parametrize("size", [32, 128])
def test_a_mask_of_another_size_is_known_where_the_photograph_is(size):
  hole = np.zeros((256, 256), bool)
  hole[64:128, 64:192] = True
  mask = alignment.crop_mask(hole, alignment.upright(0, 0, 256), size)
  expected = np.ones((size, size, 1), np.float32)
  expected[size // 4 : size // 2, size // 4 : 3 * size // 4] = 0
  np.testing.assert_array_equal(mask, expected)


def test_there_and_back_gives_what_was_there():
  smooth = np.float32(data.astronaut()[80:144, 180:244]) / 127.5 - 1
  matrix = turned()
  height, width = 300, 400
  laid = np.zeros((height, width, 3), np.float32)
  rows, columns = alignment.window(matrix, height, width)
  laid[rows, columns] = alignment.warp_back(smooth, matrix, height, width)
  again = alignment.crop(
    np.uint8(np.clip(127.5 * laid + 127.5, 0, 255)), matrix
  )
  error = np.abs(again / 127.5 - 1 - smooth)[2:-2, 2:-2]
  assert error.mean() < 0.02 and np.percentile(error, 99) < 0.1
  # A pixel's shift would be seen: the picture itself changes by more.
  assert np.abs(np.diff(smooth, axis=1)).mean() > 0.06


def test_an_unmoved_crop_comes_back_to_the_bit(photograph):
  crop = np.float32(photograph[:64, :64])
  same = alignment.warp_back(crop, np.eye(3), 64, 64)
  np.testing.assert_array_equal(same, crop)


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_the_covered_area_is_that_of_the_square(degrees):
  covered = alignment.covered(turned(1.5, degrees), 300, 400)
  assert covered.sum() == pytest.approx((1.5 * 64) ** 2, rel=0.01)


def test_a_crop_beyond_the_edge_repeats_it_and_is_not_known(photograph):
  matrix = alignment.upright(-64, 0, 128)  # The left half lies outside.
  crop = alignment.crop(photograph, matrix)
  np.testing.assert_array_equal(crop[:, :28], crop[:, :1].repeat(28, axis=1))
  mask = alignment.crop_mask(np.zeros((300, 400), bool), matrix)
  assert not mask[:, :32].any() and mask[:, 32:].all()


def test_a_mask_lies_where_it_was_drawn():
  hole = np.zeros((300, 400), bool)
  hole[100 + 20 * 4 : 100 + 30 * 4, 50 + 40 * 4 : 50 + 50 * 4] = True
  mask = alignment.crop_mask(hole, alignment.upright(50, 100, 256))
  expected = np.ones((64, 64, 1))
  expected[20:30, 40:50] = 0
  # The rows below lie outside of the photograph.
  np.testing.assert_array_equal(mask[:50], expected[:50])


def test_a_fine_pattern_of_lost_pixels_leaves_a_crop_that_is_known(photograph):
  lost = np.random.default_rng(0).random((300, 400)) < 0.8
  mask = alignment.crop_mask(lost, alignment.upright(20, 20, 256))
  assert mask.mean() > 0.7


def test_the_fill_reads_nothing_under_the_hole(photograph):
  image = np.float32(photograph)
  hole = alignment.covered(turned(1.5), 300, 400)
  filled = alignment.fill(image, hole)
  np.testing.assert_array_equal(filled[~hole], image[~hole])
  other = np.where(hole[..., None], np.float32(np.nan), image)
  np.testing.assert_array_equal(alignment.fill(other, hole), filled)


def test_the_fill_continues_smoothly():
  y, x = np.mgrid[:101, :67]
  ramp = np.float32(np.stack([x, y, x + y], axis=-1))
  hole = np.zeros((101, 67), bool)
  hole[40:60, 20:50] = True
  filled = alignment.fill(ramp, hole)
  # A constant would be 7.5 and 5 off in the mean, and white far more.
  assert np.all(np.abs(filled - ramp)[hole].mean(axis=0) < [6, 4, 8])
  flat = np.full((101, 67, 3), 7, np.float32)
  np.testing.assert_allclose(alignment.fill(flat, hole), flat, rtol=1e-6)
  everything = np.ones((101, 67), bool)
  assert not alignment.fill(flat, everything).any()
