"""Image files and Pillow's images, read as pictures and written again.

What comes in comes back: mode, size, ICC profile, EXIF (upright) and dpi. The
suffix of a file decides its format; all but JPEG keep the known pixels to the
bit.
"""

import dataclasses
import math
import os
import pathlib
from typing import Any

from absl import logging
import numpy as np
from PIL import ExifTags
from PIL import Image

from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import metadata
from dcgan_inpaint.photographs import colour_profiles
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files

# What is written, by suffix.
_FORMATS = {
  ".png": "PNG",
  ".tif": "TIFF",
  ".tiff": "TIFF",
  ".webp": "WEBP",
  ".bmp": "BMP",
  ".jpg": "JPEG",
  ".jpeg": "JPEG",
  ".jpe": "JPEG",
  ".jfif": "JPEG",
}
# How, and with which modes of Pillow; the first of the same colours is taken
# for any other.
_OPTIONS: dict[str, dict[str, Any]] = {
  # Two to three times as fast as Pillow's 6, and of about the same size.
  "PNG": {"compress_level": 4},
  "TIFF": {"compression": "tiff_deflate"},
  "WEBP": {"lossless": True, "exact": True},
  "BMP": {},
  "JPEG": {"quality": 95, "subsampling": 0},
}
_MODES = {
  "PNG": ("L", "LA", "P", "RGB", "RGBA", "I;16"),
  "TIFF": ("L", "LA", "P", "RGB", "RGBA", "I;16"),
  "WEBP": ("RGB", "RGBA"),
  "BMP": ("L", "P", "RGB"),
  "JPEG": ("L", "RGB"),
}
_MAX_EXIF = 65_533  # Bytes, of a segment of JPEG.


def is_named(path: str | os.PathLike[str]) -> bool:
  """Tells whether a path is that of an image file that can be written.

  Args:
    path: of a file or a folder, which need not exist.
  """
  path = pathlib.Path(path)
  return path.suffix.lower() in _FORMATS and not path.is_dir()


def suffixes() -> tuple[str, ...]:
  """Returns the suffixes of the files that can be written."""
  return tuple(_FORMATS)


def read(
  encoded: bytes,
  name: str = "",
  max_megapixels: float = decoding.MAX_MEGAPIXELS,
) -> picture_lib.Picture:
  """Reads an image file, upright.

  Args:
    encoded: its bytes.
    name: of the file, to log what is not kept of it; '' logs nothing.
    max_megapixels: the most millions of pixels that it may have.

  Raises:
    Exception: of many kinds; see `decoding.open_rgb`.
  """
  with decoding.open_picture(encoded, name, max_megapixels) as image:
    deep = decoding.is_deep(image)
    upright = metadata.upright(image)
    if metadata.orientation(image) >= 5 and "dpi" in upright.info:
      # Across and down have changed their places.
      upright.info["dpi"] = upright.info["dpi"][::-1]
    exif = metadata.carried_exif(image)
    if name and (bits := _bits_lost(image, encoded)):
      logging.warning(
        "%s has %s bits a channel in colour, of which 8 are kept", name, bits
      )
  return from_pillow(upright, deep=deep, exif=exif)


def from_pillow(
  image: Image.Image, *, deep: bool = False, exif: bytes | None = None
) -> picture_lib.Picture:
  """Returns a Pillow image as a picture, as it stands.

  Args:
    image: of any mode.
    deep: whether the mode 'I' holds 16 bits.
    exif: to carry on.

  Raises:
    ValueError: for pixels of 32 bits, whose brightness no convention defines.
  """
  given = {
    "profile": image.info.get("icc_profile"),
    "exif": exif,
    "dpi": _dpi(image.info.get("dpi")),
  }
  if deep or image.mode.startswith("I;16"):
    values = np.asarray(image).astype(np.uint16)[..., None]
    made = picture_lib.Picture(values, (0, 65535), **given)
  elif image.mode == "P":
    values = np.asarray(image)[..., None]
    made = picture_lib.Picture(values, palette=_palette(image), **given)
  else:
    decoding.check_depth(image)
    made = picture_lib.Picture(_values(image, given), **given)
  profile = made.profile
  if profile and not colour_profiles.is_readable(profile, made.colours):
    return dataclasses.replace(made, profile=None)
  return made


