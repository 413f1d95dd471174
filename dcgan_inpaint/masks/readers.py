"""The hole of each of a user's images: from a mask file, alpha, or drawn."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any
import zlib

import numpy as np

from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import file_names
from dcgan_inpaint.data import folder
from dcgan_inpaint.masks import mask_files
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import untrusted

# Side of the mask that is drawn to find what is wrong with the settings, before
# any image is read.
_SIDE = 64

# From an image's names (the first is what its hole is drawn from, and a mask
# file may have any), its height, its width and its alpha channel (uint8 [H, W],
# or None) to its hole. It raises errors.UserError if the image has no mask.
Names = Sequence[str]
Reader = Callable[[Names, int, int, np.ndarray | None], mask_files.Reading]


def reader(
  masks: str, config: Any, max_megapixels: float = decoding.MAX_MEGAPIXELS
) -> Reader:
  """Returns the function that gives an image its hole.

  The hole depends only on the image's own name, size and file.

  Args:
    masks: `config.masks`: a set of masks as `mask_sets.parse` reads it, a
      folder with a mask for each image, or 'alpha'.
    config: the section `config.mask`.
    max_megapixels: the most millions of pixels of an image, and of a mask.

  Raises:
    errors.UserError: the masks are wrong for all images.
  """
  if masks == "alpha":
    return _alpha
  most = max(decoding.MAX_MEGAPIXELS, max_megapixels)
  _refuse_zip(masks)
  if _is_folder(masks):
    path = pathlib.Path(masks).expanduser()
    return _folder(path, config.file_polarity, most)
  settings = mask_sets.parse(masks, config)
  if settings.family == "file":
    return _file(pathlib.Path(settings.path).expanduser(), settings, most)
  return _family(settings)


def files(masks: str, config: Any) -> str | None:
  """Returns the file or folder of the masks; None for other masks.

  Args:
    masks: `config.masks`, as for `reader`.
    config: the section `config.mask`.

  Raises:
    errors.UserError: there are no such masks.
  """
  if masks == "alpha":
    return None
  _refuse_zip(masks)
  if _is_folder(masks):
    return masks
  settings = mask_sets.parse(masks, config)
  return settings.path if settings.family == "file" else None


def _refuse_zip(masks: str) -> None:
  path = pathlib.Path(masks).expanduser()
  if path.is_file() and path.suffix.lower() == ".zip":
    raise errors.UserError(
      f"config.masks={masks!r}: a zip of masks is not read; unpack it, and "
      "give the folder"
    )


def _is_folder(masks: str) -> bool:
  is_family = masks in ("", *mask_sets.FAMILIES)
  return not is_family and pathlib.Path(masks).expanduser().is_dir()


def _family(settings: mask_settings.MaskSettings) -> Reader:
  """Draws each image's hole from its name, scaled to the image's size."""

  def draw(names, height, width, alpha):
    del alpha
    return mask_files.Reading(_make(settings, names[0], height, width))

  # Most errors concern every image. Sizes in pixels depend on the image's size.
  share = settings.size if settings.size < 1 else 0.0
  _make(settings, "", _SIDE, _SIDE, size=share, position="")
  return draw


def _alpha(
  names: Names, height: int, width: int, alpha: np.ndarray | None
) -> mask_files.Reading:
  """Takes an image's own transparent pixels."""
  del names
  if alpha is None:
    return mask_files.Reading(
      np.zeros((height, width), bool),
      "the image has no transparent pixels, which config.masks=alpha takes for "
      "the hole",
    )
  return mask_files.of_alpha(alpha, mask_files.MOSTLY_OPAQUE)


def _file(
  path: pathlib.Path, settings: mask_settings.MaskSettings, most: float
) -> Reader:
  """Gives every image the same mask file, which is read once."""
  # It finds words for what is wrong with the file.
  mask_sets.make(settings, [0], _SIDE, _SIDE + 1, allow_empty=True)
  found = mask_files.read(
    untrusted.read_bytes(path), settings.file_polarity, most
  )
  if not found.hole.any():
    raise errors.UserError(f"config.masks={str(path)!r}: {found.note}")

  def read(names, height, width, alpha):
    del names, alpha
    return found._replace(hole=mask_files.fit(found.hole, height, width))

  return read


def _folder(path: pathlib.Path, polarity: str, most: float) -> Reader:
  """Gives an image the mask file of its name."""
  errors.check_choice(
    "config.mask.file_polarity", polarity, mask_files.POLARITIES
  )
  found = file_names.by_stem(folder.list_files((str(path),), "config.masks"))

  def read(names, height, width, alpha):
    del alpha
    there = [x for x in map(file_names.normal, names) if x in found]
    if not there:
      raise errors.UserError(f"{path} holds no mask of that name")
    own = found[there[0]]
    try:
      reading = mask_files.read(own.read(), polarity, most)
      hole = mask_files.fit(reading.hole, height, width)
    # Pillow raises many kinds.
    except Exception as error:
      reason = getattr(error, "strerror", None) or str(error)
      raise errors.UserError(f"its mask {own.name}: {reason}") from error
    return reading._replace(hole=hole)

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
  (mask,) = mask_sets.make(settings, [number], height, width)
  return mask[..., 0] < 0.5
