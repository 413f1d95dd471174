"""The aligned images of CelebA and their splits, as users have them.

Either the official files, which have to be downloaded by hand, since the
authors' Google Drive refuses most programs; or tfds' `celeb_a`, prepared by
tfds itself.
"""

from collections.abc import Iterator
import functools
import hashlib
import os
import pathlib

from absl import logging
import tensorflow_datasets as tfds

from dcgan_inpaint.data import folder
from dcgan_inpaint.data import tfds_files
from dcgan_inpaint.runtime import errors

HOMEPAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
SPLITS = ("train", "validation", "test")  # 0, 1, 2 in the partition file.

# The full img_align_celeba.zip, from the checksums.tsv of tfds' celeb_a.
FULL_BYTES = 1_443_490_838
FULL_SHA256 = "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74"

# The second is the name in the copy on Kaggle.
_PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")


def find(source: str | os.PathLike[str]) -> dict[str, list[folder.File]]:
  """Returns the aligned images of each split.

  Args:
    source: img_align_celeba.zip, the folder it unpacks to, or a folder that
      holds either, with list_eval_partition.txt in it, beside it or in `Eval`
      beside it, as in the authors' own tree; or tfds' `celeb_a`, prepared as
      tfrecord or array_record.

  Raises:
    errors.UserError: a file is missing, damaged, or not CelebA's.
  """
  root = pathlib.Path(source).expanduser().absolute()
  if not root.exists():
    raise errors.UserError(f"config.data.source: {root} does not exist")
  prepared = tfds_files.find(source, "celeb_a")
  return _of_tfds(prepared) if prepared else _official(root)


def _official(root: pathlib.Path) -> dict[str, list[folder.File]]:
  """Returns the files of each split in the official layout below `root`."""
  images = next(
    (
      root / name
      for name in ("img_align_celeba.zip", "img_align_celeba")
      if (root / name).exists()
    ),
    root,
  )
  places = [root, images, images.parent, images.parent.parent / "Eval"]
  partition = next(
    (p / n for p in places for n in _PARTITIONS if (p / n).is_file()), None
  )
  if partition is None:
    raise errors.UserError(
      f"there is no {_PARTITIONS[0]} in or beside {root}, which says which "
      f"image is for training: download it from {HOMEPAGE} (Eval/) and put it "
      "there"
    )
  if images.is_file():
    _check_archive(images)
  # Copies differ in the folder inside the archive; the file names are CelebA's.
  found = {}
  for file in folder.list_files(str(images)):
    name = pathlib.PurePosixPath(file.name).name
    if name in found:
      raise errors.UserError(
        f"{images} holds both {found[name].name} and {file.name}: remove the "
        "one that is not CelebA's"
      )
    found[name] = file
  files: dict[str, list[folder.File]] = {split: [] for split in SPLITS}
  missing = 0
  for name, number in read_partition(partition):
    if name in found:
      files[SPLITS[number]].append(folder.File(name, found[name].read))
    else:
      missing += 1
  if not any(files.values()):
    raise errors.UserError(f"{images} holds none of the images in {partition}")
  if missing:
    logging.warning(
      "%s lacks %d of the images in %s, which are left out",
      images, missing, partition,
    )  # fmt: skip
  return files


def read_partition(path: pathlib.Path) -> Iterator[tuple[str, int]]:
  """Yields (file name, number of the split) from the partition file.

  Args:
    path: the file: a name and 0, 1 or 2 on each line, with a space or a comma
      between.

  Raises:
    errors.UserError: a line is not of that form, or a name is repeated.
  """
  names = set()
  # Bytes that are not text are no part of a name of CelebA's, and are shown
  # escaped.
  text = path.read_text(encoding="utf-8", errors="backslashreplace")
  for number, line in enumerate(text.splitlines(), 1):
    fields = line.replace(",", " ").split()
    if not fields or fields == ["image_id", "partition"]:
      continue
    if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
      raise errors.UserError(
        f"{path}, line {number}: {line[:80]!r} is not a file name and 0, 1 or 2"
      )
    if fields[0] in names:  # It might be trained on, and tested with.
      raise errors.UserError(
        f"{path}, line {number}: {fields[0][:80]!r} is listed twice: download "
        f"the file again from {HOMEPAGE} (Eval/)"
      )
    names.add(fields[0])
    yield fields[0], int(fields[1])


def _check_archive(path: pathlib.Path) -> None:
  """Refuses a damaged full archive, and logs that another one is cut down."""
  if path.stat().st_size != FULL_BYTES:
    logging.info(
      "%s is not CelebA's full archive (%d bytes), and is used as it is",
      path, FULL_BYTES,
    )  # fmt: skip
    return
  with path.open("rb") as file:
    if hashlib.file_digest(file, "sha256").hexdigest() != FULL_SHA256:
      raise errors.UserError(
        f"{path} is damaged: it has the size of CelebA's archive, but not its "
        "sha256; download it again"
      )


def _of_tfds(directory: pathlib.Path) -> dict[str, list[folder.File]]:
  """Returns the files of each split in a prepared tfds `celeb_a`.

  That data set stores no file names: a file is named by its split and its
  position there, such as 'train-000012'.
  """
  builder = tfds.builder_from_directory(directory)
  files = {}
  for split in SPLITS:
    count, read = tfds_files.open_split(builder, split)
    files[split] = [
      folder.File(f"{split}-{i:06d}", functools.partial(_image, read, i))
      for i in range(count)
    ]
  return files


def _image(read: tfds_files.ReadExample, i: int) -> bytes:
  """Returns the encoded image of the i-th example."""
  return read(i)["image"]
