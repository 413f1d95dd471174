import zipfile

import numpy as np
from PIL import Image
from PIL import ImageFilter
import pytest

from dcgan_inpaint.metrics import distances
from dcgan_inpaint.metrics import features
from dcgan_inpaint.metrics import realism
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import dlib_faces

needs_dlib = pytest.mark.skipif(
  not dlib_faces.is_installed(), reason="needs the extra faces"
)


def _colour(images):
  return images.mean(axis=(1, 2)).astype(np.float32)


COLOUR = features.Features("colour", _colour)
PERSON = features.Features("person", _colour, same_person=5.0)


def _images(n, seed=0, height=8):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (n, height, height, 3), dtype=np.uint8)


def _masks(n):
  masks = np.ones((n, 8, 8, 1), np.float32)
  masks[:, 2:6, 2:6] = 0
  return masks


def test_a_set_is_scored_on_each_of_its_features():
  completed, originals = _images(20), _images(20, seed=1)
  found = realism.evaluate(completed, originals, _masks(20), [COLOUR])
  a, b = _colour(completed), _colour(originals)
  kid, error = distances.kid(a, b, paired=True)
  precision, recall = distances.precision_recall(a, b, paired=True)
  assert found == {
    "colour_frechet": distances.frechet(a, b),
    "colour_kid": kid,
    "colour_kid_se": error,
    "colour_precision": precision,
    "colour_recall": recall,
    "colour_n": 20,
    "colour_n_reference": 20,
  }
  both = realism.evaluate(completed, originals, _masks(20), [COLOUR, PERSON])
  assert both.items() > found.items()
  assert "identity" in both and "person_kid" in both


def test_images_without_a_hole_are_left_out():
  completed, originals, masks = _images(20), _images(20, seed=1), _masks(20)
  masks[5:9] = 1
  kept = np.r_[0:5, 9:20]
  assert realism.evaluate(
    completed, originals, masks, [PERSON]
  ) == realism.evaluate(completed[kept], originals[kept], masks[kept], [PERSON])


def test_samples_need_not_be_as_many_as_real_images():
  generated, real = _images(30), _images(50, seed=1)
  found = realism.score_samples(generated, real, [COLOUR])
  assert found["colour_n"] == 30 and found["colour_n_reference"] == 50
  assert (
    found["colour_kid"] == distances.kid(_colour(generated), _colour(real))[0]
  )


def test_identity_is_the_distance_from_the_original():
  originals = np.array([[0.0, 0], [10, 0], [0, 10]])
  completed = originals + [[3, 4], [0, 1], [0, 0]]
  found = realism.identity(completed, originals, same_person=5)
  assert found["identity"] == 2
  # The standard deviation is the root of 7; t of 2 degrees is 4.302653.
  assert found["identity_ci95"] == pytest.approx(4.302653 * (7 / 3) ** 0.5)
  assert found["identity_kept"] == pytest.approx(2 / 3)  # 5 is too far.
  assert found["identity_of_others"] == pytest.approx((20 + 200**0.5) / 3)


def test_diversity_is_the_mean_distance_of_two_samples():
  # A triangle with sides of 3, 4 and 5, and three times the same.
  samples = np.array([[[0, 0], [3, 0], [0, 4]], [[1, 1]] * 3], float)
  np.testing.assert_allclose(realism.diversity(samples), [4, 0])
  assert np.isnan(realism.diversity(samples[:, :1])).all()


def test_the_diversity_of_images_is_that_of_their_features():
  samples = _images(12).reshape(4, 3, 8, 8, 3)
  found = realism.score_diversity(samples, [COLOUR])
  colours = np.stack([_colour(x) for x in samples])
  expected = realism.diversity(colours).mean()
  assert found["colour_diversity"] == pytest.approx(expected)
  assert found["colour_diversity_ci95"] > 0


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_set_too_small_has_no_figures_and_no_error(n):
  found = realism.evaluate(_images(n), _images(n, 1), _masks(n), [PERSON])
  assert np.isnan(found["person_precision"])
  assert np.isnan(found["person_kid"]) == (n < 2)
  assert np.isnan(found["identity"]) == (n == 0)


@pytest.mark.slow
@needs_dlib
def test_a_blur_costs_realism_and_identity(shared):
  with zipfile.ZipFile(shared / "celeba/faces64/validation.zip") as file:
    names = sorted(file.namelist())[:100]
    pictures = [Image.open(file.open(name)) for name in names]
    blurred = [p.filter(ImageFilter.GaussianBlur(2)) for p in pictures]
  faces, soft = np.stack(pictures), np.stack(blurred)
  masks = np.ones((100, 64, 64, 1), np.float32)
  masks[:, 16:48, 16:48] = 0
  completed = np.where(masks > 0, faces, soft)
  dlib = features.create("dlib", landmarks=detection.POINTS / alignment.SIZE)
  found = realism.evaluate(completed, faces, masks, [dlib])
  assert found["dlib_kid"] > 5 * found["dlib_kid_se"]
  assert 0.1 < found["identity"] < found["identity_of_others"]
  real = realism.score_samples(faces[::2], faces[1::2], [dlib])
  assert abs(real["dlib_kid"]) < 3 * real["dlib_kid_se"]
