"""Progress of a job: rate and time left, on a terminal or in a log file."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import shutil
import sys
import time
from typing import Any
from typing import TextIO

from absl import logging
import tqdm

_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 30.0


class Progress:
  """Counts finished work and shows it.

  On a terminal it is a moving bar; elsewhere a plain line every 30 seconds, by
  absl's logging. Rate and time left are based on working time alone: what runs
  within `paused()` (compilation, evaluation, saving) does not count.

    with progress.Progress(4_000_000, description="train") as bar:
      for step in range(steps):
        ...
        bar.update(batch_size, d_loss=d_loss)
  """

  def __init__(
    self,
    total: int,
    unit: str = "images",
    description: str = "",
    initial: int = 0,
    visible: bool = True,
    clock: Callable[[], float] = time.perf_counter,
    stream: TextIO | None = None,
  ):
    """Starts the clock.

    Args:
      total: units of work in all.
      unit: what is counted, in the plural.
      description: the job's name, shown first.
      initial: units that an earlier run has done; they do not count for the
        rate.
      visible: False shows nothing; for all processes but one.
      clock: function that returns seconds and never decreases.
      stream: where the bar goes; None is standard error.
    """
    output: TextIO = sys.stderr if stream is None else stream
    self._total, self._unit, self._description = total, unit, description
    self._initial = self._done = initial
    self._metrics: dict[str, Any] = {}
    self._logged: int | None = None  # Units done at the last logged line.
    self._visible, self._clock = visible, clock
    self._worked = 0.0  # Seconds up to the last pause.
    now = clock()
    self._resumed: float | None = now  # The end of that pause; None in one.
    self._shown = now
    self._bar: tqdm.tqdm | None = None
    if visible and output.isatty():
      size = shutil.get_terminal_size()
      # tqdm draws alone: its own rate and time left do not exclude pauses.
      self._bar = tqdm.tqdm(
        desc=description or None,
        total=total,
        initial=initial,
        unit_scale=True,
        file=output,
        # A terminal may report a size of 0, for which tqdm draws nothing;
        # `get_terminal_size` returns 80 by 24 for it.
        ncols=size.columns,
        nrows=size.lines,
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}",
      )

  @property
  def seconds(self) -> float:
    """Seconds of work, without pauses."""
    if self._resumed is None:
      return self._worked
    return self._worked + self._clock() - self._resumed

  @property
  def rate(self) -> float:
    """Units per second of work; 0 before the first unit."""
    seconds = self.seconds
    return (self._done - self._initial) / seconds if seconds > 0 else 0.0

  @property
  def seconds_left(self) -> float | None:
    """Seconds of work left at this rate; None before the first unit."""
    return (self._total - self._done) / self.rate if self.rate else None

  def update(self, count: int, **metrics: Any) -> None:
    """Counts `count` more units as done.

    Args:
      count: units done since the last call.
      **metrics: numbers to show, such as losses. They are read only when shown,
        so that the loop does not wait at every step for values that a device
        still computes.
    """
    self._done += count
    self._metrics |= metrics
    wait = _LOG_SECONDS if self._bar is None else _TERMINAL_SECONDS
    if self._clock() - self._shown >= wait:
      self._show()

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Stops the clock for a block; blocks may be nested."""
    if self._resumed is None:
      yield
      return
    self._worked, self._resumed = self.seconds, None
    try:
      yield
    finally:
      self._resumed = self._clock()

  def close(self) -> None:
    """Shows the last state and stops the clock; a second call does nothing."""
    if self._visible:
      if self._logged != self._done:
        self._show()
      if self._bar is not None:
        self._bar.close()
    self._visible = False
    self._worked, self._resumed = self.seconds, None

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *unused: object) -> None:
    self.close()

  def _show(self) -> None:
    """Redraws the bar or writes a line."""
    self._shown = self._clock()
    if not self._visible:
      return
    rate, left = self.rate, self.seconds_left
    parts = [f"{rate:.{0 if rate >= 10 else 2}f} {self._unit}/s"]
    if self._done >= self._total:
      parts.append(f"{tqdm.tqdm.format_interval(self.seconds)} in all")
    elif left is not None:
      parts.append(f"{tqdm.tqdm.format_interval(left)} left")
    parts += [f"{name} {float(x):.4g}" for name, x in self._metrics.items()]
    if self._bar is not None:
      self._bar.n = self._done
      self._bar.set_postfix_str(", ".join(parts))  # This redraws.
      return
    self._logged = self._done
    fraction = self._done / self._total if self._total else 1.0
    logging.info(
      "%s%d of %d %s (%.0f %%), %s",
      f"{self._description}: " if self._description else "",
      self._done,
      self._total,
      self._unit,
      100 * fraction,
      ", ".join(parts),
    )
