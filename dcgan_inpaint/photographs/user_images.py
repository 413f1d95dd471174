"""Images and masks as callers in Python hand them over, and back again.

An image is an array, a Pillow image or the path of a file; many are a list, or
an array with one axis more. What comes back is of the same kind, shape and
type; for a path it is a Pillow image.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
from typing import Any
from typing import NamedTuple

import numpy as np
from PIL import Image

from dcgan_inpaint import pixels
from dcgan_inpaint.masks import mask_files
from dcgan_inpaint.photographs import image_files
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import untrusted

RANGES = ((0.0, 1.0), (-1.0, 1.0))  # Of floats.
_CHANNELS = (1, 2, 3, 4)


class Given(NamedTuple):
  """One image.

  Attributes:
    picture: the image.
    give_back: function of the filled picture and its hole, bool [H, W], that
      returns what the caller gets.
  """

  picture: picture_lib.Picture
  give_back: Callable[[picture_lib.Picture, np.ndarray], Any]


def split(images: Any) -> tuple[list[Any], Callable[[Iterable[Any]], Any]]:
  """Returns the images that were given, and what joins their results.

  Of an array of images, each result is copied into one as soon as it is there.

  Args:
    images: one image or many.

  Raises:
    errors.UserError: an array has a shape that is no image's.
  """
  if isinstance(images, (list, tuple)):
    return list(images), list
  if isinstance(images, (str, os.PathLike, Image.Image)):
    return [images], _first
  array = np.asarray(images)
  one = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in _CHANNELS)
  if one:
    return [array], _first
  if array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in _CHANNELS):
    return list(array), functools.partial(_stack, shape=array.shape)
  raise errors.UserError(
    f"images: shape {array.shape}, and must be [H, W], [H, W, C] or, for many, "
    "[N, H, W] or [N, H, W, C], with C = 1, 2, 3 or 4"
  )


def _first(results: Iterable[Any]) -> Any:
  """Returns the result of one image."""
  (result,) = results
  return result


def _stack(results: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
  """Returns the results of several images, [N, H, W] or [N, H, W, C]."""
  stacked = None
  for i, result in enumerate(results):
    if stacked is None:
      stacked = np.empty(shape, result.dtype)
    stacked[i] = result
  return np.empty(shape) if stacked is None else stacked


def read(image: Any, name: str) -> Given:
  """Reads one image.

  Args:
    image: an array, a Pillow image or a path.
    name: for messages.

  Raises:
    errors.UserError: it is none of these, or cannot be read.
  """
  if isinstance(image, (str, os.PathLike)):
    return _of_path(pathlib.Path(image), name)
  if isinstance(image, Image.Image):
    return _of_pillow(image, name)
  array = np.asarray(image)
  if array.ndim not in (2, 3) or (
    array.ndim == 3 and array.shape[-1] not in _CHANNELS
  ):
    raise errors.UserError(
      f"{name}: shape {array.shape}, and must be [H, W] or [H, W, C] with C = "
      "1, 2, 3 or 4"
    )
  if min(array.shape[:2]) < 8:
    raise errors.UserError(f"{name}: only {array.shape[1]}x{array.shape[0]}")
  ranges = {np.dtype(np.uint8): (0, 255), np.dtype(np.uint16): (0, 65_535)}
  value_range = ranges.get(array.dtype, RANGES[0])
  if array.dtype not in ranges and not np.issubdtype(array.dtype, np.floating):
    raise errors.UserError(
      f"{name}: {array.dtype}; give uint8, uint16 or float"
    )
  values = array[..., None] if array.ndim == 2 else array
  return Given(
    picture_lib.Picture(values, value_range),
    lambda filled, hole: filled.values.reshape(array.shape),
  )


def is_array(image: Any) -> bool:
  """Tells whether an image needs not be decoded to be looked at."""
  return not isinstance(image, (str, os.PathLike, Image.Image))


def known_floats(given: Given, hole: np.ndarray) -> np.ndarray:
  """Returns the known values of an image of floats; none of any other.

  Args:
    given: the image.
    hole: bool [H, W], where nothing counts.
  """
  values = given.picture.values
  return values[~hole] if values.dtype.kind == "f" else values[:0]


def float_range(
  known: Iterable[np.ndarray], value_range: tuple[float, float] | None
) -> tuple[float, float]:
  """Returns the range of floats, one of `RANGES`, which is one for all images.

  Args:
    known: of `known_floats`, of each image.
    value_range: one of `RANGES`; None tells them apart: where any known value
      is negative, black is -1.

  Raises:
    errors.UserError: known values lie beyond the range.
  """
  if value_range is not None and tuple(value_range) not in RANGES:
    raise errors.UserError(
      f"value_range={value_range!r}: choose (0, 1) or (-1, 1), or None to tell "
      "them apart by negative values"
    )
  limits = [(float(x.min()), float(x.max())) for x in known if x.size]
  # Not min() and max(), which a NaN may leave as they are.
  low, high = (
    float(reduce([limit[i] for limit in limits], initial=0.0))
    for i, reduce in enumerate((np.min, np.max))
  )
  chosen = value_range or (RANGES[1] if low < 0 else RANGES[0])
  # A NaN fails both comparisons.
  if not (low >= chosen[0] and high <= chosen[1]):
    raise errors.UserError(
      f"images: known values {low:g} to {high:g}, beyond [{chosen[0]:g}, "
      f"{chosen[1]:g}]: give uint8, or x / 255"
    )
  return chosen


def with_range(given: Given, value_range: tuple[float, float]) -> Given:
  """Returns an image with the range of its values, if they are floats."""
  if given.picture.values.dtype.kind != "f":
    return given
  return given._replace(
    picture=dataclasses.replace(given.picture, value_range=value_range)
  )


def as_float(
  picture: picture_lib.Picture, hole: np.ndarray, channels: int = 3
) -> np.ndarray:
  """Returns what the networks see of a picture, float32 [H, W, C] in [-1, 1].

  Floats keep their digits, but where colour becomes grey.

  Args:
    picture: of any kind.
    hole: bool [H, W], where the result is 0.
    channels: of the networks' images, 1 or 3.
  """
  values = picture.values
  if values.dtype.kind != "f" or values.shape[-1] not in (1, channels):
    seen = picture_lib.rgb(picture)
    seen = pixels.to_float(seen if channels == 3 else pixels.to_grey(seen))
    return np.where(hole[..., None], np.float32(0), seen)
  known = np.where(hole[..., None], 0, values).astype(np.float32)
  if picture.value_range == RANGES[0]:
    known = np.where(hole[..., None], 0, 2 * known - 1)
  return np.broadcast_to(known, (*hole.shape, channels)).astype(np.float32)


# Masks.


def split_masks(masks: Any, count: int, size: tuple[int, ...]) -> Sequence[Any]:
  """Returns a mask for each image.

  Args:
    masks: one for all, or one for each image.
    count: of the images.
    size: height and width of the first.

  Raises:
    errors.UserError: there are more or fewer masks than images.
  """
  if isinstance(masks, (list, tuple)):
    if len(masks) != count:
      raise errors.UserError(
        f"masks: {len(masks)} of them for {count} images; give one for each, "
        "or one for all"
      )
    return list(masks)
  if isinstance(masks, (str, os.PathLike, Image.Image)):
    return [masks] * count
  array = np.asarray(masks)
  if array.shape[:2] != size and array.shape[1:3] == size:
    if len(array) != count:
      raise errors.UserError(
        f"masks: shape {array.shape} for {count} images; give one for each, or "
        "one for all"
      )
    return list(array)
  return [array] * count


def hole(mask: Any, height: int, width: int, name: str) -> mask_files.Reading:
  """Reads the hole of an image: where its mask is not zero.

  Args:
    mask: an array of booleans or numbers, [H, W] or [H, W, C]; a Pillow image;
      or the path of a file.
    height: of the image.
    width: of the image.
    name: for messages.

  Raises:
    errors.UserError: it is none of these, or has another shape.
  """
  try:
    if isinstance(mask, (str, os.PathLike)):
      reading = mask_files.read(
        untrusted.read_bytes(pathlib.Path(mask).expanduser())
      )
    elif isinstance(mask, Image.Image):
      reading = mask_files.of_pillow(mask)
    else:
      return _hole_of_array(np.asarray(mask), height, width, name)
    return reading._replace(hole=mask_files.fit(reading.hole, height, width))
  except Exception as error:  # Pillow raises many kinds.
    if str(error).startswith(name):
      raise
    reason = getattr(error, "strerror", None) or str(error)
    shown = "" if isinstance(mask, Image.Image) else f" {mask}"
    raise errors.UserError(f"{name}{shown}: {reason}") from error


def _hole_of_array(
  mask: np.ndarray, height: int, width: int, name: str
) -> mask_files.Reading:
  """Returns where an array is not zero in any channel."""
  fits = mask.shape[:2] == (height, width) and (
    mask.ndim == 2 or (mask.ndim == 3 and mask.shape[-1] in _CHANNELS)
  )
  if not fits:
    raise errors.UserError(
      f"{name}: shape {mask.shape} for an image of {height}x{width}; give "
      f"[{height}, {width}], or one for each image"
    )
  if mask.dtype.kind not in "biuf" or not np.isfinite(mask).all():
    raise errors.UserError(
      f"{name}: give booleans or finite numbers, of which all but 0 are hole"
    )
  if mask.ndim == 3 and mask.shape[-1] == 4 and mask.dtype == np.uint8:
    return mask_files.of_pillow(Image.fromarray(mask))
  if mask.ndim == 3:
    mask = mask[..., :1] if mask.shape[-1] == 2 else mask[..., :3]
    mask = (mask != 0).any(axis=-1)
  return mask_files.of_values((mask != 0).astype(np.uint8))


# Pillow's images, and files.


def _of_path(path: pathlib.Path, name: str) -> Given:
  """Reads a file; its result is a Pillow image with its profile and dpi."""
  try:
    picture = image_files.read(
      untrusted.read_bytes(path.expanduser()), str(path)
    )
  except Exception as error:  # Pillow raises many kinds.
    reason = getattr(error, "strerror", None) or str(error)
    raise errors.UserError(f"{name}: {path}: {reason}") from error

  def give_back(filled: picture_lib.Picture, hole: np.ndarray) -> Image.Image:
    del hole
    result = image_files.to_pillow(filled)
    named = {"icc_profile": filled.profile, "dpi": filled.dpi}
    result.info.update({k: v for k, v in named.items() if v is not None})
    return result

  return Given(picture, give_back)


def _of_pillow(image: Image.Image, name: str) -> Given:
  """Takes a Pillow image, as it stands; its result has the same mode."""
  try:
    image.load()
    picture = image_files.from_pillow(image)
  except Exception as error:  # Pillow raises many kinds.
    raise errors.UserError(f"{name}: {error}") from error

  def give_back(filled: picture_lib.Picture, hole: np.ndarray) -> Image.Image:
    result = image_files.to_pillow(filled)
    if result.mode != image.mode:
      # A mode that no picture has: what is known stays as it was.
      found = result.convert(image.mode, dither=Image.Dither.NONE)
      result = image.copy()
      result.paste(found, mask=Image.fromarray(hole))
      return result
    result.info = {**image.info, **result.info}
    return result

  return Given(picture, give_back)
