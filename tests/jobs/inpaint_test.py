import csv
import io
import itertools
import pathlib
import runpy
import zipfile

import numpy as np
from PIL import Image
import pytest
from skimage import data as skimage_data
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import inpaint
from dcgan_inpaint.jobs import inpaint_report
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import trained_model

# What these tests hold is not how a model is loaded.
pytestmark = pytest.mark.usefixtures("kept_models")

NAMES = ("ann.png", "bob.png", "family/eve.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """A folder of three images, one of them in a subfolder."""
  root = tmp_path_factory.mktemp("photos")
  for name, face in zip(NAMES, synthetic.load("test", 3), strict=True):
    pictures.save_png(root / name, face)
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
    (row,) = inpaint.run(config, str(tmp_path), tiny.mesh(4))
    return row

  return run


@pytest.fixture
def lively(monkeypatch):
  """Gives the model weights whose images differ; a short training's do not."""
  load = trained_model.load
  weights = tiny.weights(*tiny.networks())
  monkeypatch.setattr(
    trained_model, "load", lambda *args: load(*args)._replace(weights=weights)
  )


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
  rows = job(photos), job(tmp_path / "photos.zip", output=tmp_path / "from_zip")
  assert rows[0]["data_digest"] == rows[1]["data_digest"]
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
  pictures.save_png(tmp_path / "out" / "ann.png", marked)
  row = job(photos)
  assert (row["n"], row["skipped"]) == (1, 2)
  (line,) = [x for x in caplog.messages if "config.overwrite" in x]
  assert line.startswith("2 of 3 ") and str(tmp_path / "out") in line
  again = results(tmp_path / "out")
  np.testing.assert_array_equal(again["ann.png"], marked)
  np.testing.assert_array_equal(again["bob.png"], made["bob.png"])
  # A third run has nothing to do.
  row = job(photos)
  assert (row["n"], row["skipped"]) == (0, 3)
  # Unless they are to be replaced.
  row = job(photos, overwrite=True)
  assert (row["n"], row["skipped"]) == (3, 0)
  for name, image in results(tmp_path / "out").items():
    np.testing.assert_array_equal(image, made[name])


def test_an_interrupted_run_keeps_the_batches_it_finished(
  job, tmp_path, monkeypatch
):
  for i, face in enumerate(synthetic.load("test", 6)):
    pictures.save_png(tmp_path / "six" / f"{i}.png", face)
  job(tmp_path / "six")
  make_search = trained_model.make_search

  def make_one_batch(*args):
    search = make_search(*args)
    calls = []

    class Cut:
      fixed_size = search.fixed_size
      warm_up = search.warm_up

      def __call__(self, *args, **options):
        calls.append(1)
        if len(calls) == 2:
          raise KeyboardInterrupt
        return search(*args, **options)

    return Cut()

  with monkeypatch.context() as patch:
    patch.setattr(trained_model, "make_search", make_one_batch)
    with pytest.raises(KeyboardInterrupt):
      job(tmp_path / "six", output=tmp_path / "cut")
  assert len(results(tmp_path / "cut")) == 4
  row = job(tmp_path / "six", output=tmp_path / "cut")
  assert (row["n"], row["skipped"]) == (2, 4)
  expected = results(tmp_path / "out")
  for name, image in results(tmp_path / "cut").items():
    np.testing.assert_array_equal(image, expected[name])


def test_a_run_that_is_cut_leaves_all_strips_and_the_whole_contact_sheet(
  job, photos, tmp_path, monkeypatch
):
  job(photos, strips="masked")
  expected = results(tmp_path / "strips")
  sheet = (tmp_path / "contact_sheet.png").read_bytes()
  save, calls = inpaint_report._save, []

  def cut(*args):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    save(*args)

  for made in (tmp_path / "strips").rglob("*.png"):
    made.unlink()
  (tmp_path / "contact_sheet.png").unlink()
  fields = {"strips": "masked", "output": tmp_path / "cut"}
  with monkeypatch.context() as patch:
    patch.setattr(inpaint_report, "_save", cut)
    with pytest.raises(KeyboardInterrupt):
      job(photos, **fields)
  assert len(results(tmp_path / "cut")) == 1
  row = job(photos, **fields)
  assert (row["n"], row["skipped"]) == (2, 1)
  again = results(tmp_path / "strips")
  assert again.keys() == expected.keys()
  for name in expected:
    np.testing.assert_array_equal(again[name], expected[name])
  assert (tmp_path / "contact_sheet.png").read_bytes() == sheet
  # A run with nothing to do leaves it as it is.
  assert job(photos, **fields)["n"] == 0
  assert (tmp_path / "contact_sheet.png").read_bytes() == sheet


def test_no_result_is_taken_for_that_of_another_image(job, lively, tmp_path):
  for name, face in zip(
    ("a.png", "a_1.png"), synthetic.load("test", 2), strict=True
  ):
    pictures.save_png(tmp_path / "two" / name, face)
  job(tmp_path / "two")
  before = results(tmp_path / "out")
  # a_1.png would be the first sample of a.png, too.
  row = job(tmp_path / "two", samples=2)
  assert (row["n"], row["skipped"], row["failed"]) == (2, 0, 0)
  made = results(tmp_path / "out")
  for name, image in before.items():
    np.testing.assert_array_equal(made.pop(name), image)
  assert made.keys() == {"a~2_1.png", "a~2_2.png", "a_1_1.png", "a_1_2.png"}
  original = results(tmp_path / "two")["a.png"]
  assert_filled(made["a~2_1.png"], original, hole_of(16, 48, 16, 48))
  # Again, all is there.
  assert job(tmp_path / "two", samples=2)["skipped"] == 2


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
  row = job(photos, tmp_path / "mask.png")
  assert row["mask_digest"] == data.digest_files(tmp_path / "mask.png")
  made = results(tmp_path / "out")
  for name, original in results(photos).items():
    assert_filled(made[name], original, hole)


@pytest.mark.parametrize(
  "masks, family, fields",
  [
    ("strokes:share=0.3", "strokes", {"mask__share": 0.3}),
    ("half:side=top", "half", {"mask__side": "top"}),
  ],
)
def test_a_family_may_have_its_fields_beside_it(
  job, photos, tmp_path, masks, family, fields
):
  assert job(photos, masks)["mask_digest"] is None
  job(photos, family, output=tmp_path / "apart", **fields)
  made = results(tmp_path / "out")
  assert len(made) == 3
  for name, image in results(tmp_path / "apart").items():
    np.testing.assert_array_equal(image, made[name])


def test_a_mask_file_may_be_named_as_one(job, photos, tmp_path):
  path = tmp_path / "mask, a+b.png"
  save_mask(path, hole_of(3, 20, 30, 60))
  rows = [
    job(photos, path),
    job(photos, f"file:path={path}", output=tmp_path / "as_file"),
    job(photos, "file", tmp_path / "as_field", mask__path=str(path)),
  ]
  assert {row["mask_digest"] for row in rows} == {data.digest_files(path)}
  made = results(tmp_path / "out")
  for folder in ("as_file", "as_field"):
    for name, image in results(tmp_path / folder).items():
      np.testing.assert_array_equal(image, made[name])


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
  pictures.save_png(tmp_path / "in" / "a.png", photo.astype(np.uint8))
  hole = np.zeros((height, width), bool)
  hole[30:100, 10:90] = True
  save_mask(tmp_path / "mask.png", hole)
  job(tmp_path / "in", tmp_path / "mask.png", faces="whole", rest="leave")
  filled = np.zeros_like(hole)
  left, upper, right, lower = box
  filled[upper:lower, left:right] = hole[upper:lower, left:right]
  assert_filled(results(tmp_path / "out")["a.png"], photo, filled)
  assert f"{100 * (1 - filled.sum() / hole.sum()):.2g} % of the hole" in (
    caplog.text
  )


def test_an_image_that_fails_is_named_and_the_others_are_done(
  job, photos, tmp_path, caplog
):
  hole = hole_of(16, 48, 16, 48)
  broken = io.BytesIO()
  Image.fromarray(results(photos)["ann.png"]).save(broken, "png")
  folder = tmp_path / "in"
  for name in NAMES:
    pictures.save_png(folder / name, results(photos)[name])
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
    (line,) = [x for x in caplog.messages if name in x]
    assert reason in line


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"images": "none"}, r"none .*config\.input"),
    ({"images": ""}, r"config\.input"),
    ({"masks": "center"}, r"config\.masks='center'.*'?centre"),
    ({"masks": ""}, r"config\.masks=''"),
    ({"masks": "pattern", "mask__share": 2.0}, r"config\.mask\.share.* 2\.0"),
    ({"gif": "nobody"}, r"config\.gif='nobody'.*'ann'"),
    ({"checkpoint__path": "none"}, r"config\.checkpoint\.path='none'"),
    ({"checkpoint__step": "5"}, r"'5'.*best"),
    ({"search__batch_size": 3}, r"config\.search\.batch_size=3"),
  ],
)
def test_a_wrong_field_is_refused_by_name(job, photos, fields, message):
  with pytest.raises(errors.UserError, match=message):
    job(**{"images": photos, **fields})


