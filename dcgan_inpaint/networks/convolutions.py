"""The DCGAN's 5x5 stride-2 convolutions in their fast, exact implementations.

The parameters stay the paper's 5x5 kernels, and every implementation equals Flax's `Conv`
and `ConvTranspose` up to rounding. The implementations differ in speed alone:

  plain   XLA's own operation. Its gradients miss the fast paths.
  dense   One 3x3 convolution at stride 1 over blocks of 2x2 pixels, four times
          the channels. A 5x5 kernel fills 25 of its 36 taps; accelerators gain
          more from the one large product than they lose. Auto's choice there.
  phases  Without wasted taps: a transposed convolution is four, one for each
          parity of the output's row and column, of 3x3, 3x2, 2x3 and 2x2 taps.
          Gradients are written out in the same operations, so reverse mode
          works to any order; forward mode (`jax.jvp`) is not supported, here
          and in the next. Auto's choice on the CPU for layers of few channels.
  winograd  The dense implementation's 3x3 convolution by Winograd's transforms (Lavin and
          Gray 2016): 36 products for a tile of 4x4 blocks in the place of 576,
          or of 400 in `phases`. In float32 whatever the type, and about six
          times the rounding error of the others: 4e-6 of the largest value.
          Auto's choice on the CPU for all other layers.
  native  The same transforms and products fused in C++ (`native`), for the CPU.
          Auto's choice there where a compiler can build it, unless there are
          several devices, over which a call of ours is not split.

docs/performance.md has what each takes.
"""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.networks import native
from dcgan_inpaint.runtime import errors

IMPLEMENTATIONS = ("plain", "dense", "phases", "winograd", "native")

# With fewer channels than this on the image's side, a vector register stays
# mostly empty, and wasted taps cost less than wasted lanes.
_THIN = 8
# With fewer on either side, Winograd's transforms cost more than they save.
_WIDE = 32


def strided(x, kernel, implementation="auto", prepared=None):
  """Convolves with stride 2, as `nn.Conv(features, (5, 5), (2, 2))`, no bias.

  Args:
    x: [B, H, W, Cin] of any float type; H and W even.
    kernel: [5, 5, Cin, Cout] of the same type.
    implementation: one of `IMPLEMENTATIONS`, or 'auto', which chooses by the default backend.
    prepared: what `prepare` made of the kernel, if it was called.

  Returns:
    [B, H / 2, W / 2, Cout] of the same type.

  Raises:
    UserError: if `implementation` is unknown, or cannot be had on this machine.
  """
  implementation = _choose(implementation, kernel)
  if implementation == "plain":
    return _convolve(x, kernel, "SAME", (2, 2))
  if implementation == "dense":
    return _strided_dense(x, kernel)
  if implementation == "winograd":
    return _strided_winograd(x, kernel)
  if implementation == "native":
    return native.strided(x, kernel, prepared)
  return _strided(x, kernel)


def transposed(x, kernel, implementation="auto", prepared=None):
  """Doubles the sides, as `nn.ConvTranspose(features, (5, 5), (2, 2))`.

  Args:
    x: [B, H, W, Cin] of any float type.
    kernel: [5, 5, Cin, Cout] of the same type, in the order of
      `transpose_kernel=False`, Flax's default.
    implementation: one of `IMPLEMENTATIONS`, or 'auto', which chooses by the default backend.
    prepared: what `prepare` made of the kernel, if it was called.

  Returns:
    [B, 2H, 2W, Cout] of the same type.

  Raises:
    UserError: if `implementation` is unknown, or cannot be had on this machine.
  """
  implementation = _choose(implementation, kernel)
  if implementation == "plain":
    return lax.conv_transpose(x, kernel, (2, 2), "SAME")
  if implementation == "dense":
    return _transposed_dense(x, kernel)
  if implementation == "winograd":
    return _transposed_winograd(x, kernel)
  if implementation == "native":
    return native.transposed(x, kernel, prepared)
  return _transposed(x, kernel)


def prepare(kernel, transposed, implementation="auto"):
  """Returns what a implementation can make of a kernel once, to be used many times.

  Args:
    kernel: [5, 5, Cin, Cout] of any float type.
    transposed: whether it is for `transposed`, or for `strided`.
    implementation: as there.

  Returns:
    Arrays for the argument `prepared`, or None where there is nothing to make.
    Values and gradients stay those of the kernel.

  Raises:
    UserError: if `implementation` is unknown, or cannot be had on this machine.
  """
  if _choose(implementation, kernel) == "native":
    return native.prepare(kernel, transposed)
  return None


def _choose(implementation, kernel):
  """Returns the implementation of one layer."""
  if implementation == "auto":
    if jax.default_backend() != "cpu":
      return "dense"
    if jax.device_count() == 1 and native.available():
      return "native"
    wide = min(kernel.shape[2:]) >= _WIDE
    return "winograd" if wide else "phases"
  if implementation not in IMPLEMENTATIONS:
    raise errors.UserError(
      f"unknown implementation of the convolutions {implementation!r}: choose 'auto' or one of"
      f" {', '.join(map(repr, IMPLEMENTATIONS))}"
    )
  if implementation == "native" and jax.default_backend() != "cpu":
    raise errors.UserError(
      "the implementation 'native' of the convolutions is for the CPU: choose 'auto'"
    )
  if implementation == "native" and not native.available():
    raise errors.UserError(
      "the implementation 'native' of the convolutions cannot be built on this machine"
      f" ({native.problem()}): choose 'auto', or install a C++ compiler"
    )
  return implementation


