"""The holes that an encoder is trained with."""

import dataclasses
import sys

import numpy as np
import PIL

from dcgan_inpaint.masks import drawing
from dcgan_inpaint.masks import families as mask_families
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import lists


def load(
  families: str | tuple[str, ...], count: int, seed: int, side: int
) -> np.ndarray:
  """Returns what `draw` returns, from the user's cache if it is there."""
  made_by = [drawing, mask_families, mask_sets, mask_settings, np, PIL]
  pool = cache.array(
    lambda: draw(families, count, seed, side) > 0.5,
    [sys.modules[__name__], *made_by],
    families,
    count,
    seed,
    side,
  )
  return pool.astype(np.float32)


def draw(
  families: str | tuple[str, ...], count: int, seed: int, side: int
) -> np.ndarray:
  """Draws the holes that an encoder is trained with.

  Half of them have their family's default size, the others between half and
  one and a half times of it.

  Args:
    families: names, as text with commas or a tuple; one that is listed twice is
      drawn twice as often.
    count: how many masks.
    seed: the seed that they are drawn from.
    side: of the masks, pixels.

  Returns:
    float32 [count, side, side, 1], 1 = known.

  Raises:
    errors.UserError: a family is unknown.
  """
  names = lists.words(families)
  rng = np.random.default_rng(seed)
  masks = []
  for index in range(count):
    family = names[index % len(names)]
    settings = mask_settings.MaskSettings(
      family,
      side=str(rng.choice(["left", "right", "top", "bottom"])),
      seed=seed,
    )
    factor = rng.uniform(0.5, 1.5)
    if rng.random() < 0.5:
      share = mask_families.DEFAULT_SHARES.get(family)
      size = mask_families.default_size(family, side)
      if share:
        share = min(0.95, factor * share)
        settings = dataclasses.replace(settings, share=share)
      elif size and size >= 1:
        size = float(max(2, round(factor * size)))
        settings = dataclasses.replace(settings, size=size)
    masks.append(mask_sets.make(settings, [index], side, side)[0])
  return np.stack(masks)
