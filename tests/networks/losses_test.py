import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dcgan_inpaint.networks import losses
from dcgan_inpaint.runtime import errors

TERMS = ("real", "fake", "generator", "prior")

# Not -1 and 1, where the hinge has no derivative.
ONE_LOGIT = np.array([[-6.0], [-1.3], [-0.4], [0.0], [0.7], [3.0]])
TWO_LOGITS = np.array([[2.0, -4.0], [0.3, 0.2], [-1.0, 1.5], [0.0, 0.0]])


def sigmoid_probability(logits):
  return 1 / (1 + np.exp(-logits[:, 0]))


def softmax_probability(logits):
  exponentials = np.exp(logits)
  return exponentials[:, 1] / exponentials.sum(axis=1)


# The formulas of the paper and of each loss's own paper, in terms of D: a
# probability for the cross-entropies, the output itself for the others.
FORMULAS = {
  "sigmoid_cross_entropy": (
    ONE_LOGIT,
    sigmoid_probability,
    lambda d: -np.log(d),
    lambda d: -np.log(1 - d),
    lambda d: -np.log(d),
    lambda d: np.log(1 - d),
  ),
  "minimax": (
    ONE_LOGIT,
    sigmoid_probability,
    lambda d: -np.log(d),
    lambda d: -np.log(1 - d),
    lambda d: np.log(1 - d),
    lambda d: np.log(1 - d),
  ),
  "softmax_cross_entropy": (
    TWO_LOGITS,
    softmax_probability,
    lambda d: -np.log(d),
    lambda d: -np.log(1 - d),
    lambda d: -np.log(d),
    lambda d: np.log(1 - d),
  ),
  "mean_squared_error": (
    ONE_LOGIT,
    lambda logits: logits[:, 0],
    lambda d: (d - 1) ** 2,
    lambda d: d**2,
    lambda d: (d - 1) ** 2,
    lambda d: (d - 1) ** 2,
  ),
  "hinge": (
    ONE_LOGIT,
    lambda logits: logits[:, 0],
    lambda d: np.maximum(0, 1 - d),
    lambda d: np.maximum(0, 1 + d),
    lambda d: -d,
    lambda d: -d,
  ),
}


def _differences(formula, logits, row, column, step=1e-4):
  """Returns the first and second derivatives by a logit of the sum over rows.

  Args:
    formula: function from logits [B, outputs] to values [B].
    logits: float64 [B, outputs].
    row: of the logit.
    column: of the logit.
    step: in float64; its square is the error.

  Returns:
    A float, and float64 [B, outputs], of this logit and every other.
  """

  def total(*places):
    moved = logits.copy()
    for i, j, by in places:
      moved[i, j] += by
    return formula(moved).sum()

  here = row, column
  first = (total((*here, step)) - total((*here, -step))) / (2 * step)
  second = np.zeros(logits.shape)
  for place in np.ndindex(*logits.shape):
    second[place] = (
      sum(
        a * b * total((*here, a * step), (*place, b * step))
        for a in (-1, 1)
        for b in (-1, 1)
      )
      / (2 * step) ** 2
    )
  return first, second


every_term = pytest.mark.parametrize("term", TERMS)
every_variant = pytest.mark.parametrize("name", losses.VARIANTS)


@every_variant
@every_term
def test_a_loss_is_its_formula_with_the_right_gradient(name, term):
  logits, discriminator, *formulas = FORMULAS[name]
  formula = formulas[TERMS.index(term)]
  variant = losses.get(name)
  assert variant.outputs == logits.shape[1]

  function = getattr(variant, term)

  @jax.jit
  def derivatives(logits):
    def total(logits):
      return function(logits).sum()

    gradient, second = jax.grad(total), jax.hessian(total)
    return function(logits), gradient(logits), second(logits)

  values, first, second = derivatives(np.float32(logits))
  assert values.shape == (len(logits),)
  assert values.dtype == jnp.float32
  np.testing.assert_allclose(
    values, formula(discriminator(logits)), rtol=1e-5, atol=1e-6
  )
  # Against central differences of the formula in float64.
  for row, column in np.ndindex(*logits.shape):
    expected = _differences(
      lambda x: formula(discriminator(x)), logits, row, column
    )
    np.testing.assert_allclose(first[row, column], expected[0], 1e-4, 1e-5)
    np.testing.assert_allclose(second[row, column], expected[1], 1e-4, 1e-5)


@every_variant
def test_the_generator_and_the_prior_pull_towards_what_is_called_real(name):
  logits = np.float32(FORMULAS[name][0])
  variant = losses.get(name)
  if name == "mean_squared_error":
    logits = logits[logits[:, 0] < 1]  # Beyond the target the sign changes.
  for term in (variant.generator, variant.prior):
    gradient = jax.jit(jax.grad(lambda x, term=term: term(x).sum()))(logits)
    assert np.all(gradient[:, -1] < 0)


@every_variant
@every_term
def test_a_discriminator_that_is_sure_leaves_all_finite(name, term):
  function = getattr(losses.get(name), term)
  outputs = losses.get(name).outputs
  rows = [[-1e4, 1e4], [1e4, -1e4], [-1e4, -1e4], [1e4, 1e4]]
  logits = np.float32(rows)[:, :outputs]

  @jax.jit
  def value_and_gradient(logits):
    value, pull_back = jax.vjp(function, logits)
    return value, pull_back(jnp.ones_like(value))[0]

  value, gradient = value_and_gradient(logits)
  assert np.all(np.isfinite(value))
  assert np.all(np.isfinite(gradient))


def test_the_prior_keeps_its_slope_where_the_probability_rounds_to_one():
  prior = losses.get("sigmoid_cross_entropy").prior
  value, slope = jax.value_and_grad(lambda x: prior(x)[0])(jnp.array([[40.0]]))
  np.testing.assert_allclose(value, -40)
  np.testing.assert_allclose(slope, [[-1]])


