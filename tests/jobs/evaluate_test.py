import functools
import importlib.util

import jax
import numpy as np
from PIL import Image
import pytest
from scipy import stats
from skimage import metrics as skimage_metrics
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.methods import ppca
from dcgan_inpaint.methods import ridge
from dcgan_inpaint.metrics import features
from dcgan_inpaint.metrics import realism
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import blending
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model

# What these tests hold is not how a model is loaded.
pytestmark = pytest.mark.usefixtures("kept_models")


def expected_scores(completed, originals, masks):
  """The scores image by image, by numpy and scikit-image: {name: [N]}."""
  scores = {name: [] for name in ("mse", "psnr", "ssim", "ssim_gaussian")}
  scores |= {name: [] for name in ("hole_mse", "hole_psnr")}
  for x, y, mask in zip(completed, originals, masks, strict=True):
    squared = (x.astype(np.float64) - y) ** 2
    hole = squared[np.broadcast_to(mask < 0.5, squared.shape)]
    ssim = {"channel_axis": -1, "data_range": 255}
    gaussian = {
      "gaussian_weights": True,
      "sigma": 1.5,
      "use_sample_covariance": False,
    }
    for name, value in {
      "mse": squared.mean(),
      "psnr": 10 * np.log10(255**2 / squared.mean()),
      "ssim": skimage_metrics.structural_similarity(x, y, **ssim),
      "ssim_gaussian": skimage_metrics.structural_similarity(
        x, y, **ssim, **gaussian
      ),
      "hole_mse": hole.mean(),
      "hole_psnr": 10 * np.log10(255**2 / hole.mean()),
    }.items():
      scores[name].append(value)
  return {name: np.array(values) for name, values in scores.items()}


def assert_scored(row, completed, originals, masks):
  for name, values in expected_scores(completed, originals, masks).items():
    assert row[name] == pytest.approx(values.mean(), rel=1e-4), name
    # Student's t: few images give wide intervals.
    t = stats.t.ppf(0.975, len(values) - 1)
    interval = t * values.std(ddof=1) / np.sqrt(len(values))
    assert row[f"{name}_ci95"] == pytest.approx(interval, rel=1e-3), name


def test_scores_are_those_of_numpy_and_scikit_image(monkeypatch):
  # Five images in batches of two: the mean is over images, not over batches.
  monkeypatch.setattr(evaluate, "_BATCH", 2)
  rng = np.random.default_rng(0)
  originals = synthetic.load("test", 5)
  noise = rng.normal(
    0, np.arange(1, 6)[:, None, None, None] * 8, (5, 64, 64, 3)
  )
  masks = np.float32(rng.random((5, 64, 64, 1)) < 0.6)
  completed = np.where(masks > 0, originals, np.clip(originals + noise, 0, 255))
  completed = completed.astype(np.uint8)
  filled = evaluate.Filled(completed, None, np.zeros(5, bool), 1.0)
  row = evaluate.score(evaluate.metrics(filled, originals, masks))
  assert_scored(row, completed, originals, masks)


def test_an_image_that_a_method_fails_on_costs_itself_alone(
  caplog, monkeypatch
):
  # Of which the test before has compiled the metrics.
  monkeypatch.setattr(evaluate, "_BATCH", 2)
  images = pixels.to_float(synthetic.load("test", 5))
  masks = np.ones((5, 64, 64, 1), np.float32)
  masks[:, 20:40, 20:40] = 0

  def method(images, masks, indices):
    if 1 in indices:
      raise FloatingPointError("it diverged")
    completed = np.where(masks > 0.5, images, np.float32(0.5))
    completed[np.equal(indices, 3), 30, 30, 2] = np.nan
    return methods.Completion(completed)

  filled = evaluate.fill(method, images, masks)
  np.testing.assert_array_equal(filled.failed, [0, 1, 0, 1, 0])
  assert "image 1 failed: FloatingPointError: it diverged" in caplog.text
  good = np.flatnonzero(~filled.failed)
  np.testing.assert_array_equal(
    filled.completed[good],
    pixels.to_uint8(np.where(masks > 0.5, images, np.float32(0.5)))[good],
  )
  originals = pixels.to_uint8(images)
  metrics = evaluate.metrics(filled, originals, masks)
  for values in metrics.values():
    np.testing.assert_array_equal(np.isnan(values), filled.failed)
  row = evaluate.score(metrics)
  assert_scored(row, filled.completed[good], originals[good], masks[good])


def test_a_mistake_of_the_user_ends_the_run():
  def method(images, masks, indices):
    raise errors.UserError("config.search.steps is too many")

  with pytest.raises(errors.UserError, match="too many"):
    evaluate.fill(method, np.zeros((2, 4, 4, 3)), np.ones((2, 4, 4, 1)))


