import multiprocessing
import os
import signal
import threading
import time

import pytest

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.web import worker as worker_lib

# Each starts a process.
pytestmark = pytest.mark.slow


def make():
  """Returns a function that does what it is asked for."""

  def work(request, tell):
    tell(0.5, "half")
    if request == "process":
      return os.getpid()
    if request == "refuse":
      raise errors.UserError("this\nis wrong")
    if request == "break":
      raise ZeroDivisionError("by nothing")
    if request == "exit":
      os._exit(1)
    time.sleep(60)

  return work


def make_nothing():
  raise errors.UserError("there is no such model")


@pytest.fixture
def worker():
  made = worker_lib.Worker(make, seconds=1)
  yield made
  made.close()
  assert not multiprocessing.active_children()


def silent(done, what):
  pass


def test_work_is_done_in_a_process_that_stays(worker):
  told = []
  first = worker.do("process", lambda *said: told.append(said))
  assert first != os.getpid() and first == worker.do("process", silent)
  assert told[-1] == (0.5, "half")


def test_what_is_wrong_is_said_in_a_line_and_work_goes_on(worker):
  process = worker.do("process", silent)
  with pytest.raises(errors.UserError, match=r"^this\\nis wrong$"):
    worker.do("refuse", silent)
  with pytest.raises(errors.UserError, match="ZeroDivisionError: by nothing"):
    worker.do("break", silent)
  assert worker.do("process", silent) == process


@pytest.mark.parametrize(
  "request_, named", [("sleep", "1 sec"), ("exit", "cut")]
)
def test_a_process_that_hangs_or_dies_costs_one_piece(worker, request_, named):
  process = worker.do("process", silent)
  with pytest.raises(errors.UserError, match=named):
    worker.do(request_, silent)
  assert worker.do("process", silent) != process


def test_work_ends_with_the_page(worker):
  raised = []

  def wait():
    try:
      worker.do("sleep", silent)
    except errors.UserError as error:
      raised.append(error)

  worker.wait()
  thread = threading.Thread(target=wait)
  thread.start()
  time.sleep(0.2)
  worker.close()
  thread.join(10)
  assert not thread.is_alive() and len(raised) == 1
  with pytest.raises(errors.UserError, match="closed"):
    worker.do("process", silent)


def test_what_the_package_is_to_blame_for_has_a_traceback(capsys):
  line = worker_lib.in_a_line(ZeroDivisionError("by nothing"))
  assert "by nothing" in line and line.isprintable()
  assert "ZeroDivisionError" in capsys.readouterr().err
  assert worker_lib.in_a_line(errors.UserError("wrong")) == "wrong"
  assert "out of memory" in worker_lib.in_a_line(MemoryError())
  assert not capsys.readouterr().err


def test_ctrl_c_does_not_reach_the_process(worker):
  process = worker.do("process", silent)
  os.kill(process, signal.SIGINT)
  assert worker.do("process", silent) == process


def test_a_model_that_cannot_be_loaded_is_named_at_once():
  worker = worker_lib.Worker(make_nothing, seconds=1)
  with pytest.raises(errors.UserError, match="no such model"):
    worker.wait()
