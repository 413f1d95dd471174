"""The command line: flags, devices, then the job that the config names.

  python -m dcgan_inpaint.main --config=quickstart [--workdir=DIR] \
      [--config.FIELD=VALUE ...]

`--help` explains the flags, and with a config its fields. Kept short on
purpose: everything that a job does is in the job's own module.
"""

import contextlib
import importlib
import os
import pathlib
import sys
import traceback
import types
from typing import Any
from typing import NamedTuple
from typing import NoReturn

from absl import app
from absl import flags
from absl import logging
import jax
from ml_collections import config_flags

from dcgan_inpaint import command_line
from dcgan_inpaint import config as config_lib
from dcgan_inpaint.jobs import names
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lock
from dcgan_inpaint.runtime import process
from dcgan_inpaint.runtime import profiling
from dcgan_inpaint.runtime import sharding


class _Job(NamedTuple):
  """A job.

  Attributes:
    function: 'module:function'. It takes the config, the workdir and the
      devices, and returns the rows of results.json.
    steps: the kind of steps that --profile_steps counts, of `profiling.KINDS`;
      '' where it makes none.
    shared: whether several processes may share the work.
  """

  function: str
  steps: str = ""
  shared: bool = False


_JOBS = types.MappingProxyType(
  {
    "train": _Job(
      "dcgan_inpaint.jobs.train:run_and_evaluate", "train", shared=True
    ),
    "train_encoder": _Job(
      "dcgan_inpaint.jobs.train_encoder:run", "train", shared=True
    ),
    "compare": _Job("dcgan_inpaint.jobs.compare:run", "train"),
    "evaluate": _Job("dcgan_inpaint.jobs.evaluate:run", "search", shared=True),
    "benchmark": _Job("dcgan_inpaint.jobs.benchmark:run", "search"),
    "benchmark_throughput": _Job("dcgan_inpaint.jobs.throughput:run", "search"),
    "inpaint": _Job("dcgan_inpaint.jobs.inpaint:run", "search", shared=True),
    "export": _Job("dcgan_inpaint.jobs.export:run"),
    "prepare": _Job("dcgan_inpaint.jobs.prepare:run"),
  }
)

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "What to do: a config of the package by its name, or a file.",
  lock_config=True,
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
  "Stop unless JAX runs on this, not on the CPU.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator_address",
  None,
  "Several processes: HOST:PORT of process 0; none on SLURM, TPU, Kubernetes.",
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
  "GPU: only kernels that repeat a result to the bit, which are slower.",
)
_COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache",
  os.environ.get("JAX_COMPILATION_CACHE_DIR", cache.PROGRAMS),
  "Where compiled programs are kept for the next run; '' keeps none.",
)
_PROFILE_STEPS = flags.DEFINE_string(
  "profile_steps",
  "",
  "Traces steps, such as 100:110, into profile/ (docs/performance.md).",
)


def _run(config: Any, workdir: str, in_brief: bool) -> None:
  """Runs the job, and leaves its rows in results.json."""
  job = _JOBS[config.job]
  if jax.process_count() > 1 and not job.shared:
    raise errors.UserError(
      f"config.job={config.job!r} is the work of one process: run it once, on "
      "one host (--num_processes=1)"
    )
  module, _, function = job.function.partition(":")
  run = getattr(importlib.import_module(module), function)
  with _profile(config.job, workdir):
    rows = run(config, workdir, sharding.create_mesh())

  if jax.process_index() == 0:
    path = results.write(workdir, config.job, config, rows)
    if in_brief:
      done = sum(row["n"] for row in rows)
      output = errors.printable(config.output)
      print(f"{done} image{'s' * (done != 1)} filled: {output}")
    else:
      print(results.tables(rows))
      print(f"results: {errors.printable(str(path))}")
  failed = sum(row.get("failed", 0) for row in rows)
  if failed:
    raise errors.UserError(
      f"images left out: {failed}; a warning above names each and says why: "
      "mend them and run the same command again"
    )


