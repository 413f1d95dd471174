import itertools

import numpy as np
import pytest
from scipy import linalg

from dcgan_inpaint.metrics import distances


def _features(n, d, seed=0):
  """Returns correlated float64 [n, d] with unequal variances."""
  rng = np.random.default_rng(seed)
  mixing = rng.normal(size=(d, d)) / np.arange(1, d + 1)
  return rng.normal(size=(n, d)) @ mixing + rng.normal(size=d)


# The Fréchet distance.


def test_frechet_is_the_formula_with_scipy_s_root():
  x, y = _features(200, 16), _features(90, 16, seed=1)
  cx, cy = np.cov(x.T), np.cov(y.T)
  root = linalg.sqrtm(cx @ cy)
  expected = ((x.mean(0) - y.mean(0)) ** 2).sum()
  expected += np.trace(cx + cy - 2 * root.real)
  assert distances.frechet(x, y) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n, d", [(50, 6), (5, 40)])
def test_frechet_of_a_set_shifted_or_stretched(n, d):
  # Also with fewer images than values, whose covariance is singular.
  x = _features(n, d)
  shift = np.linspace(-1, 1, d)
  total = np.trace(np.cov(x.T))
  mean = x.mean(0)
  assert distances.frechet(x, x) == pytest.approx(0, abs=1e-10 * total)
  assert distances.frechet(x + shift, x) == pytest.approx((shift**2).sum())
  stretched = mean + 3 * (x - mean)
  assert distances.frechet(stretched, x) == pytest.approx(4 * total)


def test_frechet_of_uncorrelated_values_is_a_sum_over_them():
  signs = linalg.hadamard(8)[:, 1:4].astype(
    float
  )  # Orthogonal columns, mean 0.
  a, b = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 2.0])
  expected = 8 / 7 * ((a - b) ** 2).sum()
  assert distances.frechet(a * signs, b * signs) == pytest.approx(expected)


def test_few_images_make_the_frechet_distance_larger():
  rng = np.random.default_rng(0)

  def mean_distance(n):
    return np.mean(
      [distances.frechet(*rng.normal(size=(2, n, 10))) for _ in range(30)]
    )

  few, many = mean_distance(50), mean_distance(500)
  assert few / many == pytest.approx(10, rel=0.2)  # A constant over N.


# KID.


def _kernel(x, y):
  return (x @ y / len(x) + 1) ** 3


def _mmd(x, y, paired=False):
  """Returns the unbiased estimate, pair by pair."""

  def mean(a, b, without_own):
    return np.mean(
      [
        _kernel(a[i], b[j])
        for i in range(len(a))
        for j in range(len(b))
        if i != j or not without_own
      ]
    )

  return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, paired)


@pytest.mark.parametrize(
  "n, m, paired", [(7, 7, False), (7, 7, True), (5, 9, False)]
)
def test_kid_is_the_unbiased_mmd_and_its_error_the_jackknife_s(n, m, paired):
  x, y = _features(n, 4), _features(m, 4, seed=1)
  value, error = distances.kid(x, y, paired)
  assert value == pytest.approx(_mmd(x, y, paired))
  if n == m:  # Subsets of one image.
    without = np.array(
      [
        _mmd(np.delete(x, i, axis=0), np.delete(y, i, axis=0), paired)
        for i in range(n)
      ]
    )
    variance = (n - 1) / n * ((without - without.mean()) ** 2).sum()
    assert error == pytest.approx(np.sqrt(variance))


def test_kid_is_the_mean_over_all_subsets():
  # The mean over the paper's random subsets.
  x, y = _features(5, 3), _features(6, 3, seed=1)
  subsets = [
    _mmd(x[list(i)], y[list(j)])
    for i in itertools.combinations(range(5), 3)
    for j in itertools.combinations(range(6), 3)
  ]
  assert distances.kid(x, y)[0] == pytest.approx(np.mean(subsets))


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [80, 130])
def test_kid_s_standard_error_is_its_spread(n, paired):
  rng = np.random.default_rng(0)
  values, errors = [], []
  for _ in range(200):
    x = rng.normal(size=(n, 8))
    # Like a completion, which shares its known pixels with its original.
    y = rng.normal(0.4, 1, size=(n, 8)) + (x if paired else 0)
    value, error = distances.kid(x, y, paired)
    values.append(value)
    errors.append(error)
  assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_kid_of_one_distribution_is_zero_in_the_mean():
  rng = np.random.default_rng(0)
  pairs = []
  for _ in range(400):
    face, known = rng.normal(size=(2, 20, 8)), rng.normal(size=(20, 8))
    pairs.append(distances.kid(face[0] + known, face[1] + known, paired=True))
  values = np.array(pairs)[:, 0]
  assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))


# Precision and recall.


def _covered(points, cover, k, paired=False):
  """Returns whether each point is in a ball of the cover, one by one."""
  result = []
  for i, point in enumerate(points):
    inside = False
    for j, centre in enumerate(cover):
      others = np.delete(cover, j, axis=0)
      radius = np.sort(np.linalg.norm(others - centre, axis=1))[k - 1]
      if not (paired and i == j):
        inside |= np.linalg.norm(point - centre) <= radius
    result.append(inside)
  return np.mean(result)


@pytest.mark.parametrize("paired", [False, True])
def test_precision_and_recall_by_the_definition(paired):
  rng = np.random.default_rng(0)
  real = rng.normal(size=(40, 3))
  generated = rng.normal(0.7, 0.7, size=(40, 3))
  precision, recall = distances.precision_recall(generated, real, 3, paired)
  assert precision == _covered(generated, real, 3, paired)
  assert recall == _covered(real, generated, 3, paired)
  assert 0.2 < recall < precision < 1


def test_precision_and_recall_of_points_on_a_line():
  # The balls around 0, 1, 3 and 7 have radii of 1, 1, 2 and 4.
  real = np.array([[0.0], [1.0], [3.0], [7.0]])
  # Of these, -2 and 12 are in none. Their radii are 3.5, 3.5, 3 and 7.5.
  generated = np.array([[-2.0], [1.5], [4.5], [12.0]])
  assert distances.precision_recall(generated, real, 1) == (0.5, 1.0)


def test_one_kind_of_face_costs_recall_and_nonsense_costs_precision():
  rng = np.random.default_rng(0)
  real = rng.normal(size=(300, 4))
  alike = rng.normal(scale=0.3, size=(300, 4))
  precision, recall = distances.precision_recall(alike, real)
  assert precision > 0.9 and recall < 0.2
  assert distances.precision_recall(real + 100, real) == (0, 0)


# All.


def test_blocks_change_nothing(monkeypatch):
  x, y = _features(130, 5), _features(90, 5, seed=1)
  whole = (*distances.kid(x, y), *distances.precision_recall(x, y))
  monkeypatch.setattr(distances, "_BLOCK", 1000)
  blocks = (*distances.kid(x, y), *distances.precision_recall(x, y))
  np.testing.assert_allclose(blocks, whole, rtol=1e-9)


def test_too_few_images_have_no_figure():
  x, y = _features(1, 4), _features(9, 4)
  assert np.isnan(distances.frechet(x, y))
  assert np.isnan(distances.kid(x, y)).all()
  assert np.isnan(distances.precision_recall(y[:3], y)).all()
  value, error = distances.kid(y[:2], y)
  assert np.isfinite(value) and np.isnan(error)


@pytest.mark.parametrize("figure", ["kid", "precision_recall"])
def test_pairs_need_sets_of_one_size(figure):
  with pytest.raises(ValueError, match="4 and 5"):
    getattr(distances, figure)(_features(4, 3), _features(5, 3), paired=True)
