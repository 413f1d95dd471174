"""The DCGAN's 5x5 stride-2 convolutions in their fast, exact implementations.

The parameters stay the paper's 5x5 kernels, and every implementation equals
Flax's `Conv` and `ConvTranspose` up to rounding. They differ only in speed:

  plain        XLA's own operation. Its gradients miss the fast paths.
  padded       The same with the zeros of a transposed convolution, and of the
               gradient of a strided one, put between the pixels beforehand, as
               Equinox does for the sake of its gradients on GPUs
               (github.com/patrick-kidger/equinox/pull/1259). Four times the
               work. No forward mode, as `phases`.
  dense        One 3x3 convolution at stride 1 over blocks of 2x2 pixels, four
               times the channels. A 5x5 kernel fills 25 of its 36 taps;
               accelerators gain more from the one large product than they lose.
  phases       Without wasted taps: a transposed convolution is four, one for
               each parity of the output's row and column, of 3x3, 3x2, 2x3 and
               2x2 taps. Gradients are written out in the same operations, so
               reverse mode works to any order; forward mode (`jax.jvp`) is not
               supported, here and in the next.
  winograd     The 3x3 convolution of `dense` by Winograd's transforms (Lavin
               and Gray 2016): 36 products for a tile of 4x4 blocks instead of
               576, or of 400 in `phases`. Always in float32, with about six
               times the rounding error of the others: 4e-6 of the largest
               value.
  native       The same transforms and products fused in C++ (`native`), for the
               CPU. A program over several devices works, but is not sharded.
  by_channels  `winograd` for layers of many channels, `phases` for layers of
               few: the fastest on the CPU without a C++ compiler.

`choose` resolves 'auto' to one of them and builds what it needs. It is called
when a network is made, so that nothing is built while a program is traced.
docs/performance.md has their times.
"""

from collections.abc import Sequence
import functools

from absl import logging
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.networks import native
from dcgan_inpaint.runtime import errors

IMPLEMENTATIONS = (
  "plain", "padded", "dense", "phases", "winograd", "native", "by_channels",
)  # fmt: skip

_Pair = tuple[jax.Array, jax.Array]

# With fewer channels than this on the image's side, a vector register stays
# mostly empty, and wasted taps cost less than wasted lanes.
_THIN = 8
# With fewer on either side, Winograd's transforms cost more than they save.
_WIDE = 32


def choose(name: str, field: str = "config.model.convolution") -> str:
  """Returns the implementation to use on this machine, ready for use.

  The first call may compile C++, which takes some ten seconds, and logs what is
  used. Call it before anything is traced.

  Args:
    name: one of `IMPLEMENTATIONS`, or 'auto': 'dense' on accelerators, on one
      CPU device 'native' if it can be built, and 'by_channels' elsewhere.
    field: the config field that holds the name, for messages.

  Returns:
    One of `IMPLEMENTATIONS`.

  Raises:
    errors.UserError: the name is unknown, or not available on this machine.
    RuntimeError: called for the first time while a program is traced.
  """
  if name not in ("auto", *IMPLEMENTATIONS):
    raise errors.UserError(
      f"{field}={name!r}: unknown implementation of the convolutions; choose "
      f"'auto' or one of {', '.join(map(repr, IMPLEMENTATIONS))}"
    )
  on_cpu = jax.default_backend() == "cpu"
  if name == "native" and not on_cpu:
    raise errors.UserError(
      f"{field}={name!r}: this implementation of the convolutions is for the "
      "CPU; choose 'auto'"
    )
  if name == "native" and (problem := native.build()):
    raise errors.UserError(
      f"{field}={name!r}: this implementation of the convolutions cannot be "
      f"built on this machine ({problem}); choose 'auto', or install a C++ "
      "compiler"
    )
  if name == "auto":
    if not on_cpu:
      name = "dense"
    elif jax.device_count() == 1 and not native.build():
      name = "native"
    else:
      name = "by_channels"
  _log_once(name)
  return name


@functools.cache
def _log_once(implementation: str) -> None:
  logging.info("convolutions: implementation %r", implementation)


