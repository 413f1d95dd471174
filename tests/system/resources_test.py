"""Runs with full disks, too little memory, and clocks that jump."""

import errno
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import jax
import jax.numpy as jnp
import main_test
import numpy as np
import pytest
import tiny

from dcgan_inpaint.data import batches
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.jobs import train
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lock
from dcgan_inpaint.training import metric_writer

# A training with nothing but checkpoints, each of about 0.6 MB.
TRAIN = (
  "--config=configs/quickstart.py",
  *main_test.TINY,
  "--config.train.sample_every=0",
  "--config.train.validation_images=0",
  "--config.evaluation.methods=",
)


def last_line(text):
  return text.strip().splitlines()[-1]


# --- a disk that is full ------------------------------------------------------

# Runs the command line twice: on a disk of 1.4 MB, and once that has grown.
FULL_DISK = """
set -u
mount -t tmpfs -o size=1400k tmpfs "$1"
shift
"$@"; echo "status $?"
ls "$DISK"/run/checkpoints
mount -o remount,size=64m "$DISK"
"$@"; echo "status $?"
ls "$DISK"/run/checkpoints
"""


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory):
  """Returns the output of the two runs: (output, errors)."""
  own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
  allowed = (
    shutil.which("unshare")
    and not subprocess.run(
      [*own_mounts, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
      capture_output=True,
    ).returncode
  )
  if not allowed:
    pytest.skip("mounting a small disk is not allowed here")
  disk = tmp_path_factory.mktemp("disk")
  command = main_test.command(*TRAIN, f"--workdir={disk / 'run'}")
  ended = subprocess.run(
    [*own_mounts, "bash", "-c", FULL_DISK, "bash", disk, *command],
    cwd=main_test.ROOT,
    env={**main_test.environment(), "DISK": str(disk)},
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=300,
  )
  return ended.stdout, ended.stderr


@pytest.mark.slow
def test_a_full_disk_ends_in_a_line_and_costs_no_checkpoint(full_disk):
  out, err = full_disk
  first, _, _ = out.partition("status 2")
  assert first != out, err
  # The last line; Orbax logs the details before it.
  lines = re.findall(r"^error: .*", err, re.MULTILINE)
  assert len(lines) == 1, err
  (line,) = lines
  assert os.strerror(errno.ENOSPC) in line
  assert "Traceback" not in err and len(err.splitlines()) < 60


@pytest.mark.slow
def test_with_room_again_the_same_command_goes_on(full_disk):
  out, err = full_disk
  _, _, second = out.partition("status 2\n")
  listed, _, rest = second.partition("status 0\n")
  assert listed.split()[0] == "2" and "at step 2" in err
  assert rest.split() == ["2", "4"]


@pytest.mark.parametrize(
  "write",
  [
    lambda path: pictures.save_png(path, np.zeros((8, 8, 3), np.uint8)),
    lambda path: pictures.contact_sheet(
      path, {"original": np.zeros((1, 64, 64, 3), np.uint8)}
    ),
    lambda path: pictures.curves(path, {"loss": ([1, 2], [1.0, 2.0])}),
  ],
)
def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, write):
  path = tmp_path / "picture.png"
  path.write_bytes(b"before")
  resource = pytest.importorskip("resource")
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  # Python ignores the signal; the write fails as on a full disk.
  resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
  try:
    with pytest.raises(OSError) as failed:
      write(path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert failed.value.errno == errno.EFBIG
  assert os.strerror(errno.EFBIG) in errors.advice(failed.value)
  assert path.read_bytes() == b"before"
  assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


# --- a disk that is read-only -------------------------------------------------


def test_a_workdir_that_cannot_be_written_to_is_refused_at_once():
  # Not in pytest's folder, which other users cannot read.
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder) / "run"
    workdir.mkdir()
    workdir.chmod(0o555)
    pathlib.Path(folder).chmod(0o755)
    superuser = os.geteuid() == 0
    if superuser:  # Who may write everywhere.
      os.seteuid(65534)
    try:
      for path in (workdir, workdir / "new"):
        with pytest.raises(errors.UserError, match=f"--workdir='{path}'"):
          files.make_folder(path, "--workdir")
    finally:
      if superuser:
        os.seteuid(0)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_fails_later_ends_in_a_line(number):
  error = OSError(number, os.strerror(number), "runs/a/metrics.jsonl")
  advice = errors.advice(error)
  assert os.strerror(number) in advice and "runs/a/metrics.jsonl" in advice
  # An exception that a library raises from it is the same failure.
  outer = RuntimeError("saving failed")
  outer.__cause__ = error
  assert errors.advice(outer) == advice


def test_a_save_that_the_clock_cuts_short_ends_in_a_line():
  # As Orbax raises it where the clock jumps ahead during a save.
  error = TimeoutError("ChainedFuture completed 0/4 futures but timed out")
  assert str(error) in errors.advice(error)


