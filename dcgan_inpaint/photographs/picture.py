"""A picture as it came, and the same picture with its hole filled.

The networks take RGB of 8 bits in sRGB. A photograph may be grey, have alpha, a
palette, 16 bits or another colour space: `rgb` is what the networks see of it,
and `filled` puts what they generated back into its own kind of pixels. All
pixels outside of the hole keep their values, to the bit.
"""

import dataclasses

import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.photographs import colour_profiles

# Channels that differ by so many of 255 levels still are a grey.
_GREY_TOLERANCE = 1
# Of every so many rows one is looked at first.
_SOME_ROWS = 61


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture in its own kind of pixels.

  Attributes:
    values: [H, W, C] of uint8, uint16 or float; C is 1 (grey, or indices of the
      palette), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
    value_range: the values of black and white: (0, 255) for uint8, (0, 65535)
      for uint16.
    palette: uint8 [N, 4], RGBA, that values are indices of; or None.
    profile: bytes of the ICC profile that describes its colours, or None.
    exif: bytes of EXIF to carry on, or None.
    dpi: pixels an inch, across and down, or None.
  """

  values: np.ndarray
  value_range: tuple[float, float] = (0, 255)
  palette: np.ndarray | None = None
  profile: bytes | None = None
  exif: bytes | None = None
  dpi: tuple[float, float] | None = None

  @property
  def colours(self) -> int:
    """The number of channels without alpha, 1 or 3."""
    if self.palette is not None:
      return 3
    return 1 if self.values.shape[-1] < 3 else 3

  @property
  def alpha(self) -> np.ndarray | None:
    """The alpha channel [H, W], in the values' range, or None."""
    if self.palette is not None:
      alpha = self.palette[:, 3][self.values[..., 0]]
      return None if alpha.min() == 255 else alpha
    channels = self.values.shape[-1]
    return self.values[..., -1] if channels in (2, 4) else None


def rgb(picture: Picture) -> np.ndarray:
  """Returns what the networks see of a picture, uint8 [H, W, 3] in sRGB.

  Colours count as they are under partial transparency. What is wholly
  transparent has none, and is white.

  Args:
    picture: of any kind.
  """
  return _seen(picture, picture.values)


def filled(
  picture: Picture,
  completed: np.ndarray,
  hole: np.ndarray,
  *,
  opaque: np.ndarray | None = None,
) -> Picture:
  """Returns a picture whose hole is filled, in its own kind of pixels.

  Where all that is known is grey, so is what fills the hole.

  Args:
    picture: the picture.
    completed: uint8, or float in [-1, 1], [H, W, 3] in sRGB; read in the hole
      alone.
    hole: bool [H, W], True = hole.
    opaque: bool [H, W], where the result is opaque; elsewhere alpha stays.
  """
  if not hole.any():
    return _with_alpha(picture, picture.values, opaque)
  found = completed[hole]  # [n, 3]
  if picture.profile:
    found = found if found.dtype == np.uint8 else pixels.to_uint8(found)
    found = colour_profiles.from_srgb(found, picture.profile, picture.colours)
  if picture.colours == 1 or _is_grey(picture, ~hole):
    found = np.repeat(pixels.to_grey(found), 3, axis=1)
  if picture.palette is not None:
    return _with_indices(picture, found, hole, opaque)
  values = picture.values.copy()
  within = values[hole]  # A copy: [n, C].
  within[:, : picture.colours] = _as_values(found, picture)[
    :, : picture.colours
  ]
  values[hole] = within
  return _with_alpha(picture, values, opaque)


def _with_alpha(
  picture: Picture, values: np.ndarray, opaque: np.ndarray | None
) -> Picture:
  """Returns a picture with other values, which are opaque in some places."""
  if opaque is not None and values.shape[-1] in (2, 4):
    values = values.copy()
    values[opaque, -1] = picture.value_range[1]
  return dataclasses.replace(picture, values=values)


def _seen(picture: Picture, values: np.ndarray) -> np.ndarray:
  """Returns some of a picture's values, [..., C], as uint8 [..., 3] in sRGB."""
  if picture.palette is not None:
    values = picture.palette[values[..., 0]]
  low, high = picture.value_range
  alpha = values[..., -1] if values.shape[-1] in (2, 4) else None
  seen = values[..., : picture.colours]
  if (low, high) != (0, 255) or seen.dtype != np.uint8:
    scaled = (seen - np.float32(low)) * np.float32(255 / (high - low))
    # A NaN may lie under a hole.
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    seen = np.clip(np.round(scaled), 0, 255).astype(np.uint8)
  if picture.profile:
    seen = colour_profiles.to_srgb(seen, picture.profile)
  seen = np.broadcast_to(seen, (*seen.shape[:-1], 3))
  if alpha is not None and np.any(alpha == low):
    seen = np.where((alpha == low)[..., None], np.uint8(255), seen)
  return np.ascontiguousarray(seen)


