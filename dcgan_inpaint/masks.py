"""The holes: every family of masks, and masks from a user's file.

A mask is float32 [H, W, 1] with 1 = known and 0 = hole, the paper's M. A mask
depends on `config.mask`, the size and its image's index alone, so that a set
of masks is the same for every method, batch size, device and run.
"""

from collections.abc import Sequence
import hashlib

import ml_collections
import numpy as np
from PIL import Image

from dcgan_inpaint import errors
from dcgan_inpaint.data import decoding


def make(
  config: ml_collections.ConfigDict,
  indices: Sequence[int],
  height: int = 64,
  width: int = 64,
) -> np.ndarray:
  """Returns the masks of some images.

  Args:
    config: `config.mask`: `family` is one of `FAMILIES`; the other fields are
      described at the family that reads them.
    indices: the images' places in their data set, ints >= 0 [n]. The mask of
      an image is drawn from (`config.seed`, its index), never from its
      neighbours.
    height: of the images, pixels.
    width: of the images, pixels.

  Returns:
    float32 [n, height, width, 1], 1 = known, 0 = hole.

  Raises:
    errors.UserError: a field of `config.mask` has a wrong value.
  """
  if config.family not in FAMILIES:
    raise _wrong("family", config.family, f"choose one of {_list(FAMILIES)}")
  if config.seed < 0:
    raise _wrong("seed", config.seed, "it must be 0 or more")
  holes = np.empty((len(indices), height, width), bool)
  if config.family in _FIXED:
    holes[:] = _FIXED[config.family](config, height, width)
  else:
    for hole, index in zip(holes, indices, strict=True):
      rng = np.random.default_rng((config.seed, int(index)))
      hole[:] = _RANDOM[config.family](config, rng, height, width)
  return np.float32(~holes[..., None])


def hole_share(masks: np.ndarray) -> np.ndarray:
  """Returns the share of each mask's pixels that is hole, float [...], 0..1.

  Args:
    masks: float [..., H, W, 1], 1 = known, 0 = hole.
  """
  return 1 - np.mean(masks, axis=(-3, -2, -1), dtype=np.float64)


def digest(masks: np.ndarray) -> str:
  """Returns 12 hexadecimal digits that tell one set of masks from another.

  Results can be compared only where the holes are the same; the digest says so
  without the masks.

  Args:
    masks: float [n, H, W, 1], 1 = known, 0 = hole.
  """
  known = np.asarray(masks) > 0.5
  content = repr(known.shape).encode() + np.packbits(known).tobytes()
  return hashlib.sha256(content).hexdigest()[:12]


# The families. Each returns bool [height, width], True = hole. Fixed ones give
# every image the same hole; random ones draw it from the image's own `rng`.
# They draw by `rng.random` alone, as NumPy's other distributions may change
# their stream from one version to the next.


def _centre(config, height, width):
  """A centred square of side `size`; an odd pixel goes below and right."""
  side = _side_length(config, height, width)
  return _square((height - side) // 2, (width - side) // 2, side, height, width)


def _half(config, height, width):
  """One half of the image: the hole is on `side`."""
  hole = np.zeros((height, width), bool)
  halves = {
    "left": np.s_[:, : width // 2],
    "right": np.s_[:, width - width // 2 :],
    "top": np.s_[: height // 2],
    "bottom": np.s_[height - height // 2 :],
  }
  if config.side not in halves:
    raise _wrong("side", config.side, f"choose one of {_list(halves)}")
  hole[halves[config.side]] = True
  return hole


def _file(config, height, width):
  """The image file at `path`, resized to the nearest pixel where need be.

  For square images it is first cropped as they were (`data.decoding`), so that
  a mask drawn over a photograph still lies where it was drawn.

  White (128 or more) is the hole, as in IOPaint and LaMa, or the known part
  with `file_polarity='white_is_known'`. In a picture with transparent pixels
  (alpha below 128) these are the hole, whatever its colours and the polarity.
  """
  polarity = config.file_polarity
  polarities = ("white_is_hole", "white_is_known")
  if polarity not in polarities:
    raise _wrong(
      "file_polarity", polarity, f"choose one of {_list(polarities)}"
    )
  if not config.path:
    raise _wrong("path", config.path, "family 'file' needs an image file")
  try:
    with Image.open(config.path) as image:
      grey = np.asarray(image.convert("L"))
      alpha = np.full_like(grey, 255)
      if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
  except OSError as error:
    reason = error.strerror or "it is not an image that Pillow can read"
    raise _wrong("path", config.path, reason) from error
  if alpha.min() < 128:
    hole = alpha < 128
  elif polarity == "white_is_hole":
    hole = grey >= 128
  else:
    hole = grey < 128
  picture = Image.fromarray(hole)
  if height == width:
    picture = picture.crop(decoding.crop_box(picture.size))
  hole = np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))
  if not hole.any():
    raise _wrong(
      "path",
      config.path,
      f"it leaves no hole at {height}x{width}: its values are "
      f"{grey.min()}..{grey.max()}, white is 128 or more, and "
      f"config.mask.file_polarity is {polarity!r}",
    )
  return hole


def _box(config, rng, height, width):
  """A square of side `size` at `position`, 'y,x' of its top left corner.

  Where `position` is '', the place is random, every place alike.
  """
  side = _side_length(config, height, width)
  lowest, rightmost = height - side, width - side
  if not config.position:
    y = int(rng.random() * (lowest + 1))
    x = int(rng.random() * (rightmost + 1))
    return _square(y, x, side, height, width)
  try:
    y, x = (int(number) for number in config.position.split(","))
  except ValueError:
    raise _wrong(
      "position", config.position, "write 'y,x' in pixels, such as '16,8'"
    ) from None
  if not (0 <= y <= lowest and 0 <= x <= rightmost):
    raise _wrong(
      "position",
      config.position,
      f"a box of {side} in an image of {height}x{width} needs y in "
      f"0..{lowest} and x in 0..{rightmost}",
    )
  return _square(y, x, side, height, width)


def _random_pixels(config, rng, height, width):
  """Single pixels: `share` of all of them, the same number in every image."""
  pixels = height * width
  count = round(config.share * pixels) if 0 < config.share <= 1 else 0
  if count == 0:
    raise _wrong(
      "share",
      config.share,
      f"it must lie in 0..1 and make a hole of at least 1 of {pixels} pixels",
    )
  hole = np.zeros(pixels, bool)
  hole[np.argsort(rng.random(pixels), kind="stable")[:count]] = True
  return hole.reshape(height, width)


_FIXED = {"centre": _centre, "half": _half, "file": _file}
_RANDOM = {"box": _box, "random_pixels": _random_pixels}
FAMILIES = (*_FIXED, *_RANDOM)


def _side_length(config, height, width):
  """Returns `size` in pixels; below 1 it is a share of the shorter side."""
  shorter = min(height, width)
  side = config.size if config.size >= 1 else round(config.size * shorter)
  if not (1 <= side <= shorter and side == int(side)):
    raise _wrong(
      "size",
      config.size,
      f"it must be whole pixels in 1..{shorter}, or a share of {shorter} "
      "between 0 and 1 that makes at least one pixel",
    )
  return int(side)


def _square(top, left, side, height, width):
  hole = np.zeros((height, width), bool)
  hole[top : top + side, left : left + side] = True
  return hole


def _wrong(field, value, remedy):
  return errors.UserError(f"config.mask.{field} is {value!r}: {remedy}")


def _list(names):
  return ", ".join(repr(name) for name in names)
