import functools
import json
import shutil

import jax
import numpy as np
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.jobs import export
from dcgan_inpaint.jobs import train_encoder
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import metric_writer

# Orbax's pending work at the time of the damage ends in a warning, at any time.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


def run(trained_run, workdir, devices=4, **fields):
  return train_encoder.run(
    tiny.encoder_config(trained_run, **fields), str(workdir), tiny.mesh(devices)
  )


@pytest.fixture(scope="module")
def encoder_run(trained_run, tmp_path_factory):
  """Returns the workdir of a training of 4 steps."""
  workdir = tmp_path_factory.mktemp("encoder_run")
  (row,) = run(trained_run, workdir)
  assert row["steps"] == 4 and row["completion_mse"] > 0
  return workdir


def load(trained_run, encoder_run, devices=1):
  config = config_lib.checkpoint()
  config.path, config.step = str(trained_run), "latest"
  config.encoder = str(encoder_run)
  return trained_model.load(config, tiny.mesh(devices))


@pytest.mark.slow
def test_a_run_leaves_checkpoints_metrics_and_pictures(encoder_run):
  rows = metric_writer.read(encoder_run / "metrics.jsonl")
  assert [row["step"] for row in rows if "hole_mse" in row] == [1, 2, 3, 4]
  assert [row["step"] for row in rows if "completion_mse" in row] == [2, 4]
  assert sorted(
    path.name for path in (encoder_run / "completed").iterdir()
  ) == [
    "step_000002.png",
    "step_000004.png",
  ]
  config = json.loads((encoder_run / "config.json").read_text())
  assert config["encoder"]["steps"] == 4


@pytest.mark.slow
def test_the_best_encoder_is_loaded_with_its_generator(
  trained_run, encoder_run
):
  model = load(trained_run, encoder_run)
  rows = [
    (row["completion_mse"], row["step"])
    for row in metric_writer.read(encoder_run / "metrics.jsonl")
    if "completion_mse" in row
  ]
  with checkpoints_lib.existing(
    str(encoder_run), metric=checkpoints_lib.COMPLETION_MSE
  ) as checkpoints:
    (best,) = checkpoints.candidates("best")
  # Two checkpoints may be as good, on 8-bit pixels.
  assert (min(rows)[0], best) in rows
  images = np.zeros((1, 64, 64, 3), np.float32)
  guess = model.encoder.apply(model.weights.encoder, images, images[..., :1])
  assert guess.offset.shape[1:3] == (4, 4) and len(guess.features) == 3


@pytest.mark.slow
def test_one_and_four_devices_train_the_same(
  trained_run, encoder_run, tmp_path
):
  run(trained_run, tmp_path, devices=1)
  curves = [
    [
      row["hole_mse"]
      for row in metric_writer.read(workdir / "metrics.jsonl")
      if "hole_mse" in row
    ]
    for workdir in (tmp_path, encoder_run)
  ]
  np.testing.assert_allclose(*curves, rtol=1e-4)


@pytest.mark.slow
def test_the_encoder_of_another_generator_is_refused(
  trained_run, encoder_run, tmp_path
):
  config = config_lib.checkpoint()
  config.path, config.step = str(trained_run), "3"
  config.encoder = str(encoder_run)
  with pytest.raises(errors.UserError, match="config.checkpoint.encoder="):
    trained_model.load(config, tiny.mesh(1))
  with pytest.raises(errors.UserError, match="another generator"):
    run(trained_run, encoder_run, checkpoint__step="3")


@pytest.mark.slow
@pytest.mark.parametrize(
  "field, value",
  [("encoder.width", 0.05), ("encoder.learning_rate", 0.5), ("seed", 3)],
)
def test_another_config_is_refused_by_its_fields(
  trained_run, encoder_run, field, value
):
  with pytest.raises(errors.UserError, match=f"config.{field}={value}"):
    run(trained_run, encoder_run, **{field.replace(".", "__"): value})


@pytest.mark.slow
def test_a_broken_encoder_is_refused_in_a_line(
  trained_run, encoder_run, tmp_path
):
  shutil.copytree(encoder_run, tmp_path, dirs_exist_ok=True)
  for path in (tmp_path / "checkpoints").rglob("state/**/d/*"):
    path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(
    errors.UserError, match="no checkpoint in .* can be read .*encoder"
  ) as refused:
    load(trained_run, tmp_path)
  assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_warm_start_goes_on_from_the_given_encoder(
  trained_run, encoder_run, tmp_path
):
  # Without a learning rate the steps leave it where it starts.
  run(
    trained_run,
    tmp_path / "more",
    checkpoint__encoder=str(encoder_run),
    encoder__warm_start=True,
    encoder__learning_rate=0.0,
  )
  before = load(trained_run, encoder_run).weights.encoder
  after = load(trained_run, tmp_path / "more").weights.encoder
  jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.slow
