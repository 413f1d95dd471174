"""The fast convolutions compared with Flax's own layers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import native
from dcgan_inpaint.runtime import errors

OPERATIONS = {
  "strided": (convolutions.strided, nn.Conv),
  "transposed": (convolutions.transposed, nn.ConvTranspose),
}

# Batch, height, width, channels in and out. Three channels take the path of
# the layers that meet the image; the last ones are such layers of images of 32
# pixels in grey, of 128 and of 256.
SHAPES = [
  (2, 8, 8, 16, 9),
  (1, 4, 6, 3, 10),
  pytest.param((3, 2, 4, 11, 3), marks=pytest.mark.slow),
  pytest.param((1, 2, 2, 1, 1), marks=pytest.mark.slow),
  pytest.param((2, 16, 16, 8, 1), marks=pytest.mark.slow),
  pytest.param((2, 32, 32, 1, 8), marks=pytest.mark.slow),
  pytest.param((1, 128, 128, 3, 2), marks=pytest.mark.slow),
  pytest.param((1, 64, 64, 4, 3), marks=pytest.mark.slow),
  pytest.param((1, 256, 256, 1, 2), marks=pytest.mark.slow),
]

every_operation = pytest.mark.parametrize("operation", OPERATIONS)
# The implementation `native` has tests of its own where it cannot be built.
NATIVE = pytest.param(
  "native",
  marks=pytest.mark.skipif(
    bool(native.build()), reason="needs the CPU and a C++ compiler"
  ),
)
SPLIT = ["dense", "phases", "winograd"]
every_implementation = pytest.mark.parametrize(
  "implementation", ["plain", "padded", *SPLIT, NATIVE]
)
# XLA's own operation is as slow to compile as to run, so only its value and
# gradient are compared with Flax.
fast_implementation = pytest.mark.parametrize(
  "implementation", [*SPLIT, NATIVE]
)
# XLA does not shard custom calls over devices.
split_implementation = pytest.mark.parametrize(
  "implementation",
  [
    pytest.param("dense", marks=pytest.mark.slow),
    # Of which 'by_channels' is made, the default on several devices of the CPU.
    "phases",
    "winograd",
  ],
)


def flax_layer(operation, features):
  layer = OPERATIONS[operation][1](
    features, (5, 5), (2, 2), padding="SAME", use_bias=False
  )
  return lambda x, kernel: layer.apply({"params": {"kernel": kernel}}, x)


def fast(operation, implementation):
  return lambda x, kernel: OPERATIONS[operation][0](x, kernel, implementation)


def normal(seed, shape):
  """Returns normally distributed values that NumPy draws."""
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def assert_close(actual, expected, tolerance=1e-5):
  """Compares trees by the largest error relative to the largest value."""

  def check(actual, expected):
    assert actual.dtype == expected.dtype
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual / scale, expected / scale, 0, tolerance)

  jax.tree.map(check, actual, expected)


def value_and_gradients(f, shape):
  *image, cin, cout = shape

  # One program compiles faster than every operation by itself.
  @jax.jit
  def function(x, kernel):
    y, pull_back = jax.vjp(f, x, kernel)
    return y, pull_back(normal(2, y.shape))

  return function(normal(0, (*image, cin)), normal(1, (5, 5, cin, cout)))


def second_gradients(f, shape):
  *image, cin, cout = shape

  # The square makes every second derivative depend on x and the kernel.
  def total(x, kernel):
    return jnp.sum(f(x, kernel) ** 2)

  def squared_norm(x, kernel):
    gradients = jax.grad(total, (0, 1))(x, kernel)
    return sum(jnp.mean(g**2) for g in gradients)

  x, kernel = normal(0, (*image, cin)), normal(1, (5, 5, cin, cout))
  return jax.jit(jax.grad(squared_norm, (0, 1)))(x, kernel)


@functools.cache
def in_float32(operation):
  return jax.jit(flax_layer(operation, 9))


@functools.cache
def of_flax(quantity, operation, shape):
  """Flax's result, computed once: its gradients take seconds to compile."""
  return quantity(flax_layer(operation, shape[-1]), shape)


@every_operation
@every_implementation
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_both_gradients_equal_flax(operation, implementation, shape):
  assert_close(
    value_and_gradients(fast(operation, implementation), shape),
    of_flax(value_and_gradients, operation, shape),
  )


