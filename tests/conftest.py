"""Eight CPU devices, a cache of compiled programs, and the shared folder.

The suite runs on eight devices that XLA makes of the CPU, so that whatever is
split over devices is truly split. A trap lies there: programs with collectives
on several CPU devices lock up when many wait in line, so a loop over them must
read a result every few steps.

XLA would take minutes to optimise programs for arrays as tiny as the suite's.
It does not, unless XLA_FLAGS is set; if that is set and empty, XLA compiles as
for a user.
"""

import fcntl
import os
import pathlib

from absl import flags
import jax
import pytest

from dcgan_inpaint.runtime import cache

# Before the first computation, after which none can be changed. An environment
# that names a platform or has flags is obeyed; processes that tests start
# inherit the flags.
if not os.environ.get("JAX_PLATFORMS"):
  jax.config.update("jax_platforms", "cpu")
  os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
jax.config.update("jax_num_cpu_devices", 8)

# `main` runs under absl's `app.run`, which parses them; pytest does not.
flags.FLAGS.mark_as_parsed()


def pytest_configure(config):
  """Keeps what takes long in pytest's cache, for the next run of the suite.

  JAX_COMPILATION_CACHE_DIR names another folder of programs, and is obeyed.
  """
  if hasattr(config, "cache"):
    cache.FOLDER = str(config.cache.mkdir("arrays"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
  if not jax.config.jax_compilation_cache_dir and hasattr(config, "cache"):
    folder = config.cache.mkdir("xla")
    jax.config.update("jax_compilation_cache_dir", str(folder))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config) -> int | None:
  """Runs a single file in this process: another would only import again."""
  files = {path.partition("::")[0] for path in config.args}
  (path, *others) = files
  return 0 if not others and path.endswith(".py") else None


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """Returns the folder of real faces beside the checkout, or skips the test."""
  beside = pathlib.Path(__file__).resolve().parents[2] / "shared"
  folder = pathlib.Path(os.environ.get("DCGAN_INPAINT_SHARED", beside))
  if not folder.is_dir():
    pytest.skip(f"needs the shared folder (DCGAN_INPAINT_SHARED, or {beside})")
  return folder


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
  """Returns the workdir of a tiny training of 6 steps on 16 drawn faces.

  Checkpoints of steps 3 and 6 lie there. Tests read it and leave it as it is:
  all workers share it.
  """
  # Here and not above: they make arrays, and the devices are set first.
  import tiny

  from dcgan_inpaint.jobs import train

  folder = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    folder = folder.parent
  workdir = folder / "trained_run"
  with open(folder / "trained_run.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (workdir / "results.json").exists():
      train.run(tiny.train_config(), str(workdir), tiny.mesh(4))
  return workdir
