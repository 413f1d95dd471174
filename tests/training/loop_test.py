"""The loop alone, with a task that counts, and then with both trainings."""

from collections.abc import Callable
import dataclasses
import functools
import json
import pathlib
import re
import shutil
import signal
from typing import Any
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

from dcgan_inpaint.data import batches
from dcgan_inpaint.data import stream
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import train
from dcgan_inpaint.jobs import train_encoder
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import profiling
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import feed
from dcgan_inpaint.training import loop
from dcgan_inpaint.training import metric_writer

MESH = tiny.mesh(4)


@dataclasses.dataclass(frozen=True)
class Counting:
  """A task that sums its images' means; its losses are given."""

  name: ClassVar[str] = "train"
  metric: ClassVar[str] = checkpoints_lib.INVERSION_MSE
  fixed_fields: ClassVar[tuple[str, ...]] = ("seed", "train.batch_size")

  losses: dict[int, float] = dataclasses.field(default_factory=dict)
  meta: dict[str, Any] = dataclasses.field(default_factory=dict)
  sample: Callable[[Any], np.ndarray] | None = None
  validate: Callable[[Any], tuple[float, loop.Pictures]] | None = None

  @functools.cached_property
  def frozen(self):
    losses = np.ones(2000, np.float32)
    losses[list(self.losses)] = list(self.losses.values())
    return sharding.replicate(losses, MESH)

  def init(self, placed):
    zeros = {"step": jnp.int32(0), "sum": jnp.float32(0)}
    return jax.device_put(zeros, placed)

  def step(self, state, images, seed, frozen, split):
    assert split(images).shape == images.shape
    step, mean = state["step"] + 1, jnp.mean(jnp.float32(images))
    return (
      {"step": step, "sum": state["sum"] + mean},
      {"a_loss": frozen[step], "seed": jnp.float32(seed)},
    )


def some_images(of: type[feed.TrainingImages] = feed.TrainingImages):
  """Returns 16 images of 2 x 2 pixels, each of a constant grey."""
  greys = np.arange(16, dtype=np.uint8)[:, None, None, None]
  return of(
    count=16,
    digest="",
    mean_image=np.zeros((2, 2, 3), np.uint8),
    dataset=sharding.place_images(np.tile(greys, (1, 2, 2, 3)), MESH),
    source=None,
    batch_size=8,
    seed=0,
    workers=0,
    mesh=MESH,
  )


def count(
  workdir, images=None, steps=6, task=None, data_pictures=None, **fields
):
  """Runs the task that counts, or a given one."""
  return loop.run(
    task or Counting(),
    images or some_images(),
    tiny.train_config(**fields),
    pathlib.Path(workdir),
    steps=steps,
    data_pictures=data_pictures,
  )


def saved(workdir):
  """Returns the steps that have a checkpoint."""
  folders = (workdir / "checkpoints").iterdir()
  return sorted(int(x.name) for x in folders if x.name.isdecimal())


def arrays(workdir, step):
  """Returns all arrays of a checkpoint, by Orbax alone."""
  path = (workdir / "checkpoints" / str(step) / "state").resolve()
  with ocp.StandardCheckpointer() as checkpointer:
    return jax.device_get(checkpointer.restore(path))


def metrics(workdir):
  return (workdir / "metrics.jsonl").read_text()


def logged(workdir, name):
  """Returns the steps whose line has a metric."""
  rows = metric_writer.read(workdir / "metrics.jsonl")
  return [row["step"] for row in rows if name in row]


def stop_at(step_to_stop):
  """Returns `batches.indices` that sends SIGTERM when it reaches a step."""
  indices = batches.indices

  def stop(step, *arguments, **options):
    if step >= step_to_stop:
      signal.raise_signal(signal.SIGTERM)
    return indices(step, *arguments, **options)

  return stop


# --- the loop alone ----------------------------------------------------------