def _as_values(found: np.ndarray, picture: Picture) -> np.ndarray:
  """Returns colours, uint8 or float in [-1, 1], as values of the picture."""
  kind = picture.values.dtype
  if kind == np.uint8:
    return found if found.dtype == np.uint8 else pixels.to_uint8(found)
  share = found / 255.0 if found.dtype == np.uint8 else (found + 1.0) / 2
  low, high = picture.value_range
  values = low + share * (high - low)
  return np.round(values).astype(kind) if kind == np.uint16 else values


def _is_grey(picture: Picture, known: np.ndarray) -> bool:
  """Tells whether a picture has no colour where it is known, bool [H, W]."""
  # Most have one, and a few rows show it.
  if _has_colour(picture, known, _SOME_ROWS):
    return False
  return bool(known.any()) and not _has_colour(picture, known, 1)


def _has_colour(picture: Picture, known: np.ndarray, step: int) -> bool:
  """Tells whether every `step`-th row has a colour where it is known."""
  values = picture.values[::step][known[::step]]
  if picture.palette is not None:
    values = picture.palette[np.unique(values)]
  if values.shape[-1] < 3:
    return True  # Of its own kind of grey.
  low, high = picture.value_range
  colours = values[:, :3].astype(np.float32)
  spread = colours.max(axis=-1) - colours.min(axis=-1)
  return bool(np.any(spread > _GREY_TOLERANCE * (high - low) / 255))


def _with_indices(
  picture: Picture,
  found: np.ndarray,
  hole: np.ndarray,
  opaque: np.ndarray | None,
) -> Picture:
  """Returns a picture of a palette whose hole holds the nearest colours.

  Entries that no known pixel uses are taken for colours of the hole.

  Args:
    picture: has a palette.
    found: uint8 or float [n, 3], the colours of the hole.
    hole: bool [H, W].
    opaque: see `filled`.
  """
  assert picture.palette is not None
  if found.dtype != np.uint8:
    found = pixels.to_uint8(found)
  indices = picture.values[..., 0].copy()
  used = np.zeros(256, bool)
  # Of entries with alpha all stay: each pixel finds one with its own.
  kept = ~hole if picture.palette[:, 3].min() == 255 else np.ones_like(hole)
  used[indices[kept]] = True
  alpha = picture.palette[indices[hole], 3]
  if opaque is not None:
    alpha = np.where(opaque[hole], np.uint8(255), alpha)
  palette = np.zeros((256, 4), np.uint8)
  palette[:, 3] = 255
  palette[: len(picture.palette)] = picture.palette
  wanted = np.concatenate([found, alpha[:, None]], axis=1)
  free = np.nonzero(~used)[0]
  new = _distinct(wanted, len(free))
  palette[free[: len(new)]] = new
  used[free[: len(new)]] = True
  entries = np.nonzero(used)[0]
  colours, of_pixel = np.unique(wanted, axis=0, return_inverse=True)
  # No distance of colours outweighs one of alpha.
  weights = np.array([1, 1, 1, 1000], np.float32)
  nearest = np.empty(len(colours), np.intp)
  for first in range(0, len(colours), 4096):
    part = colours[first : first + 4096].astype(np.float32)
    far = (part[:, None] - palette[entries].astype(np.float32)) * weights
    nearest[first : first + 4096] = np.sum(far**2, axis=-1).argmin(axis=-1)
  indices[hole] = entries[nearest[of_pixel.reshape(-1)]]
  size = max(len(picture.palette), int(indices.max()) + 1)
  return dataclasses.replace(
    picture, values=indices[..., None], palette=palette[:size]
  )


def _distinct(colours: np.ndarray, count: int) -> np.ndarray:
  """Returns at most so many colours, uint8 [m, 4], that represent others."""
  found, often = np.unique(colours, axis=0, return_counts=True)
  # Coarser cells until they are few enough, each of one alpha; its mean stands
  # for a cell.
  for shift in range(1, 9):
    if len(found) <= count:
      break
    coarse = np.concatenate([found[:, :3] >> shift, found[:, 3:]], axis=1)
    cells, of_colour = np.unique(coarse, axis=0, return_inverse=True)
    if len(cells) <= count or shift == 8:
      of_colour = of_colour.reshape(-1)
      weight = np.bincount(of_colour, often)
      found = np.stack(
        [np.bincount(of_colour, often * c) / weight for c in found.T], axis=-1
      )
      found = np.round(found).astype(np.uint8)
      break
  return found[:count]
