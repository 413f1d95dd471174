"""Properties for every image and mask, with examples drawn by hypothesis.

The examples are the same in every run. Shapes are fixed for compiled functions,
so that each program is compiled once.
"""

import functools

import image_files
import numpy as np
import pytest
import tiny_search

from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.data import decoding
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.search import blending

pytestmark = pytest.mark.slow
hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
hnp = pytest.importorskip("hypothesis.extra.numpy")

few = functools.partial(
  hypothesis.settings, deadline=None, derandomize=True, database=None
)


@st.composite
def batches(draw, height, width, least=1, most=6):
  """Images and masks [N, height, width, ...], some of them constant."""
  count = draw(st.integers(least, most))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  images = rng.uniform(-1, 1, (count, height, width, 3)).astype(np.float32)
  masks = np.float32(rng.random((count, height, width, 1)) < 0.7)
  for image, mask in zip(images, masks, strict=True):
    shade = draw(st.sampled_from([None, -1.0, 0.0, 1.0]))
    image[:] = image if shade is None else shade
    kind = draw(st.sampled_from(["noise", "box", "all", "none", "but one"]))
    if kind != "noise":
      mask[:] = kind != "all" and kind != "but one"
    if kind == "box":
      mask[height // 4 : height // 2, width // 3 :] = 0
    if kind == "but one":
      mask[
        draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
      ] = 1
  return images, masks


def assert_filled(completed, images, masks):
  """Known pixels are unchanged to the bit, all are finite and in range."""
  assert completed.dtype == np.float32 and completed.shape == images.shape
  known = np.broadcast_to(masks > 0.5, images.shape)
  np.testing.assert_array_equal(completed[known], images[known])
  assert np.isfinite(completed).all() and np.abs(completed).max() <= 1


# --- the search ---------------------------------------------------------------


@functools.cache
def search(devices):
  """A search of two steps by networks of one layer, in batches of four."""
  made = tiny_search.make(devices=devices, steps=2, starts=2)
  return functools.partial(made, tiny_search.SKETCH_WEIGHTS, size=4)


FACES = batches(tiny_search.SIDE, tiny_search.SIDE)


@few(max_examples=40)
@hypothesis.given(FACES, st.sampled_from([1, 4]))
def test_the_search_keeps_what_is_known_for_any_batch(batch, devices):
  images, masks = batch
  hidden = np.where(masks > 0.5, images, np.float32(np.nan))
  assert_filled(search(devices)(hidden, masks).completed, images, masks)


@few(max_examples=25)
@hypothesis.given(FACES, st.randoms(use_true_random=False))
def test_the_order_of_a_batch_does_not_matter(batch, random):
  images, masks = batch
  order = list(range(len(images)))
  random.shuffle(order)
  straight = search(4)(images, masks).completed
  # An image's starts are drawn from its number.
  shuffled = search(4)(images[order], masks[order], indices=order).completed
  np.testing.assert_array_equal(shuffled, straight[order])


@few(max_examples=25)
@hypothesis.given(FACES, FACES, st.data())
def test_an_image_does_not_depend_on_its_neighbours(batch, others, data):
  (images, masks), (other_images, other_masks) = batch, others
  count = min(len(images), len(other_images))
  kept = data.draw(st.integers(0, count - 1))
  other_images[kept], other_masks[kept] = images[kept], masks[kept]
  np.testing.assert_array_equal(
    search(4)(images, masks).completed[kept],
    search(4)(other_images, other_masks).completed[kept],
  )


@few(max_examples=20)
@hypothesis.given(FACES)
def test_the_number_of_devices_does_not_matter(batch):
  # Not to the bit: a batch of one is summed in a different order.
  np.testing.assert_allclose(
    search(1)(*batch).completed, search(4)(*batch).completed, atol=1e-4
  )


# --- the other methods --------------------------------------------------------

# Fast methods of every family; `methods_test` has all methods.
QUICK = (
  "harmonic",
  "total_variation",
  "biharmonic",
  pytest.param("taylor3", marks=pytest.mark.slow),
  "telea",
  pytest.param("sparse_dct", marks=pytest.mark.slow),
)
HEIGHT, WIDTH = 16, 20
FOUR = batches(HEIGHT, WIDTH, least=4, most=4)


@functools.cache
def method(name):
  return methods.create(name, None, None, None, (4, HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("name", QUICK)
@few(max_examples=8)
@hypothesis.given(FOUR)
def test_a_method_keeps_what_is_known_for_any_batch(name, batch):
  if name == "telea":
    pytest.importorskip("cv2")
  images, masks = batch
  hidden = np.where(masks > 0.5, images, np.float32(np.nan))
  assert_filled(method(name)(hidden, masks).completed, images, masks)


@pytest.mark.parametrize("name", QUICK)
@few(max_examples=4)
@hypothesis.given(FOUR, st.sampled_from([np.nan, np.inf]))
def test_a_known_pixel_that_is_no_number_costs_its_image_alone(
  name, batch, value
):
  if name == "telea":
    pytest.importorskip("cv2")
  images, masks = batch
  expected = method(name)(images, masks).completed
  images, masks = images.copy(), masks.copy()
  images[1, 0, 0], masks[1, 0, 0] = value, 1
  completed = method(name)(images, masks).completed
  rest = [0, 2, 3]
  np.testing.assert_array_equal(completed[rest], expected[rest])
  # So that the jobs detect the failure.
  assert not np.isfinite(completed[1]).all()


@pytest.mark.parametrize("mode", blending.MODES)
@few(max_examples=8)
@hypothesis.given(FOUR, FOUR)
def test_blending_keeps_what_is_known_for_any_batch(mode, batch, generated):
  images, masks = batch
  hidden = np.where(masks > 0.5, images, np.float32(np.nan))
  blended = blending.blend(mode, generated[0], hidden, masks)
  assert_filled(np.asarray(blended), images, masks)


# --- round trips --------------------------------------------------------------

SIDES = st.integers(8, 40)
HOLES = hnp.arrays(bool, st.tuples(SIDES, SIDES))


def read_mask(path, polarity, height, width):
  settings = mask_settings.MaskSettings(
    "file", path=str(path), file_polarity=polarity
  )
  (mask,) = mask_sets.make(settings, [0], height, width, allow_empty=True)
  return mask[..., 0]


@few(max_examples=20)
@hypothesis.given(HOLES, st.integers(1, 3))
def test_a_mask_comes_back_in_both_polarities_and_sizes(
  tmp_path_factory, hole, factor
):
  path = tmp_path_factory.mktemp("mask") / "mask.png"
  for polarity, white in (("white_is_hole", hole), ("white_is_known", ~hole)):
    # Enlarged by whole pixels, like a mask drawn on a larger image.
    drawn = white.repeat(factor, 0).repeat(factor, 1)
    pictures.save_png(path, np.uint8(255 * drawn))
    mask = read_mask(path, polarity, *hole.shape)
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, ~hole)
    other = read_mask(
      path,
      "white_is_known" if polarity == "white_is_hole" else "white_is_hole",
      *hole.shape,
    )
    np.testing.assert_array_equal(other, hole)


IMAGES = hnp.arrays(np.uint8, st.tuples(SIDES, SIDES, st.just(3)))


@few(max_examples=20)
@hypothesis.given(
  IMAGES,
  st.sampled_from([("png", {}), ("bmp", {}), ("webp", {"lossless": True})]),
)
def test_pixels_come_back_to_the_bit(image, kind):
  name, options = kind
  read = np.asarray(
    decoding.open_rgb(image_files.encode(image, name, **options))
  )
  np.testing.assert_array_equal(read, image)
  np.testing.assert_array_equal(pixels.to_uint8(pixels.to_float(image)), image)


@few(max_examples=20)
@hypothesis.given(SIDES, SIDES, st.tuples(*[st.integers(0, 255)] * 3), SIDES)
def test_one_colour_stays_that_colour_at_every_size(
  height, width, colour, size
):
  image = np.full((height, width, 3), colour, np.uint8)
  decoded = decoding.decode(image_files.encode(image), size)
  np.testing.assert_array_equal(decoded, np.full((size, size, 3), colour))


@few(max_examples=20)
@hypothesis.given(
  st.floats(-180, 180), st.floats(0.1, 20), st.floats(-500, 500)
)
def test_a_transform_is_found_again_and_undone(degrees, scale, shift):
  turn = scale * np.exp(1j * np.deg2rad(degrees))
  matrix = np.array(
    [[turn.real, -turn.imag, shift], [turn.imag, turn.real, -shift], [0, 0, 1]]
  )
  points = np.array([[20.0, 24], [44, 24], [32, 36], [25, 47]])
  moved = alignment.apply(matrix, points)
  np.testing.assert_allclose(
    alignment.similarity(points, moved), matrix, rtol=1e-9, atol=1e-9
  )
  back = alignment.apply(np.linalg.inv(matrix), moved)
  np.testing.assert_allclose(back, points, atol=1e-8)


@few(max_examples=10)
@hypothesis.given(
  st.integers(0, 36), st.integers(0, 16), st.integers(0, 2**32 - 1)
)
def test_an_upright_crop_goes_there_and_back_to_the_bit(left, upper, seed):
  rng = np.random.default_rng(seed)
  photograph = rng.integers(0, 256, (80, 100, 3), np.uint8)
  hole = rng.random((80, 100)) < 0.5
  matrix = alignment.upright(left, upper, alignment.SIZE)
  place = slice(upper, upper + 64), slice(left, left + 64)
  crop = alignment.crop(photograph, matrix)
  np.testing.assert_array_equal(crop, photograph[place])
  np.testing.assert_array_equal(
    alignment.crop_mask(hole, matrix)[..., 0], ~hole[place]
  )
  covered = alignment.covered(matrix, 80, 100)
  assert covered.sum() == 64 * 64 and covered[place].all()
  laid = np.zeros((80, 100, 3), np.float32)
  laid[alignment.window(matrix, 80, 100)] = alignment.warp_back(
    pixels.to_float(crop), matrix, 80, 100
  )
  np.testing.assert_array_equal(
    pixels.to_uint8(laid)[covered], photograph[covered]
  )
