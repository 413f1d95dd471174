import tempfile

import pytest

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files


def test_a_folder_is_made_and_left_empty(tmp_path):
  for _ in range(2):
    files.make_folder(tmp_path / "new" / "folder", "--workdir")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, name):
  (tmp_path / "file").write_text("taken")
  with pytest.raises(errors.UserError, match="--workdir=.*file"):
    files.make_folder(tmp_path / name, "--workdir")


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
  def refuse(**_):
    raise PermissionError(13, "Permission denied")

  # The superuser may write everywhere, and tests may run as one.
  monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
  with pytest.raises(errors.UserError, match="--workdir=") as refused:
    files.make_folder(tmp_path, "--workdir")
  assert str(tmp_path) in str(refused.value)
  assert "Permission denied" in str(refused.value)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / "file.txt"
  path.write_text("old")
  with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
    temporary.write_text("ne")
    raise KeyboardInterrupt
  assert path.read_text() == "old"
  assert list(tmp_path.iterdir()) == [path]


def test_set_aside_takes_the_first_free_number(tmp_path):
  path = tmp_path / "a.json"
  assert files.set_aside(path) is None
  for content in ("first", "second"):
    path.write_text(content)
    files.set_aside(path)
  assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
    "a.1.json": "first",
    "a.2.json": "second",
  }
