"""Trains and inpaints for hours, and watches memory, pace and checkpoints.

  python tests/system/soak.py --minutes=120 --workdir=DIR

Not collected by pytest: it is run by hand, and docs/reliability.md has the
results. Two processes work at the same time until they are stopped: one is the
command line that trains, the other repeatedly completes the same folder with
the newest checkpoint of the first. This process watches them: every quarter of
a minute it writes a line to soak.jsonl with both processes' own memory, their
CPU time and their progress, and it reads every checkpoint. At the end it
compares the last quarter of the time with the second: by then all is compiled
and every cache is warm.

Speed is measured by CPU time, independently of other work on the machine. Needs
Linux, for /proc.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

import jax
import ml_collections
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import inpaint
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import metric_writer

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Seconds between two measurements of the processes.
SECONDS = 15
# Images that are completed repeatedly.
IMAGES = 16
# The largest ratio of the memory in the last quarter to the second's ...
MEMORY = 1.05
# ... and the smallest ratio of the work per CPU-second.
PACE = 0.9

# Small, so that there are many steps, many saves and many rounds.
TRAIN = (
  "--config=configs/quickstart.py",
  "--config.model.width=0.1",
  "--config.data.max_images=512",
  "--config.train.batch_size=16",
  "--config.train.steps=100000000",
  "--config.train.log_every=10",
  "--config.train.save_every=200",
  "--config.train.max_to_keep=4",
  "--config.train.validation_images=4",
  "--config.train.validation_steps=10",
  "--config.evaluation.methods=",
)


def inpaint_for_ever(workdir: pathlib.Path) -> None:
  """Completes WORKDIR/faces with the newest checkpoint of WORKDIR/train.

  WORKDIR/rounds.txt has the number of rounds.
  """
  config = config_lib.inpaint_job()
  config.checkpoint.path = str(workdir / "train")
  config.checkpoint.step = "latest"
  config.input = str(workdir / "faces")
  config.overwrite = True
  config.search.starts = 2
  config.search.steps = 20
  config.search.learning_rate = 0.1
  config.search.batch_size = IMAGES
  done = 0
  while True:
    (row,) = inpaint.run(
      config, str(workdir / "inpaint"), sharding.create_mesh()
    )
    if row["n"] != IMAGES:
      raise RuntimeError(f"{row['n']} of {IMAGES} images were completed")
    for table in (workdir / "inpaint").glob("results.*.csv"):
      table.unlink()
    done += 1
    with files.replacing(workdir / "rounds.txt") as path:
      path.write_text(str(done))


def look(process: subprocess.Popen) -> dict[str, float]:
  """Returns the bytes in memory and the CPU-seconds of a process.

  Pages of files, such as libraries, are excluded: the kernel drops and reads
  them at any time.
  """
  proc = pathlib.Path("/proc") / str(process.pid)
  _, resident, shared, *_ = map(int, (proc / "statm").read_text().split())
  # The fields after the name, which is in brackets and may contain anything.
  fields = (proc / "stat").read_text().rpartition(")")[2].split()
  ticks = int(fields[11]) + int(fields[12])
  return {
    "bytes": (resident - shared) * os.sysconf("SC_PAGE_SIZE"),
    "seconds": ticks / os.sysconf("SC_CLK_TCK"),
  }


def check(workdir: pathlib.Path, step: int) -> None:
  """Reads the whole checkpoint of a step; raises an error if it is broken."""
  with checkpoints_lib.existing(str(workdir)) as checkpoints:
    config = ml_collections.ConfigDict(checkpoints.meta(step)["config"])
    generator, discriminator, _ = gan.networks(config)
    shapes = jax.eval_shape(
      lambda: gan.init_state(
        config.seed, generator, discriminator, config.model.latent_size,
        config.train,
      )
    )  # fmt: skip
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = checkpoints.restore(step, checkpoints_lib.abstract(shapes, here))
  if int(state.step) != step:
    raise RuntimeError(f"the checkpoint {step} holds step {int(state.step)}")
  if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
    raise RuntimeError(f"the checkpoint {step} is not finite")


def saved(workdir: pathlib.Path) -> list[int]:
  """Returns the steps that have a checkpoint."""
  names = (path.name for path in (workdir / "checkpoints").glob("*"))
  return sorted(int(name) for name in names if name.isdecimal())


def last_step(workdir: pathlib.Path) -> int:
  """Returns the last step in metrics.jsonl."""
  return metric_writer.read(workdir / "metrics.jsonl")[-1]["step"]


def watch(workdir: pathlib.Path, minutes: float) -> None:
  """Starts the processes and writes soak.jsonl until the time is over."""
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(workdir / "xla"),
  }
  main = (sys.executable, "-m", "dcgan_inpaint.main")
  log = (workdir / "log.txt").open("w")
  start = {"cwd": ROOT, "env": environment, "stdout": log, "stderr": log}
  train = subprocess.Popen(
    [*main, *TRAIN, f"--workdir={workdir / 'train'}"], **start
  )
  inpaint = None
  checked = set()
  began = None
  try:
    with (workdir / "soak.jsonl").open("w", buffering=1) as file:
      while began is None or time.monotonic() - began < 60 * minutes:
        time.sleep(SECONDS)
        for process in (train, inpaint):
          if process and process.poll() is not None:
            raise RuntimeError(
              f"a process has ended: see {workdir / 'log.txt'}"
            )
        for step in set(saved(workdir / "train")) - checked:
          check(workdir / "train", step)
          checked.add(step)
        if inpaint is None:
          if checked:
            inpaint = subprocess.Popen(
              [sys.executable, __file__, "--inpaint", f"--workdir={workdir}"],
              **start,
            )
          continue
        rounds = workdir / "rounds.txt"
        if not rounds.exists():
          continue
        # From here on both have compiled all programs.
        began = began or time.monotonic()
        row = {
          "minutes": (time.monotonic() - began) / 60,
          "checkpoints": len(checked),
          "train": {**look(train), "done": last_step(workdir / "train")},
          "inpaint": {
            **look(inpaint),
            "done": IMAGES * int(rounds.read_text()),
          },
        }
        file.write(json.dumps(row) + "\n")
    train.send_signal(signal.SIGTERM)
    if train.wait(timeout=600):
      raise RuntimeError(f"training did not end well: {workdir / 'log.txt'}")
    check(workdir / "train", saved(workdir / "train")[-1])
  finally:
    for process in (train, inpaint):
      if process and process.poll() is None:
        process.kill()


def judge(workdir: pathlib.Path) -> bool:
  """Prints the results for memory and speed; returns whether they are good."""
  rows = [
    json.loads(line)
    for line in (workdir / "soak.jsonl").read_text().splitlines()
  ]
  last = rows[-1]["minutes"]

  def quarter(number):
    bounds = last * (number - 1) / 4, last * number / 4
    return [row for row in rows if bounds[0] <= row["minutes"] <= bounds[1]]

  table, well = [], True
  for name in ("train", "inpaint"):
    line = {"process": name}
    memory, pace = {}, {}
    for number in (2, 3, 4):
      part = [row[name] for row in quarter(number)]
      memory[number] = statistics.median(row["bytes"] for row in part) / 2**20
      pace[number] = (part[-1]["done"] - part[0]["done"]) / (
        part[-1]["seconds"] - part[0]["seconds"]
      )
      line[f"MiB, quarter {number}"] = memory[number]
      line[f"per CPU-second, quarter {number}"] = pace[number]
    line["done"] = rows[-1][name]["done"]
    line["CPU-minutes"] = rows[-1][name]["seconds"] / 60
    well &= memory[4] <= MEMORY * memory[2] and pace[4] >= PACE * pace[2]
    table.append(line)
  for line in table:
    print(results.table([line]), end="\n\n")
  print(f"{last:.0f} minutes, {rows[-1]['checkpoints']} checkpoints read back")
  print("all within bounds" if well else "OUT OF BOUNDS")
  return well


def main() -> None:
  """Runs the inpainting or the watching process."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--minutes", type=float, default=120)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--inpaint", action="store_true", help="for its own use")
  parser.add_argument("--judge", action="store_true", help="only the figures")
  arguments = parser.parse_args()
  jax.config.update("jax_platforms", "cpu")
  workdir = arguments.workdir.resolve()
  if arguments.inpaint:
    inpaint_for_ever(workdir)
    return
  if not arguments.judge:
    for i, face in enumerate(synthetic.load("test", IMAGES)):
      pictures.save_png(workdir / "faces" / f"{i:02d}.png", face)
    watch(workdir, arguments.minutes)
  sys.exit(0 if judge(workdir) else 1)


if __name__ == "__main__":
  main()
