import errno
import os
import pathlib
import pickle
import zipfile

import image_files
import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import file_names
from dcgan_inpaint.data import folder
from dcgan_inpaint.runtime import errors

SHARED = pathlib.Path(
  os.environ.get(
    "DCGAN_INPAINT_SHARED",
    pathlib.Path(__file__).resolve().parents[3] / "shared",
  )
)


def noise(seed, size=(64, 64)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (*size[::-1], 3), np.uint8)


def write(root, files):
  for name, content in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return str(root)


def write_zip(path, files):
  with zipfile.ZipFile(path, "w") as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return str(path)


@pytest.mark.parametrize(
  "size, left, top, side",
  [
    ((178, 218), 25, 57, 128),  # CelebA's aligned face.
    ((178, 219), 0, 20, 178),
    ((100, 60), 20, 0, 60),
    ((60, 101), 0, 20, 60),
    ((128, 128), 0, 0, 128),
  ],
)
def test_crop_by_size_and_resize(tmp_path, size, left, top, side):
  # On a ramp, an output pixel has the value of the place of its centre.
  y, x = np.mgrid[: size[1], : size[0]].astype(np.uint8)
  ramp = np.stack([x, y, np.zeros_like(x)], axis=-1)
  root = write(tmp_path, {"ramp.png": image_files.encode(ramp)})
  image = folder.load(root, "all", 64).images[0].astype(float)
  centres = (np.arange(64) + 0.5) * side / 64 - 0.5
  inner = slice(4, -4)  # Lanczos bends a ramp at the border.
  np.testing.assert_allclose(
    image[inner, inner, 0],
    np.broadcast_to(left + centres, (64, 64))[inner, inner],
    atol=1,
  )
  np.testing.assert_allclose(
    image[inner, inner, 1],
    np.broadcast_to(top + centres, (64, 64)).T[inner, inner],
    atol=1,
  )


@pytest.mark.parametrize(
  "kind, options",
  [("png", {}), ("bmp", {}), ("webp", {"lossless": True}), ("tiff", {})],
)
def test_images_of_the_right_size_come_through_to_the_bit(
  tmp_path, kind, options
):
  root = write(
    tmp_path, {f"a.{kind}": image_files.encode(noise(0), kind, **options)}
  )
  np.testing.assert_array_equal(
    folder.load(root, "all", 64).images[0], noise(0)
  )


def test_names_are_sorted_and_only_visible_images_are_loaded(tmp_path):
  files = {
    "b.PNG": image_files.encode(noise(0)),
    "a/c.jpeg": image_files.encode(noise(1), "jpeg"),
    "a/b.webp": image_files.encode(noise(2), "webp"),
    "notes.txt": b"not an image",
    ".hidden.png": b"junk",
    "__MACOSX/._b.png": b"junk",
  }
  root = write(tmp_path / "images", files)
  archive = write_zip(tmp_path / "images.zip", files)
  loaded = folder.load(root, "all", 64)
  assert loaded.names == ["a/b.webp", "a/c.jpeg", "b.PNG"]
  assert loaded.images.dtype == np.uint8
  np.testing.assert_array_equal(loaded.images[2], noise(0))
  zipped = folder.load(archive, "all", 64)
  assert zipped.names == loaded.names
  np.testing.assert_array_equal(zipped.images, loaded.images)


@pytest.mark.parametrize(
  "name", ["my photo.png", "sub folder/Zoë.png", "писатель.png", "写真 1.png"]
)
def test_names_may_have_spaces_and_letters_of_any_kind(tmp_path, name):
  root = write(tmp_path / "my фото", {name: image_files.encode(noise(3))})
  archive = write_zip(
    tmp_path / "all photos é.zip", {name: image_files.encode(noise(3))}
  )
  for path in (root, archive):
    loaded = folder.load(path, "all", 64)
    assert loaded.names == [name]
    np.testing.assert_array_equal(loaded.images, [noise(3)])
  (file,) = folder.list_files(f"{root}/{name}")
  assert file.name == name.rpartition("/")[2]


def test_an_animation_is_named(tmp_path, caplog):
  caplog.set_level("INFO", logger="absl")
  frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
  moving = image_files.encode(
    frames[0], "gif", save_all=True, append_images=frames[1:]
  )
  loaded = folder.load(write(tmp_path, {"moving.gif": moving}), "all", 64)
  np.testing.assert_array_equal(loaded.images[0, 0, 0], [255, 0, 0])
  (line,) = caplog.messages
  assert line.startswith("moving.gif ") and "2 frames" in line


