"""The job `inpaint`: results of their own kind, and originals that stay."""

import csv

import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import inpaint
from dcgan_inpaint.runtime import errors

# What these tests hold is not how a model is loaded.
pytestmark = pytest.mark.usefixtures("kept_models")

FACE = synthetic.load("test", 1)[0]
HOLE = np.zeros((64, 64), bool)
HOLE[20:40, 10:50] = True


def save(path, image=FACE, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(image)).save(path, **options)
  return path


@pytest.fixture
def job(trained_run, tmp_path):
  """Runs the job; returns its row and the table of its images."""

  def run(images, masks, output, **fields):
    config = config_lib.inpaint_job()
    config.checkpoint.path = str(trained_run)
    config.input, config.masks = str(images), str(masks)
    config.output, config.faces = str(output), "whole"
    config.search.update({"steps": 2, "batch_size": 4})
    config.contact_sheet = 0
    (tmp_path / "work").mkdir(exist_ok=True)
    config.update_from_flattened_dict(
      {name.replace("__", "."): value for name, value in fields.items()}
    )
    (row,) = inpaint.run(config, str(tmp_path / "work"), tiny.mesh(4))
    with (tmp_path / "work" / "results.csv").open(encoding="utf-8") as file:
      return row, {line["name"]: line for line in csv.DictReader(file)}

  return run


@pytest.fixture
def mask(tmp_path):
  return save(tmp_path / "mask.png", np.uint8(255 * HOLE))


@pytest.mark.parametrize("suffix", ["png", "PNG", "tiff", "webp", "bmp", "jpg"])
def test_an_output_with_a_suffix_is_a_file_of_that_format(
  job, mask, tmp_path, suffix
):
  source = save(tmp_path / "in" / "a.png")
  path = tmp_path / "new" / f"done, 1.{suffix}"
  row, table = job(source, mask, path)
  assert row["n"] == 1
  with Image.open(path) as image:
    assert image.format == suffix.upper().replace("JPG", "JPEG")
    found = np.asarray(image.convert("RGB"))
  reason = table["a.png"]["reason"]
  if suffix == "jpg":
    assert "JPEG" in reason and np.abs(np.int32(found) - FACE)[~HOLE].max() < 25
  else:
    assert not reason
    np.testing.assert_array_equal(found[~HOLE], FACE[~HOLE])
  assert np.any(found[HOLE] != FACE[HOLE])


def test_several_samples_of_a_named_file_are_numbered(job, mask, tmp_path):
  source = save(tmp_path / "in" / "a.png")
  job(source, mask, tmp_path / "in" / "done.tif", samples=2)
  names = sorted(path.name for path in (tmp_path / "in").iterdir())
  assert names == ["a.png", "done_1.tif", "done_2.tif"]


def test_a_named_file_that_exists_stays_unless_it_may_be_replaced(
  job, mask, tmp_path
):
  source = save(tmp_path / "in" / "a.png")
  path = save(tmp_path / "done.png", np.zeros((9, 9), np.uint8))
  before = path.read_bytes()
  with pytest.raises(errors.UserError, match="done.png.*overwrite"):
    job(source, mask, path)
  assert path.read_bytes() == before
  job(source, mask, path, overwrite=True)
  assert path.read_bytes() != before


def test_a_file_cannot_be_named_for_several_images(job, mask, tmp_path):
  for name in ("a.png", "b.png"):
    save(tmp_path / "in" / name)
  with pytest.raises(errors.UserError, match="done.png.*2 images"):
    job(tmp_path / "in", mask, tmp_path / "done.png")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
  "output",
  ["photos", "photos/a.png", "photos/../photos", "link", "masks/m.png"],
)
def test_no_original_is_overwritten(job, tmp_path, output, overwrite):
  photo = save(tmp_path / "photos" / "a.png")
  mask = save(tmp_path / "masks" / "m.png", np.uint8(255 * HOLE))
  (tmp_path / "link").symlink_to(tmp_path / "photos")
  before = photo.read_bytes(), mask.read_bytes()
  with pytest.raises(errors.UserError, match="config.output"):
    job(photo, mask, tmp_path / output, overwrite=overwrite)
  assert (photo.read_bytes(), mask.read_bytes()) == before


