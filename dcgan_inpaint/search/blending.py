"""Puts the generated image into the hole: pasted, or blended.

`paste` is the paper's `M * y + (1 - M) * G(z)`. It leaves a seam where G(z)
and y differ in brightness or colour along the hole's rim.

`poisson` takes the gradients from G(z) and the values on the rim from y (Perez,
Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003, equations 1 to 7 with
the guidance field of equation 9; as Yeh et al., CVPR 2017, section 3.3). The
completed image x solves, for every pixel p of the hole,

  sum_q (x_p - x_q) = sum_q (G_p - G_q)    with x_q = y_q where q is known,

over p's neighbours q above, below, left and right that lie in the image: on the
image's own border the difference to G is free (natural boundary condition), and
only the rim fixes it. In other words, the error y - G(z) on the rim is extended
over the hole as the smoothest surface, and added to G(z). The equation reads y
on the rim only, never under the hole.

`screened` also keeps x close to the values of G(z) (Bhat, Curless, Cohen and
Zitnick, "Fourier Analysis of the 2D Screened Poisson Equation for Gradient
Domain Problems", ECCV 2008): the left side has an additional s (x_p - G_p). The
error on the rim then decays inwards, to a third in 1 / sqrt(s) pixels. It
predicts the error in the pixels beside it, but not in the middle of a large
hole. The screen s was chosen on validation faces, as a compromise between holes
in the centre, for which a stronger one is better, and scattered holes, for
which none is (docs/ablations.md).

`spline` extends the error on the rim not as a membrane but as a thin plate
under tension (`search.spline`), which also goes on with its slope: smoother
than `poisson` beside the rim, and the same far from it. Where an edge of G(z)
lies beside that of y such a plate runs away, so it stays within 8 of 255 levels
of the membrane. It is solved outside of JAX, image by image, and is the default
for photographs.

Blended values may leave [-1, 1]; they are clipped, in the hole only and after
solving. Known pixels are returned to the bit, in every mode.
"""

import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.search import spline

MODES = ("paste", "poisson", "screened", "spline")

# s of the mode `screened`, for pixels of a 64x64 face.
SCREEN = 0.1

# The tension of `spline`, for pixels of a 64x64 face: over about one of them
# the plate becomes a membrane. From 1 to 3 the error is the same.
TENSION = 2.0

# How far a plate may leave the membrane, in the units of images in [-1, 1]: 8
# levels. Twice as much wins 0.05 dB in strokes, and leaves spots on a cheek.
_LEAVE = 8 / 127.5

# The relative residual, in the 2-norm, at which the solver stops.
TOLERANCE = 1e-6

# Images solved at a time.
_BATCH = 256

# Heights and widths are padded to multiples of this, so that photographs of
# many sizes share a few compiled programs.
_STEP = 64
# Shapes whose compiled programs are kept: photographs have any number of them.
_KEPT = 64


class Solution(NamedTuple):
  """The result of Poisson blending for a batch.

  Attributes:
    completed: float32 [N, H, W, C] in [-1, 1] in the hole.
    residual: float32 [N], of the equation before clipping: its 2-norm over
      that of the right side; 0 if there is nothing to solve.
  """

  completed: jax.Array
  residual: jax.Array


def blend(
  mode: str,
  generated: np.ndarray,
  images: np.ndarray,
  masks: np.ndarray,
  scale: float = 1.0,
) -> np.ndarray:
  """Returns the images with their holes filled from the generated ones.

  Args:
    mode: one of `MODES`.
    generated: float32 [N, H, W, C] in [-1, 1], G(z) over the whole image.
    images: float32 [N, H, W, C] in [-1, 1]. Values in the hole are ignored.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    scale: the width of a pixel of a 64x64 face, in pixels of the images.

  Returns:
    float32 [N, H, W, C]: the known pixels are those of `images`, to the bit;
    the others lie in [-1, 1] if `generated` does. An image does not depend on
    the others in the batch.

  Raises:
    ValueError: the mode is unknown.
  """
  if mode not in MODES:
    raise ValueError(f"{mode!r}: choose one of {', '.join(MODES)}")
  images, masks = np.asarray(images), np.asarray(masks)
  if mode == "paste":
    return np.where(masks > 0.5, images, np.asarray(generated))
  bound_cache(_KEPT)
  generated = np.asarray(generated)
  if mode == "spline":
    completed = [
      blend_one(mode, one, image, mask[..., 0] < 0.5, scale)
      for one, image, mask in zip(generated, images, masks, strict=True)
    ]
    return np.array(completed, np.float32).reshape(images.shape)
  height, width = images.shape[1:3]
  inside = np.ones((height, width, 1), np.float32)
  edges = ((0, -height % _STEP), (0, -width % _STEP), (0, 0))
  completed = np.empty(images.shape, np.float32)
  size = min(len(images), _BATCH)
  for first in range(0, len(images), size or 1):
    # The last part overlaps the one before to have its size: one shape, one
    # compilation.
    first = min(first, len(images) - size)
    part = slice(first, first + size)
    filled = fill(
      mode,
      np.pad(generated[part], ((0, 0), *edges)),
      np.pad(images[part], ((0, 0), *edges)),
      np.pad(masks[part], ((0, 0), *edges), constant_values=1),
      np.pad(inside, edges),
      scale,
    )
    completed[part] = filled[:, :height, :width]
  return completed


