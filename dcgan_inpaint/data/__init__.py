"""Where images come from: one call, whatever the source.

`load` reads CelebA prepared by tfds (`celeba`), a folder or zips of image
files (`folder`), or draws cartoon faces (`synthetic`). Each module is imported
where it is used, so that tfds is loaded for CelebA alone.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import hashlib
import os
import pathlib
from typing import NamedTuple
from typing import TypeAlias

import ml_collections
import numpy as np

from dcgan_inpaint.data import ids
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.runtime import untrusted

NAMES = ("celeba", "folder", "synthetic")
SPLITS = ("train", "validation", "test", "all")


# From the number of images to the slice of them that one of several processes
# loads, such as `sharding.process_slice`.
Rows: TypeAlias = Callable[[int], slice]


# The height, the width and the channels of an image: (S, S, 3) or (S, S, 1).
ImageShape: TypeAlias = tuple[int, int, int]


class ImageSet(NamedTuple):
  """Images and their names, in an order that never changes.

  Attributes:
    images: uint8 array [N, S, S, C], RGB or grey.
    names: N file names (within their folder or zip) or ids.
    total: images of the whole split, of which these may be only some rows.
  """

  images: np.ndarray
  names: list[str]
  total: int


@dataclasses.dataclass(frozen=True)
class Source:
  """The images of a split, to be read one by one from several threads.

  Attributes:
    count: number of images.
    read: function of an index in [0, count) that returns an image file's bytes.
    crop: what is cut out of it, one of `decoding.CROPS`.
  """

  count: int
  read: Callable[[int], bytes]
  crop: str = "auto"


def load(
  config: ml_collections.ConfigDict,
  split: str,
  image_shape: ImageShape,
  limit: int = 0,
  rows: Rows | None = None,
) -> ImageSet:
  """Loads one split of the data set that `config` names.

  Args:
    config: the `data` section of the configuration: `name`, `path`,
      `validation_path`, `test_path`, `ids`, `crop`, `max_images` (0 = all) and
      `seed`.
    split: 'train', 'validation', 'test' or 'all', which is all three.
    image_shape: (S, S, C) of the images, that of the model.
    limit: as `config.max_images`, for a caller that needs no more; the lower
      of both counts.
    rows: which images are loaded, for one of several processes; None is all.

  Returns:
    The images; with a limit, the first ones of the split's order.

  Raises:
    errors.UserError: for an unknown name or split, or if the images are
      missing, not prepared or not readable.
  """
  _check(config, split)
  max_images = min(filter(None, (config.max_images, limit)), default=0)
  image_size, _, channels = image_shape
  names = ids.read(config.ids, split) if config.ids else None
  if config.name == "celeba":
    from dcgan_inpaint.data import celeba

    path = lists.one_path(config.path, "config.data.path")
    return celeba.load(
      path, split, image_size, max_images, rows, channels=channels, ids=names
    )
  if config.name == "folder":
    from dcgan_inpaint.data import folder

    return folder.load(
      config.path,
      split,
      image_size,
      max_images,
      channels=channels,
      crop=config.crop,
      validation_path=config.validation_path,
      test_path=config.test_path,
      ids=names,
      rows=rows,
    )
  from dcgan_inpaint.data import synthetic

  images = synthetic.load(split, max_images, config.seed, image_size, channels)
  names = [f"synthetic-{i:06d}" for i in range(len(images))]
  loaded = rows(len(images)) if rows else slice(None)
  return ImageSet(images[loaded], names[loaded], len(images))


def open_source(config: ml_collections.ConfigDict, split: str) -> Source:
  """Opens one split of the data set that `config` names; reads no image yet.

  Args:
    config: as for `load`.
    split: as for `load`.

  Returns:
    The images in the order of `load`.

  Raises:
    errors.UserError: as `load`; and for synthetic faces, which are not read.
  """
  _check(config, split)
  names = ids.read(config.ids, split) if config.ids else None
  crop = "auto"
  if config.name == "celeba":
    from dcgan_inpaint.data import celeba

    path = lists.one_path(config.path, "config.data.path")
    count, read = celeba.open_split(path, split, names)
  elif config.name == "folder":
    from dcgan_inpaint.data import folder

    files = folder.list_split(
      config.path, split, config.validation_path, config.test_path, names
    )
    count, read = len(files), lambda i: files[i].read()
    crop = config.crop
  else:
    raise errors.UserError(
      "config.data.placement='stream': synthetic faces are drawn in memory; "
      "choose --config.data.placement=device"
    )
  return Source(min(filter(None, (count, config.max_images))), read, crop)


def digest(
  contents: Iterable[bytes | np.ndarray], indices: Iterable[int]
) -> str:
  """Returns 12 hexadecimal digits that tell one data set from another.

  They depend on every byte and on the order, but not on the number of
  processes: each image is hashed with its place (SHA-256), and the first 48
  bits of the hashes are added up. CelebA's training images take two seconds.

  Args:
    contents: bytes or uint8 arrays, those of this process.
    indices: their places in the whole data set.
  """
  total = 0
  for index, content in zip(indices, contents, strict=True):
    sha = hashlib.sha256(b"%d:" % index)
    sha.update(content)
    total += int.from_bytes(sha.digest()[:6], "big")
  # 48 bits are exact in the float64 that processes exchange.
  parts = sharding.gather(np.array([total % 2**48], np.float64))
  return f"{sum(map(int, parts.flat)) % 2**48:012x}"


def digest_files(path: str | os.PathLike[str]) -> str:
  """Returns the `digest` of a file, or of all below a folder with their names.

  All processes must call it; each reads its `process_slice`.

  Args:
    path: the file or folder.
  """
  root = pathlib.Path(path).expanduser()
  files = sorted(
    file
    for file in (root, *root.rglob("*"))
    # A hidden file is no data, such as the record of the job `prepare`.
    if file.is_file() and not (file != root and file.name.startswith("."))
  )
  local = sharding.process_slice(len(files))
  contents = (
    os.fsencode(f"{file.relative_to(root)}\0") + _content(file)
    for file in files[local]
  )
  return digest(contents, range(len(files))[local])


def _content(file: pathlib.Path) -> bytes:
  """Returns a file's bytes; none of one that no reader would take either."""
  try:
    return untrusted.read_bytes(file)
  except ValueError:
    return b""


def _check(config: ml_collections.ConfigDict, split: str) -> None:
  """Refuses an unknown data set or split."""
  if config.name not in NAMES:
    raise errors.UserError(
      f"config.data.name={config.name!r}: choose one of {', '.join(NAMES)}"
    )
  if config.ids and config.name == "synthetic":
    raise errors.UserError(
      f"config.data.ids={config.ids!r}: drawn faces have no list of images; "
      "leave it empty"
    )
  if split not in SPLITS:
    raise errors.UserError(
      f"there is no split {split!r}: choose one of {', '.join(SPLITS)}"
    )
