"""CelebA as crops of faces: prepared once by tfds, then only read.

CelebA: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015;
202,599 aligned photographs of 178x218 pixels. `prepare` crops them to 128x128,
resizes them and stores them as a tfds data set, and `load` reads it. Neither
uses TensorFlow or the network; an error names what has to be downloaded by
hand.
"""

import bisect
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import concurrent.futures
import functools
import io
import itertools
import os
import pathlib
import shutil
from typing import Any
from typing import cast

from absl import logging
from PIL import Image
import tensorflow_datasets as tfds
import tqdm

from dcgan_inpaint import data
from dcgan_inpaint.data import celeba_sources
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder
from dcgan_inpaint.data import tfds_files
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lock

# Sides that are stored; at 128 nothing of the crop is lost. Data sets of the
# first have no size in their name.
SIZES = (64, 32, 128)
SPLITS = celeba_sources.SPLITS

_SHARD = 8192  # Images, about 70 MB.


def _config_name(size: int) -> str:
  """Returns the name of the tfds config of faces of that side."""
  return decoding.FACE_CROP + (f"_{size}" if size != SIZES[0] else "")


class CelebAFaces(tfds.core.ShardBasedBuilder):
  """Face crops of CelebA, in the order of their file names.

  A `ShardBasedBuilder` and not a `GeneratorBasedBuilder`, which buffers a split
  in memory and, beyond 1 GB (the training faces are 1.4 GB), needs TensorFlow
  to write the rest to disk.
  """

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(
      name=_config_name(size),
      description="The 128x128 box with columns 25..152 and rows 57..184 of "
      f"the aligned image, resized to {size}x{size} by Lanczos.",
    )
    for size in SIZES
  ]

  def __init__(
    self,
    *,
    images: Mapping[str, list[folder.File]],
    size: int,
    source: str,
    progress: Callable[[], Any],
    **kwargs: Any,
  ):
    """Makes the builder.

    Args:
      images: {split: its aligned images}.
      size: side of the faces, one of `SIZES`.
      source: where they come from; stored in the metadata.
      progress: function that is called after each image.
      **kwargs: as for any tfds builder.
    """
    self._images = images
    self._size = size
    self._source = source
    self._progress = progress
    super().__init__(config=_config_name(size), **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Faces of CelebA, cropped and resized.",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(
            shape=(self._size, self._size, 3), encoding_format="png"
          ),
          "name": tfds.features.Text(doc="File name in CelebA, 000001.jpg."),
        }
      ),
      homepage=celeba_sources.HOMEPAGE,
      metadata=tfds.core.MetadataDict(
        crop=decoding.FACE_CROP,
        box=decoding.FACE_BOX,
        resampling="lanczos",
        source=self._source,
      ),
    )

  def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Any]]:
    del dl_manager  # Nothing is downloaded.
    return {
      split: [
        functools.partial(self._examples, images[i : i + _SHARD])
        for i in range(0, len(images), _SHARD)
      ]
      for split, images in self._images.items()
      if images
    }

  def _examples(
    self, images: list[folder.File]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (key, example) of each file; threads do the work."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      crop = functools.partial(_crop, size=self._size)
      for file, png in zip(images, pool.map(crop, images), strict=True):
        yield file.name, {"image": png, "name": file.name}
        self._progress()


def _crop(file: folder.File, size: int) -> bytes:
  """Returns the face in an aligned image file as the bytes of a PNG."""
  try:
    encoded = decoding.read_persistently(file.read)
    width, height = decoding.image_size(encoded)
    if (width, height) != decoding.ALIGNED_SIZE:
      raise ValueError(f"{width}x{height} pixels instead of 178x218")
    face = decoding.decode(encoded, size)
  except Exception as error:  # Pillow and zipfile raise many kinds.
    if decoding.is_of_system(error):
      raise
    raise errors.UserError(
      f"{file.name} is not an aligned CelebA image ({error}): download "
      "img_align_celeba.zip again"
    ) from error
  png = io.BytesIO()
  Image.fromarray(face).save(png, "png")
  return png.getvalue()


def prepare(
  source: str | os.PathLike[str],
  output: str | os.PathLike[str],
  image_size: int,
) -> dict[str, int]:
  """Crops the faces of CelebA and stores them for `load`.

  An interrupted call leaves nothing behind that `load` would read, and the next
  one removes it.

  Args:
    source: the aligned images and their splits; see `celeba_sources.find`.
    output: folder for the result.
    image_size: side of the faces in pixels, one of `SIZES`.

  Returns:
    {split: number of its images}.

  Raises:
    errors.UserError: a file is missing, damaged, or not CelebA's; there are no
      faces of that size, or `output` holds those of another.
  """
  if not output:
    raise errors.UserError(
      "config.data.path is empty: name the folder for the prepared faces"
    )
  if image_size not in SIZES:
    raise errors.UserError(
      f"config.data.image_size={image_size}: faces of CelebA have 128 pixels a "
      f"side; choose one of {', '.join(map(str, sorted(SIZES)))}"
    )
  prepared = tfds_files.find(output, CelebAFaces.name)
  if prepared:
    info = tfds.builder_from_directory(prepared).info
    metadata, features = cast(Any, info.metadata), cast(Any, info.features)
    side = features["image"].shape[0]
    if side != image_size:
      raise errors.UserError(
        f"config.data.image_size={image_size}, and {prepared} holds faces of "
        f"{side} pixels: name another folder as config.data.path"
      )
    logging.info(
      "%s is already prepared, from %s: nothing to do",
      prepared, metadata["source"],
    )  # fmt: skip
    return {s: info.splits[s].num_examples for s in SPLITS if s in info.splits}
  if not source:
    raise errors.UserError(
      "config.data.source is empty: name img_align_celeba.zip, its folder, or "
      "a prepared tfds celeb_a"
    )
  images = celeba_sources.find(source)
  sizes = {split: len(images[split]) for split in SPLITS}
  root = pathlib.Path(output).expanduser()
  files.make_folder(root, "config.data.path")
  # The bar appears on a terminal only.
  with (
    lock.hold(root, "config.data.path"),
    tqdm.tqdm(
      total=sum(sizes.values()), desc="Cropping", unit=" images", disable=None
    ) as bar,
  ):
    _remove_incomplete(root / CelebAFaces.name / _config_name(image_size))
    builder = CelebAFaces(
      images=images,
      size=image_size,
      source=pathlib.Path(source).expanduser().absolute().name,
      progress=bar.update,
      data_dir=root,
      file_format="array_record",
    )
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
  return sizes


def _remove_incomplete(folder: pathlib.Path) -> None:
  """Removes what a preparation left that was killed; nobody is at it now.

  Args:
    folder: of the tfds config, above the data set's version.
  """
  for path in folder.glob(f"incomplete.??????_{CelebAFaces.VERSION}"):
    if path.is_dir() and not path.is_symlink():
      logging.info("removing %s, which an interrupted run left", path)
      shutil.rmtree(path)


def load(
  path: str | os.PathLike[str],
  split: str,
  image_size: int,
  max_images: int = 0,
  rows: data.Rows | None = None,
  *,
  channels: int = 3,
  ids: Collection[str] | None = None,
) -> data.ImageSet:
  """Loads one split of the prepared faces; never downloads anything.

  Args:
    path: the folder that `prepare` was given as its output.
    split: 'train', 'validation', 'test' or 'all', the three in this order.
    image_size: side of the images in pixels; the one they were prepared at is
      as stored, to the bit.
    max_images: number of images from the first; 0 is all.
    rows: which of these are loaded; None is all.
    channels: 3 (RGB) or 1 (grey).
    ids: names without suffixes of the images to use; None is all.

  Returns:
    The images in the order of CelebA's file names, '000001.jpg'.

  Raises:
    errors.UserError: nothing is prepared, or it is damaged.
  """
  directory, total, read = _open(path, split, ids)
  count = min(filter(None, (total, max_images)))
  loaded = range(count)[rows(count)] if rows else range(count)
  names = [""] * len(loaded)

  def read_image(i: int) -> bytes:
    example = read(loaded[i])
    names[i] = example["name"].decode()
    return example["image"]

  images, failures = decoding.decode_all(
    read_image, len(loaded), image_size, channels=channels
  )
  decoding.check_system(failures, names)
  if failures:
    raise errors.UserError(
      f"{directory} is damaged ({min(failures.items())}): delete it and "
      "prepare it again"
    )
  return data.ImageSet(images, names, count)


def open_split(
  path: str | os.PathLike[str],
  split: str,
  ids: Collection[str] | None = None,
) -> tuple[int, Callable[[int], bytes]]:
  """Opens one split of the prepared faces, to read them one by one.

  Args:
    path: as for `load`.
    split: as for `load`.
    ids: as for `load`.

  Returns:
    count: number of images.
    read: thread-safe function of a position that returns a PNG file's bytes.

  Raises:
    errors.UserError: nothing is prepared, or it is damaged.
  """
  _, count, read = _open(path, split, ids)
  return count, lambda position: read(position)["image"]


def _open(
  path: str | os.PathLike[str],
  split: str,
  ids: Collection[str] | None,
) -> tuple[pathlib.Path, int, tfds_files.ReadExample]:
  """Returns the data set's folder, and what `tfds_files.open_split` does."""
  directory = tfds_files.find(path, CelebAFaces.name) if path else None
  if not directory:
    raise errors.UserError(
      f"there are no prepared CelebA faces in {str(path)!r}: download "
      "img_align_celeba.zip and list_eval_partition.txt by hand from "
      f"{celeba_sources.HOMEPAGE} and run: "
      "python -m dcgan_inpaint.main --config=configs/prepare.py "
      "--config.data.source=img_align_celeba.zip "
      f"--config.data.path={path or 'DIR'}"
    )
  builder = tfds.builder_from_directory(directory)
  parts = [
    tfds_files.open_split(builder, part)
    for part in (SPLITS if split == "all" else [split])
  ]
  ends = list(itertools.accumulate(count for count, _ in parts))
  if not ends[-1]:
    raise errors.UserError(f"{directory} has no images in split {split!r}")

  def read(position: int) -> dict[str, Any]:
    part = bisect.bisect_right(ends, position)
    _, read_part = parts[part]
    return read_part(position - (ends[part - 1] if part else 0))

  if ids is None:
    return directory, ends[-1], read
  positions = [
    position
    for position in range(ends[-1])
    if pathlib.PurePosixPath(read(position)["name"].decode()).stem in ids
  ]
  if not positions:
    raise errors.UserError(
      f"config.data.ids names none of the {ends[-1]:,} images of the split "
      f"{split!r} of {directory}"
    )
  return directory, len(positions), lambda i: read(positions[i])