@pytest.mark.parametrize("as_text", [True, False])
def test_several_paths_follow_one_another(tmp_path, as_text):
  archive = write_zip(
    tmp_path / "z.zip", {"z.png": image_files.encode(noise(0))}
  )
  name = "a" if as_text else "a, b + c"
  root = write(tmp_path / name, {"a.png": image_files.encode(noise(1))})
  single = write(tmp_path, {"me.png": image_files.encode(noise(2))}) + "/me.png"
  paths = f"{archive}, {root},{single}" if as_text else (archive, root, single)
  loaded = folder.load(paths, "all", 64)
  assert loaded.names == ["z.png", "a.png", "me.png"]
  np.testing.assert_array_equal(loaded.images, [noise(0), noise(1), noise(2)])


def test_a_path_may_have_commas(tmp_path):
  root = write(tmp_path / "a, b", {"a.png": image_files.encode(noise(1))})
  for path in (root, (root,)):
    assert folder.load(path, "all", 64).names == ["a.png"]
    with pytest.raises(errors.UserError, match="config.output=.*config.input="):
      file_names.check_apart(
        f"{root}/completed", "config.output", path, "config.input"
      )


def test_max_images_takes_the_first(tmp_path):
  root = write(
    tmp_path, {f"{i}.png": image_files.encode(noise(i)) for i in range(5)}
  )
  assert folder.load(root, "all", 64, max_images=2).names == [
    "0.png",
    "1.png",
  ]


def test_images_are_resized_to_the_requested_size(tmp_path):
  root = write(tmp_path, {"a.png": image_files.encode(noise(0))})
  assert folder.load(root, "all", image_size=32).images.shape == (1, 32, 32, 3)


def test_a_crop_and_the_channels_are_handed_on(tmp_path):
  picture = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
  encoded = image_files.encode(picture)
  root = write(tmp_path, {"a.png": encoded})
  for channels in (1, 3):
    for crop in ("centre", "none"):
      (image,) = folder.load(root, "all", 32, channels=channels, crop=crop)[0]
      np.testing.assert_array_equal(
        image, decoding.decode(encoded, 32, channels=channels, crop=crop)
      )
  with pytest.raises(errors.UserError, match=r"a\.png.*60x90.*face128"):
    folder.load(root, "all", 32, crop="face128")


def test_splits_by_name_are_disjoint_complete_and_the_same_everywhere(tmp_path):
  content = image_files.encode(Image.new("RGB", (64, 64)))
  names = [f"{i:06d}.jpg" for i in range(1000)]
  root = write_zip(tmp_path / "a.zip", dict.fromkeys(names, content))
  splits = {
    split: folder.load(root, split, 64).names
    for split in ("train", "validation", "test")
  }
  assert sorted(sum(splits.values(), [])) == names
  # By `zlib.crc32(name) % 100`, written down so that it never changes.
  assert splits["validation"][:3] == ["000033.jpg", "000042.jpg", "000045.jpg"]
  assert splits["test"][:3] == ["000048.jpg", "000090.jpg", "000110.jpg"]
  assert 30 <= len(splits["validation"]) <= 70
  assert 30 <= len(splits["test"]) <= 70


def test_a_split_with_its_own_path_takes_nothing_from_another(tmp_path):
  content = image_files.encode(Image.new("RGB", (64, 64)))
  names = [f"{i:06d}.jpg" for i in range(100)]
  path = write_zip(tmp_path / "a.zip", dict.fromkeys(names, content))
  own = write_zip(tmp_path / "b.zip", {"own.png": content})

  def load(split):
    return folder.load(path, split, 64, validation_path=own).names

  assert load("validation") == ["own.png"]
  assert sorted(load("train") + load("test")) == names
  assert load("all") == [*names, "own.png"]
  assert folder.load((path, path), "all", 64, validation_path=(own,)).names == [
    *names,
    *names,
    "own.png",
  ]


def test_processes_that_decode_can_be_sent_a_zip(tmp_path):
  contents = {f"{number}.png": bytes([number]) * 9 for number in range(3)}
  files = folder.list_files(write_zip(tmp_path / "a.zip", contents))
  sent = pickle.loads(pickle.dumps(files))
  assert {file.name: file.read() for file in sent} == contents
  assert {file.name: file.read() for file in files} == contents


