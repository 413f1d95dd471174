"""results.csv: a row an image, of one process or of several.

A row is on disk as soon as it is known, for jobs that are cut. Each of several
processes writes a table of its own, of which the first makes one at the end.
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
    workdir: where it goes.
    columns: their names; what a row lacks is left empty.
  """
  with _open(_path(workdir, jax.process_index()), columns) as write:
    yield write


def merge(workdir: pathlib.Path, columns: Sequence[str]) -> None:
  """Makes results.csv of the tables of all processes, which it removes.

  For the first process to call, once all are done.

  Args:
    workdir: where they lie.
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
def _open(path, columns):
  files.set_aside(path)
  # A name on disk may hold bytes that are no text.
  with path.open(
    "w", newline="", encoding="utf-8", errors="backslashreplace"
  ) as file:
    writer = csv.DictWriter(file, columns)
    writer.writeheader()

    def write(row: dict[str, Any]) -> None:
      writer.writerow(row)
      file.flush()

    yield write
