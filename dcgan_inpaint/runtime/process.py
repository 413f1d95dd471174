"""What concerns the process as a whole: its memory, its output and its end."""

import contextlib
import ctypes
import functools
import logging
import multiprocessing
import numbers
import os
import pathlib
import signal
import sys
import threading
from typing import Any
from typing import NoReturn

from dcgan_inpaint.runtime import errors


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


def give_back_freed_memory() -> None:
  """Gives the system the memory that the process has freed, where it can."""
  with contextlib.suppress(AttributeError, OSError, TypeError):
    ctypes.CDLL(None).malloc_trim(0)


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
  return record.levelno >= logging.WARNING or _is_ours(record)


def _is_ours(record: logging.LogRecord) -> bool:
  package = pathlib.Path(__file__).resolve().parents[1]
  return pathlib.Path(record.pathname).resolve().is_relative_to(package)


def shorten(record: logging.LogRecord) -> bool:
  """Leaves a line of what a library logs, without tracebacks.

  What ends the job is raised in its own thread as well, with its traceback
  where nobody expects it. A full disk makes Orbax log the same from a hundred
  places.

  Args:
    record: of absl's handler, which is changed.

  Returns:
    True: the record is logged.
  """
  if not _is_ours(record):
    record.msg = record.getMessage().strip().partition("\n")[0]
    record.args, record.exc_info, record.exc_text = None, None, None
    record.stack_info = None
  return True


def report_threads_in_a_line() -> None:
  """Lets what is raised where nobody can catch it print a line, or nothing."""

  def thread(raised: threading.ExceptHookArgs) -> None:
    if raised.exc_type is not SystemExit:
      name = raised.thread.name if raised.thread else "a thread"
      logging.getLogger("absl").warning(
        "%s ended by %s: %s", name, raised.exc_type.__name__,
        _first_line(raised.exc_value),
      )  # fmt: skip

  def ignored(raised: Any) -> None:
    # TensorStore goes on writing for a loop that has ended by an error.
    if "loop is closed" not in str(raised.exc_value):
      logging.getLogger("absl").warning(
        "ignored %s: %s", raised.exc_type.__name__,
        _first_line(raised.exc_value),
      )  # fmt: skip

  threading.excepthook = thread
  sys.unraisablehook = ignored


def _first_line(error: BaseException | None) -> str:
  return str(error).strip().partition("\n")[0]


def escape_arguments(record: logging.LogRecord) -> bool:
  """Makes what a log record was given printable, such as a file's name.

  Args:
    record: of absl's handler, whose arguments are changed.

  Returns:
    True: the record is logged.
  """
  if isinstance(record.args, tuple):
    record.args = tuple(
      value
      if value is None or isinstance(value, numbers.Number)
      else _Printable(value)
      for value in record.args
    )
  return True


class _Printable:
  """A value whose texts are printable."""

  def __init__(self, value: object):
    self._value = value

  def __str__(self) -> str:
    return errors.printable(str(self._value))

  def __repr__(self) -> str:
    return errors.printable(repr(self._value))


def end_on_interrupt() -> None:
  """Lets Ctrl-C, SIGTERM and a closed terminal end the process, with a line.

  That is where no `termination.Watch` waits for them. Nothing needs to be put
  in order, as a kill leaves nothing in disorder; and a library that is at work
  may not pass a `KeyboardInterrupt` on.
  """
  if threading.current_thread() is not threading.main_thread():
    return

  def end(number: int, *unused: object) -> None:
    with contextlib.suppress(OSError):  # The terminal may be gone.
      # A line of its own: a bar may be in the middle of one.
      sys.stderr.write("\ninterrupted; resume by running the same command\n")
    for child in multiprocessing.active_children():
      child.kill()
    leave(128 + number)

  for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    number = getattr(signal, name, None)
    # Or it is ignored, as in the background of a script, or under nohup.
    if number and signal.getsignal(number) in (
      signal.SIG_DFL,
      signal.default_int_handler,
    ):
      signal.signal(number, end)


def end_aborts_in_a_line() -> None:
  """Lets native code that aborts under a limit on memory end in a line.

  Under `ulimit -v` a library in C++ that gets no memory, or no thread, whose
  stack is memory too, knows no other way than abort(), or does not look and
  reads from address 0. Without such a limit nothing is changed: that is then a
  defect, and keeps its traceback.
  """
  try:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
      return
    handlers = _abort_handlers(limit)
    for number in (signal.SIGABRT, signal.SIGSEGV):
      ctypes.CDLL(None).signal(number, handlers[0])
    # Before it aborts, C++ would say what nobody has caught.
    ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE(handlers[1])
  # Another system, or another library of C++.
  except (AttributeError, ImportError, OSError):
    return


@functools.cache
def _abort_handlers(limit: int) -> tuple[Any, Any]:
  """Returns functions for C that end the process; they are never freed.

  Args:
    limit: of the virtual memory, bytes.
  """
  # Made beforehand: there may be no memory left for it.
  line = (
    "\nerror: out of memory: a library has aborted under the limit of "
    f"{limit / 2**20:,.0f} MiB of virtual memory (ulimit -v); raise it, or "
    "lower config.data.max_images or the batch sizes\n"
  ).encode()

  def end(*unused: object) -> None:
    os.write(2, line)
    os._exit(2)

  return (
    ctypes.CFUNCTYPE(None, ctypes.c_int)(end),
    ctypes.CFUNCTYPE(None)(end),
  )


def check_not_forked() -> None:
  """Refuses to go on in a fork of a process that has computed with JAX.

  JAX's threads are not there after a fork, and whoever waits for them waits for
  ever.

  Raises:
    errors.UserError: this process is a fork of the one that called it first.
  """
  if _first_process() != os.getpid():
    raise errors.UserError(
      f"process {os.getpid()} is a fork of one that has used JAX, which hangs "
      "there: start processes by spawn, as multiprocessing.get_context('spawn')"
    )


@functools.cache
def _first_process() -> int:
  """Returns the process that called it first, in forks of that one, too."""
  return os.getpid()


def leave(status: int) -> NoReturn:
  """Ends a process that has failed, at once.

  Python's own way out would first wait for what is under way, such as the other
  processes of a job, which wait for this one. Once it is gone, JAX stops them.

  Args:
    status: the exit status.
  """
  with contextlib.suppress(OSError):  # The terminal may be gone.
    sys.stdout.flush()
    sys.stderr.flush()
  os._exit(status)
