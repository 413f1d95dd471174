"""Extends known values over a hole as the smoothest surface, of any size.

The surface u takes the known values, and in the hole it minimises

  sum  s u^2 + a |grad u|^2 + b (lap u)^2 + c |grad lap u|^2

over the pixels: s draws it to zero, a is a membrane (alone: the harmonic
surface), b a thin plate (biharmonic), a and b together a plate under tension
(Franke, "Thin plate splines with tension", CAGD 2, 1985), and c a surface one
order smoother. With the Laplacian matrix L of the grid of pixels, each joined
to the up to four neighbours that lie in the image, u solves

  (s + a L + b L^2 + c L^3) u = 0    at every pixel of the hole.

Nothing is imposed at the image's own border (natural boundary).

Far from every known pixel such a surface is smooth, so a wide hole is solved at
half the size there, and at full size along its rim. The cost grows with the
number of pixels of the hole, not with the image.
"""

from typing import Any
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy import sparse
from scipy.sparse import linalg

# Pixels further than this from every known one are solved at half the size.
_REACH = 10
# More pixels than these are solved by conjugate gradients: a factorisation of
# scattered holes takes more memory than they are worth.
_MOST_FACTORED = 150_000
_TOLERANCE = 1e-5
_MOST_ITERATIONS = 1000
_CROSS = ndimage.generate_binary_structure(2, 1)


class Energy(NamedTuple):
  """What the surface minimises, by the weights of the terms above.

  Attributes:
    screen: s, at least 0; at least one of the weights is positive.
    membrane: a, per squared pixel as the others are by their orders.
    plate: b.
    third: c.
  """

  screen: float = 0.0
  membrane: float = 0.0
  plate: float = 0.0
  third: float = 0.0

  def at_scale(self, scale: float) -> "Energy":
    """Returns the same energy on pixels that are `scale` times as wide."""
    weights = (x / scale ** (2 * order) for order, x in enumerate(self))
    return Energy(*weights)

  @property
  def order(self) -> int:
    """The highest power of L, 0 to 3."""
    return max(power for power, x in enumerate(self) if x > 0)


def extend(values: np.ndarray, hole: np.ndarray, energy: Energy) -> np.ndarray:
  """Returns values with their hole filled.

  Args:
    values: float [H, W, C]; what lies in the hole is not read, and may be NaN.
    hole: bool [H, W], True = hole. If everything is hole, the result is 0.
    energy: the weights; several pieces of a hole do not change each other
      where they are further apart than its order.

  Returns:
    float32 [H, W, C], known values as they are, those of the hole not clipped.
  """
  filled = np.where(hole[..., None], np.float32(0), values).astype(np.float32)
  if not hole.any() or hole.all():
    return filled
  window = around(hole, 2 * _REACH)
  filled[window] = _extend(filled[window], hole[window], energy)
  return filled


def around(hole: np.ndarray, margin: int) -> tuple[slice, slice]:
  """Returns the rows and columns of a hole with `margin` pixels beside it."""
  rows, columns = (
    slice(max(0, places[0] - margin), places[-1] + 1 + margin)
    for places in (np.nonzero(hole.any(axis=axis))[0] for axis in (1, 0))
  )
  return rows, columns


def depth(hole: np.ndarray) -> np.ndarray:
  """Returns how far each pixel of a hole is from the nearest known one.

  Args:
    hole: bool [H, W], of which some is known.

  Returns:
    float64 [H, W], pixels: 0 where it is known, 1 at the rim.
  """
  found = ndimage.distance_transform_edt(hole)
  assert isinstance(found, np.ndarray)
  return found


