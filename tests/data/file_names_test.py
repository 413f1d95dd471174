import pathlib

import pytest

from dcgan_inpaint.data import file_names
from dcgan_inpaint.data import folder
from dcgan_inpaint.runtime import errors


def files(*names, source="in"):
  return [
    folder.File(name, bytes, pathlib.Path(source) / name, pathlib.Path(source))
    for name in names
  ]


@pytest.mark.parametrize(
  "given, expected",
  [
    (files("a.png", "b/a.jpg"), ["a", "b/a"]),
    (files("a.png", "a.jpg", "b.png"), ["a.png", "a.jpg", "b"]),
    (
      files("a.png", source="x") + files("a.png", source="y"),
      ["x/a", "y/a"],
    ),
    (
      files("a.png", source="x.zip") + files("a.png", source="x"),
      ["x.zip/a.png", "x/a.png"],
    ),
    # a.png is the stem of another.
    (files("a.png", "a.jpg", "a.png.gif"), ["in/a", "a.jpg", "a.png"]),
    (files("a.png") * 3, ["a (2)", "a (3)", "a (4)"]),
  ],
)
def test_every_file_has_a_name_of_its_own(given, expected):
  named = file_names.by_own_name(given)
  assert sorted(named) == sorted(expected) and len(named) == len(given)
  assert list(named.values()) == given


def test_pairs_are_found_in_either_form_of_unicode():
  composed, decomposed = "Jos\u00e9", "Jose\u0301"
  for one, other in ((composed, decomposed), (decomposed, composed)):
    found = file_names.by_stem(files(f"{one}.png"))
    assert file_names.normal(other) in found


def test_two_masks_of_one_name_are_refused():
  with pytest.raises(errors.UserError, match="a.png.*a.jpg"):
    file_names.by_stem(files("a.png", "a.jpg"))


@pytest.mark.parametrize("link", ["", "soft", "hard"])
def test_no_result_takes_the_place_of_a_file_that_was_given(tmp_path, link):
  original = tmp_path / "a.png"
  original.write_bytes(b"mine")
  result = original
  if link:
    result = tmp_path / "b.png"
    (result.symlink_to if link == "soft" else result.hardlink_to)(original)
  given = [folder.File("a.png", original.read_bytes, original)]
  file_names.check_kept([tmp_path / "c.png"], given, "config.output")
  with pytest.raises(errors.UserError, match=f"config.output.*{result}"):
    file_names.check_kept([result], given, "config.output")


def test_masks_are_left_out_of_the_images(tmp_path):
  given = files("a.png", "masks/a.png", source=tmp_path)
  masks = [tmp_path / "masks" / "a.png"]
  kept = file_names.without(given, masks)
  assert [file.name for file in kept] == ["a.png"]
