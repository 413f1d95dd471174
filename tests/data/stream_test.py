import builtins
import dataclasses
import errno
import functools
import io
import itertools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import image_files
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import data
from dcgan_inpaint.data import batches
from dcgan_inpaint.data import celeba
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import stream
from dcgan_inpaint.runtime import errors

COUNT, BATCH, SEED = 22, 6, 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """Prepares random faces; returns the `config.data` that names them."""
  root = tmp_path_factory.mktemp("celeba")
  images = root / "img_align_celeba"
  images.mkdir()
  rng = np.random.default_rng(0)
  lines = []
  for i in range(COUNT + 2):
    picture = rng.integers(0, 256, (218, 178, 3)).astype(np.uint8)
    Image.fromarray(picture).save(images / f"{i:06d}.jpg")
    lines.append(f"{i:06d}.jpg {max(0, i - COUNT + 1)}\n")
  (root / "list_eval_partition.txt").write_text("".join(lines))
  celeba.prepare(images, root / "prepared", 64)
  return types.SimpleNamespace(
    name="celeba",
    path=str(root / "prepared"),
    validation_path="",
    test_path="",
    crop="auto",
    ids="",
    max_images=0,
    seed=0,
  )


def streamed(
  source, steps, rows=slice(0, BATCH), workers=0, image_shape=tiny.SHAPE
):
  return list(
    stream.batches(
      source,
      steps=steps,
      batch_size=BATCH,
      rows=rows,
      seed=SEED,
      image_shape=image_shape,
      workers=workers,
    )
  )


def expected(images, steps):
  """Returns the batches that a run with its images on the devices sees."""
  order = batches.indices(
    steps.start, len(steps), batch_size=BATCH, count=len(images), seed=SEED
  )
  return images[order]


# Nine steps are three epochs of three batches: none sees all of 22 images.
@pytest.mark.parametrize(
  "workers", [0, pytest.param(1, marks=pytest.mark.slow)]
)
def test_the_order_is_that_of_a_run_with_its_images_in_memory(
  prepared, workers
):
  images = data.load(prepared, "train", tiny.SHAPE).images
  assert len(images) == COUNT
  source = data.open_source(prepared, "train")
  steps = range(9)
  found = streamed(source, steps, workers=workers)
  np.testing.assert_array_equal(found, expected(images, steps))
  assert len(np.unique(found, axis=0)) == 9


@pytest.mark.parametrize("first", [1, 3, 7])
def test_a_resumed_stream_continues_at_the_exact_sample(prepared, first):
  source = data.open_source(prepared, "train")
  whole = streamed(source, range(9))
  np.testing.assert_array_equal(
    streamed(source, range(first, 9)), whole[first:]
  )


def test_processes_read_only_their_rows(prepared):
  source = data.open_source(prepared, "train")
  read = []

  def note(index):
    read.append(index)
    return source.read(index)

  whole = np.stack(streamed(source, range(4)))
  halves = [slice(0, 3), slice(3, 6)]
  parts = [
    streamed(dataclasses.replace(source, read=note), range(4), rows)
    for rows in halves
  ]
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
  assert len(read) == 4 * BATCH


def test_a_limit_holds_and_folders_stream_too_whatever_the_images(
  prepared, tmp_path
):
  prepared = types.SimpleNamespace(**{**vars(prepared), "max_images": 7})
  faces = data.load(prepared, "train", tiny.SHAPE).images
  assert data.open_source(prepared, "train").count == len(faces) == 7
  for i, face in enumerate(faces):
    Image.fromarray(face).save(tmp_path / f"{i}.png")
  folder = types.SimpleNamespace(
    **{**vars(prepared), "name": "folder", "path": str(tmp_path)}
  )
  folder.max_images = 0
  source = data.open_source(folder, "train")
  for shape in (tiny.SHAPE, (32, 32, 1)):
    images = data.load(folder, "train", shape).images
    np.testing.assert_array_equal(
      streamed(source, range(2), image_shape=shape), expected(images, range(2))
    )
  folder.crop = "face128"
  assert data.open_source(folder, "train").crop == "face128"


