import functools

import numpy as np
import pytest
from scipy import ndimage
import scipy.sparse
import scipy.sparse.linalg

from dcgan_inpaint import pixels
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.search import blending

FAMILIES = [family for family in mask_sets.FAMILIES if family != "file"]
# A whole hole, one at the border, scattered pixels, and lines.
some_families = pytest.mark.parametrize(
  "family",
  [
    family
    if family in ("centre", "half", "random_pixels", "strokes")
    else pytest.param(family, marks=pytest.mark.slow)
    for family in FAMILIES
  ],
)


@pytest.fixture(scope="module")
def pair():
  """Two sets of four faces in [-1, 1]: images, and generated images."""
  faces = pixels.to_float(synthetic.load("test", 8))
  return faces[:4], faces[4:]


def make_masks(family, count=4, height=64, width=64, **fields):
  settings = mask_settings.MaskSettings(family, **fields)
  return mask_sets.make(settings, range(count), height, width)


def holes(*boxes, height=64, width=64):
  """Returns one mask with a hole in each box (y0, y1, x0, x1)."""
  mask = np.ones((1, height, width, 1), np.float32)
  for top, bottom, left, right in boxes:
    mask[:, top:bottom, left:right] = 0
  return mask


def solve_directly(generated, image, mask, screen=0.0):
  """Solves the equation of `blending` by sparse LU in float64, edge by edge."""
  height, width, channels = image.shape
  number = np.arange(height * width).reshape(height, width)
  edges = np.concatenate(
    [
      np.stack([number[:, :-1], number[:, 1:]], -1).reshape(-1, 2),
      np.stack([number[:-1], number[1:]], -1).reshape(-1, 2),
    ]
  )
  ones = np.ones(len(edges))
  ends = height * width, height * width
  adjacent = scipy.sparse.coo_matrix((ones, edges.T), ends).tocsr()
  adjacent += adjacent.T
  laplacian = scipy.sparse.diags(adjacent.sum(1).A1 + screen) - adjacent
  hole = mask.ravel() < 0.5
  x = image.reshape(-1, channels).astype(np.float64)
  g = generated.reshape(-1, channels).astype(np.float64)
  right = (laplacian @ g)[hole] - laplacian[hole][:, ~hole] @ x[~hole]
  system = laplacian[hole][:, hole].tocsc()
  x[hole] = np.clip(scipy.sparse.linalg.spsolve(system, right), -1, 1)
  return x.reshape(image.shape)


@pytest.mark.parametrize("screen", [0.0, 0.1])
@pytest.mark.parametrize("family", FAMILIES)
def test_poisson_is_the_solution_of_a_direct_solver(pair, family, screen):
  images, generated = pair
  masks = make_masks(family)
  solution = blending.poisson(generated, images, masks, screen=screen)
  assert solution.residual.shape == (4,)
  assert np.max(solution.residual) < 2e-5
  solve = functools.partial(solve_directly, screen=screen)
  expected = list(map(solve, generated, images, masks))
  # An 8-bit level is 8e-3.
  np.testing.assert_allclose(solution.completed, expected, atol=3e-5)


@pytest.mark.parametrize(
  "mask",
  [
    holes((0, 5, 0, 7)),
    holes((10, 20, 0, 33)),
    holes((0, 20, 0, 3), (4, 9, 8, 33), (19, 20, 32, 33)),
    1 - holes((7, 8, 7, 8)),
    make_masks("random_pixels", 1),
  ],
  ids=["corner", "sides", "several", "one known", "scattered"],
)
@pytest.mark.parametrize("size", [(20, 33), (1, 33), (20, 1)])
def test_any_hole_in_an_image_of_any_size(pair, mask, size):
  height, width = size
  cut = np.s_[:1, :height, :width]
  images, generated, mask = pair[0][cut], pair[1][cut], mask[cut]
  if not mask.any():
    mask[:, -1, -1] = 1
  completed = blending.blend("poisson", generated, images, mask)
  expected = solve_directly(generated[0], images[0], mask[0])
  np.testing.assert_allclose(completed[0], expected, atol=3e-5)


