"""How far a job is: rate and time left, on a terminal or in a log file."""

import contextlib
import shutil
import sys
import time

from absl import logging
import tqdm

_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 30.0


class Progress:
  """Counts what is done and shows it.

  On a terminal it is a bar that moves; elsewhere a plain line every 30
  seconds, by absl's logging. Rate and time left know only the time that was
  spent working: what runs within `paused()` (compilation, evaluation, saving)
  does not count.

    with progress.Progress(4_000_000, description="train") as bar:
      for step in range(steps):
        ...
        bar.update(batch_size, d_loss=d_loss)
  """

  def __init__(
    self,
    total,
    unit="images",
    description="",
    initial=0,
    visible=True,
    clock=time.perf_counter,
    stream=None,
  ):
    """Starts the clock.

    Args:
      total: how much there is to do.
      unit: what is counted, in the plural.
      description: the job's name, shown first.
      initial: how much was done by an earlier run; it does not count for the
        rate.
      visible: False shows nothing; for all processes but one.
      clock: function that returns seconds and never goes back.
      stream: where the bar goes; None is standard error.
    """
    stream = sys.stderr if stream is None else stream
    self._total, self._unit, self._description = total, unit, description
    self._initial = self._done = initial
    self._figures = {}
    self._logged = None  # What had been done when the last line was written.
    self._visible, self._clock = visible, clock
    self._worked = 0.0  # Seconds up to the last pause.
    self._resumed = clock()  # When work went on after it; None in a pause.
    self._shown = self._resumed
    self._bar = None
    if visible and stream.isatty():
      size = shutil.get_terminal_size()
      # tqdm draws; rate and time left are ours, since its own know no pauses.
      self._bar = tqdm.tqdm(
        desc=description or None,
        total=total,
        initial=initial,
        unit_scale=True,
        file=stream,
        # A terminal may give its size as 0, and tqdm would draw nothing; here
        # it is 80 by 24 then.
        ncols=size.columns,
        nrows=size.lines,
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}",
      )

  @property
  def seconds(self):
    """Seconds spent working, pauses left out."""
    if self._resumed is None:
      return self._worked
    return self._worked + self._clock() - self._resumed

  @property
  def rate(self):
    """Units per second of work; 0 before the first."""
    seconds = self.seconds
    return (self._done - self._initial) / seconds if seconds > 0 else 0.0

  @property
  def seconds_left(self):
    """Seconds of work left at this rate; None before the first unit."""
    return (self._total - self._done) / self.rate if self.rate else None

  def update(self, count, **figures):
    """Counts `count` more units as done.

    Args:
      count: units done since the last call.
      **figures: numbers to show, such as losses. They are read only when
        shown, so values still being computed on a device do not hold up the
        loop at every step.
    """
    self._done += count
    self._figures |= figures
    wait = _LOG_SECONDS if self._bar is None else _TERMINAL_SECONDS
    if self._clock() - self._shown >= wait:
      self._show()

  @contextlib.contextmanager
  def paused(self):
    """Stops the clock for a block; blocks may be nested."""
    if self._resumed is None:
      yield
      return
    self._worked, self._resumed = self.seconds, None
    try:
      yield
    finally:
      self._resumed = self._clock()

  def close(self):
    """Shows the last state and stops the clock; twice is as good as once."""
    if self._visible:
      if self._logged != self._done:
        self._show()
      if self._bar is not None:
        self._bar.close()
    self._visible = False
    self._worked, self._resumed = self.seconds, None

  def __enter__(self):
    return self

  def __exit__(self, *unused_error):
    self.close()

  def _show(self):
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
    parts += [f"{name} {float(x):.4g}" for name, x in self._figures.items()]
    if self._bar is not None:
      self._bar.n = self._done
      self._bar.set_postfix_str(", ".join(parts))  # This redraws.
      return
    self._logged = self._done
    share = self._done / self._total if self._total else 1.0
    logging.info(
      "%s%d of %d %s (%.0f %%), %s",
      f"{self._description}: " if self._description else "",
      self._done,
      self._total,
      self._unit,
      100 * share,
      ", ".join(parts),
    )
