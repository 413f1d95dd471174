import errno
import fcntl
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from dcgan_inpaint.jobs import inpaint
from dcgan_inpaint.jobs import prepare
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lock

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Another run: it holds the workdir, forks a child that outlives it, and waits.
HOLDER = """
import os, sys, time
from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import lock

cache.FOLDERS = sys.argv[3]
with lock.hold(sys.argv[1]), lock.hold(sys.argv[1], inside=False):
  if not os.fork():
    os.close(1)
    time.sleep(float(sys.argv[2]))
    os._exit(0)
  print("held", flush=True)
  time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that holds `tmp_path`, with a child of its own."""
  with subprocess.Popen(
    [sys.executable, "-c", HOLDER, str(tmp_path), "20", cache.FOLDERS],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()


def test_a_workdir_is_one_runs_until_that_run_is_dead(tmp_path, holder):
  with (
    pytest.raises(errors.UserError, match="--workdir=") as refused,
    lock.hold(tmp_path),
  ):
    pass
  assert str(tmp_path) in str(refused.value)
  assert f"process {holder.pid} of " in str(refused.value)
  # Nothing can be cleaned up after SIGKILL, and a child lives on.
  holder.send_signal(signal.SIGKILL)
  holder.wait()
  with lock.hold(tmp_path):
    assert f"process {os.getpid()} of " in (tmp_path / ".lock").read_text()


def test_two_runs_do_not_share_a_folder_of_results(tmp_path, holder):
  """Whatever their workdirs are."""
  for face in ("a.png", "b.png"):
    pictures.save_png(tmp_path / "in" / face, np.zeros((64, 64, 3), np.uint8))
  with pytest.raises(errors.UserError, match=r"config\.data\.path=") as refused:
    prepare.cut_faces(str(tmp_path / "in"), str(tmp_path), "whole", 64)
  assert f"process {holder.pid} of " in str(refused.value)
  assert {x.name for x in tmp_path.iterdir()} == {"in", ".lock"}
  with (
    pytest.raises(errors.UserError, match=r"config\.output=.* is in use by"),
    inpaint._alone(tmp_path, tmp_path / "workdir"),
  ):
    pass
  # The workdir itself is the run's own already, and files have their own names.
  with inpaint._alone(tmp_path, tmp_path):
    pass
  with inpaint._alone(tmp_path, tmp_path / "workdir", named=True):
    pass


def test_a_run_that_has_ended_leaves_the_workdir_free(tmp_path):
  for _ in range(2):
    with lock.hold(tmp_path):
      pass


def test_the_first_process_of_a_run_holds_for_all(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  with lock.hold(tmp_path):
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
  tmp_path, monkeypatch, caplog, number
):
  def lockf(*unused):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, "lockf", lockf)
  with lock.hold(tmp_path):
    pass
  (warning,) = caplog.messages
  assert str(tmp_path) in warning and os.strerror(number) in warning


@pytest.mark.parametrize(
  "make",
  [
    lambda path: path.symlink_to(path.with_name("own")),
    lambda path: path.symlink_to(path.with_name("missing")),
    lambda path: os.mkfifo(path),
    lambda path: path.mkdir(),
  ],
  ids=["link", "dangling", "fifo", "folder"],
)
def test_what_is_in_the_place_of_the_lock_is_named_and_left(tmp_path, make):
  (tmp_path / "own").write_text("own")
  make(tmp_path / ".lock")
  with (
    pytest.raises(errors.UserError, match=r"\.lock"),
    lock.hold(tmp_path),
  ):
    pass
  assert (tmp_path / "own").read_text() == "own"
  assert {x.name for x in tmp_path.iterdir()} == {"own", ".lock"}