@pytest.mark.parametrize("inside", ["", "completed"])
def test_results_never_go_among_the_images(job, tmp_path, inside):
  face = synthetic.load("test", 1)[0]
  pictures.save_png(tmp_path / "in" / "a.png", face)
  with pytest.raises(errors.UserError, match="config.output=.*config.input="):
    job(tmp_path / "in", output=tmp_path / "in" / inside, overwrite=True)
  np.testing.assert_array_equal(results(tmp_path / "in")["a.png"], face)


def test_a_zip_of_masks_is_refused(job, photos, tmp_path):
  path = tmp_path / "masks.zip"
  path.write_bytes(b"PK")
  with pytest.raises(errors.UserError, match="config.masks=.*masks.zip"):
    job(photos, path)


@pytest.mark.parametrize("as_text", [True, False])
def test_images_whose_results_would_meet_keep_apart(
  job, photos, tmp_path, as_text
):
  other = np.full((64, 64, 3), 99, np.uint8)
  pictures.save_png(tmp_path / "ann.png", other)
  pictures.save_png(tmp_path / "more" / "ann.png", other)
  Image.fromarray(other).save(tmp_path / "more" / "bob.bmp")
  paths = [str(photos), str(tmp_path / "ann.png"), str(tmp_path / "more")]
  row = job(photos, input=",".join(paths) if as_text else tuple(paths))
  assert (row["n"], row["failed"]) == (6, 0)
  assert results(tmp_path / "out").keys() == {
    f"{photos.name}/ann.png",
    "ann/ann.png",
    "more/ann.png",
    "bob.png.png",
    "bob.bmp.png",
    "family/eve.png",
  }


