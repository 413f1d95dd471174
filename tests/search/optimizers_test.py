import jax.numpy as jnp
import numpy as np
import pytest
import tiny_search

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import optimizers


@pytest.mark.parametrize(
  "name, learning_rate",
  [
    pytest.param("sgd", 1e-3, marks=pytest.mark.slow),
    ("adam", 0.05),
    pytest.param("nadam", 0.05, marks=pytest.mark.slow),
    pytest.param("rmsprop", 0.02, marks=pytest.mark.slow),
    pytest.param("lion", 0.02, marks=pytest.mark.slow),
    pytest.param("lbfgs", 1.0, marks=pytest.mark.slow),
    # Of optax.contrib.
    pytest.param("prodigy", 1.0, marks=pytest.mark.slow),
  ],
)
def test_any_optimiser_of_optax_finds_a_generated_face(name, learning_rate):
  wanted = jnp.stack([tiny_search.start(100, number) for number in range(4)])
  images = np.asarray(
    tiny_search.SKETCH[0].apply(
      tiny_search.SKETCH_WEIGHTS.generator, wanted, train=False
    )
  )
  masks = tiny_search.some_images(4)[1]
  search = tiny_search.make(
    optimizer=name,
    learning_rate=learning_rate,
    schedule="constant",
    steps=60,
    prior_weight=0.0,
    starts=2,
  )
  result = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  begun = [
    tiny_search.papers_objective(
      tiny_search.start(index, 0), images[index], masks[index], 0.0
    )
    for index in range(4)
  ]
  assert result.loss.min(axis=1).mean() < 0.5 * np.mean(begun)


@pytest.mark.parametrize(
  "name",
  ["adamm", "", "losses", "softmax_cross_entropy", "linear_schedule", "chain"],
)
def test_what_is_no_optimiser_is_refused(name):
  with pytest.raises(errors.UserError) as error:
    optimizers.make(name, 0.1)
  message = str(error.value)
  assert message.startswith(f"config.search.optimizer={name!r}")
  assert "adam, sgd, rmsprop, nadam, lion or lbfgs" in message


def test_the_cosine_falls_to_nothing():
  optimizer = optimizers.make("sgd", optimizers.schedule("cosine", 2.0, 4))
  state = optimizer.init(jnp.zeros(()))
  for step in range(6):
    update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
    rate = 1 + np.cos(np.pi * min(step, 4) / 4)
    np.testing.assert_allclose(update, -rate, atol=1e-6)
