"""Common parts of the diffusion methods: differences on a grid, and batches.

Each of these methods fills a hole by a partial differential equation, which a
loop solves for one image, starting from the harmonic function; it is jitted and
vmapped over a batch. Inside, an image is float32 [C, H, W], which keeps the
vector units full. The stencils are shifted slices, as XLA's CPU backend is slow
at convolutions in a loop. There is no flow across the image's border (the
border pixels are repeated), so a hole may touch it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import filling
from dcgan_inpaint.methods import harmonic

# Images solved at a time: enough to use the machine fully, and few enough that
# the slowest does not delay many.
_BATCH = 32


def pad(u: jax.Array, width: int) -> jax.Array:
  """Returns [..., H, W] with `width` copies of the border's pixels around it.

  The differences below need a pixel on each side and drop it, so that a chain
  of them needs only one padding.
  """
  sides = [(0, 0)] * (u.ndim - 2) + [(width, width)] * 2
  return jnp.pad(u, sides, mode="edge")


def inner(u: jax.Array) -> jax.Array:
  """Returns [..., H, W] without its outermost pixels, [..., H - 2, W - 2]."""
  return u[..., 1:-1, 1:-1]


def neighbours(
  u: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Returns the pixels above, below, left and right of each inner pixel.

  Args:
    u: [..., H, W].

  Returns:
    Four arrays [..., H - 2, W - 2].
  """
  rows, columns = slice(1, -1), slice(1, -1)
  return (
    u[..., :-2, columns],
    u[..., 2:, columns],
    u[..., rows, :-2],
    u[..., rows, 2:],
  )


def gradient(u: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the central differences (u_x, u_y), x to the right and y down.

  Args:
    u: [..., H, W].

  Returns:
    Two arrays [..., H - 2, W - 2], per pixel.
  """
  up, down, left, right = neighbours(u)
  return (right - left) / 2, (down - up) / 2


def laplacian(u: jax.Array) -> jax.Array:
  """Returns the five-point Laplacian of [..., H, W]: [..., H - 2, W - 2]."""
  return sum(neighbours(u)) - 4 * inner(u)


def along_level_lines(u: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns u's second derivative along its level lines, and |grad u|^2.

  The first is (u_xx u_y^2 - 2 u_x u_y u_xy + u_yy u_x^2) / |grad u|^2, which is
  the level lines' curvature times |grad u|; 0 where u is flat.

  Args:
    u: [..., H, W].

  Returns:
    Two arrays [..., H - 2, W - 2].
  """
  up, down, left, right = neighbours(u)
  x, y = gradient(u)
  xx, yy = left + right - 2 * inner(u), up + down - 2 * inner(u)
  xy = u[..., 2:, 2:] - u[..., 2:, :-2] - u[..., :-2, 2:] + u[..., :-2, :-2]
  squared = x**2 + y**2
  bend = xx * y**2 - x * y * xy / 2 + yy * x**2
  return bend / (squared + 1e-6), squared


def solve(
  solver: Callable[[jax.Array, jax.Array], jax.Array],
  images: np.ndarray,
  masks: np.ndarray,
) -> np.ndarray:
  """Returns the images with their holes filled by a solver, batch by batch.

  Args:
    solver: jitted; from float32 [B, C, H, W], harmonic in the holes, and bool
      holes [B, 1, H, W] to float32 [B, C, H, W].
    images: float32 [N, H, W, C], 0 in the holes.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.

  Returns:
    float32 [N, H, W, C].
  """

  def fill(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    hole = masks.transpose(0, 3, 1, 2) < 0.5
    filled = solver(
      jnp.asarray(images.transpose(0, 3, 1, 2)), jnp.asarray(hole)
    )
    return np.asarray(filled).transpose(0, 2, 3, 1)

  start = harmonic.complete(images, masks)
  size = max(1, min(_BATCH, len(images)))
  return filling.in_batches(fill, start, masks, size)