def test_a_warm_start_may_have_a_higher_rank(
  trained_run, encoder_run, tmp_path
):
  run(
    trained_run,
    tmp_path / "wider",
    devices=1,
    checkpoint__encoder=str(encoder_run),
    encoder__warm_start=True,
    encoder__learning_rate=0.0,
    encoder__rank=40,
    encoder__validation_images=0,
  )
  before = load(trained_run, encoder_run).weights.encoder["params"]
  model = load(trained_run, tmp_path / "wider")
  after = model.weights.encoder["params"]
  assert model.encoder.rank == 40
  assert after["out"]["kernel"].shape[0] == 40
  np.testing.assert_array_equal(
    after["out"]["kernel"][:31], before["out"]["kernel"]
  )


@pytest.fixture(scope="module")
def plain_run(trained_run, tmp_path_factory):
  """Returns the workdir of an encoder without skips."""
  workdir = tmp_path_factory.mktemp("plain_run")
  run(trained_run, workdir, devices=1, **PLAIN)
  return workdir


# Without learning, so that the initial values can be compared.
PLAIN = {
  "encoder__skips": False,
  "encoder__learning_rate": 0.0,
  "encoder__validation_images": 0,
}


@pytest.mark.slow
def test_a_warm_start_may_add_skips(trained_run, plain_run, tmp_path):
  run(
    trained_run,
    tmp_path,
    devices=1,
    checkpoint__encoder=str(plain_run),
    encoder__warm_start=True,
    **PLAIN | {"encoder__skips": True},
  )
  before, after = (load(trained_run, path) for path in (plain_run, tmp_path))
  assert not before.encoder.skips and len(after.encoder.skips) == 3
  given, grown = (dict(x.weights.encoder["params"]) for x in (before, after))
  for layer in (2, 3, 4):
    # Its output is unchanged.
    assert not np.any(grown.pop(f"skip_{layer}")["out"]["kernel"])
  jax.tree.map(np.testing.assert_array_equal, given, grown)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("warm_start", "message"),
  [(True, "leave config.encoder.skips=True"), (False, "skips=False")],
)
def test_skips_are_not_dropped(
  trained_run, encoder_run, tmp_path, warm_start, message
):
  workdir = encoder_run
  fields = {"encoder__skips": False}
  if warm_start:
    workdir = tmp_path
    fields |= {
      "encoder__warm_start": True,
      "checkpoint__encoder": str(encoder_run),
    }
  with pytest.raises(errors.UserError, match=message):
    run(trained_run, workdir, **fields)


@pytest.mark.slow
def test_several_trainings_give_the_mean_of_their_weights(
  trained_run, encoder_run, plain_run, tmp_path
):
  fields = {"encoder__dropout": 0.5, "encoder__validation_images": 0}
  for seed in (1, 2):
    run(
      trained_run,
      tmp_path / str(seed),
      devices=1,
      seed=seed,
      encoder__steps=1,
      **fields,
    )
  runs = [encoder_run, tmp_path / "1", tmp_path / "2"]
  mean = load(trained_run, ", ".join(map(str, runs)))
  assert mean.encoder.dropout == 0  # It is the first one's.

  def check(actual, *each):
    np.testing.assert_allclose(actual, np.mean(each, axis=0), atol=1e-6)

  alone = (load(trained_run, path).weights.encoder for path in runs)
  jax.tree.map(check, mean.weights.encoder, *alone)
  with pytest.raises(errors.UserError, match="skips than"):
    load(trained_run, f"{encoder_run},{plain_run}")


@pytest.mark.slow
def test_several_trainings_may_stay_encoders_of_their_own(
  trained_run, encoder_run, tmp_path
):
  fields = {"encoder__steps": 1, "encoder__validation_images": 0}
  for seed in (1, 2):
    run(trained_run, tmp_path / str(seed), devices=1, seed=seed, **fields)
  runs = [encoder_run, tmp_path / "1", tmp_path / "2"]
  first, second, third = (
    load(trained_run, path).weights.encoder for path in runs
  )
  model = load(trained_run, f"{runs[0]}, {runs[1]} + {runs[2]}")
  mean = load(trained_run, f"{runs[0]},{runs[1]}").weights.encoder
  jax.tree.map(np.testing.assert_array_equal, model.weights.encoder, mean)
  (other,) = model.weights.other_encoders
  jax.tree.map(np.testing.assert_array_equal, other, third)

  # Exported and read again, as a model and as encoders of that generator.
  config = config_lib.export_job()
  config.checkpoint.path = str(trained_run)
  config.checkpoint.step = "latest"
  three = tuple(map(str, runs))
  for name, encoder in (("three", three), ("one", str(runs[0]))):
    config.checkpoint.encoder = encoder
    config.output = str(tmp_path / name)
    export.run(config, "", tiny.mesh(1))
  settings = config_lib.checkpoint()
  settings.path = str(tmp_path / "three")

  def read():
    weights = trained_model.load(settings, tiny.mesh(1)).weights
    return [weights.encoder, *weights.other_encoders]

  close = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-6)
  jax.tree.map(close, there := read(), [first, second, third])
  settings.encoder = f"{settings.path}+{tmp_path / 'one'}"
  jax.tree.map(np.testing.assert_array_equal, read(), [*there, there[0]])
  settings.encoder = ((settings.path, str(tmp_path / "one")),)
  with pytest.raises(errors.UserError, match="has 1 encoders, and what stands"):
    read()
  # The exported generator was rounded.
  settings.path, settings.step = str(trained_run), "latest"
  with pytest.raises(errors.UserError, match="was trained for the generator"):
    read()


