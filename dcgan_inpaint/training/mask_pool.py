"""The holes that an encoder is trained with."""

import sys

import numpy as np
import PIL

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.masks import families as mask_families
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.runtime import cache


def load(families: str, count: int, seed: int) -> np.ndarray:
  """Returns what `draw` returns, from the user's cache if it is there."""
  pool = cache.array(
    lambda: draw(families, count, seed) > 0.5,
    [sys.modules[__name__], config_lib, mask_sets, mask_families, np, PIL],
    families,
    count,
    seed,
  )
  return pool.astype(np.float32)


def draw(families: str, count: int, seed: int) -> np.ndarray:
  """Draws the holes that an encoder is trained with.

  Half of them have their family's usual size, the others from half of it to
  one and a half.

  Args:
    families: names with commas; one that stands twice is drawn twice as often.
    count: how many masks.
    seed: what they are drawn from.

  Returns:
    float32 [count, 64, 64, 1], 1 = known.

  Raises:
    errors.UserError: a family is unknown.
  """
  names = [name.strip() for name in families.split(",")]
  rng = np.random.default_rng(seed)
  masks = []
  settings = config_lib.mask()
  settings.seed, usual = seed, (settings.share, settings.size)
  for index in range(count):
    settings.family = names[index % len(names)]
    settings.share, settings.size = usual
    settings.side = str(rng.choice(["left", "right", "top", "bottom"]))
    factor = rng.uniform(0.5, 1.5)
    if rng.random() < 0.5:
      share = mask_families.DEFAULT_SHARES.get(settings.family)
      size = mask_families.DEFAULT_SIZES.get(settings.family)
      if share:
        settings.share = min(0.95, factor * share)
      elif size and size >= 1:
        settings.size = float(max(2, round(factor * size)))
    masks.append(mask_sets.make(settings, [index])[0])
  return np.stack(masks)