@every_term
def test_softmax_over_two_logits_is_sigmoid_of_their_difference(term):
  softmax = getattr(losses.get("softmax_cross_entropy"), term)
  sigmoid = getattr(losses.get("sigmoid_cross_entropy"), term)
  logits = jnp.float32(TWO_LOGITS)
  np.testing.assert_allclose(
    softmax(logits),
    sigmoid(logits[:, 1:] - logits[:, :1]),
    rtol=1e-5,
    atol=1e-6,
  )


MODULE = """
import jax.numpy as jnp
from dcgan_inpaint.networks import losses

def wasserstein():
  return losses.AdversarialLoss(
    outputs=1,
    real=lambda logits: -logits[:, 0],
    fake=lambda logits: logits[:, 0],
    generator=lambda logits: -logits[:, 0],
    prior=lambda logits: -logits[:, 0],
  )

def nothing():
  return None
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
  folder = tmp_path / "their_package"
  folder.mkdir()
  (folder / "critic.py").write_text(MODULE)
  monkeypatch.syspath_prepend(str(tmp_path))
  yield "their_package.critic"
  for name in ("their_package", "their_package.critic"):
    sys.modules.pop(name, None)


def test_a_users_own_loss_is_found_by_its_name(own_module):
  variant = losses.get(f"{own_module}:wasserstein")
  np.testing.assert_array_equal(
    variant.real(jnp.array([[2.0], [-3.0]])), [-2, 3]
  )


@pytest.mark.parametrize(
  "name, parts",
  [
    ("sigmoid", [*losses.VARIANTS, "package.module:function"]),
    ("", losses.VARIANTS),
    ("their_package.critic", losses.VARIANTS),
    (":wasserstein", losses.VARIANTS),
    ("their_package.critic:hinge", ["no attribute 'hinge'"]),
    ("their_package.missing:hinge", ["their_package.missing"]),
    ("their_package.critic:nothing", ["NoneType", "AdversarialLoss"]),
  ],
)
def test_another_name_is_refused_and_the_field_named(own_module, name, parts):
  with pytest.raises(errors.UserError) as error:
    losses.get(name, "config.search.loss")
  text = str(error.value)
  assert text.startswith(f"config.search.loss={name!r}") and "\n" not in text
  assert [part for part in parts if part not in text] == []


def contextual_example():
  rng = np.random.default_rng(0)
  generated, image = rng.uniform(-1, 1, (2, 4, 6, 8, 3)).astype(np.float32)
  mask = np.float32(rng.random((4, 6, 8, 1)) > 0.4)
  return generated, image, mask


def test_contextual_is_the_sum_of_distances_at_known_pixels():
  generated, image, mask = contextual_example()
  expected = [
    np.abs(g - y)[m[..., 0] == 1].astype(np.float64).sum()
    for g, y, m in zip(generated, image, mask, strict=True)
  ]
  actual = losses.contextual(generated, image, mask)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_pixels_under_the_hole_have_no_gradient_and_no_nan():
  generated, image, mask = contextual_example()
  gradient = jax.grad(lambda g: losses.contextual(g, image, mask).sum())
  np.testing.assert_array_equal(
    gradient(generated), mask * np.sign(generated - image)
  )
  # Equal pixels are at the kink of the absolute value.
  on_the_kink = gradient(image)
  assert np.all(np.abs(on_the_kink) <= mask)


def test_a_whole_hole_leaves_nothing():
  generated, image, mask = contextual_example()
  value, gradient = jax.value_and_grad(
    lambda g: losses.contextual(g, image, 0 * mask).sum()
  )(generated)
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_importance_is_the_share_of_the_hole_around_a_known_pixel():
  rng = np.random.default_rng(0)
  masks = np.float32(
    rng.random((3, 12, 10, 1)) < [[[[0.5]]], [[[0.9]]], [[[1]]]]
  )
  masks[1, 3:9, 2:7] = 0
  importance = jax.jit(losses.importance)
  actual = np.asarray(importance(masks))
  for mask, weights in zip(masks[..., 0], actual[..., 0], strict=True):
    expected = np.zeros_like(mask)
    for i, j in np.argwhere(mask == 1):
      around = mask[max(0, i - 3) : i + 4, max(0, j - 3) : j + 4]
      expected[i, j] = np.mean(around == 0)
    if expected.any():
      expected /= expected[mask == 1].mean()
      np.testing.assert_allclose(weights[mask == 1].mean(), 1, rtol=1e-5)
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)
  assert not np.any(importance(np.zeros((5, 5, 1), np.float32)))


def test_excess_roughness_is_that_of_scipys_laplacian():
  rng = np.random.default_rng(0)
  smooth, rough = (
    np.float32(scale * rng.uniform(-1, 1, (3, 9, 8, 2))) for scale in (0.2, 1)
  )

  def roughness(images):
    kernel = ndimage.generate_binary_structure(2, 1)[None, :, :, None] * -1.0
    kernel[0, 1, 1, 0] = 4
    filtered = ndimage.convolve(np.float64(images), kernel)
    return abs(filtered[:, 1:-1, 1:-1]).mean()

  value, gradient = jax.value_and_grad(losses.excess_roughness)(rough, smooth)
  assert value == pytest.approx(roughness(rough) - roughness(smooth), rel=1e-5)
  less = losses.excess_roughness(rough - 0.01 * np.sign(gradient), smooth)
  assert less < value
  # What is no rougher is not made smoother.
  value, gradient = jax.value_and_grad(losses.excess_roughness)(smooth, rough)
  assert value == 0 and not np.any(gradient)
