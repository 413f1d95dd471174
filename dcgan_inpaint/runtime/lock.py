"""One run at a time in a workdir, or in a folder of results.

The lock is the operating system's, by `fcntl.lockf` on the file `.lock`, or on
one in the cache for a folder that gets results and nothing else. It ends with
the process that holds it, however that ends, and children do not inherit it.
The file stays, and means nothing once the lock is gone. Network file systems
share such locks between hosts (NFS does); on one without locks a warning is
logged, and the run continues.
"""

from collections.abc import Iterator
import contextlib
import datetime
import errno
import fcntl
import os
import pathlib
import socket
import stat
from typing import TextIO

from absl import logging
import jax

from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import errors

_HELD = (errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def hold(
  workdir: str | os.PathLike[str],
  field: str = "--workdir",
  *,
  inside: bool = True,
) -> Iterator[None]:
  """Holds a folder for a block; of a run's processes, the first one does.

  A process must not hold a folder twice: the system would take the inner lock
  for the outer one, and end both.

  Args:
    workdir: a folder that exists.
    field: the flag or config field that names it, for the message.
    inside: whether the file of the lock lies in it, or in the cache.

  Yields:
    Nothing.

  Raises:
    errors.UserError: another run holds it, and the message says which; or
      something else is in the place of the lock.
  """
  if jax.process_index():
    yield
    return
  path = pathlib.Path(workdir) / ".lock"
  if not inside:
    path = cache.beside(workdir, ".lock")
  with _open(path, field) as file:
    try:
      fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno in _HELD:
        file.seek(0)
        raise errors.UserError(
          f"{field}={str(workdir)!r} is in use by {file.read(200)}: wait for "
          f"it to end, or choose another {field}"
        ) from None
      logging.warning(
        "%s does not support locks (%s): start no other run there meanwhile",
        workdir, error.strerror,
      )  # fmt: skip
    else:
      since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
      file.truncate(0)
      file.write(f"process {os.getpid()} of {socket.gethostname()} ({since})")
      file.flush()
    yield


def _open(path: pathlib.Path, field: str) -> TextIO:
  """Opens the file of the lock, and nothing else that may have its name."""
  wrong = errors.UserError(
    f"{path} is no regular file: remove it, or choose another {field}"
  )
  # Neither is a link followed, nor does a FIFO wait for its other end.
  flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
  try:
    opened = os.open(path, flags, 0o666)
  except OSError as error:
    if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
      raise wrong from None
    raise
  if not stat.S_ISREG(os.fstat(opened).st_mode):
    os.close(opened)
    raise wrong
  return open(opened, "a+")  # noqa: SIM115 (The caller closes it.)
