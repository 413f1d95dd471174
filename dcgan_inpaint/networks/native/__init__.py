"""Fused Winograd kernels in C++, which XLA calls on the CPU.

`build` compiles `convolutions.cc` for this machine, which takes about ten
seconds, and keeps it in `~/.cache/dcgan_inpaint/native` for all later runs. It
must be called before everything else here, and before anything is traced. If it
fails, it returns the reason, and another implementation is used.

All is computed in float32. Gradients of any order use the same two operations
and their kernels' gradient, which is linear in both factors as well; forward
mode (`jax.jvp`) is not supported. A vmap over images is one call; a vmap over
kernels is a loop. A program over several devices works, but is not sharded.
"""

import atexit
from collections.abc import Callable
import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tempfile

from absl import logging
import jax
import jax.core
import jax.numpy as jnp
import jaxlib.version
import numpy as np

from dcgan_inpaint.runtime import files

_SOURCE = pathlib.Path(__file__).with_name("convolutions.cc")
_FLAGS = (
  "-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-w",
)  # fmt: skip
_CACHE = "~/.cache/dcgan_inpaint/native"
# What a compiler may take; it needs some ten.
_COMPILER_SECONDS = 60
_TARGETS = ("Convolve", "Prepare", "ConvolvePrepared", "KernelGradient")

# What `prepare` returns.
Planes = tuple[jax.Array, jax.Array]


@functools.cache
def build() -> str:
  """Builds the kernels if necessary, loads and checks them, once per process.

  Returns:
    Why they cannot be used here, which is also logged; '' if they can.

  Raises:
    RuntimeError: called for the first time while a program is traced.
  """
  if isinstance(jnp.zeros(()), jax.core.Tracer):
    raise RuntimeError(
      "C++ kernels are not built while a program is traced: make the networks "
      "outside of `jax.jit` and `jax.eval_shape`"
    )
  try:
    library, path = _library()
    for target in _TARGETS:
      jax.ffi.register_ffi_target(
        f"dcgan_inpaint_{target}",
        jax.ffi.pycapsule(getattr(library, f"Dcgan{target}")),
        platform="cpu",
      )
    checked = path.with_suffix(".checked")
    if not checked.exists():
      _check()
      with contextlib.suppress(OSError):
        checked.touch()
  except Exception as error:  # There are other implementations in any case.
    found = " ".join(str(error).split()) or type(error).__name__
    logging.warning(
      "slower convolutions serve, as the native ones cannot be used: %s", found
    )
    return found
  return ""


@functools.cache
def _library() -> tuple[ctypes.CDLL, pathlib.Path]:
  path = _compile()
  library = ctypes.CDLL(str(path))
  library.DcganPreparedSize.argtypes = [ctypes.c_int64, ctypes.c_int64]
  library.DcganPreparedSize.restype = ctypes.c_int64
  return library, path


def _loaded() -> ctypes.CDLL:
  """Returns the library, and never builds it."""
  if not _library.cache_info().currsize:
    raise RuntimeError("the C++ kernels are used before `native.build`")
  return _library()[0]


def _compile() -> pathlib.Path:
  """Returns the library of this source, compiler and machine."""
  compiler = os.environ.get("CXX") or next(
    filter(shutil.which, ("c++", "g++", "clang++")), None
  )
  if compiler is None:
    raise FileNotFoundError("there is no C++ compiler (c++, g++ or clang++)")

  def run(*arguments: str) -> str:
    with subprocess.Popen(
      [*compiler.split(), *arguments],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    ) as process:
      try:
        out, err = process.communicate(timeout=_COMPILER_SECONDS)
      except BaseException as error:
        # With what it has started, which holds its output open.
        os.killpg(process.pid, signal.SIGKILL)
        if isinstance(error, subprocess.TimeoutExpired):
          raise OSError(
            f"{compiler} took more than {_COMPILER_SECONDS} seconds"
          ) from None
        raise
    if process.returncode:
      raise OSError(f"{compiler} failed: {err[:300]}")
    return out

  key = [
    _SOURCE.read_text(),
    compiler,
    run("--version"),
    _FLAGS,
    jaxlib.version.__version__,
    _cpu(),
  ]
  digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
  library = _private_folder() / f"convolutions_{digest}.so"
  if not _is_intact(library):
    logging.info("compiling %s for this machine, once", _SOURCE.name)
    library.with_suffix(".checked").unlink(missing_ok=True)
    include = f"-I{jax.ffi.include_dir()}"
    # Written atomically, as other processes may build and load it now.
    with files.replacing(library) as built:
      run(*_FLAGS, include, str(_SOURCE), "-o", str(built))
      # A loader stops before what is behind the library.
      built.write_bytes(files.seal(built.read_bytes()))
  return library


