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
  # File names may hold bytes that are not valid text.
  with path.open(
    "w", newline="", encoding="utf-8", errors="backslashreplace"
  ) as file:
    writer = csv.DictWriter(file, columns)
    writer.writeheader()

    def write(row: dict[str, Any]) -> None:
      writer.writerow(row)
      file.flush()

    yield write
