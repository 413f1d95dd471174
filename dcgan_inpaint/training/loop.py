"""The training loop, for every task.

Read `run` top to bottom: the state is initialised or restored, and compiled
calls of several steps run until the end. Between them come metrics, pictures,
validation and checkpoints. The same command resumes from the last checkpoint
and repeats what the uninterrupted run would have done: to the bit on the CPU,
and wherever else the arithmetic is deterministic.

What is trained is a `Task`: `gan.GanTask` or `encoder.EncoderTask`.
"""

import collections
from collections.abc import Callable
import functools
import json
import pathlib
from typing import Any
from typing import ClassVar
from typing import NamedTuple
from typing import NoReturn
from typing import Protocol
from typing import TypeVar

from absl import logging
import jax
import numpy as np

from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import profiling
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.runtime import termination
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import feed
from dcgan_inpaint.training import metric_writer
from dcgan_inpaint.training import same_run

State = TypeVar("State")
# Scalars for one step; [steps] for several.
Metrics = dict[str, jax.Array]
# {folder: {name of a row of its contact sheet: uint8 [N, H, W, 3]}}.
Pictures = dict[str, dict[str, np.ndarray]]

# Calls that may be in flight on the devices.
_CALLS_IN_FLIGHT = 8


class Task(Protocol[State]):
  """What is trained.

  Attributes:
    name: the section of the config that holds the training's settings.
    metric: the error on held-out images; the best checkpoint has the lowest.
    fixed_fields: the fields of the config that a resumed run may not change,
      see `same_run.check`.
  """

  name: ClassVar[str]
  metric: ClassVar[str]
  fixed_fields: ClassVar[tuple[str, ...]]

  @property
  def meta(self) -> dict[str, Any]:
    """What else a resumed run may not change.

    It is saved with every checkpoint, together with the config and the number
    of images.
    """
    ...

  @property
  def frozen(self) -> Any:
    """A pytree of arrays that the steps read, replicated over the devices."""
    ...

  def init(self, placed: jax.sharding.Sharding) -> State:
    """Returns the state before the first step, all of it `placed`."""
    ...

  def step(
    self,
    state: State,
    images: jax.Array,
    seed: jax.Array,
    frozen: Any,
    split: Callable[[jax.Array], jax.Array],
  ) -> tuple[State, Metrics]:
    """Updates the state once; traced.

    Args:
      state: the state before.
      images: uint8 [B, S, S, C], the batch.
      seed: the run's seed, uint32.
      frozen: `frozen`, as an argument of the program.
      split: shards a batch over the devices.

    Returns:
      The state after, and the step's metrics. One of them is not finite if the
      state is not.
    """
    ...

  @property
  def sample(self) -> Callable[[State], np.ndarray] | None:
    """Function from the state to a picture, uint8 [H, W, 3], or None.

    It is called every `sample_every` steps.
    """
    ...

  @property
  def validate(self) -> Callable[[State], tuple[float, Pictures]] | None:
    """Function from the state to `metric` and pictures of held-out images.

    It is called in every process before a checkpoint, and returns the same
    error in all. None without held-out images.
    """
    ...


class Outcome(NamedTuple):
  """The result of a training.

  Attributes:
    steps: how many are done.
    per_second: images per second; None if an earlier run did all steps.
    error: the task's metric at the last validation; None without one, and in
      all processes but the first.
  """

  steps: int
  per_second: float | None
  error: float | None


