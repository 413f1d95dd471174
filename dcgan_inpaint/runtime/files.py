"""Files that appear whole or not at all, and folders that can be written to."""

from collections.abc import Iterator
import contextlib
import hashlib
import os
import pathlib
import re
import secrets
import tempfile

from dcgan_inpaint.runtime import errors

_MAX_NAME = 255  # Bytes, on every file system of Linux.


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Yields a path to write to, whose file replaces `path` at the end.

  A reader sees the old file or the new one, never a part of it. If the block
  raises, `path` stays as it is; a link is replaced, not followed. Folders are
  made as needed.

  Args:
    path: the file to write.

  Yields:
    A temporary path in the same folder. Its name is short, so that it fits
    where `path` does, and nobody can guess it and put a link there.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{os.getpid()}.{secrets.token_hex(6)}")
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
    errors.UserError: it cannot be made or written to, or names no local folder.
  """
  check_local(path, field)
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


def check_local(path: str | os.PathLike[str], field: str) -> None:
  """Refuses a path in a bucket, such as gs://bucket/run.

  Args:
    path: the path.
    field: the flag or config field that names it, for the message.

  Raises:
    errors.UserError: names both.
  """
  if scheme := re.match(r"([a-z][a-z0-9+.-]+):/", os.fspath(path), re.I):
    raise errors.UserError(
      f"{field}={str(path)!r}: {scheme[1]}:// is no local file system; choose "
      "a local folder and copy it when the job is done, or mount the bucket "
      "(gcsfuse, s3fs) and name the folder where it is mounted"
    )


def check_name(path: str | os.PathLike[str]) -> None:
  """Refuses a path at which no file can be written, whatever its folder.

  Args:
    path: of the file.

  Raises:
    errors.UserError: its name is longer than file systems take, or a folder's.
  """
  name = os.fsencode(os.path.basename(path))
  if len(name) > _MAX_NAME:
    raise errors.UserError(
      f"the name of its result would have {len(name)} bytes, and file systems "
      f"take {_MAX_NAME}: rename it"
    )
  if os.path.isdir(path):
    raise errors.UserError(
      f"its result cannot be written: {os.fspath(path)!r} is a folder"
    )


def seal(content: bytes) -> bytes:
  """Returns a content with its digest behind it, for `is_sealed`.

  Args:
    content: of a file whose readers stop where it ends, such as arrays of numpy
      and shared libraries.
  """
  return content + hashlib.sha256(content).digest()


def is_sealed(content: bytes) -> bool:
  """Tells whether a content is what `seal` returned, with no bit changed.

  Args:
    content: of the whole file.
  """
  size = hashlib.sha256().digest_size
  return content == seal(content[:-size])


def set_aside(path: str | os.PathLike[str]) -> pathlib.Path | None:
  """Renames `path`, if it exists, to the first free `NAME.1.EXT`, `NAME.2.EXT`.

  Args:
    path: the file that is about to be replaced.

  Returns:
    The new path of the old file, or None if there was none.
  """
  path = pathlib.Path(path)
  # A link counts, wherever it leads: nothing is to be written through it.
  if not os.path.lexists(path):
    return None
  number = 1
  while os.path.lexists(free := path.with_suffix(f".{number}{path.suffix}")):
    number += 1
  return path.rename(free)
