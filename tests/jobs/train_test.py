import re
import signal

import jax
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import train
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import metric_writer


def run(workdir, **fields):
  return train.run(tiny.train_config(**fields), str(workdir), tiny.mesh(4))


def count(workdir, **fields):
  """As `run`, without the pictures and the validation, which are compiled."""
  fields = {"train__validation_images": 0, "train__sample_every": 0, **fields}
  return run(workdir, **fields)


@pytest.fixture
def untrained(monkeypatch):
  """Replaces the compiled steps by ones that only count.

  Returns:
    A dict from a step to the loss it gives; 1 where it has none.
  """
  losses = {}

  def compile_steps(mesh, **unused):
    def steps(state, dataset, rows, seed):
      first = int(state.step)
      done = range(first + 1, first + len(rows) + 1)
      loss = np.array([losses.get(step, 1.0) for step in done])
      state = state.replace(step=state.step + len(rows))
      return state, {"generator_loss": loss}

    # Stands for the jitted function, and for what it is compiled to.
    steps.lower = lambda *arguments: steps
    steps.compile = lambda: steps
    return steps

  monkeypatch.setattr(gan, "compile_steps", compile_steps)
  return losses


def test_resuming_repeats_the_uninterrupted_run(trained_run, tmp_path, caplog):
  caplog.set_level("INFO", logger="absl")
  run(tmp_path, train__steps=3)
  (row,) = run(tmp_path)
  assert f"resuming {tmp_path} at step 3" in caplog.text
  assert row["steps"] == 6
  jax.tree.map(
    np.testing.assert_array_equal,
    tiny.saved_state(tmp_path, 6),
    tiny.saved_state(trained_run, 6),
  )
  name = "metrics.jsonl"
  assert (tmp_path / name).read_text() == (trained_run / name).read_text()


def test_a_finished_run_trains_no_further(tmp_path, untrained):
  count(tmp_path)
  before = (tmp_path / "metrics.jsonl").read_text()
  untrained[7] = np.nan  # It would be noticed.
  (row,) = count(tmp_path)
  assert row["steps"] == 6
  assert (tmp_path / "metrics.jsonl").read_text() == before


def test_what_a_run_leaves(trained_run):
  config = tiny.train_config()
  rows = metric_writer.read(trained_run / "metrics.jsonl")
  losses = [row for row in rows if "generator_loss" in row]
  assert [row["step"] for row in losses] == list(range(1, 7))
  assert all(np.isfinite(row["discriminator_loss"]) for row in losses)
  inversions = [row["step"] for row in rows if "inversion_mse" in row]
  assert inversions == [3, 6]
  for name in (
    "config.json",
    "losses.png",
    "samples/step_000006.png",
    "inpainted/step_000003.png",
    "inpainted/step_000006.png",
  ):
    assert (trained_run / name).stat().st_size > 0
  assert list((trained_run / "tensorboard").iterdir())
  faces = synthetic.load("train", config.data.max_images)
  np.testing.assert_array_equal(
    np.asarray(Image.open(trained_run / "mean_image.png")),
    np.round(faces.mean(axis=0)),
  )


@pytest.mark.parametrize(
  "fields",
  [
    {"train.learning_rate": 1e-3},
    {"model.width": 0.05, "seed": 1},
    {"data.seed": 3, "train.loss": "hinge"},
  ],
)
def test_another_config_is_refused_by_its_fields(trained_run, fields):
  config = tiny.train_config()
  config.update_from_flattened_dict(fields)
  with pytest.raises(errors.UserError) as refused:
    train.run(config, str(trained_run), tiny.mesh(4))
  message = str(refused.value)
  named = re.findall(r"config\.([\w.]+)=", message)
  assert sorted(named) == sorted(fields)
  for value in fields.values():
    assert repr(value) in message
  assert "\n" not in message


def test_how_long_and_how_often_may_change(tmp_path, untrained):
  count(tmp_path)
  (row,) = count(
    tmp_path,
    train__steps=8,
    train__save_every=4,
    train__log_every=2,
    train__keep=1,
    train__steps_per_call=2,
  )
  assert row["steps"] == 8


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_a_loss_that_is_no_number_stops_the_run_at_its_step(
  tmp_path, untrained, steps_per_call
):
  untrained |= {5: np.nan, 6: np.inf}
  with pytest.raises(
    errors.UserError,
    match="at step 5 .*nan.*learning_rate.* last checkpoint is 4",
  ):
    count(tmp_path, train__save_every=2, train__steps_per_call=steps_per_call)
  assert max(map(int, _saved(tmp_path))) == 4


def test_the_checkpoint_nearest_to_unseen_faces_is_kept(
  tmp_path, untrained, monkeypatch
):
  inversion_mse = iter([5.0, 1.0, 3.0, 2.0])
  monkeypatch.setattr(
    train._Validation,
    "__call__",
    lambda self, state: (next(inversion_mse), {"G(z)": self._originals[:1]}),
  )
  (row,) = run(tmp_path, train__steps=8, train__save_every=2, train__keep=1)
  assert row["inversion_mse"] == 2.0
  with checkpoints_lib.existing(str(tmp_path)) as checkpoints:
    assert checkpoints.steps() == [4, 8]
    assert checkpoints.candidates("best") == [4]


