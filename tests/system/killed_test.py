"""Jobs that are killed repeatedly, and resumed by the same command.

Every life of a job is the command line in a process of its own, which is killed
by SIGKILL: some a random time after the start, some while they work, and some
while a file is being written. A fork server starts the processes, with
everything imported, so that a life takes seconds. `DCGAN_INPAINT_KILLS=50
pytest -m slow tests/system/killed_test.py` kills each job that often.
"""

import os
import pathlib
import random
import re
import signal
import time

import forked
import jax
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import results
from dcgan_inpaint.training import metric_writer

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("DCGAN_INPAINT_KILLS", 0))

CONFIG = """
import tiny

def get_config():
  return tiny.train_config(
    model__image_size=32, evaluation__methods="",
    train__validation_images=0, train__sample_every=0,
  )
"""


class Job:
  """A command that is killed and repeated."""

  def __init__(self, workdir, *flags):
    self.workdir = workdir
    self._flags = [f"--workdir={workdir}", *flags]
    self._log = workdir.with_name(f"{workdir.name}.log")
    self.log = ""

  def live(self, is_time=None, delay=0.0):
    """Lets the command work; kills it `delay` seconds after it is time.

    Args:
      is_time: function of the time that this life began; polled.
      delay: in seconds.

    Without `is_time` it may finish, and must succeed.
    """
    began = time.time()
    process = forked.start(self._flags, self._log)
    if is_time:
      while process.is_alive() and not is_time(began):
        time.sleep(0.001)
      time.sleep(delay)
      process.kill()
    process.join(timeout=300)
    self.log = self._log.read_text() if self._log.exists() else ""
    ending = -signal.SIGKILL if is_time else 0
    assert process.exitcode == ending, self.log
    self._log.unlink(missing_ok=True)


def moments(kills, seed, done, writing):
  """Yields moments to kill at, as arguments of `Job.live`.

  Args:
    kills: how many.
    seed: of the random moments.
    done: returns how many items are done.
    writing: returns the paths that are partly written.
  """
  draw = random.Random(seed)
  for kill in range(kills):
    goal = done() + draw.randint(1, 3)

    def is_writing(began, goal=goal):
      started = done() >= goal - 1
      return started and any(made_after(path, began) for path in writing())

    def is_done(began, goal=goal):
      del began
      return done() >= goal

    # The first three have every kind.
    yield (
      {"is_time": is_writing, "delay": draw.uniform(0, 0.02)},
      {"is_time": is_done, "delay": draw.uniform(0, 0.05)},
      {"is_time": lambda began: True, "delay": draw.uniform(0, 0.7)},
    )[kill % 3]


def identities(paths):
  """Returns the paths, each with what identifies this version of the file."""
  return {(path, path.stat().st_ctime_ns) for path in paths}


def made_after(path, began):
  try:
    return path.stat().st_ctime > began
  except FileNotFoundError:  # It is complete by now, and was renamed.
    return False


# --- training ----------------------------------------------------------------


def saved(workdir):
  """Returns the saved steps, and the folders of unfinished saves."""
  paths = list((workdir / "checkpoints").glob("*"))
  steps = sorted(int(path.name) for path in paths if path.name.isdecimal())
  return steps, [path for path in paths if not path.name.isdecimal()]


def logged(workdir):
  """Returns the steps of metrics.jsonl."""
  path = workdir / "metrics.jsonl"
  return [x["step"] for x in metric_writer.read(path)] if path.exists() else []


