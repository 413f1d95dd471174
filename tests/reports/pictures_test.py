import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

import dcgan_inpaint
from dcgan_inpaint.reports import pictures


@pytest.fixture
def images():
  shape = (5, 8, 6, 3)
  return np.random.default_rng(0).integers(0, 200, shape, np.uint8)


def read_png(path):
  with Image.open(path) as image:
    assert image.format == "PNG"
    return np.asarray(image)


@pytest.mark.parametrize("shape", [(8, 6, 3), (8, 6)])
def test_a_png_comes_back_to_the_bit(tmp_path, shape):
  image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  path = tmp_path / "new" / "folder" / "image.png"
  pictures.save_png(path, image)
  np.testing.assert_array_equal(read_png(path), image)
  assert list(path.parent.iterdir()) == [path]


def test_grey_images_make_grey_pictures(tmp_path, images):
  grey = images[..., :1]
  pictures.save_png(tmp_path / "image.png", grey[0])
  np.testing.assert_array_equal(
    pictures.load_png(tmp_path / "image.png"), grey[0, ..., 0]
  )
  view = pictures.masked_view(grey, np.zeros((8, 6, 1)))
  assert view.shape == grey.shape and (view >= 200).all()
  for name, rows in (("grey", grey), ("rgb", grey.repeat(3, axis=-1))):
    pictures.contact_sheet(tmp_path / f"{name}.png", {"original": rows})
  # A label beside the pictures has no colours either.
  np.testing.assert_array_equal(
    read_png(tmp_path / "grey.png"), read_png(tmp_path / "rgb.png")
  )
  pictures.save_gif(tmp_path / "film.gif", grey)
  with Image.open(tmp_path / "film.gif") as film:
    assert film.n_frames == 5
    np.testing.assert_array_equal(
      np.asarray(film.convert("L")), grey[0, ..., 0]
    )


@pytest.mark.parametrize("padding", [0, 2, 3])
def test_a_grid_holds_each_image_at_its_place(images, padding):
  sheet = pictures.grid(images, columns=3, padding=padding)
  assert sheet.dtype == np.uint8
  assert sheet.shape == (2 * (8 + padding) + padding, 18 + 4 * padding, 3)
  covered = np.zeros(sheet.shape[:2], bool)
  for i, image in enumerate(images):
    top = padding + (i // 3) * (8 + padding)
    left = padding + (i % 3) * (6 + padding)
    np.testing.assert_array_equal(sheet[top : top + 8, left : left + 6], image)
    covered[top : top + 8, left : left + 6] = True
  assert (sheet[~covered] == 255).all()


def test_a_contact_sheet_has_a_labelled_row_per_kind(tmp_path, images):
  path = tmp_path / "contact_sheet.png"
  rows = {"original": images, "G(z), the longest label": images[:2]}
  pictures.contact_sheet(path, rows, scale=3)
  sheet = read_png(path)
  large = images.repeat(3, axis=1).repeat(3, axis=2)
  strip = pictures.grid(large, columns=5)
  height, width = strip.shape[:2]
  assert sheet.shape[0] == 2 * height
  np.testing.assert_array_equal(sheet[:height, -width:], strip)
  short = pictures.grid(large[:2], columns=2)
  left = sheet.shape[1] - width
  second = sheet[height:, left:]
  np.testing.assert_array_equal(second[:, : short.shape[1]], short)
  assert (second[:, short.shape[1] :] == 255).all()
  # Both labels are written, the longer one wider, and neither is cut off.
  extents = [
    np.flatnonzero((label < 128).any(axis=(0, 2)))
    for label in (sheet[:height, :left], sheet[height:, :left])
  ]
  assert 0 < len(extents[0]) < len(extents[1])
  assert all(e[0] > 0 and e[-1] < left - 1 for e in extents)


@pytest.mark.parametrize(
  "side, scale", [(8, 4), (32, 4), (64, 2), (128, 1), (256, 1)]
)
def test_a_contact_sheet_enlarges_small_images(tmp_path, side, scale):
  images = np.full((2, side, side, 3), 90, np.uint8)
  for name, given in (("usual", 0), ("given", scale)):
    pictures.contact_sheet(tmp_path / f"{name}.png", {"G": images}, given)
  np.testing.assert_array_equal(
    read_png(tmp_path / "usual.png"), read_png(tmp_path / "given.png")
  )


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("shared", [True, False])
def test_the_masked_view_changes_the_hole_alone(images, kind, shared):
  mask = np.ones((8, 6, 1), np.float32)
  mask[2:5, 1:4] = 0
  masks = mask if shared else np.stack([mask] * 5)
  view = pictures.masked_view(images, kind(masks))
  assert view.dtype == np.uint8
  known = mask[..., 0] == 1
  np.testing.assert_array_equal(view[:, known], images[:, known])
  assert (view[:, ~known] >= 200).all()  # Brighter than all of these images.


@pytest.mark.slow
def test_curves_are_drawn_without_pyplot(tmp_path):
  """Also with gaps and with nothing to draw."""
  script = (
    "import sys\n"
    "from dcgan_inpaint.reports import pictures\n"
    "values = [1.0, float('nan'), 3.0, float('inf'), 2.0]\n"
    "series = {'d_loss': (range(5), values), 'none': ([], [])}\n"
    "pictures.curves(sys.argv[1], series, 'losses')\n"
    "pictures.curves(sys.argv[2], {})\n"
    "assert 'matplotlib.pyplot' not in sys.modules\n"
  )
  paths = [tmp_path / "curves.png", tmp_path / "empty.png"]
  subprocess.run(
    [sys.executable, "-W", "error::UserWarning", "-c", script, *paths],
    check=True,
    cwd=pathlib.Path(dcgan_inpaint.__file__).parent.parent,
  )
  drawn, empty = (read_png(path)[..., :3] for path in paths)
  orange, blue = (255, 127, 14), (31, 119, 180)  # Matplotlib's C1 and C0.
  assert (drawn == blue).all(axis=-1).sum() > 100
  assert not (empty == blue).all(axis=-1).any()
  assert (drawn == orange).all(axis=-1).any()  # The legend's line.
