import lzma

import ml_collections
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import data
from dcgan_inpaint.data import ids
from dcgan_inpaint.runtime import errors


def config(path, listed):
  return ml_collections.ConfigDict(
    {
      "name": "folder",
      "path": str(path),
      "validation_path": "",
      "test_path": str(path),
      "crop": "auto",
      "ids": str(listed),
      "max_images": 0,
    }
  )


@pytest.mark.parametrize("suffix", ["", ".xz"])
@pytest.mark.parametrize(
  "text, expected",
  [
    ("a.jpg\nb.c.png\n\n d \n", {"a", "b.c", "d"}),
    ("1.jpg 0\n2.jpg 2\n3.jpg 1\n4.jpg 2\n", {"2", "4"}),
  ],
)
def test_a_list_names_images_with_or_without_their_split(
  tmp_path, text, expected, suffix
):
  path = tmp_path / f"list.txt{suffix}"
  content = text.encode()
  path.write_bytes(lzma.compress(content) if suffix else content)
  assert ids.read(str(path), "test") == expected


def test_only_the_named_images_are_loaded(tmp_path):
  folder = tmp_path / "faces"
  folder.mkdir()
  for i in range(5):
    Image.new("RGB", (64, 64), (i, 0, 0)).save(folder / f"{i}.png")
  listed = tmp_path / "list.txt"
  listed.write_text("3.jpg\n1.png\n")
  loaded = data.load(config(folder, listed), "test", tiny.SHAPE)
  assert loaded.names == ["1.png", "3.png"] and loaded.total == 2
  np.testing.assert_array_equal(loaded.images[:, 0, 0, 0], [1, 3])
  source = data.open_source(config(folder, listed), "test")
  assert source.count == 2
  assert source.read(1) == (folder / "3.png").read_bytes()


@pytest.mark.parametrize(
  "split, count, first", [("train", 48_851, 1), ("validation", 1_500, 162_771),
                          ("test", 2_595, 182_645)],
)  # fmt: skip
def test_the_packages_list_is_that_of_its_figures(split, count, first):
  names = ids.read("pretrained", split)
  assert len(names) == count and min(names) == f"{first:06d}"


@pytest.mark.parametrize(
  "content, message",
  [
    (None, "config.data.ids='.*list.xz': No such file"),
    (b"no archive", "list.xz' is no text file"),
    (lzma.compress(b"1.jpg 1\n"), "names no image of the split 'test'"),
    (lzma.compress(b"7.jpg\n"), r"names none of the 1 images.* 0\.png"),
  ],
)
def test_a_wrong_list_is_refused(tmp_path, content, message):
  folder = tmp_path / "faces"
  folder.mkdir()
  Image.new("RGB", (64, 64)).save(folder / "0.png")
  path = tmp_path / "list.xz"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(errors.UserError, match=message):
    data.load(config(folder, path), "test", tiny.SHAPE)


def test_drawn_faces_have_no_list(tmp_path):
  drawn = config(tmp_path, "pretrained")
  drawn.name = "synthetic"
  with pytest.raises(errors.UserError, match=r"config\.data\.ids"):
    data.load(drawn, "test", tiny.SHAPE)
