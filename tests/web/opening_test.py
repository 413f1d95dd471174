import dataclasses

import image_files
import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import untrusted
from dcgan_inpaint.web import opening

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"


def save(folder, name, image, **options):
  path = folder / name
  kind = path.suffix[1:].replace("jpg", "jpeg")
  path.write_bytes(image_files.encode(image, kind, **options))
  return path


def noise(height, width, channels=3):
  shape = (height, width, channels)
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def photograph(tmp_path):
  return opening.open_photograph(save(tmp_path, "a.png", noise(40, 60)))


@pytest.mark.parametrize(
  "size, shown",
  [
    ((64, 64), (512, 512)),
    ((40, 60), (320, 480)),
    ((600, 400), (600, 400)),
    ((1024, 1024), (1024, 1024)),
    ((3000, 4000), (768, 1024)),
    ((8, 65_535), (1, 1024)),
  ],
)
def test_a_photograph_is_shown_at_a_size_to_paint_on(size, shown):
  assert opening.shown_size(*size) == shown


def test_a_photograph_is_opened_upright(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned by 90 degrees.
  path = save(tmp_path, "turned.jpg", noise(40, 60), exif=exif)
  opened = opening.open_photograph(path)
  assert (opened.height, opened.width) == (60, 40)
  assert opened.shown.shape == (480, 320, 3)
  assert opened.clear is None


def test_transparent_pixels_are_told(tmp_path):
  image = noise(40, 60, 4)
  image[..., 3] = 255
  image[10:20, 30:40, 3] = 0
  opened = opening.open_photograph(save(tmp_path, "a.png", image))
  expected = np.zeros((320, 480), bool)
  expected[80:160, 240:320] = True
  np.testing.assert_array_equal(opened.clear, expected)


@pytest.mark.parametrize(
  "name, content, named",
  [
    ("text.png", b"no picture", "not an image"),
    ("empty.jpg", b"", "empty"),
    ("cut.png", image_files.encode(noise(40, 60))[:300], "cut.png"),
    ("tiny.png", image_files.encode(noise(4, 4)), "4x4"),
    (
      "page.eps",
      b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
      "not an",
    ),
    ("large.pgm", b"P5 9000 8000 255\n", "64 megapixels"),
    ("bomb.pgm", b"P5 60000 60000 255\n", "64 megapixels"),
  ],
)
def test_a_broken_file_is_refused_in_a_line(tmp_path, name, content, named):
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match=named) as refused:
    opening.open_photograph(path)
  text = str(refused.value)
  assert text.startswith(name) and text.isprintable()
  # The page has no flags and no fields.
  assert "config." not in text and str(tmp_path) not in text


def test_a_large_file_is_not_read(tmp_path):
  path = tmp_path / "large.png"
  with open(path, "wb") as file:
    file.truncate(untrusted.MAX_BYTES + 1)
  with pytest.raises(errors.UserError, match=f"{untrusted.MAX_BYTES:,}"):
    opening.open_photograph(path)


def test_a_name_does_nothing_to_a_page_or_terminal(tmp_path):
  path = save(tmp_path, "a\x1b[2J\n.png", noise(40, 60))
  assert opening.open_photograph(path).name == "a\\x1b[2J\\n.png"


def test_a_file_that_was_removed_is_to_be_loaded_again(tmp_path, photograph):
  photograph.path.unlink()
  with pytest.raises(errors.UserError, match="load it again"):
    opening.read_picture(photograph.path)


@pytest.mark.parametrize("black_is_hole", [False, True])
def test_a_mask_is_read_at_the_photographs_size(
  tmp_path, photograph, black_is_hole
):
  drawn = np.zeros((80, 120), np.uint8)  # Twice the photograph's size.
  drawn[20:41, 60:80] = 255
  path = save(tmp_path, "mask.png", 255 - drawn if black_is_hole else drawn)
  mask = opening.open_mask(path, photograph, black_is_hole=black_is_hole)
  expected = np.zeros((40, 60), bool)
  expected[10:21, 30:40] = True  # Every pixel that the mask touches.
  np.testing.assert_array_equal(mask.shown, expected.repeat(8, 0).repeat(8, 1))
  hole = opening.Hole(mask=mask.path, polarity=mask.polarity)
  found = opening.read_hole(hole, opening.read_picture(photograph.path))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  "image, named",
  [
    (np.zeros((60, 40), np.uint8), "40x60 .* 60x40"),
    (noise(40, 60), "colours"),
  ],
)
def test_a_mask_that_does_not_fit_is_refused(
  tmp_path, photograph, image, named
):
  path = save(tmp_path, "mask.png", image)
  with pytest.raises(errors.UserError, match=named) as refused:
    opening.open_mask(path, photograph)
  assert "config." not in str(refused.value)


