"""The command line: flags, devices, then the job that the config names.

  python -m dcgan_inpaint.main --config=configs/quickstart.py \
      [--workdir=DIR] [--config.FIELD=VALUE ...]

Kept short on purpose: everything that a job does is in the job's own module.
"""

import ctypes
import importlib
import itertools
import os
import pathlib
import sys
import traceback
import types
from typing import Any
from typing import NoReturn

from absl import app
from absl import flags
from absl import logging
import jax
from ml_collections import config_flags

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lock
from dcgan_inpaint.runtime import sharding

# The function of each job. It takes the config, the workdir and the devices,
# and returns the rows of results.json.
_JOBS = types.MappingProxyType(
  {
    "train": "dcgan_inpaint.jobs.train:run_and_evaluate",
    "train_encoder": "dcgan_inpaint.jobs.train_encoder:run",
    "compare": "dcgan_inpaint.jobs.compare:run",
    "evaluate": "dcgan_inpaint.jobs.evaluate:run",
    "benchmark": "dcgan_inpaint.jobs.benchmark:run",
    "benchmark_throughput": "dcgan_inpaint.jobs.throughput:run",
    "inpaint": "dcgan_inpaint.jobs.inpaint:run",
    "export": "dcgan_inpaint.jobs.export:run",
    "prepare": "dcgan_inpaint.jobs.prepare:run",
  }
)
# Those that several processes share.
_TOGETHER = ("train", "train_encoder", "evaluate", "inpaint")

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to do: a file of configs/.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Where the job keeps what it makes; runs/NAME of the config by default.",
)
_PLATFORM = flags.DEFINE_enum(
  "platform",
  "any",
  ["any", "cpu", "gpu", "tpu"],
  "Stop unless JAX runs on this; JAX falls back to the CPU in silence.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator_address",
  None,
  "Several processes: HOST:PORT of process 0. On SLURM, TPU pods and "
  "Kubernetes all three flags may be left out.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Several processes: how many; 1 alone finds no others."
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Several processes: which this is, from 0."
)
_DETERMINISTIC = flags.DEFINE_boolean(
  "deterministic",
  False,
  "GPU: only kernels that repeat a result to the bit, which are slower. The "
  "CPU has no others.",
)
_COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache",
  os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/dcgan_inpaint/xla"),
  "Where compiled programs are kept for the next run; '' keeps none.",
)


def _run(config, workdir: str) -> None:
  """Runs the job, and leaves its rows in results.json."""
  if jax.process_count() > 1 and config.job not in _TOGETHER:
    raise errors.UserError(
      f"config.job={config.job!r} is the work of one process: run it once, on "
      "one host (--num_processes=1)"
    )
  module, _, function = _JOBS[config.job].partition(":")
  run = getattr(importlib.import_module(module), function)
  rows = run(config, workdir, sharding.create_mesh())

  if jax.process_index() == 0:
    path = results.write(workdir, config.job, config, rows)
    # Rows of one kind make a table; the file has every column.
    for names, kind in itertools.groupby(rows, key=list):
      kind = list(kind)
      shown = [
        x
        for x in names
        if not x.endswith(("_ci95", "_digest"))
        and not isinstance(kind[0][x], (dict, list))
      ]
      print(results.table(kind, shown), end="\n\n")
    print(f"results: {path}")
  failed = sum(row.get("failed", 0) for row in rows)
  if failed:
    raise errors.UserError(
      f"images left out: {failed}; a warning above names each and says why: "
      "mend them and run the same command again"
    )


def _check(argv: list[str]) -> tuple[Any, str]:
  """Returns the config and the workdir, both checked."""
  if len(argv) > 1:
    raise errors.UserError(
      f"{argv[1]!r} is not a flag: write --config.FIELD=VALUE"
    )
  config = _CONFIG.value
  if config is None:
    raise errors.UserError("name a config: --config=configs/quickstart.py")
  # What follows a colon is for the file's own get_config.
  name = config_flags.get_config_filename(flags.FLAGS["config"])
  path = pathlib.Path(name.partition(":")[0])
  # ml_collections would say so only when a field is read, and with a traceback.
  if not path.is_file():
    raise errors.UserError(
      f"--config={path} does not exist: name a file such as "
      "configs/quickstart.py"
    )
  config_lib.validate(config)
  workdir = os.path.expanduser(
    _WORKDIR.value or os.path.join("runs", path.stem)
  )
  files.make_folder(workdir, "--workdir")
  return config, workdir


def _ours(record: Any) -> bool:
  """Tells whether a log record is for the user: our own, or a warning.

  Orbax and tfds log each step of their work as information, through absl too.
  """
  package = os.path.dirname(os.path.abspath(__file__))
  return record.levelno >= logging.converter.STANDARD_WARNING or (
    os.path.abspath(record.pathname).startswith(package)
  )