def test_what_lies_beside_an_image_is_not_replaced(job, mask, tmp_path):
  photo = save(tmp_path / "photos" / "a.jpg")
  other = save(tmp_path / "photos" / "a.png", FACE[::-1].copy())
  before = other.read_bytes()
  with pytest.raises(errors.UserError, match=r"config\.output=.*a_filled\.png"):
    job(photo, mask, tmp_path / "photos", overwrite=True)
  assert other.read_bytes() == before


def test_masks_below_the_images_are_no_images(job, tmp_path):
  save(tmp_path / "in" / "a.png")
  save(tmp_path / "in" / "masks" / "a.png", np.uint8(255 * HOLE))
  row, table = job(tmp_path / "in", tmp_path / "in" / "masks", tmp_path / "o")
  assert (row["n"], row["failed"]) == (1, 0) and set(table) == {"a.png"}
  # So is a single mask among the images.
  mask = save(tmp_path / "in" / "mask.png", np.uint8(255 * HOLE))
  (tmp_path / "in" / "masks" / "a.png").unlink()
  row, table = job(tmp_path / "in", mask, tmp_path / "o2")
  assert set(table) == {"a.png"}


def test_images_below_the_masks_are_images(job, tmp_path):
  photo = save(tmp_path / "in" / "photos" / "a.png").parent
  save(tmp_path / "in" / "a.png", np.uint8(255 * HOLE))
  row, table = job(photo, tmp_path / "in", tmp_path / "o")
  assert (row["n"], row["failed"]) == (1, 0)


def test_one_folder_cannot_be_images_and_masks(job, tmp_path):
  save(tmp_path / "in" / "a.png")
  with pytest.raises(errors.UserError, match="config.masks=.*config.input="):
    job(tmp_path / "in", tmp_path / "in", tmp_path / "o")


@pytest.mark.parametrize(
  "image, mask",
  [("Jose\u0301.png", "Jos\u00e9.png"), ("Jos\u00e9.png", "Jose\u0301.bmp"),
   ("a.JPE", "a.PNG"), ("a, b.jpg", "a, b.jpg.png")],
)  # fmt: skip
def test_a_mask_is_found_by_the_name_of_its_image(job, tmp_path, image, mask):
  save(tmp_path / "in" / image)
  save(tmp_path / "masks" / mask, np.uint8(255 * HOLE))
  row, _ = job(tmp_path / "in", tmp_path / "masks", tmp_path / "o")
  assert (row["n"], row["failed"]) == (1, 0)


def test_a_mask_of_the_lying_photograph_is_refused_with_both_sizes(
  job, tmp_path
):
  exif = Image.Exif()
  exif[0x0112] = 6
  save(tmp_path / "in" / "a.png", np.zeros((64, 80, 3), np.uint8), exif=exif)
  save(tmp_path / "masks" / "a.png", np.eye(64, 80, dtype=np.uint8))
  row, table = job(tmp_path / "in", tmp_path / "masks", tmp_path / "o")
  assert row["failed"] == 1
  for size in ("80x64", "64x80", "EXIF"):
    assert size in table["a.png"]["reason"]


def test_a_mask_for_all_without_a_hole_is_an_error(job, tmp_path):
  source = save(tmp_path / "in" / "a.png")
  mask = save(tmp_path / "m.png", np.zeros((64, 64), np.uint8))
  with pytest.raises(errors.UserError, match="0 to 0.*file_polarity"):
    job(source, mask, tmp_path / "o")


def test_a_mask_that_is_turned_round_is_named(job, tmp_path, caplog):
  source = save(tmp_path / "in" / "a.png")
  mask = np.full((64, 64), 255, np.uint8)
  mask[30:34, 30:34] = 0
  _, table = job(source, save(tmp_path / "m.png", mask), tmp_path / "o")
  assert "file_polarity" in table["a.png"]["reason"]
  assert "file_polarity" in caplog.text


def test_all_of_a_hole_is_a_hundred_per_cent(job, tmp_path):
  source = save(tmp_path / "in" / "a.png", np.zeros((64, 120, 3), np.uint8))
  mask = np.zeros((64, 120), np.uint8)
  mask[:, :5] = 255  # Beyond the centre square.
  _, table = job(
    source, save(tmp_path / "m.png", mask), tmp_path / "o", rest="biharmonic"
  )
  assert "100 % of the hole" in table["a.png"]["reason"]