def to_pillow(picture: picture_lib.Picture) -> Image.Image:
  """Returns a picture as a Pillow image: L, LA, P, RGB, RGBA or I;16.

  Args:
    picture: of 8 bits, or grey of 16.
  """
  values = picture.values
  if picture.palette is not None:
    # Not `fromarray`, which knows no palettes.
    image = Image.fromarray(values[..., 0]).convert("L")
    image.putpalette(picture.palette[:, :3].tobytes())
    if picture.palette[:, 3].min() < 255:
      image.info["transparency"] = picture.palette[:, 3].tobytes()
    return image
  return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def save(path: str | os.PathLike[str], picture: picture_lib.Picture) -> None:
  """Writes a picture as an image file; it appears whole or not at all.

  Args:
    path: the file, whose suffix is one of `suffixes`.
    picture: of 8 bits, or grey of 16.
  """
  path = pathlib.Path(path)
  kind = _format(path)
  image = to_pillow(picture)
  if image.mode == "P" and image.has_transparency_data and kind != "PNG":
    image = image.convert("RGBA")
  image = _in_mode(image, _MODES[kind])
  options = dict(_OPTIONS[kind])
  grey = image.mode in ("L", "LA", "I;16")
  if picture.profile and grey == (picture.colours == 1):
    options["icc_profile"] = picture.profile
  if picture.dpi and kind != "WEBP":
    options["dpi"] = picture.dpi
  exif = picture.exif
  if exif and kind == "JPEG" and len(exif) > _MAX_EXIF:
    logging.warning("%s: the EXIF is too long for JPEG and left out", path)
    exif = None
  with files.replacing(path) as temporary:
    if exif and kind != "BMP":
      try:
        image.save(temporary, format=kind, exif=exif, **options)
        return
      # Pillow reads it once more for TIFF.
      except (KeyError, SyntaxError, TypeError, ValueError) as error:
        logging.warning("%s: the EXIF is left out (%s)", path, error)
    image.save(temporary, format=kind, **options)


def what_is_lost(
  path: str | os.PathLike[str], picture: picture_lib.Picture
) -> str:
  """Returns what a format does not keep of a picture, as a reason, or ''.

  Args:
    path: the file, whose suffix is one of `suffixes`.
    picture: what is to be written.
  """
  kind = _format(pathlib.Path(path))
  lost = []
  if kind == "JPEG":
    lost.append("known pixels to the bit")
  if "RGBA" not in _MODES[kind] and picture.alpha is not None:
    lost.append("transparency (white takes its place)")
  if picture.values.dtype == np.uint16 and "I;16" not in _MODES[kind]:
    lost.append("16 bits")
  return f"{kind} does not keep {' and '.join(lost)}" if lost else ""


def _format(path: pathlib.Path) -> str:
  """Returns the format of a file that is to be written."""
  kind = _FORMATS.get(path.suffix.lower())
  if kind is None:
    raise errors.UserError(
      f"{path}: choose a suffix among {', '.join(_FORMATS)}"
    )
  return kind


def _in_mode(image: Image.Image, modes: tuple[str, ...]) -> Image.Image:
  """Returns an image in one of some modes."""
  if image.mode in modes:
    return image
  if image.mode == "I;16":
    eight = np.round(np.asarray(image) / 257).astype(np.uint8)
    return _in_mode(Image.fromarray(eight), modes)
  if image.has_transparency_data and "RGBA" not in modes:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, rgba).convert(
      "L" if image.mode == "LA" else "RGB"
    )
    return _in_mode(image, modes)
  return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _palette(image: Image.Image) -> np.ndarray:
  """Returns the palette of an image of mode P, uint8 [N, 4]."""
  size = max(1, int(np.asarray(image).max()) + 1)
  given = np.frombuffer(bytes(image.getpalette("RGBA") or b""), np.uint8)
  palette = np.zeros((max(size, len(given) // 4), 4), np.uint8)
  palette[:, 3] = 255
  palette[: len(given) // 4] = given[: 4 * (len(given) // 4)].reshape(-1, 4)
  transparent = image.info.get("transparency")
  if isinstance(transparent, bytes):
    alphas = np.frombuffer(transparent, np.uint8)[: len(palette)]
    palette[: len(alphas), 3] = alphas
  elif isinstance(transparent, int) and transparent < len(palette):
    palette[transparent, 3] = 0
  return palette


def _values(image: Image.Image, given: dict[str, Any]) -> np.ndarray:
  """Returns the pixels of an image of 8 bits, [H, W, C]."""
  if image.mode in ("L", "1") and "transparency" not in image.info:
    return np.asarray(image.convert("L"))[..., None]
  if image.mode in ("L", "LA", "La"):
    return np.asarray(image.convert("LA"))
  if image.mode == "CMYK" and given["profile"]:
    # No format but JPEG and TIFF has inks; they become light.
    found = colour_profiles.inks_to_srgb(image, given["profile"])
    given["profile"] = None
    return np.asarray(found)
  if image.has_transparency_data:
    return np.asarray(image.convert("RGBA"))
  return np.asarray(image.convert("RGB"))


def _dpi(dpi: Any) -> tuple[float, float] | None:
  """Returns pixels an inch that a file can hold, or None."""
  try:
    x, y = (float(value) for value in dpi)
  except (TypeError, ValueError, ZeroDivisionError):
    return None
  usable = all(math.isfinite(v) and 1 <= v < 65_536 for v in (x, y))
  return (x, y) if usable else None


def _bits_lost(image: Image.Image, encoded: bytes) -> int:
  """Returns the bits a channel of a colour image where they are more than 8."""
  if image.format == "PNG" and encoded[24] == 16 and encoded[25] != 0:
    return 16
  bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (8,))
  return bits[0] if len(bits) > 1 and bits[0] > 8 else 0
