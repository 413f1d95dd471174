import io
import os
import pathlib
import shutil
import socket
import zipfile

from etils import epath
import numpy as np
from PIL import Image
import pytest
import tensorboardX.record_writer
import tensorflow_datasets as tfds

from dcgan_inpaint import data
from dcgan_inpaint import pixels as pixels_lib
from dcgan_inpaint.data import celeba
from dcgan_inpaint.data import celeba_sources
from dcgan_inpaint.data import folder
from dcgan_inpaint.runtime import errors

SHARED = pathlib.Path(
  os.environ.get(
    "DCGAN_INPAINT_SHARED",
    pathlib.Path(__file__).resolve().parents[3] / "shared",
  )
)
SPLITS = {"train": range(1, 8), "validation": range(8, 11), "test": [11, 12]}
COUNTS = {"train": 7, "validation": 3, "test": 2}


def picture(number):
  """An aligned image: a ramp over the columns, the rows, and its number."""
  y, x = np.mgrid[:218, :178].astype(np.uint8)
  return np.stack([x, y, np.full_like(x, 20 * number)], axis=-1)


def face(number):
  """What the box x 25..152, y 57..184 of `picture` is at half the size."""
  y, x = np.mgrid[:64, :64]
  blue = np.full_like(x, 20 * number)
  return np.stack([25.5 + 2 * x, 57.5 + 2 * y, blue], axis=-1)


def jpeg(number):
  buffer = io.BytesIO()
  image = Image.fromarray(picture(number))
  image.save(buffer, "jpeg", quality=100, subsampling=0)
  return buffer.getvalue()


def assert_faces(images, numbers):
  expected = np.stack([face(number) for number in numbers])
  inner = (slice(None), slice(4, -4), slice(4, -4))
  # JPEG and rounding; a crop that is off by a pixel differs by more.
  error = np.abs(images[inner] - expected[inner])
  assert error.max() <= 3 and error.mean() < 0.6


@pytest.fixture(scope="session")
def official(tmp_path_factory):
  """The official layout with 12 images."""
  root = tmp_path_factory.mktemp("official")
  numbers = [n for split in SPLITS.values() for n in split]
  names = [f"{n:06d}.jpg" for n in numbers]
  with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
    # The order in the archive is not that of the names.
    for number, name in reversed([*zip(numbers, names, strict=True)]):
      archive.writestr(f"img_align_celeba/{name}", jpeg(number))

  def write(name, *lines):
    (root / name).write_text("\n".join(lines) + "\n")

  def rows(values):
    return [f"{name} {values}" for name in names]

  partition = [i for i, split in enumerate(SPLITS.values()) for _ in split]
  write(
    "list_eval_partition.txt",
    *(f"{name} {i}" for name, i in zip(names, partition, strict=True)),
  )
  features = tfds.builder("celeb_a", data_dir=root).info.features
  write(
    "list_attr_celeba.txt",
    *("12", " ".join(features["attributes"]), *rows("-1 " * 40)),
  )
  write(
    "list_landmarks_align_celeba.txt",
    *("12", " ".join(features["landmarks"]), *rows("1 " * 10)),
  )
  write("identity_CelebA.txt", *rows("3"))
  return root


@pytest.fixture(scope="session")
def prepared(official, tmp_path_factory):
  output = tmp_path_factory.mktemp("prepared")
  assert celeba.prepare(official / "img_align_celeba.zip", output, 64) == COUNTS
  return output