def strided(
  x: jax.Array,
  kernel: jax.Array,
  implementation: str,
  prepared: native.Planes | None = None,
) -> jax.Array:
  """Convolves with stride 2, as `nn.Conv(features, (5, 5), (2, 2))`, no bias.

  Args:
    x: [B, H, W, Cin] of any float type; H and W even.
    kernel: [5, 5, Cin, Cout] of the same type.
    implementation: what `choose` returned.
    prepared: what `prepare` made of the kernel, if it was called.

  Returns:
    [B, H / 2, W / 2, Cout] of the same type.

  Raises:
    ValueError: if `implementation` is none of `IMPLEMENTATIONS`.
  """
  match _of_layer(implementation, kernel):
    case "plain":
      return _convolve(x, kernel, "SAME", (2, 2))
    case "padded":
      return _strided_padded(x, kernel)
    case "dense":
      return _strided_dense(x, kernel)
    case "winograd":
      return _strided_winograd(x, kernel)
    case "native":
      return native.strided(x, kernel, prepared)
    case _:
      return _strided(x, kernel)


def transposed(
  x: jax.Array,
  kernel: jax.Array,
  implementation: str,
  prepared: native.Planes | None = None,
) -> jax.Array:
  """Doubles the sides, as `nn.ConvTranspose(features, (5, 5), (2, 2))`.

  Args:
    x: [B, H, W, Cin] of any float type.
    kernel: [5, 5, Cin, Cout] of the same type, in the order of
      `transpose_kernel=False`, Flax's default.
    implementation: what `choose` returned.
    prepared: what `prepare` made of the kernel, if it was called.

  Returns:
    [B, 2H, 2W, Cout] of the same type.

  Raises:
    ValueError: if `implementation` is none of `IMPLEMENTATIONS`.
  """
  match _of_layer(implementation, kernel):
    case "plain":
      return lax.conv_transpose(x, kernel, (2, 2), "SAME")
    case "padded":
      return _transposed_padded(x, kernel)
    case "dense":
      return _transposed_dense(x, kernel)
    case "winograd":
      return _transposed_winograd(x, kernel)
    case "native":
      return native.transposed(x, kernel, prepared)
    case _:
      return _transposed(x, kernel)


def prepare(
  kernel: jax.Array, implementation: str, *, transposed: bool
) -> native.Planes | None:
  """Returns what can be computed once from a kernel that is used many times.

  Args:
    kernel: [5, 5, Cin, Cout] of any float type.
    implementation: what `choose` returned.
    transposed: whether it is for `transposed`, or for `strided`.

  Returns:
    Arrays for the argument `prepared`, or None if there is nothing to compute.
    Values and gradients stay those of the kernel.

  Raises:
    ValueError: if `implementation` is none of `IMPLEMENTATIONS`.
  """
  if _of_layer(implementation, kernel) == "native":
    return native.prepare(kernel, transposed=transposed)
  return None


def _of_layer(implementation: str, kernel: jax.Array) -> str:
  """Returns the implementation of the layer that has this kernel."""
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f"unknown implementation of the convolutions {implementation!r}: one of "
      f"{', '.join(map(repr, IMPLEMENTATIONS))}; `choose` resolves 'auto'"
    )
  if implementation == "by_channels":
    wide = min(kernel.shape[2:]) >= _WIDE
    return "winograd" if wide else "phases"
  return implementation


def _convolve(
  x: jax.Array,
  kernel: jax.Array,
  padding: str | Sequence[tuple[int, int]],
  strides: tuple[int, int] = (1, 1),
  rhs_dilation: tuple[int, int] | None = None,
) -> jax.Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    rhs_dilation=rhs_dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


# `padded`: zeros between the pixels, and a convolution at stride 1.


def _transposed_padded(x: jax.Array, kernel: jax.Array) -> jax.Array:
  none, between = (0, 0, 0), (3, 2, 1)
  zero = jnp.zeros((), x.dtype)
  return _convolve(
    lax.pad(x, zero, (none, between, between, none)), kernel, "VALID"
  )


