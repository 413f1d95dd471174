"""The holes: masks by family and seed, or from a user's file.

A mask is float32 [H, W, 1] with 1 = known and 0 = hole, the paper's M. A mask
depends on `config.mask`, the size and its image's index alone, so that a set
of masks is the same for every method, batch size, device and run.
docs/masks.md shows every family.
"""

from collections.abc import Sequence
import csv
import hashlib
import pathlib
import re

import ml_collections
import numpy as np

from dcgan_inpaint.masks import families
from dcgan_inpaint.runtime import errors

FAMILIES = (*families.FIXED, *families.RANDOM)


def make(
  config: ml_collections.ConfigDict,
  indices: Sequence[int],
  height: int = 64,
  width: int = 64,
  *,
  allow_empty: bool = False,
) -> np.ndarray:
  """Returns the masks of some images.

  Args:
    config: `config.mask`: `family` is one of `FAMILIES`; the other fields are
      described in `mask_families`, at the family that reads them.
    indices: the images' places in their data set, ints >= 0 [n]. The mask of
      an image is drawn from (`config.seed`, its index), never from its
      neighbours.
    height: of the images, pixels.
    width: of the images, pixels.
    allow_empty: whether a mask file may leave no hole at all. What is scored
      needs one, and a hole that is missing is most often drawn in the wrong
      colour.

  Returns:
    float32 [n, height, width, 1], 1 = known, 0 = hole.

  Raises:
    errors.UserError: a field of `config.mask` has a wrong value.
  """
  if config.family not in FAMILIES:
    raise errors.UserError(
      f"config.mask.family is {config.family!r}: choose one of "
      f"{', '.join(map(repr, FAMILIES))}"
    )
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
        f"{config.file_polarity!r}, and white is 128 or more"
      )
    holes[:] = hole
  else:
    draw = families.RANDOM[config.family]
    for hole, index in zip(holes, indices, strict=True):
      rng = np.random.default_rng((config.seed, int(index)))
      hole[:] = draw(config, rng, height, width)
  return np.float32(~holes[..., None])


def label(config: ml_collections.ConfigDict) -> str:
  """Returns the mask's name in tables: its family and what sizes it.

  Args:
    config: `config.mask`.
  """
  family = config.family
  if family == "file":
    return pathlib.Path(config.path).name
  if family == "half":
    return f"{config.side} half"
  name = "random" if family == "random_pixels" else family.replace("_", " ")
  size = config.size or families.DEFAULT_SIZES.get(family)
  share = config.share or families.DEFAULT_SHARES.get(family)
  if family not in families.DEFAULT_SHARES:
    return f"{name} {size:g}"
  if config.size and family in families.DEFAULT_SIZES:
    return f"{name} {100 * share:g} % of {size:g}"
  return f"{name} {100 * share:g} %"


def parse(
  text: str, base: ml_collections.ConfigDict, field: str
) -> dict[str, ml_collections.ConfigDict]:
  """Returns the settings of several sets of masks, written in one line.

  Sets stand between commas, each as `FAMILY[:FIELD=VALUE]...`: for instance
  `centre,random_pixels:share=0.5:seed=3`. A set in double quotes may hold
  commas, as in a file of comma-separated values: `"box:position=8,8",half`.

  Args:
    text: the sets.
    base: `config.mask`, whose fields hold where a set names none.
    field: the config field that `text` is of, for messages.

  Returns:
    {name: settings as `config.mask`}, in order. The name is the set's `label`,
    or what was written where two have one label.

  Raises:
    errors.UserError: a family or field is unknown, a value has the wrong type,
      there is no set at all, or one stands there twice.
  """
  sets = {}
  (written,) = csv.reader([text], skipinitialspace=True)
  for words in filter(None, map(str.strip, written)):
    # A colon that no `FIELD=` follows is of a value, such as a path.
    family, *assignments = re.split(r":(?=\w+=)", words)
    settings = base.copy_and_resolve_references()
    settings.family = family
    if family not in FAMILIES:
      raise errors.UserError(
        f"{field} names the holes {family!r}: choose among "
        f"{', '.join(FAMILIES)}, and set a field as in 'centre:size=20'"
      )
    for assignment in assignments:
      name, _, value = assignment.partition("=")
      if name not in base or name == "family":
        raise errors.UserError(
          f"{field}={words!r} sets {name!r}: choose among "
          f"{', '.join(x for x in sorted(base) if x != 'family')}"
        )
      kind = type(base[name])
      try:
        settings[name] = kind(value)
      except ValueError:
        raise errors.UserError(
          f"{field}={words!r}: {name} must be of type {kind.__name__}, not "
          f"{value!r}"
        ) from None
    if words in sets:
      raise errors.UserError(f"{field} names {words!r} twice: leave one out")
    sets[words] = settings
  if not sets:
    raise errors.UserError(
      f"{field} is empty: name holes with commas, such as 'centre,half'"
    )
  labels = [label(settings) for settings in sets.values()]
  return {
    name if labels.count(name) == 1 else words: settings
    for name, (words, settings) in zip(labels, sets.items(), strict=True)
  }


def hole_share(masks: np.ndarray) -> np.ndarray:
  """Returns the share of each mask's pixels that is hole, float [...], 0..1.

  Args:
    masks: float [..., H, W, 1], 1 = known, 0 = hole.
  """
  return 1 - np.mean(masks, axis=(-3, -2, -1), dtype=np.float64)


def groups(masks: np.ndarray) -> list[list[int]]:
  """Returns which images share a mask, for what is solved once for each mask.

  Args:
    masks: float [n, H, W, 1], 1 = known, 0 = hole.

  Returns:
    Lists of indices, by their first; each index is in one.
  """
  members = {}
  for index, known in enumerate(np.asarray(masks) > 0.5):
    members.setdefault(known.tobytes(), []).append(index)
  return list(members.values())


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