@pytest.mark.parametrize(
  "every, before, step, last, due",
  [
    (3, 2, 3, 9, True),
    (3, 3, 4, 9, False),
    (3, 0, 4, 9, True),  # A call of four steps passes the third.
    (3, 4, 5, 5, True),  # The last step is always due ...
    (0, 4, 5, 5, False),  # ... except for hooks that are off.
  ],
)
def test_a_hook_is_due_when_a_call_passes_a_multiple(
  every, before, step, last, due
):
  assert loop.Hook(every, lambda *unused: None).due(before, step, last) == due


def test_all_is_done_at_its_interval_and_after_the_last_step(tmp_path):
  drawn, validated = [], []
  task = Counting(
    sample=lambda state: drawn.append(state) or np.zeros((4, 4, 3), np.uint8),
    validate=lambda state: (
      validated.append(state) or 1.0,
      {"held_out": {"original": np.zeros((1, 4, 4, 3), np.uint8)}},
    ),
  )
  outcome = count(
    tmp_path,
    task=task,
    data_pictures={"mean.png": np.full((2, 2, 3), 7, np.uint8)},
    steps=7,
    train__log_every=2,
    train__sample_every=5,
    train__save_every=3,
  )
  assert outcome.steps == 7 and outcome.error == 1.0 and outcome.per_second > 0
  assert logged(tmp_path, "a_loss") == [2, 3, 4, 6, 7]
  assert logged(tmp_path, checkpoints_lib.INVERSION_MSE) == [3, 6, 7]
  assert len(drawn) == 2 and len(validated) == 3
  for name in (
    "samples/step_000005.png",
    "samples/step_000007.png",
    "held_out/step_000003.png",
    "held_out/step_000006.png",
    "held_out/step_000007.png",
    "losses.png",
  ):
    assert (tmp_path / name).stat().st_size > 0
  assert pictures.load_png(tmp_path / "mean.png")[0, 0, 0] == 7
  assert list((tmp_path / "tensorboard").iterdir())
  config = json.loads((tmp_path / "config.json").read_text())
  assert config["train"]["log_every"] == 2


def test_a_state_sees_each_image_of_an_epoch_once(tmp_path):
  count(tmp_path, steps=4, train__save_every=2)
  for step in (2, 4):  # Two batches of 8 are an epoch of 16.
    state = arrays(tmp_path, step)
    assert state["step"] == step
    np.testing.assert_allclose(state["sum"], step * np.mean(range(16)))


def test_lines_of_metrics_are_means_since_the_line_before(tmp_path):
  task = Counting({1: 1.0, 2: 3.0, 3: 6.0, 4: 10.0})
  count(tmp_path, task=task, steps=4, train__log_every=2, train__save_every=3)
  rows = metric_writer.read(tmp_path / "metrics.jsonl")
  assert [(row["step"], row["a_loss"]) for row in rows] == [
    (2, 2.0),
    (3, 6.0),
    (4, 10.0),
  ]


def test_a_finished_run_trains_no_further(tmp_path):
  outcome = count(tmp_path, task=Counting(validate=lambda state: (2.0, {})))
  before = metrics(tmp_path)
  # NaN would stop the run if it trained.
  again = count(tmp_path, task=Counting({7: np.nan}))
  assert again == outcome._replace(per_second=None)
  assert metrics(tmp_path) == before


def test_how_long_and_how_often_may_change(tmp_path):
  count(tmp_path)
  outcome = count(
    tmp_path,
    steps=8,
    train__save_every=4,
    train__log_every=2,
    train__max_to_keep=1,
    train__steps_per_call=2,
  )
  assert outcome.steps == 8
  assert saved(tmp_path) == [8]


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_a_metric_that_is_no_number_stops_the_run_at_its_step(
  tmp_path, steps_per_call
):
  with pytest.raises(
    errors.UserError,
    match="at step 5 .*nan.*train.learning_rate.* last checkpoint is 4",
  ):
    count(
      tmp_path,
      task=Counting({5: np.nan, 6: np.inf}),
      train__save_every=2,
      train__steps_per_call=steps_per_call,
    )
  assert saved(tmp_path)[-1] == 4


