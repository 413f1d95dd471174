"""Properties of every exemplar method, and their common distances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import criminisi
from dcgan_inpaint.methods import efros_leung
from dcgan_inpaint.methods import exemplars
from dcgan_inpaint.methods import patchmatch
from dcgan_inpaint.methods import quilting

# Small patches, because the images are small.
METHODS = {
  "criminisi": functools.partial(criminisi.complete, patch_size=5),
  "efros_leung": functools.partial(efros_leung.complete, window_size=5),
  "patchmatch": functools.partial(patchmatch.complete, patch_size=5),
  "quilting": functools.partial(quilting.complete, block_size=7, overlap=3),
}
COPYING = [name for name in METHODS if name != "patchmatch"]
SLOW = ["criminisi", "efros_leung", "patchmatch"]
RANDOM = [name for name in METHODS if name != "criminisi"]


def _parametrize(names):
  # The slow ones take most of the time.
  return pytest.mark.parametrize(
    "name",
    [
      pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
      for name in names
    ],
  )


every_method = _parametrize(METHODS)


def _images(count=9, height=22, width=19):
  """Returns float32 [N, H, W, 3] photographs and masks of several kinds."""
  rng = np.random.default_rng(0)
  astronaut = pixels.to_float(skimage.data.astronaut())
  corners = rng.integers(0, 480, (count, 2))
  images = np.stack([astronaut[y:, x:][:height, :width] for y, x in corners])
  images += np.float32(1e-3)  # Between the 8-bit levels.
  masks = np.ones((count, height, width, 1), np.float32)
  masks[:, 7:15, 6:13] = 0
  masks[1, :, 12:] = 0  # At the border.
  masks[2] = rng.random((height, width, 1)) < 0.2  # No complete patch.
  masks[3] = 0
  masks[3, 2, 3] = 1  # Only one pixel is known.
  masks[4] = 0
  masks[5] = 1
  return images, masks


@functools.cache
def completion(name):
  """Returns a method's completion of `_images()`."""
  return METHODS[name](*_images())


@every_method
def test_known_pixels_come_back_to_the_bit(name):
  images, masks = _images()
  known = masks[..., 0] == 1
  assert completion(name).dtype == np.float32
  np.testing.assert_array_equal(completion(name)[known], images[known])
  assert np.isfinite(completion(name)).all()


@_parametrize(COPYING)
def test_every_pixel_is_a_copy_of_a_known_one(name):
  images, masks = _images()
  for image, mask, result in zip(images, masks, completion(name), strict=True):
    known = image[mask[..., 0] == 1]
    if len(known) > 1:  # Quilting cannot fill all from a single pixel.
      same = (result.reshape(-1, 1, 3) == known).all(-1)
      assert same.any(1).all()


@every_method
def test_means_and_copies_stay_within_the_range_of_the_known(name):
  images, masks = _images()
  for image, mask, result in zip(images, masks, completion(name), strict=True):
    known = np.append(image[mask[..., 0] == 1], np.zeros((1, 3)), 0)
    assert (result <= known.max(0) + 1e-5).all()
    assert (result >= known.min(0) - 1e-5).all()


@every_method
def test_images_without_a_rim_are_grey_and_without_a_hole_are_kept(name):
  images, _ = _images()
  np.testing.assert_array_equal(completion(name)[4], 0 * images[4])
  np.testing.assert_array_equal(completion(name)[5], images[5])
  images, masks = (x[:0] for x in _images())
  assert METHODS[name](images, masks).shape == images.shape


@every_method
def test_the_true_pixels_in_the_hole_do_not_matter(name):
  images, masks = _images()
  # Every hole has some of both.
  hidden = np.random.default_rng(1).choice([-1, np.nan], images.shape)
  other = np.where(masks == 1, images, np.float32(hidden))
  np.testing.assert_array_equal(METHODS[name](other, masks), completion(name))


