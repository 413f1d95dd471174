"""The exceptions whose messages are written for the user."""

from collections.abc import Iterable
import errno
import re

# The disk is full, or a quota or a limit on a file's size is reached.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A file or a disk cannot be used, or too many files are open.
_REFUSED = (
  errno.EACCES,
  errno.EIO,
  errno.EMFILE,
  errno.ENAMETOOLONG,
  errno.ENFILE,
  errno.EPERM,
  errno.EROFS,
  errno.ESTALE,
)
# A file is where a folder should be, or the other way round.
_MISPLACED = (
  errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENOTEMPTY,
)  # fmt: skip
# TensorStore, which writes checkpoints, has the number in its message alone.
_NUMBER = re.compile(r"os_error_code='(\d+)'")

# Of XLA, and of Python, whose threads need memory for their stacks.
_NO_MEMORY = re.compile(r"out of memory|can't start new thread", re.I)


class UserError(ValueError):
  """A mistake that the user can correct.

  Its message is one line that says what is wrong, where (the file, the field
  or the value) and what to do. `main` prints that line without a traceback and
  exits with status 2; any other exception, except for those that `advice`
  knows, is a defect of this package and keeps its traceback.
  """

  def __str__(self) -> str:
    return printable(super().__str__())


def printable(text: str) -> str:
  """Returns a text of one line that does nothing to a terminal.

  A file's name or a library's message may hold line breaks, control sequences
  or bytes that are no text.

  Args:
    text: anything.

  Returns:
    The text, with escapes of Python for all that is not printable.
  """
  if text.isprintable():
    return text
  return "".join(
    character
    if character.isprintable()
    else character.encode("unicode_escape").decode()
    for character in text
  )


class Stopped(Exception):
  """The job was told to stop by a signal and has saved its work.

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

  Args:
    error: what was raised; its causes are searched too.
  """
  kind, reason = _failure(error)
  return _ADVICE[kind].format(reason=reason) if kind else None


def of_machine(error: BaseException) -> bool:
  """Tells whether the machine failed: its memory, its disk or its files.

  Such a failure is nobody's mistake, and says nothing about the file, image or
  checkpoint that was in use.

  Args:
    error: what was raised; its causes are searched too.
  """
  return _failure(error)[0] not in ("", "misplaced")


_ADVICE = {
  "full": "the disk is full ({reason}): make room and run the same command "
  "again; what is saved already is intact",
  "refused": "a file cannot be used ({reason}): correct that and run the same "
  "command again",
  "misplaced": "something else is in the place of a file or folder ({reason}): "
  "move it away and run the same command again",
  "late": "a save took too long by the clock ({reason}): run the same command "
  "again; what is saved already is intact",
  "memory": "out of memory ({reason})",
}


def _failure(error: BaseException) -> tuple[str, str]:
  """Returns a key of `_ADVICE`, or '', and what the system says."""
  if isinstance(error, OSError):
    number, reason = error.errno, str(error)
  else:
    reason = str(error).strip().partition("\n")[0]
    found = _NUMBER.search(str(error))
    number = int(found[1]) if found else None
  kinds = {"full": _FULL, "refused": _REFUSED, "misplaced": _MISPLACED}
  for kind, numbers in kinds.items():
    if number in numbers:
      return kind, reason
  if isinstance(error, TimeoutError):  # Of Orbax.
    return "late", reason
  # XLA has no class of its own for a device that is out of memory, and more
  # than one way to say it.
  if (
    isinstance(error, MemoryError)
    or number == errno.ENOMEM
    or reason.startswith("RESOURCE_EXHAUSTED")
    or (isinstance(error, RuntimeError) and _NO_MEMORY.search(reason))
  ):
    return "memory", reason or type(error).__name__
  cause = error.__cause__
  if cause is None and not error.__suppress_context__:
    cause = error.__context__
  return _failure(cause) if cause else ("", "")
