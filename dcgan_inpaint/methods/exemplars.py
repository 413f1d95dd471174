"""Common parts of the exemplar methods: patches of an image, and distances.

`efros_leung`, `quilting` and `criminisi` fill a hole with copies of the image's
own known pixels, `patchmatch` with means of them. All compare patches by the
mean squared difference of colours over the pixels that both know.

**Exact.** Patches are compared as 8-bit levels around 0: integers, whose sums
of products are exact in float32 for patches of up to 9x9 pixels, unless they
are weighted (`efros_leung`). Equal patches thus have equal distances, and the
first of the best is the same one everywhere. The pixels themselves are copied,
not the levels.

**Fast.** The squared differences to all patches are one matrix product, with
m and k = 1 where source s and target t are known:
`sum mk(t - s)^2 = m . kt^2 - 2 ms . kt + ms^2 . k`. There is no convolution,
which XLA runs slowly inside a loop on CPUs.

**Scattered holes.** Sources are the completely known patches. If there are
fewer than `MIN_SOURCES` (80 % of the pixels missing at random leave none),
every patch with a known centre is a source, and its unknown pixels are not
copied. Such a source shares few known pixels with a target, and a mean over few
is unreliable. It is shrunk towards the mean distance of any two known pixels,
as if `PRIOR_PIXELS` more pixels had that distance.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import filling

# With fewer completely known patches than this, partly known ones are sources.
MIN_SOURCES = 64
# The best of 0.25, 1, 4 and 16 over the four methods, on 8 validation faces
# with 80 % of their pixels missing at random.
PRIOR_PIXELS = 1.0


class Sources(NamedTuple):
  """An image's patches, centred at each of its S = H * W pixels.

  Attributes:
    values: float32 [S, P, C] in 8-bit levels around 0; 0 where unknown.
    known: float32 [S, P]; 1 where a pixel is known, 0 elsewhere and outside.
    factors: float32 [S, (2 + C) * P], the factor in the product with targets.
    allowed: bool [S], whether the patch may be copied from.
    prior: float32, the mean squared difference of two known pixels.
    prior_pixels: float32, the weight of `prior` in pixels; 0 if sources are
      completely known.
  """

  values: jax.Array
  known: jax.Array
  factors: jax.Array
  allowed: jax.Array
  prior: jax.Array
  prior_pixels: jax.Array


def in_batches(
  fill: Callable[[np.ndarray, np.ndarray], jax.Array],
  images: np.ndarray,
  masks: np.ndarray,
) -> np.ndarray:
  """Fills any number of images by calls of one shape.

  Args:
    fill: (images float32 [B, H, W, C] with zeros in the holes, known bool [B,
      H, W]) to filled images; compiled.
    images: float32 [N, H, W, C], 0 in the holes.
    masks: float32 [N, H, W, 1], 1 = known, 0 = hole.

  Returns:
    float32 [N, H, W, C].
  """
  # A CPU gains nothing from larger batches.
  size = 8 if jax.default_backend() == "cpu" else 64
  return filling.in_batches(
    lambda images, masks: fill(images, masks[..., 0] > 0.5),
    images,
    masks,
    size,
  )


def to_levels(images: jax.Array) -> jax.Array:
  """Returns images in [-1, 1] as 8-bit levels, float32 in -128 .. 127."""
  return jnp.clip(jnp.round(images * 127.5 - 0.5), -128, 127)


def patch_indices(
  y: jax.Array | np.ndarray,
  x: jax.Array | np.ndarray,
  size: int,
  shape: tuple[int, ...],
) -> jax.Array:
  """Returns the flat indices of the patches centred at (y, x).

  Args:
    y: int [...].
    x: int [...].
    size: of the patches, an odd number of pixels.
    shape: (H, W) of the image.

  Returns:
    int32 [..., size * size] in 0 .. H * W - 1, and H * W for pixels outside:
    out of range, where JAX reads a fill value and ignores writes.

  Raises:
    ValueError: the size is even, so that a patch has no centre.
  """
  if size % 2 == 0:
    raise ValueError(f"patches of {size}x{size} have no centre: take odd sizes")
  height, width = shape
  dy, dx = np.indices((size, size)).reshape(2, -1) - size // 2
  y, x = y[..., None] + dy, x[..., None] + dx
  inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
  return jnp.where(inside, y * width + x, height * width)


def sources(levels: jax.Array, known: jax.Array, size: int) -> Sources:
  """Returns the patches of an image.

  Args:
    levels: float32 [H, W, C], from `to_levels`.
    known: bool [H, W].
    size: of the patches, an odd number of pixels.
  """
  y, x = np.indices(known.shape)
  places = patch_indices(y, x, size, known.shape)
  places = places.reshape(known.size, -1)
  pixels = jnp.where(known[..., None], levels, 0)
  pixels = pixels.reshape(-1, levels.shape[-1])
  values = pixels.at[places].get(mode="fill", fill_value=0)
  known = known.reshape(-1)
  patch_known = known.at[places].get(mode="fill", fill_value=False)
  factors = jnp.concatenate(
    [
      jnp.float32(patch_known),
      -2 * values.reshape(len(values), -1),
      jnp.sum(values**2, -1),
    ],
    -1,
  )
  whole = patch_known.all(-1)
  enough = whole.sum() >= MIN_SOURCES
  count = jnp.maximum(known.sum(), 1)
  deviations = jnp.where(known[:, None], pixels - pixels.sum(0) / count, 0)
  return Sources(
    values=values,
    known=jnp.float32(patch_known),
    factors=factors,
    allowed=jnp.where(enough, whole, known),
    prior=2 * jnp.sum(deviations**2) / count,
    prior_pixels=jnp.where(enough, 0, PRIOR_PIXELS),
  )


def distances(
  sources: Sources, values: jax.Array, weights: jax.Array
) -> jax.Array:
  """Returns the distance of each target from each source.

  Args:
    sources: S patches of P pixels.
    values: float32 [K, P, C]: the targets, in 8-bit levels around 0.
    weights: float32 [K, P] of the targets' pixels, 0 where they are unknown.

  Returns:
    float32 [K, S]: the weighted mean over the pixels of the squared difference,
    summed over the colours. Infinite for a source that may not be copied.
  """
  weighted = weights[..., None] * values
  factors = jnp.concatenate(
    [
      jnp.sum(weighted * values, -1),
      weighted.reshape(len(values), -1),
      weights,
    ],
    -1,
  )
  total = _product(factors, sources.factors)
  overlap = _product(weights, sources.known)
  mean = (total + sources.prior_pixels * sources.prior) / jnp.maximum(
    overlap + sources.prior_pixels, 1e-6
  )
  # Rounding may make it slightly negative.
  return jnp.where(sources.allowed, jnp.maximum(mean, 0), jnp.inf)


def choose(key: jax.Array, distances: jax.Array, tolerance: float) -> jax.Array:
  """Returns one of the nearest sources of each target, drawn uniformly.

  Args:
    key: of JAX.
    distances: float32 [K, S].
    tolerance: sources within `1 + tolerance` times the least distance are
      drawn from.

  Returns:
    int [K], indices of sources.
  """
  limit = (1 + tolerance) * distances.min(-1, keepdims=True)
  ranks = jax.random.uniform(key, distances.shape)
  return jnp.argmax(jnp.where(distances <= limit, ranks, -1), -1)


def copy(image: jax.Array, origin: jax.Array) -> jax.Array:
  """Returns an image composed of copied pixels.

  Args:
    image: float32 [H, W, C].
    origin: int [H * W], the index that each pixel is copied from; -1 is the
      mid-grey 0.
  """
  pixels = image.reshape(-1, image.shape[-1])[origin]
  return jnp.where(origin[:, None] >= 0, pixels, 0).reshape(image.shape)


def neighbours(values: jax.Array) -> dict[tuple[int, int], jax.Array]:
  """Returns the 8 neighbours of each pixel, by their (dy, dx).

  Args:
    values: [H, W]; zeros outside.
  """
  height, width = values.shape
  padded = jnp.pad(values, 1)
  return {
    (dy, dx): padded[1 + dy :, 1 + dx :][:height, :width]
    for dy in (-1, 0, 1)
    for dx in (-1, 0, 1)
    if dy or dx
  }


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns a @ b.T, exact for integers, also on accelerators."""
  return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
