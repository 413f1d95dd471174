"""The exceptions whose messages are written for the user."""

from collections.abc import Iterable
import errno
import re

# The disk is full, or a quota or a limit on a file's size is reached.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A file or a disk cannot be used.
_REFUSED = (
  errno.EACCES, errno.EIO, errno.ENAMETOOLONG, errno.EPERM, errno.EROFS,
  errno.ESTALE,
)  # fmt: skip
# TensorStore, which writes checkpoints, has the number in its message alone.
_NUMBER = re.compile(r"os_error_code='(\d+)'")


class UserError(ValueError):
  """A mistake that the user can correct.

  Its message is one line that says what is wrong, where (the file, the field
  or the value) and what to do. `main` prints that line without a traceback and
  exits with status 2; any other exception, except for those that `advice`
  knows, is a defect of this package and keeps its traceback.
  """

  def __str__(self) -> str:
    # A file's name or a library's message may contain line breaks or control
    # sequences of a terminal.
    return "".join(
      character
      if character.isprintable()
      else character.encode("unicode_escape").decode()
      for character in super().__str__()
    )


class Stopped(Exception):
  """The job was told to stop (SIGTERM) and has saved its work.

  Its message says how far it came. `main` prints that line and how to continue,
  and exits with status 0.
  """


def check_choice(field: str, value: str, choices: Iterable[str]) -> None:
  """Refuses a name that is none of those that there are.

  Args:
    field: where it stands, such as 'config.faces'.
    value: the name.
    choices: the names that there are.

  Raises:
    UserError: names the field, the value and the choices.
  """
  choices = tuple(choices)
  if value not in choices:
    raise UserError(f"{field}={value!r}: choose one of {', '.join(choices)}")


def advice(error: BaseException) -> str | None:
  """Returns a line on a failure of the machine, or None for any other error.

  Such a failure is nobody's mistake, and says nothing about the file, image or
  checkpoint that was in use.

  Args:
    error: what was raised; its causes are searched too.
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
      "what is saved already is intact"
    )
  if number in _REFUSED:
    return (
      f"a file cannot be used ({reason}): correct that and run the same "
      "command again"
    )
  # Orbax times a save by the wall clock, which may jump ahead.
  if isinstance(error, TimeoutError):
    return (
      f"a save took too long by the clock ({reason}): run the same command "
      "again; what is saved already is intact"
    )
  # XLA has no class of its own for a device that is out of memory.
  if isinstance(error, MemoryError) or reason.startswith("RESOURCE_EXHAUSTED"):
    return f"out of memory ({reason})"
  cause = error.__cause__
  if cause is None and not error.__suppress_context__:
    cause = error.__context__
  return advice(cause) if cause else None
