"""What the job `benchmark` stores of each chunk of images: files in `parts/`.

A file holds the results of one method for one chunk of images under one mask,
with a digest of everything that they depend on. Where the digest differs, the
file is not used.
"""

from collections.abc import Collection
from collections.abc import Sequence
import math
import pathlib
import re
from typing import NamedTuple

from absl import logging
import numpy as np

from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import untrusted

# What a metric can be but for rounding, by a part of its name. PSNR is infinite
# where an image is completed to the bit.
_RANGES = {
  "mse": (0, 255**2 + 1),
  "psnr": (-0.01, math.inf),
  "ssim": (-1.01, 1.01),
  "sharpness": (0, math.inf),
}


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
  path: pathlib.Path,
  digest: str,
  shown: int,
  features: Sequence[str] = (),
  *,
  image_shape: tuple[int, ...] | None = None,
  count: int | None = None,
  names: Collection[str] | None = None,
) -> Part | None:
  """Returns a part, or None if it must be run.

  Args:
    path: the file, which may be missing or damaged.
    digest: of what the part depends on now.
    shown: number of completed images that it must hold.
    features: names of the features that it must hold.
    image_shape: of a completed image, [H, W, C]; None takes any.
    count: of its images; None takes any.
    names: of its metrics; None takes any.
  """
  try:
    arrays = untrusted.read_npz(untrusted.read_bytes(path))
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
    part = Part(
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
    _check(part, image_shape or pictures.shape[1:], count or len(failed), names)
    return part
  except FileNotFoundError:
    return None
  # numpy and zipfile raise many kinds.
  except Exception as error:  # noqa: BLE001
    logging.warning("%s cannot be read (%s): run again", path, error)
    return None


def _check(
  part: Part,
  image_shape: tuple[int, ...],
  count: int,
  names: Collection[str] | None,
) -> None:
  """Raises ValueError where a part cannot be what was made of its images.

  Args:
    part: the part.
    image_shape: of its pictures.
    count: of its images.
    names: of its metrics; None takes any.
  """
  pictures, failed = part.pictures, part.failed
  if failed.dtype != bool or failed.shape != (count,):
    raise ValueError("'failed' is not of its images")
  if pictures.dtype != np.uint8 or pictures.shape[1:] != image_shape:
    raise ValueError("the pictures are not of its images")
  if any(values.shape[:1] != (count,) for values in part.features.values()):
    raise ValueError("the features are not of its images")
  if names is not None and set(part.metrics) != set(names):
    raise ValueError("its metrics are other ones")
  for name, values in part.metrics.items():
    if values.dtype.kind != "f" or values.shape != (count,):
      raise ValueError(f"{name!r} is not of its images")
    least, most = next(
      (r for end, r in _RANGES.items() if end in name), (-math.inf, math.inf)
    )
    if ((values < least) | (values > most)).any():  # NaN is neither.
      raise ValueError(f"{name!r} has values that cannot be")
  if not 0 <= part.seconds < math.inf or part.fit_seconds < 0:
    raise ValueError("its times cannot be")


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