def test_the_checkpoint_with_the_lowest_error_is_kept(tmp_path):
  found = iter([5.0, 1.0, 3.0, 2.0])

  def validate(state):
    # A validation may transfer anything between devices and host.
    assert state["step"] + 1 > 0
    return next(found), {}

  outcome = count(
    tmp_path,
    task=Counting(validate=validate),
    steps=8,
    train__save_every=2,
    train__max_to_keep=1,
  )
  assert outcome.error == 2.0
  with checkpoints_lib.existing(str(tmp_path)) as checkpoints:
    assert checkpoints.steps() == [4, 8]
    assert checkpoints.candidates("best") == [4]


def test_without_held_out_images_the_last_checkpoint_is_the_best(tmp_path):
  assert count(tmp_path).error is None
  with checkpoints_lib.existing(str(tmp_path)) as checkpoints:
    assert checkpoints.candidates("best")[0] == 6


@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_a_request_to_stop_saves_where_the_run_is(
  tmp_path, monkeypatch, caplog, steps_per_call
):
  fields = {
    "train__save_every": 1000,
    "train__log_every": 4,
    "train__steps_per_call": steps_per_call,
  }
  # The command line, which other tests run in this process, has one of its own.
  before = signal.getsignal(signal.SIGTERM)
  with monkeypatch.context() as patch:
    patch.setattr(batches, "indices", stop_at(6))
    with pytest.raises(errors.Stopped, match="saved at step .* of 1,000"):
      count(tmp_path, steps=1000, **fields)
  # The current call is completed.
  stopped = 6 + steps_per_call
  assert saved(tmp_path) == [stopped]
  assert logged(tmp_path, "a_loss")[-1] == stopped
  assert signal.getsignal(signal.SIGTERM) == before
  caplog.set_level("INFO", logger="absl")
  count(tmp_path, steps=stopped + 1, **fields)
  assert f"resuming {tmp_path} at step {stopped}" in caplog.text
  steps = logged(tmp_path, "a_loss")
  assert steps == sorted(set(steps)) and steps[-1] == stopped + 1


def test_a_transfer_that_is_not_named_is_an_error(tmp_path):
  class FromTheHost(feed.TrainingImages):
    def feed(self, steps):
      # NumPy arrays, which a call would transfer to the devices implicitly.
      return lambda step, count: np.zeros((count, 8), np.int32)

  with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
    count(tmp_path, some_images(FromTheHost))


def test_what_else_tells_runs_apart_may_not_change(tmp_path):
  count(tmp_path, task=Counting(meta={"generator": "a"}))
  with pytest.raises(errors.UserError, match="another generator"):
    count(tmp_path, task=Counting(meta={"generator": "b"}))


# --- both trainings ----------------------------------------------------------


STEPS = 4


@dataclasses.dataclass
class Training:
  """A job that trains, at a size for tests.

  Attributes:
    section: of the config that holds its settings.
    job: the module of the job.
    checkpoint: the workdir of the generator that an encoder is trained for.
    side: of the images; an encoder's are those of its generator.
  """

  section: str
  job: Any
  checkpoint: str
  side: int

  def config(self, **fields):
    """Returns the config; `settings_x` is the field x of the section."""
    fields = {
      "settings_steps": STEPS,
      "settings_save_every": 2,
      "settings_validation_images": 0,
      **fields,
    }
    fields = {
      name.replace("settings_", f"{self.section}__"): value
      for name, value in fields.items()
    }
    if self.section == "encoder":
      return tiny.encoder_config(self.checkpoint, **fields)
    return tiny.train_config(
      model__image_size=self.side, train__sample_every=0, **fields
    )

  def run(self, workdir, devices=4, **fields):
    """Trains; returns the row of results.json."""
    (row,) = self.job.run(
      self.config(**fields), str(workdir), tiny.mesh(devices)
    )
    return row


@pytest.fixture(
  scope="module",
  params=[
    pytest.param(section, marks=pytest.mark.slow)
    for section in ("train", "encoder")
  ],
)
def training(request, trained_run):
  job, side = {"train": (train, 32), "encoder": (train_encoder, tiny.SIZE)}[
    request.param
  ]
  return Training(request.param, job, str(trained_run), side)


