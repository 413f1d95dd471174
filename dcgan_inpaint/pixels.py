"""Conversion between 8-bit pixels and the range of the networks.

The paper (section III) scales pixels to [-1, 1], the range of the generator's
tanh. Everything inside the package is float32 in that range; 8-bit values
exist only where images are read, scored and written.
"""

from typing import Any
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

# NumPy in, NumPy out; JAX in, JAX out.
Array = TypeVar("Array", np.ndarray, jax.Array)


def to_float(images: Array) -> Array:
  """Returns 8-bit `images` as float32 in [-1, 1]: `x / 127.5 - 1`.

  Args:
    images: uint8 array of any shape, numpy or JAX.

  Returns:
    float32 array of the same shape and kind.
  """
  module: Any = jnp if isinstance(images, jax.Array) else np
  return module.asarray(images, module.float32) / module.float32(127.5) - 1


def to_uint8(images: Array) -> Array:
  """Returns float `images` in [-1, 1] as 8-bit values, rounded and clipped.

  The inverse of `to_float`: `to_uint8(to_float(x)) == x` for every x.

  Args:
    images: float array of any shape, numpy or JAX.

  Returns:
    uint8 array of the same shape and kind.
  """
  module: Any = jnp if isinstance(images, jax.Array) else np
  scaled = module.round((images + 1) * module.float32(127.5))
  return module.clip(scaled, 0, 255).astype(module.uint8)


def to_grey(images: np.ndarray) -> np.ndarray:
  """Returns colours as grey: the luma of ITU-R BT.601, as Pillow rounds it.

  Args:
    images: uint8 or float [..., 3].

  Returns:
    The same type, [..., 1]. Bytes that were grey keep their values.
  """
  if images.dtype != np.uint8:
    return (images @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
  red, green, blue = np.moveaxis(images.astype(np.uint32), -1, 0)
  luma = (19595 * red + 38470 * green + 7471 * blue + (1 << 15)) >> 16
  return luma[..., None].astype(np.uint8)
