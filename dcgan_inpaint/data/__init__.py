"""Where images come from: one call, whatever the source.

`load` reads CelebA prepared by tfds (`celeba`), a folder or zips of image
files (`folder`), or cartoon faces drawn on the spot (`synthetic`). The modules
are imported only when they are asked for, so that nobody needs tfds who does
not use CelebA.
"""

from typing import NamedTuple

import numpy as np

from dcgan_inpaint import errors

NAMES = ("celeba", "folder", "synthetic")
SPLITS = ("train", "validation", "test", "all")


class ImageSet(NamedTuple):
  """Images and what they are called, in an order that never changes.

  Attributes:
    images: uint8 array [N, S, S, 3], RGB.
    names: list of N str: file names (within their folder or zip) or ids.
  """

  images: np.ndarray
  names: list


def load(config, split, image_size=64, limit=0):
  """Loads one split of the data set that `config` names.

  Args:
    config: the `data` section of the configuration: `name`, `path`,
      `validation_path`, `test_path`, `max_images` (0 = all) and `seed`.
    split: 'train', 'validation', 'test' or 'all', which is all three.
    image_size: side of the images in pixels.
    limit: as `config.max_images`, for a caller that needs no more; the lower
      of both holds.

  Returns:
    An `ImageSet`; the first images of the split's order where a limit is set.

  Raises:
    UserError: for an unknown name or split, and where the images are missing,
      not prepared or not readable.
  """
  if config.name not in NAMES:
    raise errors.UserError(
      f"config.data.name is '{config.name}'; choose one of: {', '.join(NAMES)}."
    )
  if split not in SPLITS:
    raise errors.UserError(
      f"Unknown split '{split}'; choose one of: {', '.join(SPLITS)}."
    )
  max_images = min(filter(None, (config.max_images, limit)), default=0)
  if config.name == "celeba":
    from dcgan_inpaint.data import celeba

    return celeba.load(config.path, split, image_size, max_images)
  if config.name == "folder":
    from dcgan_inpaint.data import folder

    return folder.load(
      config.path,
      split,
      image_size,
      max_images,
      validation_path=config.validation_path,
      test_path=config.test_path,
    )
  from dcgan_inpaint.data import synthetic

  if image_size != synthetic.SIZE:
    raise ValueError(
      f"Synthetic faces have {synthetic.SIZE}x{synthetic.SIZE} pixels, not "
      f"{image_size}x{image_size}."
    )
  images = synthetic.load(split, count=max_images, seed=config.seed)
  return ImageSet(images, [f"synthetic-{i:06d}" for i in range(len(images))])
