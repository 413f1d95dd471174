"""Realism and identity of completed and generated faces.

Squared error measures the distance of a completion from the one original, and
is least for the mean of all possible faces, which is blurred. These metrics
measure instead whether the completions are distributed as real faces are
(`distances`), whether they are still the same person, and how much several
completions of one hole differ. All are computed on features of the whole image,
including known pixels; see `features`.

The Fréchet distance, precision and recall depend on the number of images, and
are comparable only between sets of the same size. Below 10,000 images, use KID
with its standard error.
"""

from collections.abc import Sequence

import numpy as np

from dcgan_inpaint.metrics import distances
from dcgan_inpaint.metrics import features as features_lib
from dcgan_inpaint.metrics import pixel_errors


def evaluate(
  completed: np.ndarray,
  originals: np.ndarray,
  masks: np.ndarray,
  features: Sequence[features_lib.Features],
) -> dict[str, float]:
  """Returns the metrics of a set of completed images.

  Args:
    completed: uint8 [N, H, W, C].
    originals: uint8 [N, H, W, C], the images before their holes were cut.
    masks: [N, H, W, 1], 1 = known, 0 = hole. Images without a hole are left
      out.
    features: of `features.create`.

  Returns:
    The metrics of `compare`, with completions and originals as pairs, and those
    of `identity` for features that distinguish persons.
  """
  holed = (np.asarray(masks) < 0.5).any(axis=(1, 2, 3))
  result: dict[str, float] = {}
  for feature in features:
    result |= score_completions(
      feature,
      feature.extract(completed[holed]),
      feature.extract(originals[holed]),
    )
  return result


def score_completions(
  feature: features_lib.Features, completed: np.ndarray, originals: np.ndarray
) -> dict[str, float]:
  """Returns the metrics of completed images, from their features.

  Args:
    feature: the kind of features.
    completed: float [N, D].
    originals: float [N, D], of the images before their holes were cut.

  Returns:
    The metrics of `compare`, as pairs, and those of `identity` for features
    that distinguish persons.
  """
  result = compare(feature.name, completed, originals, paired=True)
  if feature.same_person is not None:
    result |= identity(completed, originals, feature.same_person)
  return result


def score_samples(
  generated: np.ndarray,
  reference: np.ndarray,
  features: Sequence[features_lib.Features],
) -> dict[str, float]:
  """Returns the metrics of samples of a generator.

  Args:
    generated: uint8 [N, H, W, C]; for CelebA at 64x64 the field uses 50,000.
    reference: uint8 [M, H, W, C], real images; M may differ from N.
    features: of `features.create`.

  Returns:
    The metrics of `compare`.
  """
  result: dict[str, float] = {}
  for feature in features:
    result |= compare(
      feature.name, feature.extract(generated), feature.extract(reference)
    )
  return result


def compare(
  name: str,
  generated: np.ndarray,
  reference: np.ndarray,
  paired: bool = False,
) -> dict[str, float]:
  """Returns the metrics that compare two sets of features.

  Args:
    name: of the features.
    generated: float [N, D].
    reference: float [M, D] of real images.
    paired: whether row i of both belongs to the same face.

  Returns:
    {`NAME_frechet`, `NAME_kid`, `NAME_kid_se` (its standard error),
    `NAME_precision`, `NAME_recall`, `NAME_n` (images generated),
    `NAME_n_reference`}; NaN if there are too few images for a metric.
  """
  kid, error = distances.kid(generated, reference, paired)
  precision, recall = distances.precision_recall(
    generated, reference, paired=paired
  )
  return {
    f"{name}_frechet": distances.frechet(generated, reference),
    f"{name}_kid": kid,
    f"{name}_kid_se": error,
    f"{name}_precision": precision,
    f"{name}_recall": recall,
    f"{name}_n": len(generated),
    f"{name}_n_reference": len(reference),
  }


def identity(
  completed: np.ndarray, originals: np.ndarray, same_person: float
) -> dict[str, float]:
  """Returns whether completed faces are still the same persons.

  Args:
    completed: float [N, D], features that distinguish persons.
    originals: float [N, D], of the original faces.
    same_person: the distance below which two faces are considered the same
      person.

  Returns:
    {`identity`: the mean distance of a completed face from its original, less
    is better; `identity_ci95`: the half width of its interval; `identity_kept`:
    the fraction of faces within `same_person` of their original;
    `identity_of_others`: the mean distance of an original from another one, for
    comparison}.
  """
  apart = np.linalg.norm(completed - originals, axis=1)
  others = np.linalg.norm(originals - np.roll(originals, 1, axis=0), axis=1)
  mean, half_width = pixel_errors.summarise(apart)
  return {
    "identity": mean,
    "identity_ci95": half_width,
    "identity_kept": float(np.mean(apart < same_person))
    if len(apart)
    else np.nan,
    "identity_of_others": float(others.mean()) if len(others) > 1 else np.nan,
  }


def score_diversity(
  samples: np.ndarray, features: Sequence[features_lib.Features]
) -> dict[str, float]:
  """Returns how much several completions of each hole differ.

  Args:
    samples: uint8 [N, S, H, W, C], S completions of each of N images.
    features: of `features.create`.

  Returns:
    {`NAME_diversity`: the mean of `diversity`, `NAME_diversity_ci95`}.
  """
  result: dict[str, float] = {}
  for feature in features:
    flat = feature.extract(samples.reshape(-1, *samples.shape[2:]))
    values = diversity(flat.reshape(*samples.shape[:2], -1))
    mean, half_width = pixel_errors.summarise(values)
    result[f"{feature.name}_diversity"] = mean
    result[f"{feature.name}_diversity_ci95"] = half_width
  return result


def diversity(samples: np.ndarray) -> np.ndarray:
  """Returns the mean distance between two samples of one image, [N].

  As the diversity of BicycleGAN and PIC (Zhu et al. 2017, arXiv 1711.11586;
  Zheng et al. 2019, arXiv 1903.04227), which use LPIPS as the distance. More is
  not necessarily better: noise is diverse.

  Args:
    samples: float [N, S, D], features of S samples of each image; NaN for
      S = 1.
  """
  n, count, _ = samples.shape
  first, second = np.triu_indices(count, k=1)
  if not len(first):
    return np.full(n, np.nan)
  pairs = samples[:, first] - samples[:, second]
  return np.linalg.norm(pairs, axis=2).mean(axis=1)