class Hook(NamedTuple):
  """A function that is called between compiled calls.

  Attributes:
    every: steps between its calls, and it is called after the last step; 0 =
      never.
    call: function of the step and the state.
  """

  every: int
  call: Callable[[int, Any], None]

  def due(self, before: int, step: int, last: int) -> bool:
    """Returns whether the steps from `before` to `step` pass a multiple."""
    every = self.every
    return bool(every) and (before // every < step // every or step == last)


def run(
  task: Task[State],
  images: feed.TrainingImages,
  config: Any,
  workdir: pathlib.Path,
  *,
  steps: int,
  data_pictures: dict[str, np.ndarray] | None = None,
) -> Outcome:
  """Trains, or resumes the training in `workdir`.

  Writes to `workdir`: config.json, checkpoints/, metrics.jsonl and
  TensorBoard's files, the pictures of the validation and of samples, and
  losses.png if there are losses.

  Args:
    task: what is trained.
    images: what it is trained on.
    config: the whole config.
    workdir: the folder of the run.
    steps: all steps of the run, including those of earlier commands.
    data_pictures: {file name: uint8 [H, W, 3]}, also written to `workdir`.

  Raises:
    errors.UserError: the workdir holds another run, or a step's metrics are not
      finite.
    errors.Stopped: a signal came, and the last step is saved.
  """
  settings, mesh = config[task.name], images.mesh
  writable = jax.process_index() == 0
  meta = {
    "config": checkpoints_lib.as_json(config),
    "images": images.count,
    "data": {
      "digest": images.digest,
      "streamed": images.source is not None,
    },
    **task.meta,
  }
  with checkpoints_lib.Checkpoints(
    workdir / "checkpoints", settings.max_to_keep, metric=task.metric
  ) as checkpoints:
    step, state = _restore_or_init(task, checkpoints, meta, mesh)
    if writable:
      for name, picture in (data_pictures or {}).items():
        pictures.save_png(workdir / name, picture)
      with files.replacing(workdir / "config.json") as path:
        path.write_text(json.dumps(meta["config"], indent=2))

    writer = metric_writer.MetricWriter(
      workdir, resume_step=step, writable=writable
    )
    bar = progress.Progress(
      steps * settings.batch_size,
      description=task.name,
      initial=step * settings.batch_size,
      visible=writable,
    )
    watch = termination.Watch(together=True)
    log = _Log(writer, bar, task.name, settings.batch_size, checkpoints)

    def sample(step: int, state: State) -> None:
      if task.sample:
        writer.images(step, {"samples": task.sample(state)})

    def save(step: int, state: State) -> None:
      log.write(step)
      error = None
      if task.validate:
        error, sheets = task.validate(state)
        writer.scalars(step, {task.metric: error})
        logging.info("step %s: %s %.1f", f"{step:,}", task.metric, error)
        for folder, rows in sheets.items() if writable else ():
          pictures.contact_sheet(
            workdir / folder / f"step_{step:06d}.png", rows
          )
      checkpoints.save(step, state, meta, error)
      writer.flush()
      if writable:
        _draw_losses(workdir)

    hooks = [
      Hook(settings.log_every, lambda step, state: log.write(step)),
      Hook(settings.get("sample_every", 0), sample),
      Hook(settings.save_every, save),
    ]
    batches = images.feed(range(step, steps))
    seed = sharding.replicate(np.uint32(config.seed), mesh)
    calls = _Calls(
      compile_steps(task, mesh, streamed=images.dataset is None), log.add, bar
    )
    count = steps_per_call(settings, mesh)
    # Outside of hooks, transfers between host and devices must be explicit.
    with writer, bar, watch, jax.transfer_guard("disallow"):
      while step < steps:
        if watch.due():
          calls.collect()
          log.write(step)
          with jax.transfer_guard("allow"):
            checkpoints.save(step, state, meta, None)
          raise errors.Stopped(
            f"stopped and saved at step {step:,} of {steps:,}"
          )
        before, step = step, min(step + count, steps)
        batch = batches(before, step - before)
        state = calls.start(
          step, state, images.dataset, batch, seed, task.frozen
        )
        due = [hook for hook in hooks if hook.due(before, step, steps)]
        if due:
          # No call may run while the progress bar's clock is paused.
          calls.collect()
          with bar.paused(), jax.transfer_guard("allow"):
            for hook in due:
              hook.call(step, state)
  error = _last_error(workdir, task.metric) if writable else None
  return Outcome(step, bar.rate or None, error)


def compile_steps(
  task: Task[State], mesh: jax.sharding.Mesh, *, streamed: bool = False
) -> Any:
  """Returns several steps as one jitted function, to be called or lowered.

  Args:
    task: what is trained.
    mesh: the devices that batches are sharded over.
    streamed: whether the batches are arguments, without a resident data set.

  Returns:
    A function of the state (donated), the data set uint8 [N, S, S, C] on the
    devices, indices int32 [steps, B] into it, the seed and the task's frozen
    arrays; it returns the state after and the metrics of each step, [steps]. If
    `streamed`, the data set is None, and the indices are replaced by the
    batches themselves, uint8 [steps, B, S, S, C], each sharded over the
    devices.
  """
  replicated = sharding.replicated(mesh)
  batched = sharding.batch_sharding(mesh)
  split = functools.partial(jax.lax.with_sharding_constraint, shardings=batched)

  def steps(state, dataset, batches, seed, frozen):
    def step(state, batch):
      images = split(batch if streamed else dataset[batch])
      return task.step(state, images, seed, frozen, split)

    return jax.lax.scan(step, state, batches)

  batches = sharding.step_batch_sharding(mesh) if streamed else replicated
  return jax.jit(
    steps,
    in_shardings=(replicated, batched, batches, replicated, replicated),
    out_shardings=(replicated, replicated),
    donate_argnums=0,
  )


def steps_per_call(settings: Any, mesh: jax.sharding.Mesh) -> int:
  """Returns the steps of one compiled call.

  Args:
    settings: a section of the config that has `steps_per_call`.
    mesh: the devices.
  """
  on_cpu = mesh.devices.flat[0].platform == "cpu"
  return settings.steps_per_call or (1 if on_cpu else 20)


def _restore_or_init(
  task: Task[State],
  checkpoints: checkpoints_lib.Checkpoints,
  meta: dict[str, Any],
  mesh: jax.sharding.Mesh,
) -> tuple[int, State]:
  """Returns the steps done and the state, from the latest checkpoint if any."""
  replicated = sharding.replicated(mesh)
  shapes = jax.eval_shape(lambda: task.init(replicated))
  restored = checkpoints.restore_latest(
    checkpoints_lib.abstract(shapes, replicated),
    check=lambda then: same_run.check(then, meta, task.fixed_fields),
  )
  if restored is None:
    return 0, task.init(replicated)
  logging.info(
    "resuming %s at step %s", checkpoints.folder.parent, f"{restored[0]:,}"
  )
  return restored


class _Calls:
  """Compiled calls of several steps, of which a few may be in flight.

  Their metrics stay on the devices until a call is collected, so that the host
  can prepare the next calls in the meantime.
  """

  def __init__(
    self,
    function: Any,
    collected: Callable[[int, dict[str, np.ndarray]], None],
    bar: progress.Progress,
  ):
    """Stores its arguments, and compiles nothing yet.

    Args:
      function: the jitted function of several steps.
      collected: called with a call's last step and its metrics, [steps].
      bar: is paused while a program is compiled.
    """
    self._function, self._collected, self._bar = function, collected, bar
    self._compiled: dict[tuple[int, ...], jax.stages.Compiled] = {}
    self._in_flight = collections.deque()

  def start(
    self,
    step: int,
    state: State,
    dataset: jax.Array | None,
    batch: jax.Array,
    *arguments: Any,
  ) -> State:
    """Starts the call that ends at `step`; returns the state after it.

    The arguments are those of `compile_steps`.
    """
    arguments = (state, dataset, batch, *arguments)
    if batch.shape not in self._compiled:
      # No call may run while the progress bar's clock is paused.
      self.collect()
      with self._bar.paused(), jax.transfer_guard("allow"):
        program = self._function.lower(*arguments).compile()
        sharding.wait_for_all("compiled")
      self._compiled[batch.shape] = program
    count = batch.shape[0]
    with profiling.call("train", count, self.collect, first=step - count):
      state, metrics = self._compiled[batch.shape](*arguments)
      self._in_flight.append((step, metrics))
    self.collect(_CALLS_IN_FLIGHT)
    return state

  def collect(self, keep: int = 0) -> None:
    """Fetches metrics from the devices until `keep` calls are in flight."""
    while len(self._in_flight) > keep:
      step, metrics = self._in_flight.popleft()
      self._collected(step, jax.device_get(metrics))


class _Log:
  """Checks, shows and writes the metrics fetched from the devices."""

  def __init__(
    self,
    writer: metric_writer.MetricWriter,
    bar: progress.Progress,
    section: str,
    batch_size: int,
    checkpoints: checkpoints_lib.Checkpoints,
  ):
    """Starts without metrics.

    Args:
      writer: gets their means.
      bar: shows the last losses.
      section: the section of the config that has the learning rate.
      batch_size: images per step.
      checkpoints: of the run.
    """
    self._writer, self._bar = writer, bar
    self._section, self._batch_size = section, batch_size
    self._checkpoints = checkpoints
    self._values = collections.defaultdict(list)

  def add(self, last: int, values: dict[str, np.ndarray]) -> None:
    """Adds the metrics of a call.

    Args:
      last: the call's last step.
      values: its metrics, [steps].

    Raises:
      errors.UserError: names the first step with a metric that is not finite.
    """
    for name, steps in values.items():
      self._values[name].extend(steps)
    finite = np.all([np.isfinite(steps) for steps in values.values()], axis=0)
    if not finite.all():
      self._stop(last, values, int(np.argmin(finite)))
    shown = {
      name: float(steps[-1])
      for name, steps in values.items()
      if name.endswith(("loss", "mse"))
    }
    self._bar.update(len(finite) * self._batch_size, **shown)

  def _stop(
    self, last: int, values: dict[str, np.ndarray], place: int
  ) -> NoReturn:
    """Ends the run; `place` is the step's index in the call."""
    found = ", ".join(f"{name} {x[place]}" for name, x in values.items())
    step = last - len(next(iter(values.values()))) + place + 1
    saved = self._checkpoints.steps()
    raise errors.UserError(
      f"non-finite loss at step {step} ({found}): lower "
      f"config.{self._section}.learning_rate, and start in another --workdir; "
      f"the last checkpoint is {saved[-1] if saved else 'none'}"
    )

  def write(self, step: int) -> None:
    """Writes the means of the metrics since they were last written."""
    if self._values:
      self._writer.scalars(
        step, {name: float(np.mean(x)) for name, x in self._values.items()}
      )
    self._values.clear()


def _last_error(workdir: pathlib.Path, metric: str) -> float | None:
  """Returns the last validation's error, of this or an earlier command."""
  rows = metric_writer.read(workdir / "metrics.jsonl")
  return next((row[metric] for row in rows[::-1] if metric in row), None)


def _draw_losses(workdir: pathlib.Path) -> None:
  """Draws losses.png from metrics.jsonl, if it has losses."""
  series = collections.defaultdict(lambda: ([], []))
  for row in metric_writer.read(workdir / "metrics.jsonl"):
    for name, value in row.items():
      if name.endswith("_loss") and value is not None:
        series[name][0].append(row["step"])
        series[name][1].append(value)
  if series:
    pictures.curves(
      workdir / "losses.png", dict(series), title="Training losses"
    )
