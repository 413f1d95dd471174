"""Common parts of all methods: known pixels are kept, batches have one size.

`keeps_known_pixels` turns a function that only fills into a method's
`complete`. `in_batches` runs a compiled one over any number of images.
"""

from collections.abc import Callable
import functools
from typing import Concatenate
from typing import ParamSpec

import jax
import numpy as np

_Options = ParamSpec("_Options")
_Method = Callable[Concatenate[np.ndarray, np.ndarray, _Options], np.ndarray]


def keeps_known_pixels(fill: _Method[_Options]) -> _Method[_Options]:
  """Turns a function that fills holes into a method's `complete`.

  Args:
    fill: a function of images float32 [N, H, W, C], 0 in the holes, of masks
      float32 [N, H, W, 1] of zeros and ones, and of the method's own options,
      to images [N, H, W, C]. Its values in the holes are clipped to [-1, 1],
      and the others ignored.

  Returns:
    A function of the same options. It takes images float32 [N, H, W, C] in
    [-1, 1], with any values in the holes, and masks [N, H, W, 1], 1 = known,
    0 = hole. It returns float32 [N, H, W, C] in [-1, 1]; the known pixels are
    those of the images, to the bit.
  """

  @functools.wraps(fill)
  def complete(
    images: np.ndarray,
    masks: np.ndarray,
    *args: _Options.args,
    **kwargs: _Options.kwargs,
  ) -> np.ndarray:
    known = np.asarray(masks) > 0.5
    seen = np.where(known, images, np.float32(0))
    filled = fill(seen, known.astype(np.float32), *args, **kwargs)
    return np.where(known, seen, np.clip(filled, -1, 1))

  return complete


def in_batches(
  fill: Callable[[np.ndarray, np.ndarray], np.ndarray | jax.Array],
  images: np.ndarray,
  masks: np.ndarray,
  size: int,
) -> np.ndarray:
  """Fills any number of images by calls of one shape.

  Calls of one shape are one program, so that an image's result does not depend
  on the number of images. The last call is padded with images without a hole,
  which need no iterations.

  Args:
    fill: from images [size, H, W, C] and masks [size, H, W, 1] to images of the
      same shape; compiled.
    images: float32 [N, H, W, C].
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    size: images per call, at least 1.

  Returns:
    float32 [N, H, W, C].
  """
  filled = np.empty_like(images)
  for first in range(0, len(images), size):
    batch = slice(first, first + size)
    count = len(images[batch])
    missing = ((0, size - count), (0, 0), (0, 0), (0, 0))
    result = fill(
      np.pad(images[batch], missing),
      np.pad(masks[batch], missing, constant_values=1),
    )
    filled[batch] = np.asarray(result)[:count]
  return filled