def pieces(
  hole: np.ndarray, joined: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the connected pieces of a hole, and how thick they are.

  Args:
    hole: bool [H, W].
    joined: bool [H, W], a larger hole, whose pieces are meant.

  Returns:
    label: int32 [H, W], from 1 on, 0 where there is no hole.
    thickness: float [pieces + 1], pixels: the diameter of the largest disc in
      each, 0 for the label 0.
  """
  label = np.zeros(hole.shape, np.int32)
  if hole.all():
    return label + 1, np.array([0.0, max(hole.shape)])
  if not hole.any():
    return label, np.zeros(1)
  window = around(hole, 1)
  found, count = ndimage.label(
    (hole if joined is None else joined)[window], np.ones([3, 3], bool)
  )  # pyright: ignore[reportGeneralTypeIssues] # Of the output's kind.
  label[window] = np.where(hole[window], found, 0)
  deepest = ndimage.maximum(
    depth(hole[window]), label[window], range(count + 1)
  )
  # The deepest of n pixels across is (n + 1) / 2 from the nearest known one.
  return label, np.maximum(2 * np.asarray(deepest) - 1, 0)


def _extend(values: np.ndarray, hole: np.ndarray, energy: Energy) -> np.ndarray:
  deep = depth(hole) > _REACH
  if deep.any():
    small = _extend(*reduce(values, hole), energy.at_scale(2))
    large = enlarge(small, hole.shape, Image.Resampling.BICUBIC)
    values = np.where(deep[..., None], large, values)
    hole = hole & ~deep
  return _solve(values, hole, energy)


def reduce(
  values: np.ndarray, hole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns values and their hole at half the size.

  Args:
    values: float32 [H, W, C].
    hole: bool [H, W].

  Returns:
    The means of the known pixels over squares of 2x2, 0 where there is none,
    float32 [ceil(H / 2), ceil(W / 2), C]; and where there is none, bool.
  """
  height, width = hole.shape
  even = ((0, height % 2), (0, width % 2))
  known = np.pad((~hole).astype(np.float32), even)[..., None]
  seen = np.pad(np.where(hole[..., None], 0, values), (*even, (0, 0)))
  count, total = (
    x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).sum((1, 3))
    for x in (known, seen)
  )
  return total / np.maximum(count, 1), count[..., 0] == 0


def enlarge(
  values: np.ndarray, shape: tuple[int, int], resampling: Image.Resampling
) -> np.ndarray:
  """Returns values at twice the size, cut to `shape`.

  Args:
    values: float32 [h, w, C].
    shape: (H, W), at most (2 h, 2 w).
    resampling: how values between pixels are found.

  Returns:
    float32 [H, W, C].
  """
  height, width = values.shape[:2]
  large = np.stack(
    [
      Image.fromarray(plane).resize((2 * width, 2 * height), resampling)
      for plane in np.moveaxis(values, -1, 0).copy()
    ],
    axis=-1,
  )
  return large[: shape[0], : shape[1]]


def _solve(values: np.ndarray, hole: np.ndarray, energy: Energy) -> np.ndarray:
  """Solves the equation at every pixel of the hole, at this size."""
  # A power of L reaches that many pixels further. The outermost of them have
  # neighbours that are left out, but their rows of L are never used.
  reach = max(1, energy.order)
  near: Any = ndimage.binary_dilation(hole, _CROSS, iterations=reach)
  count = int(near.sum())
  number = np.full(hole.shape, -1, np.int32)
  number[near] = np.arange(count)
  unknown = number[hole]
  laplacian = _laplacian(number, count)
  power: Any = sparse.csr_array(sparse.eye_array(count))[unknown]
  matrix = power * energy.screen
  for weight in energy[1 : energy.order + 1]:
    power = power @ laplacian
    matrix = matrix + weight * power
  matrix = matrix.tocsc()
  known = number[near & ~hole]
  right = -(matrix[:, known] @ values[near & ~hole].astype(np.float64))
  found = _solve_linear(matrix[:, unknown], right)
  values = values.copy()
  values[hole] = found
  return values


def _laplacian(number: np.ndarray, size: int) -> sparse.csr_array:
  """Returns the Laplacian of the graph of numbered pixels that touch.

  Args:
    number: int32 [H, W], -1 where there is none.
    size: how many there are.
  """
  pairs = []
  for one, other in (
    (number[1:], number[:-1]),
    (number[:, 1:], number[:, :-1]),
  ):
    both = (one >= 0) & (other >= 0)
    pairs.append((one[both], other[both]))
  first, second = (np.concatenate(part) for part in zip(*pairs, strict=True))
  rows, columns = np.r_[first, second], np.r_[second, first]
  degree = np.bincount(rows, minlength=size)
  diagonal = np.arange(size)
  entries = np.r_[-np.ones(len(rows)), degree]
  places = np.r_[rows, diagonal], np.r_[columns, diagonal]
  return sparse.csr_array((entries, places), (size, size))


def _solve_linear(matrix: Any, right: np.ndarray) -> np.ndarray:
  """Solves for a sparse, symmetric, positive definite matrix, [N, C]."""
  if matrix.shape[0] <= _MOST_FACTORED:
    factors = linalg.splu(
      matrix,
      permc_spec="MMD_AT_PLUS_A",
      diag_pivot_thresh=0.0,
      options={"SymmetricMode": True},
    )
    return factors.solve(right)
  preconditioner = sparse.diags_array(1 / matrix.diagonal())
  matrix = matrix.tocsr()
  found = [
    linalg.cg(
      matrix,
      column,
      rtol=_TOLERANCE,
      maxiter=_MOST_ITERATIONS,
      M=preconditioner,
    )[0]
    for column in right.T
  ]
  return np.stack(found, axis=1)
