"""Features of whole images, by name, behind one interface.

Squared error rewards blur. Whether images look like real ones is measured on
features, which `realism` compares:

- `dlib`: the 128 values by which dlib recognises faces (`face_embedding`);
  needs the extra `faces`. Made for faces, and the only features that show
  whether a completed face is still the same person.
- `inception`: the 2,048 values of the Fréchet Inception distance
  (`inception`), for metrics like those in the literature; needs a file of its
  weights. It was trained on objects, and largely sees the hair, the hat and
  the background of a face (Kynkäänniemi et al. 2023, arXiv 2203.06026).
- `raw`: the principal components of the pixels; needs nothing, rewards what
  squared error rewards, and serves as a check on the others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dcgan_inpaint.runtime import errors

NAMES = ("dlib", "inception", "raw")

# Principal components of `raw`.
COMPONENTS = 100
# The largest number of images that they are fitted to, in a few seconds.
_FITTED = 2_000
# Images in a batch; the largest, Inception's, have 299x299 pixels.
_BATCH = 32


class Features(NamedTuple):
  """A way to describe images by a few values each.

  Attributes:
    name: one of `NAMES`, for the names of metrics.
    extract: from images, uint8 [N, H, W, C], to features, float32 [N, D].
    same_person: the distance below which two faces are considered the same
      person, or None if the features do not show that.
  """

  name: str
  extract: Callable[[np.ndarray], np.ndarray]
  same_person: float | None = None


def create(
  name: str,
  *,
  landmarks: np.ndarray | None = None,
  weights: str = "",
  reference: np.ndarray | None = None,
  hole: np.ndarray | None = None,
  field: str = "config.evaluation.features",
) -> Features:
  """Returns the features of a name.

  Args:
    name: one of `NAMES`.
    landmarks: for 'dlib': float [5, 2], the positions of the left eye (of the
      picture), the right eye, the nose and the two corners of the mouth in the
      images (x, y), as fractions of their width and height.
    weights: for 'inception': the file; see `inception.read`.
    reference: for 'raw': uint8 [N, H, W, C], real images that the components
      are fitted to. They should not include the images that are scored, which
      would then score too well.
    hole: for 'raw': bool [H, W], the pixels that are used; all of them by
      default.
    field: the config's name for `name`, for messages.

  Raises:
    errors.UserError: the name is unknown, or a library or file is missing.
    ValueError: a required argument is missing.
  """
  if name == "dlib":
    from dcgan_inpaint.metrics import face_embedding

    if landmarks is None:
      raise ValueError("dlib's features need the landmarks of the crop")
    embed = face_embedding.create(landmarks, field)
    return Features(
      name,
      lambda images: _in_batches(embed, images),
      face_embedding.SAME_PERSON,
    )
  if name == "inception":
    from dcgan_inpaint.metrics import inception

    pool = inception.create(weights)
    return Features(name, lambda images: _in_batches(pool, images))
  if name == "raw":
    if reference is None:
      raise ValueError("raw features need images to fit the components to")
    return Features(name, principal_components(reference, hole))
  raise errors.UserError(
    f"{field}={name!r}: there are no such features; choose among "
    f"{', '.join(NAMES)}"
  )


def principal_components(
  reference: np.ndarray,
  hole: np.ndarray | None = None,
  components: int = COMPONENTS,
) -> Callable[[np.ndarray], np.ndarray]:
  """Fits principal components to real images.

  Args:
    reference: uint8 [N, H, W, C]. Of more than 2,000 images, 2,000 evenly
      spaced ones are used.
    hole: bool [H, W], the pixels that are used; all by default.
    components: how many; fewer if there are fewer images or values.

  Returns:
    A function from images, uint8 [N, H, W, C], to their coordinates along the
    components, float32 [N, D], relative to the mean image's. All are divided by
    one number, so that the mean of the real images' variances is 1: KID's
    kernel expects values of that order.
  """
  if hole is None:
    hole = np.ones(reference.shape[1:3], bool)

  def values(images: np.ndarray) -> np.ndarray:
    return images[:, hole].reshape(len(images), -1).astype(np.float32)

  count = min(len(reference), _FITTED)
  fitted = values(reference[np.arange(count) * len(reference) // count])
  mean = fitted.mean(axis=0, dtype=np.float64).astype(np.float32)
  fitted -= mean
  # The eigenvectors of the Gram matrix give those of the covariance matrix,
  # which is far larger.
  variances, vectors = np.linalg.eigh(fitted @ fitted.T)
  # Directions without variance, up to rounding, are left out.
  kept = max(1, min(components, int(np.sum(variances > 1e-6 * variances[-1]))))
  basis, _ = np.linalg.qr(fitted.T @ vectors[:, ::-1][:, :kept])
  variance = np.mean(variances[::-1][:kept]) / count
  if variance > 0:
    basis /= np.sqrt(variance)

  def extract(images: np.ndarray) -> np.ndarray:
    parts = [
      (values(images[first : first + _FITTED]) - mean) @ basis
      for first in range(0, len(images), _FITTED)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, kept), np.float32)

  return extract


def _in_batches(
  function: Callable[[np.ndarray], npt.ArrayLike], images: np.ndarray
) -> np.ndarray:
  """Returns a compiled function's results for any number of images.

  The last batch is padded, so that one program serves all batches. Grey images
  get three equal channels.
  """
  images = np.broadcast_to(images, (*images.shape[:-1], 3))
  size = max(1, min(_BATCH, len(images)))
  parts = []
  for first in range(0, max(1, len(images)), size):
    batch = images[first : first + size]
    padded = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
    parts.append(np.asarray(function(padded))[: len(batch)])
  return np.concatenate(parts)
