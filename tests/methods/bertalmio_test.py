import numpy as np
import pytest

from dcgan_inpaint.methods import bertalmio
from dcgan_inpaint.methods import harmonic


def _edge(angle):
  """Returns an edge of the given slant, and a gap of 6 rows across it."""
  y, x = np.mgrid[:24, :24] - 11.5
  distance = np.cos(angle) * x + np.sin(angle) * y
  images = np.clip(distance, -1, 1)[None, ..., None] * np.full(3, 0.8)
  masks = np.ones((1, 24, 24, 1), np.float32)
  masks[:, 9:15, 3:21] = 0
  return np.float32(images), masks


def _error(method, images, masks):
  completed = method.complete(images, masks)
  return abs(completed - images)[masks[..., 0] == 0].mean()


@pytest.mark.parametrize("angle", [0, 0.4, np.pi / 4])
def test_an_edge_is_continued_through_a_gap_that_diffusion_blurs(angle):
  images, masks = _edge(angle)
  blurred = _error(harmonic, images, masks)
  assert _error(bertalmio, images, masks) < 0.35 * blurred


@pytest.mark.parametrize(
  "kind", [pytest.param("half", marks=pytest.mark.slow), "random"]
)
def test_large_holes_of_noise_stay_finite_and_in_range(kind):
  rng = np.random.default_rng(0)
  images = np.sign(rng.normal(size=(2, 24, 24, 3))).astype(np.float32)
  masks = np.ones((2, 24, 24, 1), np.float32)
  if kind == "half":
    masks[:, :, :12] = 0
  else:
    masks = np.float32(rng.random(masks.shape) < 0.2)
  completed = bertalmio.complete(images, masks)
  assert np.isfinite(completed).all() and abs(completed).max() <= 1
