"""The hole of each of a user's images: from a mask file, alpha, or drawn."""

from collections.abc import Callable
import dataclasses
import os
import pathlib
from typing import Any
import zlib

import numpy as np

from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import untrusted

# Side of the mask that is drawn to find what is wrong with the settings, before
# any image is read.
_SIDE = 64

# From an image's stem, the bytes of its file, its height and its width to bool
# [H, W], True = hole. It raises errors.UserError if the image has no mask.
Reader = Callable[[str, bytes, int, int], np.ndarray]


def reader(masks: str, config: Any) -> Reader:
  """Returns the function that gives an image its hole.

  The hole depends only on the image's own stem, size and file.

  Args:
    masks: `config.masks`: a set of masks as `mask_sets.parse` reads it, a
      folder with a mask for each image, or 'alpha'.
    config: the section `config.mask`.

  Raises:
    errors.UserError: the masks are wrong for all images.
  """
  if masks == "alpha":
    return lambda stem, encoded, height, width: decoding.transparency(
      encoded, max(decoding.MAX_MEGAPIXELS, height * width / 1e6)
    )
  path = pathlib.Path(masks).expanduser()
  if path.is_file() and path.suffix.lower() == ".zip":
    raise errors.UserError(
      f"config.masks={masks!r}: a zip of masks is not read; unpack it, and "
      "give the folder"
    )
  if _is_folder(masks):
    return _folder(path, mask_sets.parse("file", config))
  settings = mask_sets.parse(masks, config)
  if settings.family == "file":
    return _file(settings)
  return _family(settings)


def files(masks: str, config: Any) -> str | None:
  """Returns the file or folder of the masks; None for other masks.

  Args:
    masks: `config.masks`, as for `reader`.
    config: the section `config.mask`.
  """
  if masks == "alpha":
    return None
  if _is_folder(masks):
    return masks
  settings = mask_sets.parse(masks, config)
  return settings.path if settings.family == "file" else None


def _is_folder(masks: str) -> bool:
  is_family = masks in ("", *mask_sets.FAMILIES)
  return not is_family and pathlib.Path(masks).expanduser().is_dir()


def _family(settings: mask_settings.MaskSettings) -> Reader:
  """Draws each image's hole from its name, scaled to the image's size."""

  def draw(stem, encoded, height, width):
    del encoded
    return _make(settings, stem, height, width)

  # Most errors concern every image. Sizes in pixels depend on the image's size.
  share = settings.size if settings.size < 1 else 0.0
  _make(settings, "", _SIDE, _SIDE, size=share, position="")
  return draw


def _file(settings: mask_settings.MaskSettings) -> Reader:
  """Gives every image the same mask file."""

  def read(stem, encoded, height, width):
    del encoded
    return _make(settings, stem, height, width)

  try:
    encoded = untrusted.read_bytes(os.path.expanduser(settings.path))
    width, height = decoding.image_size(encoded)
  except Exception:  # noqa: BLE001 (`read` raises a clear error.)
    width = height = _SIDE
  read("", b"", height, width)
  return read


def _folder(path: pathlib.Path, settings: mask_settings.MaskSettings) -> Reader:
  """Gives an image the mask file of its name."""
  found = folder.by_stem(folder.list_files((str(path),), "config.masks"))

  def read(stem, encoded, height, width):
    del encoded
    if stem not in found:
      raise errors.UserError(f"{path} holds no mask of that name")
    own = str(path / found[stem].name)
    return _make(settings, stem, height, width, path=own)

  return read


def _make(
  settings: mask_settings.MaskSettings,
  stem: str,
  height: int,
  width: int,
  **fields: Any,
) -> np.ndarray:
  """Returns the hole of one image, with some settings changed."""
  settings = dataclasses.replace(settings, **fields)
  # File names may hold bytes that are not valid text.
  number = zlib.crc32(stem.encode(errors="surrogateescape"))
  (mask,) = mask_sets.make(settings, [number], height, width, allow_empty=True)
  return mask[..., 0] < 0.5