@pytest.fixture(scope="session")
def standard(official, tmp_path_factory):
  """tfds' own `celeb_a`, prepared from the official files."""

  class Members:
    archive = zipfile.ZipFile(official / "img_align_celeba.zip")

    def __getitem__(self, name):
      return self.archive.open(f"img_align_celeba/{name}")

  paths = {
    "list_eval_partition": epath.Path(official / "list_eval_partition.txt"),
    "list_attr_celeba": epath.Path(official / "list_attr_celeba.txt"),
    "landmarks_celeba": epath.Path(
      official / "list_landmarks_align_celeba.txt"
    ),
    "identity_celeba": epath.Path(official / "identity_CelebA.txt"),
  }
  data_dir = tmp_path_factory.mktemp("tensorflow_datasets")
  builder = tfds.builder(
    "celeb_a", data_dir=data_dir, file_format="array_record"
  )
  builder._split_generators = lambda manager: {
    split: builder._generate_examples(i, paths, Members())
    for i, split in enumerate(SPLITS)
  }
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
  )
  return data_dir


@pytest.mark.parametrize("split", SPLITS)
def test_faces_come_in_the_official_split_and_order(prepared, split):
  loaded = celeba.load(prepared, split, 64)
  assert loaded.images.dtype == np.uint8
  assert loaded.names == [f"{n:06d}.jpg" for n in SPLITS[split]]
  assert_faces(loaded.images, SPLITS[split])


def test_all_splits_several_shards_and_the_first_images(
  official, prepared, tmp_path, monkeypatch
):
  monkeypatch.setattr(celeba, "_SHARD", 3)
  celeba.prepare(official, tmp_path, 64)
  assert len(list(tmp_path.glob("**/*train*-of-00003"))) == 3
  loaded = celeba.load(tmp_path, "all", 64)
  assert loaded.names == [f"{n:06d}.jpg" for n in range(1, 13)]
  whole = celeba.load(prepared, "all", 64)
  np.testing.assert_array_equal(loaded.images, whole.images)
  first = celeba.load(tmp_path, "all", 64, max_images=9)
  assert first.names == loaded.names[:9]
  np.testing.assert_array_equal(first.images, loaded.images[:9])


def test_only_faces_of_a_list_are_loaded(prepared):
  whole = celeba.load(prepared, "all", 64)
  kept = {whole.names[i].removesuffix(".jpg") for i in (1, 4, 5)}
  faces = celeba.load(prepared, "all", 64, ids=kept)
  assert faces.names == [whole.names[i] for i in (1, 4, 5)]
  np.testing.assert_array_equal(faces.images, whole.images[[1, 4, 5]])
  count, read = celeba.open_split(prepared, "all", ids=kept)
  assert count == 3
  _, read_all = celeba.open_split(prepared, "all")
  assert read(2) == read_all(5)
  with pytest.raises(errors.UserError, match=r"config\.data\.ids names none"):
    celeba.load(prepared, "all", 64, ids={"999999"})


def test_at_128_every_pixel_of_the_crop_is_stored(official, prepared, tmp_path):
  source = official / "img_align_celeba.zip"
  assert celeba.prepare(source, tmp_path, 128) == COUNTS
  whole = celeba.load(tmp_path, "all", 128)
  numbers = [n for split in SPLITS.values() for n in split]
  for image, number in zip(whole.images, numbers, strict=True):
    with Image.open(io.BytesIO(jpeg(number))) as picture:
      pixels = np.asarray(picture)
    np.testing.assert_array_equal(image, pixels[57:185, 25:153])
  # A model of 64 is trained on what it would have been trained on.
  np.testing.assert_array_equal(
    celeba.load(tmp_path, "all", 64).images,
    celeba.load(prepared, "all", 64).images,
  )
  grey = celeba.load(tmp_path, "all", 128, channels=1).images
  np.testing.assert_array_equal(grey, pixels_lib.to_grey(whole.images))


def test_faces_of_another_size_are_not_there(official, prepared, tmp_path):
  source = official / "img_align_celeba.zip"
  with pytest.raises(errors.UserError, match="image_size=128.*64.*data.path"):
    celeba.prepare(source, prepared, 128)
  with pytest.raises(errors.UserError, match="image_size=256.*32, 64, 128"):
    celeba.prepare(source, tmp_path, 256)