def _check_devices(workdir: str, processes: int) -> None:
  """Says what JAX runs on, and stops where that is not what was asked for."""
  try:
    devices = jax.devices()
  except RuntimeError as error:  # JAX_PLATFORMS names one that is not there.
    raise errors.UserError(str(error).partition("\n")[0]) from error
  platform = devices[0].platform
  logging.info(
    "%s x %s (%s), process %s of %s, JAX %s, workdir %s",
    len(devices), devices[0].device_kind, platform, jax.process_index(),
    jax.process_count(), jax.__version__, workdir,
  )  # fmt: skip
  if jax.process_count() != processes:
    raise errors.UserError(
      f"{processes} processes were to be joined, and JAX sees "
      f"{jax.process_count()}: does each have devices of its own?"
    )
  if _PLATFORM.value not in ("any", platform):
    raise errors.UserError(
      f"--platform={_PLATFORM.value}, but JAX runs on {platform}: install the "
      "extra for your accelerator, such as pip install -e '.[cuda12]'"
    )


def _keep_freed_memory() -> None:
  """Lets the process keep the memory that a step frees, for the next step.

  Where glibc gives it back, Linux clears every page of it anew: 20,000 of them,
  a tenth of the time of a training step at a quarter of the width on the CPU.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # Another libc, another system.
    return
  mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap.
  mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, too,
  mallopt(-8, 1)  # M_ARENA_MAX: which is one for all threads.


def _own_standard_output() -> None:
  """Leaves standard output to what Python prints; the rest goes to the errors.

  Gloo, which connects CPUs, greets there from several threads at once, and its
  halves of lines would come between those of a table.
  """
  sys.stdout.flush()
  ours = os.dup(1)
  os.dup2(2, 1)
  sys.stdout = os.fdopen(
    ours, "w", 1, encoding=sys.stdout.encoding, errors=sys.stdout.errors
  )


def main(argv: list[str]) -> None:
  """Joins the processes, checks flags and devices, then runs the job."""
  if _DETERMINISTIC.value:
    # Read by XLA when it starts.
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{given} --xla_gpu_deterministic_ops=true"
  try:
    # Before anything else: threads keep the settings that they start with, and
    # what JAX computes before processes are joined, it computes alone.
    _keep_freed_memory()
    processes = sharding.start_processes(
      _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    )
    if processes > 1:
      _own_standard_output()
    config, workdir = _check(argv)
    if _COMPILATION_CACHE.value:
      cache = os.path.expanduser(_COMPILATION_CACHE.value)
      jax.config.update("jax_compilation_cache_dir", cache)
    logging.get_absl_handler().addFilter(_ours)
    _check_devices(workdir, processes)
    with lock.hold(workdir):
      _run(config, workdir)
  except errors.Stopped as stopped:
    print(f"{stopped}; resume by running the same command")
  except errors.UserError as error:
    _fail(str(error))
  except Exception as error:
    if advice := errors.advice(error):
      if advice.startswith("out of memory"):
        advice += _smaller_batches(_CONFIG.value)
      # A line of its own, at once: what is left of a save may be in the middle
      # of a traceback, and would fail again, at length.
      sys.stderr.write(f"\nerror: {advice}\n")
      _leave(2)
    if jax.distributed.is_initialized():
      traceback.print_exc()
      _leave(1)
    raise


def _smaller_batches(config: Any) -> str:
  """Returns what to lower where memory runs out."""
  sections = [x for x in ("train", "encoder", "search") if x in config]
  fields = [f"config.{x}.batch_size={config[x].batch_size}" for x in sections]
  return f": lower {' or '.join(fields)}" if fields else ""


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags; a wrong one ends in a line, not in a traceback."""
  try:
    return flags.FLAGS(argv)
  # ml_collections raises these for a field that is not there, a value of the
  # wrong type and a file that is not there, and what a config file raises.
  except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
    # The first line names the flag, the last one the remedy; a traceback of a
    # config file may lie between. A KeyError's own text is in quotes, and a
    # UserError in such a file has its line breaks spelt out.
    text = error.args[0] if isinstance(error, KeyError) else str(error)
    lines = text.replace("\\n", "\n").strip().splitlines()
    lines = lines or [type(error).__name__]
    message = " ".join(dict.fromkeys([lines[0], lines[-1]]))
    # Raised by a config file, such as configs/again.py.
    _fail(message.replace("dcgan_inpaint.runtime.errors.UserError: ", ""))


def _fail(message: str) -> NoReturn:
  print(f"error: {message}", file=sys.stderr)
  if jax.distributed.is_initialized():
    _leave(2)
  sys.exit(2)


def _leave(status: int) -> NoReturn:
  """Ends a process that has failed, at once.

  Python's own way out would first wait for what is under way, such as the other
  processes of a job, which wait for this one. Once it is gone, JAX stops them.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


if __name__ == "__main__":
  app.run(main, flags_parser=_parse)
