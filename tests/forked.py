"""Runs the command line in processes that a server forks, for many short runs.

The server has imported everything, which saves seconds of each process.
"""

import multiprocessing
import os
import pathlib
import sys

from absl import app
import jax

from dcgan_inpaint import main

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
  [
    "dcgan_inpaint.main",
    "dcgan_inpaint.jobs.benchmark",
    "dcgan_inpaint.data.celeba",
    "dcgan_inpaint.jobs.inpaint",
    "dcgan_inpaint.jobs.prepare",
    "dcgan_inpaint.jobs.train",
    "matplotlib.figure",
    "tensorboardX",
  ]
)


def start(
  words: list[str], out: pathlib.Path, err: pathlib.Path | None = None
) -> multiprocessing.context.ForkServerProcess:
  """Starts the command line in the current folder.

  Args:
    words: its arguments, but for the cache of compiled programs.
    out: the file of its standard output.
    err: the file of its standard error; None = `out`.
  """
  cache = jax.config.jax_compilation_cache_dir or ""
  words = [*words, f"--compilation_cache={cache}"]
  process = _PROCESSES.Process(target=_run, args=(words, out, err or out))
  process.start()
  return process


def _run(words, out, err):
  for path, number in ((out, 1), (err, 2)):
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    os.dup2(os.open(path, flags), number)
  # Too late for variables of the environment: JAX is imported.
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  sys.argv = ["main", *words]
  app.run(main.main, flags_parser=main.parse_flags)
