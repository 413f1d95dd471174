import numpy as np
import pytest

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import ridge


def _training(count=60, height=5, width=4):
  """Returns uint8 [N, H, W, 3] with correlated values."""
  rng = np.random.default_rng(0)
  latents = rng.normal(size=(count, 6))
  values = latents @ rng.normal(size=(6, height * width * 3)) * 20 + 128
  values += rng.normal(scale=4, size=values.shape)
  return np.uint8(np.clip(values, 0, 255)).reshape(-1, height, width, 3)


def _masks():
  """Returns masks of a few, of most and of no pixels known, one twice."""
  masks = np.ones((5, 5, 4, 1), np.float32)
  masks[0, 2:4, 1:3] = 0
  masks[1, :, :3] = 0
  masks[2, 2:4, 1:3] = 0
  masks[3] = 0
  return masks


def test_the_hole_is_what_the_normal_equations_predict():
  training = _training()
  images = pixels.to_float(_training()[::12])
  masks = _masks()
  weight = 0.03
  completed = ridge.complete(images, masks, ridge.fit(training, weight))
  x = training.reshape(60, -1) / 127.5 - 1
  mean = x.mean(0)
  x = x - mean
  for image, mask, result in zip(images, masks, completed, strict=True):
    known = np.broadcast_to(mask > 0, image.shape).ravel()
    a, b = x[:, known], x[:, ~known]
    # Ridge regression as an augmented least squares problem.
    penalty = np.sqrt(60 * weight) * np.eye(known.sum())
    coefficients, *_ = np.linalg.lstsq(
      np.concatenate([a, penalty]),
      np.concatenate([b, np.zeros((known.sum(), b.shape[1]))]),
    )
    expected = mean[~known] + (image.ravel() - mean)[known] @ coefficients
    np.testing.assert_allclose(
      result.ravel()[~known], np.clip(expected, -1, 1), atol=1e-4
    )


def test_images_of_another_size_are_refused():
  fitted = ridge.fit(_training())
  with pytest.raises(ValueError, match=r"\(5, 4, 3"):
    ridge.complete(
      np.zeros((1, 4, 5, 3), np.float32), np.ones((1, 4, 5, 1)), fitted
    )
