"""A share of the memory for what several threads do at a time."""

from collections.abc import Iterator
import contextlib
import threading


class Budget:
  """Lets threads hold amounts whose sum stays within a limit."""

  def __init__(self, limit: float):
    """Nothing is held yet.

    Args:
      limit: the most that is held at a time; one amount beyond it is held
        alone.
    """
    self._limit, self._held = limit, 0.0
    self._changed = threading.Condition()

  @contextlib.contextmanager
  def hold(self, amount: float) -> Iterator[None]:
    """Holds an amount for a block, and waits until it may.

    A thread that holds one already must not ask for another.

    Args:
      amount: such as the pixels of an image that is decoded.
    """
    with self._changed:
      self._changed.wait_for(
        lambda: not self._held or self._held + amount <= self._limit
      )
      self._held += amount
    try:
      yield
    finally:
      with self._changed:
        self._held -= amount
        self._changed.notify_all()