@jax.custom_vjp
def _strided_padded(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return _convolve(x, kernel, "SAME", (2, 2))


def _strided_padded_backward(residuals: _Pair, gradient: jax.Array) -> _Pair:
  x, kernel = residuals
  _, pull_back = jax.vjp(lambda k: _convolve(x, k, "SAME", (2, 2)), kernel)
  return _transposed_padded(gradient, _adjoint(kernel)), pull_back(gradient)[0]


_strided_padded.defvjp(
  lambda x, k: (_strided_padded(x, k), (x, k)), _strided_padded_backward
)


# `dense`: one 3x3 convolution at stride 1 over blocks of 2x2 pixels.


def _strided_dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
  b, h, w, cin = x.shape
  cout = kernel.shape[3]
  blocks = x.reshape(b, h // 2, 2, w // 2, 2, cin).transpose(0, 1, 3, 2, 4, 5)
  # Output i reads the inputs 2i - 1 + k = 2 (i + tap - 1) + phase.
  kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
  kernel = kernel.reshape(3, 2, 3, 2, cin, cout).transpose(0, 2, 1, 3, 4, 5)
  return _convolve(
    blocks.reshape(b, h // 2, w // 2, 4 * cin),
    kernel.reshape(3, 3, 4 * cin, cout),
    "SAME",
  )


def _transposed_dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return _from_blocks(_convolve(x, _block_kernel(kernel), "SAME"))


def _block_kernel(kernel: jax.Array) -> jax.Array:
  """Returns [3, 3, Cin, 4 * Cout], whose output is blocks of 2x2 pixels."""
  _, _, cin, cout = kernel.shape
  # Output 2i + phase reads the input i + tap - 1 at k = 2 tap + 1 - phase.
  kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
  kernel = kernel.reshape(3, 2, 3, 2, cin, cout)[:, ::-1, :, ::-1]
  return kernel.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, cin, 4 * cout)


def _from_blocks(blocks: jax.Array) -> jax.Array:
  """Maps [B, H, W, 4 * C] to [B, 2H, 2W, C]."""
  b, h, w, channels = blocks.shape
  blocks = blocks.reshape(b, h, w, 2, 2, channels // 4)
  return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)


# `winograd`: the 3x3 convolution of `dense` over tiles of 4x4 pixels.


def _winograd_matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns F(4, 3): four outputs of three taps by six products.

  As polynomials, which are multiplied at the points below and at infinity, and
  interpolated (Lavin and Gray 2016). The points are those with the least error
  in float32 (Barabasz et al. 2020).

  Returns:
    float64 matrices of an input [6, 6], a kernel [6, 3] and an output [4, 6].
  """
  points = np.array([0, 1, -1, 0.5, -2])

  def evaluate(length):
    rows = points[:, None] ** np.arange(length)
    return np.vstack([rows, np.eye(length)[-1]])

  return np.linalg.inv(evaluate(6)).T, evaluate(3), evaluate(4).T


def _transposed_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
  b, h, w, cin = x.shape
  # bfloat16 is not precise enough for the transforms.
  dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
  x, kernel = x.astype(wide), _block_kernel(kernel.astype(wide))
  # Kronecker products are the transforms of both axes at once.
  of_input, of_kernel, of_output = (
    jnp.asarray(np.kron(matrix, matrix), wide)
    for matrix in _winograd_matrices()
  )
  rows, columns = -(-h // 4), -(-w // 4)
  # Tiles of 6x6 overlap by two: four values, and two of the next tile's.
  x = jnp.pad(
    x, ((0, 0), (1, 4 * rows + 3 - h), (1, 4 * columns + 3 - w), (0, 0))
  )
  x = x.reshape(b, rows + 1, 4, 4 * columns + 4, cin)
  x = jnp.concatenate([x[:, :-1], x[:, 1:, :2]], 2)
  x = x.reshape(b, rows, 6, columns + 1, 4, cin)
  x = jnp.concatenate([x[:, :, :, :-1], x[:, :, :, 1:, :2]], 4)
  x = x.transpose(2, 4, 0, 1, 3, 5)
  x = _product(of_input, x.reshape(36, -1)).reshape(36, -1, cin)
  kernel = _product(of_kernel, kernel.reshape(9, -1)).reshape(36, cin, -1)
  y = _product(of_output, _product(x, kernel).reshape(36, -1))
  y = y.reshape(4, 4, b, rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)
  y = y.reshape(b, 4 * rows, 4 * columns, -1)[:, :h, :w]
  return _from_blocks(y).astype(dtype)


def _strided_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
  # As the adjoint, whose tiles are on the side with fewer pixels.
  b, h, w, _ = x.shape
  small = jnp.zeros((b, h // 2, w // 2, kernel.shape[3]), x.dtype)
  _, pull_back = jax.vjp(
    lambda y: _transposed_winograd(y, _adjoint(kernel)), small
  )
  return pull_back(x)[0]


@jax.custom_vjp
def _product(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns `a @ b`; its gradients have a layout that needs no copies."""
  return a @ b


def _product_backward(factors: _Pair, gradient: jax.Array) -> _Pair:
  a, b = factors
  return (
    jnp.einsum("...nd,...cd->...nc", gradient, b),
    jnp.einsum("...nc,...nd->...cd", a, gradient),
  )


_product.defvjp(lambda a, b: (a @ b, (a, b)), _product_backward)


# `phases`, without wasted taps. Each operation is the other's adjoint, and both
# share one kernel gradient, so that XLA's own slow gradients are never used.


@jax.custom_vjp
def _strided(x: jax.Array, kernel: jax.Array) -> jax.Array:
  b, h, w, cin = x.shape
  if cin >= _THIN:
    return _convolve(x, kernel, "SAME", (2, 2))
  # Two neighbouring columns become one of twice the channels, at no cost.
  kernel = jnp.pad(kernel, ((0, 0), (1, 0), (0, 0), (0, 0)))
  return _convolve(
    x.reshape(b, h, w // 2, 2 * cin),
    kernel.reshape(5, 3, 2 * cin, -1),
    ((1, 2), (1, 1)),
    (2, 1),
  )


@jax.custom_vjp
def _transposed(x: jax.Array, kernel: jax.Array) -> jax.Array:
  b, h, w, _ = x.shape
  cout = kernel.shape[3]
  if cout < _THIN:
    # Sixteen channels of blocks fill a vector register, twelve do not.
    padded = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, -cout % 4)))
    return _transposed_dense(x, padded)[..., :cout]

  # The even outputs read the inputs i - 1 and i at k = 1 and 3, the odd ones
  # i - 1, i and i + 1 at k = 0, 2 and 4.
  def phase(p, q):
    return _convolve(x, kernel[1 - p :: 2, 1 - q :: 2], ((1, p), (1, q)))

  rows = [jnp.stack([phase(p, 0), phase(p, 1)], axis=3) for p in (0, 1)]
  return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, cout)


