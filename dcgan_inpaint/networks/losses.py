"""Loss variants by name, the search's objective, and a penalty on roughness.

The paper compares loss functions. Each variant has three uses: it trains the
discriminator, it trains the generator, and it is the prior (the paper's
perceptual loss) of the latent search. All are built from optax and return one
value per example, so that tests can check them and callers can weight them.

D's outputs are called logits for every loss.

| name                     | D(x), D(G(z)) in training    | G in training  | prior                    |
|--------------------------|------------------------------|----------------|--------------------------|
| `sigmoid_cross_entropy`  | -log D(x), -log(1 - D(G(z))) | -log D(G(z))   | log(1 - D(G(z)))         |
| `minimax`                | the same                     | log(1 - D(G(z)))| the same                |
| `softmax_cross_entropy`  | the same, D a two-way softmax| -log D(G(z))   | log(1 - D(G(z)))         |
| `mean_squared_error`     | (D(x) - 1)^2, D(G(z))^2      | (D(G(z)) - 1)^2| (D(G(z)) - 1)^2          |
| `hinge`                  | max(0, 1 - D), max(0, 1 + D) | -D(G(z))       | -D(G(z))                 |

The generator trains on -log D (the non-saturating form of Goodfellow et al.
2014, section 3, which DCGAN code uses); `minimax` is the saturating form. The
prior is log(1 - D(G(z))), as the paper prints its perceptual loss. Least
squares and hinge have no logarithm; their prior is what their generator
minimises.
"""  # noqa: E501 (a table)

from collections.abc import Callable
import dataclasses
import importlib

import jax
import jax.numpy as jnp
import optax

from dcgan_inpaint.runtime import errors


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
  """The functions of a loss variant.

  Each function maps logits [B, outputs] float32 to one value per example, [B]
  float32, which is minimised.

  Attributes:
    outputs: how many values the discriminator returns for an image.
    real: the discriminator's loss on real images.
    fake: the discriminator's loss on generated images.
    generator: the generator's loss on generated images.
    prior: the perceptual loss of the search, on generated images.
  """

  outputs: int
  real: Callable[[jax.Array], jax.Array]
  fake: Callable[[jax.Array], jax.Array]
  generator: Callable[[jax.Array], jax.Array]
  prior: Callable[[jax.Array], jax.Array]


def _sigmoid(label: float) -> Callable[[jax.Array], jax.Array]:
  return lambda logits: optax.sigmoid_binary_cross_entropy(
    logits[:, 0], jnp.full_like(logits[:, 0], label)
  )


def _softmax(label: int) -> Callable[[jax.Array], jax.Array]:
  return lambda logits: optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.full(logits.shape[:1], label)
  )


def _squared(target: float) -> Callable[[jax.Array], jax.Array]:
  return lambda logits: optax.squared_error(
    logits[:, 0], jnp.full_like(logits[:, 0], target)
  )


def _hinge(sign: float) -> Callable[[jax.Array], jax.Array]:
  return lambda logits: optax.hinge_loss(
    logits[:, 0], jnp.full_like(logits[:, 0], sign)
  )


def _negated(
  loss: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array], jax.Array]:
  return lambda logits: -loss(logits)


VARIANTS = {
  "sigmoid_cross_entropy": AdversarialLoss(
    outputs=1,
    real=_sigmoid(1.0),
    fake=_sigmoid(0.0),
    generator=_sigmoid(1.0),
    prior=_negated(_sigmoid(0.0)),
  ),
  # The original game, in which the generator learns little while D easily
  # recognises its images (Goodfellow et al. 2014, equation 1).
  "minimax": AdversarialLoss(
    outputs=1,
    real=_sigmoid(1.0),
    fake=_sigmoid(0.0),
    generator=_negated(_sigmoid(0.0)),
    prior=_negated(_sigmoid(0.0)),
  ),
  # Over a single logit a softmax is constant, without a gradient, so this one
  # has two: class 1 is real (Yeh et al. 2017, section 3.4).
  "softmax_cross_entropy": AdversarialLoss(
    outputs=2,
    real=_softmax(1),
    fake=_softmax(0),
    generator=_softmax(1),
    prior=_negated(_softmax(0)),
  ),
  # Least squares GAN (Mao et al. 2017).
  "mean_squared_error": AdversarialLoss(
    outputs=1,
    real=_squared(1.0),
    fake=_squared(0.0),
    generator=_squared(1.0),
    prior=_squared(1.0),
  ),
  # Geometric GAN (Lim and Ye 2017).
  "hinge": AdversarialLoss(
    outputs=1,
    real=_hinge(1.0),
    fake=_hinge(-1.0),
    generator=lambda logits: -logits[:, 0],
    prior=lambda logits: -logits[:, 0],
  ),
}


