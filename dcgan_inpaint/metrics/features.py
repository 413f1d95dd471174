"""What whole images are compared by: features, by name, behind one interface.

Squared error rewards blur. Whether images look like real ones is asked of
features, which `realism` compares:

- `dlib`: the 128 values by which dlib tells faces apart (`face_embedding`);
  needs the extra `faces`. Made for faces, and the only one that says whether a
  completed face is still the same person.
- `inception`: the 2,048 values of the Fréchet Inception distance
  (`inception`), for figures like those in print; needs a file of its weights.
  It was trained on objects, and much of what it sees of a face is the hair,
  the hat and the background (Kynkäänniemi et al. 2023, arXiv 2203.06026).
- `raw`: the pixels themselves, in their principal components; needs nothing,
  rewards what squared error rewards, and is there as a check on the others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dcgan_inpaint.runtime import errors

NAMES = ("dlib", "inception", "raw")

# Principal components of `raw`.
COMPONENTS = 100
# Images that those are fitted to, at the most: a few seconds.
_FITTED = 2_000
# Images at once, of which the largest, Inception's, are 299x299 pixels.
_BATCH = 32


class Features(NamedTuple):
  """A way to describe images by a few values each.

  Attributes:
    name: one of `NAMES`, for the names of metrics.
    extract: from images, uint8 [N, H, W, 3], to features, float32 [N, D].
    same_person: the distance below which two faces are taken for one person, or
      None where features do not tell that.
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
    landmarks: for 'dlib': float [5, 2], where the left eye (of the picture),
      the right eye, the nose and the two corners of the mouth lie in the images
      (x, y), as shares of their width and height.
    weights: for 'inception': the file; see `inception.read`.
    reference: for 'raw': uint8 [N, H, W, 3], real images that the components
      are fitted to. Fitted to the very images that are scored, they flatter
      these.
    hole: for 'raw': bool [H, W], the pixels that are looked at; all of them by
      default.
    field: the config's name for `name`, for messages.

  Raises:
    errors.UserError: there is no such name, or what it needs is missing.
    ValueError: an argument that it needs is missing.
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
    reference: uint8 [N, H, W, 3]. Of more than 2,000, as many are taken, spread
      evenly.
    hole: bool [H, W], the pixels that are looked at; all by default.
    components: how many; fewer where there are fewer images or values.

  Returns:
    A function from images, uint8 [N, H, W, 3], to their coordinates along the
    components, float32 [N, D], less the mean image's. All are divided by one
    number, which makes the real images' variances 1 in the mean: KID's kernel
    asks for values of that order.
  """
  if hole is None:
    hole = np.ones(reference.shape[1:3], bool)

  def values(images: np.ndarray) -> np.ndarray:
    return images[:, hole].reshape(len(images), -1).astype(np.float32)

  count = min(len(reference), _FITTED)
  fitted = values(reference[np.arange(count) * len(reference) // count])
  mean = fitted.mean(axis=0, dtype=np.float64).astype(np.float32)
  fitted -= mean
  # The eigenvectors of the images' products give those of the covariance, whose
  # matrix is far larger.
  variances, vectors = np.linalg.eigh(fitted @ fitted.T)
  # Of what rounding leaves of no variance, no direction can be made.
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
  """Returns a compiled function's results for images, whatever their number.

  The last batch is filled up, so that one program serves all.
  """
  size = max(1, min(_BATCH, len(images)))
  parts = []
  for first in range(0, max(1, len(images)), size):
    batch = images[first : first + size]
    padded = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
    parts.append(np.asarray(function(padded))[: len(batch)])
  return np.concatenate(parts)
