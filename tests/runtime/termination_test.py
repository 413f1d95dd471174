import os
import signal
import subprocess
import sys
import time

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


# A library that does not come back to Python, as one that solves equations: it
# waits for a lock that it holds.
BUSY = """
import ctypes, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from dcgan_inpaint.runtime import termination
with termination.Watch(grace=0.2) as watch:
  library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
  library.pthread_mutex_lock(mutex)
  print("ready", flush=True)
  library.pthread_mutex_lock(mutex)
"""


@pytest.mark.parametrize(
  "name",
  [
    "SIGTERM",
    pytest.param("SIGINT", marks=pytest.mark.slow),
    pytest.param("SIGHUP", marks=pytest.mark.slow),
  ],
)
def test_a_signal_is_heeded_while_a_library_is_at_work(name):
  with subprocess.Popen(
    [sys.executable, "-c", BUSY],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as started:
    assert started.stdout.readline() == "ready\n"
    started.send_signal(getattr(signal, name))
    try:
      out, err = started.communicate(timeout=20)
    finally:
      started.kill()
  assert started.returncode == 0 and not err
  (line,) = out.strip().splitlines()
  assert "resume by running the same command" in line


def test_a_block_that_is_left_in_time_ends_nothing():
  before = signal.set_wakeup_fd(-1)
  with termination.Watch(grace=0.05) as watch:
    signal.raise_signal(signal.SIGTERM)
    assert watch.due()
  time.sleep(0.3)  # This process goes on.
  with termination.Watch(grace=0.05):
    pass
  assert signal.set_wakeup_fd(-1) == before
