"""Fills every hole with the harmonic function that its rim determines.

The steady state of isotropic diffusion, and the smoothest membrane: colour by
colour, the Laplacian is 0 in the hole, and nothing flows across the image's
border (T. F. Chan & J. Shen, "Mathematical Models for Local Nontexture
Inpaintings", SIAM J. Appl. Math. 62, 2002, doi:10.1137/S0036139900368844). Each
pixel becomes the mean of its neighbours, so no value leaves the range of the
rim's, and no edge is continued: a large hole is a blur.

The five-point equations are solved by conjugate gradients, image by image,
until the residual's norm is `TOLERANCE` of the right side's, or for 10 (H + W)
iterations.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import diffusion

TOLERANCE = 1e-5


def complete(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Returns the images with harmonic holes.

  Args:
    images: float32 [N, H, W, C] in [-1, 1]. What lies in the hole is ignored.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole. An image without a known
      pixel becomes mid-grey (0).

  Returns:
    float32 [N, H, W, C] in [-1, 1]; the known pixels are those of `images`, to
    the bit.
  """
  return diffusion.complete(_solve, images, masks)


def solve(u: jax.Array, hole: jax.Array) -> jax.Array:
  """Returns one image with a harmonic hole; jittable.

  Args:
    u: float32 [C, H, W], 0 in the hole.
    hole: bool [1, H, W].
  """

  # Positive definite where each part of the hole has a rim.
  def operator(x):
    return jnp.where(hole, -diffusion.laplacian(diffusion.pad(x, 1)), 0)

  def dot(x, y):
    return jnp.sum(x * y, (-2, -1), keepdims=True)

  def residual_too_large(state):
    _, _, _, squared, iteration = state
    return jnp.any(squared > enough) & (iteration < limit)

  def iterate(state):
    x, residual, direction, squared, iteration = state
    image = operator(direction)
    # A channel that is solved has no direction left: 0 / 0.
    step = squared / jnp.maximum(dot(direction, image), 1e-30)
    x = x + step * direction
    residual = residual - step * image
    new = dot(residual, residual)
    direction = residual + new / jnp.maximum(squared, 1e-30) * direction
    return x, residual, direction, new, iteration + 1

  right_side = -operator(u)
  squared = dot(right_side, right_side)
  enough = TOLERANCE**2 * squared
  limit = 10 * sum(u.shape[-2:])
  state = (jnp.zeros_like(u), right_side, right_side, squared, 0)
  x, *_ = jax.lax.while_loop(residual_too_large, iterate, state)
  return u + x


_solve = jax.jit(jax.vmap(solve))
