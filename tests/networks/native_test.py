"""The C++ kernels: exactness beyond rounding, the build and its failures.

convolutions_test.py compares their values and gradients with Flax.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dcgan_inpaint import config
from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import losses
from dcgan_inpaint.networks import native
from dcgan_inpaint.runtime import files
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import compiled_search
from dcgan_inpaint.search import settings as search_settings

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPERATIONS = {
  "strided": convolutions.strided,
  "transposed": convolutions.transposed,
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS)
needs_native = pytest.mark.skipif(
  bool(native.build()), reason="needs the CPU and a C++ compiler"
)


def normal(seed, shape):
  """Returns normally distributed values that NumPy draws."""
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def value_and_gradients(operation, implementation, x, kernel, prepared=None):
  function = OPERATIONS[operation]

  # One program compiles faster than every operation by itself.
  @jax.jit
  def compiled(x, kernel, prepared):
    y, pull_back = jax.vjp(
      lambda *arrays: function(
        *arrays, implementation=implementation, prepared=prepared
      ),
      x,
      kernel,
    )
    return y, *pull_back(normal(2, y.shape))

  return compiled(x, kernel, prepared)


# Batch, height, width, channels in and out: channels beyond the end of a vector
# or a panel, tiles beyond the edge of the image, kernels that are transformed
# once for all tasks (many tiles) and by each task (few tiles, or a large
# kernel), sums in several parts.
every_shape = pytest.mark.parametrize(
  "shape",
  [
    (1, 4, 4, 130, 67),
    (2, 20, 12, 5, 33),
    pytest.param((1, 6, 10, 31, 2), marks=pytest.mark.slow),
    pytest.param((65, 8, 8, 48, 32), marks=pytest.mark.slow),
    pytest.param((70, 4, 4, 160, 150), marks=pytest.mark.slow),
    pytest.param((5, 64, 64, 3, 16), marks=pytest.mark.slow),
  ],
)


@needs_native
@every_operation
@every_shape
def test_values_and_gradients_equal_the_dense_implementation(operation, shape):
  *image, cin, cout = shape
  arrays = normal(0, (*image, cin)), normal(1, (5, 5, cin, cout))
  expected = value_and_gradients(operation, "dense", *arrays)
  actual = value_and_gradients(operation, "native", *arrays)
  for a, e in zip(actual, expected, strict=True):
    scale = np.abs(e).max()
    np.testing.assert_allclose(a / scale, e / scale, 0, 2e-5)


@needs_native
@every_operation
@every_shape
def test_a_prepared_kernel_changes_nothing(operation, shape):
  *image, cin, cout = shape
  arrays = normal(0, (*image, cin)), normal(1, (5, 5, cin, cout))
  prepared = convolutions.prepare(
    arrays[1], "native", transposed=operation == "transposed"
  )
  expected = value_and_gradients(operation, "native", *arrays)
  actual = value_and_gradients(operation, "native", *arrays, prepared)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


@needs_native
def test_the_steps_of_a_search_transform_no_kernel():
  generator, discriminator = tiny.networks(width=0.1, implementation="native")
  weights = tiny.weights(generator, discriminator)
  loss = losses.VARIANTS["sigmoid_cross_entropy"]
  search = compiled_search.CompiledSearch(
    bundle.NetworkBundle(generator, discriminator, loss, tiny.LATENT_SIZE),
    search_settings.resolve(config.search()),
    tiny.mesh(8),
  )
  shape = (8, tiny.SIZE, tiny.SIZE, 3)
  program = compiled_search.lower(search, weights, shape).as_text()
  # Four layers each of G and D, forward and backward.
  assert program.count("@dcgan_inpaint_ConvolvePrepared(") == 16
  assert "@dcgan_inpaint_Convolve(" not in program
  assert "@dcgan_inpaint_Prepare(" not in program


@needs_native
@every_operation
@pytest.mark.parametrize(
  "channels",
  [(64, 32), pytest.param((256, 128), marks=pytest.mark.slow), (5, 3)],
)
def test_an_image_does_not_depend_on_its_batch(operation, channels):
  x, kernel = normal(0, (90, 8, 8, channels[0])), normal(1, (5, 5, *channels))
  y, dx, _ = value_and_gradients(operation, "native", x, kernel)
  pull_back = jax.vjp(
    lambda x: OPERATIONS[operation](x, kernel, "native"), x[7:9]
  )[1]
  np.testing.assert_array_equal(
    OPERATIONS[operation](x[7:9], kernel, "native"), y[7:9]
  )
  gradient = normal(2, y.shape)[7:9]
  np.testing.assert_array_equal(pull_back(gradient)[0], dx[7:9])


@needs_native
@every_operation
def test_a_second_run_is_the_same_to_the_bit(operation):
  x, kernel = normal(0, (48, 16, 16, 32)), normal(1, (5, 5, 32, 16))
  first = value_and_gradients(operation, "native", x, kernel)
  second = value_and_gradients(operation, "native", x, kernel)
  jax.tree.map(np.testing.assert_array_equal, first, second)


@needs_native
@every_operation
def test_a_nested_vmap_is_one_call(operation):
  x, kernel = normal(0, (3, 2, 4, 4, 8)), normal(1, (5, 5, 8, 9))

  def one(x):
    return OPERATIONS[operation](x[None], kernel, "native")[0]

  mapped = jax.jit(jax.vmap(jax.vmap(one)))
  expected = OPERATIONS[operation](x.reshape(6, 4, 4, 8), kernel, "native")
  np.testing.assert_array_equal(mapped(x).reshape(expected.shape), expected)
  assert mapped.lower(x).as_text().count("dcgan_inpaint_Convolve") == 1


@pytest.mark.slow
@needs_native
@every_operation
@pytest.mark.parametrize("axes", [(0, 0), (None, 0)])
def test_vmap_over_kernels_equals_one_by_one(operation, axes):
  x, kernels = normal(0, (3, 2, 4, 4, 8)), normal(1, (3, 5, 5, 8, 9))
  x = x if axes[0] == 0 else x[0]

  def loss(x, kernel):
    return jnp.sum(OPERATIONS[operation](x, kernel, "native") ** 2)

  gradients = jax.grad(loss, (0, 1))
  mapped = jax.vmap(gradients, axes)(x, kernels)
  for i in range(3):
    alone = gradients(x[i] if axes[0] == 0 else x, kernels[i])
    for a, b in zip(mapped, alone, strict=True):
      np.testing.assert_allclose(a[i], b, 1e-5, 1e-3)


@needs_native
def test_a_scan_runs_it():
  kernel = normal(1, (5, 5, 8, 8)) / 20

  def step(x, _):
    up = convolutions.transposed(x, kernel, "native")
    return convolutions.strided(up, kernel, "native"), None

  x = normal(0, (2, 4, 4, 8))
  scanned = jax.jit(lambda x: jax.lax.scan(step, x, None, 3)[0])(x)
  for _ in range(3):
    x, _ = step(x, None)
  np.testing.assert_array_equal(scanned, x)


# Run by another process with one device, as users have it: it makes the
# networks, and then traces them where a call of the compiler would be noticed.
PROGRAM = """
  import subprocess
  from absl import logging
  import jax, jax.numpy as jnp
  from dcgan_inpaint import config
  from dcgan_inpaint.networks import convolutions, dcgan
  from dcgan_inpaint.runtime import errors

  def refuse(*arguments, **options):
    raise AssertionError(f"tracing started {arguments}")

  logging.set_verbosity(logging.INFO)
  settings = config.model()
  settings.width = 0.03
  generator, discriminator = dcgan.create(settings, 1)
  dcgan.create(settings, 1)
  subprocess.run = subprocess.Popen = refuse

  def apply(key):
    z = jnp.zeros((2, 100))
    variables = generator.init(key, z, train=False)
    variables = dcgan.prepare(generator, variables)
    images = generator.apply(variables, z, train=False)
    variables = discriminator.init(key, images, train=False)
    return discriminator.apply(variables, images, train=False)

  key = jax.eval_shape(lambda: jax.random.key(0))
  program = str(jax.make_jaxpr(apply)(key))
  jax.eval_shape(apply, key)
  jax.jit(apply).lower(key)
  print("called" if "dcgan_inpaint_Convolve" in program else "not called")
  try:
    convolutions.choose("native")
  except errors.UserError as error:
    print(f"refused: {error}")
