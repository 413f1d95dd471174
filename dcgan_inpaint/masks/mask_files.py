"""What a mask that somebody painted means: where the hole is.

Painted masks come from many programs. White, or what is not zero, is the hole.
Edges that are soft belong to it, since what lies under them is damaged too. A
mask is read as what it plainly shows, and refused where that is open.
"""

from typing import NamedTuple

from absl import logging
import numpy as np
from PIL import Image

from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import metadata
from dcgan_inpaint.runtime import errors

POLARITIES = ("white_is_hole", "white_is_known")
# The tail of a soft brush is wide: with all of it, the hole of a nose takes
# both cheeks, and its squared error trebles.
MOSTLY_OPAQUE = 192

# Of 255 levels: from here on a mask that was stored with losses is hole; the
# ripples of JPEG around an edge stay below.
_NOISE = 32
# Values up to here are background, and where so large a share of them is zero,
# the background is clean, and all that is not zero was painted.
_DARK, _CLEAN = 64, 0.9
# Channels that differ by more are a colour, where more pixels than this share
# do; the chroma of JPEG makes a few.
_COLOUR, _FEW = 32, 0.001
# A mask with more pixels than this share between black and white is a picture.
_HALF_TONES = 0.5
# Above this share of an image, a hole is probably the wrong way round.
_MOST = 0.9
# How far the pixels of a stroke may be from its colour, and how many further.
_ONE_COLOUR, _STRAY = 48, 0.02


class Reading(NamedTuple):
  """What a mask means.

  Attributes:
    hole: bool [H, W], True = hole.
    note: what is odd about it, as a line for the user, or ''.
  """

  hole: np.ndarray
  note: str = ""


def read(
  encoded: bytes,
  polarity: str = "white_is_hole",
  max_megapixels: float = decoding.MAX_MEGAPIXELS,
) -> Reading:
  """Reads a mask file, upright.

  Args:
    encoded: its bytes.
    polarity: one of `POLARITIES`.
    max_megapixels: the most millions of pixels that it may have.

  Raises:
    errors.UserError: it shows no mask.
    Exception: of many kinds; see `decoding.open_rgb`.
  """
  with decoding.open_file(encoded, max_megapixels) as image:
    deep = decoding.is_deep(image)
    lossless = image.format not in ("JPEG", "MPO", "WEBP", "HEIF", "AVIF")
    image = metadata.upright(image)
  if deep:
    values = np.asarray(image).astype(np.uint16)
    return of_values(values, polarity, top=65_535)
  return of_pillow(image, polarity, lossless=lossless)


def of_pillow(
  image: Image.Image, polarity: str = "white_is_hole", *, lossless: bool = True
) -> Reading:
  """Returns what a Pillow image means as a mask.

  Args:
    image: of any mode of 8 bits.
    polarity: one of `POLARITIES`.
    lossless: whether its pixels are those that were painted.

  Raises:
    errors.UserError: it shows no mask.
    ValueError: it has pixels of 32 bits, or colours that are no RGB.
  """
  if image.mode.startswith("I;16"):
    return of_values(np.asarray(image), polarity, top=65_535)
  if image.mode in ("LAB", "HSV"):
    raise ValueError(f"conversion from {image.mode} is not supported")
  decoding.check_depth(image)
  if image.has_transparency_data:
    pixels = np.asarray(image.convert("RGBA"))
    if (pixels[..., 3] < 255).any():
      return _of_layer(pixels, polarity)
    return _of_colours(pixels[..., :3], polarity, lossless)
  if image.mode in ("1", "L"):
    return of_values(
      np.asarray(image.convert("L")), polarity, lossless=lossless
    )
  return _of_colours(np.asarray(image.convert("RGB")), polarity, lossless)


