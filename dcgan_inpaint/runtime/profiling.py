"""A trace of some steps of a job, for TensorBoard and Perfetto.

`main` puts `trace` around the job. The training loop and the search put `call`
around each compiled call of some steps, which does nothing outside of `trace`.
docs/performance.md explains how to read a trace.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import contextvars
import dataclasses
import os
import pathlib
import re

from absl import logging
import jax

from dcgan_inpaint.runtime import errors

KINDS = ("train", "search")


@dataclasses.dataclass
class _Trace:
  """A trace that is to be made, or is being made.

  Attributes:
    kind: of the steps, of `KINDS`.
    wanted: the steps.
    folder: where it goes.
    done: steps of this kind that were started, of those that nobody numbers.
    state: 'waiting', 'running' or 'written'.
  """

  kind: str
  wanted: range
  folder: pathlib.Path
  done: int = 0
  state: str = "waiting"

  def start(self) -> None:
    jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
    self.state = "running"

  def stop(self) -> None:
    jax.profiler.stop_trace()
    self.state = "written"
    logging.info("profile: %s", self.folder)


_CURRENT: contextvars.ContextVar[_Trace | None] = contextvars.ContextVar(
  "trace", default=None
)


def parse(text: str) -> range:
  """Returns the steps that '100:110' means: 100 to 109, counted from 0.

  Args:
    text: the value of --profile_steps.

  Raises:
    errors.UserError: it is something else, or no step.
  """
  match = re.fullmatch(r"(\d+):(\d+)", text)
  steps = range(*map(int, match.groups())) if match else range(0)
  if not steps:
    raise errors.UserError(
      f"--profile_steps={text}: give the first step and the one after the last "
      "as numbers, such as 100:110"
    )
  return steps


@contextlib.contextmanager
def trace(
  kind: str, steps: range, folder: str | os.PathLike[str]
) -> Iterator[None]:
  """Traces those calls within the block that make some of the steps.

  Args:
    kind: of the steps, of `KINDS`.
    steps: which; those of a training as it numbers them, those of searches from
      the first of the block on, over all batches.
    folder: where the trace goes, to plugins/profile/TIME.
  """
  made = _Trace(kind, steps, pathlib.Path(folder))
  token = _CURRENT.set(made)
  try:
    yield
  finally:
    _CURRENT.reset(token)
    if made.state == "running":
      made.stop()
  if made.state == "waiting":
    logging.warning(
      "no profile: the job made no %s step from %s to %s",
      kind, steps.start, steps.stop - 1,
    )  # fmt: skip


@contextlib.contextmanager
def call(
  kind: str, count: int, wait: Callable[[], object], first: int | None = None
) -> Iterator[None]:
  """Marks the block as a compiled call of some steps.

  The trace starts before the first call that contains a wanted step, after
  earlier calls have ended, and stops when the last such call has ended.

  Args:
    kind: of the steps, of `KINDS`.
    count: how many steps.
    wait: waits for all calls that were started.
    first: the number of the first step; as many as there were by default.
  """
  current = _CURRENT.get()
  if current is None or current.kind != kind:
    yield
    return
  if first is None:
    first = current.done
  last = current.done = first + count
  wanted = current.wanted
  if current.state == "waiting" and last > wanted.start and first < wanted.stop:
    wait()
    current.start()
  with jax.profiler.StepTraceAnnotation(kind, step_num=first):
    yield
  if current.state == "running" and last >= wanted.stop:
    wait()
    current.stop()
