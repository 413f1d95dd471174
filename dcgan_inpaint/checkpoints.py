"""Checkpoints of a training run, behind one small file: Orbax.

A checkpoint holds the whole `GanState` and, as JSON, what is needed to make
sense of it: the config, the versions and the step. It is restored into an
abstract state that names its own shardings, so it can be read on another
number of devices, or on another kind.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import json
import operator
import os
import pathlib
from typing import Any

from absl import logging
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from dcgan_inpaint import errors
from dcgan_inpaint import report

# The metric by which the best generator is chosen; the lower the better ...
INVERSION_MSE = "inversion_mse"
# ... and the best encoder.
COMPLETION_MSE = "completion_mse"


class Checkpoints:
  """The checkpoints under one folder.

  Close it, or use it as a context manager: saving is asynchronous, and closing
  waits for what is under way.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    keep: int = 2,
    writable: bool = True,
    metric: str = INVERSION_MSE,
  ):
    """Opens or makes `folder`.

    Args:
      folder: where the checkpoints lie.
      keep: how many of the latest are kept, beside the best.
      writable: False only reads; a run may be saving there at this moment.
      metric: the name of the error that the best checkpoint is chosen by.
    """
    self._metric = metric
    self.folder = pathlib.Path(folder).resolve()
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(
          [
            policies.LatestN(keep),
            policies.BestN(
              get_metric_fn=operator.itemgetter(metric),
              reverse=True,
              n=1,
              keep_checkpoints_without_metrics=False,
            ),
          ]
        ),
        best_fn=operator.itemgetter(metric),
        best_mode="min",
        # Left behind by a run that was killed while it saved.
        cleanup_tmp_directories=writable,
      ),
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *unused) -> None:
    self.close()

  def close(self) -> None:
    """Waits for what is being saved and lets go of the folder."""
    self._manager.wait_until_finished()
    self._manager.close()

  def save(
    self,
    step: int,
    state: Any,
    meta: dict[str, Any],
    error: float | None,
  ) -> None:
    """Saves `state` in the background.

    Args:
      step: the steps done; a step that is there already is left as it is.
      state: a pytree of arrays; it may be donated once this returns.
      meta: whatever JSON can hold.
      error: the metric that the best checkpoint is chosen by, or None where
        nothing was held out.
    """
    if step in self._manager.all_steps():
      return
    metrics = None
    if error is not None:
      metrics = {self._metric: float(error)}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
      ),
      metrics=metrics,
    )

  def steps(self) -> list[int]:
    """Returns the steps that have a checkpoint, in order."""
    return sorted(self._manager.all_steps())

  def candidates(self, which: str) -> list[int]:
    """Returns the steps to try for `which`, the one that is meant first.

    Args:
      which: 'latest', 'best', or a step as text.

    Raises:
      errors.UserError: there is no such checkpoint.
    """
    steps = self.steps()
    if not steps:
      raise errors.UserError(
        f"{self.folder} holds no checkpoint: train one first, or name the "
        "workdir of a training run"
      )
    if which == "latest":
      return steps[::-1]
    if which == "best":
      best = self._manager.best_step()
      return steps[::-1] if best is None else [best]
    if which.isdecimal() and int(which) in steps:
      return [int(which)]
    raise errors.UserError(
      f"{self.folder} holds no checkpoint {which!r}: take best, latest or one "
      f"of {', '.join(map(str, steps))}"
    )

  def meta(self, step: int) -> dict[str, Any]:
    """Returns what was saved as `meta` with a step."""
    restored = self._manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    )
    return restored["meta"]

  def restore(self, step: int, target: Any) -> Any:
    """Returns the state of a step.

    Args:
      step: one of `steps()`.
      target: the same pytree of `jax.ShapeDtypeStruct`, with the shardings
        that the state is to have.
    """
    restored = self._manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
    )
    return restored["state"]

  def restore_latest(
    self, target: Any, check: Callable[[dict[str, Any]], None]
  ) -> tuple[int, Any] | None:
    """Restores the newest checkpoint that can be read.

    A run that was killed, or a disk that was full, may leave a newest
    checkpoint that is broken; the one before it is then taken, and this is
    said. A run never starts from scratch because of a broken checkpoint. The
    broken one is renamed (`6` to `6.1`), since the run comes to its step again.

    Args:
      target: as for `restore`.
      check: called with the checkpoint's `meta`; what it raises is passed on.

    Returns:
      The step and the state, or None where there is no checkpoint at all.

    Raises:
      errors.UserError: there are checkpoints, and none can be read.
    """
    steps = self.steps()[::-1]
    failures = {}
    for step in steps:
      try:
        check(self.meta(step))
        state = self.restore(step, target)
        self._set_aside(failures)
        return step, state
      except errors.UserError:
        raise
      # Whatever is wrong with the files, Orbax has an exception of its own.
      except Exception as error:  # noqa: BLE001
        reason = first_line(error)
        failures[step] = reason
        logging.warning(
          "checkpoint %s of %s cannot be read (%s)", step, self.folder, reason
        )
    if failures:
      reasons = "; ".join(f"{step}: {why}" for step, why in failures.items())
      raise errors.UserError(
        f"no checkpoint in {self.folder} can be read ({reasons}): move the "
        "folder away to start anew"
      )
    return None

  def _set_aside(self, steps: Iterable[int]) -> None:
    """Renames the checkpoints of some steps, so that they count no more."""
    if jax.process_index() == 0:
      for step in steps:
        report.set_aside(self.folder / str(step))
    self._manager.reload()


@contextlib.contextmanager
def existing(
  workdir: str,
  field: str = "config.checkpoint.path",
  metric: str = INVERSION_MSE,
) -> Iterator[Checkpoints]:
  """Opens the checkpoints of a training run that has been.

  Args:
    workdir: the `--workdir` of a training run.
    field: the config field that names it, for the message.
    metric: as for `Checkpoints`.

  Raises:
    errors.UserError: there are none.
  """
  folder = pathlib.Path(workdir).expanduser() / "checkpoints"
  if not workdir or not folder.is_dir():
    raise errors.UserError(
      f"{field}={workdir!r} holds no folder 'checkpoints': name "
      "the workdir of a training run"
    )
  with Checkpoints(folder, writable=False, metric=metric) as checkpoints:
    yield checkpoints


def first_line(error: Exception) -> str:
  """Returns the first line of an exception's text, or else its name."""
  return str(error).strip().partition("\n")[0] or type(error).__name__


def abstract(state: Any, sharding: jax.sharding.Sharding) -> Any:
  """Returns the shapes and types of `state`, each with `sharding`."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    state,
  )


def as_json(config: Any) -> dict[str, Any]:
  """Returns a config as the plain dictionary that JSON gives back."""
  return json.loads(config.to_json())
