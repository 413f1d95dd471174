import image_files
import numpy as np
from PIL import Image
import pytest
from scipy import ndimage

from dcgan_inpaint.data import decoding
from dcgan_inpaint.masks import families
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.runtime import errors


def _config(**fields):
  return mask_settings.MaskSettings(**fields)


def _hole(height=64, width=64, index=0, **fields):
  """Returns one mask's hole, bool [H, W]."""
  return (
    mask_sets.make(_config(**fields), [index], height, width)[0, ..., 0] == 0
  )


def _rectangle(rows, columns, height=64, width=64):
  hole = np.zeros((height, width), bool)
  hole[rows[0] : rows[1], columns[0] : columns[1]] = True
  return hole


@pytest.mark.parametrize(
  "fields, rows, columns",
  [
    (dict(size=32.0), (16, 48), (16, 48)),
    (dict(size=0.5), (16, 48), (16, 48)),
    (dict(size=1.0), (31, 32), (31, 32)),
    (dict(size=5), (29, 34), (29, 34)),
    (dict(size=64), (0, 64), (0, 64)),
    (dict(), (16, 48), (16, 48)),
    (dict(family="box", size=8, position="0,56"), (0, 8), (56, 64)),
    (dict(family="box", size=0.25, position=" 3, 4"), (3, 19), (4, 20)),
    (dict(family="half", side="left"), (0, 64), (0, 32)),
    (dict(family="half", side="right"), (0, 64), (32, 64)),
    (dict(family="half", side="top"), (0, 32), (0, 64)),
    (dict(family="half", side="bottom"), (32, 64), (0, 64)),
  ],
)
def test_fixed_holes_lie_where_the_config_says(fields, rows, columns):
  np.testing.assert_array_equal(_hole(**fields), _rectangle(rows, columns))


def test_images_need_not_be_square():
  np.testing.assert_array_equal(
    _hole(20, 41, size=0.5), _rectangle((5, 15), (15, 25), 20, 41)
  )
  np.testing.assert_array_equal(
    _hole(20, 41, family="half", side="right"),
    _rectangle((0, 20), (21, 41), 20, 41),
  )


@pytest.mark.parametrize(
  "size, rows, columns",
  [(0, (5, 16), (5, 35)), (0.1, (2, 19), (2, 38)), (10, (10, 11), (10, 30))],
)
def test_a_border_leaves_the_middle(size, rows, columns):
  hole = _hole(21, 40, family="border", size=size)
  np.testing.assert_array_equal(~hole, _rectangle(rows, columns, 21, 40))


@pytest.mark.parametrize(
  "size, rows, columns",
  [
    (4, [1, 5, 9], [1, 5]),
    (2, range(0, 12, 2), range(0, 9, 2)),
    (1 / 3, [1, 4, 7, 10], [1, 4, 7]),
    (9, [4], [4]),
  ],
)
def test_low_resolution_keeps_one_pixel_of_every_square(size, rows, columns):
  hole = _hole(12, 9, family="low_resolution", size=size)
  known = np.zeros((12, 9), bool)
  known[np.ix_(rows, columns)] = True
  np.testing.assert_array_equal(~hole, known)


def test_a_random_box_is_whole_and_reaches_every_place():
  holes = mask_sets.make(_config(family="box", size=3), range(300), 5, 6) == 0
  places = set()
  for hole in holes[..., 0]:
    y, x = np.argwhere(hole)[0]
    np.testing.assert_array_equal(
      hole, _rectangle((y, y + 3), (x, x + 3), 5, 6)
    )
    places.add((int(y), int(x)))
  assert places == {(y, x) for y in range(3) for x in range(4)}


@pytest.mark.parametrize(
  "family, share, count",
  [
    ("random_pixels", 0, 3277),
    ("random_pixels", 0.001, 4),
    ("random_pixels", 1.0, 4096),
    ("pattern", 0, 1024),
    ("pattern", 0.001, 4),
    ("pattern", 1.0, 4096),
    ("strokes", 0, 1024),
    ("strokes", 0.01, 41),
    ("strokes", 0.8, 3277),
    ("scratches", 0, 410),
    ("scratches", 0.8, 3277),
    ("text", 0, 410),
    ("text", 0.5, 2048),
    ("blocks", 0, 1024),
    ("blocks", 1.0, 4096),
    ("lines", 0, 1024),
    ("lines", 0.6, 38 * 64),
  ],
)
def test_every_image_has_the_share(family, share, count):
  made = mask_sets.make(_config(family=family, share=share), range(8), 64, 64)
  np.testing.assert_array_equal((made == 0).sum((1, 2, 3)), np.full(8, count))
  np.testing.assert_allclose(mask_sets.hole_share(made), count / 4096)