@every_method
def test_an_image_does_not_depend_on_its_neighbours(name):
  images, masks = _images()
  backwards = METHODS[name](images[::-1], masks[::-1])[::-1]
  np.testing.assert_array_equal(backwards, completion(name))
  alone = METHODS[name](images[2:3], masks[2:3])
  np.testing.assert_array_equal(alone[0], completion(name)[2])


@_parametrize(RANDOM)
def test_a_seed_gives_the_same_image_and_another_seed_another(name):
  images, masks = _images()
  np.testing.assert_array_equal(METHODS[name](images, masks), completion(name))
  other = METHODS[name](images, masks, seed=1)
  assert (other != completion(name)).any()


@every_method
def test_scattered_pixels_are_filled_better_than_by_any_known_ones(name):
  images, masks = (x[2] for x in _images())
  hole = masks[..., 0] == 0
  any_known = 2 * images[~hole].var(0).mean()
  assert np.mean((completion(name)[2] - images)[hole] ** 2) < any_known / 1.5


def _patterns(height=22, width=19):
  """Returns float32 [3, H, W, 3]: stripes, slanted stripes, a checkerboard."""
  y, x = np.indices((height, width))
  patterns = [x // 2 % 2, (x + y) // 2 % 2, (x // 2 + y // 2) % 2]
  light, dark = np.float32([0.8, 0.4, -0.2]), np.float32([-0.6, 0, 0.4])
  return np.where(np.stack(patterns)[..., None] == 1, light, dark)


@every_method
def test_stripes_and_a_checkerboard_are_continued(name):
  images = _patterns()
  masks = _images()[1][:3]
  masks[:] = masks[:1]
  completed = METHODS[name](images * masks, masks)
  # Copies are exact; means of copies are rounded.
  np.testing.assert_allclose(
    completed, images, atol=0 if name in COPYING else 1e-5
  )


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_distances_are_those_of_a_loop_over_patches(share):
  rng = np.random.default_rng(0)
  size = 3
  levels = np.float32(rng.integers(-128, 128, (12, 14, 3)))
  known = rng.random((12, 14)) < share
  known[3:6, 3:5] = False
  targets = np.float32(rng.integers(-128, 128, (4, 9, 3)))
  weights = np.float32(rng.random((4, 9)) < 0.7)

  @jax.jit
  def distances(levels, known, targets, weights):
    sources = exemplars.sources(levels, known, size)
    return exemplars.distances(sources, targets, weights)

  found = np.asarray(distances(levels, known, targets, weights))

  padded = np.pad(levels, ((1, 1), (1, 1), (0, 0)))
  padded_known = np.pad(known, 1)
  patches = [np.s_[y : y + 3, x : x + 3] for y, x in np.ndindex(12, 14)]
  whole = np.array([padded_known[patch].all() for patch in patches])
  scattered = share < 1
  assert (whole.sum() < exemplars.MIN_SOURCES) == scattered
  colours = levels[known].astype(np.float64)
  prior = ((colours[:, None] - colours) ** 2).sum(-1).mean()
  more = exemplars.PRIOR_PIXELS if scattered else 0
  for target, weight, row in zip(targets, weights, found, strict=True):
    for number, patch in enumerate(patches):
      if not (known.reshape(-1) if scattered else whole)[number]:
        assert row[number] == np.inf
        continue
      both = weight * padded_known[patch].reshape(9)
      squares = ((target - padded[patch].reshape(9, 3)) ** 2).sum(-1)
      expected = (both @ squares + more * prior) / (both.sum() + more)
      np.testing.assert_allclose(row[number], expected, rtol=1e-5)


def test_what_is_drawn_lies_within_the_tolerance_and_all_of_it_is_drawn():
  distances = jnp.array([[5.0, 1.0, 1.05, 1.2, 1.1, jnp.inf]] * 200)
  drawn = exemplars.choose(jax.random.key(0), distances, 0.101)
  assert set(np.asarray(drawn).tolist()) == {1, 2, 4}


def test_patches_without_a_centre_are_refused():
  with pytest.raises(ValueError, match="4x4"):
    criminisi.complete(*_images(), patch_size=4)