@pytest.fixture(scope="module")
def outcome(trained_run, tmp_path_factory):
  """An evaluation: its workdir, its rows, and what each method was given."""
  workdir = tmp_path_factory.mktemp("evaluate")
  config = config_lib.evaluate_job()
  config.checkpoint.path = str(trained_run)
  config.masks, config.mask.size = "box", 20
  config.data.max_images = 20  # To which `raw` is fitted.
  config.evaluation.images = 3
  config.evaluation.methods = "mean_image, dcgan"
  config.evaluation.features = "raw"
  config.evaluation.samples = 5
  config.search.update({"steps": 2, "batch_size": 4, "seed": 7})
  calls = []
  create = methods.create

  def spy(name, *args, **options):
    method = create(name, *args, **options)

    def call(images, masks, indices):
      completion = method(images, masks, indices)
      calls.append((name, images, masks, completion))
      return completion

    return call

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(methods, "create", spy)
    *rows, samples = evaluate.run(config, str(workdir), tiny.mesh(4))
  return workdir, rows, calls, samples


def test_every_method_fills_the_same_holes_of_the_same_images(outcome):
  _, rows, calls, _ = outcome
  assert [row["method"] for row in rows] == ["mean_image", "dcgan"]
  assert [call[0] for call in calls] == ["mean_image", "dcgan"]
  for _, images, masks, completion in calls:
    np.testing.assert_array_equal(
      images, pixels.to_float(synthetic.load("test", 3))
    )
    np.testing.assert_array_equal(masks, calls[0][2])
    # The holes are boxes of 20 pixels, each image's at its own place.
    np.testing.assert_array_equal((1 - masks).sum((1, 2, 3)), 400)
    known = np.broadcast_to(masks > 0, images.shape)
    np.testing.assert_array_equal(completion.completed[known], images[known])
  assert len({row["mask_digest"] for row in rows}) == 1
  expected = data.digest(synthetic.load("test", 3), range(3))
  assert {row["data_digest"] for row in rows} == {expected}


def test_a_row_scores_what_its_method_made(outcome):
  _, rows, calls, _ = outcome
  originals = synthetic.load("test", 3)
  for row, (_, _, masks, completion) in zip(rows, calls, strict=True):
    completed = pixels.to_uint8(completion.completed)
    assert_scored(row, completed, originals, masks)
    assert row["n"] == 3 and row["images_per_second"] > 0
    assert row["mask"] == "box 20"


def test_a_row_has_the_realism_of_what_its_method_made(outcome):
  _, rows, calls, _ = outcome
  raw = features.create("raw", reference=synthetic.load("train", 20))
  originals = synthetic.load("test", 3)
  for row, (_, _, masks, completion) in zip(rows, calls, strict=True):
    completed = pixels.to_uint8(completion.completed)
    expected = realism.evaluate(completed, originals, masks, [raw])
    assert expected["raw_kid"] != 0 and expected["raw_n"] == 3
    assert {name: row[name] for name in expected} == pytest.approx(
      expected, rel=1e-5, nan_ok=True
    )


def test_samples_of_the_generator_are_scored(outcome, trained_run):
  *_, row = outcome
  saved = tiny.saved_state(trained_run, 6).generator_ema
  generator, _ = tiny.networks()

  @jax.jit
  def draw(number):
    key = jax.random.fold_in(jax.random.key(7), number)
    return dcgan.sample_latents(key, 1, tiny.LATENT_SIZE)

  latents = np.concatenate([draw(i) for i in range(5)])
  generate = jax.jit(functools.partial(generator.apply, train=False))
  samples = pixels.to_uint8(generate(saved, latents))
  raw = features.create("raw", reference=synthetic.load("train", 20))
  expected = realism.score_samples(samples, synthetic.load("test", 3), [raw])
  assert row["samples"] == 5 and expected["raw_kid"] != 0
  assert {name: row[name] for name in expected} == pytest.approx(
    expected, rel=1e-2, nan_ok=True
  )


def test_the_contact_sheet_shows_every_image_in_every_row(outcome):
  workdir, *_ = outcome
  with Image.open(workdir / "contact_sheet.png") as sheet:
    # Three columns of twice 64 pixels; rows: original, masked, the mean image,
    # G(z), completed.
    assert sheet.width > 3 * 2 * 64
    assert 5 * 2 * 64 < sheet.height < 6 * 2 * 64