@pytest.mark.parametrize(
  "fields",
  [
    dict(family="random_pixels", share=0.5),
    dict(family="pattern", size=4),
    dict(family="blocks", size=3),
    dict(family="lines"),
  ],
)
def test_pixels_are_hole_equally_often_everywhere(fields):
  made = mask_sets.make(_config(**fields), range(800), 12, 12)
  often = 1 - made.mean((0, 3))
  # A standard deviation is at most 0.018, that of 800 coin tosses.
  assert abs(often - often.mean()).max() < 5 * 0.018


def test_a_pattern_has_blobs_of_the_size():
  counts = []
  for size in (2, 4, 8, 16):
    holes = (
      mask_sets.make(_config(family="pattern", size=size), range(8), 64, 64)
      == 0
    )
    counts.append(sum(ndimage.label(hole[..., 0])[1] for hole in holes))
  # Twice the size gives a quarter as many blobs; the edge cuts off some.
  assert all(2 < a / b < 5 for a, b in zip(counts, counts[1:], strict=False))


@pytest.mark.parametrize("size", [8, 16])
def test_strokes_are_as_wide_as_their_brushes(size):
  total, as_wide_as = 0, {0.25: 0, 1.5: 0}
  for index in range(12):
    hole = _hole(128, 128, index, family="strokes", size=size, share=0.05)
    total += hole.sum()
    beyond = np.pad(hole, size, mode="edge")
    for factor in as_wide_as:
      y, x = np.mgrid[-size : size + 1, -size : size + 1]
      disc = np.hypot(y, x) <= factor * size / 2
      as_wide_as[factor] += ndimage.binary_opening(beyond, disc)[
        size:-size, size:-size
      ].sum()
  # Brushes are 0.3 to 1 of the size wide; wider places are crossings.
  assert as_wide_as[0.25] > 0.95 * total
  assert as_wide_as[1.5] < 0.25 * total


@pytest.mark.parametrize(
  "family, at_64",
  [
    ("centre", 32),
    ("box", 32),
    ("blocks", 8),
    ("lines", 1),
    ("scratches", 1),
    ("low_resolution", 4),
    ("border", 0.25),
    ("text", 0.2),
    ("half", 0),
  ],
)
def test_the_default_sizes_grow_with_the_image(family, at_64):
  least = {"lines": 1, "scratches": 1, "low_resolution": 2}.get(family, 0)
  for side in (8, 16, 32, 64, 128, 256):
    usual = families.default_size(family, side)
    grown = at_64 if at_64 < 1 else at_64 * side / 64
    assert usual == max(least, grown), side
    if not grown or side < 32:
      continue
    # As if the size had been given.
    given, drawn = (
      mask_sets.make(_config(family=family, size=size), range(2), side, side)
      for size in (usual, 0)
    )
    np.testing.assert_array_equal(drawn, given)


@pytest.mark.parametrize(
  "family, size", [("strokes", 1 / 8), ("scratches", 1 / 32)]
)
def test_drawings_are_the_same_at_every_resolution(family, size):
  settings = _config(family=family, size=size)
  small = mask_sets.make(settings, range(8), 64, 64)
  large = mask_sets.make(settings, range(8), 128, 128)
  assert (small != large[:, ::2, ::2]).mean() < 0.01


def test_scratches_are_thin_and_long_and_branch():
  branching = 0
  for index in range(16):
    hole = _hole(index=index, family="scratches")
    # They are wider than two pixels only where they cross.
    thick = ndimage.binary_opening(hole, np.ones((3, 3)))
    assert thick.sum() < 0.15 * hole.sum()
    parts, _ = ndimage.label(hole, np.ones((3, 3)))
    longest = max(
      max(s.stop - s.start for s in part)
      for part in ndimage.find_objects(parts)
    )
    assert longest > 48
    ring = np.concatenate([hole[0], hole[1:, -1], hole[-1, -2::-1]])
    branching += ndimage.label(ring)[1] > 2
  assert branching > 8