def get(name: str, field: str = "config.train.loss") -> AdversarialLoss:
  """Returns a loss variant by name, or a user's own.

  Args:
    name: a key of `VARIANTS`, or `"package.module:function"`, a function
      without arguments that returns an `AdversarialLoss`.
    field: the config field that holds the name, for the message.

  Raises:
    errors.UserError: the name is unknown, or the user's function cannot be
      imported or returns something else.
  """
  if name in VARIANTS:
    return VARIANTS[name]
  module_name, separator, function_name = name.partition(":")
  if not (separator and module_name and function_name):
    raise errors.UserError(
      f"{field}={name!r} is not a loss: choose one of {', '.join(VARIANTS)}, "
      'or name your own as "package.module:function"'
    )
  try:
    loss = getattr(importlib.import_module(module_name), function_name)()
  except (ImportError, AttributeError, TypeError, ValueError) as error:
    raise errors.UserError(
      f"{field}={name!r}: cannot import it and call it without arguments "
      f"({error}); is its folder on PYTHONPATH?"
    ) from error
  if not isinstance(loss, AdversarialLoss):
    raise errors.UserError(
      f"{field}={name!r} returned {type(loss).__name__}, and must return a "
      "dcgan_inpaint.networks.losses.AdversarialLoss"
    )
  return loss


def contextual(
  generated: jax.Array, image: jax.Array, mask: jax.Array
) -> jax.Array:
  """The paper's contextual loss, `||M * G(z) - M * y||_1` (equation 1).

  Args:
    generated: G(z), [..., H, W, C] in [-1, 1].
    image: y, the same shape.
    mask: M, [..., H, W, 1], 1 = known.

  Returns:
    The sum over known pixels and channels, [...]. Pixels under the hole do not
    contribute, and have no gradient.
  """
  # The difference is masked, not each side: values under the hole are
  # arbitrary, but must be finite.
  return jnp.sum(mask * jnp.abs(generated - image), axis=(-3, -2, -1))


def importance(mask: jax.Array, window: int = 7) -> jax.Array:
  """Returns the weight of each known pixel, by how near it is to the hole.

  Yeh et al. 2017, equation 3: the fraction of hole pixels among the pixels of
  the window that are in the image; 0 in the hole. Here the known pixels'
  weights are normalised to a mean of 1, so that a lambda keeps its meaning
  relative to the contextual loss from one mask to another.

  Args:
    mask: M, [..., H, W, 1], 1 = known.
    window: side of the square window, odd.

  Returns:
    [..., H, W, 1], to be used as M in `contextual`. All 0 if there is no hole,
    or if nothing is known.
  """

  def box_sum(values: jax.Array) -> jax.Array:
    for axis in (-3, -2):
      padding = [(0, 0)] * values.ndim
      padding[axis] = (window // 2, window // 2)
      padded = jnp.pad(values, padding)
      size = values.shape[axis]
      first, *others = (
        jax.lax.slice_in_dim(padded, tap, tap + size, axis=axis)
        for tap in range(window)
      )
      values = sum(others, start=first)
    return values

  weights = mask * box_sum(1 - mask) / box_sum(jnp.ones_like(mask))
  over = (-3, -2, -1)
  mean = weights.sum(over, keepdims=True) / jnp.maximum(
    mask.sum(over, keepdims=True), 1
  )
  return weights / jnp.where(mean > 0, mean, 1)


def excess_roughness(images: jax.Array, references: jax.Array) -> jax.Array:
  """Returns how much rougher images are than others on average, at least 0.

  Roughness is the mean absolute discrete Laplacian: near 0 in flat colours, and
  high in grain. It is not of the paper.

  Args:
    images: [B, H, W, C] in [-1, 1].
    references: likewise, of any number.

  Returns:
    float32 scalar; 0, without a gradient, where the images are no rougher.
  """

  def roughness(x: jax.Array) -> jax.Array:
    x = jnp.float32(x)
    beside = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
    return jnp.mean(jnp.abs(4 * x[:, 1:-1, 1:-1] - beside))

  return jax.nn.relu(roughness(images) - roughness(references))