@some_families
def test_an_offset_of_the_brightness_is_removed(pair, family):
  images, masks = pair[0] * np.float32(0.7), make_masks(family)
  offset = np.float32([0.25, -0.125, 0])
  completed = blending.blend("poisson", images - offset, images, masks)
  np.testing.assert_allclose(completed, images, atol=2e-5)


def test_without_gradients_the_hole_is_harmonic(pair):
  images, _ = pair
  masks = make_masks("centre")
  completed = blending.blend(
    "poisson", np.full_like(images, 0.5), images, masks
  )
  inside = completed[:, 16:48, 16:48]
  mean = sum(
    completed[:, 16 + dy : 48 + dy, 16 + dx : 48 + dx]
    for dy, dx in [(-1, 0), (1, 0), (0, -1), (0, 1)]
  )
  np.testing.assert_allclose(inside, mean / 4, atol=1e-5)
  # The extremes of a harmonic function lie on its rim.
  rim = np.concatenate(
    [
      images[:, [15, 48], 16:48].reshape(4, -1, 3),
      images[:, 16:48, [15, 48]].reshape(4, -1, 3),
    ],
    axis=1,
  )
  assert (inside <= rim.max(1)[:, None, None] + 1e-5).all()
  assert (inside >= rim.min(1)[:, None, None] - 1e-5).all()


@pytest.mark.parametrize("mode", blending.MODES)
@some_families
def test_known_pixels_are_kept_and_hidden_ones_not_seen(pair, mode, family):
  images, generated = pair
  masks = make_masks(family)
  completed = blending.blend(mode, generated, images, masks)
  assert completed.dtype == np.float32 and np.abs(completed).max() <= 1
  known = np.broadcast_to(masks > 0.5, images.shape)
  np.testing.assert_array_equal(completed[known], images[known])
  # Every hole has some of each.
  rng = np.random.default_rng(0)
  hidden = rng.choice([np.nan, np.inf, -0.3], images.shape)
  other = np.where(known, images, np.float32(hidden))
  np.testing.assert_array_equal(
    blending.blend(mode, generated, other, masks), completed
  )


@pytest.mark.parametrize("mode", blending.MODES)
def test_a_hole_over_everything_and_none_at_all(pair, mode):
  images, generated = pair
  everything = np.zeros((4, 64, 64, 1), np.float32)
  np.testing.assert_array_equal(
    blending.blend(mode, generated, images * np.nan, everything), generated
  )
  np.testing.assert_array_equal(
    blending.blend(mode, generated * np.nan, images, 1 - everything), images
  )
  solution = blending.poisson(generated, images, everything)
  np.testing.assert_array_equal(solution.residual, np.zeros(4))


@pytest.mark.parametrize("mode", blending.MODES)
def test_an_image_does_not_depend_on_its_neighbours(pair, mode):
  images, generated = pair
  masks = np.concatenate(
    [make_masks(family, 1) for family in ("half", "text", "border", "lines")]
  )
  completed = blending.blend(mode, generated, images, masks)
  for i in range(4):
    others = [i] * 4
    np.testing.assert_array_equal(
      blending.blend(mode, generated[others], images[others], masks[others])[0],
      completed[i],
    )
    one = slice(i, i + 1)
    np.testing.assert_array_equal(
      blending.blend(mode, generated[one], images[one], masks[one])[0],
      completed[i],
    )


