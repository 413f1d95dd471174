"""What the job `benchmark` stores of each chunk of images: files in `parts/`.

A file holds the results of one method for one chunk of images under one mask,
with a digest of everything that they depend on. Where the digest differs, the
file is not used.
"""

from collections.abc import Sequence
import pathlib
import re
from typing import NamedTuple

from absl import logging
import numpy as np

from dcgan_inpaint.runtime import files


class Part(NamedTuple):
  """The results of a method for N images under one mask.

  Attributes:
    metrics: {metric: float32 [N]}, NaN where the method failed.
    failed: bool [N].
    seconds: of the method for all N, without compilation and fitting.
    fit_seconds: of the fit to training images before; NaN without one.
    pictures: uint8 [K, H, W, C], those completed images that are shown.
    features: {name: float32 [N, D]} of the completed images.
  """

  metrics: dict[str, np.ndarray]
  failed: np.ndarray
  seconds: float
  fit_seconds: float
  pictures: np.ndarray
  features: dict[str, np.ndarray]


_FEATURES = "features_"  # Before the name of an array of features.


def file_name(mask: str) -> str:
  """Returns a mask's name as the name of a file or folder."""
  return re.sub(r"[^a-z0-9.]+", "_", mask.lower()).strip("_.")


def write(path: pathlib.Path, digest: str, part: Part) -> None:
  """Writes a part.

  Args:
    path: the file.
    digest: of what the part depends on.
    part: the part.
  """
  fields = part._asdict()
  metrics = fields.pop("metrics")
  arrays = metrics | {
    f"{_FEATURES}{name}": array
    for name, array in fields.pop("features").items()
  }
  with files.replacing(path) as temporary, temporary.open("wb") as file:
    np.savez(file, digest=digest, **arrays, **fields)


def read(
  path: pathlib.Path, digest: str, shown: int, features: Sequence[str] = ()
) -> Part | None:
  """Returns a part, or None if it must be run.

  Args:
    path: the file, which may be missing or damaged.
    digest: of what the part depends on now.
    shown: number of completed images that it must hold.
    features: names of the features that it must hold.
  """
  try:
    # numpy leaves a file open that it cannot read.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
      arrays = dict(file)
    if str(arrays.pop("digest")) != digest:
      logging.info(
        "%s is of other images, holes, settings or devices: run again", path
      )
      return None
    failed, pictures = arrays.pop("failed"), arrays.pop("pictures")
    if len(pictures) < shown:
      return None
    if any(f"{_FEATURES}{name}" not in arrays for name in features):
      logging.info("%s is without the features to score by: run again", path)
      return None
    arrays.pop("figures", None)  # Older files hold this placeholder.
    return Part(
      seconds=float(arrays.pop("seconds")),
      fit_seconds=float(arrays.pop("fit_seconds")),
      failed=failed,
      pictures=pictures[:shown],
      features={
        name.removeprefix(_FEATURES): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(_FEATURES)
      },
      metrics=arrays,
    )
  except FileNotFoundError:
    return None
  # numpy and zipfile raise many kinds.
  except Exception as error:  # noqa: BLE001
    logging.warning("%s cannot be read (%s): run again", path, error)
    return None


def join(parts: Sequence[Part]) -> Part:
  """Returns the parts of one method and mask as one.

  Args:
    parts: in the order of their images.
  """
  return Part(
    metrics={
      name: np.concatenate([part.metrics[name] for part in parts])
      for name in parts[0].metrics
    },
    failed=np.concatenate([part.failed for part in parts]),
    seconds=sum(part.seconds for part in parts),
    # An interrupted run fits again: the same fit, timed twice.
    fit_seconds=float(np.mean([part.fit_seconds for part in parts])),
    pictures=np.concatenate([part.pictures for part in parts]),
    features={
      name: np.concatenate([part.features[name] for part in parts])
      for name in parts[0].features
    },
  )