def test_a_training_that_is_killed_ends_as_the_uninterrupted_one(
  tmp_path, monkeypatch, record_property
):
  monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(tiny.__file__).parent))
  kills = KILLS or 4
  config = tmp_path / "config.py"
  config.write_text(CONFIG)
  # More steps than all interrupted lives do.
  steps = 18 * kills
  flags = (f"--config={config}", f"--config.train.steps={steps}")
  uninterrupted = Job(tmp_path / "uninterrupted", *flags)
  uninterrupted.live()

  job = Job(tmp_path / "killed", *flags)
  half_saved, resumed = set(), 0
  for moment in moments(
    kills,
    seed=0,
    # A checkpoint every three steps.
    done=lambda: max(saved(job.workdir)[0], default=0) // 3,
    writing=lambda: saved(job.workdir)[1],
  ):
    whole, _ = saved(job.workdir)
    job.live(**moment)
    found = re.findall(r"resuming .* at step ([\d,]+)", job.log)
    # No saved work is lost.
    assert [int(step.replace(",", "")) for step in found] in ([], whole[-1:])
    resumed += len(found)
    half_saved |= identities(saved(job.workdir)[1])
    assert logged(job.workdir) == list(range(1, 1 + len(logged(job.workdir))))
  job.live()
  record_property("killed", f"{kills} times, {len(half_saved)} while saving")
  assert resumed and half_saved

  jax.tree.map(
    np.testing.assert_array_equal,
    *(
      tiny.saved_state(x.workdir, steps, model__image_size=32)
      for x in (job, uninterrupted)
    ),
  )
  assert logged(job.workdir) == list(range(1, steps + 1))
  metrics = [x.workdir / "metrics.jsonl" for x in (job, uninterrupted)]
  assert metrics[0].read_text() == metrics[1].read_text()
  (row,) = results.read(job.workdir)["rows"]
  assert row["steps"] == steps


# --- many items --------------------------------------------------------------


def items(folder, suffix):
  """Returns the finished, visible files, each with what identifies it."""
  paths = folder.rglob(f"*{suffix}")
  return identities(path for path in paths if not path.name.startswith("."))


def half_written(folder):
  """Returns the files that are being written, which have hidden names."""
  return [path for path in folder.rglob(".*") if path.is_file()]


def kill_often(job, folder, suffix, check, kills):
  """Kills a job that makes files; returns how many were then being written.

  Args:
    job: the job.
    folder: where its files appear.
    suffix: of the files.
    check: called with each visible file after each life; raises an error if the
      file is incomplete.
    kills: how often.
  """
  found = set()
  for moment in moments(
    kills,
    seed=1,
    done=lambda: len(items(folder, suffix)),
    writing=lambda: half_written(folder),
  ):
    before = items(folder, suffix)
    job.live(**moment)
    after = items(folder, suffix)
    # Finished files are not made again.
    assert before <= after
    for path, _ in after - before:
      check(path)
    found |= identities(half_written(folder))
  before = items(folder, suffix)
  job.live()
  assert before <= items(folder, suffix)
  return len(found)


def test_a_benchmark_that_is_killed_does_nothing_twice(
  tmp_path, record_property
):
  kills = KILLS or 2
  flags = (
    "--config=configs/benchmark.py",
    "--config.benchmark.methods=biharmonic",
    "--config.benchmark.masks=centre:size=16,random_pixels:share=0.2",
    f"--config.benchmark.images={8 * kills}",
    "--config.benchmark.chunk=1",
    "--config.benchmark.contact_sheet=1",
  )
  uninterrupted = Job(tmp_path / "uninterrupted", *flags)
  uninterrupted.live()
  job = Job(tmp_path / "killed", *flags)

  def check(path):
    with np.load(path) as part:
      assert np.isfinite(part["mse"]).all()

  found = kill_often(job, job.workdir / "parts", ".npz", check, kills)
  record_property("killed", f"{kills} times, {found} while writing")
  with (
    np.load(job.workdir / "figures.npz") as figures,
    np.load(uninterrupted.workdir / "figures.npz") as expected,
  ):
    assert figures["mse"].shape == (1, 2, 8 * kills)
    for name in expected:
      np.testing.assert_array_equal(figures[name], expected[name])