@pytest.mark.parametrize(
  "number", [errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EMFILE]
)
def test_a_file_in_the_place_of_a_folder_ends_in_a_line(number):
  error = OSError(number, os.strerror(number), "runs/a/samples")
  assert "runs/a/samples" in errors.advice(error)
  # It may be a checkpoint's own fault; too many open files are not.
  assert errors.of_machine(error) == (number == errno.EMFILE)


@pytest.mark.parametrize(
  "error",
  [
    jax.errors.JaxRuntimeError(
      "INTERNAL: Error dispatching computation: Out of memory allocating 9 B"
    ),
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes"),
    MemoryError(),
    RuntimeError("can't start new thread"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
  ],
)
def test_memory_that_runs_out_is_known_by_all_its_names(error):
  assert errors.advice(error).startswith("out of memory")
  assert errors.of_machine(error)


@pytest.mark.parametrize("error", [KeyError("x"), FileNotFoundError(2, "x")])
def test_any_other_error_keeps_its_traceback(error):
  assert errors.advice(error) is None


# --- memory that runs out, and a workdir that is taken ------------------------

# A config is code. This one's training asks XLA for more than any device has,
# while an unfinished line is on the terminal.
GREEDY = """
import sys
import jax
import jax.numpy as jnp
import tiny
from dcgan_inpaint.jobs import train
from dcgan_inpaint.data import batches

def greedy(*unused):
  sys.stderr.write("    ")
  jax.jit(lambda: jnp.sort(jnp.zeros(1 << 45)))()

def get_config():
  train.run = greedy
  return tiny.train_config(train__batch_size=48)
"""


@pytest.mark.slow
def test_memory_that_runs_out_names_the_batch_sizes_and_a_lock_its_holder(
  tmp_path,
):
  (tmp_path / "greedy.py").write_text(GREEDY)
  # Two at a time: most of the time is imports.
  greedy = main_test.start(
    f"--config={tmp_path}/greedy.py", f"--workdir={tmp_path}/greedy"
  )
  (tmp_path / "taken").mkdir()
  with lock.hold(tmp_path / "taken"):
    status, _, err = main_test.run(*TRAIN, f"--workdir={tmp_path}/taken")
  assert status == 2 and "Traceback" not in err
  assert f"in use by process {os.getpid()} of" in last_line(err)

  status, _, err = main_test.finish(greedy)
  assert status == 2 and "Traceback" not in err
  line = last_line(err)
  assert line.startswith("error: ") and "RESOURCE_EXHAUSTED" in line
  assert "config.train.batch_size=48" in line
  assert "config.search.batch_size=" in line


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [700, 780, 860])
def test_a_limit_on_memory_ends_in_a_line_wherever_it_is_met(
  tmp_path, mebibytes
):
  """Some are met in Python, some in threads of C++; the last may suffice."""
  resource = pytest.importorskip("resource")
  limit = mebibytes << 20
  done = subprocess.run(
    main_test.command(*TRAIN, f"--workdir={tmp_path}"),
    cwd=main_test.ROOT,
    env=main_test.environment(),
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=300,
    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
  )
  if done.returncode:
    assert done.returncode == 2, done.stderr
    assert last_line(done.stderr).startswith("error: "), done.stderr
    assert "memory" in last_line(done.stderr)
    assert "Fatal Python error" not in done.stderr


def test_memory_that_runs_out_is_no_images_fault():
  def method(images, masks, indices):
    jax.jit(lambda: jnp.sort(jnp.zeros(1 << 45)))()

  images = np.zeros((2, 8, 8, 3), np.float32)
  with pytest.raises(jax.errors.JaxRuntimeError) as failed:
    evaluate.fill(method, images, images[..., :1])
  assert "RESOURCE_EXHAUSTED" in errors.advice(failed.value)


# --- a clock that jumps -------------------------------------------------------


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(trained_run, tmp_path, monkeypatch):
  real_time, indices = time.time, batches.indices
  # By step: forwards once, before the first save; backwards while others are
  # under way.
  years = {0: 0, 1: 30, 2: 10, 3: -10, 4: -30, 5: -50}
  jumps = [0]

  def feed(step, *arguments, **options):
    jumps.append(years[step])
    return indices(step, *arguments, **options)

  monkeypatch.setattr(batches, "indices", feed)
  monkeypatch.setattr(time, "time", lambda: real_time() + 3.15e7 * jumps[-1])
  config = tiny.train_config(
    train__validation_images=0,
    train__sample_every=0,
    train__save_every=2,
    train__max_to_keep=2,
  )
  (row,) = train.run(config, str(tmp_path), tiny.mesh(4))
  assert row["per_second"] > 0
  folders = (tmp_path / "checkpoints").iterdir()
  assert sorted(x.name for x in folders if x.name.isdecimal()) == ["4", "6"]
  # The fixture's run has validations, which do not change its state.
  jax.tree.map(
    np.testing.assert_array_equal,
    tiny.saved_state(tmp_path, 6),
    tiny.saved_state(trained_run, 6),
  )
  metrics = metric_writer.read(tmp_path / "metrics.jsonl")
  assert [row["step"] for row in metrics] == [1, 2, 3, 4, 5, 6]