def of_values(
  values: np.ndarray,
  polarity: str = "white_is_hole",
  *,
  top: int = 255,
  lossless: bool = True,
) -> Reading:
  """Returns what grey levels mean as a mask.

  Args:
    values: [H, W] of integers.
    polarity: one of `POLARITIES`.
    top: the value of white.
    lossless: whether they are those that were painted.

  Raises:
    errors.UserError: most levels lie between black and white.
  """
  low, high = int(values.min()), int(values.max())
  spread = f"its values are {low} to {high} of {top}"
  some = values[:: max(1, len(values) // 64)]
  kinds = np.unique(some)
  if len(kinds) <= 2:
    kinds = np.unique(values)
  if len(kinds) <= 2:
    # Whatever two values these are, such as the 0 and 1 of classes.
    white = values > low if len(kinds) == 2 else values > 0
    return _reading(white, polarity, spread)
  between = (values > top // 4) & (values < top - top // 4)
  if between.mean() > _HALF_TONES:
    raise errors.UserError(
      "it is a picture, not a mask: most of its pixels are neither black nor "
      "white; paint the hole white on black"
    )
  painted = values
  if polarity == "white_is_known":
    # The soft edges of what is black then are the hole's.
    painted = top - values.astype(np.int64)
  dark = painted[painted < _DARK * top // 255]
  zeros = np.mean(dark == 0) if dark.size else 1.0
  least = 1
  if not lossless or zeros < _CLEAN:
    least = (int(np.median(dark)) if dark.size else 0) + _NOISE * top // 255
  return _reading(painted >= least, "white_is_hole", spread)


def of_alpha(alpha: np.ndarray, opaque: int = 255) -> Reading:
  """Returns the hole that was erased from an image.

  Args:
    alpha: uint8 [H, W].
    opaque: from here on a pixel is not hole. `MOSTLY_OPAQUE` suits an image's
      own alpha, whose colours a soft brush leaves as they were.
  """
  hole = alpha < opaque
  note = ""
  if hole.mean() > _MOST:
    note = f"{_percent(hole)} of the image are transparent, and so is the hole"
  return Reading(hole, note)


def fit(
  hole: np.ndarray, height: int, width: int, *, what: str = "image"
) -> np.ndarray:
  """Returns a hole at the size of its image.

  Of a mask that is larger, every pixel of the image that the hole touches is
  hole, so that thin lines survive.

  Args:
    hole: bool [h, w].
    height: of the image.
    width: of the image.
    what: the mask is for, for the message.

  Raises:
    errors.UserError: the proportions differ.
  """
  rows, columns = hole.shape
  if (rows, columns) == (height, width):
    return hole
  if not _alike((rows, columns), (height, width)):
    turned = _alike((columns, rows), (height, width))
    advice = "cut it as the image is cut"
    if turned:
      advice = "turn it: the image is turned as its EXIF says"
    raise errors.UserError(
      f"the mask has {columns}x{rows} pixels and the {what} {width}x{height}: "
      f"their proportions differ; {advice}"
    )
  return resize(hole, height, width)


def resize(hole: np.ndarray, height: int, width: int) -> np.ndarray:
  """Returns a hole, bool [h, w], at another size, whatever its proportions.

  Args:
    hole: bool [h, w].
    height: of the result.
    width: of the result.
  """
  rows, columns = hole.shape
  if (rows, columns) == (height, width):
    return hole
  if rows < height or columns < width:
    picture = Image.fromarray(hole)
    nearest = picture.resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(nearest)
  part = Image.fromarray(hole.astype(np.float32))
  part = part.resize((width, height), Image.Resampling.BOX)
  return np.asarray(part) > 1e-6


def _alike(given: tuple[int, int], wanted: tuple[int, int]) -> bool:
  """Tells whether two sizes have the same proportions, but for a pixel."""
  pairs = list(zip(given, wanted, strict=True))
  return any(
    all(abs(g - scale * w) <= max(1, scale) for g, w in pairs)
    for scale in (g / w for g, w in pairs)
  )


def _of_colours(pixels: np.ndarray, polarity: str, lossless: bool) -> Reading:
  """Returns what opaque RGB means as a mask."""
  colour = pixels.max(axis=-1).astype(np.int16) - pixels.min(axis=-1)
  if np.mean(colour > _COLOUR) > _FEW:
    names = _names(pixels)
    raise errors.UserError(
      f"it has colours ({names}), and which of them is the hole is open: paint "
      "the hole white on black (config.mask.file_polarity says which is which)"
    )
  return of_values(
    np.asarray(Image.fromarray(pixels).convert("L")),
    polarity,
    lossless=lossless,
  )


def _of_layer(pixels: np.ndarray, polarity: str) -> Reading:
  """Returns what RGBA with transparent parts means as a mask.

  Three things look like this: strokes that were painted on an empty layer; a
  picture from which the hole was erased; and a mask in black and white, a few
  pixels of which happen to be transparent.
  """
  colours, alpha = pixels[..., :3], pixels[..., 3]
  solid = alpha == 255
  if not solid.any():
    solid = alpha >= max(1, int(alpha.max()) // 2)
  if not alpha.any():
    return _reading(np.ones(alpha.shape, bool), polarity, "all is transparent")
  painted = colours[solid].astype(np.int16)
  middle = np.median(painted, axis=0)
  stray = np.abs(painted - middle).max(axis=-1) > _ONE_COLOUR
  if stray.mean() <= _STRAY:
    # One colour: a layer. Where it is dark and covers most, the hole was erased
    # from it: black is known, as ever.
    bright = middle.mean() >= 128
    covers = alpha > 0
    is_hole = bright or covers.mean() <= 0.5
    if polarity == "white_is_known":
      is_hole = not bright
    hole = covers if is_hole else alpha < 255
    return _reading(hole, "white_is_hole", "strokes on a transparent layer")
  extreme = (painted < _DARK).all(axis=-1) | (painted > 255 - _DARK).all(
    axis=-1
  )
  if extreme.mean() >= 1 - _STRAY:
    # Colours decide; what is transparent was not painted.
    grey = np.where(alpha[..., None] > 0, colours, 0)
    if polarity == "white_is_known":
      grey = np.where(alpha[..., None] > 0, colours, 255)
    found = of_values(grey.astype(np.uint8).max(axis=-1), polarity)
    note = (
      "the mask is black and white and also has transparent pixels; its "
      "colours are taken: save it without transparency"
    )
    return Reading(found.hole, "; ".join(filter(None, [note, found.note])))
  return of_alpha(alpha)


def _reading(white: np.ndarray, polarity: str, about: str) -> Reading:
  """Returns the hole, with a note where it is hardly meant."""
  hole = white if polarity == "white_is_hole" else ~white
  note = ""
  if hole.mean() > _MOST:
    note = (
      f"{_percent(hole)} of the mask are hole: is it the other way round "
      "(config.mask.file_polarity)?"
    )
  elif not hole.any():
    note = (
      f"the mask leaves no hole ({about}): white is the hole, unless "
      "config.mask.file_polarity is white_is_known"
    )
  return Reading(hole, note)


def warn(note: str, name: str) -> None:
  """Logs what is odd about a mask.

  Args:
    note: of a `Reading`; '' is not logged.
    name: of the mask or its image.
  """
  if note:
    logging.warning("%s: %s", name, note)


def _percent(hole: np.ndarray) -> str:
  return f"{100 * hole.mean():.3g} %"


def _names(pixels: np.ndarray) -> str:
  """Returns the most common colours of a mask, as #rrggbb."""
  colours, often = np.unique(
    pixels[::4, ::4].reshape(-1, 3), axis=0, return_counts=True
  )
  first = colours[np.argsort(-often)[:3]]
  return ", ".join(f"#{bytes(colour).hex()}" for colour in first)