def _saved(workdir):
  return [p.name for p in (workdir / "checkpoints").iterdir() if p.is_dir()]


def test_without_held_out_images_the_last_checkpoint_is_the_best(
  tmp_path, untrained
):
  (row,) = count(tmp_path)
  assert row["inversion_mse"] is None
  with checkpoints_lib.existing(str(tmp_path)) as checkpoints:
    assert checkpoints.candidates("best")[0] == 6


@pytest.mark.parametrize(
  "fields, message",
  [
    (
      {"train__batch_size": 6},
      "config.train.batch_size=6.* 4 devices .*take 8",
    ),
    ({"train__batch_size": 32}, "16 training images, fewer than .*=32"),
  ],
)
def test_a_batch_that_cannot_be_is_refused(tmp_path, fields, message):
  with pytest.raises(errors.UserError, match=message):
    run(tmp_path, **fields)


@pytest.mark.parametrize(
  "steps, epochs, images, expected", [(7, 2.0, 100, 7), (0, 2.5, 100, 30)]
)
def test_steps_win_over_epochs_of_whole_batches(
  steps, epochs, images, expected
):
  config = tiny.train_config(
    train__steps=steps, train__epochs=epochs, train__batch_size=8
  ).train
  assert train.total_steps(config, images) == expected


# --- where the images lie ----------------------------------------------------


@pytest.fixture
def faces(tmp_path):
  """A folder of 16 faces; returns the fields of the config that name it."""
  folder = tmp_path / "faces"
  for i, face in enumerate(synthetic.load("train", 16)):
    pictures.save_png(folder / f"{i:02d}.png", face)
  paths = ("path", "validation_path", "test_path")
  return {"data__name": "folder"} | {f"data__{x}": str(folder) for x in paths}


def test_a_streamed_run_sees_what_a_resident_one_sees(
  tmp_path, monkeypatch, faces
):
  seen = []

  def compile_steps(mesh, *, streamed, **unused):
    def steps(state, dataset, batches, seed):
      batches = np.asarray(batches)
      images = batches if streamed else np.asarray(dataset)[batches]
      assert (dataset is None) == streamed
      seen.extend(images)
      metrics = {"generator_loss": np.ones(len(images))}
      return state.replace(step=state.step + len(images)), metrics

    steps.lower = lambda *arguments: steps
    steps.compile = lambda: steps
    return steps

  monkeypatch.setattr(gan, "compile_steps", compile_steps)
  for placement in ("device", "stream"):
    fields = {**faces, "data__placement": placement}
    # Two epochs and a half, cut in the middle of one.
    count(tmp_path / placement, train__steps=3, **fields)
    count(tmp_path / placement, train__steps=5, **fields)
  np.testing.assert_array_equal(seen[5:], seen[:5])
  assert len(np.unique(seen[:5], axis=0)) == 5
  first, second = ((tmp_path / x) for x in ("device", "stream"))
  np.testing.assert_array_equal(
    pictures.load_png(first / "mean_image.png"),
    pictures.load_png(second / "mean_image.png"),
  )


@pytest.mark.parametrize(
  "placement, memory, streams",
  [
    # 16 images of 12,288 bytes over four devices, of which half may be taken.
    ("auto", 2 * 4 * 12_288, False),
    ("auto", 2 * 4 * 12_288 - 1, True),
    ("device", 0, False),
    ("stream", 1e12, True),
  ],
)
def test_what_does_not_fit_streams(
  faces, monkeypatch, placement, memory, streams
):
  monkeypatch.setattr(train, "_device_memory", lambda: memory)
  config = tiny.train_config(**faces, data__placement=placement).data
  source = train._stream_from(config, tiny.mesh(4))
  assert (source is not None) == streams
  assert source is None or source.count == 16


def test_a_request_to_stop_saves_where_the_run_is(tmp_path, untrained, caplog):
  count(tmp_path, train__steps=1, train__save_every=100)

  def ask_to_stop(*unused):
    signal.raise_signal(signal.SIGTERM)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train, "_check_finite", ask_to_stop)
    with pytest.raises(errors.Stopped, match="saved at step .* of 1,000"):
      count(
        tmp_path,
        train__steps=1000,
        train__save_every=1000,
        train__log_every=2,
      )
  stopped = max(map(int, _saved(tmp_path)))
  assert 1 < stopped < 20
  caplog.set_level("INFO", logger="absl")
  count(tmp_path, train__steps=stopped + 1, train__save_every=100)
  assert f"resuming {tmp_path} at step {stopped}" in caplog.text
  steps = [r["step"] for r in metric_writer.read(tmp_path / "metrics.jsonl")]
  assert steps == sorted(set(steps)) and steps[-1] == stopped + 1
