"""Two processes of two CPU devices each, by `launch/local.sh`.

The story is run once: a training gets SIGTERM, the same command resumes it, and
its model inpaints a folder. The tests check the results.
"""

import csv
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import inpaint
from dcgan_inpaint.jobs import train
from dcgan_inpaint.jobs import train_encoder
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import metric_writer

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]

CONFIG = """
import tiny

def get_config():
  return tiny.train_config(model__image_size=32, evaluation__methods="")
"""
ENCODER_CONFIG = """
import tiny

def get_config():
  return tiny.encoder_config("")
"""
# Options that avoid compiling programs that the tests do not need.
PLAIN = {"train__validation_images": 0, "train__sample_every": 0}
FASTER = [f"--config.{k.replace('__', '.')}={v}" for k, v in PLAIN.items()]
# Also of smaller images than the paper's.
FIELDS = {"model__image_size": 32, "evaluation__methods": ""}


def start(*flags):
  """Starts two processes of two devices each."""
  cache = jax.config.jax_compilation_cache_dir or ""
  return subprocess.Popen(
    [
      *(ROOT / "launch" / "local.sh", "--processes=2", "--cpu_devices=2"),
      *(*flags, f"--compilation_cache={cache}"),
    ],
    cwd=ROOT,
    env={
      **os.environ,
      "PYTHON": sys.executable,
      "PYTHONPATH": str(ROOT / "tests"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    },
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


# A timeout in seconds that is enough on a machine busy with other work.
PATIENCE = 900


def finish(process):
  """Waits; returns the exit status, standard output and standard error."""
  try:
    out, err = process.communicate(timeout=PATIENCE)
  except subprocess.TimeoutExpired:
    process.terminate()  # The launcher forwards it.
    out, err = process.communicate(timeout=60)
    pytest.fail(f"{process.args} did not end in time:\n{out}\n{err}")
  return process.returncode, out.splitlines(), err


def losses(workdir):
  """Returns {step: (loss of D, loss of G)}; no step may appear twice."""
  rows = metric_writer.read(pathlib.Path(workdir) / "metrics.jsonl")
  rows = [row for row in rows if "generator_loss" in row]
  found = {
    row["step"]: (row["discriminator_loss"], row["generator_loss"])
    for row in rows
  }
  assert len(found) == len(rows)
  return found


def assert_same_losses(actual, expected, steps):
  for step in steps:
    np.testing.assert_allclose(actual[step], expected[step], 1e-5, 1e-5)


def save_first_state(workdir):
  """Saves a state of step 0 under which every value matters.

  With freshly initialised weights some gradients are only rounding errors, from
  which Adam makes steps of full size: two runs would diverge.
  """
  config = tiny.train_config(**FIELDS)
  generator, discriminator, _ = gan.networks(config)
  drawn = tiny.weights(generator, discriminator)
  state = gan.init_state(
    config.seed, generator, discriminator, tiny.LATENT_SIZE, config.train
  ).replace(
    generator=drawn.generator,
    generator_ema=drawn.generator,
    discriminator=drawn.discriminator,
  )
  state = jax.device_put(state, sharding.replicated(tiny.mesh(1)))
  meta = {"config": checkpoints_lib.as_json(config), "images": 16}
  with checkpoints_lib.Checkpoints(workdir / "checkpoints") as checkpoints:
    checkpoints.save(0, state, meta, None)


def train_here(workdir, devices, steps):
  """Trains in this process."""
  config = tiny.train_config(**FIELDS, **PLAIN, train__steps=steps)
  train.run(config, str(workdir), tiny.mesh(devices))


@pytest.fixture(scope="module")
def story(tmp_path_factory, trained_run):
  """Runs it; returns its folder and the result of each command."""
  root = tmp_path_factory.mktemp("story")
  config, workdir = root / "config.py", root / "run"
  config.write_text(CONFIG)
  save_first_state(workdir)
  command = (f"--config={config}", f"--workdir={workdir}")
  first = start(*command, *FASTER, "--config.train.steps=100000")
  metrics = workdir / "metrics.jsonl"
  deadline = time.monotonic() + PATIENCE
  while not metrics.exists() or len(metrics.read_text().splitlines()) < 6:
    if first.poll() is not None or time.monotonic() > deadline:
      first.terminate()
      pytest.fail(f"six steps were not trained: {finish(first)}")
    time.sleep(0.02)
  first.send_signal(signal.SIGTERM)
  first = finish(first)
  assert first[0] == 0, first
  saved = re.search(r"saved at step ([\d,]+)", "\n".join(first[1]))
  assert saved, first
  stopped = int(saved[1].replace(",", ""))
  shutil.copytree(workdir, root / "stopped")

  second = finish(start(*command, f"--config.train.steps={stopped + 2}"))
  assert second[0] == 0, second

  for i, face in enumerate(synthetic.load("test", 5)):
    pictures.save_png(root / "photos" / f"{i}.png", face)
  third = finish(
    start(
      f"--config={ROOT / 'configs' / 'inpaint.py'}",
      f"--workdir={root / 'inpaint'}",
      f"--config.checkpoint.path={trained_run}",
      f"--config.input={root / 'photos'}",
      "--config.search.mode=paper",
      "--config.search.steps=2",
      "--config.search.batch_size=4",
    )
  )
  assert third[0] == 0, third
  return types.SimpleNamespace(
    root=root,
    workdir=workdir,
    stopped=stopped,
    first=first,
    second=second,
    third=third,
  )


def test_two_processes_give_the_losses_of_one(story, tmp_path):
  save_first_state(tmp_path)
  train_here(tmp_path, devices=4, steps=6)
  assert_same_losses(losses(story.workdir), losses(tmp_path), range(1, 7))


def test_a_request_to_stop_saves_and_says_how_to_go_on(story):
  status, lines, err = story.first
  assert status == 0 and len(lines) == 2
  for i, line in enumerate(sorted(lines)):
    assert line.startswith(f"[{i}] ")
    assert f"step {story.stopped:,} of 100,000" in line
  assert (story.root / "stopped" / "checkpoints" / str(story.stopped)).is_dir()
  assert not (story.root / "stopped" / "results.json").exists()
  assert "Traceback" not in err


def test_the_same_command_goes_on(story):
  _, _, err = story.second
  assert f"resuming {story.workdir} at step {story.stopped:,}" in err
  assert set(losses(story.workdir)) == set(range(1, story.stopped + 3))


def test_one_process_goes_on_where_two_stopped(story, tmp_path):
  """On one device, and then on four: with the losses of the two processes."""
  shutil.copytree(story.root / "stopped", tmp_path / "run")
  for devices in (1, 4):
    steps = story.stopped + (1 if devices == 1 else 2)
    train_here(tmp_path / "run", devices, steps)
  steps = range(story.stopped + 1, story.stopped + 3)
  assert_same_losses(losses(tmp_path / "run"), losses(story.workdir), steps)


def test_only_the_first_process_writes(story):
  # Only it has a table, and no older file was set aside. Other libraries print
  # to standard error.
  _, lines, _ = story.second
  assert lines and all(line.startswith("[0] ") for line in lines)
  names = {path.name for path in story.workdir.iterdir()}
  assert "results.json" in names and "losses.png" in names
  assert not [name for name in names if ".1." in name]
  (row,) = results.read(story.workdir)["rows"]
  assert row["steps"] == story.stopped + 2
  assert results.read(story.workdir)["devices"] == {
    "platform": "cpu",
    "kind": "cpu",
    "count": 4,
    "processes": 2,
  }


def test_disjoint_shares_of_a_folder_make_one_table(
  story, trained_run, tmp_path
):
  _, _, err = story.third
  assert re.findall(r"\] (\d) images completed", err).count("3") == 1
  assert re.findall(r"\] (\d) images completed", err).count("2") == 1
  (row,) = results.read(story.root / "inpaint")["rows"]
  assert (row["n"], row["skipped"], row["failed"]) == (5, 0, 0)
  with (story.root / "inpaint" / "results.csv").open() as table:
    names = [row["name"] for row in csv.DictReader(table)]
  assert sorted(names) == [f"{i}.png" for i in range(5)]
  assert not list((story.root / "inpaint").glob("results.*process*"))

  config = config_lib.inpaint_job()
  config.checkpoint.path = str(trained_run)
  config.input = str(story.root / "photos")
  config.search.update(steps=2, batch_size=4, blending="spline")
  inpaint.run(config, str(tmp_path), tiny.mesh(4))
  for i in range(5):
    made = pictures.load_png(story.root / "inpaint" / "completed" / f"{i}.png")
    alone = pictures.load_png(tmp_path / "completed" / f"{i}.png")
    # One level, for values between two.
    np.testing.assert_allclose(np.int32(made), alone, atol=1)


def test_two_processes_train_the_encoder_of_one(story, tmp_path):
  config = tmp_path / "encoder.py"
  config.write_text(ENCODER_CONFIG)
  generator = story.workdir
  status, _, err = finish(
    start(
      f"--config={config}",
      f"--workdir={tmp_path / 'two'}",
      f"--config.checkpoint.path={generator}",
    )
  )
  assert status == 0, err
  train_encoder.run(
    tiny.encoder_config(generator), str(tmp_path / "one"), tiny.mesh(4)
  )
  two, one = (
    metric_writer.read(tmp_path / name / "metrics.jsonl")
    for name in ("two", "one")
  )
  assert len(one) == 6  # Four steps, and two validations.
  for row, expected in zip(two, one, strict=True):
    assert row == pytest.approx(expected, rel=1e-4)


def test_a_batch_that_four_devices_do_not_divide_is_refused(story, tmp_path):
  status, _, err = finish(
    start(
      f"--config={story.root / 'config.py'}",
      f"--workdir={tmp_path}",
      "--config.train.batch_size=6",
    )
  )
  assert status == 2
  assert re.search(r"config\.train\.batch_size=6: 4 devices .*\b8\b", err)
  assert re.search(r"process [01] of 2 ended with status 2", err)


WAITING = """
import sys
import time

from dcgan_inpaint.runtime import sharding

sharding._HEARTBEAT_SECONDS = 6
sharding.start_processes(sys.argv[1], 2, int(sys.argv[2]))
print("joined", flush=True)
time.sleep(900)
"""


def test_a_process_that_dies_stops_the_others_and_is_named():
  """Without a launcher, by JAX itself, as on a cluster."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    address = f"localhost:{probe.getsockname()[1]}"
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", WAITING, address, str(i)],
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  for process in processes:
    # A line, or the end of the output of a process that failed.
    line = process.stdout.readline()
    assert line == "joined\n", finish(process)
  processes[1].kill()
  processes[1].communicate()
  # The heartbeat's timeout, with much room for a busy machine.
  status, _, err = finish(processes[0])
  assert status != 0
  assert re.search(r"stopped sending heartbeats\):\n.*1\n", err), err