def test_text_is_made_of_letters_in_lines():
  for index in range(4):
    hole = _hole(256, 256, index, family="text", size=32)
    letters = ndimage.find_objects(ndimage.label(hole, np.ones((3, 3)))[0])
    assert len(letters) > 15
    assert all(rows.stop - rows.start <= 32 for rows, _ in letters)
    assert np.median([c.stop - c.start for _, c in letters]) < 32
    lines = ndimage.find_objects(ndimage.label(hole.any(1))[0])
    assert max(rows.stop - rows.start for (rows,) in lines) <= 36


@pytest.mark.parametrize(
  "fields, tall, wide",
  [
    (dict(family="blocks"), 6, 6),  # Of the usual 8, as 48 of 64.
    (dict(family="blocks", size=1 / 3), 16, 16),
    (dict(family="lines"), 1, 70),
    (dict(family="lines", size=5), 5, 70),
  ],
)
def test_blocks_and_lines_are_lost_whole(fields, tall, wide):
  for index in range(4):
    hole = _hole(48, 70, index, **fields)
    corners = hole[::tall, ::wide]
    np.testing.assert_array_equal(
      np.kron(corners, np.ones((tall, wide)))[:48, :70], hole
    )
    assert corners.sum() == round(corners.size / 4)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA", "LA"])
@pytest.mark.parametrize("polarity", ["white_is_hole", "white_is_known"])
def test_a_mask_file_is_read_in_every_mode(tmp_path, mode, polarity):
  hole = _rectangle((2, 9), (4, 20), 24, 32)
  white = hole if polarity == "white_is_hole" else ~hole
  path = tmp_path / "mask.png"
  Image.fromarray(np.uint8(255 * white)).convert(mode).save(path)
  fields = dict(family="file", path=str(path), file_polarity=polarity)
  np.testing.assert_array_equal(_hole(24, 32, **fields), hole)


def test_a_smaller_mask_file_is_enlarged_to_the_nearest(tmp_path):
  path = tmp_path / "mask.png"
  Image.fromarray(np.uint8([[0, 128], [0, 255]])).save(path)
  expected = np.kron([[0, 1], [0, 1]], np.ones((4, 4))) == 1
  np.testing.assert_array_equal(
    _hole(8, 8, family="file", path=str(path)), expected
  )


@pytest.mark.parametrize("polarity", ["white_is_hole", "white_is_known"])
def test_transparent_pixels_are_the_hole(tmp_path, polarity):
  hole = _rectangle((2, 9), (4, 20), 24, 32)
  picture = np.random.default_rng(0).integers(0, 256, (24, 32, 4), np.uint8)
  picture[..., 3] = np.where(hole, 0, 255)
  path = tmp_path / "mask.png"
  Image.fromarray(picture).save(path)
  fields = dict(family="file", path=str(path), file_polarity=polarity)
  np.testing.assert_array_equal(_hole(24, 32, **fields), hole)


@pytest.mark.parametrize(
  "fields, field, remedy",
  [
    (dict(seed=-1), "seed", "0 or more"),
    (dict(size=65), "size", "1..64"),
    (dict(size=2.5), "size", "whole pixels"),
    (dict(size=float("nan")), "size", "1..64"),
    (dict(size=-3), "size", "1..64"),
    (dict(size=0.001), "size", "1..64"),
    (dict(family="box", size=99), "size", "1..64"),
    (dict(family="box", position="40,0"), "position", "y in 0..32"),
    (dict(family="box", position="0,-1"), "position", "x in 0..32"),
    (dict(family="box", position="4"), "position", "'y,x'"),
    (dict(family="box", position="a,b"), "position", "'y,x'"),
    (dict(family="half", side="up"), "side", "'top', 'bottom'"),
    (dict(family="random_pixels", share=80), "share", "0..1"),
    (dict(family="random_pixels", share=-0.1), "share", "0..1"),
    (dict(family="random_pixels", share=0.0001), "share", "at least 1 of 4096"),
    (dict(family="random_pixels", share=float("nan")), "share", "0..1"),
    (dict(family="pattern", size=65), "size", "1..64"),
    (dict(family="pattern", share=1.01), "share", "0..1"),
    (dict(family="strokes", size=0.001), "size", "1..64"),
    (dict(family="strokes", share=0.9), "share", "0..0.8"),
    (dict(family="scratches", size=1.5), "size", "whole pixels"),
    (dict(family="scratches", share=0.9), "share", "0..0.8"),
    (dict(family="text", size=5), "size", "6..64"),
    (dict(family="text", share=0.6), "share", "0..0.5"),
    (dict(family="blocks", share=0.001), "share", "at least 1 of 64 tiles"),
    (dict(family="lines", size=65), "size", "1..64"),
    (dict(family="border", size=32), "size", "1..31"),
    (dict(family="low_resolution", size=1), "size", "2..64"),
    (dict(family="file"), "path", "needs an image file"),
    (dict(family="file", path="none.png"), "path", "No such file"),
    (dict(family="file", path=__file__), "path", "not an image of BMP"),
    (dict(family="file", path="."), "path", "Is a directory"),
    (dict(family="file", file_polarity="dark"), "file_polarity", "'white_is_k"),
  ],
)
def test_wrong_values_are_refused_by_name(fields, field, remedy):
  settings = _config(**fields)
  with pytest.raises(errors.UserError) as refused:
    mask_sets.make(settings, range(3), 64, 64)
  message, value = str(refused.value), getattr(settings, field)
  assert message.startswith(f"config.mask.{field} is {value!r}: ")
  assert remedy in message and "\n" not in message