def rows(folder):
  """Returns {name: row} of results.csv."""
  with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
    return {row["name"]: row for row in csv.DictReader(file)}


# The astronaut's nose, and a place beyond her face.
NOSE = np.zeros((512, 512), bool)
NOSE[118:134, 212:236] = True
FAR = np.zeros((512, 512), bool)
FAR[450:480, 20:60] = True


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory):
  """A folder of one photograph whose name has all kinds of characters."""
  root = tmp_path_factory.mktemp("astronaut")
  pictures.save_png(root / "Sally’s Fläche 1.png", skimage_data.astronaut())
  return root


@pytest.mark.parametrize("blending", ["paste", "poisson", "screened"])
def test_a_photograph_changes_in_its_hole_alone(
  job, astronaut, tmp_path, blending
):
  save_mask(tmp_path / "mask.png", NOSE)
  job(
    astronaut,
    tmp_path / "mask.png",
    faces="cascade",
    search__blending=blending,
  )
  ((name, made),) = results(tmp_path / "out").items()
  assert name == "Sally’s Fläche 1.png"
  assert_filled(made, skimage_data.astronaut(), NOSE)
  row = rows(tmp_path)[name]
  assert (row["status"], row["faces"]) == ("completed", "2")
  assert row["aligned_by"] == "box" and row["reason"]
  assert float(row["hole_share"]) == pytest.approx(NOSE.mean(), rel=1e-4)
  assert float(row["loss"]) > 0 and float(row["seconds"]) > 0


