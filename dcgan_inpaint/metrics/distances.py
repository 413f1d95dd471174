"""Distances of two sets of features: Fréchet distance, KID, precision, recall.

All compare distributions, not images, in NumPy's float64. Features are [N, D]
arrays, one row per image.

Two sets may be `paired`: row i of both then belongs to the same face, completed
and original. Such a pair is closer than the faces of two persons, which
reflects the completion's error and not its realism, so KID, precision and
recall exclude these pairs. The Fréchet distance cannot: a small paired set is
closer than as many real faces of other persons.
"""

import numpy as np
import numpy.typing as npt

# Values in a block of distances or products, 128 MB.
_BLOCK = 2**24
# Groups of images, each left out in turn, for KID's standard error.
_GROUPS = 100


def frechet(generated: np.ndarray, reference: np.ndarray) -> float:
  """Returns the Fréchet distance of two sets of features.

  Heusel et al. 2017, arXiv 1706.08500, equation 6 (Dowson & Landau 1982): with
  a Gaussian fitted to each set, `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`.
  On Inception's features this is the FID.

  It is biased: with N images it is larger by about a constant over N, and the
  constant differs from one generator to the next (Chong & Forsyth 2020, arXiv
  1911.07023). Only values for the same number of images are comparable; the
  field uses 50,000. Below 10,000, use `kid`.

  C1 C2 is never formed. With `C = F^T F`, the trace of its root is the sum of
  the singular values of `F1 F2^T`, which avoids the root of rounding errors and
  works with fewer images than values.

  Args:
    generated: float [N, D].
    reference: float [M, D].

  Returns:
    A value of 0 or more; NaN if a set has fewer than two images.
  """
  if min(len(generated), len(reference)) < 2:
    return np.nan
  (mean1, factor1), (mean2, factor2) = map(_gaussian, (generated, reference))
  root = np.linalg.svd(factor1 @ factor2.T, compute_uv=False).sum()
  distance = np.sum((mean1 - mean2) ** 2) - 2 * root
  distance += np.sum(factor1**2) + np.sum(factor2**2)
  return max(0.0, float(distance))


def kid(
  generated: np.ndarray, reference: np.ndarray, paired: bool = False
) -> tuple[float, float]:
  """Returns the kernel Inception distance of two sets, and its standard error.

  Bińkowski et al. 2018, arXiv 1801.01401, section 4: the unbiased estimate of
  the squared maximum mean discrepancy with the kernel `(x . y / D + 1)^3`. Sets
  of any size are comparable, and two sets of the same distribution have an
  expected value of 0 (a single value may be negative). The paper takes the mean
  over random subsets of 1,000 images, to save time; this is the limit of that
  mean, over all pairs of images. The cost is quadratic: 10,000 images take a
  CPU core 7 s with 128 values each, and about 45 s with 2,048. Tables often
  print 1,000 times the value.

  The standard error is the jackknife's (Efron & Stein 1981): the images are
  randomly divided into up to 100 subsets, and each is left out in turn.

  Args:
    generated: float [N, D].
    reference: float [M, D].
    paired: whether row i of both belongs to the same face; see above.

  Returns:
    (distance, standard error), NaN if a set has fewer than two or three images.

  Raises:
    ValueError: paired sets differ in size.
  """
  _check_pairs(generated, reference, paired)
  if min(len(generated), len(reference)) < 2:
    return np.nan, np.nan
  count = min(_GROUPS, len(generated), len(reference))
  x, starts_x = _in_groups(generated, count)
  y, starts_y = _in_groups(reference, count)
  n, m = _counts(starts_x, len(x)), _counts(starts_y, len(y))
  sums_x, own_x = _kernel_sums(x, starts_x, x, starts_x)
  sums_y, own_y = _kernel_sums(y, starts_y, y, starts_y)
  sums, own = _kernel_sums(x, starts_x, y, starts_y)
  # The value with all groups, and the values without each of them.
  with np.errstate(invalid="ignore", divide="ignore"):
    values = (sums_x - own_x) / (n * (n - 1)) + (sums_y - own_y) / (m * (m - 1))
    if paired:
      values -= 2 * (sums - own) / (n * (n - 1))
    else:
      values -= 2 * sums / (n * m)
    whole, without = values[0], values[1:]
    variance = (count - 1) * np.mean((without - without.mean()) ** 2)
  return float(whole), float(np.sqrt(variance))


