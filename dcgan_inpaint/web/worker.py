"""A process of its own for what takes long: it can be stopped at any moment.

The page stays responsive, a search that takes too long ends, and what crashes,
or runs out of memory, costs one visitor one try.
"""

from collections.abc import Callable
import multiprocessing
from multiprocessing import connection
import signal
import threading
import time
import traceback
from typing import Any

from dcgan_inpaint.runtime import errors

# In the process: makes what does the work, which is a function of a request and
# of what is to be told how far it is.
Make = Callable[[], Callable[[Any, Callable[[float, str], object]], Any]]


class Worker:
  """Does one piece of work at a time, in another process."""

  def __init__(self, make: Make, seconds: float):
    """Starts the process.

    Args:
      make: see `Make`; can be pickled, as requests and results can.
      seconds: the most that a piece of work may take; the start is not counted.
    """
    self._make, self._seconds = make, seconds
    self._lock = threading.Lock()
    self._closed = False
    self._process: Any = None
    self._ours: Any = None
    self._ready = False
    self._start()

  def do(self, request: Any, tell: Callable[[float, str], object]) -> Any:
    """Does a piece of work, as soon as earlier ones are done.

    Args:
      request: what to do.
      tell: is told how far it is.

    Raises:
      errors.UserError: it is wrong, took too long, or ended the process.
    """
    with self._lock:
      if self._closed:
        raise errors.UserError("the page is being closed")
      if not self._process.is_alive():
        self._start()
      if not self._ready:
        tell(0.0, "Loading the model")
        self._wait()
      try:
        return self._do(request, tell)
      except (BrokenPipeError, ConnectionResetError, EOFError):
        self._stop()
        raise errors.UserError(
          "the work was cut off: memory may have run out; try a smaller "
          "photograph, or fewer completions"
        ) from None

  def wait(self) -> None:
    """Waits until the process is ready to work.

    Raises:
      errors.UserError: it cannot be, and why.
    """
    with self._lock:
      self._wait()

  def close(self) -> None:
    """Ends the process, whatever it does."""
    self._closed = True
    self._stop()

  def _start(self) -> None:
    # Not a fork: JAX has threads, and so has the page.
    context = multiprocessing.get_context("spawn")
    self._ours, theirs = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(self._make, theirs), daemon=True
    )
    self._process.start()
    theirs.close()
    self._ready = False

  def _stop(self) -> None:
    self._process.kill()
    self._process.join()

  def _do(self, request: Any, tell: Callable[[float, str], object]) -> Any:
    self._ours.send(request)
    end = time.monotonic() + self._seconds
    while True:
      kind, content = self._receive(end)
      if kind == "done":
        return content
      if kind == "refused":
        raise errors.UserError(content)
      tell(*content)

  def _wait(self) -> None:
    try:
      kind, content = self._ours.recv()
    except EOFError:
      kind, content = "failed", "it ended by itself: memory may have run out"
    if kind == "failed":
      self._stop()
      raise errors.UserError(content)
    self._ready = True

  def _receive(self, end: float) -> tuple[str, Any]:
    """Returns the next message; by `end`, or the process is stopped."""
    if not self._ours.poll(max(0.0, end - time.monotonic())):
      self._stop()
      raise errors.UserError(
        f"stopped after {self._seconds:g} seconds: try a smaller hole or fewer "
        "completions; dcgan-inpaint serve --seconds allows more"
      )
    return self._ours.recv()


def _serve(make: Make, theirs: connection.Connection) -> None:
  """Does one piece of work after the other; runs in the process."""
  # Ctrl-C is sent to both processes, and the page's ends this one.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    work = make()
  except Exception as error:  # noqa: BLE001 # Whatever it is, it is reported.
    theirs.send(("failed", in_a_line(error)))
    return
  theirs.send(("ready", None))

  def tell(done: float, what: str) -> None:
    theirs.send(("told", (done, what)))

  while True:
    try:
      request = theirs.recv()
    except EOFError:  # The page has ended.
      return
    try:
      answer = ("done", work(request, tell))
    except BrokenPipeError:
      return
    except Exception as error:  # noqa: BLE001
      answer = ("refused", in_a_line(error))
    theirs.send(answer)


def in_a_line(error: Exception) -> str:
  """Returns an error in one line; of a defect, prints the traceback.

  Args:
    error: of the work.
  """
  if isinstance(error, errors.UserError):
    return str(error)
  if advice := errors.advice(error):
    return errors.printable(advice)
  traceback.print_exception(error)
  text = errors.printable(f"{type(error).__name__}: {error}")
  return f"this is a defect of the package, please report it: {text}"
