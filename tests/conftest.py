"""Eight CPU devices, a cache of compiled programs, and the shared folder.

The suite runs on eight devices that XLA makes of the CPU, so that arrays are
really sharded. Note that programs with collectives on several CPU devices lock
up when many are in flight, so a loop over them must read a result every few
steps.

Optimising programs for the suite's tiny arrays would take XLA minutes, so most
optimisations are off unless XLA_FLAGS is set; if it is set and empty, XLA
compiles as for a user.
"""

import fcntl
import os
import pathlib

from absl import flags
import jax
import pytest

from dcgan_inpaint.runtime import cache

# Before the first computation, after which they cannot be changed. A platform
# or flags set in the environment take precedence; processes that tests start
# inherit the flags.
if not os.environ.get("JAX_PLATFORMS"):
  jax.config.update("jax_platforms", "cpu")
  os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
jax.config.update("jax_num_cpu_devices", 8)

# The files that take longest come first, or one worker would end with one of
# them while the others wait. Nor do two files that begin with `trained_run`
# follow each other: the second would wait for it.
LONGEST = (
  "system/killed_test.py",
  "system/sizes_test.py",
  "system/processes_test.py",
  "jobs/train_encoder_test.py",
  "training/gan_test.py",
  "jobs/inpaint_test.py",
  "search/latent_search_test.py",
  "networks/convolutions_test.py",
  "main_test.py",
  "training/loop_test.py",
  "training/encoder_test.py",
  "jobs/compare_test.py",
  "search/stablehlo_test.py",
  "networks/native_test.py",
  "networks/dcgan_test.py",
  "system/reference_test.py",
  "system/numbers_test.py",
)

# `main` runs under absl's `app.run`, which parses them; pytest does not.
flags.FLAGS.mark_as_parsed()


def pytest_configure(config):
  """Keeps compiled programs in pytest's cache, for the next run of the suite.

  JAX_COMPILATION_CACHE_DIR may name another folder.
  """
  if hasattr(config, "cache"):
    cache.FOLDER = str(config.cache.mkdir("arrays"))
    cache.FOLDERS = str(config.cache.mkdir("folders"))
  # xdist would begin with the files of most tests instead of `LONGEST`.
  config.option.loadscopereorder = False
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
  if not jax.config.jax_compilation_cache_dir and hasattr(config, "cache"):
    folder = config.cache.mkdir("xla")
    jax.config.update("jax_compilation_cache_dir", str(folder))


def pytest_collection_modifyitems(items) -> None:
  """Begins with the files of `LONGEST`."""
  folder = pathlib.Path(__file__).parent
  ranks = {folder / name: rank for rank, name in enumerate(LONGEST)}
  items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config) -> int | None:
  """Runs a single file in this process, since workers would import again."""
  files = {path.partition("::")[0] for path in config.args}
  (path, *others) = files
  return 0 if not others and path.endswith(".py") else None


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """Returns the folder of real faces, or skips the test."""
  beside = pathlib.Path(__file__).resolve().parents[2] / "shared"
  folder = pathlib.Path(os.environ.get("DCGAN_INPAINT_SHARED", beside))
  if not folder.is_dir():
    pytest.skip(f"needs the shared folder (DCGAN_INPAINT_SHARED, or {beside})")
  return folder


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
  """Returns the workdir of a tiny training of 6 steps on 16 synthetic faces.

  It has checkpoints of steps 3 and 6. Tests must not change it, as all workers
  share it.
  """
  # Imported here: they make arrays, and the devices must be set first.
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


@pytest.fixture(scope="module")
def kept_models():
  """Loads each model once for all jobs of a module; a load takes a second."""
  from dcgan_inpaint.search import trained_model

  load, kept = trained_model.load, {}

  def load_once(config, mesh):
    key = config.to_json_best_effort(sort_keys=True), mesh
    if key not in kept:
      kept[key] = load(config, mesh)
    return kept[key]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(trained_model, "load", load_once)
    yield
