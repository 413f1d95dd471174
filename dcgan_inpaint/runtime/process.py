"""What concerns the process as a whole: its memory, its output and its end."""

import ctypes
import logging
import os
import pathlib
import sys
from typing import NoReturn


def keep_freed_memory() -> None:
  """Lets the process keep the memory that a step frees, for the next step.

  Where glibc gives it back, Linux clears every page again: 20,000 of them,
  a tenth of the time of a training step at a quarter of the width on the CPU.
  Threads keep the settings that they start with: call it first of all.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # Another libc, another system.
    return
  mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap.
  mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, too,
  mallopt(-8, 1)  # M_ARENA_MAX: which is one for all threads.


def own_standard_output() -> None:
  """Leaves standard output to what Python prints; the rest goes to the errors.

  Gloo, which connects CPUs, greets there from several threads at once, and its
  halves of lines would come between those of a table.
  """
  sys.stdout.flush()
  ours = os.dup(1)
  os.dup2(2, 1)
  sys.stdout = os.fdopen(
    ours, "w", 1, encoding=sys.stdout.encoding, errors=sys.stdout.errors
  )


def is_for_the_user(record: logging.LogRecord) -> bool:
  """Tells whether a log record is for the user: our own, or a warning.

  Orbax and tfds log each step of their work as information, through absl too.

  Args:
    record: of absl's handler.
  """
  package = pathlib.Path(__file__).resolve().parents[1]
  return record.levelno >= logging.WARNING or (
    pathlib.Path(record.pathname).resolve().is_relative_to(package)
  )


def leave(status: int) -> NoReturn:
  """Ends a process that has failed, at once.

  Python's own way out would first wait for what is under way, such as the other
  processes of a job, which wait for this one. Once it is gone, JAX stops them.

  Args:
    status: the exit status.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
