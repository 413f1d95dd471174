import numpy as np
from PIL import Image
import pytest
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import spline
from dcgan_inpaint.search import spline as surfaces

RNG = np.random.default_rng(0)


def strokes(size, width, count=3):
  hole = np.zeros((size, size), bool)
  for i in range(count):
    hole[(i + 1) * size // (count + 1) :][:width, size // 8 : -size // 8] = True
  return hole


def noise(size):
  return RNG.uniform(-1, 1, (size, size, 3)).astype(np.float32)


def photograph(size):
  return pixels.to_float(skimage.data.chelsea()[80:][:size, 120:][:, :size])


def enlarged(size):
  """Returns a picture without anything as fine as a pixel."""
  small = Image.fromarray(skimage.data.chelsea()[80:112, 120:152])
  return pixels.to_float(
    np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
  )


@pytest.mark.parametrize(
  "picture, order", [(noise, 1), (photograph, 2), (enlarged, 3)]
)
def test_the_surface_suits_the_surroundings(picture, order):
  image, hole = picture(96), strokes(96, 3)
  energy = spline.choose(image, hole, hole, 3.0)
  assert energy.order == order
  # And it is the best, or nearly, where the truth is known.
  error = [
    np.mean((surfaces.extend(image, hole, x) - image)[hole] ** 2)
    for x in spline.ENERGIES
  ]
  mine = np.mean((spline.fill(image, hole) - image)[hole] ** 2)
  assert mine <= 1.1 * min(error)


def test_thin_pieces_and_wide_ones_are_chosen_for_apart(monkeypatch):
  asked = []

  def choose(image, hole, group, thickness):
    asked.append((int(group.sum()), thickness))
    return spline.ENERGIES[0]

  monkeypatch.setattr(spline, "choose", choose)
  hole = strokes(128, 3)
  count = hole.sum()
  hole[2:22, 2:22] = True
  spline.fill(photograph(128), hole)
  assert asked == [(count, 3.0), (400, 19.0)]


def test_a_thin_piece_beside_a_wide_one_is_not_taken_for_known(monkeypatch):
  # The surface that looks furthest beside the hole.
  monkeypatch.setattr(spline, "choose", lambda *_: spline.ENERGIES[-1])
  image = np.full((400, 400, 1), 0.75, np.float32)
  image[0, 0] = -1  # Values are clipped to the known ones.
  hole = np.zeros((400, 400), bool)
  # So wide that its middle is solved at an eighth of the size.
  hole[100:300, 100:300] = True
  hole[100:300, 307:312] = hole[88:93, 100:300] = True
  filled = spline.fill(image, hole)
  np.testing.assert_allclose(filled, image, atol=1e-5)


def test_without_a_place_to_try_the_default_is_taken():
  image, hole = photograph(32), np.ones((32, 32), bool)
  hole[:2] = False
  thin, wide = spline.DEFAULT_ENERGIES
  assert spline.choose(image, hole, hole, 3.0) == thin
  assert spline.choose(image, hole, hole, 30.0) == wide.at_scale(1 / 2)


@pytest.mark.parametrize("hidden", [-1, np.nan])
def test_the_true_pixels_in_the_hole_do_not_matter(hidden):
  image, hole = photograph(64), strokes(64, 5)
  other = np.where(hole[..., None], np.float32(hidden), image)
  np.testing.assert_array_equal(
    spline.fill(image, hole), spline.fill(other, hole)
  )


def test_values_stay_between_the_known_ones():
  image = np.clip(photograph(64), -0.2, 0.1)
  hole = np.zeros((64, 64), bool)
  hole[10:50, 20:40] = True
  filled = spline.fill(image, hole)
  assert filled.min() >= image[~hole].min() and filled.max() <= 0.1
  np.testing.assert_array_equal(filled[~hole], image[~hole])


def test_everything_and_nothing():
  image = photograph(16)
  everything = np.ones((16, 16), bool)
  assert not spline.fill(image, everything).any()
  np.testing.assert_array_equal(spline.fill(image, ~everything), image)


def test_a_method_of_the_benchmark():
  images = np.stack([photograph(64), enlarged(64)])
  masks = np.ones((2, 64, 64, 1), np.float32)
  masks[0, 20:24, 10:50] = masks[1, 30:40, 30:40] = 0
  done = spline.complete(images, masks)
  np.testing.assert_array_equal(
    done[:1], spline.complete(images[:1], masks[:1])
  )
  np.testing.assert_array_equal(
    done[1], spline.fill(images[1], masks[1, ..., 0] == 0)
  )
