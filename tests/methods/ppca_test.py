import numpy as np
import pytest

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import ppca

_SHAPE = (6, 5, 3)


def _training(count=400, latents=4):
  """Returns uint8 [N, 6, 5, 3] of a linear generator with noise."""
  rng = np.random.default_rng(0)
  z = rng.normal(size=(count, latents))
  values = z @ rng.normal(size=(latents, np.prod(_SHAPE))) * 15 + 128
  values += rng.normal(scale=5, size=values.shape)
  return np.uint8(np.clip(np.round(values), 0, 255)).reshape(-1, *_SHAPE)


def test_components_and_noise_are_those_of_the_whole_eigenproblem():
  training = _training()
  fitted = ppca.fit(training, components=4)
  x = training.reshape(len(training), -1) / 127.5 - 1
  values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
  noise = values[:-4].mean()
  np.testing.assert_allclose(fitted.noise, noise, rtol=1e-3)
  np.testing.assert_allclose(
    fitted.variances, values[:-5:-1] - noise, rtol=1e-3
  )
  same = abs(fitted.components.T @ vectors[:, :-5:-1])
  np.testing.assert_allclose(same, np.eye(4), atol=1e-3)


@pytest.mark.parametrize("noise_factor", [1, 25])
def test_the_hole_is_the_gaussian_s_conditional_mean(monkeypatch, noise_factor):
  monkeypatch.setattr(ppca, "_BATCH", 2)  # Three images share a mask.
  training = _training()
  images = pixels.to_float(training[:6])
  masks = np.ones((6, *_SHAPE[:2], 1), np.float32)
  masks[:3, 1:4, 1:4] = 0
  masks[3, :, :4] = 0
  masks[4] = 0
  fitted = ppca.fit(training, components=4)
  completed = ppca.complete(images, masks, fitted, noise_factor)
  generator = fitted.components * np.sqrt(fitted.variances.astype(np.float64))
  noise = noise_factor * fitted.noise * np.eye(len(generator))
  covariance = generator @ generator.T + noise
  mean = fitted.mean.ravel()
  for image, mask, result in zip(images, masks, completed, strict=True):
    known = np.broadcast_to(mask > 0, _SHAPE).ravel()
    expected = mean[~known] + covariance[np.ix_(~known, known)] @ (
      np.linalg.solve(
        covariance[np.ix_(known, known)], (image.ravel() - mean)[known]
      )
    )
    np.testing.assert_allclose(
      result.ravel()[~known], np.clip(expected, -1, 1), atol=1e-4
    )


def test_few_images_leave_some_noise():
  fitted = ppca.fit(_training(count=12), components=50)
  assert fitted.components.shape == (90, 3)
  assert fitted.noise > 0
  same = ppca.fit(np.repeat(_training(count=1), 8, axis=0))
  assert np.isfinite(same.components).all() and same.noise > 0