def _private_folder() -> pathlib.Path:
  """Returns a folder that nobody else can put a library into."""
  folder = pathlib.Path(_CACHE).expanduser()
  folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  status = folder.stat()
  others = stat.S_IWGRP | stat.S_IWOTH
  if status.st_uid != os.geteuid():
    made = tempfile.mkdtemp(prefix="dcgan_inpaint_native_")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    logging.warning(
      "%s is another user's: the C++ kernels are compiled for this run alone",
      folder,
    )
    return pathlib.Path(made)
  if status.st_mode & others:
    folder.chmod(status.st_mode & ~others & 0o777)
  return folder


def _is_intact(library: pathlib.Path) -> bool:
  """Tells whether a library is there as it was built.

  The loader would map a damaged one, and end the process by a signal.
  """
  try:
    return files.is_sealed(library.read_bytes())
  except OSError:
    return False


def _cpu() -> str:
  """Returns text that identifies this machine's instruction set."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return repr(os.uname()) if hasattr(os, "uname") else ""
  names = ("model name", "flags", "Features", "CPU part")
  return "\n".join(sorted({x for x in lines if x.startswith(names)}))


def _check() -> None:
  """Raises an error if the result of a small convolution is wrong."""
  x = np.arange(7 * 6 * 2, dtype=np.float32).reshape(1, 7, 6, 2) % 5
  kernel = np.arange(5 * 5 * 2 * 3, dtype=np.float32).reshape(5, 5, 2, 3) % 7
  # Each pixel of the small image is added to the pixels of the big one that it
  # overlaps with.
  expected = np.zeros((1, 14 + 3, 12 + 3, 3), np.float32)
  for i, j in np.ndindex(7, 6):
    patch = np.tensordot(x[0, i, j], kernel[::-1, ::-1], (0, 2))
    expected[0, 2 * i : 2 * i + 5, 2 * j : 2 * j + 5] += patch
  y = np.asarray(transposed(jnp.asarray(x), jnp.asarray(kernel)))
  if not np.allclose(y, expected[:, 1:-2, 1:-2], atol=1e-3):
    raise ArithmeticError("a convolution came out wrong")


def _call(
  target: str,
  result: tuple[int, ...],
  *operands: jax.Array,
  **attributes: bool,
) -> jax.Array:
  """Calls one of `_TARGETS`; the result is float32 of the given shape."""
  _loaded()
  shape = jax.ShapeDtypeStruct(result, jnp.float32)
  call = jax.ffi.ffi_call(
    f"dcgan_inpaint_{target}", shape, vmap_method="sequential"
  )
  return call(*operands, **attributes)


@functools.cache
def _convolution(
  target: str, features: int, *, strided: bool, **attributes: bool
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns either convolution, as a function with a batching rule for vmap.

  Args:
    target: 'Convolve', of a kernel, or 'ConvolvePrepared', of its planes.
    features: channels of the output.
    strided: whether it halves the sides, or doubles them.
    **attributes: of the target.
  """

  @jax.custom_batching.custom_vmap
  def convolve(x, weights):
    b, h, w, _ = x.shape
    shape = (h // 2, w // 2) if strided else (2 * h, 2 * w)
    return _call(target, (b, *shape, features), x, weights, **attributes)

  @convolve.def_vmap
  def _(size, batched, x, weights):
    if all(batched):
      y = jax.lax.map(lambda both: convolve(*both), (x, weights))
    elif batched[0]:
      y = convolve(x.reshape(-1, *x.shape[2:]), weights)
      y = y.reshape(size, -1, *y.shape[1:])
    else:
      y = jax.lax.map(lambda weights: convolve(x, weights), weights)
    return y, True

  return convolve


# `big` is the image of twice the sides, `small` the other; with `big_first` the
# kernel is [5, 5, channels of big, channels of small].


def _convolve(
  x: jax.Array, kernel: jax.Array, *, strided: bool, big_first: bool
) -> jax.Array:
  features = kernel.shape[3 if strided == big_first else 2]
  convolve = _convolution(
    "Convolve", features, strided=strided, big_first=big_first
  )
  return convolve(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _strided(x: jax.Array, kernel: jax.Array, big_first: bool) -> jax.Array:
  return _convolve(x, kernel, strided=True, big_first=big_first)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _transposed(x: jax.Array, kernel: jax.Array, big_first: bool) -> jax.Array:
  return _convolve(x, kernel, strided=False, big_first=big_first)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(
  big: jax.Array, small: jax.Array, big_first: bool
) -> jax.Array:
  tiles = small.shape[0] * -(-small.shape[1] // 4) * -(-small.shape[2] // 4)
  slices = -(-small.shape[3] // 64) * -(-4 * big.shape[3] // 128)
  # Partial sums: enough parts to divide the work among any number of threads,
  # with the same result.
  parts = max(1, min(8 // slices, tiles // 32))
  channels = (big.shape[3], small.shape[3])
  sums = _call(
    "KernelGradient",
    (parts, 5, 5, *(channels if big_first else channels[::-1])),
    big,
    small,
    big_first=big_first,
  )
  return sums.sum(0)


_Pair = tuple[jax.Array, jax.Array]


def _strided_backward(
  big_first: bool, residuals: _Pair, gradient: jax.Array
) -> _Pair:
  x, kernel = residuals
  return (
    _transposed(gradient, kernel, big_first=big_first),
    _kernel_gradient(x, gradient, big_first=big_first),
  )


def _transposed_backward(
  big_first: bool, residuals: _Pair, gradient: jax.Array
) -> _Pair:
  x, kernel = residuals
  return (
    _strided(gradient, kernel, big_first=big_first),
    _kernel_gradient(gradient, x, big_first=big_first),
  )


def _kernel_gradient_backward(
  big_first: bool, residuals: _Pair, gradient: jax.Array
) -> _Pair:
  big, small = residuals
  return (
    _transposed(small, gradient, big_first=big_first),
    _strided(big, gradient, big_first=big_first),
  )


for _function, _backward in (
  (_strided, _strided_backward),
  (_transposed, _transposed_backward),
  (_kernel_gradient, _kernel_gradient_backward),
):
  _function.defvjp(
    lambda a, b, big_first, f=_function: (f(a, b, big_first), (a, b)), _backward
  )


# The same with a prepared kernel. Its planes are treated as constants: the
# kernel's gradient is that of the kernel itself.


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _prepared(
  x: jax.Array,
  kernel: jax.Array,
  planes: Planes,
  strided: bool,
  big_first: bool,
) -> jax.Array:
  """Convolves with the first of the two planes of `prepare`."""
  features = kernel.shape[3 if strided == big_first else 2]
  convolve = _convolution("ConvolvePrepared", features, strided=strided)
  return convolve(x, planes[0])


def _prepared_forward(
  x: jax.Array,
  kernel: jax.Array,
  planes: Planes,
  strided: bool,
  big_first: bool,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Planes]]:
  y = _prepared(x, kernel, planes, strided=strided, big_first=big_first)
  return y, (x, kernel, planes)


def _prepared_backward(
  strided: bool,
  big_first: bool,
  residuals: tuple[jax.Array, jax.Array, Planes],
  gradient: jax.Array,
) -> tuple[jax.Array, jax.Array, Planes]:
  x, kernel, planes = residuals
  big, small = (x, gradient) if strided else (gradient, x)
  return (
    _prepared(
      gradient,
      kernel,
      planes[::-1],
      strided=not strided,
      big_first=big_first,
    ),
    _kernel_gradient(big, small, big_first=big_first),
    jax.tree.map(jnp.zeros_like, planes),
  )


_prepared.defvjp(_prepared_forward, _prepared_backward)


def strided(
  x: jax.Array, kernel: jax.Array, planes: Planes | None = None
) -> jax.Array:
  """As `convolutions.strided`; `planes` are what `prepare` returned."""
  return _in_float32(x, kernel, planes, strided=True)


def transposed(
  x: jax.Array, kernel: jax.Array, planes: Planes | None = None
) -> jax.Array:
  """As `convolutions.transposed`; `planes` are what `prepare` returned."""
  return _in_float32(x, kernel, planes, strided=False)


def _in_float32(
  x: jax.Array, kernel: jax.Array, planes: Planes | None, *, strided: bool
) -> jax.Array:
  image, weights = x.astype(jnp.float32), kernel.astype(jnp.float32)
  # A kernel is [5, 5, Cin, Cout], and a strided convolution's input is big.
  if planes is not None:
    y = _prepared(image, weights, planes, strided=strided, big_first=strided)
  elif strided:
    y = _strided(image, weights, big_first=True)
  else:
    y = _transposed(image, weights, big_first=False)
  return y.astype(x.dtype)


def prepare(kernel: jax.Array, *, transposed: bool) -> Planes:
  """Returns a kernel's transforms, which have twelve times its size.

  Args:
    kernel: [5, 5, Cin, Cout].
    transposed: whether it is for `transposed`, or for `strided`.

  Returns:
    float32 arrays, for the convolution and for its gradient in the image.
  """
  big, small = kernel.shape[:1:-1] if transposed else kernel.shape[2:]
  library = _loaded()

  def planes(*, strided: bool) -> jax.Array:
    channels = (4 * big, small) if strided else (small, 4 * big)
    return _call(
      "Prepare",
      (library.DcganPreparedSize(*channels),),
      kernel.astype(jnp.float32),
      strided=strided,
      big_first=not transposed,
    )

  return planes(strided=not transposed), planes(strided=transposed)
