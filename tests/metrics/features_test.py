import numpy as np
import pytest

from dcgan_inpaint.metrics import features
from dcgan_inpaint.runtime import errors


def _images(n, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (n, 8, 6, 3), dtype=np.uint8)


def test_raw_features_are_principal_components():
  images, others = _images(40), _images(7, seed=1)
  extract = features.create("raw", reference=images).extract
  flat = np.float64(images).reshape(40, -1)
  mean = flat.mean(axis=0)
  _, values, vectors = np.linalg.svd(flat - mean, full_matrices=False)
  assert extract(others).shape == (7, 39)  # One less: the mean.
  expected = (others.reshape(7, -1) - mean) @ vectors[:39].T
  variances = values[:39] ** 2 / 40
  expected /= np.sqrt(variances.mean())
  # The sign of a component is arbitrary.
  np.testing.assert_allclose(
    np.abs(extract(others)), np.abs(expected), rtol=1e-3, atol=1e-3
  )
  np.testing.assert_allclose(
    extract(images).var(axis=0), variances / variances.mean(), rtol=1e-3
  )


def test_raw_features_keep_distances_but_for_their_scale():
  # Images that differ in only two directions.
  rng = np.random.default_rng(0)
  directions = rng.integers(-20, 21, (2, 8, 6, 3))
  weights = rng.integers(-2, 3, (30, 2))
  images = np.uint8(128 + np.tensordot(weights, directions, axes=1))
  found = features.create("raw", reference=images).extract(images)
  assert found.shape == (30, 2)
  flat = np.float64(images).reshape(30, -1)
  scale = np.sqrt(flat.var(axis=0).sum() / 2)
  for i in range(1, 30):
    apart = np.linalg.norm(flat[0] - flat[i]) / scale
    assert np.linalg.norm(found[0] - found[i]) == pytest.approx(apart, abs=1e-4)


def test_raw_features_look_at_the_hole_alone():
  hole = np.zeros((8, 6), bool)
  hole[2:5, 1:4] = True
  images = _images(20)
  extract = features.create("raw", reference=images, hole=hole).extract
  other = np.where(hole[..., None], images, 255 - images)
  np.testing.assert_array_equal(extract(other), extract(images))
  other = np.where(hole[..., None], 255 - images, images)
  assert not np.allclose(extract(other), extract(images))


def test_raw_features_of_many_images(monkeypatch):
  monkeypatch.setattr(features, "_FITTED", 16)
  images = _images(40)
  found = features.create("raw", reference=images).extract(images)
  assert found.shape == (40, 15)
  extract = features.create("raw", reference=images[[0, 10, 20, 30]]).extract
  np.testing.assert_allclose(
    extract(images[:1]), extract(images)[:1], rtol=1e-5, atol=1e-3
  )


@pytest.mark.parametrize("count", [0, 1, 5, 32, 70])
def test_batches_are_of_one_size_and_change_nothing(count):
  sizes = []

  def means(images):
    sizes.append(len(images))
    return images.mean(axis=(1, 2))

  images = _images(count)
  found = features._in_batches(means, images)
  np.testing.assert_array_equal(found, images.mean(axis=(1, 2)))
  assert len(set(sizes)) == 1 and max(sizes) <= 32


def test_grey_images_are_seen_as_colours():
  grey = _images(5)[..., :1]
  found = features._in_batches(lambda images: images.sum(axis=(1, 2, 3)), grey)
  np.testing.assert_array_equal(found, 3 * grey.sum(axis=(1, 2, 3)))
  raw = features.create("raw", reference=grey)
  assert raw.extract(grey).shape[0] == 5


def test_an_unknown_name_is_refused_with_the_choices():
  with pytest.raises(errors.UserError, match="config.x='vgg'.*dlib.*raw"):
    features.create("vgg", field="config.x")


@pytest.mark.parametrize("name, match", [("dlib", "landmarks"), ("raw", "fit")])
def test_a_caller_that_forgets_an_argument_is_told(name, match):
  with pytest.raises(ValueError, match=match):
    features.create(name)


def test_inception_without_weights_is_refused():
  with pytest.raises(errors.UserError, match="inception.*npz"):
    features.create("inception")