@pytest.mark.parametrize(
  "content, reason",
  [
    (b"", "the file is empty"),
    (b"These are words.", "not an image of BMP, GIF, JPEG"),
    (image_files.encode(Image.effect_noise((32, 32), 90))[:300], "truncated"),
    (image_files.encode(Image.new("F", (32, 32)), "tiff"), "32-bit pixels"),
    (
      image_files.encode(Image.new("LAB", (32, 32)), "tiff"),
      "conversion from LAB",
    ),
    (image_files.encode(Image.new("1", (64, 64))), "64x64 pixels"),
  ],
)
def test_a_bad_mask_file_is_refused_with_its_reason(
  tmp_path, monkeypatch, content, reason
):
  monkeypatch.setattr(decoding, "MAX_SIDE", 40)
  path = tmp_path / "mask.png"
  path.write_bytes(content)
  with pytest.raises(errors.UserError) as refused:
    mask_sets.make(_config(family="file", path=str(path)), range(2), 64, 64)
  message = str(refused.value)
  assert message.startswith(f"config.mask.path is {str(path)!r}: ")
  assert reason in message and "\n" not in message


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
@pytest.mark.parametrize("white", [1, 300, 65535])
def test_a_mask_of_16_bits_is_hole_where_it_is_not_zero(tmp_path, kind, white):
  # Scaled to 8 bits the first two would be black.
  values = np.uint16([[0, 0], [0, white]])
  path = tmp_path / "mask.tif"
  # Pillow 10 writes 32-bit images as PPM with 16 bits.
  image = Image.fromarray(np.int32(values) if kind == "ppm" else values)
  path.write_bytes(image_files.encode(image, kind))
  expected = np.kron([[0, 0], [0, 1]], np.ones((4, 4))) == 1
  np.testing.assert_array_equal(
    _hole(8, 8, family="file", path=str(path)), expected
  )


def test_a_mask_is_turned_as_its_exif_says(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # To be shown turned a quarter clockwise.
  hole = _rectangle((2, 9), (4, 20), 24, 32)
  path = tmp_path / "mask.png"
  Image.fromarray(np.uint8(255 * hole)).save(path, exif=exif)
  np.testing.assert_array_equal(
    _hole(32, 24, family="file", path=str(path)), np.rot90(hole, k=-1)
  )


def test_of_an_animated_mask_the_first_frame_counts(tmp_path):
  hole = _rectangle((2, 9), (4, 20), 24, 32)
  first, second = (Image.fromarray(np.uint8(255 * h)) for h in (hole, ~hole))
  path = tmp_path / "mask.gif"
  first.save(path, save_all=True, append_images=[second])
  np.testing.assert_array_equal(
    _hole(24, 32, family="file", path=str(path)), hole
  )


@pytest.mark.parametrize("name", ["my mask.png", "маска.png", "マスク ü.png"])
def test_a_mask_file_may_have_any_name(tmp_path, name):
  Image.new("1", (8, 8), 1).save(tmp_path / name)
  assert _hole(family="file", path=str(tmp_path / name)).all()