def test_the_crop_is_named_with_the_data(prepared):
  info = tfds.builder_from_directory(
    prepared / "celeb_a_faces" / "face128" / "1.0.0"
  ).info
  assert info.full_name == "celeb_a_faces/face128/1.0.0"
  assert info.metadata["crop"] == "face128"
  assert info.metadata["box"] == [25, 57, 153, 185]
  assert info.metadata["source"] == "img_align_celeba.zip"


def unpack_as_the_authors_do(official, root):
  with zipfile.ZipFile(official / "img_align_celeba.zip") as archive:
    archive.extractall(root / "Img")
  (root / "Eval").mkdir()
  shutil.copy(official / "list_eval_partition.txt", root / "Eval")
  return root / "Img" / "img_align_celeba"


def pack_as_kaggle_does(official, root):
  with zipfile.ZipFile(official / "img_align_celeba.zip") as archive:
    archive.extractall(root / "img_align_celeba")
  lines = (official / "list_eval_partition.txt").read_text().split("\n")
  rows = [line.replace(" ", ",") for line in lines]
  text = "\n".join(["image_id,partition", *rows])
  (root / "list_eval_partition.csv").write_text(text)
  return root


@pytest.mark.parametrize(
  "layout", [unpack_as_the_authors_do, pack_as_kaggle_does]
)
def test_unpacked_layouts_give_the_same_faces(
  official, prepared, tmp_path, monkeypatch, layout
):
  source = layout(official, tmp_path)
  monkeypatch.chdir(source.parent)
  source = source.name
  assert celeba.prepare(source, tmp_path / "output", 64) == COUNTS
  loaded = celeba.load(tmp_path / "output", "all", 64)
  expected = celeba.load(prepared, "all", 64)
  assert loaded.names == expected.names
  np.testing.assert_array_equal(loaded.images, expected.images)


def rewrite_as_tfrecord(standard, root):
  """The same examples in the format that tfds writes by default."""
  builder = tfds.builder_from_directory(standard / "celeb_a" / "2.1.0")
  folder_ = root / "celeb_a" / "2.1.0"
  folder_.mkdir(parents=True)
  for split in SPLITS:
    name = f"celeb_a-{split}.tfrecord-00000-of-00001"
    writer = tensorboardX.record_writer.RecordWriter(str(folder_ / name))
    for record in builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    ):
      writer.write(record)
    writer.close()
  for path in (standard / "celeb_a" / "2.1.0").glob("*.json"):
    text = path.read_text().replace('"array_record"', '"tfrecord"')
    (folder_ / path.name).write_text(text)
  return root


@pytest.mark.parametrize("stored", ["array_record", "tfrecord"])
def test_a_prepared_celeb_a_gives_the_same_faces(
  standard, prepared, tmp_path, stored
):
  if stored == "tfrecord":
    standard = rewrite_as_tfrecord(standard, tmp_path)
  assert celeba.prepare(standard, tmp_path / "output", 64) == COUNTS
  for split in SPLITS:
    loaded = celeba.load(tmp_path / "output", split, 64)
    assert loaded.names == [f"{split}-{i:06d}" for i in range(COUNTS[split])]
    # tfds shuffles what it prepares and forgets the names.
    expected = celeba.load(prepared, split, 64)
    np.testing.assert_array_equal(
      sorted(image.tobytes() for image in loaded.images),
      sorted(image.tobytes() for image in expected.images),
    )


def test_formats_that_lose_examples_are_refused(standard, tmp_path):
  shutil.copytree(standard, tmp_path, dirs_exist_ok=True)
  path = tmp_path / "celeb_a" / "2.1.0" / "dataset_info.json"
  path.write_text(path.read_text().replace("array_record", "parquet"))
  with pytest.raises(errors.UserError, match="parquet.*array_record.*tfrecord"):
    celeba.prepare(tmp_path, tmp_path / "output", 64)


