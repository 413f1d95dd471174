"""Checkpoints of a training run, saved by Orbax.

A checkpoint holds the whole state and, as JSON, what is needed to interpret it:
the config, the number of images and the format. It is restored into an abstract
state with its own shardings, so it can be read on another number or kind of
devices.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import hashlib
import json
import operator
import os
import pathlib
from typing import Any
from typing import TypeVar

from absl import logging
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import tensorstore_memory

# The metric by which the best generator is chosen; the lower the better ...
INVERSION_MSE = "inversion_mse"
# ... and the best encoder.
COMPLETION_MSE = "completion_mse"
# The format that `save` writes. Older formats stay readable, see
# tests/training/checkpoints_format_1.zip; the first checkpoints have no number.
FORMAT = 1
# Where the digest of the arrays lies in the JSON beside them.
_DIGEST = "sha256"
# What a save may take. Orbax counts it by the wall clock, which may jump, so it
# is a time that no jump reaches.
_SAVE_SECONDS = 10**9

Value = TypeVar("Value")


class Checkpoints:
  """The checkpoints under one folder.

  Close it, or use it as a context manager: saving is asynchronous, and closing
  waits for pending saves.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    max_to_keep: int = 2,
    writable: bool = True,
    metric: str = INVERSION_MSE,
  ):
    """Opens or creates `folder`.

    Args:
      folder: of the checkpoints.
      max_to_keep: how many of the latest are kept, besides the best.
      writable: False to only read, while a run may be saving there.
      metric: the name of the error that the best checkpoint is chosen by.
    """
    tensorstore_memory.keep()
    self._metric = metric
    self.folder = pathlib.Path(folder).resolve()
    _check_metrics(self.folder, writable, metric)
    sharding.wait_for_all("opening checkpoints")
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(
          [
            policies.LatestN(max_to_keep),
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
        async_options=ocp.AsyncOptions(timeout_secs=_SAVE_SECONDS),
        # Left by a run that was killed while saving.
        cleanup_tmp_directories=writable,
      ),
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *unused) -> None:
    self.close()

  def close(self) -> None:
    """Waits for pending saves and closes the folder."""
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
      step: the steps done; a step that exists already is left unchanged.
      state: a pytree of arrays; it may be donated once this returns.
      meta: anything that JSON can represent.
      error: the metric that the best checkpoint is chosen by, or None without
        held-out images.
    """
    if step in self._manager.all_steps():
      return
    sharding.wait_for_all("saving a checkpoint")
    metrics = None
    if error is not None:
      metrics = {self._metric: float(error)}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        meta=ocp.args.JsonSave(
          {**meta, "format": FORMAT, _DIGEST: _digest(state)}
        ),
      ),
      metrics=metrics,
    )

  def steps(self) -> list[int]:
    """Returns the steps that have a checkpoint, in order."""
    return sorted(self._manager.all_steps())

  def candidates(self, which: str) -> list[int]:
    """Returns the steps to try for `which`, the intended one first.

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
      f"config.checkpoint.step={which!r}: {self.folder} holds no such "
      f"checkpoint; take best, latest or one of {', '.join(map(str, steps))}"
    )

  def meta(self, step: int) -> dict[str, Any]:
    """Returns what was saved as `meta` with a step.

    Raises:
      errors.UserError: a later version of this package saved it.
    """
    meta = self._stored_meta(step)
    meta.pop(_DIGEST, None)
    found = meta.pop("format", 1)
    if found not in range(1, FORMAT + 1):
      raise errors.UserError(
        f"checkpoint {step} of {self.folder} has the format {found!r}, and "
        f"this version of the package knows formats up to {FORMAT}: take the "
        "version that wrote it, or a later one"
      )
    return meta

  def _stored_meta(self, step: int) -> dict[str, Any]:
    """Returns the JSON of a step as it was saved."""
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

    Raises:
      ValueError: the arrays are not those that were saved.
    """
    restored = self._manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
    )
    state = restored["state"]
    # Those of 0.1.0 have none.
    saved = self._stored_meta(step).get(_DIGEST)
    if saved is not None and saved != _digest(state):
      raise ValueError("its arrays are damaged: they have another digest")
    return state

  def first_readable(
    self, steps: Iterable[int], read: Callable[[int], Value], advice: str
  ) -> tuple[int, Value]:
    """Reads the first of some steps that can be read; warns of the others.

    Args:
      steps: the steps, the intended one first.
      read: reads one; an `errors.UserError` that it raises is passed on.
      advice: what to do if none can be read.

    Returns:
      The step, and what `read` returned.

    Raises:
      errors.UserError: none can be read.
    """
    reasons = []
    for step in steps:
      try:
        return step, read(step)
      except errors.UserError:
        raise
      # Orbax raises many kinds of exceptions for broken files.
      except Exception as error:  # noqa: BLE001
        # The machine's fault, not the checkpoint's.
        if errors.of_machine(error):
          raise
        reasons.append(f"{step}: {first_line(error)}")
        logging.warning(
          "checkpoint %s of %s cannot be read (%s)",
          step, self.folder, first_line(error),
        )  # fmt: skip
    raise errors.UserError(
      f"no checkpoint in {self.folder} can be read ({'; '.join(reasons)}): "
      f"{advice}"
    )

  def restore_latest(
    self, target: Any, check: Callable[[dict[str, Any]], None]
  ) -> tuple[int, Any] | None:
    """Restores the newest checkpoint that can be read.

    A killed run or a full disk may leave a newest checkpoint that is broken;
    the preceding one is then restored, with a warning. A run never starts from
    scratch because of a broken checkpoint. The broken one is renamed (`6` to
    `6.1`), since the run reaches its step again.

    Args:
      target: as for `restore`.
      check: called with the checkpoint's `meta`; what it raises is passed on.

    Returns:
      The step and the state, or None if there is no checkpoint at all.

    Raises:
      errors.UserError: there are checkpoints, and none can be read.
    """
    steps = self.steps()[::-1]
    if not steps:
      return None

    def read(step):
      check(self.meta(step))
      return self.restore(step, target)

    step, state = self.first_readable(
      steps, read, "move the folder away to start from scratch"
    )
    self._set_aside(steps[: steps.index(step)])
    return step, state

  def _set_aside(self, steps: Iterable[int]) -> None:
    """Renames the checkpoints of some steps, so that they are ignored."""
    if jax.process_index() == 0:
      for step in steps:
        files.set_aside(self.folder / str(step))
    sharding.wait_for_all("broken checkpoints set aside")
    self._manager.reload()


@contextlib.contextmanager
def existing(
  workdir: str,
  field: str = "config.checkpoint.path",
  metric: str = INVERSION_MSE,
) -> Iterator[Checkpoints]:
  """Opens the checkpoints of an earlier training run.

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


