"""Lists of images: a data set is cut down to those that a file names.

So that a figure can be measured again on the very images that it stands for,
by those who hold a larger set. The package has the list of the faces of CelebA
that its model was trained and measured on.
"""

import importlib.resources
import lzma
import pathlib

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import untrusted

# What `config.data.ids` calls the package's list.
PRETRAINED = "pretrained"

_PARTITIONS = {"train": "0", "validation": "1", "test": "2"}


def read(path: str, split: str) -> frozenset[str]:
  """Returns the names of a split's images, without their suffixes.

  Args:
    path: a text file with a name a line, such as '000001.jpg'; or in the format
      of CelebA's `list_eval_partition.txt`, with 0 (train), 1 (validation) or 2
      (test) after it, of which those of the split are taken. May end in '.xz'.
      'pretrained' is the list of the packaged model.
    split: 'train', 'validation', 'test' or 'all'.

  Raises:
    errors.UserError: the file cannot be read, or names no image of the split.
  """
  if path == PRETRAINED:
    folder = importlib.resources.files("dcgan_inpaint.pretrained")
    content = (folder / "celeba_ids.txt.xz").read_bytes()
  else:
    try:
      content = untrusted.read_bytes(pathlib.Path(path).expanduser())
    except (OSError, ValueError) as error:
      reason = getattr(error, "strerror", None) or str(error)
      raise errors.UserError(
        f"config.data.ids={path!r}: {reason}; name a text file with an image's "
        f"name a line, or {PRETRAINED}"
      ) from error
  try:
    if path == PRETRAINED or path.endswith(".xz"):
      content = lzma.LZMADecompressor().decompress(
        content, max_length=untrusted.MAX_BYTES
      )
    lines = [line.split() for line in content.decode().splitlines()]
  except (lzma.LZMAError, UnicodeDecodeError) as error:
    raise errors.UserError(
      f"config.data.ids={path!r} is no text file ({error})"
    ) from error
  names = frozenset(
    pathlib.PurePosixPath(name).stem
    for name, *partition in filter(None, lines)
    if not partition or split == "all" or partition == [_PARTITIONS[split]]
  )
  if not names:
    raise errors.UserError(
      f"config.data.ids={path!r} names no image of the split {split!r}"
    )
  return names
