"""The job on methods of one line each, which count the images they fill."""

import csv
import re
import sys
import types

import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import methods
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import benchmark
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.metrics import features
from dcgan_inpaint.metrics import pixel_errors
from dcgan_inpaint.metrics import realism
from dcgan_inpaint.runtime import errors

MASKS = "centre:size=20,random_pixels:share=0.5"
LABELS = ["centre 20", "random 50 %"]


def paint(value):
  """Returns a method that paints holes in one grey."""

  def complete(images, masks):
    return np.where(np.asarray(masks) > 0.5, images, np.float32(value))

  return complete


class Registry:
  """Registers methods for a test, and counts the images that each fills."""

  def __init__(self, patch):
    self._patch = patch
    self.filled = {}

  def add(self, name, complete, fit=None, **spec):
    def counted(images, masks, **options):
      # `create` compiles on masks without a hole.
      if np.min(masks) < 0.5:
        self.filled[name] = self.filled.get(name, 0) + len(images)
      return complete(images, masks, **options)

    module = types.ModuleType(name, f"Fills with {name}.\n\nMore.")
    module.complete, module.fit = counted, fit
    path = f"dcgan_inpaint.methods.{name}"
    self._patch.setitem(sys.modules, path, module)
    known = {**methods.METHODS, name: methods.Spec("test", **spec)}
    self._patch.setattr(methods, "METHODS", types.MappingProxyType(known))

  def taken(self):
    """Returns {method: images} filled since the last call."""
    filled, self.filled = self.filled, {}
    return filled


@pytest.fixture
def registry(monkeypatch):
  registry = Registry(monkeypatch)
  registry.add("grey", paint(0.0))
  registry.add("white", paint(1.0), slow=True)
  return registry


def make_config(**fields):
  """A config of 4 images in chunks of 2, of which slow methods get 2."""
  config = config_lib.benchmark_job()
  config.benchmark.methods = "grey,white"
  config.benchmark.masks = MASKS
  config.benchmark.images = 4
  config.benchmark.slow_images = 2
  config.benchmark.chunk = 2
  config.benchmark.contact_sheet = 3
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in fields.items()}
  )
  return config


def run(workdir, **fields):
  return benchmark.run(make_config(**fields), str(workdir), tiny.mesh(1))


def without_times(rows):
  return [
    {
      name: value
      for name, value in row.items()
      if name not in ("seconds_per_image", "images_per_second", "fit_seconds")
    }
    for row in rows
  ]


def squares_in_holes(value, masks, originals):
  """The squared errors of `paint(value)`: [images] means over the hole."""
  painted = np.round((value + 1) * 127.5)
  return np.array(
    [
      np.mean((original[mask[..., 0] < 0.5] - painted) ** 2)
      for original, mask in zip(originals.astype(float), masks, strict=True)
    ]
  )


def test_a_row_for_each_method_and_mask_with_means_of_its_images(
  registry, tmp_path
):
  rows = run(tmp_path)
  assert [(row["mask"], row["method"]) for row in rows] == [
    (mask, method) for mask in LABELS for method in ("grey", "white")
  ]
  originals = synthetic.load("test", 4)
  settings = mask_sets.parse_several(MASKS, config_lib.mask(), "masks", 64)
  for row in rows:
    masks = mask_sets.make(settings[row["mask"]], range(4), 64, 64)
    value, n = {"grey": (0.0, 4), "white": (1.0, 2)}[row["method"]]
    squares = squares_in_holes(value, masks[:n], originals[:n])
    assert row["n"] == n and row["failures"] == 0
    mean, half_width = pixel_errors.summarise(squares)
    assert row["hole_mse"] == pytest.approx(mean, rel=1e-3)
    assert row["hole_mse_ci95"] == pytest.approx(half_width, rel=1e-3)
    assert row["mse"] == pytest.approx(
      np.mean(squares * (masks[:n] < 0.5).mean((1, 2, 3))), rel=1e-3
    )
    assert row["images_per_second"] * row["seconds_per_image"] == pytest.approx(
      1
    )
    # All methods have the holes of all images, though the slow get fewer.
    assert row["mask_digest"] == mask_sets.digest(masks)
    assert row["data_digest"] == data.digest(originals, range(4))
    # The first two images are those that both methods completed.
    common = squares_in_holes(value, masks[:2], originals[:2]).mean()
    assert row["common"]["n"] == 2
    assert row["common"]["hole_mse"] == pytest.approx(common, rel=1e-3)
    (area,) = row["by_hole_area"]
    expected = {"centre 20": "0-10 %", "random 50 %": "40-50 %"}[row["mask"]]
    assert area["hole_area"] == expected
    assert area["n"] == n and area["mse"] == row["mse"]


