import os
import signal
import subprocess
import sys

import pytest

from dcgan_inpaint.runtime import termination

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(autouse=True)
def as_in_a_terminal():
  """Handlers as a user's shell leaves them, whoever started the tests."""
  before = {one: signal.getsignal(one) for one in SIGNALS}
  for one in SIGNALS:
    signal.signal(one, signal.SIG_DFL)
  signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  for one, handler in before.items():
    signal.signal(one, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_watch_notes_a_signal(number):
  before = signal.getsignal(number)
  with termination.Watch() as watch:
    assert not watch.due()
    signal.raise_signal(number)
    assert watch.due() and watch.due()
  assert signal.getsignal(number) == before


def test_a_second_ctrl_c_ends_at_once():
  with pytest.raises(KeyboardInterrupt), termination.Watch() as watch:
    signal.raise_signal(signal.SIGINT)
    assert watch.due()
    signal.raise_signal(signal.SIGINT)
  with termination.Watch() as watch:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # Schedulers repeat it.
    assert watch.due()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_is_ignored_stays_ignored(number):
  signal.signal(number, signal.SIG_IGN)  # As under nohup, or in a background.
  with termination.Watch() as watch:
    signal.raise_signal(number)
    assert not watch.due()
  assert signal.getsignal(number) == signal.SIG_IGN


SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from dcgan_inpaint.runtime import process
process.end_on_interrupt()
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
signal.pause()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_a_watch_a_signal_ends_the_process_in_a_line(number):
  result = subprocess.run(
    [sys.executable, "-c", SCRIPT, number.name],
    capture_output=True,
    text=True,
    env=os.environ,
  )
  assert result.returncode == 128 + number and not result.stdout
  (line,) = result.stderr.split("\n")[1:-1]
  assert "same command" in line
