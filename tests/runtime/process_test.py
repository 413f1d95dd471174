import logging
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from dcgan_inpaint.runtime import process

HARM = "a\x1b[2J\x07\nW1201 forged\udce9.png"


def test_what_a_log_line_is_given_is_printable():
  for value in (HARM, pathlib.Path(HARM), ValueError(HARM)):
    record = logging.LogRecord(
      "absl", logging.INFO, "", 0, "%s of %d, %.1f %s %r",
      (value, np.int64(3), np.float32(0.5), None, value), None,
    )  # fmt: skip
    assert process.escape_arguments(record)
    text = record.getMessage()
    assert text.isprintable() and "forged" in text
    assert " of 3, 0.5 None " in text


def test_other_records_stay_as_they_are():
  for arguments in ((), ({"a": 1},)):
    record = logging.LogRecord(
      "absl", logging.INFO, "", 0, "100 %" if not arguments else "%(a)d",
      arguments, None,
    )  # fmt: skip
    process.escape_arguments(record)
    assert record.getMessage() in ("100 %", "1")


def test_a_library_logs_a_line_and_no_traceback():
  try:
    raise KeyError("x")
  except KeyError:
    error = sys.exc_info()
  for path, kept in ((__file__, False), (process.__file__, True)):
    record = logging.LogRecord(
      "absl", logging.ERROR, path, 1, "first %s\nsecond", ("line",), error
    )
    assert process.shorten(record)
    text = logging.Formatter().format(record)
    assert text.startswith("first line")
    assert ("Traceback" in text) == ("second" in text) == kept


# What libraries do where nobody can catch it.
THREADS = """
import threading
from dcgan_inpaint.runtime import process

process.report_threads_in_a_line()

def fail():
  raise ValueError("first\\nsecond")

class Fails:
  def __del__(self):
    raise RuntimeError("Event loop is closed")

class FailsAgain:
  def __del__(self):
    raise RuntimeError("no disk")

thread = threading.Thread(target=fail, name="saver")
thread.start()
thread.join()
Fails()
FailsAgain()
"""


def test_what_is_raised_where_nobody_catches_it_is_a_line():
  done = subprocess.run(
    [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True
  )
  first, second = done.stderr.splitlines()
  assert "saver" in first and "ValueError: first" in first
  assert "RuntimeError: no disk" in second


# Swallows every exception, as a library may.
STUBBORN = """
import signal, time
from dcgan_inpaint.runtime import process

signal.signal(signal.SIGINT, signal.default_int_handler)
process.end_on_interrupt()
print("ready", flush=True)
while True:
  try:
    time.sleep(60)
  except BaseException:
    pass
"""


def test_an_interrupt_ends_the_process_with_a_line():
  with subprocess.Popen(
    [sys.executable, "-c", STUBBORN],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as started:
    assert started.stdout.readline() == "ready\n"
    started.send_signal(signal.SIGINT)
    try:
      _, err = started.communicate(timeout=20)
    finally:
      started.kill()
  assert started.returncode == 130
  (line,) = err.strip().splitlines()
  assert "resume" in line


# Native code gets no thread, no memory, or reads from address 0.
ABORTS = """
import ctypes, resource, sys, threading
from dcgan_inpaint.runtime import process

if "limited" in sys.argv:
  resource.setrlimit(resource.RLIMIT_AS, (1 << 34, 1 << 34))
process.end_aborts_in_a_line()
abort = {
  "abort": ctypes.CDLL(None).abort,
  "terminate": ctypes.CDLL("libstdc++.so.6")._ZSt9terminatev,
  "address 0": lambda: ctypes.string_at(0),
}[sys.argv[1]]
if "thread" in sys.argv:
  thread = threading.Thread(target=abort)
  thread.start()
  thread.join()
abort()
"""


@pytest.mark.parametrize("thread", [(), ("thread",)])
@pytest.mark.parametrize("how", ["abort", "terminate", "address 0"])
def test_an_abort_under_a_limit_on_memory_is_a_line(how, thread):
  done = subprocess.run(
    [sys.executable, "-X", "faulthandler", "-c", ABORTS, how, "limited"]
    + list(thread),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith("error: out of memory") and "16,384 MiB" in line


def test_an_abort_without_a_limit_is_a_defect_and_stays_one():
  done = subprocess.run(
    [sys.executable, "-c", ABORTS, "abort"], capture_output=True
  )
  assert done.returncode == -signal.SIGABRT


# A child that is forked, as by multiprocessing's former default.
FORK = """
import os
import numpy as np
import dcgan_inpaint
from dcgan_inpaint.runtime import process

process.check_not_forked()
child = os.fork()
if not child:
  try:
    dcgan_inpaint.inpaint(np.zeros((64, 64, 3)), np.ones((64, 64)))
  except ValueError as error:
    print(error, flush=True)
  os._exit(0)
os.waitpid(child, 0)
process.check_not_forked()
"""


@pytest.mark.slow
def test_a_fork_is_refused_in_a_line_that_names_spawn():
  done = subprocess.run(
    [sys.executable, "-c", FORK],
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
  )
  (line,) = done.stdout.splitlines()
  assert "fork" in line and "spawn" in line