def test_the_files_hold_every_metric(registry, tmp_path):
  rows = run(tmp_path)
  with (tmp_path / "results.csv").open() as file:
    lines = list(csv.DictReader(file))
  # For each row: all images, the common ones, and one bin.
  assert len(lines) == 3 * len(rows)
  for line, row in zip(lines[::3], rows, strict=True):
    assert line["images"] == "all" and line["mask"] == row["mask"]
    assert float(line["hole_psnr"]) == row["hole_psnr"]
  assert float(lines[1]["mse"]) == rows[0]["common"]["mse"]
  assert lines[1]["n"] == "2" and lines[2]["images"] == "hole 0-10 %"

  with np.load(tmp_path / "figures.npz", allow_pickle=False) as metrics:
    assert list(metrics["methods"]) == ["grey", "white"]
    assert list(metrics["masks"]) == LABELS
    assert list(metrics["images"]) == [f"synthetic-{i:06d}" for i in range(4)]
    np.testing.assert_allclose(metrics["hole_share"][0], 400 / 4096)
    np.testing.assert_array_equal(
      np.isnan(metrics["ssim"]), [2 * [4 * [False]], 2 * [[0, 0, 1, 1]]]
    )
    assert metrics["ssim"][0, 1].mean() == pytest.approx(rows[2]["ssim"])

  sheets = sorted(path.name for path in (tmp_path / "contact_sheets").iterdir())
  assert sheets == ["centre_20.png", "random_50.png"]
  with Image.open(tmp_path / "contact_sheets" / "centre_20.png") as sheet:
    # Three columns; rows: original, masked and the two methods.
    assert 3 * 128 < sheet.width < 4 * 128 + 100
    assert 4 * 128 < sheet.height < 5 * 128
  assert (tmp_path / "contact_sheet.png").exists()
  assert "Fills with grey." in (tmp_path / "report.html").read_text()


def test_realism_is_measured_on_the_features_that_are_named(registry, tmp_path):
  plain = run(tmp_path)
  assert registry.taken() == {"grey": 8, "white": 4}
  fields = {"benchmark__features": "raw", "data__max_images": 6}
  rows = run(tmp_path, **fields)
  # The parts had none; now they have.
  assert registry.taken() == {"grey": 8, "white": 4}
  np.testing.assert_equal(run(tmp_path, **fields), rows)
  assert registry.taken() == {}
  raw = features.create("raw", reference=synthetic.load("train", 6))
  originals = synthetic.load("test", 4)
  settings = mask_sets.parse_several(MASKS, config_lib.mask(), "masks", 64)
  for row, before in zip(rows, plain, strict=True):
    assert row["hole_mse"] == before["hole_mse"] and "raw_kid" not in before
    masks = mask_sets.make(settings[row["mask"]], range(4), 64, 64)
    value, n = {"grey": (128, 4), "white": (255, 2)}[row["method"]]
    completed = np.where(masks > 0.5, originals, np.uint8(value))
    for count, means in ((n, row), (2, row["common"])):
      expected = realism.evaluate(
        completed[:count], originals[:count], masks[:count], [raw]
      )
      assert expected["raw_kid"] != 0
      assert {name: means[name] for name in expected} == pytest.approx(
        expected, rel=1e-5, nan_ok=True
      )
  with (tmp_path / "results.csv").open() as file:
    lines = list(csv.DictReader(file))
  assert float(lines[0]["raw_kid"]) == rows[0]["raw_kid"]
  assert float(lines[1]["raw_kid"]) == rows[0]["common"]["raw_kid"]
  assert lines[2]["raw_kid"] == ""  # Of one area of holes.


def test_the_same_command_again_runs_what_is_missing(
  registry, tmp_path, caplog
):
  caplog.set_level("INFO", logger="absl")
  rows = run(tmp_path)
  assert registry.taken() == {"grey": 8, "white": 4}
  for label in LABELS:
    assert any(x.startswith(f"{label}: masks") for x in caplog.messages)
  assert run(tmp_path) == rows  # Times too: they are those of the first run.
  assert registry.taken() == {}
  parts = tmp_path / "parts"
  (parts / "grey" / "centre_20" / "000002.npz").unlink()
  torn = parts / "white" / "random_50" / "000000.npz"
  torn.write_bytes(torn.read_bytes()[:99])
  assert without_times(run(tmp_path)) == without_times(rows)
  assert registry.taken() == {"grey": 2, "white": 2}
  # 6 of 8 images are there.
  lines = [x for x in caplog.messages if x.startswith("grey: ")]
  assert ["6", "8"] in [re.findall(r"\d+", line) for line in lines]
  assert str(torn) in caplog.text


@pytest.mark.parametrize(
  "fields, expected",
  [
    ({"benchmark__methods": "white,black,grey"}, {"black": 8}),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in [
        ({"benchmark__masks": f"{MASKS},half"}, {"grey": 4, "white": 2}),
        # Other holes under a name of their own, and under the same name.
        (
          {"benchmark__masks": MASKS.replace("0.5", "0.4")},
          {"grey": 4, "white": 2},
        ),
        ({"mask__seed": 1}, {"grey": 4, "white": 2}),
        # Other images; fewer; more for the slow method alone.
        ({"data__seed": 1}, {"grey": 8, "white": 4}),
        ({"benchmark__images": 2}, {}),
        ({"benchmark__slow_images": 0}, {"white": 4}),
        # These methods do not search.
        ({"search__steps": 3}, {}),
      ]
    ),
  ],
)
def test_a_change_costs_what_it_touches(registry, tmp_path, fields, expected):
  registry.add("black", paint(-1.0))
  fields = {"benchmark__contact_sheet": 1, **fields}  # Which take longest.
  run(tmp_path, benchmark__contact_sheet=1)
  registry.taken()
  rows = run(tmp_path, **fields)
  assert registry.taken() == expected
  # Stored and repeated parts together equal a run from scratch.
  assert without_times(rows) == without_times(run(tmp_path / "new", **fields))


