"""The definition of a field: its default, its explanation and its limit."""

import abc
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import typing
from typing import Any
from typing import NamedTuple


class OneOrSeveral(abc.ABC):  # noqa: B024 (It stands for two types.)
  """The type of a field that holds text or a tuple, see `runtime.lists`."""


OneOrSeveral.register(str)
OneOrSeveral.register(tuple)


class Limit(NamedTuple):
  """A condition on the values of a field.

  Attributes:
    holds: returns whether a value satisfies it.
    text: the condition in words, to follow "must be".
  """

  holds: Callable[[Any], bool]
  text: str


class Field(NamedTuple):
  """A field of a section or a job.

  Attributes:
    name: preceded by its section, if any, as in 'train.steps'.
    type: the type of its values.
    default: its value if no other is set; None marks an open field.
    explanation: a paragraph for the help.
    limit: the condition on its values; None where the type is enough, or where
      another module defines the allowed names.
  """

  name: str
  type: type
  default: Any
  explanation: str
  limit: Limit | None


def above(bound: float) -> Limit:
  """Returns the limit of a number that must be larger than `bound`."""
  return Limit(lambda value: value > bound, f"above {bound}")


def at_least(bound: float) -> Limit:
  """Returns the limit of a number that must not be smaller than `bound`."""
  return Limit(lambda value: value >= bound, f"at least {bound}")


def one_of(*choices: Any) -> Limit:
  """Returns the limit of a value that must be one of some."""
  shown = ", ".join(str(choice) or "''" for choice in choices)
  return Limit(lambda value: value in choices, f"one of {shown}")


# Pillow refuses more.
MEGAPIXELS = Limit(lambda value: 0 < value <= 178, "above 0 and at most 178")
SHARE = Limit(lambda value: 0 <= value < 1, "at least 0 and below 1")
SEED = Limit(lambda value: 0 <= value < 2**32, "from 0 to 4294967295")
DTYPE = one_of("float32", "bfloat16")


def field(default: Any, explanation: str, limit: Limit | None = None) -> Any:
  """Returns a field, for the body of a dataclass.

  Args:
    default: as in `Field`; the annotation is its type.
    explanation: as in `Field`.
    limit: as in `Field`.
  """
  return dataclasses.field(
    default=default, metadata={"explanation": explanation, "limit": limit}
  )


def section(
  only: Sequence[str] = (), without: Sequence[str] = (), **defaults: Any
) -> Any:
  """Returns a section of a job, for the body of a dataclass.

  Args:
    only: the fields that the job takes; all by default.
    without: fields that the job does not take.
    **defaults: defaults of fields that differ from those of the section.
  """
  return dataclasses.field(
    default=None,
    metadata={"only": only, "without": without, "defaults": defaults},
  )


def sections_of(schema: Any) -> dict[str, Any]:
  """Returns the sections of a job, as dataclasses, by their names.

  Args:
    schema: a dataclass whose fields are made by `field` and `section`.
  """
  hints = typing.get_type_hints(schema)
  return {
    name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)
  }


def fields_of(schema: Any) -> Iterator[Field]:
  """Yields the fields of a section or a job, in the order of their classes.

  Args:
    schema: a dataclass whose fields are made by `field` and `section`.
  """
  hints, sections = typing.get_type_hints(schema), sections_of(schema)
  for own in dataclasses.fields(schema):
    metadata = own.metadata
    if own.name not in sections:
      hint = hints[own.name]
      # `int` for an open field, whose annotation is `int | None`.
      kind = hint if isinstance(hint, type) else typing.get_args(hint)[0]
      yield Field(own.name, kind, own.default, **metadata)
      continue
    for inner in fields_of(sections[own.name]):
      only = metadata["only"] or [inner.name]
      if inner.name in only and inner.name not in metadata["without"]:
        yield inner._replace(
          name=f"{own.name}.{inner.name}",
          default=metadata["defaults"].get(inner.name, inner.default),
        )
