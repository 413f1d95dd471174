"""The shapes that holes are composed of, as bool [height, width]."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def square(
  top: int, left: int, side: int, height: int, width: int
) -> np.ndarray:
  """Returns a square.

  Args:
    top: its first row.
    left: its first column.
    side: its side.
    height: of the image.
    width: of the image.
  """
  hole = np.zeros((height, width), bool)
  hole[top : top + side, left : left + side] = True
  return hole


def line(
  y: float,
  x: float,
  end_y: float,
  end_x: float,
  thickness: float,
  height: int,
  width: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a straight line and the position of each pixel along it.

  Args:
    y: of its start.
    x: of its start.
    end_y: of its end.
    end_x: of its end.
    thickness: the line has the pixels whose centre is within half of it.
    height: of the image.
    width: of the image.

  Returns:
    pixels: bool [height, width].
    along: float [height, width], 0 at the start and 1 at the end; only that of
      the line's own pixels is defined.
  """
  # All of them are in the box around both ends.
  top, bottom = _span(y, end_y, thickness, height)
  left, right = _span(x, end_x, thickness, width)
  box = slice(top, bottom), slice(left, right)
  rows, columns = np.arange(top, bottom)[:, None], np.arange(left, right)
  dy, dx = end_y - y, end_x - x
  along = np.zeros((height, width))
  along[box] = (dy * (rows - y) + dx * (columns - x)) / max(dy**2 + dx**2, 1e-9)
  nearest = np.minimum(np.maximum(along[box], 0), 1)
  distance = np.hypot(rows - y - nearest * dy, columns - x - nearest * dx)
  pixels = np.zeros((height, width), bool)
  pixels[box] = distance <= thickness / 2
  return pixels, along


def fill(
  marks: Iterable[tuple[np.ndarray, np.ndarray]], count: int
) -> np.ndarray:
  """Returns the first `count` pixels of an endless sequence of marks.

  Args:
    marks: for each its pixels, bool [height, width], and the order in which
      these are taken, float [height, width], lowest first.
    count: number of pixels.
  """
  hole: Any = np.False_
  for pixels, order in marks:
    fresh = pixels & ~hole
    missing = count - int(np.count_nonzero(hole))
    if np.count_nonzero(fresh) >= missing:
      return hole | first(np.where(fresh, order, np.inf), missing)
    hole = hole | fresh
  raise AssertionError("the marks are endless")


def first(order: np.ndarray, count: int) -> np.ndarray:
  """Returns the positions of the lowest values of an array.

  Args:
    order: of any shape; of equal values the first ones are taken.
    count: number of values.

  Returns:
    bool of the same shape.
  """
  lowest = np.zeros(order.size, bool)
  lowest[np.argsort(order, axis=None, kind="stable")[:count]] = True
  return lowest.reshape(order.shape)


def _span(
  start: float, end: float, thickness: float, size: int
) -> tuple[int, int]:
  """Returns the first pixel that a line may touch, and the first after it."""
  low, high = min(start, end) - thickness, max(start, end) + thickness
  first = min(max(int(low), 0), size)
  return first, max(first, min(int(high) + 1, size))
