import numpy as np
import pytest
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.search import spline

ENERGIES = {
  "membrane": spline.Energy(membrane=1),
  "screened": spline.Energy(screen=0.2, membrane=1),
  "plate": spline.Energy(membrane=0.1, plate=1),
  "third": spline.Energy(membrane=0.01, third=1),
}
ASTRONAUT = pixels.to_float(skimage.data.astronaut())


def laplacian(height, width):
  """Returns the Laplacian of a whole grid, dense, from its edges."""
  number = np.arange(height * width).reshape(height, width)
  matrix = np.zeros([height * width] * 2)
  for one, other in (
    (number[1:], number[:-1]),
    (number[:, 1:], number[:, :-1]),
  ):
    for i, j in zip(one.ravel(), other.ravel(), strict=True):
      matrix[[i, j], [i, j]] += 1
      matrix[[i, j], [j, i]] -= 1
  return matrix


@pytest.mark.parametrize("name", ENERGIES)
def test_the_energy_is_the_lowest(name):
  """Against dense matrices, of a hole at the border and one within."""
  height, width = 14, 17
  image = ASTRONAUT[100:, 200:][:height, :width]
  hole = np.zeros((height, width), bool)
  hole[:4, 3:6] = hole[8:11, 9:15] = hole[13, 16] = True
  energy = ENERGIES[name]
  grid = laplacian(height, width)
  powers = [np.linalg.matrix_power(grid, order) for order in range(4)]
  matrix = sum(x * power for x, power in zip(energy, powers, strict=True))
  unknown = hole.ravel()
  right = -matrix[unknown][:, ~unknown] @ image[~hole]
  expected = np.linalg.solve(matrix[unknown][:, unknown], right)
  hidden = np.where(hole[..., None], np.nan, image)
  found = spline.extend(hidden, hole, energy)
  np.testing.assert_allclose(found[hole], expected, atol=1e-5)
  np.testing.assert_array_equal(found[~hole], image[~hole])


def test_conjugate_gradients_find_the_same(monkeypatch):
  image, hole = ASTRONAUT[:64, :64], np.zeros((64, 64), bool)
  hole[20:30, 20:30] = True
  expected = spline.extend(image, hole, ENERGIES["plate"])
  monkeypatch.setattr(spline, "_MOST_FACTORED", 0)
  found = spline.extend(image, hole, ENERGIES["plate"])
  np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("name", ENERGIES)
def test_a_wide_hole_solved_at_half_the_size_is_as_good(monkeypatch, name):
  energy = ENERGIES[name]
  image, hole = ASTRONAUT[50:200, 180:330], np.zeros((150, 150), bool)
  hole[50:95, 40:110] = True
  found = spline.extend(image, hole, energy)
  monkeypatch.setattr(spline, "_REACH", 1000)
  exact = spline.extend(image, hole, energy)
  error, least = (
    np.sqrt(np.mean((x - image)[hole] ** 2)) for x in (found, exact)
  )
  assert error < 1.02 * least
  assert np.abs(found - exact)[hole].max() > 0  # Another way was gone.


@pytest.mark.parametrize("name", ["membrane", "plate", "third"])
def test_a_constant_is_extended_exactly_at_any_size(name):
  hole = np.zeros((90, 120), bool)
  hole[10:80, 20:100] = True
  values = np.full((90, 120, 2), 0.25, np.float32)
  found = spline.extend(values, hole, ENERGIES[name])
  np.testing.assert_allclose(found, values, atol=1e-5)


@pytest.mark.parametrize("all_hole", [False, True])
def test_nothing_and_everything(all_hole):
  hole = np.full((8, 9), all_hole)
  found = spline.extend(ASTRONAUT[:8, :9], hole, ENERGIES["plate"])
  expected = np.zeros_like(found) if all_hole else ASTRONAUT[:8, :9]
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ENERGIES)
def test_an_energy_is_the_same_at_another_size(name):
  def lowest(size, energy):
    wave = np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)
    terms = [
      np.sum(wave * (np.linalg.matrix_power(laplacian(1, size), k) @ wave))
      for k in range(4)
    ]
    return np.dot(energy, terms)

  energy = ENERGIES[name]
  coarse = lowest(40, energy.at_scale(2))
  # A row of pixels has half as many that are twice as wide.
  assert 2 * coarse == pytest.approx(lowest(80, energy), rel=0.03)


def test_a_piece_is_as_thick_as_the_largest_disc_in_it():
  hole = np.zeros((40, 60), bool)
  hole[2:5, 2:50] = True  # 3 pixels thick, 48 long.
  hole[10:31, 10:31] = True
  hole[36, 40] = True
  label, thickness = spline.pieces(hole)
  thick = thickness[label]
  assert thick[3, 20] == 3 and thick[36, 40] == 1 and thick[0, 0] == 0
  assert thick[20, 20] == thick[10, 10] == 21
  joined = hole.copy()
  joined[5:10, 20] = True  # One piece with the square.
  label, thickness = spline.pieces(hole, joined)
  assert thickness[label][3, 40] == 21 and not label[7, 20]
  label, thickness = spline.pieces(np.ones((4, 9), bool))
  assert thickness[label].min() == 9
  label, thickness = spline.pieces(np.zeros((4, 9), bool))
  assert not thickness[label].any()