def bound_cache(shapes: int) -> None:
  """Forgets the compiled programs if they are of more than so many shapes.

  Args:
    shapes: 0 forgets all.
  """
  compiled: Any = poisson
  if compiled._cache_size() > shapes:
    compiled.clear_cache()


def blend_one(
  mode: str,
  generated: np.ndarray,
  image: np.ndarray,
  hole: np.ndarray,
  scale: float,
) -> np.ndarray:
  """As `blend`, of one image of any size, in the time that its hole needs.

  A wide hole is solved at less than full size away from its rim.

  Args:
    mode: one of `MODES`.
    generated: float32 [H, W, C] in [-1, 1].
    image: float32 [H, W, C] in [-1, 1].
    hole: bool [H, W], True = hole.
    scale: the width of a pixel of a 64x64 face, in pixels of the image.
  """
  if mode == "paste":
    return np.where(hole[..., None], generated, image)
  screen = SCREEN / scale**2 if mode == "screened" else 0.0
  known_error = image - generated
  error = spline.extend(known_error, hole, spline.Energy(screen, membrane=1))
  if mode == "spline":
    tense = spline.Energy(membrane=TENSION / scale**2, plate=1)
    plate = spline.extend(known_error, hole, tense)
    error += np.clip(plate - error, -_LEAVE, _LEAVE)
  blended = np.clip(generated + error, -1, 1)
  return np.where(hole[..., None], blended, image)


def fill(
  mode: str,
  generated: jax.typing.ArrayLike,
  images: jax.typing.ArrayLike,
  masks: jax.typing.ArrayLike,
  inside: jax.typing.ArrayLike = 1.0,
  scale: float = 1.0,
) -> jax.Array:
  """As `blend`, of arrays of JAX, all at once; may be traced.

  Args:
    mode: one of `MODES` but `spline`.
    generated: float32 [N, H, W, C] in [-1, 1].
    images: float32 [N, H, W, C] in [-1, 1]. What lies in the hole is ignored.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.
    inside: as for `poisson`.
    scale: how many pixels of the images one of G's is wide.

  Raises:
    ValueError: the mode is `spline`, which is not computed by JAX.
  """
  if mode == "spline":
    raise ValueError("'spline' cannot be traced")
  if mode == "paste":
    return jnp.where(jnp.asarray(masks) > 0.5, images, generated)
  screen = SCREEN / scale**2 if mode == "screened" else 0.0
  return poisson(generated, images, masks, inside, screen).completed


def warm_up(mode: str, shape: tuple[int, ...]) -> None:
  """Compiles what `blend` runs for images of `shape`, [N, H, W, C]."""
  blank = np.zeros((min(shape[0], _BATCH), *shape[1:]), np.float32)
  blend(mode, blank, blank, blank[..., :1])


@jax.jit
def poisson(
  generated: jax.Array,
  images: jax.Array,
  masks: jax.Array,
  inside: jax.Array | float = 1.0,
  screen: jax.Array | float = 0.0,
) -> Solution:
  """Returns the images with their holes Poisson blended, and the residuals.

  Conjugate gradients, image by image, all channels together, until the relative
  residual is `TOLERANCE`. The cost grows with the image and with the width of
  the hole. Only a hole and the ring of pixels around it matter: for large
  photographs a caller may crop to these.

  Args:
    generated: float32 [N, H, W, C] in [-1, 1].
    images: float32 [N, H, W, C] in [-1, 1]. Values in the hole are ignored.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole. If all is hole there is no
      rim, and the generated image itself is the solution.
    inside: float32 [H, W, 1], 1 in the images, 0 in padding beyond their
      border, where `masks` must be 1.
    screen: s, a scalar; 0 = not screened.
  """
  inside = jnp.broadcast_to(inside, masks.shape[1:])
  blend_image = functools.partial(
    _blend_image, inside=inside, screen=jnp.float32(screen)
  )
  return jax.vmap(blend_image)(generated, images, masks)


def _blend_image(
  generated: jax.Array,
  image: jax.Array,
  mask: jax.Array,
  inside: jax.Array,
  screen: jax.Array,
) -> Solution:
  known = mask > 0.5
  hole = jnp.float32(~known)
  degree = _neighbours(inside)

  def laplacian(offset):
    return hole * ((degree + screen) * offset - _neighbours(offset))

  # `where`, not a product: values under the hole may be NaN.
  rim = jnp.where(known, image - generated, 0)
  right = hole * _neighbours(inside * rim)
  # In float32 it may stall above the tolerance; `maxiter` then ends it.
  offset, _ = jax.scipy.sparse.linalg.cg(
    laplacian, right, tol=TOLERANCE, maxiter=4 * sum(hole.shape)
  )
  error = jnp.linalg.norm(right - laplacian(offset))
  norm = jnp.linalg.norm(right)
  return Solution(
    jnp.where(known, image, jnp.clip(generated + offset, -1, 1)),
    jnp.where(norm > 0, error / norm, 0),
  )


def _neighbours(values: jax.Array) -> jax.Array:
  """Returns the sum of each pixel's up to four neighbours, [H, W, C]."""
  padded = jnp.pad(values, ((1, 1), (1, 1), (0, 0)))
  return (
    padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
  )
