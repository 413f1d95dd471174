"""Signals as a request to stop: a job saves its work and ends in order.

SIGTERM comes from schedulers, before they take a machine away; SIGINT is
Ctrl-C, and SIGHUP a terminal that is closed. Between its pieces of work a job
asks whether a stop is `due`, saves, and raises `errors.Stopped`. A signal that
is ignored from the outset, as SIGHUP under `nohup`, stays ignored.
"""

import os
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

# Systems other than POSIX know no SIGHUP.
_SIGNALS = tuple(
  getattr(signal, name)
  for name in ("SIGTERM", "SIGINT", "SIGHUP")
  if hasattr(signal, name)
)


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
    self._previous: dict[signal.Signals, Any] = {}

  def __enter__(self) -> "Watch":
    # Several processes agree through JAX, which has set its own handler of
    # SIGTERM when they were joined.
    ours = _SIGNALS[1:] if self._together else _SIGNALS
    self._previous = _set(ours, self._note)
    return self

  def __exit__(self, *unused: object) -> None:
    _restore(self._previous)

  def _note(self, number: int, frame: Any) -> None:
    if self._asked and number == signal.SIGINT:
      # A second Ctrl-C is not to wait.
      self._previous[signal.SIGINT](number, frame)
    self._asked = True
    if self._together:
      os.kill(os.getpid(), signal.SIGTERM)

  def due(self) -> bool:
    """Tells whether to stop now.

    Where the processes run one program, a signal to one of them stops all, at
    the same call of each: they must call this equally often.
    """
    self._calls += 1
    if self._together:
      return multihost_utils.reached_preemption_sync_point(self._calls)
    return self._asked


def _set(
  signals: tuple[signal.Signals, ...], handler: Any
) -> dict[signal.Signals, Any]:
  """Sets a handler; returns those that were there before."""
  # Only a main thread may.
  if threading.current_thread() is not threading.main_thread():
    return {}
  return {
    one: signal.signal(one, handler)
    for one in signals
    # None: a handler that Python has not set.
    if signal.getsignal(one) not in (signal.SIG_IGN, None)
  }


def _restore(previous: dict[signal.Signals, Any]) -> None:
  """Sets the handlers that were there before."""
  for one, handler in previous.items():
    signal.signal(one, handler)