"""


def start(home, program=PROGRAM, **environment):
  return subprocess.Popen(
    [sys.executable, "-c", textwrap.dedent(program)],
    cwd=ROOT,
    env={
      **os.environ, "JAX_PLATFORMS": "cpu", "HOME": str(home), **environment
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )  # fmt: skip


def test_nothing_is_built_while_a_program_is_traced(tmp_path):
  script = """
    import jax
    from dcgan_inpaint.networks import convolutions
    try:
      jax.eval_shape(lambda: len(convolutions.choose("auto")))
    except RuntimeError as error:
      print(error)
  """
  process = start(tmp_path, script)
  out, log = process.communicate(timeout=120)
  assert process.returncode == 0, log
  assert "jax.eval_shape" in out
  assert not (tmp_path / ".cache").exists()


@pytest.mark.slow
def test_without_a_compiler_the_other_implementations_serve(tmp_path):
  process = start(tmp_path, PATH="", CXX="")
  out, log = process.communicate(timeout=120)
  assert process.returncode == 0, log
  lines = out.splitlines()
  assert lines[0] == "not called"
  assert lines[1].startswith("refused: ") and "C++ compiler" in lines[1]
  # One warning, of absl's log.
  assert len([x for x in log.splitlines() if x.startswith("WARNING")]) == 1
  assert log.count("convolutions: ") == 1 and "'by_channels'" in log
  assert "Traceback" not in log


@pytest.mark.slow
def test_a_build_that_fails_leaves_nothing_behind(tmp_path):
  compiler = tmp_path / "broken"
  compiler.write_text(
    '#!/bin/sh\n[ "$1" = --version ] || { echo no room >&2; exit 1; }\n'
  )
  compiler.chmod(0o755)
  process = start(tmp_path, CXX=str(compiler))
  out, log = process.communicate(timeout=120)
  assert process.returncode == 0, log
  assert out.startswith("not called\n")
  assert "no room" in log
  assert not list((tmp_path / ".cache/dcgan_inpaint/native").iterdir())


@needs_native
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
@pytest.mark.slow
def test_processes_build_it_together_and_later_ones_find_it(tmp_path):
  together = [start(tmp_path) for _ in range(2)]
  for process in together:
    out, log = process.communicate(timeout=240)
    assert out == "called\n", log
    assert log.count("convolutions: ") == 1 and "'native'" in log
  folder = tmp_path / ".cache/dcgan_inpaint/native"
  (library,) = folder.glob("*.so")
  assert [x.suffix for x in sorted(folder.iterdir())] == [".checked", ".so"]
  built = library.stat().st_mtime_ns
  out, log = start(tmp_path).communicate(timeout=120)
  assert out == "called\n", log
  assert library.stat().st_mtime_ns == built


@needs_native
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
@pytest.mark.slow
def test_a_damaged_library_is_built_anew(tmp_path):
  assert start(tmp_path).communicate(timeout=240)[0] == "called\n"
  folder = tmp_path / ".cache/dcgan_inpaint/native"
  (library,) = folder.glob("*.so")
  assert folder.stat().st_mode & 0o077 == 0
  whole = library.read_bytes()
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 1
  folder.chmod(0o777)
  for damaged in (whole[: len(whole) // 2], bytes(flipped), b""):
    library.write_bytes(damaged)
    out, log = start(tmp_path).communicate(timeout=240)
    assert out == "called\n", log
    assert files.is_sealed(library.read_bytes())
  assert folder.stat().st_mode & 0o022 == 0


@pytest.mark.slow
def test_a_compiler_that_hangs_is_given_up(tmp_path):
  compiler = tmp_path / "slow"
  compiler.write_text(
    '#!/bin/sh\n[ "$1" = --version ] || { sleep 600 & sleep 600; }\n'
  )
  compiler.chmod(0o755)
  program = (
    "from dcgan_inpaint.networks import native\n"
    "native._COMPILER_SECONDS = 2\nprint(native.build())\n"
  )
  started = time.monotonic()
  process = start(tmp_path, program, CXX=str(compiler))
  out, log = process.communicate(timeout=120)
  assert "more than 2 seconds" in out and "slower convolutions" in log
  assert time.monotonic() - started < 60
  assert not list((tmp_path / ".cache/dcgan_inpaint/native").iterdir())
