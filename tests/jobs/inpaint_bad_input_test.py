"""The job `inpaint` on files that are broken, odd or missing."""

import csv
import os
import zipfile

import image_files
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import inpaint
from dcgan_inpaint.runtime import errors

# What these tests hold is not how a model is loaded.
pytestmark = pytest.mark.usefixtures("kept_models")

HOLE = np.zeros((64, 64), bool)
HOLE[20:40, 10:50] = True

FACE = synthetic.load("test", 1)[0]
OTHER = np.ascontiguousarray(FACE[:, ::-1])


def turned(image, kind="png"):
  """Encodes an image on its side, with the EXIF that sets it upright."""
  exif = Image.Exif()
  exif[0x0112] = 6  # To be shown turned a quarter clockwise.
  return image_files.encode(np.rot90(image), kind, exif=exif)


MASK = image_files.encode(np.uint8(255 * HOLE))
GREY = np.asarray(Image.fromarray(FACE).convert("L"))
FEW = Image.fromarray(FACE).quantize(64)
INK = Image.fromarray(FACE).convert("CMYK")

# What is completed: name: (the file, what it shows).
GOOD = {
  "plain.png": (image_files.encode(FACE), FACE),
  "my photo 1.png": (image_files.encode(FACE), FACE),
  "Zoë и 写真.png": (image_files.encode(OTHER), OTHER),
  "sub folder/grey.png": (image_files.encode(GREY), np.stack([GREY] * 3, -1)),
  "bits.png": (
    image_files.encode(GREY > 99),
    np.stack([255 * np.uint8(GREY > 99)] * 3, -1),
  ),
  "deep.png": (
    image_files.encode(np.uint16(GREY) * 257),
    np.stack([GREY] * 3, -1),
  ),
  "alpha.png": (
    image_files.encode(Image.fromarray(FACE).convert("RGBA")),
    FACE,
  ),
  "palette.png": (image_files.encode(FEW), np.asarray(FEW.convert("RGB"))),
  "film.gif": (
    image_files.encode(
      FEW, "gif", save_all=True, append_images=[FEW.rotate(90)]
    ),
    np.asarray(FEW.convert("RGB")),
  ),
  "ink.tif": (image_files.encode(INK, "tiff"), np.asarray(INK.convert("RGB"))),
  "turned.png": (turned(FACE), FACE),
  "moving.webp": (
    image_files.encode(
      Image.fromarray(FACE),
      "webp",
      lossless=True,
      save_all=True,
      append_images=[Image.fromarray(OTHER)],
    ),
    FACE,
  ),
  "unmasked.png": (image_files.encode(FACE), FACE),
  "all hole.png": (image_files.encode(FACE), FACE),
  "small mask.png": (image_files.encode(FACE), FACE),
  "turned mask.png": (image_files.encode(FACE), FACE),
}
# What is left out: name: (the file, why).
BAD = {
  "empty.png": (b"", "the file is empty"),
  "words.jpg": (b"These are words.", "not an image"),
  "torn.png": (image_files.encode(FACE)[:500], "truncated"),
  "bomb.png": (
    image_files.encode(Image.new("1", (500, 500))),
    "500x500 pixels",
  ),
  "dot.png": (image_files.encode(FACE[:3, :3]), "only 3x3 pixels"),
  "no mask.png": (image_files.encode(FACE), "no mask of that name"),
  "torn mask.png": (image_files.encode(FACE), "truncated"),
  "empty mask file.png": (image_files.encode(FACE), "the file is empty"),
}
# Masks that are not `MASK`.
MASKS = {
  "unmasked": image_files.encode(np.uint8(0 * HOLE)),
  "all hole": image_files.encode(np.uint8(255 + 0 * HOLE)),
  "small mask": image_files.encode(Image.fromarray(HOLE).resize((32, 32))),
  "turned mask": turned(np.uint8(255 * HOLE)),
  "no mask": None,
  "torn mask": MASK[:-30],
  "empty mask file": b"",
}


def write(root, files):
  for name, content in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run(trained_run, workdir, images, masks, output, **fields):
  config = config_lib.inpaint_job()
  config.checkpoint.path = str(trained_run)
  config.input, config.masks = str(images), str(masks)
  config.output = str(output)
  config.search.update({"steps": 2, "batch_size": 4})
  config.faces = "whole"
  config.update(fields)
  (row,) = inpaint.run(config, str(workdir), tiny.mesh(4))
  return row


