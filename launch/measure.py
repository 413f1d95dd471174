"""Runs the steps of `measure_steps` within a budget; see launch/measure.sh.

Nothing of JAX is imported here: each step is a process of its own, and has the
accelerator to itself.
"""

import argparse
from collections.abc import Sequence
import contextlib
import datetime
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import measure_commands
import measure_steps

# Seconds that a step has to save itself when its time is over.
_GRACE = 20
# Seconds of the budget that no step is planned for, so that the last one can
# save itself within the budget.
_RESERVE = _GRACE
# Seconds between looks at the clock.
_POLL = 0.2


class Measurements:
  """What was measured so far.

  Attributes:
    folder: of the measurements.
    lines: of measurements.jsonl.
  """

  def __init__(self, folder: pathlib.Path):
    """Reads what is there; a line that was cut in the middle counts for none.

    Args:
      folder: of the measurements.
    """
    self.folder = folder
    self.lines = read(folder)

  def last(self, name: str, *statuses: str) -> int:
    """Returns the place of a step's last line of some statuses; -1 = none.

    Args:
      name: of the step.
      *statuses: which count.
    """
    places = [
      place
      for place, line in enumerate(self.lines)
      if line["step"] == name and line["status"] in statuses
    ]
    return places[-1] if places else -1

  def add(self, line: dict[str, Any]) -> None:
    """Appends a line, on disk at once."""
    self.lines.append(line)
    with (self.folder / "measurements.jsonl").open("a") as file:
      file.write(json.dumps(line) + "\n")
      file.flush()
      os.fsync(file.fileno())


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of measurements.jsonl that are whole.

  Args:
    folder: of the measurements.
  """
  path, lines = folder / "measurements.jsonl", []
  for text in path.read_text().splitlines() if path.exists() else ():
    try:
      lines.append(json.loads(text))
    except ValueError:
      print(f"{path}: left out a line that is not whole")
  return lines


def rows_of(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the rows that a step has left: all, or what it had when it was cut.

  Args:
    folder: of the step.
  """
  if (folder / "results.json").exists():
    return json.loads((folder / "results.json").read_text())["rows"]
  if (folder / "rows.json").exists():
    return json.loads((folder / "rows.json").read_text())
  parts = sorted(
    (folder / "parts").glob("*.json"), key=lambda path: path.stat().st_mtime
  )
  return [json.loads(path.read_text()) for path in parts]


def run_step(
  step: measure_commands.Step,
  folder: pathlib.Path,
  seconds: float,
  stop: threading.Event,
) -> dict[str, Any]:
  """Runs a step for so many seconds at the most; returns its line.

  Args:
    step: the step.
    folder: of the step, which gets its log.
    seconds: what it may take. It is asked to stop then, and killed later.
    stop: set where everything is to stop.
  """
  folder.mkdir(parents=True, exist_ok=True)
  # Of an earlier run that was cut: what is left at the end is this one's.
  for name in ("results.json", "rows.json"):
    (folder / name).unlink(missing_ok=True)
  began = time.monotonic()
  status = "done"
  with (folder / "log.txt").open("a") as log:
    process = subprocess.Popen(
      step.command,
      env=_environment(step),
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      start_new_session=True,
    )
    while process.poll() is None and status == "done":
      if stop.is_set() or time.monotonic() > began + seconds:
        status = "cut"
        _stop(process)
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_POLL)
  message = ""
  if status == "done" and process.returncode:
    status, message = "failed", _reason(folder / "log.txt")
  return {
    **_line(step.name, status),
    "seconds": round(time.monotonic() - began, 2),
    "setting": step.setting,
    "rows": rows_of(folder),
    **({"message": message} if message else {}),
  }


def _line(name: str, status: str) -> dict[str, Any]:
  """Returns the start of a line of measurements.jsonl."""
  now = datetime.datetime.now(datetime.UTC)
  return {
    "step": name,
    "status": status,
    "date": now.isoformat(timespec="seconds"),
  }


def _environment(step: measure_commands.Step) -> dict[str, str]:
  """Returns the variables of a step; XLA gets its flags beside those given."""
  given, own = os.environ, step.environment
  flags = f"{given.get('XLA_FLAGS', '')} {own.get('XLA_FLAGS', '')}".strip()
  return {**given, **own, "XLA_FLAGS": flags}


def _stop(process: subprocess.Popen) -> None:
  """Lets a process, and those that it has started, save and end."""
  for sent, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, sent)
    try:
      process.wait(patience)
      return
    except subprocess.TimeoutExpired:
      continue


def _reason(path: pathlib.Path) -> str:
  """Returns the line of a log that says why a step failed."""
  lines = path.read_text(errors="replace").strip().splitlines()
  ours = [line for line in lines if line.startswith("error: ")]
  raised = [
    line for line in lines if re.match(r"[\w.]+(Error|Exception)", line)
  ]
  return (ours or raised or lines or [""])[-1]


