import pytest

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists


@pytest.mark.parametrize(
  "value, expected",
  [
    ("", ()),
    (" , ", ()),
    ("a", ("a",)),
    ("a, b,,c ", ("a", "b", "c")),
    ((), ()),
    (("a", "b"), ("a", "b")),
    ((0, 1.5), ("0", "1.5")),
    (["a", " b "], ("a", "b")),
  ],
)
def test_words(value, expected):
  assert lists.words(value) == expected


@pytest.mark.parametrize(
  "value, expected",
  [
    ("", ()),
    ("a", ("a",)),
    ("a.zip, b.zip", ("a.zip", "b.zip")),
    (("a, b", "c"), ("a, b", "c")),
    # The text is the name of a file.
    ("here, there", ("here, there",)),
    ("~/here, there", ("~/here, there",)),
    ("here, there,b", ("here", "there", "b")),
  ],
)
def test_paths(value, expected, tmp_path, monkeypatch):
  (tmp_path / "here, there").touch()
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert lists.paths(value) == expected


@pytest.mark.parametrize(
  "value, expected", [("a,b", "a,b"), (("a",), "a"), ((), "")]
)
def test_one_path(value, expected):
  assert lists.one_path(value, "config.data.path") == expected


def test_several_are_refused_where_one_is_meant():
  with pytest.raises(errors.UserError, match="config.data.path=.*'b'"):
    lists.one_path(("a", "b"), "config.data.path")