@pytest.mark.parametrize(
  "member", ["../a.png", "b/../../a.png", "/a.png", "C:/a.png", "..\\a.png"]
)
def test_zips_that_point_out_of_themselves_are_refused(tmp_path, member):
  files = {
    "fine.png": image_files.encode(noise(0)),
    member: image_files.encode(noise(1)),
  }
  path = write_zip(tmp_path / "evil.zip", files)
  with pytest.raises(errors.UserError) as refused:
    folder.load(path, "all", 64)
  for name in (path, member):
    assert name in str(refused.value)


def damaged_zip_member(tmp_path):
  path = tmp_path / "damaged.zip"
  content = image_files.encode(noise(0))
  write_zip(path, {"bad.png": content})
  path.write_bytes(path.read_bytes().replace(content[100:110], bytes(10)))
  return str(path)


@pytest.mark.parametrize(
  "content, reason",
  [
    (b"", "the file is empty"),
    (image_files.encode(noise(0))[:1000], "truncated"),
    (damaged_zip_member, "Bad CRC-32"),
  ],
)
def test_bad_files_are_named_in_one_line(tmp_path, content, reason):
  if callable(content):
    path = content(tmp_path)
  else:
    path = write(tmp_path, {"bad.png": content})
  with pytest.raises(errors.UserError) as caught:
    folder.load(path, "all", 64)
  message = str(caught.value)
  assert "bad.png" in message and reason in message and "\n" not in message
  assert "1 of 1 images" in message


def test_few_bad_files_are_left_out_with_a_warning(tmp_path, caplog):
  files = {f"{i:03d}.png": image_files.encode(noise(i)) for i in range(100)}
  files["050.png"] = b"junk"
  root = write(tmp_path / "few", files)
  loaded = folder.load(root, "all", 64)
  assert len(loaded.names) == len(loaded.images) == 99
  assert "050.png" not in loaded.names
  np.testing.assert_array_equal(loaded.images[50], noise(51))
  assert "050.png" in caplog.text

  root = write(tmp_path / "many", files | {"060.png": b"junk"})
  with pytest.raises(errors.UserError, match=r"2 of 100 .* 050\.png"):
    folder.load(root, "all", 64)