def test_an_unknown_method_is_refused_before_anything_is_loaded(tmp_path):
  config = config_lib.evaluate_job()
  config.evaluation.methods = "mean_image,lama"
  with pytest.raises(errors.UserError, match="'lama': choose among harmonic, "):
    evaluate.run(config, str(tmp_path), tiny.mesh(1))


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"evaluation__methods": "dcgan,telae"}, "'telae': choose among"),
    ({"mask__size": 99.0}, "config.mask.size is 99.0"),
    ({"search__optimizer": "adamm"}, "config.search.optimizer='adamm'"),
    ({"search__batch_size": 3}, "config.search.batch_size=3: 4 devices"),
    ({"search__loss": "softmax_cross_entropy"}, "wants 2 logits.* 1: leave"),
    (
      {"evaluation__features": "dlib,vgg"},
      "features names 'vgg': .* inception",
    ),
    ({"evaluation__features": "inception"}, "config.evaluation.inception"),
    ({"evaluation__samples": 1}, "config.evaluation.samples=1 is too few"),
  ],
)
def test_what_scoring_would_refuse_is_refused_before_training(fields, message):
  config = tiny.train_config(**fields)
  with pytest.raises(errors.UserError, match=message):
    evaluate.check(config, tiny.mesh(4))


@pytest.mark.parametrize("split", ["train", "all"])
def test_a_method_is_not_scored_on_the_images_it_is_fitted_to(split):
  config = tiny.train_config(
    data__split=split, evaluation__methods="mean_image,ridge"
  )
  with pytest.raises(errors.UserError, match=f"'ridge'.*split='{split}'"):
    evaluate.check(config, tiny.mesh(4))


def test_methods_that_learn_are_given_the_training_split(tmp_path, trained_run):
  config = config_lib.evaluate_job()
  config.checkpoint.path = str(trained_run)
  config.data.max_images = 20
  config.evaluation.images = 2
  config.evaluation.methods = "ridge,ppca"
  fitted = []
  with pytest.MonkeyPatch.context() as patch:
    for method in (ridge, ppca):
      patch.setattr(method, "fit", fitted.append)
      patch.setattr(
        method, "complete", lambda images, masks, fitted: np.float32(images)
      )
    evaluate.run(config, str(tmp_path), tiny.mesh(4))
  for images in fitted:
    np.testing.assert_array_equal(images, synthetic.load("train", 20))
  assert len(fitted) == 2


def test_methods_whose_library_is_missing_are_refused_at_once(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  config = tiny.train_config(evaluation__methods="telea")
  with pytest.raises(errors.UserError, match="needs OpenCV: pip install"):
    evaluate.check(config, tiny.mesh(4))


@pytest.mark.parametrize(
  "masks, fields, label",
  [
    ("half", {"side": "top"}, "top half"),
    ("half:side=top", {}, "top half"),
    ("file:path=mask.png", {}, "mask.png"),
    ("mask.png", {}, "mask.png"),
    ("file", {"path": "mask.png"}, "mask.png"),
  ],
)
def test_one_field_names_the_holes(
  trained_run, tmp_path, monkeypatch, masks, fields, label
):
  monkeypatch.chdir(tmp_path)
  top = np.zeros((64, 64), np.uint8)
  top[:32] = 255
  pictures.save_png(tmp_path / "mask.png", top)
  config = config_lib.evaluate_job()
  config.checkpoint.path = str(trained_run)
  config.masks = masks
  config.mask.update(fields)
  config.evaluation.update(
    {"images": 2, "methods": ("mean_image",), "contact_sheet": 0}
  )
  (row,) = evaluate.run(config, str(tmp_path), tiny.mesh(4))
  assert row["mask"] == label
  holes = np.tile(np.float32(top[None, ..., None] == 0), (2, 1, 1, 1))
  assert row["mask_digest"] == mask_sets.digest(holes)


# A search itself is tested with every mode in search/ensemble_test.py.
@pytest.mark.slow
@pytest.mark.parametrize("mode", blending.MODES)
def test_what_the_search_found_is_blended_as_the_config_says(trained_run, mode):
  config = evaluate.of_training(
    tiny.train_config(search__blending=mode), str(trained_run)
  )
  mesh = tiny.mesh(4)
  model = trained_model.load(config.checkpoint, mesh)
  images = pixels.to_float(synthetic.load("test", 3))
  masks = mask_sets.make(mask_settings.MaskSettings(), range(3), 64, 64)
  settings = search_settings.resolve(config.search)
  method = methods.create("dcgan", model, settings, mesh, images.shape)
  completion = method(images, masks)
  np.testing.assert_array_equal(
    completion.completed,
    blending.blend(mode, completion.generated, images, masks),
  )
