"""CelebA as 64x64 face crops: prepared once by tfds, then only read.

CelebA: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015;
202,599 aligned photographs of 178x218 pixels. `prepare` crops them from the
official files or from a prepared tfds `celeb_a`, and `load` reads the result.
Neither uses TensorFlow or the network: what has to be downloaded (by hand,
since the authors' Google Drive refuses most programs) is named in an error.
"""

import bisect
import concurrent.futures
import functools
import hashlib
import io
import itertools
import json
import os
import pathlib
import re
import struct

from absl import logging
from PIL import Image
import tensorflow_datasets as tfds
import tqdm

from dcgan_inpaint import data
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder
from dcgan_inpaint.runtime import errors

SIZE = 64
SPLITS = ("train", "validation", "test")  # 0, 1, 2 in the partition file.

# The full img_align_celeba.zip, from the checksums.tsv of tfds' celeb_a.
FULL_BYTES = 1_443_490_838
FULL_SHA256 = "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74"

_INFO = "dataset_info.json"
_HOMEPAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
# The second is the name in the copy on Kaggle.
_PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
_SHARD = 8192  # Images, about 70 MB.


class CelebAFaces(tfds.core.ShardBasedBuilder):
  """64x64 face crops of CelebA, in the order of their file names.

  A `ShardBasedBuilder` and not a `GeneratorBasedBuilder`, which buffers a split
  in memory and, beyond 1 GB (the training faces are 1.4 GB), needs TensorFlow
  to write the rest to disk.
  """

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(
      name=decoding.FACE_CROP,
      description="The 128x128 box with columns 25..152 and rows 57..184 of "
      "the aligned image, resized to 64x64 by Lanczos.",
    )
  ]

  def __init__(self, *, files, source, progress, **kwargs):
    """Makes the builder.

    Args:
      files: dict from split to a list of `folder.File`.
      source: what they come from; kept in the metadata.
      progress: function that is called after each image.
      **kwargs: as for any tfds builder.
    """
    self._files = files
    self._source = source
    self._progress = progress
    super().__init__(**kwargs)

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description="Faces of CelebA, cropped and resized.",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(
            shape=(SIZE, SIZE, 3), encoding_format="png"
          ),
          "name": tfds.features.Text(doc="File name in CelebA, 000001.jpg."),
        }
      ),
      homepage=_HOMEPAGE,
      metadata=tfds.core.MetadataDict(
        crop=decoding.FACE_CROP,
        box=decoding.FACE_BOX,
        resampling="lanczos",
        source=self._source,
      ),
    )

  def _shard_iterators_per_split(self, dl_manager):
    del dl_manager  # Nothing is downloaded.
    return {
      split: [
        functools.partial(self._examples, files[i : i + _SHARD])
        for i in range(0, len(files), _SHARD)
      ]
      for split, files in self._files.items()
      if files
    }

  def _examples(self, files):
    """Yields (key, example) of each file; threads do the work."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      for file, png in zip(files, pool.map(_crop, files), strict=True):
        yield file.name, {"image": png, "name": file.name}
        self._progress()


def _crop(file):
  """Returns the face in an aligned image file as the bytes of a PNG."""
  try:
    encoded = file.read()
    with Image.open(io.BytesIO(encoded), formats=decoding.FORMATS) as image:
      if image.size != decoding.ALIGNED_SIZE:
        raise ValueError(
          f"{image.width}x{image.height} pixels instead of 178x218"
        )
    face = decoding.decode(encoded, SIZE)
  except Exception as error:  # Pillow and zipfile raise many kinds.
    raise errors.UserError(
      f"{file.name} is not an aligned CelebA image ({error}). Get "
      "img_align_celeba.zip again."
    ) from error
  png = io.BytesIO()
  Image.fromarray(face).save(png, "png")
  return png.getvalue()


def prepare(source, output):
  """Crops the faces of CelebA and stores them for `load`.

  An interrupted call leaves nothing behind that `load` would take.

  Args:
    source: img_align_celeba.zip, the folder it unpacks to, or a folder that
      holds either, with list_eval_partition.txt in it, beside it or in `Eval`
      beside it, as in the authors' own tree; or tfds' `celeb_a`, prepared as
      tfrecord or array_record.
    output: folder for the result.

  Returns:
    dict from split to the number of its images.

  Raises:
    UserError: where a file is missing, damaged, or not CelebA's.
  """
  if not output:
    raise errors.UserError(
      "config.data.path is empty: name the folder for the prepared faces."
    )
  prepared = _find_dataset(output, CelebAFaces.name)
  if prepared:
    info = tfds.builder_from_directory(prepared).info
    logging.info(
      "%s is already prepared, from %s; nothing to do.",
      *(prepared, info.metadata["source"]),
    )
    return {s: info.splits[s].num_examples for s in SPLITS if s in info.splits}
  if not source:
    raise errors.UserError(
      "config.data.source is empty: name img_align_celeba.zip, its folder, or "
      "a prepared tfds celeb_a."
    )
  root = pathlib.Path(source).expanduser().absolute()
  if not root.exists():
    raise errors.UserError(f"config.data.source: {root} does not exist.")
  standard = _find_dataset(source, "celeb_a")
  files = _standard_files(standard) if standard else _official_files(root)
  sizes = {split: len(files[split]) for split in SPLITS}
  # Nobody watches a log file: the bar appears on a terminal only.
  with tqdm.tqdm(
    total=sum(sizes.values()), desc="Cropping", unit=" images", disable=None
  ) as bar:
    builder = CelebAFaces(
      files=files,
      source=root.name,
      progress=bar.update,
      data_dir=pathlib.Path(output).expanduser(),
      file_format="array_record",
    )
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
  return sizes


def _official_files(root):
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
      f"No {_PARTITIONS[0]} in or beside {root}: it says which image is for "
      f"training. Download it from {_HOMEPAGE} (Eval/) and put it there."
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
        "one that is not CelebA's."
      )
    found[name] = file
  files = {split: [] for split in SPLITS}
  missing = 0
  for name, number in _read_partition(partition):
    if name in found:
      files[SPLITS[number]].append(folder.File(name, found[name].read))
    else:
      missing += 1
  if not any(files.values()):
    raise errors.UserError(f"{images} holds none of the images in {partition}.")
  if missing:
    logging.warning(
      "%s lacks %d of the images in %s; going on without them.",
      *(images, missing, partition),
    )
  return files


def _read_partition(path):
  """Yields (file name, number of the split) from the partition file."""
  names = set()
  # What is no text has no place in a name of CelebA's, and is shown escaped.
  text = path.read_text(encoding="utf-8", errors="backslashreplace")
  for number, line in enumerate(text.splitlines(), 1):
    fields = line.replace(",", " ").split()
    if not fields or fields == ["image_id", "partition"]:
      continue
    if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
      raise errors.UserError(
        f"{path}, line {number}: '{line[:80]}' is not a file name and 0, 1 or "
        "2."
      )
    if fields[0] in names:  # It might be trained on, and tested with.
      raise errors.UserError(
        f"{path}, line {number}: '{fields[0][:80]}' stands there twice. "
        f"Download it again from {_HOMEPAGE} (Eval/)."
      )
    names.add(fields[0])
    yield fields[0], int(fields[1])


def _check_archive(path):
  """Refuses a damaged full archive, and says so where one is cut down."""
  if path.stat().st_size != FULL_BYTES:
    logging.info(
      "%s is not CelebA's full archive (%d bytes); taken as it is.",
      *(path, FULL_BYTES),
    )
    return
  with path.open("rb") as file:
    if hashlib.file_digest(file, "sha256").hexdigest() != FULL_SHA256:
      raise errors.UserError(
        f"{path} is damaged: it has the size of CelebA's archive, but not its "
        "sha256. Download it again."
      )


def _standard_files(directory):
  """Returns the files of each split in a prepared tfds `celeb_a`.

  That data set keeps no file names: a file is called by its split and its
  position there, such as 'train-000012'.
  """
  builder = tfds.builder_from_directory(directory)
  files = {}
  for split in SPLITS:
    count, example = _open_split(builder, split)
    files[split] = [
      folder.File(f"{split}-{i:06d}", functools.partial(_image, example, i))
      for i in range(count)
    ]
  return files


def _image(example, i):
  """Returns the encoded image of the i-th example."""
  return example(i)["image"]


def load(path, split, image_size=SIZE, max_images=0, rows=None):
  """Loads one split of the prepared faces. Downloads nothing, ever.

  Args:
    path: the folder that `prepare` was given as its output.
    split: 'train', 'validation', 'test' or 'all', the three in this order.
    image_size: side of the images in pixels; 64 is as stored, to the bit.
    max_images: only the first so many; 0 is all.
    rows: function from their number to the slice that is loaded; None is all.

  Returns:
    A `data.ImageSet` in the order of CelebA's file names, '000001.jpg'.

  Raises:
    UserError: where nothing is prepared, or what is there is damaged.
  """
  directory, total, example = _open(path, split)
  count = min(filter(None, (total, max_images)))
  mine = range(count)[rows(count)] if rows else range(count)
  names = [""] * len(mine)

  def read(i):
    record = example(mine[i])
    names[i] = record["name"].decode()
    return record["image"]

  images, failures = decoding.decode_all(read, len(mine), image_size)
  if failures:
    raise errors.UserError(
      f"{directory} is damaged ({min(failures.items())}). Delete it and "
      "prepare it again."
    )
  return data.ImageSet(images, names, count)


def open_split(path, split):
  """Opens one split of the prepared faces, to read them one by one.

  Args:
    path: as for `load`.
    split: as for `load`.

  Returns:
    count: number of images.
    read: thread-safe function of a position that returns a PNG file's bytes.

  Raises:
    UserError: where nothing is prepared, or what is there is damaged.
  """
  _, count, example = _open(path, split)
  return count, lambda position: example(position)["image"]


def _open(path, split):
  """Returns the data set's folder, and what `_open_split` does."""
  directory = path and _find_dataset(path, CelebAFaces.name)
  if not directory:
    raise errors.UserError(
      f"No prepared CelebA faces in '{path}'. Download img_align_celeba.zip "
      f"and list_eval_partition.txt by hand from {_HOMEPAGE} and run: "
      "python -m dcgan_inpaint.main --config=configs/prepare.py "
      "--config.data.source=img_align_celeba.zip "
      f"--config.data.path={path or 'DIR'}"
    )
  builder = tfds.builder_from_directory(directory)
  parts = [
    _open_split(builder, part)
    for part in (SPLITS if split == "all" else [split])
  ]
  ends = list(itertools.accumulate(count for count, _ in parts))
  if not ends[-1]:
    raise errors.UserError(f"{directory} has no images in split '{split}'.")

  def example(position):
    part = bisect.bisect_right(ends, position)
    return parts[part][1](position - (ends[part - 1] if part else 0))

  return directory, ends[-1], example


