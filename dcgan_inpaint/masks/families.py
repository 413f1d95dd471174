"""The families of holes, by name; `mask_sets.make` calls them.

Each takes the settings, of which it reads the fields in backquotes in its
docstring, and the image's height and width, and returns bool [height, width],
True = hole. The fixed ones give every image the same hole; the random ones draw
it from the image's own `rng`, using only `rng.random`: NumPy's other
distributions may change their stream from one version to the next.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import math
import os
from typing import Any
from typing import TypeAlias

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from dcgan_inpaint.data import decoding
from dcgan_inpaint.masks import drawing
from dcgan_inpaint.masks import mask_files
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import untrusted

Settings: TypeAlias = mask_settings.MaskSettings
Rng: TypeAlias = np.random.Generator

# The values that a `size` or `share` of 0 stands for, by family. Sizes of at
# least 1 are in pixels of an image of the side below, and scale with the image
# (`default_size`).
_REFERENCE_SIDE = 64
DEFAULT_SIZES = {
  "centre": 32,
  "box": 32,
  "pattern": 0.13,
  "strokes": 0.15,
  "scratches": 1,
  "text": 0.2,
  "blocks": 8,
  "lines": 1,
  "border": 0.25,
  "low_resolution": 4,
}
DEFAULT_SHARES = {
  "random_pixels": 0.8,
  "pattern": 0.25,
  "strokes": 0.25,
  "scratches": 0.1,
  "text": 0.1,
  "blocks": 0.25,
  "lines": 0.25,
}


def default_size(family: str, side: int) -> float:
  """Returns what a `size` of 0 stands for; 0 for a family without a size.

  Args:
    family: its name.
    side: the shorter side of the image, pixels.
  """
  size = DEFAULT_SIZES.get(family, 0)
  if size < 1:
    return size
  least = 2 if family == "low_resolution" else 1
  return max(least, round(size * side / _REFERENCE_SIDE))


def _centre(config: Settings, height: int, width: int) -> np.ndarray:
  """A centred square of side `size`; an odd pixel goes below and right."""
  side = _pixels(config, height, width)
  return drawing.square(
    (height - side) // 2, (width - side) // 2, side, height, width
  )


def _half(config: Settings, height: int, width: int) -> np.ndarray:
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


def _border(config: Settings, height: int, width: int) -> np.ndarray:
  """A rim that is `size` wide: outpainting.

  "Expand" of RePaint (Lugmayr et al., CVPR 2022), whose rim is 3/8 of the side.
  With the default, a quarter, the known part is the hole of `centre`.
  """
  rim = _pixels(config, height, width, most=(min(height, width) - 1) // 2)
  hole = np.ones((height, width), bool)
  hole[rim : height - rim, rim : width - rim] = False
  return hole


def _low_resolution(config: Settings, height: int, width: int) -> np.ndarray:
  """All but every `size`-th pixel of every `size`-th row: super-resolution.

  "Super-Resolve 2x" of RePaint (Lugmayr et al., CVPR 2022) is `size=2`.
  """
  step = _pixels(config, height, width, least=2)
  hole = np.ones((height, width), bool)
  first = (step - 1) // 2  # The known pixels are centred in the image.
  hole[first::step, first::step] = False
  return hole


def _file(config: Settings, height: int, width: int) -> np.ndarray:
  """The image file at `path`, resized if necessary.

  For square images it is first cropped like the images (`data.decoding`), so
  that a mask drawn over a photograph keeps its position in the crop.

  White is the hole, as in IOPaint and LaMa, or the known part with
  `file_polarity='white_is_known'`; `mask_files` has the details.
  """
  polarities = mask_files.POLARITIES
  if config.file_polarity not in polarities:
    raise _wrong(
      "file_polarity",
      config.file_polarity,
      f"choose one of {_list(polarities)}",
    )
  if not config.path:
    raise _wrong("path", config.path, "family 'file' needs an image file")
  try:
    encoded = untrusted.read_bytes(os.path.expanduser(config.path))
    # As many pixels as its image may have.
    most = max(decoding.MAX_MEGAPIXELS, height * width / 1e6)
    hole = mask_files.read(encoded, config.file_polarity, most).hole
  # Pillow raises many kinds of exceptions for broken files, and its own for
  # huge ones.
  except Exception as error:  # noqa: BLE001
    reason = getattr(error, "strerror", None) or str(error)
    raise _wrong("path", config.path, reason) from error
  if height == width:
    left, upper, right, lower = decoding.crop_box(hole.shape[::-1])
    hole = hole[upper:lower, left:right]
  return mask_files.resize(hole, height, width)


def _box(config: Settings, rng: Rng, height: int, width: int) -> np.ndarray:
  """A square of side `size` at `position`, 'y,x' of its top left corner.

  If `position` is '', it is random and uniform.
  """
  side = _pixels(config, height, width)
  lowest, rightmost = height - side, width - side
  if not config.position:
    y = int(rng.random() * (lowest + 1))
    x = int(rng.random() * (rightmost + 1))
    return drawing.square(y, x, side, height, width)
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
  return drawing.square(y, x, side, height, width)


def _random_pixels(
  config: Settings, rng: Rng, height: int, width: int
) -> np.ndarray:
  """Single pixels, `share` of all: the 80 % of Yeh et al. (CVPR 2017)."""
  count = _count(config, height * width)
  return drawing.first(rng.random((height, width)), count)


def _pattern(config: Settings, rng: Rng, height: int, width: int) -> np.ndarray:
  """Irregular blobs of about `size`, `share` of all pixels.

  The "random region" of Pathak et al. (CVPR 2016, `train_random.lua`) and the
  "pattern" of Yeh et al. (CVPR 2017): uniform noise, one number for every cell
  of `size` pixels, enlarged by cubic interpolation; the lowest values are the
  hole. They use a fixed threshold and keep holes of 20 to 30 %; here the
  threshold is chosen to give `share`.
  """
  cell = _pixels(config, height, width)
  noise = rng.random((height // cell + 6, width // cell + 6))
  # A random position on the grid of cells, at least two cells from its edge.
  top, left = 2 + rng.random(2)
  field = Image.fromarray(noise.astype(np.float32)).resize(
    (width, height),
    Image.Resampling.BICUBIC,
    box=(left, top, left + width / cell, top + height / cell),
  )
  return drawing.first(np.asarray(field), _count(config, height * width))


def _strokes(config: Settings, rng: Rng, height: int, width: int) -> np.ndarray:
  """Free-form strokes of a brush up to `size` wide, `share` of all pixels.

  The free-form masks of DeepFillv2 (Yu et al., ICCV 2019), with the settings
  of its code for 256 pixels, scaled: zigzags of 4 to 11 straight lines, an
  eighth of the diagonal long on average, that alternately turn by 72 ± 24
  degrees to either side. Strokes are added until `share` is
  reached, and the last one stops there.
  """
  brush = _pixels(config, height, width)
  reach = math.hypot(height, width) / 8

  def draw() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
      y, x = height * rng.random(), width * rng.random()
      heading = 2 * math.pi * rng.random()
      thickness = max(1, brush * (0.3 + 0.7 * rng.random()))
      for i in range(4 + int(8 * rng.random())):
        turn = (-1) ** i * math.radians(48 + 48 * rng.random())
        length = reach * (rng.random() + rng.random())
        end_y = y + length * math.sin(heading + turn)
        end_x = x + length * math.cos(heading + turn)
        end_y = min(max(end_y, 0), height - 1)
        end_x = min(max(end_x, 0), width - 1)
        yield drawing.line(y, x, end_y, end_x, thickness, height, width)
        y, x = end_y, end_x

  return drawing.fill(draw(), _count(config, height * width, most=0.8))


def _scratches(
  config: Settings, rng: Rng, height: int, width: int
) -> np.ndarray:
  """Cracks, `size` wide, that wander and branch, `share` of all pixels.

  The damage of old prints (Wan et al., "Bringing old photos back to life",
  CVPR 2020) and of films (Kokaram et al., 1995). A crack runs in both
  directions until it leaves the image, as do its branches. Cracks are added
  until `share` is reached, and the last one stops there.
  """
  thickness = _pixels(config, height, width)
  step = math.hypot(height, width) / 16

  def draw() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
      y, x = height * rng.random(), width * rng.random()
      heading = 2 * math.pi * rng.random()
      tips = [(y, x, heading), (y, x, heading + math.pi)]
      while tips:
        y, x, heading = tips.pop(0)
        while 0 <= y < height and 0 <= x < width:
          heading += 0.7 * (rng.random() - 0.5)
          end_y = y + step * math.sin(heading)
          end_x = x + step * math.cos(heading)
          yield drawing.line(y, x, end_y, end_x, thickness, height, width)
          y, x = end_y, end_x
          if rng.random() < 0.1:
            fork = (0.4 + 0.6 * rng.random()) * (-1) ** int(2 * rng.random())
            tips.append((y, x, heading + fork))

  return drawing.fill(draw(), _count(config, height * width, most=0.8))


def _text(config: Settings, rng: Rng, height: int, width: int) -> np.ndarray:
  """Lines of words in letters of `size`, `share` of all pixels.

  The superimposed text of Bertalmio et al. (SIGGRAPH 2000), in Pillow's own
  font. Lines are added in random order until `share` is reached, and the last
  one stops there. The pixels may differ between versions of Pillow.
  """
  size = _pixels(config, height, width, least=6)
  font = ImageFont.load_default(size)
  words = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog")
  columns = np.broadcast_to(np.arange(width), (height, width))

  def draw() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
      tops = np.arange(-size * rng.random(), height, 1.1 * size)
      for top in tops[np.argsort(rng.random(len(tops)))]:
        line = ""
        while font.getlength(line) < width + size:
          line += words[int(len(words) * rng.random())] + " "
        page = Image.new("L", (width, height))
        left = -int(size * rng.random())
        ImageDraw.Draw(page).text((left, int(top)), line, 255, font)
        yield np.asarray(page) >= 128, columns

  return drawing.fill(draw(), _count(config, height * width, most=0.5))


def _blocks(config: Settings, rng: Rng, height: int, width: int) -> np.ndarray:
  """Squares of a grid of `size`, `share` of all: lost macroblocks.

  As block-coded images and films lose 8x8 blocks (Sun and Kwok, IEEE
  Transactions on Image Processing 4, 1995).
  """
  side = _pixels(config, height, width)
  return _lost(config, rng, side, side, height, width)


def _lines(config: Settings, rng: Rng, height: int, width: int) -> np.ndarray:
  """Whole rows, in bands of `size`, `share` of all: lost scan lines.

  "Alternating Lines" of RePaint (Lugmayr et al., CVPR 2022), at random.
  """
  band = _pixels(config, height, width)
  return _lost(config, rng, band, width, height, width)


# The families with one hole for all images, and those with one for each.
FIXED: dict[str, Callable[[Settings, int, int], np.ndarray]] = {
  "centre": _centre,
  "half": _half,
  "border": _border,
  "low_resolution": _low_resolution,
  "file": _file,
}
RANDOM: dict[str, Callable[[Settings, Rng, int, int], np.ndarray]] = {
  "box": _box,
  "random_pixels": _random_pixels,
  "pattern": _pattern,
  "strokes": _strokes,
  "scratches": _scratches,
  "text": _text,
  "blocks": _blocks,
  "lines": _lines,
}


def _lost(
  config: Settings, rng: Rng, tall: int, wide: int, height: int, width: int
) -> np.ndarray:
  """Returns `share` of the tiles of a grid; the last ones may be cropped."""
  grid = -(-height // tall), -(-width // wide)
  count = _count(config, math.prod(grid), "tiles")
  tiles = drawing.first(rng.random(grid), count)
  return np.kron(tiles, np.ones((tall, wide), bool))[:height, :width]


def _pixels(
  config: Settings,
  height: int,
  width: int,
  least: int = 1,
  most: int | None = None,
) -> int:
  """Returns `size` in pixels; below 1 it is a fraction of the shorter side."""
  shorter = min(height, width)
  most = shorter if most is None else most
  size = config.size or default_size(config.family, shorter)
  pixels = round(size * shorter) if size < 1 else size
  if not (least <= pixels <= most and pixels == int(pixels)):
    raise _wrong(
      "size",
      size,
      f"it must be whole pixels in {least}..{most}, or a fraction of {shorter} "
      "below 1 that gives as many",
    )
  return int(pixels)


def _count(
  config: Settings, total: int, units: str = "pixels", most: float = 1
) -> int:
  """Returns the number of pixels, or of other units, that are `share`."""
  share = config.share or DEFAULT_SHARES[config.family]
  count = round(share * total) if 0 < share <= most else 0
  if count == 0:
    raise _wrong(
      "share",
      share,
      f"it must lie in 0..{most} and make a hole of at least 1 of {total} "
      f"{units}",
    )
  return count


def _wrong(field: str, value: Any, remedy: str) -> errors.UserError:
  return errors.UserError(f"config.mask.{field} is {value!r}: {remedy}")


def _list(names: Iterable[str]) -> str:
  return ", ".join(repr(name) for name in names)
