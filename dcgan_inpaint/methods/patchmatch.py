"""Fills a hole so that each of its patches looks like a known one.

Y. Wexler, E. Shechtman & M. Irani, "Space-Time Completion of Video", PAMI
29(3), 2007, doi:10.1109/TPAMI.2007.60, with the nearest-neighbour search of C.
Barnes, E. Shechtman, A. Finkelstein & D. B. Goldman, "PatchMatch: A Randomized
Correspondence Algorithm for Structural Image Editing", SIGGRAPH 2009,
doi:10.1145/1531326.1531330. From coarse to fine, and `iterations` times at
each scale:

1. For every patch over the hole, the nearest neighbour among the patches of
   known pixels is searched by `sweeps` sweeps of PatchMatch: it tries the
   results of its four neighbours, shifted accordingly, and then random places
   in ever smaller windows around the best. The initial field of a scale is
   random or that of the coarser one, doubled.
2. Every pixel of the hole becomes the weighted mean of the matches of the
   patches over it. The weight of a patch is `exp(-d / 2 s^2) * 1.3^-r`, where d
   is its distance, s^2 the 75th percentile of all distances and r the distance
   of its centre from a known pixel, as in Wexler et al.

Differences from Barnes et al.: all patches of a sweep look at their neighbours
simultaneously, as on GPUs, not in scan order; patches without a pixel of the
hole, which vote for none, are not matched; there are no interactive
constraints, and patches are neither rotated nor scaled.

A pixel of a coarser scale is the mean of the known ones among its four. The
coarsest is four to eight patches wide, or less for small images, and starts
from the rim's colours, diffused into the hole: starting from means over ever
larger parts of a face results in hair.

Scattered holes leave no completely known patch. There a nearest neighbour is
compared on the pixels that it knows (see `exemplars`), and contributes only
these.

The method is smoother than copying, and fits the whole rim at once. It has no
model of faces.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.methods import exemplars
from dcgan_inpaint.methods import filling

# A patch's weight falls by this factor with each pixel from the known part.
_CONFIDENCE_DECAY = 1.3
# The minimum width of the coarsest scale, in patches.
_LEAST_PATCHES = 4
# Steps that diffuse the rim's colours at the coarsest scale.
_RELAXATIONS = 200


@filling.keeps_known_pixels
def complete(
  images: np.ndarray,
  masks: np.ndarray,
  patch_size: int = 7,
  iterations: int = 6,
  sweeps: int = 2,
  seed: int = 0,
) -> np.ndarray:
  """Returns the images with their holes filled by PatchMatch and voting.

  Args:
    images: [N, H, W, C], as `filling.keeps_known_pixels` passes them.
    masks: [N, H, W, 1], likewise.
    patch_size: side of the patches, an odd number of pixels.
    iterations: of search and vote, at each scale.
    sweeps: of PatchMatch, in each iteration.
    seed: of the random choices, the same for every image.
  """
  fill = functools.partial(
    _fill_batch,
    seed=seed,
    # The same for all batches, which then share a program.
    counts=_counts(masks[..., 0] > 0.5, patch_size),
    size=patch_size,
    iterations=iterations,
    sweeps=sweeps,
  )
  return exemplars.in_batches(fill, images, masks)


def search(
  stock: exemplars.Sources,
  image: jax.Array,
  field: jax.Array,
  targets: jax.Array,
  key: jax.Array,
  size: int,
  sweeps: int,
) -> tuple[jax.Array, jax.Array]:
  """Improves a field of nearest neighbours by PatchMatch.

  Args:
    stock: the patches to search in.
    image: float32 [H, W, C] in 8-bit levels, whose patches are matched.
    field: int32 [H * W], the index in `stock` that each patch starts from.
    targets: int32 [T], the patches whose match is searched; H * W is none.
    key: of JAX.
    size: of the patches, an odd number of pixels.
    sweeps: each tries 4 neighbours and a random place in each of
      log2(max(H, W)) windows.

  Returns:
    The field, and the distances of the targets, float32 [T]: the mean squared
    difference over the source's known pixels inside the image, summed over the
    colours; infinite for a source that is not allowed.
  """
  height, width, _ = image.shape
  y, x = targets // width, targets % width
  places = exemplars.patch_indices(y, x, size, (height, width))
  flat = image.reshape(-1, image.shape[-1])
  patches = flat.at[places].get(mode="fill", fill_value=0)
  inside = places < height * width

  def match(field):
    return field.at[targets].get(mode="fill", fill_value=0)

  def distance(candidate):
    weights = inside * stock.known[candidate]
    difference = jnp.sum((patches - stock.values[candidate]) ** 2, -1)
    total = jnp.sum(weights * difference, -1)
    mean = (total + stock.prior_pixels * stock.prior) / jnp.maximum(
      weights.sum(-1) + stock.prior_pixels, 1e-6
    )
    return jnp.where(stock.allowed[candidate], mean, jnp.inf)

  def attempt(best, candidate_y, candidate_x):
    """Takes the candidates that are inside and nearer."""
    field, least = best
    within = (
      (candidate_y >= 0)
      & (candidate_y < height)
      & (candidate_x >= 0)
      & (candidate_x < width)
    )
    kept = match(field)
    candidate = jnp.where(within, candidate_y * width + candidate_x, kept)
    found = distance(candidate)
    nearer = found < least
    field = field.at[targets].set(jnp.where(nearer, candidate, kept))
    return field, jnp.where(nearer, found, least)

  def sweep(number, best):
    def propagate(i, best):
      dy, dx = jnp.array([(-1, 0), (1, 0), (0, -1), (0, 1)])[i]
      beside_y = jnp.clip(y + dy, 0, height - 1)
      beside_x = jnp.clip(x + dx, 0, width - 1)
      found = best[0][beside_y * width + beside_x]
      # Outside the image, the pixel itself: the attempt changes nothing.
      return attempt(
        best,
        found // width + y - beside_y,
        found % width + x - beside_x,
      )

    best = jax.lax.fori_loop(0, 4, propagate, best)

    def look_around(i, best):
      sweep_key = jax.random.fold_in(jax.random.fold_in(key, number), i)
      # For all patches: an image's do not depend on how many are targets.
      steps = jax.random.uniform(sweep_key, (2, height * width), minval=-1)
      steps = steps.at[:, targets].get(mode="fill", fill_value=0)
      steps = jnp.int32(jnp.round(steps * max(height, width) / 2.0**i))
      found = match(best[0])
      return attempt(best, found // width + steps[0], found % width + steps[1])

    windows = max(height, width).bit_length()
    return jax.lax.fori_loop(0, windows, look_around, best)

  start = field, distance(match(field))
  return jax.lax.fori_loop(0, sweeps, sweep, start)


def vote(
  stock: exemplars.Sources,
  image: jax.Array,
  field: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  size: int,
) -> jax.Array:
  """Returns the image with weighted means over the matched patches.

  Args:
    stock: the source patches.
    image: float32 [H, W, C] in 8-bit levels, kept where no patch knows a pixel.
    field: int32 [H * W].
    targets: int32 [T], the patches that vote, and the pixels that are voted
      for; H * W is none.
    weights: float32 [T] of the patches.
    size: of the patches, an odd number of pixels.

  Returns:
    float32 [H, W, C].
  """
  shape = image.shape[:2]
  y, x = targets // shape[1], targets % shape[1]
  # Patch j over a pixel has that pixel at its position P - 1 - j.
  patches = exemplars.patch_indices(y, x, size, shape)
  within = np.arange(size * size)[::-1]
  sources = field.at[patches].get(mode="fill", fill_value=0)
  weights = jnp.zeros(field.shape).at[targets].set(weights)
  votes = weights.at[patches].get(mode="fill", fill_value=0)
  votes *= stock.known[sources, within]
  total = jnp.sum(votes[..., None] * stock.values[sources, within], 1)
  count = votes.sum(1)[:, None]
  flat = image.reshape(-1, image.shape[-1])
  kept = flat.at[targets].get(mode="fill", fill_value=0)
  mean = jnp.where(count > 0, total / jnp.maximum(count, 1e-30), kept)
  return flat.at[targets].set(mean).reshape(image.shape)


def _counts(known: np.ndarray, size: int) -> tuple[int, ...]:
  """Returns how many patches are matched at each scale, the finest first.

  The most of any image, rounded up to one of few numbers, since each is a
  program of its own.

  Args:
    known: bool [N, H, W].
    size: of the patches.
  """
  counts = []
  for numbers in _over_hole_by_scale(known, size):
    most = max(1, int(np.max(numbers, initial=0)))
    step = 1 << max(0, most.bit_length() - 3)  # At most a quarter too many.
    counts.append(-(-most // step) * step)
  return tuple(counts)


@functools.partial(jax.jit, static_argnames="size")
def _over_hole_by_scale(known: jax.Array, size: int) -> list[jax.Array]:
  """Returns how many patches lie over the hole: int32 [N] for each scale."""

  def count(known):
    numbers = [_over_hole(known, size).sum()]
    while min(known.shape) >= 2 * _LEAST_PATCHES * size:
      _, known = _halve(jnp.zeros((*known.shape, 1)), known)
      numbers.append(_over_hole(known, size).sum())
    return numbers

  return jax.vmap(count)(known)


@functools.partial(
  jax.jit, static_argnames=("counts", "size", "iterations", "sweeps")
)
def _fill_batch(
  images: jax.Array,
  known: jax.Array,
  seed: int,
  counts: tuple[int, ...],
  size: int,
  iterations: int,
  sweeps: int,
) -> jax.Array:
  fill = functools.partial(
    _fill,
    key=jax.random.key(seed),
    counts=counts,
    size=size,
    iterations=iterations,
    sweeps=sweeps,
  )
  return jax.vmap(fill)(images, known)


def _fill(
  image: jax.Array,
  known: jax.Array,
  key: jax.Array,
  counts: tuple[int, ...],
  size: int,
  iterations: int,
  sweeps: int,
) -> jax.Array:
  """Fills one image [H, W, C] with zeros in its hole."""
  scales = [(image * 127.5 - 0.5, known)]
  while len(scales) < len(counts):
    scales.append(_halve(*scales[-1]))
  estimate, field = _spread(*scales[-1]), None
  for number in reversed(range(len(scales))):
    levels, known = scales[number]
    (targets,) = jnp.nonzero(
      _over_hole(known, size).reshape(-1),
      size=counts[number],
      fill_value=known.size,
    )
    if field is not None:
      estimate = jnp.where(known[..., None], levels, _double(estimate, known))
    scale_key = jax.random.fold_in(key, number)
    stock = exemplars.sources(levels, known, size)
    field = _start(stock, field, scale_key, known.shape)

    def improve(
      i, found, *, stock=stock, known=known, targets=targets, key=scale_key
    ):
      estimate, field = found
      field, least = search(
        stock,
        estimate,
        field,
        targets,
        jax.random.fold_in(key, i),
        size,
        sweeps,
      )
      weights = _weights(least, targets, known)
      voted = vote(stock, estimate, field, targets, weights, size)
      return jnp.where(known[..., None], estimate, voted), field

    estimate, field = jax.lax.fori_loop(
      0, iterations, improve, (estimate, field)
    )
  return jnp.where(known.any(), (estimate + 0.5) / 127.5, 0)


def _start(
  stock: exemplars.Sources,
  coarser: jax.Array | None,
  key: jax.Array,
  shape: tuple[int, ...],
) -> jax.Array:
  """Returns an initial field [H * W]: random, or the coarser one, doubled."""
  height, width = shape
  allowed = jnp.argsort(~stock.allowed)  # The allowed ones come first.
  chance = jax.random.uniform(key, (height * width,))
  field = allowed[jnp.int32(chance * stock.allowed.sum())]
  if coarser is None:
    return field
  y, x = np.indices(shape).reshape(2, -1)
  half = -(-width // 2)
  found = coarser[y // 2 * half + x // 2]
  found_y = jnp.minimum(found // half * 2 + y % 2, height - 1)
  found_x = jnp.minimum(found % half * 2 + x % 2, width - 1)
  doubled = found_y * width + found_x
  return jnp.where(stock.allowed[doubled], doubled, field)


def _over_hole(known: jax.Array, size: int) -> jax.Array:
  """Returns whether the patch round each pixel has one of the hole.

  Args:
    known: bool [H, W].
    size: of the patches.

  Returns:
    bool [H, W].
  """
  hole, (height, width) = jnp.pad(~known, size // 2), known.shape
  rows = functools.reduce(
    jnp.logical_or, (hole[dy : dy + height] for dy in range(size))
  )
  return functools.reduce(
    jnp.logical_or, (rows[:, dx : dx + width] for dx in range(size))
  )


def _weights(
  distances: jax.Array, targets: jax.Array, known: jax.Array
) -> jax.Array:
  """Returns the weight of each patch's vote, float32 [T].

  Args:
    distances: float32 [T].
    targets: int32 [T], the patches over the hole; H * W is none.
    known: bool [H, W].
  """
  real = targets < known.size
  ranked = jnp.sort(jnp.where(real, distances, jnp.inf))
  variance = jnp.maximum(ranked[3 * real.sum() // 4], 1e-3)

  def grow(found):
    remoteness, reached = found
    beside = exemplars.neighbours(reached).values()
    reached = functools.reduce(jnp.logical_or, beside, reached)
    return remoteness + ~reached, reached

  remoteness, _ = jax.lax.while_loop(
    lambda found: known.any() & ~found[1].all(),
    grow,
    (jnp.float32(~known), known),
  )
  remoteness = remoteness.reshape(-1).at[targets].get(mode="fill", fill_value=0)
  return jnp.exp(-distances / (2 * variance)) * _CONFIDENCE_DECAY**-remoteness


def _spread(levels: jax.Array, known: jax.Array) -> jax.Array:
  """Returns the image with its rim's colours diffused into the hole."""
  mask = known[..., None]
  mean = jnp.where(mask, levels, 0).sum((0, 1)) / jnp.maximum(known.sum(), 1)

  def relax(_, estimate):
    padded = jnp.pad(estimate, ((1, 1), (1, 1), (0, 0)), mode="edge")
    vertical = padded[2:, 1:-1] + padded[:-2, 1:-1]
    horizontal = padded[1:-1, 2:] + padded[1:-1, :-2]
    return jnp.where(mask, levels, (vertical + horizontal) / 4)

  start = jnp.where(mask, levels, mean)
  return jax.lax.fori_loop(0, _RELAXATIONS, relax, start)


def _halve(levels: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the image [H, W, C] and its known pixels at half the size."""
  odd = [(0, length % 2) for length in known.shape]
  levels = jnp.pad(jnp.where(known[..., None], levels, 0), [*odd, (0, 0)])
  known = jnp.pad(known, odd)
  height, width = (length // 2 for length in known.shape)
  total = levels.reshape(height, 2, width, 2, -1).sum((1, 3))
  count = known.reshape(height, 2, width, 2).sum((1, 3))
  return total / jnp.maximum(count, 1)[..., None], count > 0


def _double(levels: jax.Array, like: jax.Array) -> jax.Array:
  """Returns the image at twice the size, cropped to that of `like` [H, W]."""
  levels = jnp.repeat(jnp.repeat(levels, 2, 0), 2, 1)
  return levels[: like.shape[0], : like.shape[1]]