def test_what_lies_under_the_hole_of_a_photograph_is_not_read(
  job, astronaut, tmp_path
):
  save_mask(tmp_path / "mask.png", NOSE | FAR)
  other = skimage_data.astronaut()
  other[NOSE | FAR] = (0, 255, 0)
  for root in (astronaut, tmp_path / "other"):
    if root != astronaut:
      pictures.save_png(root / "Sally’s Fläche 1.png", other)
    job(
      root,
      tmp_path / "mask.png",
      output=tmp_path / "out" / root.name,
      faces="cascade",
      rest="biharmonic",
      search__blending="poisson",
    )
  first, second = results(tmp_path / "out").values()
  np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
  "rest, status, left",
  [("leave", "partly", FAR), ("auto", "completed", 0)],
)
def test_a_hole_beyond_the_faces_is_left_or_filled_and_named(
  job, astronaut, tmp_path, caplog, rest, status, left
):
  save_mask(tmp_path / "mask.png", NOSE | FAR)
  job(astronaut, tmp_path / "mask.png", faces="cascade", rest=rest)
  ((name, made),) = results(tmp_path / "out").items()
  assert_filled(
    made, skimage_data.astronaut(), (NOSE | FAR) & ~np.array(left, bool)
  )
  assert rows(tmp_path)[name]["status"] == status
  (line,) = [x for x in caplog.messages if name in x]
  assert "76 %" in line and line.endswith(rows(tmp_path)[name]["reason"])


@pytest.mark.parametrize(
  "picture, hole", [(skimage_data.astronaut, FAR), (skimage_data.brick, NOSE)]
)
def test_a_hole_without_a_face_is_named_with_the_remedy(
  job, tmp_path, caplog, picture, hole
):
  Image.fromarray(picture()).convert("RGB").save(tmp_path / "a.png")
  save_mask(tmp_path / "mask.png", hole)
  row = job(
    tmp_path / "a.png", tmp_path / "mask.png", faces="cascade", rest="leave"
  )
  assert (row["n"], row["failed"]) == (0, 1)
  (line,) = [x for x in caplog.messages if "a.png" in x]
  assert "--config.faces=whole" in line and "--config.rest=auto" in line
  assert rows(tmp_path)["a.png"]["status"] == "failed"
  row = job(tmp_path / "a.png", tmp_path / "mask.png", faces="whole")
  assert (row["n"], row["failed"]) == (1, 0)


def test_families_grow_with_the_image(job, tmp_path):
  photo = np.random.default_rng(0).integers(0, 256, (192, 256, 3), np.uint8)
  pictures.save_png(tmp_path / "a.png", photo)
  job(tmp_path / "a.png", "centre", faces="whole")
  hole = np.zeros((192, 256), bool)
  hole[48:144, 80:176] = True  # Half of the shorter side, as 32 of 64.
  assert_filled(results(tmp_path / "out")["a.png"], photo, hole)


def test_transparency_is_the_mask(job, tmp_path):
  photo = np.random.default_rng(0).integers(0, 256, (70, 60, 4), np.uint8)
  hole = np.zeros((70, 60), bool)
  hole[20:40, 10:30] = True
  photo[..., 3] = np.where(hole, 0, 255)
  pictures.save_png(tmp_path / "in" / "a.png", photo)
  pictures.save_png(tmp_path / "in" / "whole.png", photo[..., :3])
  job(tmp_path / "in", "alpha", faces="whole")
  made = results(tmp_path / "out")
  assert_filled(made["a.png"][..., :3], photo[..., :3], hole)
  assert (made["a.png"][..., 3] == 255).all()
  # Nothing is missing, and the image comes back.
  np.testing.assert_array_equal(made["whole.png"], photo[..., :3])
  assert rows(tmp_path)["whole.png"]["status"] == "no hole"


