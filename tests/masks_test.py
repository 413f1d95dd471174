import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint import config
from dcgan_inpaint import errors
from dcgan_inpaint import masks


def _config(**fields):
  section = config.mask()
  section.update(fields)
  return section


def _hole(height=64, width=64, index=0, **fields):
  """Returns one mask's hole, bool [H, W]."""
  return masks.make(_config(**fields), [index], height, width)[0, ..., 0] == 0


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


@pytest.mark.parametrize("family", ["centre", "half", "box", "random_pixels"])
def test_masks_are_one_where_known_and_depend_on_their_index_alone(family):
  section = _config(family=family)
  made = masks.make(section, range(20), 32, 48)
  assert made.shape == (20, 32, 48, 1) and made.dtype == np.float32
  assert set(np.unique(made)) == {0, 1}
  shuffled = np.random.default_rng(0).permutation(20)[:7]
  np.testing.assert_array_equal(
    masks.make(section, shuffled, 32, 48), made[shuffled]
  )
  assert masks.make(section, [], 32, 48).shape == (0, 32, 48, 1)


@pytest.mark.parametrize("family", ["box", "random_pixels"])
def test_random_masks_change_with_seed_and_index(family):
  first = _hole(family=family, size=8)
  assert (first != _hole(family=family, size=8, index=1)).any()
  assert (first != _hole(family=family, size=8, seed=1)).any()


def test_a_random_box_is_whole_and_reaches_every_place():
  holes = masks.make(_config(family="box", size=3), range(300), 5, 6) == 0
  places = set()
  for hole in holes[..., 0]:
    y, x = np.argwhere(hole)[0]
    np.testing.assert_array_equal(
      hole, _rectangle((y, y + 3), (x, x + 3), 5, 6)
    )
    places.add((int(y), int(x)))
  assert places == {(y, x) for y in range(3) for x in range(4)}


@pytest.mark.parametrize("share, count", [(0.8, 3277), (0.001, 4), (1.0, 4096)])
def test_random_pixels_are_counted_exactly(share, count):
  section = _config(family="random_pixels", share=share)
  made = masks.make(section, range(8))
  np.testing.assert_array_equal((made == 0).sum((1, 2, 3)), np.full(8, count))
  np.testing.assert_allclose(masks.hole_share(made), count / 4096)


def test_random_pixels_are_hole_equally_often_everywhere():
  made = masks.make(
    _config(family="random_pixels", share=0.5), range(800), 8, 8
  )
  often = 1 - made.mean((0, 3))
  # The standard deviation of a mean of 800 is 0.018.
  assert abs(often - 0.5).max() < 5 * 0.018


@pytest.mark.parametrize(
  "fields, expected",
  [
    (dict(family="centre"), "968723d4bc31"),
    (dict(family="box", size=8), "0dad634de900"),
    (dict(family="random_pixels"), "3620b982f8d7"),
  ],
)
def test_masks_are_the_same_for_ever(fields, expected):
  # Published figures hang on these: a new digest makes them incomparable.
  assert masks.digest(masks.make(_config(**fields), range(16))) == expected


def test_the_digest_sees_one_pixel_and_the_shape():
  made = masks.make(_config(), range(4), 40, 32)
  other = made.copy()
  other[2, 3, 5, 0] = 0
  digests = [masks.digest(m) for m in (made, other, made.swapaxes(1, 2))]
  assert len(set(digests)) == 3
  assert masks.digest(made.copy()) == digests[0]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA", "LA"])
@pytest.mark.parametrize("polarity", ["white_is_hole", "white_is_known"])
def test_a_mask_file_is_read_in_every_mode(tmp_path, mode, polarity):
  hole = _rectangle((2, 9), (4, 20), 24, 32)
  white = hole if polarity == "white_is_hole" else ~hole
  path = tmp_path / "mask.png"
  Image.fromarray(np.uint8(255 * white)).convert(mode).save(path)
  fields = dict(family="file", path=str(path), file_polarity=polarity)
  np.testing.assert_array_equal(_hole(24, 32, **fields), hole)


def test_a_mask_file_is_cut_at_128_and_resized_to_the_nearest(tmp_path):
  path = tmp_path / "mask.png"
  Image.fromarray(np.uint8([[127, 128], [0, 255]])).save(path)
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
    (dict(family="center"), "family", "'random_pixels'"),
    (dict(seed=-1), "seed", "0 or more"),
    (dict(size=65), "size", "1..64"),
    (dict(size=2.5), "size", "whole pixels"),
    (dict(size=0), "size", "1..64"),
    (dict(size=-3), "size", "1..64"),
    (dict(size=0.001), "size", "at least one"),
    (dict(family="box", size=99), "size", "1..64"),
    (dict(family="box", position="40,0"), "position", "y in 0..32"),
    (dict(family="box", position="0,-1"), "position", "x in 0..32"),
    (dict(family="box", position="4"), "position", "'y,x'"),
    (dict(family="box", position="a,b"), "position", "'y,x'"),
    (dict(family="half", side="up"), "side", "'top', 'bottom'"),
    (dict(family="random_pixels", share=80), "share", "0..1"),
    (dict(family="random_pixels", share=-0.1), "share", "0..1"),
    (dict(family="random_pixels", share=0.0001), "share", "at least 1 of 4096"),
    (dict(family="file"), "path", "needs an image file"),
    (dict(family="file", path="none.png"), "path", "No such file"),
    (dict(family="file", path=__file__), "path", "Pillow"),
    (dict(family="file", file_polarity="dark"), "file_polarity", "'white_is_k"),
  ],
)
def test_wrong_values_are_refused_by_name(fields, field, remedy):
  section = _config(**fields)
  with pytest.raises(errors.UserError) as refused:
    masks.make(section, range(3))
  message = str(refused.value)
  assert message.startswith(f"config.mask.{field} is {section[field]!r}: ")
  assert remedy in message and "\n" not in message


def test_a_mask_file_without_a_hole_is_refused(tmp_path):
  path = tmp_path / "mask.png"
  Image.fromarray(np.eye(8, dtype=np.uint8)).save(path)
  with pytest.raises(
    errors.UserError, match=r"config.mask.path .* 0\.\.1, white"
  ):
    masks.make(_config(family="file", path=str(path)), range(2))
