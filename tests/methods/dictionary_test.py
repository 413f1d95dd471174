import numpy as np
import pytest

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import dictionary


def _orthogonal_matching_pursuit(patch, known, atoms, nonzero):
  """Codes one patch by NumPy's least squares on the known values."""
  support, residual = [], patch[known]
  lengths = np.sqrt(np.sum(atoms[:, known] ** 2, axis=1) + 0.01)
  for _ in range(nonzero):
    gains = abs(atoms[:, known] @ residual) / lengths
    support.append(int(np.argmax(gains)))
    chosen = atoms[support][:, known].T
    codes = np.linalg.lstsq(chosen, patch[known], rcond=None)[0]
    residual = patch[known] - chosen @ codes
  return support, codes


def _unit_atoms(rng, count, size):
  atoms = rng.standard_normal((count, size))
  return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def test_pursuit_is_numpy_s_with_masked_least_squares():
  rng = np.random.default_rng(0)
  atoms = _unit_atoms(rng, 40, 48)
  patches = rng.standard_normal((9, 48))
  known = rng.random((9, 48)) < 0.5
  support, codes = dictionary.pursue(
    np.float32(patches), np.float32(known), np.float32(atoms), nonzero=5
  )
  for i in range(9):
    expected = _orthogonal_matching_pursuit(patches[i], known[i], atoms, 5)
    np.testing.assert_array_equal(support[i], expected[0])
    np.testing.assert_allclose(codes[i], expected[1], atol=1e-4)


def test_weights_are_those_of_weighted_least_squares():
  rng = np.random.default_rng(0)
  atoms, patches = _unit_atoms(rng, 3, 12), rng.standard_normal((4, 12))
  weights = rng.uniform(0.1, 1, (4, 12))
  # All atoms are used, in the given order, so that only the codes matter.
  support, codes = dictionary.pursue(
    *map(np.float32, (patches, weights, atoms)), nonzero=3, always=3
  )
  np.testing.assert_array_equal(support, [[0, 1, 2]] * 4)
  for patch, weight, found in zip(patches, weights, codes, strict=True):
    root = np.sqrt(weight)
    expected = np.linalg.lstsq((root * atoms).T, root * patch, rcond=None)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_sparse_patch_is_recovered_from_half_of_its_values():
  rng = np.random.default_rng(0)
  atoms = _unit_atoms(rng, 128, 192)
  truth = 2 * atoms[[3, 50]].sum(0) - atoms[100]
  known = rng.random(192) < 0.5
  support, codes = dictionary.pursue(
    np.float32(truth * known)[None],
    np.float32(known)[None],
    np.float32(atoms),
    nonzero=3,
  )
  assert set(np.ravel(support)) == {3, 50, 100}
  np.testing.assert_allclose(codes[0] @ atoms[support[0]], truth, atol=1e-4)


@pytest.mark.parametrize("values", ["none known", "atom repeated"])
def test_an_atom_that_adds_nothing_gets_no_code(values):
  atoms = np.float32([[1, 0, 0], [1, 0, 0]])
  known = np.float32([[0, 0, 0]] if values == "none known" else [[1, 1, 1]])
  _, codes = dictionary.pursue(
    np.float32([[1, 2, 3]]), known, atoms, nonzero=2, always=2
  )
  np.testing.assert_array_equal(codes, [[known[0, 0], 0]])


