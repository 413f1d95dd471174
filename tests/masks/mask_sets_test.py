import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint import config
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.runtime import errors

FAMILIES = [family for family in mask_sets.FAMILIES if family != "file"]
RANDOM = [
  "box",
  "random_pixels",
  "pattern",
  "strokes",
  "scratches",
  "text",
  "blocks",
  "lines",
]


def _config(**fields):
  return mask_settings.MaskSettings(**fields)


def _section(**fields):
  """Returns `config.mask`, which has the fields that sets do not set."""
  section = config.mask()
  section.update(fields)
  return section


def _hole(height=64, width=64, index=0, **fields):
  """Returns one mask's hole, bool [H, W]."""
  return (
    mask_sets.make(_config(**fields), [index], height, width)[0, ..., 0] == 0
  )


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_are_one_where_known_and_depend_on_their_index_alone(family):
  settings = _config(family=family)
  made = mask_sets.make(settings, range(20), 32, 48)
  assert made.shape == (20, 32, 48, 1) and made.dtype == np.float32
  assert set(np.unique(made)) == {0, 1}
  shuffled = np.random.default_rng(0).permutation(20)[:7]
  np.testing.assert_array_equal(
    mask_sets.make(settings, shuffled, 32, 48), made[shuffled]
  )
  assert mask_sets.make(settings, [], 32, 48).shape == (0, 32, 48, 1)


@pytest.mark.parametrize("family", RANDOM)
def test_random_masks_change_with_seed_and_index(family):
  first = _hole(family=family, size=8)
  assert (first != _hole(family=family, size=8, index=1)).any()
  assert (first != _hole(family=family, size=8, seed=1)).any()


@pytest.mark.parametrize(
  "fields, expected",
  [
    (dict(family="centre"), "968723d4bc31"),
    (dict(family="box", size=8), "0dad634de900"),
    (dict(family="random_pixels"), "3620b982f8d7"),
    (dict(family="pattern"), "73aa2ed9e8f6"),
    (dict(family="strokes"), "6946379f4df2"),
    (dict(family="scratches"), "12417f4226d2"),
    (dict(family="blocks"), "dd42df33dd86"),
    (dict(family="lines"), "681796509558"),
  ],
)
def test_masks_never_change(fields, expected):
  # Published results depend on these: a new digest makes them incomparable. The
  # digest of `text` depends on Pillow's font.
  assert (
    mask_sets.digest(mask_sets.make(_config(**fields), range(16), 64, 64))
    == expected
  )


def test_the_digest_sees_one_pixel_and_the_shape():
  made = mask_sets.make(_config(), range(4), 40, 32)
  other = made.copy()
  other[2, 3, 5, 0] = 0
  digests = [mask_sets.digest(m) for m in (made, other, made.swapaxes(1, 2))]
  assert len(set(digests)) == 3
  assert mask_sets.digest(made.copy()) == digests[0]


def test_an_unknown_family_is_refused():
  with pytest.raises(errors.UserError, match="'center'.*random_pixels"):
    mask_sets.make(_config(family="center"), range(3), 64, 64)


def test_a_mask_file_without_a_hole_is_refused_unless_allowed(tmp_path):
  path = tmp_path / "mask.png"
  Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
  settings = _config(family="file", path=str(path))
  with pytest.raises(
    errors.UserError, match="config.mask.path .* no hole .*'white_is_hole'"
  ):
    mask_sets.make(settings, range(2), 64, 64)
  known = mask_sets.make(settings, range(2), 64, 64, allow_empty=True)
  np.testing.assert_array_equal(known, np.ones((2, 64, 64, 1)))


@pytest.mark.parametrize(
  "fields, label",
  [
    (dict(), "centre 32"),
    (dict(size=24.0), "centre 24"),
    (dict(family="box", size=0.5), "box 0.5"),
    (dict(family="half", side="top"), "top half"),
    (dict(family="random_pixels"), "random 80 %"),
    (dict(family="random_pixels", share=0.5, size=9.0), "random 50 %"),
    (dict(family="pattern"), "pattern 25 %"),
    (dict(family="blocks", share=0.125, size=16.0), "blocks 12.5 % of 16"),
    (dict(family="border"), "border 0.25"),
    (dict(family="low_resolution", size=2.0), "low resolution 2"),
    (dict(family="file", path="holes/cat.png"), "cat.png"),
  ],
)
def test_a_mask_is_named_by_what_sizes_it(fields, label):
  assert mask_sets.label(_config(**fields), 64) == label


