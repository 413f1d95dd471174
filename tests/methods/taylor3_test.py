import numpy as np
import pytest

from dcgan_inpaint.methods import harmonic
from dcgan_inpaint.methods import taylor3
from dcgan_inpaint.methods import total_variation


def _disc():
  """Returns a disc of radius 12, and a gap of 10 columns across its edge."""
  y, x = np.mgrid[:40, :40] - 19.5
  inside = np.clip((np.hypot(x, y) - 12) / 1.4, -1, 1)
  masks = np.ones((1, 40, 40, 1), np.float32)
  masks[:, 3:14, 15:25] = 0
  return np.float32(inside[None, ..., None] * np.full(3, 0.8)), masks


def _error(method, images, masks):
  completed = method.complete(images, masks)
  return abs(completed - images)[masks[..., 0] == 0].mean()


@pytest.mark.slow
def test_an_arc_goes_on_bent_where_the_shortest_line_would_cut_it_off():
  images, masks = _disc()
  error = _error(taylor3, images, masks)
  assert error < 0.6 * _error(total_variation, images, masks)
  assert error < 0.4 * _error(harmonic, images, masks)


def test_a_straight_edge_is_continued():
  y, x = np.mgrid[:24, :24] - 11.5
  edge = np.clip(0.9 * x + 0.4 * y, -1, 1)[None, ..., None] * np.full(3, 0.8)
  masks = np.ones((1, 24, 24, 1), np.float32)
  masks[:, 9:15, 3:21] = 0
  images = np.float32(edge)
  blurred = _error(harmonic, images, masks)
  assert _error(taylor3, images, masks) < 0.3 * blurred


@pytest.mark.parametrize("slope", [0.15, 0.5, 2])
def test_the_curvature_of_a_cone_is_one_over_the_radius_at_any_contrast(slope):
  y, x = np.mgrid[:64, :64] - 31.5
  radius = np.hypot(x, y)
  curvature = taylor3._curvature(np.float32(slope * radius)[None])[0]
  expected = 1 / radius[1:-1, 1:-1]
  far = expected < 0.2
  np.testing.assert_allclose(curvature[far], expected[far], rtol=0.04)
