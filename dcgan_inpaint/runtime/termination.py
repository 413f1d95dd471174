"""Signals as a request to stop: a job saves its work and ends in order.

SIGTERM comes from schedulers, before they take a machine away; SIGINT is
Ctrl-C, and SIGHUP a terminal that is closed. Between its pieces of work a job
asks whether a stop is `due`, saves, and raises `errors.Stopped`. A signal that
is ignored from the outset, as SIGHUP under `nohup`, stays ignored.

Python runs handlers of signals between the steps of its main thread, which may
be in a library for minutes. So a job that a kill costs nothing may name a
`grace`: a thread of its own, which the system wakes, ends the process after it.
"""

import contextlib
import os
import signal
import socket
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

from dcgan_inpaint.runtime import process

# Systems other than POSIX know no SIGHUP.
_SIGNALS = tuple(
  getattr(signal, name)
  for name in ("SIGTERM", "SIGINT", "SIGHUP")
  if hasattr(signal, name)
)


class Watch:
  """Tells whether the job was asked to stop; a context manager."""

  def __init__(self, together: bool = False, grace: float | None = None):
    """Does not watch yet.

    Args:
      together: all processes stop at the same call of `due`, since they run one
        program; otherwise each stops on its own.
      grace: the seconds after which a process that was asked to stop and has
        not left this block is ended, with a line and status 0; None waits.
    """
    self._grace = grace
    self._left = threading.Event()
    self._cleanup = contextlib.ExitStack()
    self._together = together and jax.process_count() > 1
    self._asked = False
    self._calls = 0
    self._previous: dict[signal.Signals, Any] = {}

  def __enter__(self) -> "Watch":
    # Several processes agree through JAX, which has set its own handler of
    # SIGTERM when they were joined.
    ours = _SIGNALS[1:] if self._together else _SIGNALS
    self._previous = _set(ours, self._note)
    if self._previous and self._grace is not None:
      self._cleanup.callback(self._left.set)
      # What a signal writes there itself, whatever Python is doing.
      ours, theirs = socket.socketpair()
      theirs.setblocking(False)
      self._cleanup.callback(theirs.close)
      before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
      self._cleanup.callback(signal.set_wakeup_fd, before)
      threading.Thread(
        target=self._end_late, args=(ours,), name="termination", daemon=True
      ).start()
    return self

  def __exit__(self, *unused: object) -> None:
    self._cleanup.close()
    _restore(self._previous)

  def _end_late(self, woken: socket.socket) -> None:
    """Ends the process some time after a signal, unless the block was left."""
    with woken:
      while numbers := woken.recv(64):
        if not set(numbers).isdisjoint(self._previous):
          break
      else:
        return  # The other end was closed.
    if not self._left.wait(self._grace):
      with contextlib.suppress(OSError):  # The terminal may be gone.
        print(
          "\nstopped in the middle of an image; resume by running the same "
          "command"
        )
      process.leave(0)

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