def _find_dataset(path, name):
  """Returns the folder of the newest complete tfds data set `name`, or None.

  Args:
    path: that folder itself, or the tfds `data_dir` above it.
    name: such as 'celeb_a'.
  """
  root = pathlib.Path(path).expanduser()
  places = [*sorted(root.glob(f"{name}/**/{_INFO}")), root / _INFO]
  for place in reversed(places):
    # tfds writes to a folder 'incomplete....' and renames it at the end, to the
    # data set's version.
    complete = re.fullmatch(r"\d+\.\d+\.\d+", place.parent.name)
    if not complete or not place.is_file():
      continue
    if json.loads(place.read_text())["name"] == name:
      return place.parent
  return None


def _open_split(builder, split):
  """Opens one split of a prepared data set for random access.

  Args:
    builder: of array_record or tfrecord files. (tfds reads parquet without
      TensorFlow too, but loses examples.)
    split: name of the split.

  Returns:
    count: number of examples; 0 where there is no such split.
    example: thread-safe function of a position that returns a dict, whose
      image is still encoded.

  Raises:
    UserError: for another format, or where examples are missing.
  """
  info = builder.info
  if split not in info.splits:
    return 0, None
  encoded = {"image": tfds.decode.SkipDecoding()}
  if info.file_format.value == "array_record":
    source = builder.as_data_source(split, decoders=encoded)
    count, example = len(source), source.__getitem__
  elif info.file_format.value == "tfrecord":
    records = list(_find_tfrecords(info.splits[split].filepaths))

    def example(position):
      path, offset, length = records[position]
      with open(path, "rb") as file:
        file.seek(offset)
        record = file.read(length)
      return info.features.deserialize_example_np(record, decoders=encoded)

    count = len(records)
  else:
    raise errors.UserError(
      f"{info.data_dir} is stored as {info.file_format.value}; only "
      "array_record and tfrecord can be read."
    )
  if count != info.splits[split].num_examples:
    raise errors.UserError(
      f"{info.data_dir} is damaged: split '{split}' has {count} of "
      f"{info.splits[split].num_examples} examples. Prepare it again."
    )
  return count, example


def _find_tfrecords(paths):
  """Yields (path, offset, length) of each record, by TFRecord's framing.

  A record is its length (8 bytes, little-endian), a checksum of that (4), the
  data and a checksum (4): little enough to do without TensorFlow, which most
  prepared copies of `celeb_a` would need otherwise.
  """
  for path in paths:
    with open(path, "rb") as file:
      while header := file.read(12):
        (length,) = struct.unpack("<Q", header[:8])
        yield path, file.tell(), length
        file.seek(length + 4, os.SEEK_CUR)
