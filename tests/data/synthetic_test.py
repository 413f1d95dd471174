import numpy as np
from PIL import Image
import pytest
from skimage import restoration

from dcgan_inpaint.data import synthetic
from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import errors

HOLE = np.zeros((64, 64), bool)
HOLE[16:48, 16:48] = True


@pytest.fixture(scope="module")
def faces():
  return synthetic.load("train", 1000)


def test_the_same_seed_draws_the_same_face():
  np.testing.assert_array_equal(
    synthetic.load("test", 20, seed=3), synthetic.load("test", 20, seed=3)
  )


def test_a_face_does_not_depend_on_its_batch(faces):
  seeds = np.random.default_rng(0).permutation(37)  # No multiple of a chunk.
  together = synthetic.draw(seeds)
  for seed, face in zip(seeds, together, strict=True):
    np.testing.assert_array_equal(synthetic.draw([seed])[0], face)


def test_a_smaller_count_is_the_beginning_of_a_larger(faces):
  np.testing.assert_array_equal(synthetic.load("train", 5), faces[:5])


def test_every_part_lies_in_the_rows_that_are_painted_for_it(monkeypatch):
  seeds = np.random.default_rng(1).integers(0, 2**40, 500)
  images = synthetic.draw(seeds)
  monkeypatch.setattr(synthetic, "_rows", lambda top, bottom, scale: (...,))
  np.testing.assert_array_equal(images, synthetic.draw(seeds))


def test_a_large_set_is_cached_and_a_small_one_is_not(tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "FOLDER", str(tmp_path / "arrays"))
  monkeypatch.setattr(synthetic, "_FEWEST_TO_CACHE", 8)
  synthetic.load("train", 7)
  assert not (tmp_path / "arrays").exists()
  sets = [("train", 8), ("train", 9), ("test", 8), ("train", 8, 1)]
  drawn = [synthetic.load(*arguments) for arguments in sets]
  assert len(list((tmp_path / "arrays").iterdir())) == len(sets)
  monkeypatch.delattr(synthetic, "draw")
  for arguments, images in zip(sets, drawn, strict=True):
    np.testing.assert_array_equal(synthetic.load(*arguments), images)


@pytest.mark.parametrize("size", [32, 128, 256])
def test_other_sizes_show_the_same_faces(size):
  seeds = range(12)
  usual = np.float32(synthetic.draw(seeds))
  faces = np.float32(synthetic.draw(seeds, size))
  assert faces.shape == (12, size, size, 3)
  # The finer one, by the means of its blocks, is the coarser one but for edges.
  least, most = sorted([usual, faces], key=lambda x: x.shape[1])
  side, block = least.shape[1], most.shape[1] // least.shape[1]
  means = most.reshape(12, side, block, side, block, 3).mean((2, 4))
  error = np.abs(means - least).mean((1, 2, 3))
  assert error.max() < 3
  # Two faces differ by far more.
  assert np.abs(means - least[::-1]).mean() > 15


def test_every_part_lies_in_its_rows_at_other_sizes_too(monkeypatch):
  drawn = {size: synthetic.draw(range(40), size) for size in (32, 128)}
  monkeypatch.setattr(synthetic, "_rows", lambda top, bottom, scale: (...,))
  for size, images in drawn.items():
    np.testing.assert_array_equal(images, synthetic.draw(range(40), size))


def test_grey_faces_are_the_luma_of_the_coloured_ones(tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "FOLDER", str(tmp_path))
  coloured = synthetic.load("test", 5, image_size=32)
  grey = synthetic.load("test", 5, image_size=32, channels=1)
  assert grey.shape == (5, 32, 32, 1)
  for one, other in zip(coloured, grey, strict=True):
    expected = np.asarray(Image.fromarray(one).convert("L"))
    np.testing.assert_array_equal(other[..., 0], expected)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_images_are_8_bit_and_use_the_range(split):
  images = synthetic.load(split, 64)
  assert images.shape == (64, 64, 64, 3)
  assert images.dtype == np.uint8
  assert images.min() < 30
  assert images.max() > 240


