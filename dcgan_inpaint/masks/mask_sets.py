"""The holes: masks by family and seed, or from a user's file.

A mask is float32 [H, W, 1] with 1 = known and 0 = hole, the paper's M. It
depends only on its settings, the size and its image's index, so that a set of
masks is the same for every method, batch size, device and run.
docs/masks.md shows every family.
"""

from collections.abc import Sequence
import csv
import dataclasses
import hashlib
import pathlib
import re
from typing import Any

import numpy as np

from dcgan_inpaint.masks import families
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.runtime import errors

FAMILIES = (*families.FIXED, *families.RANDOM)


def make(
  config: mask_settings.MaskSettings,
  indices: Sequence[int] | np.ndarray,
  height: int,
  width: int,
  *,
  allow_empty: bool = False,
) -> np.ndarray:
  """Returns the masks of some images.

  Args:
    config: the family, and how it is drawn.
    indices: the images' positions in their data set, ints >= 0 [n]. The mask of
      an image is drawn from (`config.seed`, its index), independently of the
      other images.
    height: of the images, pixels.
    width: of the images, pixels.
    allow_empty: whether a mask file may have no hole at all. Scoring needs one,
      and a missing hole usually has the wrong colour.

  Returns:
    float32 [n, height, width, 1], 1 = known, 0 = hole.

  Raises:
    errors.UserError: a field has a wrong value.
  """
  errors.check_choice("config.masks", config.family, FAMILIES)
  if config.seed < 0:
    raise errors.UserError(
      f"config.mask.seed is {config.seed!r}: it must be 0 or more"
    )
  holes = np.empty((len(indices), height, width), bool)
  if config.family in families.FIXED:
    hole = families.FIXED[config.family](config, height, width)
    if not (hole.any() or allow_empty):
      raise errors.UserError(
        f"config.mask.path is {config.path!r}: it leaves no hole at "
        f"{height}x{width}; config.mask.file_polarity is "
        f"{config.file_polarity!r}, and white is what is not zero"
      )
    holes[:] = hole
  else:
    draw = families.RANDOM[config.family]
    for hole, index in zip(holes, indices, strict=True):
      rng = np.random.default_rng((config.seed, int(index)))
      hole[:] = draw(config, rng, height, width)
  return (~holes[..., None]).astype(np.float32)


def label(config: mask_settings.MaskSettings, side: int) -> str:
  """Returns the masks' name in tables: their family and its main settings.

  Args:
    config: the family, and how it is drawn.
    side: the shorter side of the images, pixels.
  """
  family = config.family
  if family == "file":
    return pathlib.Path(config.path).name
  if family == "half":
    return f"{config.side} half"
  name = "random" if family == "random_pixels" else family.replace("_", " ")
  size = config.size or families.default_size(family, side)
  share = config.share or families.DEFAULT_SHARES.get(family, 0)
  if family not in families.DEFAULT_SHARES:
    return f"{name} {size:g}"
  if config.size and family in families.DEFAULT_SIZES:
    return f"{name} {100 * share:g} % of {size:g}"
  return f"{name} {100 * share:g} %"


def parse(
  text: str, base: Any, field: str = "config.masks"
) -> mask_settings.MaskSettings:
  """Returns the settings of one set of masks.

  A set is written as `FAMILY[:FIELD=VALUE]...`, such as `centre` or
  `strokes:share=0.3:seed=3`, or as the path of a mask file.

  Args:
    text: the set.
    base: the section `config.mask`, for the fields that the set does not name.
    field: the config field of `text`, for messages.

  Raises:
    errors.UserError: the family or a field is unknown, a value has the wrong
      type, or a file does not exist.
  """
  # A colon without a following `FIELD=` is part of a value, such as a path.
  family, *assignments = re.split(r":(?=\w+=)", text.strip())
  settings = mask_settings.MaskSettings(
    **{"family": family, **dict(base.items())}
  )
  if family not in FAMILIES:
    path = pathlib.Path(text).expanduser()
    if text and path.is_file():
      return dataclasses.replace(settings, family="file", path=str(path))
    raise errors.UserError(
      f"{field}={text!r}: choose among {', '.join(FAMILIES)}, and set a field "
      "as in 'centre:size=20', or give a mask file (in the job inpaint also a "
      "folder of masks, or alpha)"
    )
  for assignment in assignments:
    name, _, value = assignment.partition("=")
    if name not in base:
      raise errors.UserError(
        f"{field}={text!r} sets {name!r}: choose among "
        f"{', '.join(sorted(base))}"
      )
    kind = type(base[name])
    try:
      settings = dataclasses.replace(settings, **{name: kind(value)})
    except ValueError:
      raise errors.UserError(
        f"{field}={text!r}: {name} must be of type {kind.__name__}, not "
        f"{value!r}"
      ) from None
  return settings


def parse_several(
  value: str | Sequence[str], base: Any, field: str, side: int
) -> dict[str, mask_settings.MaskSettings]:
  """Returns the settings of several sets of masks.

  Args:
    value: a tuple of sets, each as for `parse`; or text with commas. There a
      set in double quotes may contain commas, as in CSV files:
      `"box:position=8,8",half`.
    base: as for `parse`.
    field: as for `parse`.
    side: the shorter side of the images, pixels.

  Returns:
    {name: its settings}, in order. The name is the set's `label`, or its text
    if two sets have the same label.

  Raises:
    errors.UserError: as `parse`; or there is no set at all, or one is listed
      twice.
  """
  written = value
  if isinstance(value, str):
    (written,) = csv.reader([value], skipinitialspace=True)
  sets = {}
  for text in filter(None, map(str.strip, written)):
    if text in sets:
      raise errors.UserError(f"{field} names {text!r} twice: leave one out")
    sets[text] = parse(text, base, field)
  if not sets:
    raise errors.UserError(
      f"{field} is empty: name holes with commas, such as 'centre,half'"
    )
  labels = [label(settings, side) for settings in sets.values()]
  return {
    name if labels.count(name) == 1 else text: settings
    for name, (text, settings) in zip(labels, sets.items(), strict=True)
  }


def hole_share(masks: np.ndarray) -> np.ndarray:
  """Returns the share of each mask's pixels that is hole, float [...], 0..1.

  Args:
    masks: float [..., H, W, 1], 1 = known, 0 = hole.
  """
  return 1 - np.mean(masks, axis=(-3, -2, -1), dtype=np.float64)


def groups(masks: np.ndarray) -> list[list[int]]:
  """Returns the groups of images with equal masks.

  Args:
    masks: float [n, H, W, 1], 1 = known, 0 = hole.

  Returns:
    Lists of indices, ordered by their first; each index is in one list.
  """
  members = {}
  for index, known in enumerate(np.asarray(masks) > 0.5):
    members.setdefault(known.tobytes(), []).append(index)
  return list(members.values())


def digest(masks: np.ndarray) -> str:
  """Returns 12 hexadecimal digits that identify a set of masks.

  Results are comparable only if the holes are the same; the digest shows this
  without the masks.

  Args:
    masks: float [n, H, W, 1], 1 = known, 0 = hole.
  """
  known = np.asarray(masks) > 0.5
  content = repr(known.shape).encode() + np.packbits(known).tobytes()
  return hashlib.sha256(content).hexdigest()[:12]
