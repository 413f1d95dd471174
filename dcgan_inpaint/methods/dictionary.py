"""Fills holes with sparse combinations of learned patches.

`fit` learns a dictionary of patches for each octave of the training images.
`complete` works from coarse to fine: at each octave it codes every patch by its
known pixels alone (masked orthogonal matching pursuit) and averages the patches
where they overlap; the result of the coarser octave is used in the hole with a
small weight, so that a hole larger than a patch is filled too.

Masked pursuit and averaging are those of J. Mairal, M. Elad & G. Sapiro,
"Sparse representation for color image restoration", IEEE TIP 17 (2008),
doi:10.1109/TIP.2007.911828. The dictionary is learned by the block-coordinate
update of J. Mairal, F. Bach, J. Ponce & G. Sapiro, "Online dictionary learning
for sparse coding", ICML 2009 (algorithm 2), with codes by matching pursuit
instead of the lasso. The coarse guess with a small weight is this project's
own.

At the coarsest octave of 64x64 faces one patch is the whole face, so aligned
faces are learned as a whole there; details finer than that octave come from the
rim alone, and the middle of a large hole stays blurred. Only the dictionaries
are stored: images need not have the size of the training images.

Chosen on 16 validation faces of CelebA with dictionaries from 8,000 training
faces, by the whole image's squared error on the 8-bit scale, centre 32 / random
pixels 80 %: a guess's weight of 0.1 gives 274 / 223 and 0.03 304 / 192; with
0.1, 14 atoms instead of 10 give 275 / 231.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import filling

_PATCH = 8  # Side of a patch, pixels, at every octave.
_CELLS = _PATCH**2

# Pixels between two patches, the finest octave first. Most patches are there:
# every other one limits the cost.
_STRIDES = (2, 1)

# The weight in the hole of the coarser octave's result; known pixels have 1.
_GUESS_WEIGHT = 0.03

# Keeps atoms with almost no weight in the known pixels from winning by chance.
_RIDGE = 0.01

_IMAGES_AT_ONCE = 8


class Fitted(NamedTuple):
  """The result of `fit`.

  Attributes:
    dictionaries: float32 [octaves, atoms, 8 * 8 * C], the finest octave first.
      Atoms have length 1 and, in each colour, mean 0.
  """

  dictionaries: np.ndarray


def fit(
  images: np.ndarray,
  seed: int = 0,
  atoms: int = 256,
  nonzero: int = 8,
  batches: int = 200,
  batch_size: int = 256,
) -> Fitted:
  """Learns a dictionary for each octave of the training images.

  Octaves halve the shorter side until it has the size of a patch: four for
  64x64. Patches are drawn anywhere; the mean of each colour is subtracted. Four
  octaves take about 20 seconds of a CPU core for any number of images.

  Args:
    images: uint8 [N, H, W, C], no side shorter than 8 pixels.
    seed: of the random patches.
    atoms: in each dictionary.
    nonzero: atoms that code a patch while the dictionary is learned.
    batches: updates of each dictionary.
    batch_size: patches per update.

  Raises:
    ValueError: the images are smaller than a patch.
  """
  side = min(images.shape[1:3])
  if side < _PATCH:
    raise ValueError(
      f"patches are {_PATCH} pixels wide; the training images are only "
      f"{images.shape[1]}x{images.shape[2]}"
    )
  rng = np.random.default_rng(seed)
  dictionaries = []
  for octave in range(int(math.log2(side / _PATCH)) + 1):
    draw = functools.partial(_draw, rng, images, 2**octave)
    # The noise is for patches without any contrast.
    start = draw(atoms)
    start = start + 1e-3 * rng.standard_normal(start.shape)
    start -= start.mean(1, keepdims=True)
    start /= np.linalg.norm(start, axis=(1, 2), keepdims=True)
    patches = np.stack([draw(batch_size) for _ in range(batches)])
    dictionaries.append(
      _learn(
        np.float32(start).reshape(atoms, -1),
        patches.reshape(batches, batch_size, -1),
        nonzero,
      )
    )
  return Fitted(np.stack(dictionaries))


@filling.keeps_known_pixels
def complete(
  images: np.ndarray, masks: np.ndarray, fitted: Fitted, nonzero: int = 10
) -> np.ndarray:
  """Returns the images with their holes filled from learned patches.

  Args:
    images: [N, H, W, C], as `filling.keeps_known_pixels` passes them. H and W
      are padded, with hole, to a multiple of the patch at the coarsest octave.
    masks: [N, H, W, 1], likewise.
    fitted: what `fit` returned.
    nonzero: atoms that code a patch, besides its mean colour.
  """
  height, width = images.shape[1:3]
  multiple = _PATCH * 2 ** (len(fitted.dictionaries) - 1)
  beyond = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
  filled = filling.in_batches(
    lambda images, masks: _fill(images, masks, fitted.dictionaries, nonzero),
    np.pad(images, beyond),
    np.pad(masks, beyond),
    _IMAGES_AT_ONCE,
  )
  return filled[:, :height, :width]


@functools.partial(jax.jit, static_argnames=("nonzero", "always"))
def pursue(
  patches: jax.Array,
  weights: jax.Array,
  dictionary: jax.Array,
  nonzero: int,
  always: int = 0,
) -> tuple[jax.Array, jax.Array]:
  """Codes patches by weighted orthogonal matching pursuit.

  Step by step, each patch takes the atom that explains most of its weighted
  residual, and all its coefficients become those of the weighted least squares.
  With weights of 0 and 1 this is the masked pursuit.

  Args:
    patches: float32 [B, D].
    weights: float32 [B, D], >= 0: of each value's squared error.
    dictionary: float32 [K, D], atoms of length 1.
    nonzero: atoms per patch.
    always: how many atoms, the first ones, every patch takes first.

  Returns:
    (support, codes): int32 and float32 [B, nonzero]; the patches are
    approximately `einsum("bs,bsd->bd", codes, dictionary[support])`. An atom
    that is redundant where the patch has weight gets the code 0.
  """
  count, size = patches.shape
  root = jnp.sqrt(weights)
  lengths = jnp.sqrt(weights @ (dictionary**2).T + _RIDGE)

  def step(turn, state):
    # The atoms so far, orthonormalised under the weights (Gram-Schmidt), and
    # the coefficients of each in terms of the atoms.
    basis, recipes, support, codes, residual = state
    gains = jnp.abs((root * residual) @ dictionary.T) / lengths
    chosen = jnp.where(turn < always, turn, jnp.argmax(gains, axis=1))
    atom = root * dictionary[chosen]
    recipe = jnp.zeros((count, nonzero)).at[:, turn].set(1)
    for _ in range(2):  # Twice is enough for float32.
      along = jnp.einsum("bsd,bd->bs", basis, atom)
      atom -= jnp.einsum("bs,bsd->bd", along, basis)
      recipe -= jnp.einsum("bs,bst->bt", along, recipes)
    length = jnp.linalg.norm(atom, axis=1, keepdims=True)
    scale = jnp.where(length > 1e-2, 1 / jnp.maximum(length, 1e-2), 0)
    atom, recipe = scale * atom, scale * recipe
    amount = jnp.sum(residual * atom, axis=1, keepdims=True)
    return (
      basis.at[:, turn].set(atom),
      recipes.at[:, turn].set(recipe),
      support.at[:, turn].set(chosen),
      codes + amount * recipe,
      residual - amount * atom,
    )

  start = (
    jnp.zeros((count, nonzero, size)),
    jnp.zeros((count, nonzero, nonzero)),
    jnp.zeros((count, nonzero), jnp.int32),
    jnp.zeros((count, nonzero)),
    root * patches,
  )
  # An accelerator would round the products to TF32 or bfloat16.
  with jax.default_matmul_precision("highest"):
    _, _, support, codes, _ = jax.lax.fori_loop(0, nonzero, step, start)
  return support, codes


def _draw(
  rng: np.random.Generator, images: np.ndarray, step: int, count: int
) -> np.ndarray:
  """Returns patches without their mean colours, float32 [count, 64, C].

  Args:
    rng: a NumPy generator.
    images: uint8 [N, H, W, C].
    step: pixels of the images per pixel of the patch, along each side.
    count: number of patches.
  """
  height, width = (size // step - _PATCH + 1 for size in images.shape[1:3])
  index = rng.integers(len(images), size=(count, 1, 1))
  reach = np.arange(_PATCH * step)
  rows = step * rng.integers(height, size=(count, 1)) + reach
  columns = step * rng.integers(width, size=(count, 1)) + reach
  patches = images[index, rows[:, :, None], columns[:, None]]
  patches = np.asarray(pixels.to_float(patches))
  patches = patches.reshape(count, _PATCH, step, _PATCH, step, -1).mean((2, 4))
  patches = patches.reshape(count, _CELLS, -1)
  return patches - patches.mean(1, keepdims=True)


@functools.partial(jax.jit, static_argnames="nonzero")
def _learn(
  dictionary: jax.Array, batches: jax.Array, nonzero: int
) -> jax.Array:
  """Returns the dictionary [K, D] after a pass over batches [T, B, D]."""

  def update_atom(k, state):
    dictionary, codes_codes, codes_patches = state
    used = codes_codes[k, k]
    wish = codes_patches[k] - codes_codes[k] @ dictionary
    atom = dictionary[k] + wish / jnp.maximum(used, 1e-6)
    atom /= jnp.maximum(jnp.linalg.norm(atom), 1e-6)
    atom = jnp.where(used > 1e-6, atom, dictionary[k])  # Never used so far.
    return dictionary.at[k].set(atom), codes_codes, codes_patches

  def update(state, turn_and_patches):
    dictionary, codes_codes, codes_patches = state
    turn, patches = turn_and_patches
    support, codes = pursue(
      patches, jnp.ones_like(patches), dictionary, nonzero
    )
    codes = jnp.einsum("bs,bsk->bk", codes, jax.nn.one_hot(support, atoms))
    # The statistics of earlier dictionaries decay.
    keep = turn / (turn + 1)
    state = (
      dictionary,
      keep * codes_codes + codes.T @ codes,
      keep * codes_patches + codes.T @ patches,
    )
    return jax.lax.fori_loop(0, atoms, update_atom, state), None

  atoms = len(dictionary)
  turns = jnp.arange(len(batches), dtype=jnp.float32)
  start = (
    dictionary,
    jnp.zeros((atoms, atoms)),
    jnp.zeros_like(dictionary),
  )
  (dictionary, _, _), _ = jax.lax.scan(update, start, (turns, batches))
  return dictionary


@functools.partial(jax.jit, static_argnames="nonzero")
def _fill(
  images: jax.Array, masks: jax.Array, dictionaries: jax.Array, nonzero: int
) -> jax.Array:
  """Returns images [N, H, W, C] filled; their sides are multiples."""
  total = (images * masks).sum((1, 2), keepdims=True)
  mean = total / jnp.maximum(masks.sum((1, 2), keepdims=True), 1)
  fill = functools.partial(
    _fill_one, dictionaries=dictionaries, nonzero=nonzero
  )
  return mean + jax.vmap(fill)((images - mean) * masks, masks)


def _fill_one(
  image: jax.Array, mask: jax.Array, dictionaries: jax.Array, nonzero: int
) -> jax.Array:
  """Fills an image [H, W, C] whose mean is 0 and whose hole is 0."""
  pyramid = [(image, mask)]
  for _ in dictionaries[1:]:
    image, mask = _halve(image * mask), _halve(mask)
    image /= jnp.maximum(mask, 1e-6)
    pyramid.append((image, mask))
  coarsest = len(dictionaries) - 1
  filled = image
  for octave in range(coarsest, -1, -1):
    image, mask = pyramid[octave]
    if octave == coarsest:
      weight = mask
    else:
      guess = jax.image.resize(filled, image.shape, "linear")
      unseen = _GUESS_WEIGHT * (1 - mask)
      weight = mask + unseen
      image = (mask * image + unseen * guess) / weight
    stride = _STRIDES[min(octave, len(_STRIDES) - 1)]
    filled = _average_patches(
      image, weight, dictionaries[octave], nonzero, stride
    )
    filled = mask * image + (1 - mask) * filled
  return filled


def _halve(image: jax.Array) -> jax.Array:
  height, width, colours = image.shape
  return image.reshape(height // 2, 2, width // 2, 2, colours).mean((1, 3))


def _average_patches(
  image: jax.Array,
  weight: jax.Array,
  dictionary: jax.Array,
  nonzero: int,
  stride: int,
) -> jax.Array:
  """Returns the mean of the coded patches at each pixel, [H, W, C].

  A patch is weighted by its known part.
  """
  height, width, colours = image.shape
  corners = np.add.outer(
    width * np.arange(0, height - _PATCH + 1, stride),
    np.arange(0, width - _PATCH + 1, stride),
  )
  cells = np.add.outer(width * np.arange(_PATCH), np.arange(_PATCH))
  places = np.add.outer(corners.ravel(), cells.ravel())  # [patches, cells]
  patches = image.reshape(-1, colours)[places].reshape(len(places), -1)
  weights = jnp.repeat(weight.reshape(-1)[places], colours, axis=1)
  # One constant atom per colour, so that the mean is fitted to known pixels.
  flat = np.tile(np.eye(colours, dtype=np.float32), _CELLS) / _PATCH
  dictionary = jnp.concatenate([flat, dictionary])
  support, codes = pursue(
    patches, weights, dictionary, nonzero + colours, always=colours
  )
  coded = jnp.einsum("bs,bsd->bd", codes, dictionary[support])
  trust = jnp.broadcast_to(weights.mean(1)[:, None, None], (*places.shape, 1))
  values = trust * coded.reshape(*places.shape, colours)
  total = (
    jnp.zeros((height * width, colours + 1))
    .at[places]
    .add(jnp.concatenate([values, trust], axis=-1))
  )
  averaged = total[:, :-1] / jnp.maximum(total[:, -1:], 1e-6)
  return averaged.reshape(height, width, colours)