def test_no_two_splits_or_seeds_share_a_face():
  sets = [
    synthetic.load(split, 48, seed)
    for split in ("train", "validation", "test")
    for seed in (0, 1)
  ]
  images = np.concatenate(sets).reshape(6 * 48, -1)
  assert len(np.unique(images, axis=0)) == len(images)


def test_all_is_the_three_splits_in_order(monkeypatch):
  sizes = {"train": 20, "validation": 5, "test": 7, "all": 32}
  monkeypatch.setattr(synthetic, "DEFAULT_SIZES", sizes)
  parts = [synthetic.load(split) for split in ("train", "validation", "test")]
  assert [len(part) for part in parts] == [20, 5, 7]
  everything = np.concatenate(parts)
  np.testing.assert_array_equal(synthetic.load("all"), everything)
  np.testing.assert_array_equal(synthetic.load("all", 22), everything[:22])


def test_the_size_of_all_is_the_sum_of_the_splits():
  sizes = dict(synthetic.DEFAULT_SIZES)
  assert sizes.pop("all") == sum(sizes.values())


def test_every_part_of_the_picture_varies(faces):
  spread = faces.std(axis=0, dtype=np.float64).mean(axis=-1)
  assert spread.min() > 10
  assert spread[HOLE].mean() > 40


@pytest.mark.parametrize(
  "traits",
  [
    ("eye_height", "iris_size", "iris", "gaze"),
    ("brow_gap", "brow_slant", "brow_size"),
    ("nose_y", "nose_size"),
    ("smile", "mouth_open", "mouth_y", "mouth_width"),
  ],
  ids=lambda names: names[0].split("_")[0],
)
def test_features_lie_in_the_centre_hole(traits):
  """Changes one feature of each face; only pixels of the hole may change."""
  before = synthetic._traits(np.arange(200))
  after = before | {name: before[name][::-1] for name in traits}
  one, other = (synthetic._paint(t, 64).astype(int) for t in (before, after))
  changed = np.abs(one - other).max(axis=-1)
  assert (changed[:, HOLE].max(axis=1) > 0).all()
  assert changed[:, ~HOLE].max() == 0


@pytest.mark.slow
def test_the_hole_needs_a_model_of_faces(faces):
  """Diffusion fails where even a linear model of faces does far better.

  Ridge regression of the hole on the known pixels, in its dual form.
  """
  train = faces / 255.0
  test = synthetic.load("test", 12) / 255.0
  known = train[:, ~HOLE].reshape(len(train), -1)
  hole = train[:, HOLE].reshape(len(train), -1)
  centred = known - known.mean(axis=0)
  gram = centred @ centred.T + 30 * np.eye(len(train))
  weights = np.linalg.solve(gram, hole - hole.mean(axis=0))
  shifted = test[:, ~HOLE].reshape(len(test), -1) - known.mean(axis=0)
  ridge = shifted @ centred.T @ weights + hole.mean(axis=0)
  diffused = np.stack(
    [
      restoration.inpaint_biharmonic(image, HOLE, channel_axis=-1)[HOLE]
      for image in test
    ]
  ).reshape(len(test), -1)
  truth = test[:, HOLE].reshape(len(test), -1)

  def error(fill):
    return np.square(np.clip(fill, 0, 1) - truth).mean()

  assert error(diffused) > 2.5 * error(ridge)
  assert error(hole.mean(axis=0)) > 2 * error(ridge)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("training", 1), "train, validation, test, all"),
    (("all", 5000), "'all'.*4608.*5000"),
    (("train", 1, -1), r"config\.data\.seed=-1.*4294967295"),
  ],
)
def test_wrong_arguments_are_refused(arguments, message):
  with pytest.raises(errors.UserError, match=message):
    synthetic.load(*arguments)