def test_samples_differ_in_the_hole_alone(job, lively, photos, tmp_path):
  row = job(photos, samples=3)
  assert (row["n"], row["failed"]) == (3, 0)
  made = results(tmp_path / "out")
  hole = hole_of(16, 48, 16, 48)
  for name, original in results(photos).items():
    stem = name.removesuffix(".png")
    samples = [made.pop(f"{stem}_{number}.png") for number in (1, 2, 3)]
    for sample in samples:
      assert_filled(sample, original, hole)
    for a, b in itertools.combinations(samples, 2):
      assert (a != b)[hole].mean() > 0.5
    assert len(rows(tmp_path)[name]["loss"].split()) == 3
  assert not made
  # The first is what one sample would be.
  first = results(tmp_path / "out")["bob_1.png"]
  job(photos / "bob.png", output=tmp_path / "one")
  np.testing.assert_array_equal(results(tmp_path / "one")["bob.png"], first)
  # One that is missing is made, and its siblings stay.
  (tmp_path / "out" / "bob_2.png").unlink()
  save_mask(tmp_path / "out" / "bob_3.png", hole)
  row = job(photos, samples=3)
  assert (row["n"], row["skipped"]) == (1, 2)
  again = results(tmp_path / "out")
  np.testing.assert_array_equal(again["bob_3.png"], 255 * np.uint8(hole))
  assert_filled(again["bob_2.png"], results(photos)["bob.png"], hole)


@pytest.mark.slow
def test_the_config_needs_neither_training_nor_more_fields(photos, tmp_path):
  """configs/inpaint.py as it is, with the model of the package."""
  path = pathlib.Path(__file__).parents[2] / "configs" / "inpaint.py"
  config = runpy.run_path(str(path))["get_config"]()
  config.input, config.samples = str(photos / "bob.png"), 3
  (row,) = inpaint.run(config, str(tmp_path), tiny.mesh(1))
  assert (row["n"], row["failed"]) == (1, 0)
  original = results(photos)["bob.png"]
  hole = hole_of(16, 48, 16, 48)
  made = results(tmp_path / "completed")
  assert made.keys() == {"bob_1.png", "bob_2.png", "bob_3.png"}
  for sample in made.values():
    assert_filled(sample, original, hole)
  for a, b in itertools.combinations(made.values(), 2):
    # Others to the eye, not by rounding.
    assert np.abs(np.int32(a) - b)[hole].mean() > 4


def test_every_image_has_its_row(job, photos, tmp_path):
  job(photos)
  table = rows(tmp_path)
  assert table.keys() == set(NAMES)
  for row in table.values():
    assert row["status"] == "completed" and row["aligned_by"] == "whole"
    assert row["faces"] == "1" and row["hole_share"] == "0.25"
  job(photos)
  assert {row["status"] for row in rows(tmp_path).values()} == {"there already"}
  assert (tmp_path / "results.1.csv").exists()  # The first run's.


@pytest.mark.parametrize("first", ["original", "masked"])
def test_strips_on_request(job, photos, tmp_path, first):
  job(photos, strips=first)
  made = results(tmp_path / "strips")
  assert made.keys() == set(NAMES)
  strip = made["family/eve.png"]
  original = results(photos)["family/eve.png"]
  hole = hole_of(16, 48, 16, 48)
  left, mask, right = (strip[2:66, x : x + 64] for x in (2, 68, 134))
  same = np.ones_like(hole) if first == "original" else ~hole
  np.testing.assert_array_equal(left[same], original[same])
  assert (first == "masked") == bool((left != original).any())
  np.testing.assert_array_equal(mask, 255 * hole[..., None].repeat(3, -1))
  np.testing.assert_array_equal(
    right, results(tmp_path / "out")["family/eve.png"]
  )


def test_no_contact_sheet_where_none_is_wanted(job, photos, tmp_path):
  job(photos, contact_sheet=0)
  assert not (tmp_path / "contact_sheet.png").exists()


@pytest.mark.slow
def test_the_path_of_one_image_is_a_film(job, lively, photos, tmp_path):
  job(photos, gif="family/eve", search__steps=3)
  with Image.open(tmp_path / "path.gif") as film:
    assert film.n_frames == 4  # The start, and after each step.
    film.seek(3)
    last = np.asarray(film.convert("RGB"))
  # On the right the completed image, four times as large.
  right = last[8:-8:4, 8 + 256 + 8 : -8 : 4]
  made = results(tmp_path / "out")["family/eve.png"]
  # A GIF has 256 colours.
  assert np.abs(np.int32(right) - made).mean() < 12
