"""Data sets that tfds has prepared, read example by example without TensorFlow.

Files are array_record or tfrecord. (tfds reads parquet without TensorFlow too,
but loses examples.)
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import json
import os
import pathlib
import re
import struct
from typing import Any
from typing import cast

import tensorflow_datasets as tfds

from dcgan_inpaint.runtime import errors

_INFO = "dataset_info.json"

# From a position to its example, whose image is still encoded; thread-safe.
ReadExample = Callable[[int], dict[str, Any]]


def find(path: str | os.PathLike[str], name: str) -> pathlib.Path | None:
  """Returns the folder of the newest complete tfds data set, or None.

  Args:
    path: that folder itself, or the tfds `data_dir` above it.
    name: of the data set, such as 'celeb_a'.
  """
  root = pathlib.Path(path).expanduser()
  candidates = [*sorted(root.glob(f"{name}/**/{_INFO}")), root / _INFO]
  for info in reversed(candidates):
    # tfds writes to a folder 'incomplete....' and renames it at the end, to the
    # data set's version.
    complete = re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
    if not complete or not info.is_file():
      continue
    if json.loads(info.read_text())["name"] == name:
      return info.parent
  return None


def open_split(
  builder: tfds.core.DatasetBuilder, split: str
) -> tuple[int, ReadExample]:
  """Opens one split of a prepared data set for random access.

  Args:
    builder: of array_record or tfrecord files.
    split: name of the split.

  Returns:
    count: number of examples; 0 if there is no such split.
    read: function of a position in [0, count).

  Raises:
    errors.UserError: for another format, or if examples are missing.
  """
  dataset = cast(Any, builder)  # The annotations of tfds are not complete.
  info = dataset.info
  if split not in info.splits:
    return 0, _no_example
  encoded = {"image": tfds.decode.SkipDecoding()}
  stored_as = info.file_format.value
  if stored_as == "array_record":
    source = dataset.as_data_source(split, decoders=encoded)
    count, read = len(source), source.__getitem__
  elif stored_as == "tfrecord":
    records = list(_find_records(info.splits[split].filepaths))

    def read(position: int) -> dict[str, Any]:
      path, offset, length = records[position]
      with open(path, "rb") as file:
        file.seek(offset)
        record = file.read(length)
      return info.features.deserialize_example_np(record, decoders=encoded)

    count = len(records)
  else:
    raise errors.UserError(
      f"{info.data_dir} is stored as {stored_as}: only array_record and "
      "tfrecord can be read"
    )
  expected = info.splits[split].num_examples
  if count != expected:
    raise errors.UserError(
      f"{info.data_dir} is damaged: split {split!r} has {count} of {expected} "
      "examples; prepare it again"
    )
  return count, read


def _no_example(position: int) -> dict[str, Any]:
  raise IndexError(position)


def _find_records(
  paths: Sequence[os.PathLike[str]],
) -> Iterator[tuple[os.PathLike[str], int, int]]:
  """Yields (path, offset, length) of each record, by TFRecord's framing.

  A record is its length (8 bytes, little-endian), a checksum of that (4), the
  data and a checksum (4).
  """
  for path in paths:
    with open(path, "rb") as file:
      while header := file.read(12):
        (length,) = struct.unpack("<Q", header[:8])
        yield path, file.tell(), length
        file.seek(length + 4, os.SEEK_CUR)
