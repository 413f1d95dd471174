import re
import subprocess
import sys

import ml_collections
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import data
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.runtime import errors


def config(**fields):
  defaults = {
    "name": "synthetic",
    "path": "",
    "validation_path": "",
    "test_path": "",
    "crop": "auto",
    "ids": "",
    "max_images": 0,
    "seed": 0,
  }
  return ml_collections.ConfigDict(defaults | fields)


@pytest.mark.parametrize("shape", [(32, 32, 1), (128, 128, 3)])
def test_synthetic_faces_have_the_shape_of_the_model(shape):
  loaded = data.load(config(max_images=2), "test", shape)
  np.testing.assert_array_equal(
    loaded.images, synthetic.load("test", 2, 0, shape[0], shape[2])
  )
  assert loaded.images.shape == (2, *shape)


def test_synthetic_faces_have_names_and_follow_the_seed():
  loaded = data.load(config(max_images=3, seed=5), "test", tiny.SHAPE)
  expected = synthetic.load("test", count=3, seed=5)
  np.testing.assert_array_equal(loaded.images, expected)
  assert loaded.names[-1] == "synthetic-000002"


def test_folders_are_read_with_all_their_fields(tmp_path):
  for name in ("main", "held_out", "final"):
    (tmp_path / name).mkdir()
    for i in range(3):
      Image.new("RGB", (64, 64)).save(tmp_path / name / f"{name}{i}.png")
  fields = config(
    name="folder",
    path=str(tmp_path / "main"),
    validation_path=str(tmp_path / "held_out"),
    test_path=str(tmp_path / "final"),
    max_images=2,
  )
  names = {
    split: data.load(fields, split, tiny.SHAPE).names
    for split in ("train", "validation", "test")
  }
  assert names == {
    "train": ["main0.png", "main1.png"],
    "validation": ["held_out0.png", "held_out1.png"],
    "test": ["final0.png", "final1.png"],
  }


@pytest.mark.parametrize(
  "fields, split, message",
  [
    (
      {"name": "celebs"},
      "train",
      r"config\.data\.name.*celebs.*celeba, folder, synthetic",
    ),
    ({}, "dev", "dev.*train, validation, test, all"),
    ({"name": "celeba"}, "train", r"configs/prepare\.py"),
    ({"name": "folder"}, "train", r"config\.data\.path"),
  ],
)
def test_wrong_values_are_refused_with_the_choices_or_the_remedy(
  fields, split, message
):
  with pytest.raises(errors.UserError, match=message):
    data.load(config(**fields), split, tiny.SHAPE)


@pytest.mark.slow
def test_tfds_and_pillow_are_imported_only_when_needed():
  script = (
    "import sys; import dcgan_inpaint.data; "
    "print({'tensorflow_datasets', 'PIL'} & set(sys.modules))"
  )
  result = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "set()"


def test_a_digest_tells_contents_order_and_number_apart():
  images = synthetic.load("test", 4)
  changed = images.copy()
  changed[3, 63, 63, 2] ^= 1
  digests = [
    data.digest(some, range(len(some)))
    for some in (images, changed, images[::-1].copy(), images[:3])
  ]
  assert len(set(digests)) == 4
  assert all(re.fullmatch("[0-9a-f]{12}", digest) for digest in digests)
  # Files hold it, so it must never change.
  assert data.digest([b"a", b"b"], range(2)) == "0cf969811c56"


def test_a_digest_is_the_same_in_however_many_parts(monkeypatch):
  images = synthetic.load("test", 5)
  whole = data.digest(images, range(5))
  totals = []

  def gather(total):
    totals.append(total)
    return np.stack(totals)

  monkeypatch.setattr(data.sharding, "gather", gather)
  for process in range(2):
    local = range(5)[process::2]
    parts = data.digest(images[local], local)
  assert parts == whole


def test_files_have_a_digest_of_their_contents_and_a_folder_of_names_too(
  tmp_path,
):
  digests = set()
  for name in ("a/b.txt", "a/c.txt"):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    for content in ("", "some"):
      path.write_text(content)
      digests |= {data.digest_files(tmp_path), data.digest_files(path)}
  # Of the folder, and of a file of either content.
  assert len(digests) == 4 + 2
