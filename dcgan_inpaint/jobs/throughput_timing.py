"""How long a program takes, and what the machine could do at the most.

After a warm-up come several rounds; the median counts, and the fastest and the
slowest round are the spread. The peak that operations are compared with is
measured beside them by a large matrix product.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import tempfile
import time
from typing import Any
from typing import NamedTuple

from absl import logging
import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import ml_collections

from dcgan_inpaint.runtime import sharding


class Measured(NamedTuple):
  """What a warm-up and some rounds say of a cell.

  Attributes:
    seconds: of a step, a value a round.
    compile_seconds: of tracing and compiling the step.
    memory: bytes on each device while a step runs: arguments, results and what
      lies between, as XLA planned it.
  """

  seconds: list[float]
  compile_seconds: float
  memory: int


@contextlib.contextmanager
def recompiling(wanted: bool) -> Iterator[None]:
  """Gives the block a cache of compiled programs that is empty at first.

  Args:
    wanted: whether it does; else the block has the usual cache.
  """
  if not wanted:
    yield
    return
  usual = jax.config.jax_compilation_cache_dir
  with tempfile.TemporaryDirectory() as empty:
    try:
      jax.config.update("jax_compilation_cache_dir", empty)
      compilation_cache.reset_cache()
      yield
    finally:
      jax.config.update("jax_compilation_cache_dir", usual)
      compilation_cache.reset_cache()


def mesh_of(devices: int) -> jax.sharding.Mesh:
  """Returns a mesh of the first so many devices.

  Args:
    devices: how many.
  """
  whole = sharding.create_mesh()
  return jax.sharding.Mesh(
    whole.devices[:devices], whole.axis_names, axis_types=whole.axis_types
  )


def peak(devices: int, config: ml_collections.ConfigDict) -> float:
  """Returns the operations a second of a large matrix product on each device.

  In the type that the networks compute in. The fastest round counts.

  Args:
    devices: how many there are at work.
    config: the whole config.
  """
  mesh = mesh_of(devices)
  on_cpu = mesh.devices.flat[0].platform == "cpu"
  size = config.throughput.peak_size or (2048 if on_cpu else 8192)
  many = sharding.batch_sharding(mesh)
  matrices = jax.jit(
    lambda: jnp.ones((devices, size, size), config.model.dtype),
    out_shardings=many,
  )()
  product = jax.jit(
    lambda x: jnp.einsum("dij,djk->dik", x, x), out_shardings=many
  )
  seconds = rounds(
    lambda: jax.block_until_ready(product(matrices)), config.throughput
  )
  peak = 2 * devices * size**3 / min(seconds)
  logging.info(
    "peak: %.3g Tflop/s by products of %s x %s in %s on %s devices",
    peak / 1e12, size, size, config.model.dtype, devices,
  )  # fmt: skip
  return peak


def rounds(run: Callable[[], Any], options: Any) -> list[float]:
  """Returns the seconds of a call, a mean a round, after a warm-up.

  Args:
    run: what is measured; it returns when its work is done.
    options: the section `config.throughput`.
  """
  run()  # Compiles, where that is still to be done.
  start = time.perf_counter()
  run()
  once = time.perf_counter() - start
  repeats = max(1, round(options.seconds / once))
  seconds = []
  for _ in range(options.rounds):
    start = time.perf_counter()
    for _ in range(repeats):
      run()
    seconds.append((time.perf_counter() - start) / repeats)
  return seconds


def memory(compiled: jax.stages.Compiled) -> int:
  """Returns the bytes that a program needs on each device while it runs.

  Args:
    compiled: the program.
  """
  plan: Any = compiled.memory_analysis()
  return (
    plan.argument_size_in_bytes
    + plan.output_size_in_bytes
    + plan.temp_size_in_bytes
    - plan.alias_size_in_bytes
  )