@pytest.mark.parametrize(
  "path, split, message",
  [
    ("", "all", r"config\.data\.path"),
    ("nowhere", "all", r"nowhere .*config\.data\.path"),
    ("empty", "all", r"empty .*\.png"),
    ("broken.zip", "all", r"broken\.zip "),
    ("one", "validation", r" one .*config\.data\.validation_path"),
  ],
)
def test_paths_without_images_are_named(
  tmp_path, monkeypatch, path, split, message
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("empty").mkdir()
  pathlib.Path("broken.zip").write_bytes(b"PK junk")
  write(tmp_path / "one", {"a.png": image_files.encode(noise(0))})
  with pytest.raises(errors.UserError, match=message):
    folder.load(path, split, 64)


@pytest.mark.skipif(not SHARED.exists(), reason="no prepared faces here")
def test_prepared_faces_load_unchanged():
  path = SHARED / "celeba" / "faces64" / "validation.zip"
  loaded = folder.load(str(path), "all", 64, max_images=20)
  with (
    zipfile.ZipFile(path) as archive,
    archive.open(loaded.names[-1]) as file,
  ):
    expected = np.asarray(Image.open(file))
  np.testing.assert_array_equal(loaded.images[-1], expected)


def test_an_image_that_a_disk_refuses_is_not_left_out(tmp_path, monkeypatch):
  images = {f"{i:03}.png": image_files.encode(noise(i)) for i in range(120)}
  write(tmp_path, images)
  read_file = folder._read_file

  def refuse(path):
    if path.name == "007.png":
      raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    return read_file(path)

  monkeypatch.setattr(decoding, "_WAITS", (0.0,))
  monkeypatch.setattr(folder, "_read_file", refuse)
  with pytest.raises(errors.UserError, match=r"007\.png") as refused:
    folder.load(str(tmp_path), "all", 64)
  assert os.strerror(errno.EIO) in str(refused.value)


@pytest.mark.parametrize(
  "name", ["a.jfif", "a.JPE", "a.JPG", "a.Jpeg", "a.pbm", "a.TIFF", "a.dib"]
)
def test_every_suffix_of_a_format_is_read(tmp_path, name):
  kinds = {"pbm": "ppm", "tiff": "tiff", "dib": "dib"}
  kind = kinds.get(name[2:].lower(), "jpeg")
  picture = Image.fromarray(noise(0)).convert("1" if kind == "ppm" else "RGB")
  if kind == "dib":
    kind = "bmp"
  root = write(tmp_path, {name: image_files.encode(picture, kind)})
  assert folder.load(root, "all", 64).names == [name]


@pytest.mark.parametrize("kind", ["tga", "JP2", "svg", "cr2"])
def test_images_that_are_not_read_are_named(tmp_path, caplog, kind):
  files = {"a.png": image_files.encode(noise(0)), f"b.{kind}": b"?"}
  for path in (
    write(tmp_path / "in", files),
    write_zip(tmp_path / "in.zip", files),
  ):
    caplog.clear()
    assert [file.name for file in folder.list_files(path)] == ["a.png"]
    assert f"b.{kind}" in caplog.text


def test_what_is_no_image_is_passed_over_in_silence(tmp_path, caplog):
  files = {
    "a.png": image_files.encode(noise(0)),
    "notes.txt": b"",
    "b.mp4": b"",
  }
  folder.list_files(write(tmp_path, files))
  assert not caplog.text


@pytest.mark.skipif(
  "HEIF" in decoding.formats(), reason="the extra heif is installed"
)
@pytest.mark.parametrize("suffix", ["HEIC", "heif", "hif"])
def test_a_telephones_photographs_name_their_extra(tmp_path, caplog, suffix):
  content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
  files = {"a.png": image_files.encode(noise(0)), f"b.{suffix}": content}
  root = write(tmp_path, files)
  assert [file.name for file in folder.list_files(root)] == ["a.png"]
  assert f"b.{suffix}" in caplog.text and "[heif]" in caplog.text
  with pytest.raises(ValueError, match=r"\[heif\]"):
    decoding.decode(content, 64)


@pytest.mark.skipif(
  "AVIF" not in decoding.formats(), reason="this build of Pillow lacks AVIF"
)
def test_avif_is_read(tmp_path):
  content = image_files.encode(noise(0), "avif", quality=100)
  loaded = folder.load(write(tmp_path, {"a.avif": content}), "all", 64)
  assert loaded.images.shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
  "place",
  ["@eaDir", "__MACOSX", "sub/@eaDir/a.jpg", "#recycle", "$RECYCLE.BIN"],
)
def test_folders_of_the_system_are_passed_over(tmp_path, place):
  image = image_files.encode(noise(0))
  files = {"a.png": image, f"{place}/thumb.png": image}
  for path in (
    write(tmp_path / "in", files),
    write_zip(tmp_path / "in.zip", files),
  ):
    assert [file.name for file in folder.list_files(path)] == ["a.png"]


def test_linked_folders_are_followed_once(tmp_path):
  image = image_files.encode(noise(0))
  root = tmp_path / "in"
  write(root, {"a.png": image, "sub/b.png": image})
  write(tmp_path / "elsewhere", {"c.png": image})
  write(tmp_path, {"beside.png": image})
  (root / "around").symlink_to(root)
  (root / "up").symlink_to("..")
  (root / "again").symlink_to(root / "sub")
  (root / "linked").symlink_to(tmp_path / "elsewhere")
  (root / "twice").symlink_to(tmp_path / "elsewhere")
  (root / "nowhere").symlink_to(tmp_path / "gone")
  (root / "d.png").symlink_to(root / "a.png")
  names = [file.name for file in folder.list_files(str(root))]
  assert names == ["a.png", "d.png", "linked/c.png", "sub/b.png"]


@pytest.mark.parametrize("name", ["Jose\u0301.png", "写真/1.png", "plain.png"])
def test_names_in_a_zip_without_the_flag_of_utf_8(tmp_path, name):
  path = tmp_path / "mac.zip"
  # As macOS's own program writes them: the bytes of UTF-8, and no flag.
  standing = "x" * len(name.encode())
  write_zip(path, {standing: image_files.encode(noise(0))})
  path.write_bytes(path.read_bytes().replace(standing.encode(), name.encode()))
  (file,) = folder.list_files(str(path))
  assert file.name == name
  np.testing.assert_array_equal(decoding.decode(file.read(), 64), noise(0))


def test_names_of_dos_in_a_zip_stay(tmp_path):
  path = tmp_path / "dos.zip"
  write_zip(path, {"x.png": image_files.encode(noise(0))})
  path.write_bytes(path.read_bytes().replace(b"x.png", b"\x81.png"))
  (file,) = folder.list_files(str(path))
  assert file.name == "ü.png"