def precision_recall(
  generated: np.ndarray,
  reference: np.ndarray,
  neighbours: int = 3,
  paired: bool = False,
) -> tuple[float, float]:
  """Returns improved precision and recall of generated images.

  Kynkäänniemi et al. 2019, arXiv 1904.06991: a set covers the balls around its
  images whose radius is the distance to the third nearest neighbour in the set.
  Precision is the fraction of generated images that the real ones cover, recall
  the fraction of real images that the generated ones cover. Both depend on the
  number of images: only values for the same number are comparable; the paper
  uses 50,000.

  Args:
    generated: float [N, D].
    reference: float [M, D].
    neighbours: k; the paper's 3.
    paired: whether row i of both belongs to the same face; see above.

  Returns:
    (precision, recall), each 0 to 1; NaN if a set has no k-th neighbour.

  Raises:
    ValueError: paired sets differ in size.
  """
  _check_pairs(generated, reference, paired)
  if min(len(generated), len(reference)) <= neighbours:
    return np.nan, np.nan
  generated, reference = _float(generated), _float(reference)
  reach, reach_generated = (
    _reach(features, neighbours) for features in (reference, generated)
  )
  covered = np.zeros(len(generated), bool)
  covered_reference = np.zeros(len(reference), bool)
  for rows in _blocks(len(generated), len(reference)):
    squares = _squared_distances(generated[rows], reference)
    if paired:
      squares[np.arange(len(squares)), np.arange(len(generated))[rows]] = np.inf
    covered[rows] = np.any(squares <= reach, axis=1)
    covered_reference |= np.any(squares <= reach_generated[rows, None], axis=0)
  return float(covered.mean()), float(covered_reference.mean())


def _check_pairs(
  generated: np.ndarray, reference: np.ndarray, paired: bool
) -> None:
  if paired and len(generated) != len(reference):
    raise ValueError(f"pairs of {len(generated)} and {len(reference)} images")


def _float(features: npt.ArrayLike) -> np.ndarray:
  return np.asarray(features, np.float64)


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the mean [D], and F [min(N, D), D] with covariance `F^T F`."""
  features = _float(features)
  mean = features.mean(axis=0)
  factor = np.linalg.qr(features - mean, mode="r")
  return mean, factor / np.sqrt(len(features) - 1)


def _in_groups(
  features: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the features in random order, and where each group starts.

  Sets of the same size get the same order, so that pairs stay pairs.
  """
  order = np.random.default_rng(0).permutation(len(features))
  starts = np.arange(count) * len(features) // count
  return _float(features)[order], starts


def _counts(starts: np.ndarray, total: int) -> np.ndarray:
  """Returns the number of images, in all and without each group, [1 + G]."""
  return total - np.append(0, np.diff(starts, append=total))


def _kernel_sums(
  x: np.ndarray, starts_x: np.ndarray, y: np.ndarray, starts_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the kernel's sums over pairs of rows of x and y.

  Returns:
    The sum over all pairs, and without each group of both sets, [1 + G]; and
    likewise over the pairs of row i with row i, 0 if the sizes differ.
  """

  def kernel(products: np.ndarray) -> np.ndarray:
    values = products / x.shape[1] + 1
    return values * values * values

  columns = np.zeros((len(x), len(starts_y)))
  for rows in _blocks(len(x), len(y)):
    values = kernel(x[rows] @ y.T)
    columns[rows] = np.add.reduceat(values, starts_y, axis=1)
  sums = np.add.reduceat(columns, starts_x, axis=0)
  touched = sums.sum(axis=0) + sums.sum(axis=1) - np.diagonal(sums)
  total = sums.sum() - np.append(0, touched)
  if len(x) != len(y):
    return total, np.zeros_like(total)
  own = np.add.reduceat(kernel(np.einsum("nd,nd->n", x, y)), starts_x)
  return total, own.sum() - np.append(0, own)


def _reach(features: np.ndarray, neighbours: int) -> np.ndarray:
  """Returns the squared distance to the k-th neighbour of each, [N]."""
  reach = np.zeros(len(features))
  for rows in _blocks(len(features), len(features)):
    squares = _squared_distances(features[rows], features)
    # Because of rounding, the distance to itself is not exactly 0.
    squares[np.arange(len(squares)), np.arange(len(features))[rows]] = -1
    reach[rows] = np.partition(squares, neighbours, axis=1)[:, neighbours]
  return reach


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns [N, M] of features [N, D] and [M, D]."""
  squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
  return np.maximum(squares - 2 * (x @ y.T), 0)


def _blocks(rows: int, columns: int) -> list[slice]:
  """Returns slices of the rows of a [rows, columns] matrix, of bounded size."""
  step = max(1, _BLOCK // columns)
  return [slice(first, first + step) for first in range(0, rows, step)]
