"""Colours of a photograph's own ICC profile, as sRGB and back.

The networks know sRGB. A photograph in another space (Display P3 of a
telephone, ProPhoto of a raw developer) is shown to them in sRGB, and what they
generate is taken back into its space, so that its known pixels keep their
numbers.
"""

import functools
import io
from typing import Any

import numpy as np
from PIL import Image
from PIL import ImageCms


def is_readable(profile: bytes, channels: int) -> bool:
  """Tells whether a profile describes colours of so many channels.

  Args:
    profile: bytes of an ICC profile.
    channels: 1 for grey, 3 for RGB.
  """
  return _transforms(profile, channels) is not None


def to_srgb(colours: np.ndarray, profile: bytes) -> np.ndarray:
  """Returns colours of a profile in sRGB.

  Args:
    colours: uint8 [..., C], C = 1 (grey) or 3 (RGB).
    profile: bytes of an ICC profile that `is_readable`.

  Returns:
    uint8 [..., 3].
  """
  channels = colours.shape[-1]
  forth, _ = _transforms(profile, channels) or (None, None)
  if forth is None:
    return np.broadcast_to(colours, (*colours.shape[:-1], 3))
  return _apply(forth, colours)


def from_srgb(colours: np.ndarray, profile: bytes, channels: int) -> np.ndarray:
  """Returns colours of sRGB in a profile, of one channel or three.

  Args:
    colours: uint8 [..., 3].
    profile: bytes of an ICC profile that `is_readable`.
    channels: 1 for grey, 3 for RGB.

  Returns:
    uint8 [..., 3]; grey is repeated.
  """
  _, back = _transforms(profile, channels) or (None, None)
  if back is None:
    return colours
  return np.broadcast_to(_apply(back, colours), colours.shape)


@functools.lru_cache(maxsize=16)
def _transforms(profile: bytes, channels: int) -> tuple[Any, Any] | None:
  """Returns the transforms to sRGB and back.

  Both are None where the profile is sRGB itself; and there are none where it
  cannot be read, or describes other colours.
  """
  mode = {1: "L", 3: "RGB"}[channels]
  try:
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    forth = ImageCms.buildTransform(own, srgb, mode, "RGB", intent)
    back = ImageCms.buildTransform(srgb, own, "RGB", mode, intent)
    if "srgb" in ImageCms.getProfileDescription(own).lower():
      return None, None
  except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
    return None
  return forth, back


def _apply(transform: Any, colours: np.ndarray) -> np.ndarray:
  """Returns uint8 [..., C] transformed to uint8 [..., D]."""
  # Pillow takes pictures; a list of colours is one of a single row.
  rows = colours.reshape(-1, *colours.shape[-2:])
  image = Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)
  found = np.asarray(ImageCms.applyTransform(image, transform))
  return found.reshape(*colours.shape[:-1], -1)


def inks_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
  """Returns an image of mode CMYK as RGB, by its profile where that is one.

  Args:
    image: of Pillow, in mode CMYK.
    profile: bytes of its ICC profile.
  """
  try:
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    found = ImageCms.profileToProfile(
      image, own, srgb, intent, outputMode="RGB"
    )
  except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
    found = None
  return found or image.convert("RGB")
