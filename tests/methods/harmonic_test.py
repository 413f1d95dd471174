import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import linalg
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import harmonic
from dcgan_inpaint.search import blending


def _solved_directly(image, hole):
  """Returns the harmonic image [H, W, C] by a sparse direct solve, float64."""
  height, width = hole.shape
  number = np.arange(hole.size).reshape(hole.shape)
  pairs = np.concatenate(
    [
      np.stack([number[1:].ravel(), number[:-1].ravel()], 1),
      np.stack([number[:, 1:].ravel(), number[:, :-1].ravel()], 1),
    ]
  )
  i, j = np.concatenate([pairs, pairs[:, ::-1]]).T
  joined = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(hole.size,) * 2)
  operator = (sparse.diags_array(joined.sum(1)) - joined).tocsr()
  unknown = hole.ravel()
  flat = image.reshape(hole.size, -1).astype(np.float64)
  flat[unknown] = linalg.spsolve(
    operator[unknown][:, unknown].tocsc(),
    -operator[unknown][:, ~unknown] @ flat[~unknown],
  )
  return flat.reshape(height, width, -1)


def _images(count, height, width):
  astronaut = pixels.to_float(skimage.data.astronaut())
  corners = np.random.default_rng(0).integers(0, 400, (count, 2))
  return np.stack([astronaut[y:, x:][:height, :width] for y, x in corners])


def test_holes_of_every_kind_are_those_of_a_sparse_direct_solve(monkeypatch):
  # The second batch overlaps the first by an image.
  monkeypatch.setattr(blending, "_BATCH", 3)
  images = _images(4, 40, 33)
  masks = np.ones((4, 40, 33, 1), np.float32)
  masks[0, 10:20, 8:30] = 0
  masks[1, :, :17] = 0
  masks[2] = np.random.default_rng(1).random((40, 33, 1)) < 0.2
  masks[3] = np.random.default_rng(2).random((40, 33, 1)) < 0.01
  completed = harmonic.complete(images, masks)
  for image, mask, result in zip(images, masks, completed, strict=True):
    expected = _solved_directly(image, mask[..., 0] == 0)
    np.testing.assert_allclose(result, expected, atol=2e-4)


def test_values_stay_in_the_range_of_the_rim():
  images = _images(1, 24, 24)
  masks = np.ones((1, 24, 24, 1), np.float32)
  masks[:, 6:18, 6:18] = 0
  completed = harmonic.complete(images, masks)[0, 6:18, 6:18]
  rim = images[0, 5:19, 5:19]
  assert (completed <= rim.max((0, 1)) + 1e-5).all()
  assert (completed >= rim.min((0, 1)) - 1e-5).all()


@pytest.mark.parametrize("method", ["harmonic", "total_variation", "bertalmio"])
def test_an_image_without_a_hole_is_kept_and_one_without_a_rim_is_grey(method):
  module = __import__(f"dcgan_inpaint.methods.{method}", fromlist=["complete"])
  images = _images(2, 24, 20)
  masks = np.ones((2, 24, 20, 1), np.float32)
  masks[1] = 0
  completed = module.complete(images, masks)
  np.testing.assert_array_equal(completed[0], images[0])
  np.testing.assert_array_equal(completed[1], np.zeros_like(images[1]))
  assert module.complete(images[:0], masks[:0]).shape == (0, 24, 20, 3)