def test_an_interrupted_run_keeps_the_chunks_it_finished(registry, tmp_path):
  expected = run(tmp_path / "whole")
  registry.taken()
  chunks = []

  def cut(images, masks):
    chunks.append(1)
    # The first call compiles, and the third chunk is the first of mask two.
    if len(chunks) == 4:
      raise KeyboardInterrupt
    return paint(0.0)(images, masks)

  registry.add("grey", cut)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path)
  registry.add("grey", paint(0.0))
  registry.taken()
  assert without_times(run(tmp_path)) == without_times(expected)
  assert registry.taken() == {"grey": 4, "white": 4}


def test_a_failure_costs_an_image_and_is_counted(registry, tmp_path):
  corner = synthetic.load("test", 4)[1, 0, 0, 0] / 127.5 - 1

  def fragile(images, masks):
    if np.isclose(images[:, 0, 0, 0], corner, atol=1e-6).any():
      raise np.linalg.LinAlgError("singular")
    return paint(0.0)(images, masks)

  registry.add("fragile", fragile)
  fields = {"benchmark__methods": "fragile,grey", "benchmark__masks": "centre"}
  broken, grey = run(tmp_path, **fields)
  assert (broken["n"], broken["failures"]) == (3, 1)
  # The grey of the same three images has the same metrics.
  assert (grey["n"], grey["failures"], grey["common"]["n"]) == (4, 0, 3)
  assert grey["mse"] != broken["mse"] == grey["common"]["mse"]


def test_a_fit_is_timed_apart_and_seen_by_its_data(registry, tmp_path):
  fits = []

  def fit(images):
    fits.append(images.shape)
    return np.float32(images.mean() / 127.5 - 1)

  registry.add(
    "mean_grey",
    lambda images, masks, fitted: paint(fitted)(images, masks),
    fit=fit,
    fits=True,
  )
  fields = {"benchmark__methods": "mean_grey,grey", "data__max_images": 6}
  rows = run(tmp_path, **fields)
  assert fits == [(6, 64, 64, 3)]
  for row in rows:
    fitted = row["method"] == "mean_grey"
    assert row["fit_seconds"] > 0 if fitted else row["fit_seconds"] is None
  assert run(tmp_path, **fields) is not None and len(fits) == 1
  # Fitted to other images it is another method, on the same four images.
  run(tmp_path, **fields | {"data__max_images": 5})
  assert fits[1:] == [(5, 64, 64, 3)]


@pytest.mark.slow
def test_a_search_in_chunks_finds_what_a_search_of_all_finds(
  trained_run, tmp_path
):
  fields = {
    "benchmark__methods": "dcgan",
    "benchmark__slow_images": 4,
    "checkpoint__path": str(trained_run),
    "search__steps": 2,
    "search__batch_size": 4,
  }
  whole, _ = run(tmp_path / "whole", benchmark__chunk=4, **fields)
  # The last chunk of three and one is padded.
  chunks, _ = run(tmp_path / "chunks", benchmark__chunk=3, **fields)
  for name in ("mse", "hole_ssim", "psnr_ci95"):
    assert chunks[name] == pytest.approx(whole[name], rel=1e-4)
  assert chunks["n"] == 4 and chunks["step"] == whole["step"] > 0


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"benchmark__methods": "grey,lama"}, r"config\.benchmark\.methods.*lama"),
    ({"benchmark__methods": ""}, r"config\.benchmark\.methods.*harmonic"),
    (
      {"benchmark__masks": "center"},
      r"config\.benchmark\.masks.*center.*centre",
    ),
    (
      {"benchmark__masks": "centre:size=99"},
      r"config\.benchmark\.masks.*centre 99.*config\.mask\.size",
    ),
    ({"search__optimizer": "adamm"}, r"config\.search\.optimizer.*adamm"),
    ({"benchmark__methods": "mean_image"}, r"config\.checkpoint\.path"),
  ],
)
def test_what_cannot_be_run_is_refused(registry, tmp_path, fields, message):
  with pytest.raises(errors.UserError, match=message):
    run(tmp_path, **fields)
  assert not (tmp_path / "parts").exists()


def test_all_methods_are_those_whose_library_is_there(monkeypatch, caplog):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  names = methods.names("all", "config.benchmark.methods")
  assert "telea" not in names and "biharmonic" in names
  (line,) = [x for x in caplog.messages if "'telea'" in x]
  assert "config.benchmark.methods" in line and "OpenCV" in line