@pytest.mark.slow
@every_operation
@fast_implementation
def test_gradient_of_a_gradient_equals_flax(operation, implementation):
  shape = (2, 4, 4, 8, 9)
  assert_close(
    second_gradients(fast(operation, implementation), shape),
    of_flax(second_gradients, operation, shape),
  )


@every_operation
@fast_implementation
def test_vmap_over_images_equals_the_batch(operation, implementation):
  x, kernel = normal(0, (5, 4, 4, 8)), normal(1, (5, 5, 8, 3))

  def loss(x):
    return jnp.sum(fast(operation, implementation)(x, kernel) ** 2)

  one_by_one = jax.vmap(jax.value_and_grad(lambda x: loss(x[None])))
  values, gradients = jax.jit(one_by_one)(x)
  value, gradient = jax.jit(jax.value_and_grad(loss))(x)
  assert_close(gradients, gradient)
  assert_close(values.sum(), value)


@every_operation
def test_vmap_keeps_one_convolution_for_the_whole_batch(operation):
  x, kernel = normal(0, (5, 4, 4, 8)), normal(1, (5, 5, 8, 9))

  def count(f, x):
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(f(x) ** 2)))
    return gradient.lower(x).compile().as_text().count(" convolution(")

  def batch(x):
    return fast(operation, "phases")(x, kernel)

  mapped = jax.vmap(lambda x: batch(x[None])[0])
  assert count(mapped, x) == count(batch, x) > 0


@every_operation
@every_implementation
def test_bfloat16_stays_bfloat16_and_close(operation, implementation):
  x, kernel = normal(0, (2, 4, 4, 16)), normal(1, (5, 5, 16, 9))
  expected = in_float32(operation)(x, kernel)
  x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
  y = jax.jit(fast(operation, implementation))(x, kernel)
  assert y.dtype == jnp.bfloat16
  # Eight bits of mantissa: 2^-8 on each factor, and on the sum.
  assert_close(y.astype(jnp.float32), expected, 0.02)


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
@every_operation
@split_implementation
def test_a_sharded_batch_is_never_gathered(operation, implementation):
  n = jax.device_count()
  mesh = jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,))
  x, kernel = normal(0, (2 * n, 4, 4, 8)), normal(1, (5, 5, 8, 9))
  gradients = jax.jit(
    jax.grad(
      lambda x, k: jnp.sum(fast(operation, implementation)(x, k) ** 2),
      argnums=(0, 1),
    )
  )
  sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
  replicated = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
  program = gradients.lower(sharded, replicated).compile().as_text()
  assert "all-reduce" in program
  assert "all-gather" not in program
  assert "all-to-all" not in program
  actual = jax.device_get(gradients(sharded, replicated))
  assert_close(actual, jax.device_get(gradients(x, kernel)))


@every_operation
@pytest.mark.parametrize("channels, on_cpu", [(8, "phases"), (32, "winograd")])
def test_auto_chooses_what_is_fast(operation, channels, on_cpu):
  x, kernel = normal(0, (1, 4, 4, channels)), normal(1, (5, 5, channels, 33))
  auto = convolutions.choose("auto")
  if jax.default_backend() != "cpu":
    expected = "dense"
  elif jax.device_count() == 1 and not native.build():
    expected = "native"
  else:
    expected = on_cpu
  programs = {
    implementation: str(
      jax.make_jaxpr(fast(operation, implementation))(x, kernel)
    )
    for implementation in {auto, expected, "plain", *SPLIT}
  }
  assert programs[auto] == programs[expected]
  assert len({programs[name] for name in ("plain", *SPLIT)}) == 4


@pytest.mark.slow
@every_operation
def test_winograd_keeps_its_digits_over_many_channels(operation):
  """The paper's layers have long sums, and the transforms lose precision."""
  shape = (2, 8, 8, 256, 32)
  assert_close(
    value_and_gradients(fast(operation, "winograd"), shape),
    value_and_gradients(fast(operation, "phases"), shape),
  )


def test_an_unknown_implementation_is_refused_with_the_choices():
  with pytest.raises(errors.UserError, match="'fast'.*'plain'.*'dense'"):
    convolutions.choose("fast")


@every_operation
@pytest.mark.parametrize("unresolved", ["fast", "auto"])
def test_a_layer_takes_only_what_choose_returns(operation, unresolved):
  x, kernel = jnp.zeros((1, 4, 4, 3)), jnp.zeros((5, 5, 3, 4))
  with pytest.raises(ValueError, match=f"'{unresolved}'.*'plain'.*'dense'"):
    fast(operation, unresolved)(x, kernel)
