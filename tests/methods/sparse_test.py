"""The frames, the solver, and the three methods that use them."""

import numpy as np
import pytest
import scipy.fft

from dcgan_inpaint.methods import mca
from dcgan_inpaint.methods import sparse
from dcgan_inpaint.methods import sparse_dct
from dcgan_inpaint.methods import sparse_wavelet

# The third needs two frames, and as long as the two others.
METHODS = [
  sparse_dct, sparse_wavelet, pytest.param(mca, marks=pytest.mark.slow)
]  # fmt: skip


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
  """Keeps the solver from padding each few images to a batch of 16."""
  monkeypatch.setattr(sparse, "_IMAGES_AT_ONCE", 3)


def _frames(height, width):
  return {
    "global": sparse.global_cosines(height, width),
    "local": sparse.local_cosines(height, width, 8),
    "wavelets": sparse.wavelets(height, width, 3),
  }


def _images(height=20, width=17):
  """Returns float32 [4, H, W, 3] smooth images and masks of several kinds."""
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:height, :width] / 8
  phases = rng.uniform(0, 6, (4, 1, 1, 3))
  images = np.sin(y[..., None] + phases) * np.cos(x[..., None] - phases)
  masks = np.ones((4, height, width, 1), np.float32)
  masks[:, 6:14, 5:12] = 0
  masks[1, :, 10:] = 0  # At the border.
  masks[2] = rng.random((height, width, 1)) < 0.2
  return np.float32(images), masks


def test_the_global_frame_is_scipy_s_orthonormal_dct():
  image = np.random.default_rng(0).standard_normal((6, 9)).astype(np.float32)
  (found,) = sparse.global_cosines(6, 9).analyse(image)
  expected = scipy.fft.dctn(image, norm="ortho")
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_block_of_the_local_frame_is_scipy_s_dct_under_the_window():
  image = np.random.default_rng(0).standard_normal((12, 16)).astype(np.float32)
  (found,) = sparse.local_cosines(12, 16, 8).analyse(image)
  window = np.sin(np.pi * (np.arange(8) + 0.5) / 8)
  # Blocks start at -4, 0, 4, ...: the second along the height begins at row 0,
  # the third along the width at column 4.
  block = image[:8, 4:12] * np.outer(window, window)
  expected = scipy.fft.dctn(block, norm="ortho")
  np.testing.assert_allclose(found[8:16, 16:24], expected, atol=1e-5)


def test_wavelets_are_those_of_pywavelets():
  pywt = pytest.importorskip("pywt")
  image = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
  found = sparse.wavelets(16, 16, 2).analyse(image)
  expected = pywt.swt2(image, "db2", 2, trim_approx=True, norm=True)

  def sizes(bands):  # Shifts and signs are each library's own.
    return [np.sort(abs(np.ravel(band))) for band in bands]

  for level, details in zip((1, 0), expected[1:], strict=True):
    ours = sizes(found[3 * level : 3 * level + 3])
    np.testing.assert_allclose(
      sorted(ours, key=np.sum), sorted(sizes(details), key=np.sum), atol=1e-5
    )
  np.testing.assert_allclose(sizes(found[-1:]), sizes(expected[:1]), atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (13, 10), (5, 3)])
@pytest.mark.parametrize("name", ["global", "local", "wavelets"])
def test_frames_are_parseval_at_any_size(name, size):
  frame = _frames(*size)[name]
  image = np.random.default_rng(0).standard_normal((2, *size))
  image = image.astype(np.float32)
  coefficients = frame.analyse(image)
  np.testing.assert_allclose(frame.synthesise(coefficients), image, atol=1e-5)
  energy = sum(np.sum(np.square(c)) for c in coefficients)
  np.testing.assert_allclose(energy, np.sum(image**2), rtol=1e-5)


def test_a_block_of_an_odd_side_is_refused():
  with pytest.raises(ValueError, match="side of 7"):
    sparse.local_cosines(16, 16, 7)


@pytest.mark.parametrize("name", ["global", "local", "wavelets"])
def test_norms_are_the_lengths_of_the_atoms(name):
  frame = _frames(16, 16)[name]
  coefficients = frame.analyse(np.zeros((16, 16), np.float32))
  rng = np.random.default_rng(0)
  for band, norm in enumerate(frame.norms()):
    place = tuple(rng.integers(n) for n in coefficients[band].shape)
    atom = [np.zeros(c.shape, np.float32) for c in coefficients]
    atom[band][place] = 1
    length = np.linalg.norm(frame.synthesise(atom))
    expected = np.broadcast_to(norm, coefficients[band].shape)[place]
    # The last band of the wavelets has 0: it is always kept.
    if expected:
      np.testing.assert_allclose(length, expected, rtol=1e-4)