def _faces(count, size=16, seed=0):
  """Returns uint8 [count, size, size, 3]: stripes of four kinds, any phase."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:size, :size]
  waves = np.array([(0.8, 0), (0, 0.8), (0.6, 0.6), (0.6, -0.6)])
  vertical, horizontal = waves[rng.integers(4, size=count)].T[..., None, None]
  phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
  grey = 0.7 * np.sin(vertical * y + horizontal * x + phase)
  return pixels.to_uint8(np.repeat(grey[..., None], 3, axis=-1))


@pytest.fixture(scope="module")
def fitted():
  return dictionary.fit(
    _faces(200), atoms=32, nonzero=3, batches=40, batch_size=64
  )


def test_atoms_have_length_one_no_colour_and_code_new_patches(fitted):
  assert fitted.dictionaries.shape == (2, 32, 192)
  atoms = fitted.dictionaries[0]
  np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1, atol=1e-5)
  means = atoms.reshape(32, 64, 3).mean(1)
  np.testing.assert_allclose(means, 0, atol=1e-5)
  patches = pixels.to_float(_faces(50, size=8, seed=1)).reshape(50, 64, 3)
  patches = (patches - patches.mean(1, keepdims=True)).reshape(50, -1)

  def error(atoms):
    support, codes = dictionary.pursue(
      patches, np.ones_like(patches), atoms, nonzero=3
    )
    coded = np.einsum("bs,bsd->bd", codes, atoms[support])
    return np.mean((coded - patches) ** 2) / np.mean(patches**2)

  # Learned atoms are better than 32 random training patches.
  drawn = pixels.to_float(_faces(32, size=8, seed=2)).reshape(32, 64, 3)
  drawn = (drawn - drawn.mean(1, keepdims=True)).reshape(32, -1)
  drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
  assert error(atoms) < min(0.02, error(drawn))


def _images(height=16, width=16):
  images = pixels.to_float(_faces(4, size=20, seed=3))[:, :height, :width]
  masks = np.ones((4, height, width, 1), np.float32)
  masks[:, 5:11, 4:10] = 0
  masks[1, :, 10:] = 0  # At the border.
  masks[2] = np.random.default_rng(0).random((height, width, 1)) < 0.3
  return images, masks


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_stripes_go_on_in_the_hole_and_known_pixels_keep_their_bits(
  fitted, size
):
  images, masks = _images(*size)
  completed = dictionary.complete(images, masks, fitted, nonzero=3)
  assert completed.dtype == np.float32
  assert abs(completed).max() <= 1
  known = np.broadcast_to(masks == 1, images.shape)
  np.testing.assert_array_equal(completed[known], images[known])
  error = np.mean((completed - images)[~known] ** 2)
  assert error < 0.3 * np.mean(images[~known] ** 2)


@pytest.mark.slow
def test_the_true_pixels_in_the_hole_do_not_matter(fitted):
  images, masks = _images()
  # Every hole has some of both.
  hidden = np.random.default_rng(1).choice([1, np.nan], images.shape)
  other = np.where(masks == 1, images, np.float32(hidden))
  np.testing.assert_array_equal(
    dictionary.complete(other, masks, fitted, nonzero=3),
    dictionary.complete(images, masks, fitted, nonzero=3),
  )


@pytest.mark.slow
def test_an_image_does_not_depend_on_its_neighbours(fitted, monkeypatch):
  monkeypatch.setattr(dictionary, "_IMAGES_AT_ONCE", 3)  # One batch is short.
  images, masks = _images()
  together = dictionary.complete(images, masks, fitted, nonzero=3)
  for i in range(4):
    alone = dictionary.complete(
      images[i : i + 1], masks[i : i + 1], fitted, nonzero=3
    )
    # Not to the bit on every processor: the last bit of a matrix product may
    # depend on a row's position in it.
    np.testing.assert_allclose(alone[0], together[i], atol=1e-7)


def test_an_image_without_a_hole_is_kept_and_one_without_a_rim_is_grey(fitted):
  images, masks = (x[:2] for x in _images())
  masks[0], masks[1] = 1, 0
  completed = dictionary.complete(images, masks, fitted, nonzero=3)
  np.testing.assert_array_equal(completed[0], images[0])
  np.testing.assert_array_equal(completed[1], np.zeros_like(images[1]))
  none = dictionary.complete(images[:0], masks[:0], fitted)
  assert none.shape == (0, 16, 16, 3)


def test_fitting_is_repeatable_and_refuses_images_smaller_than_a_patch():
  images = _faces(5, size=8)
  once, again = (
    dictionary.fit(images, atoms=4, nonzero=2, batches=2, batch_size=8)
    for _ in range(2)
  )
  np.testing.assert_array_equal(once.dictionaries, again.dictionaries)
  assert once.dictionaries.shape == (1, 4, 192)
  with pytest.raises(ValueError, match="7x8"):
    dictionary.fit(images[:, :7])


@pytest.mark.slow
def test_flat_training_images_do_no_harm():
  flat = np.full((3, 8, 8, 3), 100, np.uint8)
  found = dictionary.fit(flat, atoms=4, nonzero=2, batches=2, batch_size=8)
  assert np.isfinite(found.dictionaries).all()
  masks = np.ones((3, 8, 8, 1), np.float32)
  masks[:, 2:5, 2:5] = 0
  completed = dictionary.complete(
    pixels.to_float(flat), masks, found, nonzero=2
  )
  np.testing.assert_allclose(completed, pixels.to_float(flat), atol=1e-4)
