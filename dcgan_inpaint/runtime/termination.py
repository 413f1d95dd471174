"""SIGTERM as a request to stop: a job saves its work and ends in order.

Schedulers send it before they take a machine away. Between its pieces of work a
job asks whether a stop is `due`, saves, and raises `errors.Stopped`.
"""

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Watch:
  """Tells whether the job was asked to stop; a context manager."""

  def __init__(self, together: bool = False):
    """Does not watch yet.

    Args:
      together: all processes stop at the same call of `due`, since they run one
        program; otherwise each stops on its own.
    """
    self._together = together and jax.process_count() > 1
    self._asked = False
    self._calls = 0
    self._previous: Any = None  # The handler of SIGTERM.

  def __enter__(self) -> "Watch":
    # Several processes agree through JAX, which has set its own handler of
    # SIGTERM when they were joined. Only a main thread may set one.
    if not self._together and (
      threading.current_thread() is threading.main_thread()
    ):
      self._previous = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *unused: object) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def _note(self, *unused: object) -> None:
    self._asked = True

  def due(self) -> bool:
    """Tells whether to stop now.

    Where the processes run one program, a signal to one of them stops all, at
    the same call of each: they must call this equally often.
    """
    self._calls += 1
    if self._together:
      return multihost_utils.reached_preemption_sync_point(self._calls)
    return self._asked