def test_with_everything_known_one_step_keeps_the_large_coefficients():
  rng = np.random.default_rng(0)
  image = rng.uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
  (part,) = sparse.decompose(
    image,
    np.ones((1, 8, 8, 1), np.float32),
    (sparse.global_cosines(8, 8),),
    np.float32([0.7]),
  )
  # Hard thresholding minimises the squared error plus 0.7^2 per group kept: in
  # an orthonormal basis each group of three colours is independent.
  mean = image.mean((1, 2), keepdims=True)
  groups = scipy.fft.dctn((image - mean)[0], axes=(0, 1), norm="ortho")
  groups[np.linalg.norm(groups, axis=-1) <= 0.7] = 0
  expected = mean + scipy.fft.idctn(groups, axes=(0, 1), norm="ortho")
  np.testing.assert_allclose(part, expected, atol=1e-5)


def test_a_sparse_image_is_recovered_from_a_third_of_its_pixels():
  rng = np.random.default_rng(0)
  coefficients = np.zeros((32, 32, 3))
  places = rng.choice(32 * 32, 12, replace=False)
  coefficients.reshape(-1, 3)[places] = rng.uniform(1, 2, (12, 3))
  image = scipy.fft.idctn(coefficients, axes=(0, 1), norm="ortho")[None]
  image = np.float32(image)
  masks = (rng.random((1, 32, 32, 1)) < 1 / 3).astype(np.float32)
  assert abs(image[masks[..., 0] == 0]).max() > 0.1
  completed = sparse_dct.complete(
    image * masks, masks, block=0, iterations=200, first=4
  )
  np.testing.assert_allclose(completed, image, atol=1e-3)


@pytest.mark.slow
def test_mca_tells_a_cartoon_from_a_texture_and_fills_both(monkeypatch):
  monkeypatch.setattr(sparse, "_IMAGES_AT_ONCE", 1)
  y, x = np.mgrid[:48, :48]
  cartoon = np.where((x > 9) & (x < 36) & (y > 7) & (y < 40), 0.4, -0.2)
  texture = 0.3 * np.cos(2.3 * x + 0.2) * np.cos(2.6 * y)
  image = np.repeat((cartoon + texture)[None, ..., None], 3, 3)
  image = np.float32(image)
  rng = np.random.default_rng(0)
  masks = (rng.random((1, 48, 48, 1)) < 0.6).astype(np.float32)
  frames = mca.texture_and_cartoon(48, 48)
  found_texture, found_cartoon = sparse.decompose(
    image * masks, masks, frames, sparse.falling(16, 0.05, 100)
  )
  # The mean is part of the first part, not of the texture.
  found_texture = found_texture - found_texture.mean()
  found_cartoon = found_cartoon - found_cartoon.mean() + cartoon.mean()
  for part, truth in [(found_texture, texture), (found_cartoon, cartoon)]:
    correlation = np.corrcoef(part[0, ..., 0].ravel(), truth.ravel())[0, 1]
    assert correlation > 0.9
  one = sparse_wavelet.complete(image * masks, masks)
  both = mca.complete(image * masks, masks)
  assert np.mean((both - image) ** 2) < 0.5 * np.mean((one - image) ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_smooth_holes_are_filled_and_known_pixels_keep_their_bits(method):
  images, masks = _images()
  completed = method.complete(images, masks)
  assert completed.dtype == np.float32
  assert abs(completed).max() <= 1
  known = np.broadcast_to(masks == 1, images.shape)
  np.testing.assert_array_equal(completed[known], images[known])
  hole = ~known
  error = np.mean((completed - images)[hole] ** 2)
  # Grey would leave all of the images' energy.
  assert error < 0.5 * np.mean(images[hole] ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_the_true_pixels_in_the_hole_do_not_matter(method):
  images, masks = _images()
  # Every hole has some of both.
  hidden = np.random.default_rng(1).choice([1, np.nan], images.shape)
  other = np.where(masks == 1, images, np.float32(hidden))
  np.testing.assert_array_equal(
    method.complete(other, masks), method.complete(images, masks)
  )


@pytest.mark.parametrize("method", METHODS)
def test_an_image_does_not_depend_on_its_neighbours(method):
  images, masks = _images()  # Two batches, the second one short.
  together = method.complete(images, masks)
  for i in range(4):
    alone = method.complete(images[i : i + 1], masks[i : i + 1])
    np.testing.assert_array_equal(alone[0], together[i])


@pytest.mark.parametrize("method", METHODS)
def test_an_image_without_a_hole_is_kept_and_one_without_a_rim_is_grey(method):
  images, masks = (x[:2] for x in _images())
  masks[0], masks[1] = 1, 0
  completed = method.complete(images, masks)
  np.testing.assert_array_equal(completed[0], images[0])
  np.testing.assert_array_equal(completed[1], np.zeros_like(images[1]))
  assert method.complete(images[:0], masks[:0]).shape == (0, 20, 17, 3)
