"""Where images come from: one call, whatever the source.

`load` reads CelebA prepared by tfds (`celeba`), a folder or zips of image
files (`folder`), or cartoon faces drawn on the spot (`synthetic`). The modules
are imported only when they are asked for, so that nobody needs tfds who does
not use CelebA.
"""

from collections.abc import Callable
import hashlib
import pathlib
from typing import NamedTuple

import numpy as np

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding

NAMES = ("celeba", "folder", "synthetic")
SPLITS = ("train", "validation", "test", "all")


class ImageSet(NamedTuple):
  """Images and what they are called, in an order that never changes.

  Attributes:
    images: uint8 array [N, S, S, 3], RGB.
    names: list of N str: file names (within their folder or zip) or ids.
    count: images of the whole split, where these are only some rows of it.
  """

  images: np.ndarray
  names: list
  count: int


class Source(NamedTuple):
  """The images of a split, to be read one by one from several threads.

  Attributes:
    count: how many there are.
    read: function of an index in [0, count) that returns an image file's bytes.
  """

  count: int
  read: Callable[[int], bytes]


def load(config, split, image_size=64, limit=0, rows=None):
  """Loads one split of the data set that `config` names.

  Args:
    config: the `data` section of the configuration: `name`, `path`,
      `validation_path`, `test_path`, `max_images` (0 = all) and `seed`.
    split: 'train', 'validation', 'test' or 'all', which is all three.
    image_size: side of the images in pixels.
    limit: as `config.max_images`, for a caller that needs no more; the lower
      of both holds.
    rows: function from the number of images to the slice of them that is
      loaded, for one of several processes; all by default.

  Returns:
    An `ImageSet`; the first images of the split's order where a limit is set.

  Raises:
    UserError: for an unknown name or split, and where the images are missing,
      not prepared or not readable.
  """
  _check(config, split)
  max_images = min(filter(None, (config.max_images, limit)), default=0)
  if config.name == "celeba":
    from dcgan_inpaint.data import celeba

    return celeba.load(config.path, split, image_size, max_images, rows)
  if config.name == "folder":
    from dcgan_inpaint.data import folder

    return folder.load(
      config.path,
      split,
      image_size,
      max_images,
      validation_path=config.validation_path,
      test_path=config.test_path,
      rows=rows,
    )
  from dcgan_inpaint.data import synthetic

  if image_size != synthetic.SIZE:
    raise ValueError(
      f"Synthetic faces have {synthetic.SIZE}x{synthetic.SIZE} pixels, not "
      f"{image_size}x{image_size}."
    )
  images = synthetic.load(split, count=max_images, seed=config.seed)
  names = [f"synthetic-{i:06d}" for i in range(len(images))]
  mine = rows(len(images)) if rows else slice(None)
  return ImageSet(images[mine], names[mine], len(images))


def open_source(config, split):
  """Opens one split of the data set that `config` names; reads no image yet.

  Args:
    config: as for `load`.
    split: as for `load`.

  Returns:
    A `Source`, in the order of `load`.

  Raises:
    UserError: as `load`; and for synthetic faces, which are drawn and not read.
  """
  _check(config, split)
  if config.name == "celeba":
    from dcgan_inpaint.data import celeba

    count, read = celeba.open_split(config.path, split)
  elif config.name == "folder":
    from dcgan_inpaint.data import folder

    files = folder.list_split(
      config.path, split, config.validation_path, config.test_path
    )
    count, read = len(files), lambda i: files[i].read()
  else:
    raise errors.UserError(
      "config.data.placement='stream': synthetic faces are drawn in memory; "
      "take --config.data.placement=device"
    )
  return Source(min(filter(None, (count, config.max_images))), read)


def digest(contents, indices):
  """Returns 12 hexadecimal digits that tell one data set from another.

  It depends on every byte and on the order, and not on how many processes
  share the work: each image is hashed with its place (SHA-256), and the first
  48 bits of the hashes are added up. CelebA's training images take two seconds.

  Args:
    contents: iterable of bytes or uint8 arrays, those of this process.
    indices: iterable of their places in the whole data set.
  """
  total = 0
  for index, content in zip(indices, contents, strict=True):
    sha = hashlib.sha256(b"%d:" % index)
    sha.update(content)
    total += int.from_bytes(sha.digest()[:6], "big")
  # 48 bits are exact in the float64 that processes exchange.
  parts = sharding.gather(np.array([total % 2**48], np.float64))
  return f"{sum(map(int, parts.flat)) % 2**48:012x}"


def digest_files(path):
  """Returns the `digest` of a file, or of all below a folder with their names.

  All processes must call it; each reads its share.
  """
  root = pathlib.Path(path).expanduser()
  files = sorted(file for file in (root, *root.rglob("*")) if file.is_file())
  mine = sharding.process_slice(len(files))
  contents = (
    f"{file.relative_to(root)}\0".encode() + file.read_bytes()
    for file in files[mine]
  )
  return digest(contents, range(len(files))[mine])


def _check(config, split):
  """Refuses an unknown data set or split."""
  if config.name not in NAMES:
    raise errors.UserError(
      f"config.data.name is '{config.name}'; choose one of: {', '.join(NAMES)}."
    )
  if split not in SPLITS:
    raise errors.UserError(
      f"Unknown split '{split}'; choose one of: {', '.join(SPLITS)}."
    )
