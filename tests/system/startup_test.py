"""The time before the first step, and what must not add to it."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

from dcgan_inpaint import config
from dcgan_inpaint.networks import losses
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import compiled_search
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import loop

# Imports `main` and every job, unlike a single command.
EVERY_JOB = """
import importlib, pkgutil, sys
from dcgan_inpaint import jobs, main
for job in pkgutil.iter_modules(jobs.__path__, jobs.__name__ + "."):
  importlib.import_module(job.name)
"""


def run_python(script):
  return subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  ).stdout.strip()


def test_importing_the_package_takes_less_than_two_seconds():
  # Processor time, as others may use the machine as well.
  seconds = run_python("import time, dcgan_inpaint; print(time.process_time())")
  assert float(seconds) < 2


@pytest.mark.slow
def test_no_job_imports_a_library_of_data_before_it_needs_one():
  libraries = {"grain", "tensorflow", "tensorflow_datasets", "h5py"}
  found = run_python(f"{EVERY_JOB}\nprint({libraries} & set(sys.modules))")
  assert found == "set()"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
@pytest.mark.slow
def test_memory_that_a_step_frees_is_not_cleared_for_the_next():
  faults = run_python(
    "import resource, numpy as np; from dcgan_inpaint.runtime import process\n"
    "process.keep_freed_memory()\n"
    "for _ in range(4):\n"
    "  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
    "  np.ones(50_000_000, np.uint8)\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
  )
  # 12,000 pages otherwise.
  assert int(faults) < 100


def constants(lowered):
  """Returns the bytes of each constant of a program with several values."""
  return [
    len(digits) // 2
    for digits in re.findall(r'dense<"0x([0-9A-F]+)">', lowered.as_text())
  ]


@pytest.mark.slow
def test_weights_are_arguments_of_every_program():
  kernel = np.arange(10_000.0, dtype=np.float32)
  closed_over = jax.jit(lambda x: x + kernel).lower(kernel)
  assert constants(closed_over) == [40_000]

  generator, discriminator = tiny.networks(width=0.1)
  loss = losses.VARIANTS["sigmoid_cross_entropy"]
  settings = config.train()
  mesh = tiny.mesh(2)
  task = gan.GanTask(
    generator=generator,
    discriminator=discriminator,
    loss=loss,
    latent_size=tiny.LATENT_SIZE,
    config=settings,
  )
  state = jax.eval_shape(lambda: task.init(sharding.replicated(mesh)))
  images = jax.ShapeDtypeStruct((1, 4, tiny.SIZE, tiny.SIZE, 3), np.uint8)
  step = loop.compile_steps(task, mesh, streamed=True).lower(
    state, None, images, np.uint32(0), task.frozen
  )
  weights = bundle.Weights(state.generator, state.discriminator)
  search = compiled_search.lower(
    compiled_search.CompiledSearch(
      bundle.NetworkBundle(generator, discriminator, loss, tiny.LATENT_SIZE),
      search_settings.resolve(config.search()),
      mesh,
    ),
    weights,
    (4, tiny.SIZE, tiny.SIZE, 3),
  )
  for program in (step, search):
    # Transforms of a convolution, but no kernel: the smallest has 100,000.
    assert max(constants(program), default=0) < 10_000
