"""Continues level lines at constant curvature: a third-order equation.

After M. Bertalmio, "Strong-Continuation, Contrast-Invariant Inpainting With a
Third-Order Optimal PDE", IEEE TIP 15(7), 2006, pages 1934-1938, whose
title and aim this follows: Taylor's expansion along a level line, to the third
order. Neither the article's own equation nor its scheme is claimed. What is
solved in the hole is

  grad(curvature) . N = 0, N = (-u_y, u_x), curvature = div(grad u / |grad u|),

of the third order in u: along a level line the curvature is constant, so that
the line continues as an arc of a circle or straight, whatever the contrast
across it. (u is constant along its level line gamma; the second derivative of
that gives the curvature, and the third, if gamma is an arc, that the curvature
does not change.)

It is the steady state of u_t = grad(curvature) . N, reached by the scheme of
`bertalmio` with the curvature instead of the Laplacian and half its time step,
starting from the harmonic function; as there, 2 steps of motion by curvature
after every 15 keep it stable and straighten arcs slightly, and it ends by the
same rule. Curvatures are clipped at one per pixel, that of the smallest circle
on the grid, and fade where |grad u| is below 0.03 per pixel (4 of 255).
"""

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import bertalmio
from dcgan_inpaint.methods import diffusion
from dcgan_inpaint.methods import filling

_TIME_STEP = 0.05
# The square of the |grad u| below which curvatures fade.
_FLAT = 1e-3


@filling.keeps_known_pixels
def complete(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Returns the images with their holes filled by arcs of level lines."""
  return diffusion.solve(_solve, images, masks)


def _curvature(u: jax.Array) -> jax.Array:
  """Returns the level lines' curvature, [C, H, W] less a pixel on each side."""
  second, squared = diffusion.along_level_lines(u)
  return jnp.clip(second / jnp.sqrt(squared + _FLAT), -1, 1)


@jax.jit
@jax.vmap
def _solve(u: jax.Array, hole: jax.Array) -> jax.Array:
  return bertalmio.transport(u, hole, _curvature, _TIME_STEP)
