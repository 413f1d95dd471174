"""Every job at other sizes than 64, and in grey: a model says its size."""

import csv
import json

import numpy as np
from PIL import Image
import pytest
import tiny

from configs import digits as digits_config
import dcgan_inpaint
from dcgan_inpaint import config as config_lib
from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import benchmark
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.jobs import export
from dcgan_inpaint.jobs import inpaint
from dcgan_inpaint.jobs import throughput
from dcgan_inpaint.jobs import train
from dcgan_inpaint.jobs import train_encoder
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.networks import flops
from dcgan_inpaint.runtime import errors

# Each shape compiles every job anew. What needs no job is tested beside its
# module.
pytestmark = pytest.mark.slow

SHAPES = [(32, 32, 1), (128, 128, 3), (256, 256, 1)]


def of_shape(shape):
  """Returns the fields of a config that make images of a shape."""
  return {"model__image_size": shape[0], "model__image_channels": shape[2]}


@pytest.fixture(
  scope="module",
  params=SHAPES,
  ids=str,
)
def run(request, tmp_path_factory):
  """Returns a shape and the workdir of a training of two steps with it."""
  workdir = tmp_path_factory.mktemp("run")
  config = tiny.train_config(
    **of_shape(request.param),
    train__steps=2,
    train__save_every=2,
    train__sample_every=2,
    train__validation_images=1,
    evaluation__methods="mean_image,dcgan",
  )
  rows = train.run_and_evaluate(config, str(workdir), tiny.mesh(4))
  assert [row.get("method") for row in rows] == [None, "mean_image", "dcgan"]
  return request.param, workdir


def image_of(path):
  with Image.open(path) as image:
    return np.asarray(image)