@pytest.mark.slow
def test_a_warm_start_may_begin_the_dense_layers_anew(
  trained_run, encoder_run, tmp_path
):
  fields = {"encoder__learning_rate": 0.0, "encoder__validation_images": 0}
  for name, more in (
    ("new", {}),
    (
      "other",
      {
        "checkpoint__encoder": str(encoder_run),
        "encoder__warm_start": True,
        "encoder__fresh_dense": True,
      },
    ),
  ):
    run(trained_run, tmp_path / name, devices=1, seed=7, **fields, **more)
  before, anew, after = (
    load(trained_run, path).weights.encoder["params"]
    for path in (encoder_run, tmp_path / "new", tmp_path / "other")
  )
  dense = {"mix_in", "mix_norm", "mix_out", "out_in", "out", "out_local"}
  assert dense < set(after)
  for name, layer in after.items():
    expected = anew if name in dense else before
    jax.tree.map(np.testing.assert_array_equal, layer, expected[name])
  assert np.any(after["mix_in"]["kernel"] != before["mix_in"]["kernel"])


@pytest.mark.slow
def test_a_run_of_before_there_were_some_options_goes_on_without(
  trained_run, plain_run, tmp_path
):
  shutil.copytree(plain_run, tmp_path, dirs_exist_ok=True)
  paths = list(tmp_path.rglob("meta/metadata"))
  assert paths
  for path in paths:
    meta = json.loads(path.read_text())
    for field in ("skips", "dropout", "mirrored", "fresh_dense"):
      del meta["config"]["encoder"][field]
    path.write_text(json.dumps(meta))
  assert not load(trained_run, tmp_path).encoder.skips
  more = {"devices": 1, "encoder__steps": 6, **PLAIN}
  (row,) = run(trained_run, tmp_path, **more)
  assert row["steps"] == 6
  # fresh_dense requires it.
  warm = {
    "checkpoint__encoder": str(plain_run),
    "encoder__warm_start": True,
  }
  for field, value, was, others in (
    ("skips", True, False, {}),
    ("dropout", 0.5, 0.0, {}),
    ("mirrored", True, False, {}),
    ("fresh_dense", True, False, warm),
  ):
    message = rf"{field}={value} \(was {was}\)"
    fields = more | {f"encoder__{field}": value} | others
    with pytest.raises(errors.UserError, match=message):
      run(trained_run, tmp_path, **fields)


@pytest.mark.slow
@pytest.mark.parametrize("skips", [True, False])
def test_an_exported_encoder_has_skips_or_not(
  trained_run, encoder_run, plain_run, tmp_path, skips
):
  config = config_lib.export_job()
  config.checkpoint.path = str(trained_run)
  config.checkpoint.step = "latest"
  config.checkpoint.encoder = str(encoder_run if skips else plain_run)
  config.output = str(tmp_path / "model")
  export.run(config, "", tiny.mesh(1))
  there = trained_model.load(config.checkpoint, tiny.mesh(1))
  path = tmp_path / "model" / "model.json"
  about = json.loads(path.read_text())
  assert about["encoder"].pop("skips") == skips
  if not skips:
    # As in models of earlier versions.
    path.write_text(json.dumps(about))
  config.checkpoint.path, config.checkpoint.encoder = config.output, ""
  back = trained_model.load(config.checkpoint, tiny.mesh(1))
  assert back.encoder == there.encoder
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3),
    back.weights.encoder,
    there.weights.encoder,
  )


@pytest.mark.slow
def test_a_warm_start_wants_an_encoder_that_fits_in(
  trained_run, encoder_run, tmp_path
):
  with pytest.raises(errors.UserError, match="brings none: name the workdir"):
    run(trained_run, tmp_path / "none", encoder__warm_start=True)
  with pytest.raises(errors.UserError, match="warm_start=True, too, or leave"):
    run(trained_run, tmp_path / "cold", encoder__fresh_dense=True)
  with pytest.raises(errors.UserError, match=r"rank=31; these are .* and 3:"):
    run(
      trained_run,
      tmp_path / "other",
      checkpoint__encoder=str(encoder_run),
      encoder__warm_start=True,
      encoder__rank=3,
    )
