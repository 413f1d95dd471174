import os
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


@pytest.mark.parametrize("path", ["gs://a/b", "s3://a", "GS:/a", "file:///a"])
def test_a_bucket_is_refused_and_no_folder_made(tmp_path, monkeypatch, path):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(errors.UserError, match="--workdir=") as refused:
    files.make_folder(path, "--workdir")
  assert path in str(refused.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a" * 255, "写" * 85])
def test_a_name_that_fits_can_be_written(tmp_path, name):
  with files.replacing(tmp_path / name) as temporary:
    temporary.write_text("new")
  assert (tmp_path / name).read_text() == "new"


def test_nothing_is_written_through_a_link(tmp_path):
  own = tmp_path / "own"
  own.write_text("own")
  for name, target in [("a", own), ("b", tmp_path / "missing")]:
    (tmp_path / name).symlink_to(target)
    with files.replacing(tmp_path / name) as temporary:
      temporary.write_text("new")
    assert (tmp_path / name).read_text() == "new"
    # What is not replaced is moved aside first, links that lead nowhere too.
    (tmp_path / f"{name}.txt").symlink_to(target)
    assert files.set_aside(tmp_path / f"{name}.txt")
    assert not os.path.lexists(tmp_path / f"{name}.txt")
  assert own.read_text() == "own" and not (tmp_path / "missing").exists()


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
