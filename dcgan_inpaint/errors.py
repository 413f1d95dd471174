"""The one exception that is meant for the user's eyes."""


class UserError(ValueError):
  """A mistake that the user can mend.

  Its message is one line that says what is wrong, where (the file, the field
  or the value) and what to do. `main` prints that line without a traceback and
  exits with status 2; every other exception is a defect of ours and keeps its
  traceback.
  """
