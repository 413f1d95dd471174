"""What a field is: its default, a line of explanation and its limits."""

import abc
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import typing
from typing import Any
from typing import NamedTuple


class OneOrSeveral(abc.ABC):  # noqa: B024 (It only names two types.)
  """The type of a field that holds text or a tuple, see `runtime.lists`."""


OneOrSeveral.register(str)
OneOrSeveral.register(tuple)


class Limit(NamedTuple):
  """What a value must be.

  Attributes:
    holds: tells whether a value is within the limit.
    text: the limit in words, after "must be".
  """

  holds: Callable[[Any], bool]
  text: str


class Field(NamedTuple):
  """A field of a section or a job.

  Attributes:
    name: with its section before it, if any, as in 'train.steps'.
    type: of its values.
    default: its value where nobody sets another; None is allowed only then.
    explanation: a line for the help.
    limit: what its values must be; None where the type says all, or where
      another module knows the names that it may hold.
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
    **defaults: of fields, where the job's are not those of the section.
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
      # Of `int | None`, which is open, the first.
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