@pytest.fixture(scope="module")
def outcome(trained_run, tmp_path_factory):
  """One run over all of `GOOD` and `BAD`: its row, its folder, its table."""
  root = tmp_path_factory.mktemp("bad input")
  files = {name: content for name, (content, _) in (GOOD | BAD).items()}
  stems = [name.rpartition(".")[0] for name in files]
  masks = {stem: MASK for stem in stems} | MASKS
  write(root / "in", files)
  write(
    root / "masks", {f"{k}.png": v for k, v in masks.items() if v is not None}
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(decoding, "MAX_SIDE", 400)
    row = run(trained_run, root, root / "in", root / "masks", root / "out")
  with (root / "results.csv").open(encoding="utf-8") as file:
    table = {line["name"]: line for line in csv.DictReader(file)}
  return row, root, table


def made(root, name):
  """Returns a result in RGB."""
  with Image.open(root / "out" / f"{name.rpartition('.')[0]}.png") as image:
    if image.mode == "I;16":
      return np.stack([np.asarray(image) // 257] * 3, -1)
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", GOOD)
def test_every_image_that_can_be_read_is_completed(outcome, name):
  _, root, table = outcome
  result, (_, shown) = made(root, name), GOOD[name]
  hole = {"unmasked.png": 0 * HOLE, "all hole.png": HOLE | True}.get(name, HOLE)
  hole = hole.astype(bool)
  np.testing.assert_array_equal(result[~hole], shown[~hole])
  if hole.any():
    assert (result[hole] != shown[hole]).mean() > 0.5
  status = "completed" if hole.any() else "no hole"
  assert table[name]["status"] == status


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_costs_that_file_alone_and_is_named(outcome, name):
  _, root, table = outcome
  assert table[name]["status"] == "failed"
  assert BAD[name][1] in table[name]["reason"]
  assert not (root / "out" / name).exists()


def test_the_row_counts_what_was_left_out(outcome):
  row, root, table = outcome
  # `main` turns `failed` into the exit status.
  assert (row["n"], row["failed"]) == (len(GOOD), len(BAD))
  assert len(table) == len(GOOD) + len(BAD)
  made = [path for path in (root / "out").rglob("[!.]*") if path.is_file()]
  assert len(made) == len(GOOD)


def test_what_lies_in_the_output_folder_stays(trained_run, tmp_path, caplog):
  caplog.set_level("INFO", logger="absl")
  write(
    tmp_path / "in",
    {"a.png": image_files.encode(FACE), "b.png": image_files.encode(OTHER)},
  )
  mine = {
    "b.png": image_files.encode(np.full((8, 8, 3), 7, np.uint8)),
    "notes.txt": b"mine",
  }
  write(tmp_path / "out", mine)
  paths = tmp_path, tmp_path / "in", "centre", tmp_path / "out"
  row = run(trained_run, *paths)
  assert (row["n"], row["skipped"]) == (1, 1)
  for name, content in mine.items():
    assert (tmp_path / "out" / name).read_bytes() == content
  assert "--config.overwrite=True" in caplog.text
  row = run(trained_run, *paths, overwrite=True)
  assert (row["n"], row["skipped"]) == (2, 0)
  assert (tmp_path / "out" / "b.png").read_bytes() != mine["b.png"]
  assert (tmp_path / "out" / "notes.txt").read_bytes() == b"mine"


def test_an_output_that_cannot_be_written_to_is_refused_at_once(
  trained_run, tmp_path
):
  write(tmp_path, {"in/a.png": image_files.encode(FACE), "file": b"taken"})
  for output in ("file", "file/out"):
    with pytest.raises(errors.UserError, match=f"config.output=.*{output}"):
      run(trained_run, tmp_path, tmp_path / "in", "centre", tmp_path / output)
  assert (tmp_path / "file").read_bytes() == b"taken"
  (tmp_path / "locked").mkdir(mode=0o500)
  if not os.access(tmp_path / "locked", os.W_OK):  # The superuser may always.
    with pytest.raises(errors.UserError, match="Permission denied"):
      run(trained_run, tmp_path, tmp_path / "in", "centre", tmp_path / "locked")


def test_a_bad_member_of_a_zip_costs_that_member_alone(trained_run, tmp_path):
  path = tmp_path / "my photos é.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("写真.png", image_files.encode(FACE))
    archive.writestr("torn.png", image_files.encode(OTHER))
  path.write_bytes(
    path.read_bytes().replace(image_files.encode(OTHER)[100:110], bytes(10))
  )
  row = run(trained_run, tmp_path, path, "centre", tmp_path / "out")
  assert (row["n"], row["failed"]) == (1, 1)
  assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == ["写真.png"]