def test_an_image_that_cannot_be_read_is_named():
  source = data.Source(BATCH, lambda index: b"no image")
  with pytest.raises(errors.UserError, match=r"image \d of config\.data"):
    streamed(source, range(2))


def test_synthetic_faces_are_not_streamed(prepared):
  config = types.SimpleNamespace(**{**vars(prepared), "name": "synthetic"})
  with pytest.raises(errors.UserError, match=r"config\.data\.placement=device"):
    data.open_source(config, "train")


def test_a_missing_grain_is_named_with_its_extra(monkeypatch):
  real = builtins.__import__

  def without(name, *arguments, **keywords):
    if name == "grain":
      raise ImportError(name)
    return real(name, *arguments, **keywords)

  monkeypatch.setattr(builtins, "__import__", without)
  with pytest.raises(errors.UserError, match=r"dcgan-inpaint\[stream\]"):
    stream.check()


def test_every_image_of_an_epoch_is_seen_once():
  source = data.Source(12, lambda index: _png(index))
  seen = [int(x[0, 0, 0]) for x in itertools.chain(*streamed(source, range(2)))]
  assert sorted(seen) == list(range(12))


def _png(value):
  encoded = io.BytesIO()
  Image.new("RGB", (64, 64), (value, 0, 0)).save(encoded, "png")
  return encoded.getvalue()


def test_a_disk_that_fails_is_no_reason_to_remove_an_image(monkeypatch):
  def read(index):
    raise OSError(errno.EIO, os.strerror(errno.EIO), "a.png")

  monkeypatch.setattr(decoding, "_WAITS", (0.0,))
  with pytest.raises(errors.UserError, match="a.png") as refused:
    next(
      stream.batches(
        data.Source(4, read),
        steps=range(1),
        batch_size=2,
        rows=slice(0, 2),
        seed=0,
        image_shape=(64, 64, 3),
      )
    )
  assert os.strerror(errno.EIO) in str(refused.value)
  assert "remove" not in str(refused.value)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_stream_in_a_line():
  image = image_files.encode(np.zeros((64, 64, 3), np.uint8))
  batches_of = stream.batches(
    data.Source(4, functools.partial(_same, image)),
    steps=range(100_000),
    batch_size=2,
    rows=slice(0, 2),
    seed=0,
    image_shape=(64, 64, 3),
    workers=1,
  )
  next(batches_of)
  for child in multiprocessing.active_children():
    os.kill(child.pid, signal.SIGKILL)
  with pytest.raises(errors.UserError, match="config.data.workers=1"):
    for _ in batches_of:
      pass


# A job that is killed while it reads, as the system kills one for its memory.
KILLED = """
import functools, multiprocessing, sys
from absl import flags
import numpy as np
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/data"]
import image_files, stream_test
from dcgan_inpaint import data
from dcgan_inpaint.data import stream

if __name__ == "__main__":
  flags.FLAGS.mark_as_parsed()
  image = image_files.encode(np.zeros((64, 64, 3), np.uint8))
  batches = stream.batches(
    data.Source(4, functools.partial(stream_test._same, image)),
    steps=range(1_000_000), batch_size=2, rows=slice(0, 2), seed=0,
    image_shape=(64, 64, 3), workers=2,
  )
  next(batches)
  children = multiprocessing.active_children()
  print(*(child.pid for child in children), flush=True)
  for _ in batches:
    pass
"""


def _runs(pid):
  try:
    status = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except FileNotFoundError:
    return False
  return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_workers_end_with_a_job_that_is_killed(tmp_path):
  (tmp_path / "job.py").write_text(KILLED)
  tests = pathlib.Path(__file__).parents[1]
  with subprocess.Popen(
    [sys.executable, tmp_path / "job.py", tests],
    env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
    stdout=subprocess.PIPE,
    text=True,
  ) as job:
    workers = list(map(int, job.stdout.readline().split()))
    try:
      assert len(workers) == 2 and all(map(_runs, workers))
    finally:
      job.kill()
  until = time.monotonic() + 20
  while any(map(_runs, workers)) and time.monotonic() < until:
    time.sleep(0.1)
  assert not any(map(_runs, workers))


def _same(image, index):
  return image
