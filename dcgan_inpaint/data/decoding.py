"""From an encoded image file to square pixels, RGB or grey.

The crops, by name:

- `face128`: the face of an aligned CelebA image (178x218 pixels): the 128x128
  box with columns 25..152 and rows 57..184.
- `centre`: the centre square.
- `none`: the whole image, which is squeezed if it is no square.
- `auto`: `face128` for an image of 178x218 pixels, and else `centre`, so that a
  folder of CelebA's own files and a user's photographs each get the right one.

What is cut out is resized by Lanczos. An image that already has the requested
size is returned to the bit.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import concurrent.futures
import contextlib
import functools
import importlib.util
import io
import math
import os
import threading
import time
from typing import Any

from absl import logging
import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import features
import tqdm

from dcgan_inpaint.data import metadata
from dcgan_inpaint.runtime import budget
from dcgan_inpaint.runtime import errors

# The formats of Pillow that are read, whatever a file's suffix says. Some of
# the others start programs (EPS: Ghostscript), and few are well maintained.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
NO_HEIF = "HEIC is read with an extra: pip install 'dcgan-inpaint[heif]'"

FACE_CROP = "face128"
CROPS = ("auto", "centre", FACE_CROP, "none")
FACE_BOX = (25, 57, 153, 185)  # Left, upper, right, lower; ends excluded.
ALIGNED_SIZE = (178, 218)  # Width and height of an aligned CelebA image.

# What an image may have, and what one takes in memory while it is completed:
# together what suits a machine of 8 GB.
MAX_MEGAPIXELS = 64.0
BYTES_A_PIXEL = 65
MAX_SIDE = 65_535

_MIN_SIDE = 8  # Smaller ones are no pictures: tracking pixels, damaged files.
_ANIMATED = ("GIF", "PNG", "WEBP")  # Formats.
_WAITS = (0.1, 0.5)  # Seconds before a file is read again.
_CHUNK = 64  # Images that a thread takes at once.
_OPENING = threading.Lock()  # Held while Pillow's limit is changed.


@functools.cache
def formats() -> tuple[str, ...]:
  """Returns `FORMATS`, and those whose libraries are installed.

  These are AVIF, which most builds of Pillow have, and HEIF, the iPhone's, of
  the extra `heif`.
  """
  found = [*FORMATS]
  if "avif" in features.get_supported():
    found.append("AVIF")
  if importlib.util.find_spec("pillow_heif"):
    import pillow_heif  # pyright: ignore[reportMissingImports] # Of an extra.

    pillow_heif.register_heif_opener()
    found.append("HEIF")
  return tuple(found)


def decode(
  encoded: bytes,
  size: int,
  name: str = "",
  *,
  channels: int = 3,
  crop: str = "auto",
) -> np.ndarray:
  """Decodes one image, crops it to a square and resizes it.

  Args:
    encoded: bytes of an image file; see `open_rgb`, also for what is raised.
    size: side of the result in pixels.
    name: see `open_rgb`.
    channels: 3 (RGB), or 1: grey, the luma of colours.
    crop: one of `CROPS`.

  Returns:
    uint8 array [size, size, channels].

  Raises:
    ValueError: the image has not the size that the crop is for.
  """
  return _decode(encoded, size, name, channels, crop)[0]


def _decode(
  encoded: bytes, size: int, name: str, channels: int, crop: str
) -> tuple[np.ndarray, int]:
  """Returns what `decode` does, and the shorter side before it is resized."""
  image = open_rgb(encoded, name)
  if channels == 1:
    image = image.convert("L")
  if image.size != (size, size):
    image = image.crop(crop_box(image.size, crop))
  side = min(image.size)
  if image.size != (size, size):
    image = image.resize((size, size), Image.Resampling.LANCZOS)
  return np.asarray(image).reshape(size, size, channels), side


def image_size(
  encoded: bytes, max_megapixels: float = MAX_MEGAPIXELS
) -> tuple[int, int]:
  """Returns the width and height of an image, whose pixels are not decoded.

  Args:
    encoded: bytes of an image file; see `open_rgb`, also for what is raised.
    max_megapixels: see `open_rgb`.
  """
  with open_file(encoded, max_megapixels) as image:
    return image.size


def out_of_memory(
  encoded: bytes, max_megapixels: float = MAX_MEGAPIXELS
) -> errors.UserError:
  """Returns the error of an image for which memory ran out.

  Args:
    encoded: its bytes.
    max_megapixels: as it was opened with.
  """
  width, height = image_size(encoded, max_megapixels)
  return errors.UserError(
    f"memory ran out: {width}x{height} pixels take about "
    f"{width * height * BYTES_A_PIXEL / 1e9:.1f} GB; scale it down, or run on "
    "a machine with more"
  )


def open_rgb(
  encoded: bytes, name: str = "", max_megapixels: float = MAX_MEGAPIXELS
) -> Image.Image:
  """Decodes one image at its own size.

  The orientation in EXIF is applied, transparency is composited over white,
  16-bit grey is scaled to 8 bits, and of an animation the first frame is taken.

  Args:
    encoded: bytes of a PNG, JPEG, WebP or any other file of `FORMATS`.
    name: of the file, to log that it is an animation; '' logs nothing.
    max_megapixels: the most millions of pixels that it may have.

  Returns:
    A Pillow image in mode RGB.

  Raises:
    Exception: of many kinds, from Pillow, for a file that is damaged.
    ValueError: for an empty file, one that is not an image, an image of fewer
      than 8 pixels a side or of too many, or pixels of 32 bits, whose
      brightness no convention defines.
  """
  with open_picture(encoded, name, max_megapixels) as image:
    return _to_rgb(_upright(image))


def open_picture(
  encoded: bytes, name: str = "", max_megapixels: float = MAX_MEGAPIXELS
) -> Image.Image:
  """Opens an image file that is large enough; its pixels are not read yet.

  Args:
    encoded: bytes of an image file.
    name: see `open_rgb`, also for what is raised.
    max_megapixels: see `open_rgb`.

  Returns:
    A Pillow image of any mode, not yet turned (`metadata.upright`).
  """
  # Formats have attributes of their own.
  image: Any = open_file(encoded, max_megapixels)
  if min(image.size) < _MIN_SIDE:
    raise ValueError(f"only {image.width}x{image.height} pixels")
  if name and image.format in _ANIMATED and image.is_animated:
    logging.info(
      "%s is an animation of %s frames, of which the first is used",
      name, image.n_frames,
    )  # fmt: skip
  return image


def crop_box(
  size: tuple[int, int], crop: str = "auto"
) -> tuple[int, int, int, int]:
  """Returns the box (left, upper, right, lower) that is cut from an image.

  Args:
    size: (width, height) in pixels.
    crop: one of `CROPS`.

  Raises:
    ValueError: the image has not the size that the crop is for.
  """
  width, height = size
  if crop in ("auto", FACE_CROP) and size == ALIGNED_SIZE:
    return FACE_BOX
  if crop == FACE_CROP:
    raise ValueError(
      f"{width}x{height} pixels, and the crop {FACE_CROP} is of aligned images "
      "of 178x218"
    )
  if crop == "none":
    return 0, 0, width, height
  side = min(size)
  left, upper = (width - side) // 2, (height - side) // 2
  return left, upper, left + side, upper + side


def open_file(
  encoded: bytes, max_megapixels: float = MAX_MEGAPIXELS
) -> Image.Image:
  """Opens an image file; its pixels are not read yet.

  Args:
    encoded: its bytes.
    max_megapixels: see `open_rgb`.

  Returns:
    A Pillow image.

  Raises:
    ValueError: the file is empty, not an image, or too large an image.
  """
  if not encoded:
    raise ValueError("the file is empty")
  try:
    with _without_pillows_limit():
      image = Image.open(
        io.BytesIO(metadata.without_ballast(encoded)), formats=formats()
      )
  except Image.UnidentifiedImageError:
    if encoded[4:8] == b"ftyp" and encoded[8:11] in (b"hei", b"hev", b"mif"):
      raise ValueError(NO_HEIF) from None
    # Pillow's own message names an address in memory.
    raise ValueError(f"not an image of {', '.join(FORMATS)}") from None
  width, height = image.size
  if width * height > max_megapixels * 1e6 or max(width, height) > MAX_SIDE:
    image.close()
    raise ValueError(
      f"{width}x{height} pixels, where up to {max_megapixels:g} megapixels and "
      f"{MAX_SIDE} a side are read: scale it down, or raise "
      "config.max_megapixels in a job that has it"
    )
  # Pillow takes the planes of 16 bits for others.
  tags = getattr(image, "tag_v2", {})
  bits = max(tags.get(ExifTags.Base.BitsPerSample, (8,)))
  if tags.get(ExifTags.Base.PlanarConfiguration) == 2 and bits > 8:
    raise ValueError(
      "16 bits a channel in separate planes: save it with 8 bits, or with the "
      "channels interleaved"
    )
  return image


@contextlib.contextmanager
def _without_pillows_limit() -> Iterator[None]:
  """Keeps Pillow from counting pixels, which `open_file` does by its own limit.

  Pillow would warn of the half of its limit in words of its own, and refuse
  what a user has allowed. Its limit is the process's: it is put back at once.
  """
  with _OPENING:
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
      yield
    finally:
      Image.MAX_IMAGE_PIXELS = before


def _upright(image: Image.Image) -> Image.Image:
  """Returns a Pillow image turned as its EXIF says, with 8 bits a channel.

  Args:
    image: of any mode, as `open_file` returned it.

  Raises:
    ValueError: for pixels of 32 bits, whose brightness no convention defines.
  """
  deep = is_deep(image)
  image = metadata.upright(image)
  if deep:
    # Pillow's own conversion clips at 255 instead of scaling.
    pixels = np.asarray(image).astype(np.float32) / 257
    return Image.fromarray(np.round(pixels).astype(np.uint8))
  check_depth(image)
  return image


def check_depth(image: Image.Image) -> None:
  """Refuses pixels of 32 bits, whose brightness no convention defines.

  Args:
    image: of Pillow, but for one that `is_deep`.

  Raises:
    ValueError: it has such pixels.
  """
  if image.mode in ("I", "F"):
    raise ValueError("32-bit pixels; save it with 8 or 16 bits a channel")


def is_deep(image: Image.Image) -> bool:
  """Tells whether a Pillow image, as it was opened, is grey of 16 bits."""
  # Pillow widens the 16 bits of a PGM file to 32.
  return image.mode.startswith("I;16") or (
    image.mode == "I" and image.format == "PPM"
  )


def _to_rgb(image: Image.Image) -> Image.Image:
  """Returns an 8-bit Pillow image of any mode in mode RGB."""
  if image.mode == "RGB" and "transparency" not in image.info:
    return image
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
  return image.convert("RGB")


def read_persistently(read: Callable[[], bytes]) -> bytes:
  """Reads a file; what the system refuses is tried again.

  Args:
    read: returns the bytes of the file.

  Raises:
    Exception: what `read` raises, of a system that refuses it in the end too.
  """
  for seconds in _WAITS:
    try:
      return read()
    except OSError as error:
      if not is_of_system(error):
        raise
    time.sleep(seconds)
  return read()


def is_of_system(error: BaseException) -> bool:
  """Tells whether an error says nothing about a file's content.

  A data set must not change by it: the image is to be read again.

  Args:
    error: what was raised while an image was read or decoded.
  """
  # Pillow's own have no number.
  return isinstance(error, MemoryError) or (
    isinstance(error, OSError) and error.errno is not None
  )


def check_system(failures: dict[int, Exception], names: Sequence[str]) -> None:
  """Stops where an image could not be read, and none of its bytes is to blame.

  Args:
    failures: of `decode_all`.
    names: of all files.

  Raises:
    errors.UserError: names the first such image.
    MemoryError: memory ran out.
  """
  for i, error in sorted(failures.items()):
    if isinstance(error, MemoryError):
      raise error
    if is_of_system(error):
      raise errors.UserError(
        f"{names[i] or f'image {i:,}'} of config.data cannot be read now "
        f"({error}): correct that and run the same command again; it is not "
        "left out, since the data set would be another"
      )


def decode_all(
  read: Callable[[int], bytes],
  count: int,
  size: int,
  names: Sequence[str] | None = None,
  *,
  channels: int = 3,
  crop: str = "auto",
) -> tuple[np.ndarray, dict[int, Exception]]:
  """Reads and decodes many images in threads, with a progress bar.

  Logs once a process that some images are enlarged.

  Args:
    read: function of an index in [0, count) that returns the bytes of that
      image file; called from several threads.
    count: number of images.
    size: side of the results in pixels.
    names: of the files, to log which are animations; None logs nothing.
    channels: as for `decode`.
    crop: as for `decode`.

  Returns:
    images: uint8 array [count, size, size, channels]; those that could not be
      decoded are undefined.
    failures: {index of such an image: the exception}.
  """
  images = np.empty((count, size, size, channels), np.uint8)
  failures: dict[int, Exception] = {}
  small: list[int] = []  # Sides of the images that are enlarged.

  # As many pixels at a time as a single image may have.
  decoded = budget.Budget(MAX_MEGAPIXELS * 1e6)

  def decode_chunk(chunk: range) -> int:
    for i in chunk:
      try:
        name = names[i] if names else ""
        encoded = read_persistently(functools.partial(read, i))
        with decoded.hold(math.prod(image_size(encoded))):
          images[i], side = _decode(encoded, size, name, channels, crop)
        if side < size:
          small.append(side)
      except Exception as error:  # Pillow and zipfile raise many kinds.
        failures[i] = error
    return len(chunk)

  chunks = [range(count)[i : i + _CHUNK] for i in range(0, count, _CHUNK)]
  # The bar appears on a terminal only, and only after two seconds.
  with (
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    tqdm.tqdm(
      total=count, desc="Reading images", unit=" images", disable=None, delay=2
    ) as bar,
  ):
    for done in pool.map(decode_chunk, chunks):
      bar.update(done)
  if small:
    logging.log_first_n(
      logging.WARNING,
      "%s of %s images have fewer than the %s pixels a side of the model (the "
      "smallest %s) and are enlarged, which teaches blur: give larger ones, or "
      "take a smaller model",
      1, f"{len(small):,}", f"{count:,}", size, min(small),
    )  # fmt: skip
  return images, failures
