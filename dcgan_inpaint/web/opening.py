"""The photographs and masks that a visitor of the page gives, and their hole.

A browser shows a photograph at a size of its own, and what is painted there has
that size. The file stays as it came; only what is painted is brought to its
size.
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib

import numpy as np
from PIL import Image

from dcgan_inpaint.data import decoding
from dcgan_inpaint.masks import mask_files
from dcgan_inpaint.photographs import image_files
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import untrusted

# The longer side of what the browser shows, in pixels: larger photographs are
# reduced to it, and those of less than half of it enlarged, to be painted on.
SHOWN_SIDE = 1024
# How a hole that is known already is shown: its colour, and how much of it.
HOLE_COLOUR = (255, 56, 92)
_COVER = 0.6
_MAX_LAYER = 2 * SHOWN_SIDE**2 / 1e6  # Megapixels.
# What messages of the package name, and what the page has in its place.
_CONTROLS = (
  ("config.mask.file_polarity is white_is_known", "“Black is the hole” is set"),
  ("config.mask.file_polarity", "“Black is the hole”"),
  (", or raise config.max_megapixels in a job that has it", ""),
)


@dataclasses.dataclass(frozen=True)
class Photograph:
  """A photograph that a visitor has opened.

  Attributes:
    path: its file, as it came.
    name: the file's own name, which may be shown.
    height: in pixels, upright.
    width: in pixels, upright.
    shown: uint8 [h, w, 3], at the size at which the browser shows it.
    clear: bool [h, w], its transparent pixels, at that size; None without any.
  """

  path: pathlib.Path
  name: str
  height: int
  width: int
  shown: np.ndarray
  clear: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Mask:
  """A mask file that a visitor has added.

  Attributes:
    path: its file, as it came.
    polarity: one of `mask_files.POLARITIES`.
    shown: bool [h, w], the hole at the size at which the browser shows it.
    note: what is odd about it, as a line for the visitor, or ''.
  """

  path: pathlib.Path
  polarity: str
  shown: np.ndarray
  note: str


@dataclasses.dataclass(frozen=True)
class Hole:
  """A hole, by its parts.

  Attributes:
    painted: bool [h, w] of any size, what was painted; None if nothing was.
    mask: a mask file, or None.
    polarity: of the mask file, one of `mask_files.POLARITIES`.
    alpha: whether the photograph's transparent pixels belong to it.
  """

  painted: np.ndarray | None = None
  mask: pathlib.Path | None = None
  polarity: str = mask_files.POLARITIES[0]
  alpha: bool = False


def open_photograph(path: str | os.PathLike[str]) -> Photograph:
  """Opens a photograph.

  Args:
    path: its file, which may be a stranger's.

  Raises:
    errors.UserError: it cannot be read, or is too large.
  """
  path = pathlib.Path(path)
  picture = read_picture(path)
  height, width = picture.values.shape[:2]
  size = shown_size(height, width)
  clear = _clear(picture)
  return Photograph(
    path,
    errors.printable(path.name),
    height,
    width,
    to_shown(picture_lib.rgb(picture)),
    mask_files.resize(clear, *size) if clear.any() else None,
  )


def open_mask(
  path: str | os.PathLike[str],
  photograph: Photograph,
  *,
  black_is_hole: bool = False,
) -> Mask:
  """Opens a mask file.

  Args:
    path: the file, which may be a stranger's.
    photograph: that it is for.
    black_is_hole: rather than white.

  Raises:
    errors.UserError: it cannot be read, is no mask, or has other proportions.
  """
  path = pathlib.Path(path)
  polarity = mask_files.POLARITIES[black_is_hole]
  reading = _read_mask(path, polarity, photograph.height, photograph.width)
  shown = mask_files.resize(reading.hole, *photograph.shown.shape[:2])
  return Mask(path, polarity, shown, reading.note)


def read_picture(path: pathlib.Path) -> picture_lib.Picture:
  """Reads a photograph in full.

  Args:
    path: its file, which may be a stranger's.

  Raises:
    errors.UserError: it cannot be read, or is too large.
  """
  encoded = _read(path)
  try:
    return image_files.read(encoded)
  except MemoryError:
    raise decoding.out_of_memory(encoded) from None
  except Exception as error:  # Pillow raises many kinds.
    raise _refusal(path, error) from error


def read_hole(hole: Hole, picture: picture_lib.Picture) -> np.ndarray:
  """Returns a hole at its photograph's size.

  Args:
    hole: its parts; what any of them has is hole.
    picture: the photograph.

  Returns:
    bool [H, W].

  Raises:
    errors.UserError: a part cannot be read, or there is no hole at all.
  """
  height, width = picture.values.shape[:2]
  found = _clear(picture) if hole.alpha else np.zeros((height, width), bool)
  if hole.mask is not None:
    found |= _read_mask(hole.mask, hole.polarity, height, width).hole
  if hole.painted is not None:
    found |= mask_files.resize(hole.painted, height, width)
  if not found.any():
    raise errors.UserError(
      "there is no hole yet: paint over what is to be filled, or add a mask"
    )
  return found


def read_painted(layers: Sequence[str | os.PathLike[str]]) -> np.ndarray | None:
  """Reads what is painted on layers.

  Args:
    layers: image files of one size; their pixels that are not transparent are
      painted, soft edges included.

  Returns:
    bool [h, w]; None where nothing is painted.

  Raises:
    errors.UserError: one cannot be read, or is larger than a browser's.
  """
  found = None
  for path in map(pathlib.Path, layers):
    encoded = _read(path)
    try:
      with decoding.open_file(encoded, _MAX_LAYER) as image:
        painted = np.asarray(image.convert("RGBA"))[..., 3] > 0
      found = painted if found is None else found | painted
    except Exception as error:  # Pillow raises many kinds.
      raise _refusal(path, error) from error
  return found if found is not None and found.any() else None


def shown_size(height: int, width: int) -> tuple[int, int]:
  """Returns the height and width at which the browser shows a photograph.

  Args:
    height: of the photograph.
    width: of the photograph.
  """
  longer = max(height, width)
  if longer > SHOWN_SIDE:
    factor = SHOWN_SIDE / longer
  else:
    factor = max(1, SHOWN_SIDE // (2 * longer))
  return max(1, round(height * factor)), max(1, round(width * factor))


def to_shown(image: np.ndarray) -> np.ndarray:
  """Returns a photograph as the browser shows it.

  Args:
    image: uint8 [H, W, 3].

  Returns:
    uint8 [h, w, 3], of the `shown_size`.
  """
  height, width = shown_size(*image.shape[:2])
  if (height, width) == image.shape[:2]:
    return image
  kind = Image.Resampling.BICUBIC
  if height < image.shape[0]:
    kind = Image.Resampling.LANCZOS
  return np.asarray(Image.fromarray(image).resize((width, height), kind))


def around(hole: np.ndarray) -> tuple[slice, slice]:
  """Returns the rows and columns of a hole and of as much around it.

  Args:
    hole: bool [H, W], not empty.
  """
  slices = []
  for axis in (1, 0):
    places = np.nonzero(hole.any(axis=axis))[0]
    first, last = int(places[0]), int(places[-1]) + 1
    more = max(16, (last - first) // 2)
    slices.append(slice(max(0, first - more), last + more))
  return slices[0], slices[1]


def with_hole(photograph: Photograph, *holes: np.ndarray | None) -> np.ndarray:
  """Returns a photograph as the browser shows it, with holes in their colour.

  Args:
    photograph: the photograph.
    *holes: bool [h, w] each, of the size that is shown, or None.
  """
  image = photograph.shown.copy()
  for hole in holes:
    if hole is not None:
      under = photograph.shown[hole]
      colour = _COVER * np.array(HOLE_COLOUR) + (1 - _COVER) * under
      image[hole] = np.round(colour).astype(np.uint8)
  return image


def _clear(picture: picture_lib.Picture) -> np.ndarray:
  """Returns the pixels of a photograph that were erased, bool [H, W]."""
  alpha = picture.alpha
  if alpha is None:
    return np.zeros(picture.values.shape[:2], bool)
  return mask_files.of_alpha(alpha, mask_files.MOSTLY_OPAQUE).hole


def _read_mask(
  path: pathlib.Path, polarity: str, height: int, width: int
) -> mask_files.Reading:
  """Reads a mask file at the size of its photograph."""
  encoded = _read(path)
  try:
    reading = mask_files.read(encoded, polarity)
    hole = mask_files.fit(reading.hole, height, width, what="photograph")
  except Exception as error:  # Pillow raises many kinds.
    raise _refusal(path, error) from error
  return reading._replace(hole=hole, note=_for_page(reading.note))


def _read(path: pathlib.Path) -> bytes:
  try:
    return untrusted.read_bytes(path)
  except FileNotFoundError:
    raise errors.UserError(
      f"{path.name} is no longer here: files are removed after an hour; load "
      "it again"
    ) from None
  except (OSError, ValueError) as error:
    raise _refusal(path, error) from error


def _refusal(path: pathlib.Path, error: Exception) -> errors.UserError:
  reason = getattr(error, "strerror", None) or str(error)
  return errors.UserError(
    f"{path.name}: {_for_page(reason) or type(error).__name__}"
  )


def _for_page(text: str) -> str:
  """Returns a message in which controls of the page take the place of flags."""
  for flag, control in _CONTROLS:
    text = text.replace(flag, control)
  return text
