"""The exceptions that are meant for the user's eyes."""

import errno
import re

# Of a disk that is full, by its size, a quota or a limit on files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of a file or a disk that cannot be used.
_REFUSED = (
  errno.EACCES, errno.EIO, errno.ENAMETOOLONG, errno.EPERM, errno.EROFS,
  errno.ESTALE,
)  # fmt: skip
# TensorStore, which writes the checkpoints, only prints the number.
_NUMBER = re.compile(r"os_error_code='(\d+)'")


class UserError(ValueError):
  """A mistake that the user can mend.

  Its message is one line that says what is wrong, where (the file, the field
  or the value) and what to do. `main` prints that line without a traceback and
  exits with status 2; every other exception is a defect of ours and keeps its
  traceback, but for those that `advice` knows.
  """

  def __str__(self) -> str:
    # A file's name or a library's message may hold a line's end, or what moves
    # a terminal's cursor.
    return "".join(
      character
      if character.isprintable()
      else character.encode("unicode_escape").decode()
      for character in super().__str__()
    )


class Stopped(Exception):
  """The job was asked to stop (SIGTERM) and has saved what it had done.

  Its message says how far it came. `main` prints that line and how to go on,
  and exits with status 0.
  """


def advice(error: BaseException) -> str | None:
  """Returns a line on a failure of the machine, or None for any other.

  Such a failure is nobody's mistake, and no file, image or checkpoint that was
  at work is to blame for it.

  Args:
    error: what was raised; what it was raised from counts too.
  """
  if isinstance(error, OSError):
    number, reason = error.errno, str(error)
  else:
    reason = str(error).strip().partition("\n")[0]
    found = _NUMBER.search(str(error))
    number = int(found[1]) if found else None
  if number in _FULL:
    return (
      f"the disk is full ({reason}): make room and run the same command again; "
      "what was saved before is whole"
    )
  if number in _REFUSED:
    return (
      f"a file cannot be used ({reason}): mend that and run the same command "
      "again"
    )
  # Orbax takes the time of a save by the wall clock, which may jump ahead.
  if isinstance(error, TimeoutError):
    return (
      f"a save took too long by the clock ({reason}): run the same command "
      "again; what was saved before is whole"
    )
  # XLA's error for the memory of a device has no class of its own.
  if isinstance(error, MemoryError) or reason.startswith("RESOURCE_EXHAUSTED"):
    return f"out of memory ({reason})"
  cause = error.__cause__
  if cause is None and not error.__suppress_context__:
    cause = error.__context__
  return advice(cause) if cause else None
