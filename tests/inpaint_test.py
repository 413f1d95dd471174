import io
import zipfile

import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import errors
from dcgan_inpaint import inpaint
from dcgan_inpaint import report
from dcgan_inpaint import trained
from dcgan_inpaint.data import synthetic

NAMES = ("ann.png", "bob.png", "family/eve.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """A folder of three images, one of them in a sub folder."""
  root = tmp_path_factory.mktemp("photos")
  for name, face in zip(NAMES, synthetic.load("test", 3), strict=True):
    report.save_png(root / name, face)
  return root


@pytest.fixture
def job(trained_run, tmp_path):
  """Runs the job: a function of `input`, `masks` and more fields."""

  def run(images, masks="centre", output=tmp_path / "out", **fields):
    config = config_lib.inpaint_job()
    config.checkpoint.path = str(trained_run)
    config.input, config.masks = str(images), str(masks)
    config.output = str(output)
    config.search.update({"steps": 2, "batch_size": 4})
    config.update_from_flattened_dict(
      {name.replace("__", "."): value for name, value in fields.items()}
    )
    (row,) = inpaint.inpaint(config, str(tmp_path), tiny.mesh(4))
    return row

  return run


def results(folder):
  """Returns {name: uint8 image} of all PNG files below a folder."""
  return {
    path.relative_to(folder).as_posix(): np.asarray(Image.open(path))
    for path in folder.rglob("*.png")
  }


def hole_of(*box):
  """Returns bool [64, 64]: True in rows and columns of (y0, y1, x0, x1)."""
  hole = np.zeros((64, 64), bool)
  hole[box[0] : box[1], box[2] : box[3]] = True
  return hole


def save_mask(path, hole):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.uint8(255 * hole)).save(path)


def assert_filled(result, original, hole):
  """Known pixels are the original's, to the bit; the hole is another."""
  np.testing.assert_array_equal(result[~hole], original[~hole])
  assert (result[hole] != original[hole]).mean() > 0.5


def test_names_and_known_pixels_are_kept(job, photos, tmp_path):
  row = job(photos)
  made = results(tmp_path / "out")
  assert made.keys() == set(NAMES)
  for name, original in results(photos).items():
    assert_filled(made[name], original, hole_of(16, 48, 16, 48))
  assert (row["n"], row["skipped"], row["failed"]) == (3, 0, 0)
  assert row["method"] == "dcgan" and row["images_per_second"] > 0
  with Image.open(tmp_path / "contact_sheet.png") as sheet:
    assert sheet.width > 3 * 2 * 64 and sheet.height > 4 * 2 * 64


def test_a_zip_gives_what_its_folder_gives(job, photos, tmp_path):
  with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
    for name in reversed(NAMES):
      archive.write(photos / name, name)
  job(photos)
  job(tmp_path / "photos.zip", output=tmp_path / "from_zip")
  expected = results(tmp_path / "out")
  made = results(tmp_path / "from_zip")
  assert made.keys() == expected.keys()
  for name in made:
    np.testing.assert_array_equal(made[name], expected[name])


@pytest.mark.parametrize("masks", ["box", "random_pixels"])
def test_one_image_alone_becomes_what_it_becomes_among_others(
  job, photos, tmp_path, masks
):
  job(photos, masks)
  job(photos / "bob.png", masks, output=tmp_path / "alone")
  np.testing.assert_array_equal(
    results(tmp_path / "alone")["bob.png"],
    results(tmp_path / "out")["bob.png"],
  )


def test_a_second_run_makes_only_what_is_missing(job, photos, tmp_path, caplog):
  caplog.set_level("INFO", logger="absl")
  job(photos)
  made = results(tmp_path / "out")
  (tmp_path / "out" / "bob.png").unlink()
  marked = np.full((64, 64, 3), 7, np.uint8)
  report.save_png(tmp_path / "out" / "ann.png", marked)
  row = job(photos)
  assert (row["n"], row["skipped"]) == (1, 2)
  assert "2 of 3 images are in" in caplog.text
  again = results(tmp_path / "out")
  np.testing.assert_array_equal(again["ann.png"], marked)
  np.testing.assert_array_equal(again["bob.png"], made["bob.png"])
  # A third run has nothing to do.
  row = job(photos)
  assert (row["n"], row["skipped"]) == (0, 3)
  # And overwriting is asked for.
  row = job(photos, overwrite=True)
  assert (row["n"], row["skipped"]) == (3, 0)
  for name, image in results(tmp_path / "out").items():
    np.testing.assert_array_equal(image, made[name])


def test_a_run_that_is_cut_keeps_the_batches_it_finished(
  job, tmp_path, monkeypatch
):
  for i, face in enumerate(synthetic.load("test", 6)):
    report.save_png(tmp_path / "six" / f"{i}.png", face)
  job(tmp_path / "six")
  make_search = trained.make_search

  def make_one_batch(*args):
    search = make_search(*args)
    calls = []

    class Cut:
      batch_size = search.batch_size
      warm_up = search.warm_up

      def __call__(self, *args, **options):
        calls.append(1)
        if len(calls) == 2:
          raise KeyboardInterrupt
        return search(*args, **options)

    return Cut()

  with monkeypatch.context() as patch:
    patch.setattr(trained, "make_search", make_one_batch)
    with pytest.raises(KeyboardInterrupt):
      job(tmp_path / "six", output=tmp_path / "cut")
  assert len(results(tmp_path / "cut")) == 4
  row = job(tmp_path / "six", output=tmp_path / "cut")
  assert (row["n"], row["skipped"]) == (2, 4)
  expected = results(tmp_path / "out")
  for name, image in results(tmp_path / "cut").items():
    np.testing.assert_array_equal(image, expected[name])


@pytest.mark.parametrize("polarity", ["white_is_hole", "white_is_known"])
def test_each_image_gets_the_mask_of_its_name(job, photos, tmp_path, polarity):
  holes = {
    "ann.png": hole_of(0, 10, 0, 64),
    "bob.png": hole_of(20, 40, 5, 30),
    "family/eve.png": hole_of(50, 64, 50, 64),
  }
  for name, hole in holes.items():
    white = hole if polarity == "white_is_hole" else ~hole
    save_mask((tmp_path / "masks" / name).with_suffix(".bmp"), white)
  row = job(photos, tmp_path / "masks", mask__file_polarity=polarity)
  assert row["failed"] == 0
  made = results(tmp_path / "out")
  for name, original in results(photos).items():
    assert_filled(made[name], original, holes[name])


def test_one_mask_file_serves_all_images(job, photos, tmp_path):
  hole = hole_of(3, 20, 30, 60)
  save_mask(tmp_path / "mask.png", hole)
  job(photos, tmp_path / "mask.png")
  made = results(tmp_path / "out")
  for name, original in results(photos).items():
    assert_filled(made[name], original, hole)


@pytest.mark.parametrize(
  "width, height, box",
  # The part of a mask that is filled: the centre square of a wide photograph,
  # and the face of an aligned one of CelebA.
  [(200, 128, (36, 0, 164, 128)), (178, 218, (25, 57, 153, 185))],
)
def test_an_image_of_another_size_keeps_it(
  job, tmp_path, caplog, width, height, box
):
  photo = np.random.default_rng(0).integers(0, 256, (height, width, 3))
  report.save_png(tmp_path / "in" / "a.png", photo.astype(np.uint8))
  hole = np.zeros((height, width), bool)
  hole[30:100, 10:90] = True
  save_mask(tmp_path / "mask.png", hole)
  job(tmp_path / "in", tmp_path / "mask.png", faces="whole")
  filled = np.zeros_like(hole)
  left, upper, right, lower = box
  filled[upper:lower, left:right] = hole[upper:lower, left:right]
  assert_filled(results(tmp_path / "out")["a.png"], photo, filled)
  assert f"{100 * (1 - filled.sum() / hole.sum()):.2g} % of the hole" in (
    caplog.text
  )


def test_what_cannot_be_done_is_named_and_the_rest_is_done(
  job, photos, tmp_path, caplog
):
  hole = hole_of(16, 48, 16, 48)
  broken = io.BytesIO()
  Image.fromarray(results(photos)["ann.png"]).save(broken, "png")
  folder = tmp_path / "in"
  for name in NAMES:
    report.save_png(folder / name, results(photos)[name])
    save_mask(tmp_path / "masks" / name, hole)
  (folder / "torn.png").write_bytes(broken.getvalue()[:500])
  save_mask(tmp_path / "masks" / "torn.png", hole)
  (tmp_path / "masks" / "bob.png").unlink()
  row = job(folder, tmp_path / "masks")
  assert (row["n"], row["failed"]) == (2, 2)
  assert results(tmp_path / "out").keys() == {"ann.png", "family/eve.png"}
  for name, reason in {
    "bob.png": "no mask of that name",
    "torn.png": "truncated",
  }.items():
    (line,) = [x for x in caplog.messages if f"left out {name}: " in x]
    assert reason in line


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"images": "none"}, "none does not exist.*config.input"),
    ({"images": ""}, "config.input is empty"),
    ({"masks": "center"}, "config.masks='center'.*'?centre"),
    ({"masks": ""}, "config.masks=''"),
    ({"masks": "pattern", "mask__share": 2.0}, "config.mask.share is 2.0"),
    ({"gif": "nobody"}, "config.gif='nobody' is none of the images.*'ann'"),
    ({"checkpoint__path": "none"}, "config.checkpoint.path='none'"),
    ({"checkpoint__step": "5"}, "'5': take best"),
    ({"search__batch_size": 3}, "config.search.batch_size=3"),
  ],
)
def test_a_wrong_field_is_refused_by_name(job, photos, fields, message):
  with pytest.raises(errors.UserError, match=message):
    job(**{"images": photos, **fields})


@pytest.mark.parametrize("inside", ["", "completed"])
def test_results_never_go_among_the_images(job, tmp_path, inside):
  face = synthetic.load("test", 1)[0]
  report.save_png(tmp_path / "in" / "a.png", face)
  with pytest.raises(errors.UserError, match="config.output=.*elsewhere"):
    job(tmp_path / "in", output=tmp_path / "in" / inside, overwrite=True)
  np.testing.assert_array_equal(results(tmp_path / "in")["a.png"], face)


def test_a_zip_of_masks_is_refused(job, photos, tmp_path):
  path = tmp_path / "masks.zip"
  path.write_bytes(b"PK")
  with pytest.raises(errors.UserError, match="config.masks=.*unpack it"):
    job(photos, path)


def test_two_images_of_one_name_are_refused(job, photos, tmp_path):
  report.save_png(tmp_path / "ann.png", np.zeros((64, 64, 3), np.uint8))
  with pytest.raises(errors.UserError, match="ann.png and ann.png have one"):
    job(f"{photos},{tmp_path / 'ann.png'}")