def _convolve(x, kernel, padding, strides=(1, 1), rhs_dilation=None):
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    rhs_dilation=rhs_dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


# The dense implementation: one 3x3 convolution at stride 1 over blocks of 2x2 pixels.


def _strided_dense(x, kernel):
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


def _transposed_dense(x, kernel):
  return _from_blocks(_convolve(x, _block_kernel(kernel), "SAME"))


def _block_kernel(kernel):
  """Returns [3, 3, Cin, 4 * Cout], which gives blocks of 2x2 pixels."""
  _, _, cin, cout = kernel.shape
  # Output 2i + phase reads the input i + tap - 1 at k = 2 tap + 1 - phase.
  kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
  kernel = kernel.reshape(3, 2, 3, 2, cin, cout)[:, ::-1, :, ::-1]
  return kernel.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, cin, 4 * cout)


def _from_blocks(blocks):
  """Maps [B, H, W, 4 * C] to [B, 2H, 2W, C]."""
  b, h, w, channels = blocks.shape
  blocks = blocks.reshape(b, h, w, 2, 2, channels // 4)
  return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)


# Winograd's implementation: the dense implementation's 3x3 convolution over tiles of 4x4 pixels.


def _winograd_matrices():
  """Returns F(4, 3): four outputs of three taps by six products.

  Over polynomials, which are multiplied at the points below and at infinity,
  and interpolated again (Lavin and Gray 2016). The points are those of the
  least error in float32 (Barabasz et al. 2020).

  Returns:
    float64 matrices of an input [6, 6], a kernel [6, 3] and an output [4, 6].
  """
  points = np.array([0, 1, -1, 0.5, -2])

  def evaluate(length):
    rows = points[:, None] ** np.arange(length)
    return np.vstack([rows, np.eye(length)[-1]])

  return np.linalg.inv(evaluate(6)).T, evaluate(3), evaluate(4).T


def _transposed_winograd(x, kernel):
  b, h, w, cin = x.shape
  # bfloat16 has too few digits for the transforms.
  dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
  x, kernel = x.astype(wide), _block_kernel(kernel.astype(wide))
  # Kronecker products are the transforms of both axes at once.
  of_input, of_kernel, of_output = (
    jnp.asarray(np.kron(matrix, matrix), wide)
    for matrix in _winograd_matrices()
  )
  rows, columns = -(-h // 4), -(-w // 4)
  # Tiles of 6x6 overlap by two: a block of four, and two of the next.
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


def _strided_winograd(x, kernel):
  # As the adjoint, whose tiles lie on the side of the fewer pixels.
  b, h, w, _ = x.shape
  small = jnp.zeros((b, h // 2, w // 2, kernel.shape[3]), x.dtype)
  _, pull_back = jax.vjp(
    lambda y: _transposed_winograd(y, _adjoint(kernel)), small
  )
  return pull_back(x)[0]


@jax.custom_vjp
def _product(a, b):
  """Returns `a @ b`; its gradients come in an order that needs no copies."""
  return a @ b


def _product_backward(factors, gradient):
  a, b = factors
  return (
    jnp.einsum("...nd,...cd->...nc", gradient, b),
    jnp.einsum("...nc,...nd->...cd", a, gradient),
  )


_product.defvjp(lambda a, b: (a @ b, (a, b)), _product_backward)


# The implementation without wasted taps. Each operation is the other's adjoint, and both
# share one kernel gradient, so that XLA's own slow gradients are never used.


@jax.custom_vjp
def _strided(x, kernel):
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
def _transposed(x, kernel):
  b, h, w, _ = x.shape
  cout = kernel.shape[3]
  if cout < _THIN:
    # Sixteen channels of blocks fill a register, twelve do not.
    padded = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, -cout % 4)))
    return _transposed_dense(x, padded)[..., :cout]

  # The even outputs read the inputs i - 1 and i at k = 1 and 3, the odd ones
  # i - 1, i and i + 1 at k = 0, 2 and 4.
  def phase(p, q):
    return _convolve(x, kernel[1 - p :: 2, 1 - q :: 2], ((1, p), (1, q)))

  rows = [jnp.stack([phase(p, 0), phase(p, 1)], axis=3) for p in (0, 1)]
  return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, cout)


def _adjoint(kernel):
  return kernel[::-1, ::-1].swapaxes(2, 3)


def _kernel_gradient(image, gradient):
  """The gradient of `_strided` in its kernel.

  It is the correlation of the image with the gradient at its outputs, summed
  over the batch. The batch is laid out as the channels of a convolution,
  explicitly: left to XLA, the same gradient misses its fast path on the CPU.

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


def _strided_backward(residuals, gradient):
  x, kernel = residuals
  return (
    _transposed(gradient, _adjoint(kernel)),
    _kernel_gradient(x, gradient),
  )


def _transposed_backward(residuals, gradient):
  x, kernel = residuals
  return (
    _strided(gradient, _adjoint(kernel)),
    _adjoint(_kernel_gradient(gradient, x)),
  )


_strided.defvjp(lambda x, k: (_strided(x, k), (x, k)), _strided_backward)
_transposed.defvjp(
  lambda x, k: (_transposed(x, k), (x, k)), _transposed_backward
)
