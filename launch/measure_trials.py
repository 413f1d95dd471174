"""Trials that are more than one job: `measure_trials.py NAME DIR -- COMMAND`.

  peer           the PyTorch peer, whose printed lines become rows
  start_up       a short training three times, which compiles in the first
  deterministic  a training twice, which must give the same to the bit
  out_of_memory  a training too large, which must end in one line of advice
  programs       the StableHLO of a model, on this device and on the CPU

Each writes rows.json to DIR as soon as there is a row.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
from typing import Any

# torch train  batch 64: 6746.1 images/s (9.49 ms/step)
_LINE = re.compile(
  r"torch (train|search)\s+batch (\d+): ([\d.]+) \S+ \(([\d.]+) ms/step\)"
)


def _leave(folder: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  (folder / "rows.json").write_text(json.dumps(rows))


def peer(folder: pathlib.Path, command: list[str]) -> int:
  """Runs the PyTorch peer; a row for each line of its figures.

  Args:
    folder: that gets the rows.
    command: which runs it.
  """
  mode = "torch compiled" if "--compile" in command else "torch eager"
  rows = []
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout
    for line in process.stdout:
      print(line, end="", flush=True)
      if match := _LINE.match(line):
        what, batch, rate, milliseconds = match.groups()
        rows.append(
          {
            "what": what,
            "implementation": mode,
            "batch": int(batch),
            "per_second": float(rate),
            "milliseconds_per_step": float(milliseconds),
          }
        )
        _leave(folder, rows)
  return process.returncode


def _run(
  folder: pathlib.Path, number: int, command: list[str]
) -> tuple[float, subprocess.CompletedProcess]:
  """Runs a job in a new workdir; returns its seconds and how it ended."""
  workdir = folder / f"{number}"
  shutil.rmtree(workdir, ignore_errors=True)
  began = time.monotonic()
  done = subprocess.run(
    [*command, f"--workdir={workdir}"], capture_output=True, text=True
  )
  print(done.stdout, done.stderr, flush=True)
  return time.monotonic() - began, done


def start_up(folder: pathlib.Path, command: list[str]) -> int:
  """Times a training of one call of steps; the first time it compiles.

  Args:
    folder: that gets the rows.
    command: which trains.
  """
  rows = []
  for number in range(3):
    seconds, done = _run(folder, number, command)
    if done.returncode:
      return done.returncode
    rows.append(
      {"what": "start_up", "run": number, "seconds": round(seconds, 2)}
    )
    _leave(folder, rows)
  return 0


def deterministic(folder: pathlib.Path, command: list[str]) -> int:
  """Trains twice, and compares the losses of every step to the bit.

  Args:
    folder: that gets the row.
    command: which trains.
  """
  losses, rates = [], []
  for number in range(2):
    _, done = _run(folder, number, command)
    if done.returncode:
      return done.returncode
    losses.append((folder / f"{number}" / "metrics.jsonl").read_bytes())
    results = json.loads((folder / f"{number}" / "results.json").read_text())
    rates.append(results["rows"][0]["per_second"])
  row = {
    "what": "deterministic",
    "equal": losses[0] == losses[1],
    "steps": len(losses[0].splitlines()),
    "per_second": max(rates),
  }
  _leave(folder, [row])
  return 0 if row["equal"] else 1


def out_of_memory(folder: pathlib.Path, command: list[str]) -> int:
  """Trains what does not fit, and reads the message.

  Args:
    folder: that gets the row.
    command: which trains.
  """
  _, done = _run(folder, 0, command)
  said = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
  advised = (
    done.returncode == 2
    and len(said) == 1
    and "out of memory" in said[0]
    and "config.train.batch_size" in said[0]
  )
  row = {
    "what": "out_of_memory",
    "advised": advised,
    "status": done.returncode,
    "message": said[0] if said else "",
  }
  _leave(folder, [row])
  return 0 if advised else 1


def programs(folder: pathlib.Path, words: list[str]) -> int:
  """Completes images by the program `fidelity`, and compares with the CPU.

  Args:
    folder: that gets the row.
    words: the folder of the programs, and how many images.
  """
  # Only here: the other trials leave the accelerator to their commands.
  import jax
  import jax.export
  import numpy as np

  inside, count = pathlib.Path(words[0]), int(words[1])
  data = (inside / "fidelity.jax_export").read_bytes()
  complete = jax.jit(jax.export.deserialize(bytearray(data)).call)
  weights = {
    **np.load(inside / "generator.npz", allow_pickle=False),
    **np.load(inside / "encoder.npz", allow_pickle=False),
  }
  rng = np.random.default_rng(0)
  # Smooth pictures, as faces are.
  images = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
  images = images.repeat(16, 1).repeat(16, 2)
  holes = np.zeros(images.shape[:3], bool)
  holes[:, 16:48, 16:48] = True

  def run(count: int) -> np.ndarray:
    return np.asarray(complete(weights, images[:count], holes[:count]))

  run(count)
  began = time.monotonic()
  here = run(count)
  seconds = time.monotonic() - began
  with jax.default_device(jax.devices("cpu")[0]):
    there = run(4)
  difference = np.abs(here[:4].astype(int) - there)
  row = {
    "what": "programs",
    "batch": count,
    "per_second": count / seconds,
    "largest_difference": int(difference.max()),
    "share_that_differs": float(np.mean(difference > 0)),
  }
  _leave(folder, [row])
  return 0


if __name__ == "__main__":
  _, _name, _folder, _, *_command = sys.argv
  _trials = {
    "peer": peer,
    "start_up": start_up,
    "deterministic": deterministic,
    "out_of_memory": out_of_memory,
    "programs": programs,
  }
  sys.exit(_trials[_name](pathlib.Path(_folder), _command))