def test_the_default_size_in_a_name_is_that_of_the_image():
  assert mask_sets.label(_config(), 128) == "centre 64"
  sets = mask_sets.parse_several("centre,box:size=9", _section(), "field", 32)
  assert list(sets) == ["centre 16", "box 9"]


@pytest.mark.parametrize(
  "text, fields",
  [
    ("centre", dict()),
    (" strokes ", dict(family="strokes")),
    ("strokes:share=0.3:seed=3", dict(family="strokes", share=0.3, seed=3)),
    ("half", dict(family="half")),
    ("half:side=left", dict(family="half", side="left")),
    ("box:position=8,9", dict(family="box", position="8,9")),
    ("file:path=a:b.png", dict(family="file", path="a:b.png")),
  ],
)
def test_a_set_is_its_family_and_fields(text, fields):
  base = dict(seed=7, side="top")
  expected = _config(**{**base, **fields})
  section = _section(**base)
  assert mask_sets.parse(text, section) == expected
  assert section == _section(**base)  # The base is unchanged.


@pytest.mark.parametrize("name", ["mask.png", "a,b c.png", "a:b=c.png"])
def test_a_set_may_be_the_path_of_a_file(tmp_path, name):
  path = tmp_path / name
  path.touch()
  settings = mask_sets.parse(str(path), _section(seed=7))
  assert settings == _config(family="file", path=str(path), seed=7)


@pytest.mark.parametrize(
  "value",
  [
    'centre, half,random_pixels:share=0.5:seed=3, "box:position=8,9:size=20"',
    (
      "centre",
      "half",
      "random_pixels:share=0.5:seed=3",
      "box:position=8,9:size=20",
    ),
  ],
)
def test_several_sets_are_read_from_a_line_or_a_tuple(value):
  base = _section(seed=7, side="top")
  sets = mask_sets.parse_several(value, base, "config.benchmark.masks", 64)
  assert list(sets) == ["centre 32", "top half", "random 50 %", "box 20"]
  settings = list(sets.values())
  assert [x.family for x in settings] == [
    "centre",
    "half",
    "random_pixels",
    "box",
  ]
  assert [x.seed for x in settings] == [7, 7, 3, 7]
  assert settings[2].share == 0.5 and settings[3].position == "8,9"


def test_sets_of_one_label_are_told_apart_by_what_was_written():
  sets = mask_sets.parse_several(
    "text,half,text:seed=2", _section(), "field", 64
  )
  assert list(sets) == ["text", "left half", "text:seed=2"]


@pytest.mark.parametrize(
  "text, message",
  [
    ("", "field=''.*centre"),
    ("center", "field='center'.*centre, "),
    ("none.png", "field='none.png'.*mask file"),
    ("centre,half", "field='centre,half'"),
    ("centre:siez=3", "'centre:siez=3' sets 'siez'.*share, si"),
    ("centre:family=half", "sets 'family'"),
    ("centre:size=big", "size must be of type float, not 'big'"),
    ("text:seed=1.5", "seed must be of type int, not '1.5'"),
  ],
)
def test_a_set_that_cannot_be_meant_is_refused(text, message):
  with pytest.raises(errors.UserError, match=message):
    mask_sets.parse(text, _section(), "field")


@pytest.mark.parametrize(
  "value, message",
  [
    ("", "field is empty"),
    (" , ", "field is empty"),
    ((), "field is empty"),
    ("center", "field='center'"),
    ("half,half", "names 'half' twice"),
    (("half", "half"), "names 'half' twice"),
    ("box:position=8,8", "field='8'"),
  ],
)
def test_sets_that_cannot_be_meant_are_refused(value, message):
  with pytest.raises(errors.UserError, match=message):
    mask_sets.parse_several(value, _section(), "field", 64)