@pytest.fixture(scope="module")
def straight(training, tmp_path_factory):
  """Returns the workdir of an uninterrupted run."""
  workdir = tmp_path_factory.mktemp(f"straight_{training.section}")
  training.run(workdir)
  return workdir


def assert_same_to_the_bit(workdir, expected):
  jax.tree.map(
    np.testing.assert_array_equal,
    arrays(workdir, STEPS),
    arrays(expected, STEPS),
  )
  assert metrics(workdir) == metrics(expected)


def test_a_run_that_is_cut_and_stopped_is_the_uninterrupted_one_to_the_bit(
  training, straight, tmp_path, monkeypatch, caplog
):
  caplog.set_level("INFO", logger="absl")
  # As if it had been killed after its first checkpoint.
  shutil.copytree(straight, tmp_path, dirs_exist_ok=True)
  shutil.rmtree(tmp_path / "checkpoints" / str(STEPS))
  with monkeypatch.context() as patch:
    patch.setattr(batches, "indices", stop_at(2))
    with pytest.raises(errors.Stopped, match="saved at step 3 of 4"):
      training.run(tmp_path)
  assert f"resuming {tmp_path} at step 2" in caplog.text
  assert saved(tmp_path) == [2, 3]
  row = training.run(tmp_path)
  assert f"resuming {tmp_path} at step 3" in caplog.text
  assert row["steps"] == STEPS
  assert_same_to_the_bit(tmp_path, straight)


def test_a_step_that_is_not_finite_is_named_and_never_saved(training, tmp_path):
  with pytest.raises(errors.UserError) as stopped:
    training.run(
      tmp_path,
      settings_learning_rate=1e38,
      settings_steps=20,
      settings_save_every=1,
    )
  message = str(stopped.value)
  assert f"config.{training.section}.learning_rate" in message
  step = int(re.search(r"at step (\d+) .*nan", message)[1])
  # Steps are saved up to the one that is named, and every one is finite.
  assert saved(tmp_path) == list(range(1, step))[-2:]
  for good in saved(tmp_path):
    leaves = jax.tree.leaves(arrays(tmp_path, good))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_a_streamed_run_is_that_with_its_images_on_the_devices_to_the_bit(
  training, straight, tmp_path, monkeypatch
):
  folder = tmp_path / "faces"
  for i, face in enumerate(synthetic.load("train", 16, 0, training.side)):
    pictures.save_png(folder / f"{i:02d}.png", face)
  paths = ("path", "validation_path", "test_path")
  fields = {f"data__{name}": str(folder) for name in paths}
  opened, open_stream = [], stream.batches

  def note(*arguments, **options):
    opened.append(options["steps"])
    return open_stream(*arguments, **options)

  monkeypatch.setattr(stream, "batches", note)
  row = training.run(
    tmp_path / "run",
    data__name="folder",
    data__placement="stream",
    **fields,
  )
  assert opened == [range(STEPS)]
  assert row["data_digest"] == training.run(straight)["data_digest"]
  assert_same_to_the_bit(tmp_path / "run", straight)


def test_the_config_and_every_steps_metrics_are_left(training, straight):
  config = json.loads((straight / "config.json").read_text())
  assert config[training.section]["steps"] == STEPS
  rows = metric_writer.read(straight / "metrics.jsonl")
  assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
  assert all(np.isfinite(list(row.values())).all() for row in rows)


def test_calls_of_steps_are_traced_by_their_numbers(tmp_path, monkeypatch):
  done = tiny.record_traces(monkeypatch)
  count(tmp_path, steps=4, train__steps_per_call=2)
  with profiling.trace("train", range(7, 9), tmp_path):
    count(tmp_path, steps=12, train__steps_per_call=2)
  # From where the checkpoint stands; calls are traced whole.
  assert done == [4, "start", 6, 8, "stop", 10]
