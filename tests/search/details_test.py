import numpy as np
import pytest
from scipy import ndimage

from dcgan_inpaint.search import details

SIDE = 24


def some_faces(count=3):
  rng = np.random.default_rng(0)
  noise = rng.normal(size=(count, SIDE, SIDE, 3))
  return np.float32(0.3 * np.tanh(ndimage.gaussian_filter(noise, (0, 1, 1, 0))))


def centre(count=3, hole=12):
  masks = np.ones((count, SIDE, SIDE, 1), np.float32)
  first = (SIDE - hole) // 2
  masks[:, first : first + hole, first : first + hole] = 0
  return masks


def test_a_gain_of_one_changes_nothing():
  faces = some_faces()
  assert details.strengthen(faces, centre(), 1.0) is faces


def test_in_the_depth_of_a_hole_details_are_multiplied_by_the_gain():
  faces = some_faces()
  strong = details.strengthen(faces, 0 * centre(), 2.0)
  # The blur is linear: what it removes from the result is what it removed
  # before, and what it removes from the details themselves.
  blurred = ndimage.gaussian_filter(
    np.float64(faces), (0, 1.5, 1.5, 0), mode="nearest"
  )
  np.testing.assert_allclose(strong, 2 * faces - blurred, atol=1e-6)


@pytest.mark.parametrize("hole", [2, 4, 12])
def test_the_scale_grows_with_the_distance_to_what_is_known(hole):
  masks = centre(1, hole)
  faces = some_faces(1)
  blurred = ndimage.gaussian_filter(faces, (0, 1.5, 1.5, 0), mode="nearest")
  strong = details.strengthen(faces, masks, 2.0)
  row = SIDE // 2
  scale = ((strong - blurred) / (faces - blurred))[0, row, :, 0]
  first = (SIDE - hole) // 2
  # Going inwards, 1, 2, ... pixels from the known ones; beyond half of the
  # width the other sides are nearer.
  depth = np.arange(1, hole // 2 + 1)
  expected = 2 - 0.63 * np.exp(1 - depth)
  np.testing.assert_allclose(
    scale[first : first + hole // 2], expected, rtol=1e-3
  )
  # Known pixels are treated as the rim.
  np.testing.assert_allclose(scale[:first], 1.37, rtol=1e-3)


def test_at_twice_the_size_details_are_twice_as_large():
  faces, masks = some_faces(2), centre(2)
  large, large_masks = (x.repeat(2, 1).repeat(2, 2) for x in (faces, masks))
  small = details.strengthen(faces, masks, 2.0)
  strong = details.strengthen(large, large_masks, 2.0, scale=2.0)
  means = strong.reshape(2, SIDE, 2, SIDE, 2, 3).mean((2, 4))
  # But for the steps between the pixels.
  assert np.abs(means - small).mean() < 0.15 * np.abs(small - faces).mean()


def test_the_result_stays_in_range_and_is_float32():
  faces = np.sign(some_faces())
  strong = details.strengthen(faces, centre(), 3.0)
  assert strong.dtype == np.float32
  assert np.abs(strong).max() == 1


def test_an_image_does_not_depend_on_its_neighbours():
  faces = some_faces()
  masks = np.concatenate([centre(1, 12), centre(1, 4), 0 * centre(1)])
  together = details.strengthen(faces, masks, 2.75)
  for i in range(3):
    alone = details.strengthen(faces[i : i + 1], masks[i : i + 1], 2.75)
    np.testing.assert_array_equal(alone[0], together[i])
