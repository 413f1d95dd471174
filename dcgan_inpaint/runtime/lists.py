"""Fields of a config that hold one value or several."""

from collections.abc import Sequence
import os
from typing import Any

from dcgan_inpaint.runtime import errors


def words(value: str | Sequence[Any]) -> tuple[str, ...]:
  """Returns the names or numbers that a field lists.

  Args:
    value: a tuple, or text with commas between.

  Returns:
    Each as text; none is empty.
  """
  items = value.split(",") if isinstance(value, str) else map(str, value)
  return tuple(word for item in items if (word := item.strip()))


def paths(value: str | Sequence[str]) -> tuple[str, ...]:
  """Returns the paths that a field lists.

  Args:
    value: a tuple of paths; or text, which is one path where there is such a
      file or folder, and else may be several with commas between.
  """
  if not isinstance(value, str):
    return tuple(map(str, value))
  if os.path.lexists(os.path.expanduser(value)):
    return (value,)
  return words(value)


def one_path(value: str | Sequence[str], field: str) -> str:
  """Returns the path of a field that could list several.

  Args:
    value: a path, or a tuple of one.
    field: the config's name for it, for the message.

  Raises:
    errors.UserError: there are several.
  """
  if isinstance(value, str):
    return value
  if len(value) > 1:
    raise errors.UserError(f"{field}={value!r}: name one path")
  return str(value[0]) if value else ""
