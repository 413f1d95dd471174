"""Carries the image's smoothness into the hole along its level lines.

M. Bertalmio, G. Sapiro, V. Caselles & C. Ballester, "Image Inpainting",
SIGGRAPH 2000, doi:10.1145/344779.344972: the Laplacian, as a measure of
smoothness, is carried along the isophotes until it no longer changes along
them,

  u_t = (grad Laplacian(u) . N / |N|) |grad u|,  N = (-u_y, u_x),

with the paper's explicit scheme (central differences of the Laplacian, a
slope-limited |grad u|), and after every 15 steps 2 of anisotropic diffusion,
u_t = curvature |grad u|, which keep the level lines from crossing. Edges of the
rim are continued across gaps of about ten pixels; farther inside the hole the
initial blur remains, and there is no texture.

Differences from the paper: the hole starts as the harmonic function of its rim
instead of at several resolutions; the colours are red, green and blue instead
of luminance and chromaticity; the known pixels are not smoothed first; the
diffusion stops at the rim instead of fading beyond it; and values are kept in
[-1, 1], the scale that the steps are meant for, so that none can diverge.

The rounds of 15 + 2 steps end, image by image, when one changes no pixel by
more than `TOLERANCE`, or after `ROUNDS`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import diffusion
from dcgan_inpaint.methods import filling

ROUNDS = 100
# A quarter of an 8-bit step.
TOLERANCE = 2e-3

# The paper's A, B and time step.
_TRANSPORTS, _DIFFUSIONS, _TIME_STEP = 15, 2, 0.1


@filling.keeps_known_pixels
def complete(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Returns the images with their holes filled along the level lines."""
  return diffusion.solve(_solve, images, masks)


def transport(
  u: jax.Array,
  hole: jax.Array,
  smoothness: Callable[[jax.Array], jax.Array],
  time_step: float,
) -> jax.Array:
  """Returns one image with `smoothness` carried into its hole; jittable.

  Args:
    u: float32 [C, H, W], harmonic in the hole.
    hole: bool [1, H, W].
    smoothness: what is carried, from [C, H + 2, W + 2] to [C, H, W].
    time_step: of the explicit scheme, in units of pixels and of [-1, 1].

  Returns:
    float32 [C, H, W].
  """

  def transport_step(_, u):
    padded = diffusion.pad(u, 2)
    carried_x, carried_y = diffusion.gradient(smoothness(padded))
    padded = diffusion.inner(padded)
    x, y = diffusion.gradient(padded)
    # The paper's difference of the smoothness is not halved.
    change = 2 * (carried_y * x - carried_x * y)
    change /= jnp.sqrt(x**2 + y**2 + 1e-6)
    change *= _limited_slope(padded, change)
    return jnp.where(hole, jnp.clip(u + time_step * change, -1, 1), u)

  def diffusion_step(_, u):
    change, _ = diffusion.along_level_lines(diffusion.pad(u, 1))
    return jnp.where(hole, u + _TIME_STEP * change, u)

  def still_changes(state):
    _, change, round_ = state
    return (change > TOLERANCE) & (round_ < ROUNDS)

  def iterate(state):
    old, _, round_ = state
    u = jax.lax.fori_loop(0, _TRANSPORTS, transport_step, old)
    u = jax.lax.fori_loop(0, _DIFFUSIONS, diffusion_step, u)
    return u, jnp.abs(u - old).max(), round_ + 1

  u, *_ = jax.lax.while_loop(still_changes, iterate, (u, jnp.inf, 0))
  return u


def _limited_slope(u: jax.Array, change: jax.Array) -> jax.Array:
  """Returns |grad u| by one-sided differences, against the change's sign.

  A central difference would let the scheme oscillate.

  Args:
    u: [C, H + 2, W + 2].
    change: [C, H, W]; only its sign is used.
  """
  up, down, left, right = diffusion.neighbours(u)
  u = diffusion.inner(u)
  backward, forward = (u - left, u - up), (right - u, down - u)
  rising = sum(
    jnp.minimum(b, 0) ** 2 + jnp.maximum(f, 0) ** 2
    for b, f in zip(backward, forward, strict=True)
  )
  falling = sum(
    jnp.maximum(b, 0) ** 2 + jnp.minimum(f, 0) ** 2
    for b, f in zip(backward, forward, strict=True)
  )
  return jnp.sqrt(jnp.where(change > 0, rising, falling))


@jax.jit
@jax.vmap
def _solve(u: jax.Array, hole: jax.Array) -> jax.Array:
  return transport(u, hole, diffusion.laplacian, _TIME_STEP)
