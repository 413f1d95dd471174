"""Files that appear whole or not at all, and folders that can be written to."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import tempfile

from dcgan_inpaint.runtime import errors


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Yields a path to write to, whose file replaces `path` at the end.

  A reader sees the old file or the new one, never a part of it. If the block
  raises, `path` stays as it is. Folders are made as needed.

  Args:
    path: the file to write.

  Yields:
    A temporary path in the same folder.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike[str], field: str) -> None:
  """Makes a folder if there is none, and checks that it can be written to.

  Args:
    path: the folder.
    field: the flag or config field that names it, for the message.

  Raises:
    errors.UserError: it cannot be made or written to.
  """
  path = pathlib.Path(path)
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as error:
    raise errors.UserError(
      f"{field}={str(path)!r} cannot be written to ({error.strerror}): choose "
      "another folder"
    ) from error


def set_aside(path: str | os.PathLike[str]) -> pathlib.Path | None:
  """Renames `path`, if it exists, to the first free `NAME.1.EXT`, `NAME.2.EXT`.

  Args:
    path: the file that is about to be replaced.

  Returns:
    The new path of the old file, or None if there was none.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  number = 1
  while (free := path.with_suffix(f".{number}{path.suffix}")).exists():
    number += 1
  return path.rename(free)