def test_a_mask_that_is_odd_says_so_in_the_words_of_the_page(
  tmp_path, photograph
):
  path = save(tmp_path, "mask.png", np.full((40, 60), 255, np.uint8))
  note = opening.open_mask(path, photograph).note
  assert "100 %" in note and "Black is the hole" in note
  assert "config." not in note
  path = save(tmp_path, "mask.png", np.zeros((40, 60), np.uint8))
  note = opening.open_mask(path, photograph).note
  assert "Black is the hole" in note and "config." not in note


def test_a_hole_is_all_of_its_parts(tmp_path):
  image = noise(40, 60, 4)
  image[..., 3] = 255
  image[:4, :5, 3] = 0
  picture = opening.read_picture(save(tmp_path, "a.png", image))
  drawn = np.zeros((40, 60), np.uint8)
  drawn[30:33, 2:9] = 255
  painted = np.zeros((320, 480), bool)
  painted[159:162, 7:9] = True  # Rows 19 and 20, columns 0 and 1.
  whole = opening.Hole(painted, save(tmp_path, "m.png", drawn), alpha=True)
  parts = {
    "painted": np.s_[19:21, 0:2],
    "mask": np.s_[30:33, 2:9],
    "alpha": np.s_[:4, :5],
  }
  expected = np.zeros((40, 60), bool)
  for place in parts.values():
    expected[place] = True
  found = opening.read_hole(whole, picture)
  np.testing.assert_array_equal(found, expected)
  empty = opening.Hole()
  for part, place in parts.items():
    one = dataclasses.replace(empty, **{part: getattr(whole, part)})
    expected = np.zeros((40, 60), bool)
    expected[place] = True
    found = opening.read_hole(one, picture)
    np.testing.assert_array_equal(found, expected)
  with pytest.raises(errors.UserError, match="no hole"):
    opening.read_hole(empty, picture)


def test_what_is_painted_grows_with_a_photograph_that_was_reduced(tmp_path):
  image = np.zeros((300, 4096), np.uint8)  # Shown at a quarter of its size.
  picture = opening.read_picture(save(tmp_path, "a.png", image))
  painted = np.zeros((75, 1024), bool)
  painted[10, 200] = True
  expected = np.zeros((300, 4096), bool)
  expected[40:44, 800:804] = True
  found = opening.read_hole(opening.Hole(painted), picture)
  np.testing.assert_array_equal(found, expected)


def test_soft_strokes_of_all_layers_are_painted(tmp_path):
  one, other = np.zeros((2, 30, 40, 4), np.uint8)
  one[5, 6] = (255, 0, 0, 255)
  other[7, 8, 3] = 1
  paths = [save(tmp_path, f"{i}.png", x) for i, x in enumerate((one, other))]
  found = opening.read_painted(paths)
  assert found is not None
  assert list(zip(*np.nonzero(found), strict=True)) == [(5, 6), (7, 8)]
  blank = save(tmp_path, "blank.png", np.zeros((30, 40, 4), np.uint8))
  assert opening.read_painted([blank]) is None
  assert opening.read_painted([]) is None


def test_a_layer_is_read_within_limits(tmp_path):
  large = save(tmp_path, "large.png", np.zeros((1500, 1500, 4), np.uint8))
  with pytest.raises(errors.UserError, match="1500x1500"):
    opening.read_painted([large])
  page = tmp_path / "page.eps"
  page.write_bytes(POSTSCRIPT)
  with pytest.raises(errors.UserError, match="not an image"):
    opening.read_painted([page])


def test_the_hole_is_shown_in_its_colour(photograph):
  hole = np.zeros(photograph.shown.shape[:2], bool)
  hole[:50, :70] = True
  image = opening.with_hole(photograph, hole, None)
  np.testing.assert_array_equal(image[~hole], photograph.shown[~hole])
  expected = 0.6 * np.array(opening.HOLE_COLOUR) + 0.4 * photograph.shown[hole]
  np.testing.assert_allclose(image[hole], expected, atol=0.51)


def test_what_is_around_a_hole_stays_within_the_photograph():
  hole = np.zeros((100, 300), bool)
  hole[40:60, 0:80] = True
  box = opening.around(hole)
  assert hole[box].sum() == hole.sum()
  assert hole[box].shape == (52, 120)
