"""The exceptions that are meant for the user's eyes."""


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