def test_screened_fades_from_the_rim_over_as_many_pixels_of_g(pair):
  images, masks = pair[0], holes((16, 48, 0, 64)).repeat(4, 0)
  brighter = np.float32(0.3)
  completed = blending.blend(
    "screened", images * 0.5 - brighter, images * 0.5, masks
  )
  # Across a stripe the offset is a cosh: (2 + s) o = o above + o below.
  rate = np.arccosh(1 + blending.SCREEN / 2)
  across = np.cosh(rate * (np.arange(32) - 15.5)) / np.cosh(rate * 16.5)
  offset = completed - (images * 0.5 - brighter)
  expected = np.broadcast_to(
    brighter * across[:, None, None], offset[:, 16:48].shape
  )
  np.testing.assert_allclose(offset[:, 16:48], expected, atol=1e-5)
  # Pixels half as wide: the same decay over twice as many.
  generated = pair[1]
  np.testing.assert_array_equal(
    blending.blend("screened", generated, images, masks, scale=2.0),
    blending.poisson(
      generated, images, masks, screen=blending.SCREEN / 4
    ).completed,
  )


def test_many_images_are_blended_in_parts(pair, monkeypatch):
  images, generated = pair
  masks = make_masks("pattern")
  whole = blending.blend("poisson", generated, images, masks)
  monkeypatch.setattr(blending, "_BATCH", 3)
  parts = blending.blend("poisson", generated, images, masks)
  np.testing.assert_array_equal(parts, whole)
  assert blending.blend("poisson", *(x[:0] for x in (*pair, masks))).size == 0


def test_an_unknown_mode_is_refused(pair):
  with pytest.raises(ValueError, match="'alpha': choose one of paste, poisson"):
    blending.blend("alpha", *pair, make_masks("centre"))


def test_images_of_many_sizes_share_a_program(pair):
  images, generated = pair
  masks = make_masks("pattern")
  blending.poisson.clear_cache()
  for height, width in [(64, 64), (63, 64), (5, 9), (40, 1)]:
    cut = np.s_[:2, :height, :width]
    blending.blend("poisson", generated[cut], images[cut], masks[cut])
  assert blending.poisson._cache_size() == 1


def test_opencv_differs_near_the_rim_by_construction(pair):
  """OpenCV's `seamlessClone` solves another equation near the rim.

  It erodes its mask by three pixels, takes the gradients of the destination in
  that band, including true pixels under the hole, and solves over the whole
  bounding box, so that known pixels in it change too. On a mask that is three
  pixels larger, the band is known, and the two agree except near the rim.
  """
  cv2 = pytest.importorskip("cv2")
  images, generated = map(pixels.to_uint8, pair)
  masks = make_masks("centre")
  hole = masks[0, ..., 0] < 0.5

  def clone(image, source, hole):
    return cv2.seamlessClone(
      source, image, np.uint8(255 * hole), (32, 32), cv2.NORMAL_CLONE
    )

  ours = pixels.to_uint8(blending.blend("poisson", pair[1], pair[0], masks))
  larger = ndimage.binary_dilation(hole, np.ones((3, 3)), 3)
  difference = np.array(
    [
      clone(image, source, larger) - np.float64(mine)
      for image, source, mine in zip(images, generated, ours, strict=True)
    ]
  )
  difference = np.abs(difference).mean((0, 3))
  depth = ndimage.distance_transform_cdt(hole, "chessboard")
  pasted = np.abs(generated - np.float64(ours))[:, hole].mean()
  # In 8-bit levels; the error of G(z) itself is many times as large.
  assert difference[depth >= 8].mean() < 4 < difference[depth == 1].mean() < 12
  assert pasted > 20
  # With the unchanged mask, OpenCV reads the pixels under the hole.
  blanked = np.where(hole[..., None], np.uint8(128), images[0])
  change = np.float64(clone(blanked, generated[0], hole))
  change -= clone(images[0], generated[0], hole)
  assert np.abs(change)[hole].mean() > 10


def test_the_programs_of_few_shapes_are_kept(monkeypatch):
  kept = []
  poisson = type("Poisson", (), {"clear_cache": lambda self: kept.clear()})()
  poisson._cache_size = lambda: len(kept)
  monkeypatch.setattr(blending, "poisson", poisson)
  for shape in range(1, 4):
    kept.append(shape)
    blending.bound_cache(2)
    assert len(kept) == shape % 3
