"""SIGTERM as a request: a job saves what it has done, and ends well.

Schedulers send it before they take a machine away. A job asks between its
pieces of work whether it is `due`, saves, and raises `errors.Stopped`.
"""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class Watch:
  """Knows whether the job was asked to stop; a context manager."""

  def __init__(self, together: bool = False):
    """Watches nothing yet.

    Args:
      together: all processes must stop at the same call of `due`, since they
        work on one program; else each stops on its own.
    """
    self._together = together and jax.process_count() > 1
    self._asked = False
    self._calls = 0
    self._before = None

  def __enter__(self) -> "Watch":
    # Several processes agree through JAX, whose handler of SIGTERM stands since
    # they were joined. Only a main thread may set one.
    if not self._together and (
      threading.current_thread() is threading.main_thread()
    ):
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *unused) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def _note(self, *unused) -> None:
    self._asked = True

  def due(self) -> bool:
    """Tells whether to stop now.

    Where the processes work together, one that is asked stops all, at the same
    call of each: they must call it equally often.
    """
    self._calls += 1
    if self._together:
      return multihost_utils.reached_preemption_sync_point(self._calls)
    return self._asked
