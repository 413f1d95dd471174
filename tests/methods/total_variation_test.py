import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import harmonic
from dcgan_inpaint.methods import total_variation


def _variation(image, smoothing=0.0):
  """Returns the total variation of [H, W, C], its colours coupled."""
  x = jnp.diff(image, axis=1, append=image[:, -1:])
  y = jnp.diff(image, axis=0, append=image[-1:])
  return jnp.sqrt((x**2 + y**2).sum(-1) + smoothing**2).sum()


def _hole(size, first, last):
  masks = np.ones((1, size, size, 1), np.float32)
  masks[:, first:last, first:last] = 0
  return masks


def test_the_least_variation_is_found_as_a_general_minimiser_finds_it():
  photograph = skimage.data.astronaut()[100:112, 200:212]
  images = pixels.to_float(photograph)[None]
  masks = _hole(12, 3, 9)
  inside = np.s_[3:9, 3:9]

  # Slightly smoothed, so that it has a gradient.
  @jax.jit
  @jax.value_and_grad
  def objective(values):
    image = jnp.asarray(images[0]).at[inside].set(values.reshape(6, 6, 3))
    return _variation(image, smoothing=1e-3)

  start = harmonic.complete(images, masks)[0][inside].ravel()
  best = optimize.minimize(objective, start, method="L-BFGS-B", jac=True)
  reference = images[0].astype(np.float64)
  reference[inside] = best.x.reshape(6, 6, 3)
  found = _variation(total_variation.complete(images, masks)[0])
  assert found <= _variation(reference) * 1.001
  assert found < 0.98 * _variation(harmonic.complete(images, masks)[0])


def test_a_row_is_filled_without_any_variation_beyond_its_ends():
  images = np.zeros((1, 1, 20, 3), np.float32)
  images[:, :, :5], images[:, :, 15:] = -0.5, 0.75
  masks = np.ones((1, 1, 20, 1), np.float32)
  masks[:, :, 5:15] = 0
  completed = total_variation.complete(images, masks)[0].astype(np.float64)
  # Any monotone filling is minimal: the step of 1.25 in three colours.
  assert abs(_variation(completed) - 1.25 * np.sqrt(3)) < 1e-3
  assert (np.diff(completed[0, :, 0]) > -1e-4).all()


def test_a_straight_edge_goes_on_sharp_through_a_narrow_gap():
  images = np.full((1, 24, 24, 3), -0.5, np.float32)
  images[:, :, 12:] = 0.5
  masks = np.ones((1, 24, 24, 1), np.float32)
  masks[:, 9:15, 4:20] = 0
  np.testing.assert_allclose(
    total_variation.complete(images, masks), images, atol=0.01
  )
