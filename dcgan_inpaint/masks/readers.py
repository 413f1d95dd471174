"""The hole of each of a user's images: from a mask file, alpha, or drawn."""

from collections.abc import Callable
import pathlib
import zlib

import ml_collections
import numpy as np
from PIL import Image

from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder
from dcgan_inpaint.masks import families
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.runtime import errors

# From an image's stem, the bytes of its file, its height and its width to bool
# [H, W], True = hole. It raises errors.UserError where that image has no mask.
Reader = Callable[[str, bytes, int, int], np.ndarray]


def reader(name: str, settings: ml_collections.ConfigDict) -> Reader:
  """Returns the function that gives an image its hole.

  What an image gets is a function of its own stem, size and file.

  Args:
    name: `config.masks`: a family, a mask file, a folder with a mask for each
      image, or 'alpha'.
    settings: the section `config.mask`.

  Raises:
    errors.UserError: something is wrong for all images.
  """
  if name == "alpha":
    return lambda stem, encoded, height, width: decoding.transparency(encoded)
  if name in mask_sets.FAMILIES:
    return _family(name, settings)
  path = pathlib.Path(name).expanduser()
  if path.is_file() and path.suffix.lower() == ".zip":
    raise errors.UserError(
      f"config.masks={name!r}: a zip of masks is not read; unpack it, and give "
      "the folder"
    )
  if path.is_file():
    return _file(path, settings)
  if name and path.is_dir():
    return _folder(path, settings)
  raise errors.UserError(
    f"config.masks={name!r}: give a mask file, a folder of masks, alpha, or "
    f"one of {', '.join(mask_sets.FAMILIES)}"
  )


def _family(family: str, settings: ml_collections.ConfigDict) -> Reader:
  """Draws each image's hole by its name, as large as suits its size."""
  usual = families.DEFAULT_SIZES.get(family, 0)
  face = dcgan.IMAGE_SIZE

  def draw(stem, encoded, height, width):
    del encoded
    size = settings.size
    if not size and usual >= 1:
      # The usual pixels are those of a 64x64 face, and grow with the image.
      size = float(max(1, round(usual * min(height, width) / face)))
    return _make(settings, stem, height, width, family=family, size=size)

  # Most of what is wrong is wrong for every image. Pixels depend on its size.
  share = settings.size if settings.size < 1 else 0.0
  _make(settings, "", face, face, family=family, size=share, position="")
  return draw


def _file(path: pathlib.Path, settings: ml_collections.ConfigDict) -> Reader:
  """Gives every image the same mask file."""

  def read(stem, encoded, height, width):
    del encoded
    return _make(settings, stem, height, width, family="file", path=str(path))

  try:
    with Image.open(path, formats=decoding.FORMATS) as mask:
      width, height = mask.size
  except Exception:  # noqa: BLE001 (`read` finds words for it.)
    width = height = dcgan.IMAGE_SIZE
  read("", b"", height, width)
  return read


def _folder(path: pathlib.Path, settings: ml_collections.ConfigDict) -> Reader:
  """Gives an image the mask file of its name."""
  files = folder.by_stem(folder.list_files(str(path), "config.masks"))

  def read(stem, encoded, height, width):
    del encoded
    if stem not in files:
      raise errors.UserError(f"{path} holds no mask of that name")
    own = str(path / files[stem].name)
    return _make(settings, stem, height, width, family="file", path=own)

  return read


def _make(settings, stem, height, width, **fields) -> np.ndarray:
  """Returns the hole that `config.mask` describes, with some fields set."""
  own = settings.copy_and_resolve_references()  # Threads share `settings`.
  own.update(fields)
  # A name on disk may hold bytes that are no text.
  number = zlib.crc32(stem.encode(errors="surrogateescape"))
  (mask,) = mask_sets.make(own, [number], height, width, allow_empty=True)
  return mask[..., 0] < 0.5
