"""results.csv: a row per image, by one process or by several.

Each row is on disk as soon as it is known, in case the job is interrupted. Each
of several processes writes its own table, and the first merges them at the end.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import csv
import pathlib
from typing import Any

import jax

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files


@contextlib.contextmanager
def create(
  workdir: pathlib.Path, columns: Sequence[str]
) -> Iterator[Callable[[dict[str, Any]], None]]:
  """Yields the function that adds a row to this process's new table.

  An earlier table is set aside.

  Args:
    workdir: the table's folder.
    columns: their names; what a row lacks is left empty.

  Yields:
    A function of a row, {column: value}.
  """
  with _open(_path(workdir, jax.process_index()), columns) as write:
    yield write


def cell(value: Any) -> Any:
  """Returns a value as a table may hold it.

  Args:
    value: a number, or a text that may be a file's name or a message on it.

  Returns:
    A text is printable, and what a spreadsheet would take for a formula has an
    apostrophe before it.
  """
  if not isinstance(value, str):
    return value
  text = errors.printable(value)
  if not text.startswith(("=", "+", "-", "@")):
    return text
  try:
    for word in text.split():
      float(word)
    return text
  except ValueError:
    return f"'{text}"


def merge(workdir: pathlib.Path, columns: Sequence[str]) -> None:
  """Merges the tables of all processes into results.csv, and removes them.

  The first process calls it once all are done.

  Args:
    workdir: the tables' folder.
    columns: as in `create`.
  """
  if jax.process_count() == 1:
    return
  parts = [_path(workdir, i) for i in range(jax.process_count())]
  with _open(workdir / "results.csv", columns) as write:
    for part in parts:
      with part.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
          write(row)
      part.unlink()


def _path(workdir: pathlib.Path, process: int) -> pathlib.Path:
  if jax.process_count() == 1:
    return workdir / "results.csv"
  return workdir / f"results.process_{process}.csv"


@contextlib.contextmanager
def _open(
  path: pathlib.Path, columns: Sequence[str]
) -> Iterator[Callable[[dict[str, Any]], None]]:
  files.set_aside(path)
  # A new file: nothing is written through a link.
  with path.open("x", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, columns)
    writer.writeheader()

    def write(row: dict[str, Any]) -> None:
      writer.writerow({name: cell(value) for name, value in row.items()})
      file.flush()

    yield write