def _check_metrics(folder: pathlib.Path, writable: bool, metric: str) -> None:
  """Renames checkpoints with broken metrics, which Orbax refuses to open.

  Args:
    folder: of the checkpoints.
    writable: False to raise an error instead of renaming.
    metric: what they must hold, a number.

  Raises:
    errors.UserError: there are such checkpoints, and nothing may be renamed, or
      none would be left.
  """
  if jax.process_index() != 0:
    return
  # Folders with other names are being saved, or were set aside.
  steps = [path for path in folder.glob("*") if path.name.isdecimal()]
  broken = {}
  for step in steps:
    try:
      metrics = json.loads((step / "metrics" / "metrics").read_text())
      if not isinstance(dict(metrics).get(metric), (int, float)):
        raise ValueError(f"it holds no number {metric!r}")
    except FileNotFoundError:
      pass  # No held-out images, or the checkpoint is being deleted.
    except (OSError, RecursionError, TypeError, ValueError) as error:
      if errors.of_machine(error):
        raise
      broken[step] = error
  for step, error in broken.items():
    path = step / "metrics" / "metrics"
    if not writable or len(broken) == len(steps):
      raise errors.UserError(
        f"{path} is no JSON of a metric ({error}): move {step} away"
      )
    kept = files.set_aside(step)
    logging.warning(
      "checkpoint %s of %s cannot be read (%s: %s): renamed to %s",
      step.name, folder, path.name, error, kept and kept.name,
    )  # fmt: skip


def _digest(state: Any) -> str:
  """Returns the SHA-256 of a state's values, types and shapes, in hexadecimal.

  Args:
    state: a pytree of arrays, each with a copy on every device.
  """
  sha = hashlib.sha256()
  for leaf in jax.tree.leaves(state):
    if isinstance(leaf, jax.Array):
      leaf = leaf.addressable_data(0)
    array = np.asarray(jax.device_get(leaf))
    sha.update(f"{array.dtype}{array.shape}".encode())
    sha.update(array.tobytes())
  return sha.hexdigest()


def first_line(error: Exception) -> str:
  """Returns the first line of an exception's text, or its type's name."""
  line = str(error).strip().partition("\n")[0]
  # TensorStore appends its specification, which is thousands of characters.
  return line.partition(" [tensorstore_spec")[0] or type(error).__name__


def abstract(state: Any, placed: jax.sharding.Sharding) -> Any:
  """Returns the shapes and types of a state, each with a sharding."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed),
    state,
  )


def as_json(config: Any) -> dict[str, Any]:
  """Returns a config as the plain dictionary that JSON represents."""
  return json.loads(config.to_json())
