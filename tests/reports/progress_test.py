import io
import os
import re
import sys

from absl import logging
import pytest

from dcgan_inpaint.reports import progress


class Clock:
  """A clock that the test sets."""

  def __init__(self):
    self.now = 1000.0

  def __call__(self):
    return self.now


class Terminal(io.StringIO):
  def isatty(self):
    return True


def numbers(text):
  """Returns the numbers and times of a line, as they are written."""
  return re.findall(r"[\d.:]*\d", text)


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def lines(monkeypatch):
  """The logged lines."""
  logged = []
  monkeypatch.setattr(logging, "info", lambda f, *a: logged.append(f % a))
  return logged


def make(clock, stream=None, **options):
  stream = stream or io.StringIO()
  return progress.Progress(
    1000, description="train", clock=clock, stream=stream, **options
  )


def test_rate_and_time_left_follow_the_work_done(clock):
  bar = make(clock)
  assert bar.rate == 0
  assert bar.seconds_left is None
  clock.now += 4
  bar.update(100)
  assert bar.rate == 25
  assert bar.seconds_left == 36
  clock.now += 4
  bar.update(300)
  assert bar.rate == 50
  assert bar.seconds_left == 12


def test_pauses_do_not_count(clock):
  bar = make(clock)
  with bar.paused():  # Compilation.
    clock.now += 100
  clock.now += 2
  bar.update(100)
  with bar.paused():
    clock.now += 7
    with bar.paused():
      clock.now += 7
    clock.now += 7
    assert bar.seconds == 2
    assert bar.rate == 50
  clock.now += 2
  bar.update(100)
  assert bar.seconds == 4
  assert bar.rate == 50
  assert bar.seconds_left == 16


def test_the_clock_resumes_after_an_error_in_a_pause(clock):
  bar = make(clock)
  with pytest.raises(RuntimeError), bar.paused():
    clock.now += 5
    raise RuntimeError
  clock.now += 3
  assert bar.seconds == 3


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_rate(clock):
  bar = make(clock, initial=500)
  clock.now += 10
  bar.update(100)
  assert bar.rate == 10
  assert bar.seconds_left == 40


def test_a_log_file_gets_a_plain_line_every_30_seconds(clock, lines):
  with make(clock) as bar:
    for _ in range(100):
      clock.now += 1
      bar.update(10, d_loss=0.69314)
    # Done, of all, per cent, images a second, time left and the metric.
    assert numbers(lines[0]) == ["300", "1000", "30", "10", "01:10", "0.6931"]
    for word in ("train", "images/s", "d_loss"):
      assert word in lines[0]
    assert len(lines) == 3
  # At the end, the total time.
  assert numbers(lines[3]) == ["1000", "1000", "100", "10", "01:40", "0.6931"]
  bar.close()
  assert len(lines) == 4


def test_the_end_is_logged_once(clock, lines):
  with make(clock) as bar:
    clock.now += 31
    bar.update(1000)
  assert len(lines) == 1
  with make(clock) as bar:
    clock.now += 1
    bar.update(1000)
  assert len(lines) == 2


def test_a_terminal_gets_a_bar_and_no_log_lines(clock, lines):
  terminal = Terminal()
  with make(clock, terminal) as bar:
    with bar.paused():
      clock.now += 50
    clock.now += 5
    bar.update(250, d_loss=0.5, g_loss=1.25)
    state = terminal.getvalue().split("\r")[-1]
  # Per cent; after the bar: done, of all, rate, time left, metrics.
  before, _, after = state.partition("|")
  assert "train" in before and numbers(before) == ["25"]
  shown = numbers(after.rpartition("|")[2])
  assert shown == ["250", "1.00", "50", "00:15", "0.5", "1.25"]
  for name in ("images/s", "d_loss", "g_loss"):
    assert name in after
  assert not lines


def test_a_terminal_of_unknown_size_gets_a_bar_too(clock, monkeypatch):
  reader, writer = os.openpty()  # Its size is 0 by 0, as under `docker -t`.
  with open(reader, "rb", 0) as output, open(writer, "w") as terminal:
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.Progress(1000, clock=clock) as bar:
      clock.now += 5
      bar.update(250)
    monkeypatch.undo()
    shown = b""
    while b"\n" not in shown:  # Closing the bar ends its line.
      shown += output.read(4096)
  assert b"50 images/s" in shown


def test_metrics_are_read_only_when_shown(clock, lines):
  class OnDevice:
    reads = 0

    def __float__(self):
      OnDevice.reads += 1
      return 0.5

  bar = make(clock)
  for _ in range(29):
    clock.now += 1
    bar.update(1, loss=OnDevice())
  assert OnDevice.reads == 0
  clock.now += 1
  bar.update(1, loss=OnDevice())
  assert OnDevice.reads == 1


def test_an_invisible_one_counts_in_silence(clock, lines):
  terminal = Terminal()
  with make(clock, terminal, visible=False) as bar:
    clock.now += 60
    bar.update(600)
    assert bar.rate == 10
  assert terminal.getvalue() == ""
  assert not lines
