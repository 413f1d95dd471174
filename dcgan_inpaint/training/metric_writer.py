"""Losses and pictures of a training run, as files and for TensorBoard.

`metrics.jsonl` is the record: one JSON object a line, `{"step": 100, "d_loss":
0.69}`. TensorBoard shows the same numbers.
"""

from collections.abc import Mapping
import json
import os
import pathlib
import time
from typing import Any

from absl import logging
import numpy as np

from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files


class MetricWriter:
  """Writes the metrics of one run; with several processes, only the first.

  A run that resumes from step S repeats the steps after S, so their lines are
  dropped and every step appears once. A run from step 0 starts a new file and
  renames an older one to `metrics.1.jsonl`.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    resume_step: int = 0,
    tensorboard: bool = True,
    writable: bool = True,
  ):
    """Opens the files.

    Args:
      workdir: the run's folder.
      resume_step: the step of the restored checkpoint; 0 without one.
      tensorboard: whether to write TensorBoard's event files, in
        `workdir/tensorboard`.
      writable: False to write nothing, in all processes but one.
    """
    self._file, self._events = None, None
    if not writable:
      return
    self._workdir = pathlib.Path(workdir)
    path = self._workdir / "metrics.jsonl"
    if resume_step and path.exists():
      with files.replacing(path) as temporary:
        temporary.write_text(
          "".join(
            f"{line}\n"
            for line, metrics in _lines(path)
            if metrics["step"] <= resume_step
          )
        )
    else:
      self._workdir.mkdir(parents=True, exist_ok=True)
      if kept := files.set_aside(path):
        logging.warning(
          "no checkpoint of the run in %s: it starts at step 0, and keeps the "
          "metrics that were there as %s", self._workdir, kept.name,
        )  # fmt: skip
    # Buffered by line: a killed run keeps all lines that it has written.
    self._file = path.open("a", buffering=1)
    if tensorboard:
      self._events = _event_writer(self._workdir / "tensorboard", resume_step)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes numbers.

    Args:
      step: the training step.
      values: numbers by name. NaN and infinity are null in the file.
    """
    if not self._file:
      return
    line = results.plain({"step": step, **values})
    self._file.write(json.dumps(line, allow_nan=False) + "\n")
    if self._events:
      for name, value in values.items():
        self._events.add_scalar(name, float(value), step)
      self._events.flush()

  def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures, also as PNG files `workdir/NAME/step_000500.png`.

    Args:
      step: the training step.
      images: uint8 [H, W, C], by name.
    """
    if not self._file:
      return
    for name, image in images.items():
      path = self._workdir / name / f"step_{step:06d}.png"
      pictures.save_png(path, image)
      if self._events:
        self._events.add_image(name, image, step)

  def flush(self) -> None:
    """Passes everything written so far to the operating system."""
    if self._file:
      self._file.flush()
    if self._events:
      self._events.flush()

  def close(self) -> None:
    """Closes the files; a second call does nothing."""
    if self._file:
      self._file.close()
    if self._events:
      self._events.close()
      self._events = None

  def __enter__(self) -> "MetricWriter":
    return self

  def __exit__(self, *unused_error: Any) -> None:
    self.close()


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Returns the metrics in a `metrics.jsonl`.

  Args:
    path: the file. A last line that a killed run left half-written is
      skipped.

  Returns:
    One dict per line, each with 'step'.

  Raises:
    errors.UserError: there is no such file, or a line before the last is
      broken.
  """
  return [metrics for _, metrics in _lines(path)]


def _lines(path: str | os.PathLike) -> list[tuple[str, dict[str, Any]]]:
  """Returns the complete lines of a `metrics.jsonl`, as text and as dict."""
  try:
    # Undecodable bytes are not JSON either.
    texts = pathlib.Path(path).read_text(errors="replace").splitlines()
  except FileNotFoundError:
    raise errors.UserError(
      f"{path} does not exist. Give the metrics.jsonl of a training run."
    ) from None
  lines = []
  for number, text in enumerate(texts, start=1):
    try:
      metrics = json.loads(text)
      if type(metrics["step"]) is not int:
        raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
      if number == len(texts):
        break
      raise errors.UserError(
        f"{path}, line {number}, is no JSON object with a 'step', a whole "
        "number. Mend or remove that line."
      ) from None
    lines.append((text, metrics))
  return lines


def _event_writer(
  folder: pathlib.Path, resume_step: int
) -> "_EventWriter | None":
  """Returns TensorBoard's writer, or None where tensorboardX is missing."""
  try:
    return _EventWriter(folder, resume_step)
  except ImportError:
    logging.warning(
      "tensorboardX is not installed, so there will be no TensorBoard events. "
      "metrics.jsonl holds the same numbers."
    )
    return None


class _EventWriter:
  """Writes TensorBoard's events immediately.

  The `SummaryWriter` of tensorboardX writes them in a thread. A full disk, or a
  clock that jumps back by some weeks, ends the thread, and adding a few more
  events then blocks for ever.
  """

  def __init__(self, folder: pathlib.Path, resume_step: int):
    # Slow to import, and not always used.
    from tensorboardX import event_file_writer
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    # Its classes are created on import, so type checkers do not see them.
    events: Any = event_pb2
    self._event, self._summary = events.Event, summary
    folder.mkdir(parents=True, exist_ok=True)
    # The file's name has the time in seconds; the process id distinguishes
    # runs that start in the same second.
    self._file = event_file_writer.EventsWriter(
      str(folder / "events"), f".{os.getpid()}"
    )
    # Hides the events of the steps that a resumed run repeats.
    start = events.SessionLog(status=events.SessionLog.START)
    self._add(resume_step + 1, session_log=start)

  def add_scalar(self, name: str, value: float, step: int) -> None:
    self._add(step, summary=self._summary.scalar(name, value))

  def add_image(self, name: str, image: np.ndarray, step: int) -> None:
    self._add(step, summary=self._summary.image(name, image, dataformats="HWC"))

  def _add(self, step: int, **content: Any) -> None:
    self._file.write_event(
      self._event(wall_time=time.time(), step=step, **content)
    )

  def flush(self) -> None:
    self._file.flush()

  def close(self) -> None:
    self._file.close()
