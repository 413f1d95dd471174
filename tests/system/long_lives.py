"""Measures the own memory of processes that live long, in MiB.

  python tests/system/long_lives.py saves    # 2,000 saves of 30 arrays
  python tests/system/long_lives.py calls    # of the Python interface
  python tests/system/long_lives.py faces    # 5,000 in one call

Not collected by pytest: it is run by hand, and docs/reliability.md has the
results. Needs Linux, for /proc.
"""

from collections.abc import Iterator
import os
import pathlib
import resource
import sys
import tempfile

import jax
import numpy as np

import dcgan_inpaint
from dcgan_inpaint import api
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.runtime import process
from dcgan_inpaint.training import checkpoints as checkpoints_lib

SAVES = 2000
FACES = 5000


def own() -> float:
  """Returns the memory of this process without that of files, MiB."""
  statm = pathlib.Path("/proc/self/statm").read_text()
  _, resident, shared, *_ = map(int, statm.split())
  return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20


def saves() -> Iterator[str]:
  """Saves again and again, as a training does."""
  state = {f"w{i}": jax.numpy.ones((64, 64)) for i in range(30)}
  with (
    tempfile.TemporaryDirectory() as folder,
    checkpoints_lib.Checkpoints(folder) as checkpoints,
  ):
    for step in range(1, SAVES + 1):
      checkpoints.save(step, state, {"images": 1}, error=1 / step)
      checkpoints._manager.wait_until_finished()
      if step % (SAVES // 10) == 0:
        yield f"{step} saves"


def calls() -> Iterator[str]:
  """Calls the Python interface with ever other arguments."""
  images, hole = np.uint8(synthetic.load("test", 1)), _hole()
  options = {"mode": "paper", "steps": 3}
  dcgan_inpaint.inpaint(images, hole, **options)
  yield "first call"
  for seed in range(100):
    dcgan_inpaint.inpaint(images, hole, **options, seed=seed)
  yield "100 seeds"
  for i in range(100):
    dcgan_inpaint.inpaint(
      images, hole, mode="paper", steps=3 + i % 7,
      learning_rate=0.01 + i / 1000, prior_weight=0.1 + i / 1000,
    )  # fmt: skip
  yield "100 other numbers"
  for count in range(1, 65):
    many = np.repeat(images, count, axis=0)
    dcgan_inpaint.inpaint(many, hole, mode="paper", steps=1)
  yield "64 numbers of images"
  dcgan_inpaint.clear_caches()
  yield "clear_caches()"


def faces() -> Iterator[str]:
  """Completes many faces in a call, but for the search, of one at a time."""

  def search(fill, model, work):
    del fill, model
    for one in work:
      one.generated = one.crops

  api._search = search
  image = np.float32(synthetic.load("test", 1)) / 255
  dcgan_inpaint.inpaint(image, _hole(), mode="paper")
  many = np.repeat(image, FACES, axis=0)
  yield f"{many.nbytes / 2**20:.0f} MiB of input"
  kept = dcgan_inpaint.inpaint(many, _hole(), mode="paper")
  yield f"{kept.nbytes / 2**20:.0f} MiB of results"


def _hole() -> np.ndarray:
  hole = np.zeros((64, 64), bool)
  hole[16:48, 16:48] = True
  return hole


if __name__ == "__main__":
  jax.config.update("jax_platforms", "cpu")
  process.keep_freed_memory()
  for line in {"saves": saves, "calls": calls, "faces": faces}[sys.argv[1]]():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"{line}: {own():.1f}, peak with files {peak:.0f}", flush=True)
