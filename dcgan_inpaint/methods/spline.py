"""Fills holes with the spline that fills the surroundings best.

Which surface is the right one depends on the image: a harmonic one for grain
and for wide holes, a thin plate under tension for most scratches, and one of a
higher order for thin ones in an image that was enlarged or denoised. So each
hole is moved to places beside it where everything is known, the surfaces of
`ENERGIES` fill it there, and the one with the lowest squared error fills the
hole (cross-validation; Wahba and Wold, Communications in Statistics 4, 1975).
The surfaces are those of `search.spline`.

Pieces of a hole are chosen for by their thickness, thin ones apart from wide
ones. The method learns nothing else, works at any size of image and hole, and
its time grows with the hole's number of pixels.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from dcgan_inpaint.methods import filling
from dcgan_inpaint.search import spline

# From the roughest surface to the smoothest. A little tension keeps a plate
# from running away where few pixels are known.
ENERGIES = (
  spline.Energy(membrane=1),
  spline.Energy(membrane=0.1, plate=1),
  spline.Energy(membrane=0.003, plate=1),
  spline.Energy(membrane=0.01, third=1),
)
# Where a hole has no place to be moved to: of a thin one, and of a wide one.
DEFAULT_ENERGIES = (ENERGIES[1], ENERGIES[0])

# Pieces of a hole that are nearer than twice this are one.
_NEAR = 3
# Thicknesses, in pixels, between which pieces are chosen for together.
_THICKNESSES = (6, 16)
# A hole is tried at a size at which it is no thicker than this, ...
_TRIED_THICKNESS = 24
# ... in a window of this many pixels a side, ...
_WINDOW = 192
# ... at this many places, each this far at first, in thicknesses. Of a moved
# hole at least this part must be known.
_PLACES = 2
_DISTANCES = (1.0, 1.5, 2.2, 3.3, 5.0, 8.0)
_KNOWN = 0.7


@filling.keeps_known_pixels
def complete(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Returns the images with their holes filled, one by one."""
  holes = masks[..., 0] < 0.5
  filled = np.empty(images.shape, np.float32)
  for i, (image, hole) in enumerate(zip(images, holes, strict=True)):
    filled[i] = fill(image, hole)
  return filled


def fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
  """Returns an image with its hole filled.

  Args:
    image: float [H, W, C]; what lies in the hole is not read.
    hole: bool [H, W], True = hole. If everything is hole, the result is 0.

  Returns:
    float32 [H, W, C]; values in the hole lie between the lowest and the highest
    known one of their channel.
  """
  filled = np.where(hole[..., None], np.float32(0), image).astype(np.float32)
  if not hole.any() or hole.all():
    return filled
  window = spline.around(hole, _WINDOW)
  part, part_hole = filled[window].copy(), hole[window]
  # The thin ones first: a wide one, which is solved at less than full size,
  # would take what is still empty beside it for known.
  for group, thickness in _groups(part_hole):
    energy = choose(filled[window], part_hole, group, thickness)
    part = spline.extend(part, group, energy)
  known = part[~part_hole]
  filled[window] = np.clip(part, known.min(axis=0), known.max(axis=0))
  return filled


def choose(
  image: np.ndarray, hole: np.ndarray, group: np.ndarray, thickness: float
) -> spline.Energy:
  """Returns which of `ENERGIES` fills the surroundings of a hole best.

  Args:
    image: float32 [H, W, C].
    hole: bool [H, W], all that is not known.
    group: bool [H, W], the part of it that is chosen for.
    thickness: of that part, pixels.
  """
  default = DEFAULT_ENERGIES[thickness > _THICKNESSES[-1]]
  scale = 1
  while thickness > _TRIED_THICKNESS:
    _, group = spline.reduce(image, group)
    image, hole = spline.reduce(image, hole)
    thickness, scale = thickness / 2, scale * 2
  window = _middle(group)
  image, hole, group = image[window], hole[window], group[window]
  errors = np.zeros(len(ENERGIES))
  for moved in _moved(hole, group, thickness):
    unknown = moved | hole
    near = spline.around(moved, 4)
    for i, energy in enumerate(ENERGIES):
      found = spline.extend(image[near], unknown[near], energy)
      difference = (found - image[near])[moved[near]]
      errors[i] += np.sum(np.square(difference, dtype=np.float64))
  best = ENERGIES[int(errors.argmin())] if errors.any() else default
  return best.at_scale(1 / scale)


def _groups(hole: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
  """Yields pieces of about one thickness, bool [H, W], and the largest of it.

  Thin pieces come first.
  """
  joined = ndimage.binary_dilation(hole, np.ones([2 * _NEAR + 1] * 2, bool))
  label, thickness = spline.pieces(hole, joined)
  group = np.digitize(thickness, (0.5, *_THICKNESSES))
  for number in range(1, len(_THICKNESSES) + 2):
    members = group == number
    if members.any():
      yield members[label], float(thickness[members].max())


def _middle(group: np.ndarray) -> tuple[slice, slice]:
  """Returns a window round the middle pixel of a hole, in reading order."""
  rows, columns = np.nonzero(group)
  row, column = (
    max(0, places[len(places) // 2] - _WINDOW // 2)
    for places in (rows, columns)
  )
  return slice(row, row + _WINDOW), slice(column, column + _WINDOW)


def _moved(
  hole: np.ndarray, group: np.ndarray, thickness: float
) -> Iterator[np.ndarray]:
  """Yields a hole at places where it is known, bool [H, W].

  Args:
    hole: bool [H, W], all that is not known.
    group: bool [H, W], the part of it that is moved.
    thickness: of that part, pixels.
  """
  height, width = hole.shape
  count = 0
  for distance in _DISTANCES:
    step = round(distance * (thickness + 2))
    for down, right in ((0, step), (step, 0), (0, -step), (-step, 0)):
      if abs(down) >= height or abs(right) >= width:
        continue
      moved = np.zeros_like(group)
      to, of = zip(_shifted(height, down), _shifted(width, right), strict=True)
      moved[to] = group[of]
      moved &= ~hole
      if moved.sum() < _KNOWN * group.sum():
        continue
      yield moved
      count += 1
      if count == _PLACES:
        return


def _shifted(size: int, step: int) -> tuple[slice, slice]:
  """Returns where a row of `size` pixels goes, and which of it, when moved."""
  return (
    slice(max(0, step), size + min(0, step)),
    slice(max(0, -step), size + min(0, -step)),
  )