def _options(argv: Sequence[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="launch/measure.sh", description="See the head of launch/measure.sh."
  )
  parser.add_argument("seconds", type=float, help="the budget")
  parser.add_argument("--out", default="runs/measure", type=pathlib.Path)
  parser.add_argument("--cpu", action="store_true", help="try it, small")
  parser.add_argument("--data", default="", help="training faces")
  parser.add_argument("--validation_data", default="")
  parser.add_argument("--test_data", default="")
  parser.add_argument("--peer", default="", help="PyTorch's file")
  parser.add_argument("--only", default="", help="some steps, with commas")
  parser.add_argument("--again", default="", help="steps to run again")
  parser.add_argument("--list", action="store_true", help="names the steps")
  options = parser.parse_args(argv)
  options.out = options.out.expanduser().resolve()
  for name in ("data", "validation_data", "test_data", "peer"):
    value = getattr(options, name)
    for path in value.split(",") if value else ():
      if not pathlib.Path(path).expanduser().exists():
        parser.error(f"--{name}: {path} does not exist")
  known = measure_steps.names(options)
  for name in ("only", "again"):
    words = [word for word in getattr(options, name).split(",") if word]
    if unknown := set(words) - set(known):
      parser.error(f"--{name}: {unknown.pop()!r} is none of {', '.join(known)}")
    setattr(options, name, words)
  return options


def _why_not(
  step: measure_commands.Step,
  measured: Measurements,
  options: argparse.Namespace,
) -> str:
  """Returns why a step is left out, or ''."""
  if options.only and step.name not in options.only:
    return "not selected"
  if step.unfit:
    return step.unfit
  for name in step.needs:
    if measured.last(name, "done") < 0:
      return f"needs the step {name}"
  before = measured.last(step.follows, "done", "cut")
  if step.follows and before < 0:
    return f"needs the step {step.follows}"
  done = measured.last(step.name, "done")
  if done > max(before, measured.last(step.name, "set aside")):
    return "done before"
  return ""


def _set_aside(names: Sequence[str], measured: Measurements) -> None:
  """Renames the folders of steps, so that they start again."""
  for name in names:
    folder, number = measured.folder / name, 1
    while (aside := folder.with_name(f"{name}.{number}")).exists():
      number += 1
    if folder.exists():
      folder.rename(aside)
    measured.add({**_line(name, "set aside"), "rows": []})


def main(argv: Sequence[str]) -> int:
  """Runs the steps; returns the exit status.

  Args:
    argv: the words after the program's name.
  """
  options = _options(argv)
  deadline = time.monotonic() + options.seconds
  if options.cpu:
    # It would take minutes to optimise programs for so little.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
  if options.list:
    print("\n".join(measure_steps.names(options)))
    return 0
  options.out.mkdir(parents=True, exist_ok=True)
  measured = Measurements(options.out)
  stop = threading.Event()
  for sent in (signal.SIGTERM, signal.SIGINT):
    signal.signal(sent, lambda *unused: stop.set())

  # The machine may be another one than before.
  check = measure_steps.check(options)
  line = run_step(check, options.out / check.name, check.limit, stop)
  measured.add(line)
  if line["rows"]:
    row = line["rows"][0]
    print(", ".join(f"{name} {value}" for name, value in row.items() if value))
  if line["status"] != "done":
    print(line.get("message") or "error: the check was cut")
    return 2
  for name in ("data", "validation_data", "test_data"):
    path = getattr(options, name)
    if path.endswith(measure_steps.SHEETS):
      unpack = measure_steps.unpack(options, name)
      if not unpack.target.exists():
        line = run_step(unpack.step, options.out / name, math.inf, stop)
        measured.add(line)
      if not unpack.target.exists():
        print(f"error: {path} cannot be unpacked: {options.out / name}/log.txt")
        return 2
      setattr(options, name, str(unpack.target))
  _set_aside(options.again, measured)
  cut = failed = 0
  for name in measure_steps.names(options):
    # With what was found by now to be fastest.
    chosen = measure_steps.choose(measured.lines, options)
    step = measure_steps.plan(options, chosen)[name]
    if reason := _why_not(step, measured, options):
      if reason != "not selected":
        print(f"{name}: {reason}")
      continue
    left = deadline - time.monotonic() - _RESERVE
    if left < step.least:
      print(
        f"{name}: {max(0, left):.0f} s are left, and it takes {step.least:.0f}"
      )
      cut += 1
      continue
    spare = step.spare if not options.cpu else step.spare / 4
    limit = min(step.limit, max(step.least, left - spare))
    print(f"{name}: {limit:.0f} s at the most", flush=True)
    line = run_step(step, options.out / name, limit, stop)
    measured.add(line)
    cut += line["status"] == "cut"
    failed += line["status"] == "failed"
    print(
      f"{name}: {line['status']} after {line['seconds']:.0f} s, "
      f"{len(line['rows'])} rows {line.get('message', '')}".rstrip(),
      flush=True,
    )
    if stop.is_set():
      print("stopped: the same command goes on")
      return 1
  print(f"figures: {options.out / 'measurements.jsonl'}")
  print(f"tables: python docs/performance_tables.py {options.out}")
  if cut:
    print(f"{cut} steps are cut or to come: the same command goes on")
  if failed:
    print(f"{failed} steps failed: their log.txt says why")
  return 2 if failed else 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
