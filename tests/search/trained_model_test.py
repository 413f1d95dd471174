import re
import shutil

import jax
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.training import metric_writer


def section(path, step="best"):
  config = config_lib.checkpoint()
  config.path, config.step = str(path), step
  return config


def load(path, step="best", devices=1):
  return trained_model.load(section(path, step), tiny.mesh(devices))


@pytest.fixture(scope="module")
def model(trained_run):
  return load(trained_run, "latest")


@pytest.mark.parametrize("step", ["latest", "3"])
def test_the_average_and_the_discriminator_of_a_step_are_loaded(
  trained_run, step
):
  model = load(trained_run, step, devices=4)
  assert model.step == {"latest": 6, "3": 3}[step]
  state = tiny.saved_state(trained_run, model.step)
  jax.tree.map(
    np.testing.assert_array_equal,
    (model.weights.generator, model.weights.discriminator),
    (state.generator_ema, state.discriminator),
  )
  for leaf in jax.tree.leaves(model.weights):
    assert len(leaf.devices()) == 4
  # The average lags behind the generator, so they differ.
  kernels = [
    tree["params"]["dense"]["kernel"]
    for tree in (state.generator_ema, state.generator)
  ]
  assert np.any(kernels[0] != kernels[1])


def test_the_best_is_the_one_with_the_lowest_inversion_mse(trained_run):
  rows = [
    (row["inversion_mse"], row["step"])
    for row in metric_writer.read(trained_run / "metrics.jsonl")
    if "inversion_mse" in row
  ]
  assert len(rows) == 2
  assert load(trained_run).step == min(rows)[1]


def test_a_model_knows_its_config_and_the_mean_of_its_images(
  model, trained_run
):
  assert model.config.model.width == tiny.WIDTH
  assert model.config.train.loss == "sigmoid_cross_entropy"
  np.testing.assert_array_equal(
    model.mean_image, np.asarray(Image.open(trained_run / "mean_image.png"))
  )


# Orbax's pending work at the time of the damage ends in a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broken_latest_gives_way_and_a_broken_choice_is_refused(
  trained_run, tmp_path, caplog
):
  workdir = tmp_path / "run"
  shutil.copytree(trained_run, workdir)
  for path in (workdir / "checkpoints" / "6" / "state").rglob("d/*"):
    path.write_bytes(path.read_bytes()[:100])
  assert load(workdir, "latest").step == 3
  assert re.search("checkpoint 6 of .* cannot be read", caplog.text)
  # A step that is named is never replaced by another.
  with pytest.raises(errors.UserError, match="can be read .6: .* try latest"):
    load(workdir, "6")


def test_the_mean_image_of_another_size_is_refused(trained_run, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(trained_run, workdir)
  pictures.save_png(workdir / "mean_image.png", np.zeros((32, 32), np.uint8))
  with pytest.raises(errors.UserError, match=r"mean_image\.png.*32.*64"):
    load(workdir, "latest")


def test_a_step_that_is_not_there_is_refused(trained_run):
  with pytest.raises(errors.UserError, match="step='5': .* one of 3, 6"):
    load(trained_run, "5")


def test_a_workdir_that_is_none_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match="config.checkpoint.path="):
    load(tmp_path)


def settings(**fields):
  config = config_lib.search()
  config.update({"steps": 2, "batch_size": 4, **fields})
  return search_settings.resolve(config)


def test_a_search_of_another_number_of_logits_is_refused(model):
  with pytest.raises(
    errors.UserError, match="config.search.loss='softmax_cross_entropy'.* 2 "
  ):
    trained_model.make_search(
      model.networks, settings(loss="softmax_cross_entropy"), tiny.mesh(1)
    )


@pytest.mark.slow
def test_the_search_generates_what_the_trained_generator_does(model):
  search = trained_model.make_search(model.networks, settings(), tiny.mesh(4))
  rng = np.random.default_rng(0)
  images = np.float32(rng.uniform(-1, 1, (2, 64, 64, 3)))
  masks = np.ones((2, 64, 64, 1), np.float32)
  masks[:, 16:48, 16:48] = 0
  found = search(model.weights, images, masks)
  generated = model.networks.generator.apply(
    model.weights.generator, found.latent, train=False
  )
  np.testing.assert_allclose(found.generated, generated, atol=1e-5)
  known = np.broadcast_to(masks > 0, images.shape)
  np.testing.assert_array_equal(found.completed[known], images[known])


@pytest.mark.parametrize(
  "value, expected",
  [
    ("A", [("A",)]),
    ("A,B", [("A", "B")]),
    ("A, B + C", [("A", "B"), ("C",)]),
    (("A", "B"), [("A",), ("B",)]),
    ((("A", "B"), "C"), [("A", "B"), ("C",)]),
    (("a, b + c",), [("a, b + c",)]),
    # The text is the name of an existing folder.
    ("here, there + now", [("here, there + now",)]),
  ],
)
def test_several_encoders_are_named_in_tuples_or_text(
  tmp_path, monkeypatch, value, expected
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "here, there + now").mkdir()
  assert trained_model._encoders(value) == expected