@pytest.mark.parametrize("split", [*SPLITS, "all"])
def test_loading_never_downloads(prepared, tmp_path, monkeypatch, split):
  def refuse(*args, **kwargs):
    raise AssertionError("The network was used.")

  monkeypatch.setattr(socket.socket, "connect", refuse)
  monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
  celeba.load(prepared, split, 64)
  with pytest.raises(errors.UserError) as caught:
    celeba.load(tmp_path, split, 64)
  message = str(caught.value)
  assert "\n" not in message
  for part in (
    "img_align_celeba.zip",
    "list_eval_partition.txt",
    "python -m dcgan_inpaint.main --config=configs/prepare.py",
    f"--config.data.path={tmp_path}",
  ):
    assert part in message


def test_preparing_again_does_nothing(official, prepared, caplog):
  before = {p: p.stat().st_mtime_ns for p in prepared.glob("**/*")}
  caplog.set_level("INFO")
  assert celeba.prepare(official, prepared, 64) == COUNTS
  assert {p: p.stat().st_mtime_ns for p in prepared.glob("**/*")} == before
  line = caplog.messages[-1]  # What it was prepared from.
  assert str(prepared) in line and "img_align_celeba.zip" in line


def test_an_interrupted_preparation_is_no_data_set(
  official, tmp_path, monkeypatch
):
  write, places = tfds.core.DatasetInfo.write_to_directory, []

  def interrupt(info, directory):
    write(info, directory)
    places.append(pathlib.Path(directory))
    shutil.copytree(directory, tmp_path / "copy")
    raise KeyboardInterrupt

  monkeypatch.setattr(tfds.core.DatasetInfo, "write_to_directory", interrupt)
  with pytest.raises(KeyboardInterrupt):
    celeba.prepare(official, tmp_path, 64)
  # Put back what tfds clears away, as if the process had been killed just
  # before the last step, the renaming.
  shutil.move(tmp_path / "copy", places[0])
  assert (places[0] / "dataset_info.json").exists()
  # Another's, of a name that tfds does not give.
  own = places[0].parent / "incomplete.mine"
  own.mkdir()
  with pytest.raises(errors.UserError, match=r"config\.data\.path="):
    celeba.load(tmp_path, "train", 64)
  monkeypatch.undo()
  assert celeba.prepare(official, tmp_path, 64) == COUNTS
  assert len(celeba.load(tmp_path, "all", 64).names) == 12
  # What the first run left is gone, and the data are those of a single run.
  assert own.is_dir() and not places[0].exists()
  own.rmdir()
  celeba.prepare(official, tmp_path / "at_once", 64)
  once = data.digest_files(tmp_path / "at_once")
  shutil.rmtree(tmp_path / "at_once")
  assert data.digest_files(tmp_path) == once


def without_partition(root):
  (root / "list_eval_partition.txt").unlink()