def test_a_training_leaves_pictures_of_its_size(run):
  shape, workdir = run
  grid = 8 * (shape[0] + 2) + 2
  channels = shape[2:] if shape[2] == 3 else ()
  assert image_of(workdir / "mean_image.png").shape == shape[:2] + channels
  (samples,) = (workdir / "samples").iterdir()
  assert image_of(samples).shape == (grid, grid, *channels)
  scale = max(1, 128 // shape[0])
  sheet = image_of(workdir / "contact_sheet.png")
  assert sheet.shape[0] == 5 * (scale * shape[0] + 4)


def test_it_is_scored_on_holes_that_have_grown_with_the_image(run):
  shape, workdir = run
  config = tiny.train_config(evaluation__methods="mean_image").to_dict()
  scored = config_lib.evaluate_job()
  scored.data.update(name="synthetic", max_images=8)
  scored.checkpoint.path = str(workdir)
  scored.evaluation.update(config["evaluation"], images=4)
  (row,) = evaluate.run(scored, str(workdir / "scored"), tiny.mesh(4))
  assert row["mask"] == f"centre {shape[0] // 2}"
  faces = synthetic.load("test", 4, 0, shape[0], shape[2])
  quarter = slice(shape[0] // 4, shape[0] * 3 // 4)
  mean = np.mean(
    synthetic.load("train", 16, 0, shape[0], shape[2]), axis=0
  ).round()
  error = (np.float64(faces) - mean)[:, quarter, quarter] ** 2
  assert row["hole_mse"] == pytest.approx(error.mean(), rel=1e-5)
  assert row["mse"] == pytest.approx(error.mean() / 4, rel=1e-5)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
  """Returns a shape, and a model of it with an encoder, exported."""
  shape, workdir = run
  encoder, folder = (tmp_path_factory.mktemp(x) for x in ("encoder", "model"))
  config = tiny.encoder_config(
    workdir,
    encoder__steps=1,
    encoder__save_every=1,
    encoder__mask_pool=4,
    encoder__families="centre,text",
  )
  train_encoder.run(config, str(encoder), tiny.mesh(4))
  config = config_lib.export_job()
  config.output = str(folder)
  config.checkpoint.update(path=str(workdir), encoder=str(encoder))
  config.checkpoint.step = "latest"
  export.run(config, "", tiny.mesh(1))
  return shape, folder


def test_an_exported_model_with_its_encoder_fills_arrays(exported):
  shape, folder = exported
  model = dcgan_inpaint.load_pretrained(str(folder))
  assert model.image_shape == model.mean_image.shape == shape
  faces = synthetic.load("test", 2, 0, shape[0], shape[2])
  masks = mask_sets.make(mask_settings.MaskSettings(), range(2), *shape[:2])
  filled = dcgan_inpaint.inpaint(faces, 1 - masks, model=model, refine_steps=1)
  assert filled.shape == faces.shape and filled.dtype == np.uint8
  known = np.broadcast_to(masks > 0.5, faces.shape)
  np.testing.assert_array_equal(filled[known], faces[known])
  assert np.any(filled[~known] != faces[~known])
  # Images of another size are photographs; a mask must have theirs.
  with pytest.raises(
    errors.UserError, match=rf"image of {shape[0] - 1}x{shape[0]}"
  ):
    dcgan_inpaint.inpaint(faces[:, 1:], 1 - masks, model=model)


def test_it_fills_photographs(exported, tmp_path):
  shape, folder = exported
  side = 3 * shape[0] // 2
  (face,) = synthetic.load("test", 1, 0, shape[0], shape[2])
  # Files are RGB; a grey model is for grey photographs.
  face = np.repeat(face, 3 // shape[2], axis=-1)
  (tmp_path / "photographs").mkdir()
  large = Image.fromarray(face).resize((side, side), Image.Resampling.LANCZOS)
  large.save(tmp_path / "photographs" / "large.png")
  Image.fromarray(face).save(tmp_path / "photographs" / "face.png")
  config = config_lib.inpaint_job()
  config.input = str(tmp_path / "photographs")
  config.faces = "whole"
  config.checkpoint.path = str(folder)
  config.search.update(mode="fidelity", refine_steps=1)
  config.strips = "masked"
  (row,) = inpaint.run(config, str(tmp_path), tiny.mesh(4))
  assert (row["n"], row["failed"]) == (2, 0)
  for name, before in (("large", np.asarray(large)), ("face", face)):
    after = image_of(tmp_path / "completed" / f"{name}.png")
    assert after.shape == before.shape
    quarter = len(before) // 4
    hole = np.zeros(before.shape[:2], bool)
    hole[quarter:-quarter, quarter:-quarter] = True
    np.testing.assert_array_equal(after[~hole], before[~hole])
    assert np.any(after[hole] != before[hole])
    if shape[2] == 1:
      assert np.ptp(after[hole], axis=-1).max() == 0
  sheet = image_of(tmp_path / "contact_sheet.png")
  assert sheet.shape[0] == 4 * (max(1, 128 // shape[0]) * shape[0] + 4)


def test_a_benchmark_takes_the_size_of_its_model(exported, tmp_path):
  shape, folder = exported
  config = config_lib.benchmark_job()
  config.checkpoint.path = str(folder)
  config.data.max_images = 6
  config.benchmark.update(
    methods="mean_image,harmonic,dcgan_fidelity", masks="centre,text", images=2
  )
  rows = benchmark.run(config, str(tmp_path), tiny.mesh(4))
  assert {row["mask"] for row in rows} == {
    f"centre {shape[0] // 2}", "text 10 %"
  }  # fmt: skip
  assert all(np.isfinite(row["hole_mse"]) for row in rows)
  assert (tmp_path / "report.html").stat().st_size > 10_000
  with (tmp_path / "results.csv").open() as file:
    assert len(list(csv.reader(file))) > len(rows)


def test_throughput_counts_the_models_operations(tmp_path):
  config = config_lib.benchmark_throughput_job()
  config.model.update(width=tiny.WIDTH, latent_size=5)
  config.model.update(image_size=32, image_channels=1)
  config.train.batch_size = config.search.batch_size = 8
  config.search.update(starts=1, steps=1)
  config.throughput.update(
    rounds=1, seconds=1e-3, peak_size=64, recompile=False, devices="1"
  )
  rows = throughput.run(config, str(tmp_path), tiny.mesh(1))
  assert [row["what"] for row in rows] == ["train", "search"]
  shape = (32, 32, 1)
  operations = [
    8 * flops.train_step(tiny.WIDTH, 5, shape),
    8 * flops.search_step(tiny.WIDTH, 5, shape),
  ]
  for row, expected in zip(rows, operations, strict=True):
    seconds = row["milliseconds_per_step"] / 1e3
    found = row["gigaflops_per_second"] * 1e9 * seconds
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES[:1], ids=str)
@pytest.mark.parametrize(
  "name", [name for name, spec in methods.METHODS.items() if not spec.trained]
)
def test_every_method_fills_grey_images(name, shape):
  if name not in methods.names("all"):
    pytest.skip("its library is missing")
  training = synthetic.load("train", 64, 0, shape[0], shape[2])
  images = pixels.to_float(synthetic.load("test", 3, 0, shape[0], shape[2]))
  masks = mask_sets.make(
    mask_settings.MaskSettings(family="strokes"), range(3), *shape[:2]
  )

  def complete(images):
    method = methods.create(
      name, None, None, tiny.mesh(1), images.shape, training=lambda: training
    )
    return method(np.where(masks > 0.5, images, np.nan), masks).completed

  completed = complete(images)
  assert completed.shape == images.shape
  known = np.broadcast_to(masks > 0.5, images.shape)
  np.testing.assert_array_equal(completed[known], images[known])
  if methods.METHODS[name].family in ("texture", "exemplar"):
    # What is copied may be worse than grey, but is what three equal channels
    # would have.
    coloured = complete(images.repeat(3, axis=-1))
    np.testing.assert_allclose(
      completed.repeat(3, axis=-1), coloured, atol=2 / 255
    )
  else:
    error = np.mean((completed - images)[~known] ** 2)
    assert error < 0.7 * np.mean(images[~known] ** 2)


def test_digits_are_learned_in_grey_and_filled(tmp_path):
  """A data set of another kind: 8x8 digits of scikit-learn, enlarged."""
  datasets = pytest.importorskip("sklearn.datasets")
  digits = datasets.load_digits().images  # [1797, 8, 8], 0 to 16.
  (tmp_path / "digits").mkdir()
  for number, digit in enumerate(digits):
    image = Image.fromarray(np.uint8(np.minimum(255, 16 * digit)))
    image.save(tmp_path / "digits" / f"{number:04d}.png")
  config = digits_config.get_config()
  config.data.path = str(tmp_path / "digits")
  config.train.update(steps=400, save_every=400, sample_every=0)
  config.train.validation_images = 0
  config.search.update(starts=1, steps=150)
  config.evaluation.update(images=32, methods="mean_image,harmonic,dcgan")
  workdir = tmp_path / "run"
  rows = train.run_and_evaluate(config, str(workdir), tiny.mesh(1))
  scores = {row["method"]: row for row in rows if "method" in row}
  assert {row["mask"] for row in scores.values()} == {"centre 16"}
  # A digit's middle is not that of the mean digit, nor smooth.
  found = scores["dcgan"]["hole_mse"]
  assert found < 0.8 * scores["mean_image"]["hole_mse"]
  assert found < 0.8 * scores["harmonic"]["hole_mse"]
  stored = json.loads((workdir / "config.json").read_text())
  assert stored["model"]["image_channels"] == 1