def _adjoint(kernel: jax.Array) -> jax.Array:
  return kernel[::-1, ::-1].swapaxes(2, 3)


def _kernel_gradient(image: jax.Array, gradient: jax.Array) -> jax.Array:
  """The gradient of `_strided` in its kernel.

  It is the correlation of the image with the gradient at the outputs, summed
  over the batch. The batch is explicitly laid out as the channels of a
  convolution: XLA's own gradient misses the fast path on the CPU.

  Args:
    image: [B, H, W, Cin], the input of `_strided`.
    gradient: [B, H / 2, W / 2, Cout], at its output.

  Returns:
    [5, 5, Cin, Cout].
  """
  image = image.transpose(3, 1, 2, 0)
  gradient = gradient.transpose(1, 2, 0, 3)
  taps = _convolve(image, gradient, ((1, 2), (1, 2)), rhs_dilation=(2, 2))
  return taps.transpose(1, 2, 0, 3)


def _strided_backward(residuals: _Pair, gradient: jax.Array) -> _Pair:
  x, kernel = residuals
  return (
    _transposed(gradient, _adjoint(kernel)),
    _kernel_gradient(x, gradient),
  )


def _transposed_backward(residuals: _Pair, gradient: jax.Array) -> _Pair:
  x, kernel = residuals
  return (
    _strided(gradient, _adjoint(kernel)),
    _adjoint(_kernel_gradient(gradient, x)),
  )


_strided.defvjp(lambda x, k: (_strided(x, k), (x, k)), _strided_backward)
_transposed.defvjp(
  lambda x, k: (_transposed(x, k), (x, k)), _transposed_backward
)