def with_an_odd_partition(root):
  (root / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 7\n")


def with_another_partition(root):
  (root / "list_eval_partition.txt").write_text("x.jpg 0\n")


def without_images(root):
  (root / "img_align_celeba.zip").unlink()


def add_image(root, content):
  with zipfile.ZipFile(root / "img_align_celeba.zip", "a") as archive:
    archive.writestr("img_align_celeba/000013.jpg", content)
  with (root / "list_eval_partition.txt").open("a") as file:
    file.write("000013.jpg 2\n")


def with_a_truncated_image(root):
  add_image(root, jpeg(1)[:2000])


def with_an_image_in_the_wild(root):
  buffer = io.BytesIO()
  Image.new("RGB", (409, 687)).save(buffer, "jpeg")
  add_image(root, buffer.getvalue())


@pytest.mark.parametrize(
  "spoil, message",
  [
    (without_partition, r"list_eval_partition\.txt"),
    (with_an_odd_partition, r"list_eval_partition\.txt, line 2.*000002\.jpg 7"),
    (
      with_another_partition,
      r"img_align_celeba\.zip.*list_eval_partition\.txt",
    ),
    (without_images, r"source.*\.png"),
    (with_a_truncated_image, r"000013\.jpg .* truncated"),
    (with_an_image_in_the_wild, r"000013\.jpg .*409x687"),
    (shutil.rmtree, r"config\.data\.source.*source"),
  ],
)
def test_a_source_that_is_not_celeba_is_refused(
  official, tmp_path, spoil, message
):
  root = tmp_path / "source"
  shutil.copytree(official, root)
  spoil(root)
  with pytest.raises(errors.UserError, match=message):
    celeba.prepare(root, tmp_path / "output", 64)
  with pytest.raises(errors.UserError, match=r"config\.data\.path="):
    celeba.load(tmp_path / "output", "train", 64)


def test_archives_of_the_full_size_must_have_the_full_checksum(
  official, tmp_path, monkeypatch, caplog
):
  archive = official / "img_align_celeba.zip"
  monkeypatch.setattr(celeba_sources, "FULL_BYTES", archive.stat().st_size)
  with pytest.raises(errors.UserError, match="sha256"):
    celeba.prepare(archive, tmp_path, 64)
  monkeypatch.undo()
  caplog.set_level("INFO")
  celeba.prepare(archive, tmp_path, 64)
  assert str(celeba_sources.FULL_BYTES) in caplog.text  # It is another one.


def test_the_checksum_is_that_of_tfds():
  sums = pathlib.Path(tfds.__file__).parent / "datasets/celeb_a/checksums.tsv"
  rows = [line.split("\t") for line in sums.read_text().splitlines()]
  expected = next(row[1:3] for row in rows if row[3] == "img_align_celeba.zip")
  assert [
    str(celeba_sources.FULL_BYTES),
    celeba_sources.FULL_SHA256,
  ] == expected


def cut_a_file(directory):
  (path,) = directory.glob("*train*")
  path.write_bytes(path.read_bytes()[:70_000])


def lose_a_file(directory):
  (path,) = directory.glob("*train*")
  path.unlink()


@pytest.mark.parametrize("spoil", [cut_a_file, lose_a_file])
def test_a_damaged_data_set_is_refused(prepared, tmp_path, spoil):
  shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
  spoil(tmp_path / "celeb_a_faces" / "face128" / "1.0.0")
  with pytest.raises(errors.UserError, match="celeb_a_faces/face128.*damaged"):
    celeba.load(tmp_path, "train", 64)


def test_a_split_without_images_is_named(official, tmp_path):
  root = tmp_path / "source"
  shutil.copytree(official, root)
  (root / "list_eval_partition.txt").write_text("000001.jpg 0\n")
  counts = celeba.prepare(root, tmp_path / "output", 64)
  assert counts == {"train": 1, "validation": 0, "test": 0}
  with pytest.raises(errors.UserError, match="celeb_a_faces.*'test'"):
    celeba.load(tmp_path / "output", "test", 64)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="no CelebA here")
def test_real_faces_equal_the_prepared_ones(tmp_path):
  source = tmp_path / "source"
  source.mkdir()
  original = SHARED / "celeba" / "original"
  (source / "img_align_celeba.zip").symlink_to(
    original / "img_align_celeba.zip"
  )
  partition = (original / "list_eval_partition.txt").read_text().splitlines()
  rows = [row for row in partition if row.endswith("2")][:100]
  (source / "list_eval_partition.txt").write_text("\n".join(rows))
  celeba.prepare(source, tmp_path / "output", 64)
  ours = celeba.load(tmp_path / "output", "test", 64)
  theirs = folder.load(
    str(SHARED / "celeba" / "faces64" / "test.zip"), "all", 64
  )
  by_id = {
    name.removesuffix(".png"): image
    for name, image in zip(theirs.names, theirs.images, strict=True)
  }
  common = [n for n in ours.names if n.removesuffix(".jpg") in by_id]
  assert len(common) > 50
  for name, image in zip(ours.names, ours.images, strict=True):
    if name in common:
      np.testing.assert_array_equal(image, by_id[name.removesuffix(".jpg")])