def test_an_inpainting_that_is_killed_does_nothing_twice(
  tmp_path, trained_run, record_property
):
  kills = KILLS or 2
  rng = np.random.default_rng(0)
  count = 6 * kills
  for i in range(count):
    # Noise is slow to write.
    image = rng.integers(0, 256, (500, 500, 3), np.uint8)
    pictures.save_png(tmp_path / "photos" / f"{i:02d}.png", image)
  flags = (
    "--config=configs/inpaint.py",
    f"--config.checkpoint.path={trained_run}",
    f"--config.input={tmp_path / 'photos'}",
    "--config.faces=whole",
    "--config.search.mode=paper",
    "--config.search.starts=1",
    "--config.search.steps=1",
    "--config.search.batch_size=1",
    "--config.search.blending=paste",
    "--config.strips=masked",
    "--config.contact_sheet=4",
  )
  uninterrupted = Job(tmp_path / "uninterrupted", *flags)
  uninterrupted.live()
  job = Job(tmp_path / "killed", *flags)

  def check(path):
    with Image.open(path) as image:
      image.load()
    # Of what is done, the strip is there too.
    with Image.open(job.workdir / "strips" / path.name) as image:
      image.load()

  found = kill_often(job, job.workdir / "completed", ".png", check, kills)
  record_property("killed", f"{kills} times, {found} while writing")
  pngs = {
    path.relative_to(job.workdir) for path, _ in items(job.workdir, ".png")
  }
  # Results, strips, and what is kept for the contact sheet of four, and it.
  assert len(pngs) == 2 * count + 5
  for png in pngs:
    made, expected = (
      (x.workdir / png).read_bytes() for x in (job, uninterrupted)
    )
    assert made == expected, png
  (row,) = results.read(job.workdir)["rows"]
  assert row["n"] + row["skipped"] == count and row["failed"] == 0


# --- CelebA ------------------------------------------------------------------


def celeba(folder, count):
  """Writes a tiny CelebA in its authors' layout; returns its folder."""
  rng = np.random.default_rng(0)
  names = [f"{i:06d}.jpg" for i in range(1, count + 1)]
  for name in names:
    path = folder / "img_align_celeba" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (218, 178, 3), np.uint8)
    Image.fromarray(image).save(path, quality=95)
  rows = [f"{name} {min(i % 5, 2)}\n" for i, name in enumerate(names)]
  (folder / "list_eval_partition.txt").write_text("".join(rows))
  return folder


def test_a_preparation_of_celeba_that_is_killed_leaves_nothing_behind(
  tmp_path, record_property
):
  kills = KILLS or 3
  source = celeba(tmp_path / "source", 1500)
  flags = ("--config=configs/prepare.py", f"--config.data.source={source}")

  def prepare(name):
    data = tmp_path / f"{name}_data"
    return data, Job(tmp_path / name, *flags, f"--config.data.path={data}")

  def unfinished(data):
    return list(data.rglob("incomplete.*"))

  expected, uninterrupted = prepare("uninterrupted")
  uninterrupted.live()
  data, job = prepare("killed")
  draw = random.Random(2)
  found = set()
  for kill in range(kills):
    # While it writes, or while it starts. It never ends.
    job.live(
      is_time=lambda began, kill=kill: (
        kill % 3 == 2 or any(made_after(x, began) for x in unfinished(data))
      ),
      delay=draw.uniform(0, 0.5),
    )
    # One at a time: each life has removed what the one before left.
    assert len(unfinished(data)) <= 1
    found |= identities(unfinished(data))
    assert not list(data.rglob("dataset_info.json")) or unfinished(data)
  job.live()
  record_property("killed", f"{kills} times, {len(found)} while writing")
  assert found and not unfinished(data)
  made, wanted = (
    {
      x.relative_to(root): x.read_bytes()
      for x in root.rglob("*")
      if x.is_file()
    }
    for root in (data, expected)
  )
  assert made.keys() == wanted.keys()
  rows = [results.read(x.workdir)["rows"] for x in (job, uninterrupted)]
  assert rows[0] == rows[1] and rows[0][0]["data_digest"]