def _profile(job: str, workdir: str) -> contextlib.AbstractContextManager[None]:
  """Returns what traces the steps of --profile_steps, if any, of a job."""
  if not _PROFILE_STEPS.value:
    return contextlib.nullcontext()
  steps = profiling.parse(_PROFILE_STEPS.value)
  if not _JOBS[job].steps:
    having = ", ".join(name for name, job in _JOBS.items() if job.steps)
    raise errors.UserError(
      f"--profile_steps: the job {job!r} makes no steps; those are {having}"
    )
  if jax.process_index() > 0:
    return contextlib.nullcontext()
  return profiling.trace(
    _JOBS[job].steps, steps, os.path.join(workdir, "profile")
  )


def _check(argv: list[str]) -> tuple[Any, str]:
  """Returns the config and the workdir, both checked."""
  if len(argv) > 1:
    raise errors.UserError(
      f"{argv[1]!r} is not a flag: write --config.FIELD=VALUE"
    )
  config = _CONFIG.value
  if config is None:
    raise errors.UserError(
      "name a config, such as --config=quickstart; --help lists all"
    )
  config_lib.check_fields(config)
  config_lib.validate(config)
  names.check(config)
  # What follows a colon is for the file's own get_config.
  path = config_flags.get_config_filename(flags.FLAGS["config"])
  stem = pathlib.Path(path.partition(":")[0]).stem
  workdir = os.path.expanduser(_WORKDIR.value or os.path.join("runs", stem))
  files.make_folder(workdir, "--workdir")
  return config, workdir


def _check_devices(workdir: str, processes: int) -> None:
  """Logs what JAX runs on, and stops where the flags name something else."""
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


def brief(argv: list[str]) -> None:
  """Runs the job `inpaint` as `main` does, and says less."""
  logging.set_verbosity(logging.WARNING)
  main(argv, in_brief=True)


def main(argv: list[str], in_brief: bool = False) -> None:
  """Joins the processes, checks flags and devices, then runs the job.

  Args:
    argv: the words of the command line that are no flags, the program first.
    in_brief: print one line on the results, which `config.output` gets, in
      place of tables.
  """
  if _DETERMINISTIC.value:
    # Read by XLA when it starts.
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{given} --xla_gpu_deterministic_ops=true"
  with in_a_line():
    # Before anything else: threads keep the settings that they start with, and
    # what JAX computes before processes are joined, it computes alone.
    process.keep_freed_memory()
    process.end_on_interrupt()
    process.end_aborts_in_a_line()
    processes = sharding.start_processes(
      _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    )
    if processes > 1:
      process.own_standard_output()
    config, workdir = _check(argv)
    if _COMPILATION_CACHE.value:
      programs = os.path.expanduser(_COMPILATION_CACHE.value)
      jax.config.update("jax_compilation_cache_dir", programs)
      cache.heal_programs(programs)
    process.report_threads_in_a_line()
    for one in (
      process.is_for_the_user,
      process.shorten,
      process.escape_arguments,
    ):
      logging.get_absl_handler().addFilter(one)
    _check_devices(workdir, processes)
    with lock.hold(workdir):
      _run(config, workdir, in_brief)


@contextlib.contextmanager
def in_a_line():
  """Ends the process in one line where it is stopped, or a user can mend it."""
  try:
    yield
  except errors.Stopped as stopped:
    print(
      f"{errors.printable(str(stopped))}; resume by running the same command"
    )
  except errors.UserError as error:
    _fail(str(error))
  except Exception as error:
    if advice := errors.advice(error):
      if advice.startswith("out of memory"):
        advice += _smaller_batches(_CONFIG.value)
      # A line of its own, at once: what is left of a save may be in the middle
      # of a traceback, and would fail again, at length.
      sys.stderr.write(f"\nerror: {advice}\n")
      process.leave(2)
    if jax.distributed.is_initialized():
      traceback.print_exc()
      process.leave(1)
    raise


def _smaller_batches(config: Any) -> str:
  """Returns what to lower where memory runs out."""
  sections = [x for x in ("train", "encoder", "search") if x in config]
  fields = [f"config.{x}.batch_size={config[x].batch_size}" for x in sections]
  return f": lower {' or '.join(fields)}" if fields else ""


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a wrong one ends in a line, not in a traceback."""
  try:
    return command_line.parse(flags.FLAGS, argv)
  except errors.UserError as error:
    _fail(str(error))


def _fail(message: str) -> NoReturn:
  print(f"error: {message}", file=sys.stderr)
  if jax.distributed.is_initialized():
    process.leave(2)
  sys.exit(2)


if __name__ == "__main__":
  app.run(main, flags_parser=parse_flags)
