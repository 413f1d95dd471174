"""`results.json` and the tables of a job.

Only process 0 calls these functions. An earlier `results.json` is set aside,
never overwritten.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import datetime
import importlib.metadata
import itertools
import json
import math
import numbers
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any
from typing import TypeAlias

from absl import logging
import jax
import ml_collections

import dcgan_inpaint
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
  "scikit-image",
)

Rows: TypeAlias = Sequence[Mapping[str, Any]]  # {column: value} each.


def table(rows: Rows, columns: Sequence[str] | None = None) -> str:
  """Returns rows as aligned text: words to the left, numbers to the right.

  Args:
    rows: numbers and words by their column's name.
    columns: names in their order; None takes all in order of appearance.

  Returns:
    Lines of text, the header first. What a row lacks is '-'.
  """
  header, cells, numeric = _cells(rows, columns)
  lines = [header, *cells]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(
      cell.rjust(width) if right else cell.ljust(width)
      for cell, width, right in zip(line, widths, numeric, strict=True)
    ).rstrip()
    for line in lines
  )


def tables(rows: Rows) -> str:
  """Returns the rows of a job as text, a table for each kind of row.

  Intervals, digests and nested values are left out; results.json has them.

  Args:
    rows: dicts from a column's name to a value; those of one kind have the same
      columns.
  """
  text = ""
  for columns, group in itertools.groupby(rows, key=list):
    kind = list(group)
    shown = [
      name
      for name in columns
      if not name.endswith(("_ci95", "_digest"))
      and not isinstance(kind[0][name], (dict, list))
    ]
    text += f"{table(kind, shown)}\n\n"
  return text.removesuffix("\n")


def _cells(
  rows: Rows, columns: Sequence[str] | None
) -> tuple[list[str], list[list[str]], list[bool]]:
  """Returns the header, the rows as text, and which columns are numbers."""
  if columns is None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
  numeric = [
    any(isinstance(row.get(name), numbers.Real) for row in rows)
    for name in columns
  ]
  cells = [[_text(row.get(name)) for name in columns] for row in rows]
  return list(columns), cells, numeric


def _text(value: Any) -> str:
  """Returns a value as a table shows it: four digits, no exponents."""
  if value is None:
    return "-"
  if isinstance(value, numbers.Real) and not isinstance(
    value, numbers.Integral
  ):
    large = 1000 <= abs(float(value)) < math.inf
    return f"{value:.0f}" if large else f"{value:.4g}"
  return errors.printable(str(value))


def collect(
  job: str,
  config: ml_collections.ConfigDict | Mapping[str, Any],
  rows: Rows,
  **extra: Any,
) -> dict[str, Any]:
  """Returns rows with all that is needed to repeat the job, as JSON types.

  Args:
    job: the job's name.
    config: the whole config.
    rows: numbers and words by their column's name. NaN and infinity become
      None, since JSON cannot represent them.
    **extra: more entries.
  """
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  entries = {
    "job": job,
    "config": config,
    "versions": _versions(),
    "devices": _devices(),
    "commit": _commit(),
    "command": shlex.join(sys.argv),
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    **extra,
    "rows": rows,
  }
  return plain(entries)


def write(
  workdir: str | os.PathLike[str],
  job: str,
  config: ml_collections.ConfigDict | Mapping[str, Any],
  rows: Rows,
  **extra: Any,
) -> pathlib.Path:
  """Writes the result of `collect` to `results.json`.

  An earlier file is renamed to `results.1.json`, `results.2.json` and so on.

  Args:
    workdir: the job's folder.
    job: the job's name.
    config: the whole config.
    rows: numbers and words by their column's name.
    **extra: more entries of the file.

  Returns:
    The path of the file.
  """
  path = pathlib.Path(workdir) / "results.json"
  entries = collect(job, config, rows, **extra)
  text = json.dumps(entries, indent=2, allow_nan=False) + "\n"
  with files.replacing(path) as temporary:
    temporary.write_text(text)
    files.set_aside(path)
  return path


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns what `write` wrote.

  Args:
    path: the file, or the folder of a `results.json`.

  Raises:
    errors.UserError: there is no such file, or it is not a results file.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = path / "results.json"
  try:
    entries = json.loads(path.read_text())
  except FileNotFoundError:
    raise errors.UserError(
      f"{path} does not exist: give the workdir of a job that has finished"
    ) from None
  except (ValueError, RecursionError) as error:
    raise errors.UserError(f"{path} is not valid JSON ({error})") from None
  if not isinstance(entries, dict) or "rows" not in entries:
    raise errors.UserError(f"{path} is not a results file: it has no 'rows'")
  return entries


def warn_of_differences(entries: Mapping[str, Any]) -> None:
  """Warns of packages and code whose versions are not those of an earlier run.

  Args:
    entries: of the earlier run, as `read` returns them.
  """
  now = {"commit": _commit(), **_versions()}
  then = {"commit": entries.get("commit"), **entries.get("versions", {})}
  for name in now:
    if name in then and then[name] != now[name]:
      logging.warning(
        "%s is %s here, and was %s in the earlier run: the result may differ",
        name, now[name], then[name],
      )  # fmt: skip


def plain(value: Any) -> Any:
  """Returns a value in JSON types: arrays as lists, NaN and inf as None.

  Args:
    value: numbers, words, paths, arrays, and dicts and sequences of them.
  """
  if isinstance(value, dict):
    return {str(name): plain(item) for name, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if isinstance(value, pathlib.PurePath):
    return str(value)
  if hasattr(value, "tolist"):  # Arrays and scalars of numpy and JAX.
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _versions() -> dict[str, str | None]:
  """Returns the version of each package that a result depends on."""
  versions: dict[str, str | None] = {
    "python": platform.python_version(),
    "dcgan_inpaint": dcgan_inpaint.__version__,
  }
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = None
  return versions


def _devices() -> dict[str, Any]:
  """Returns the platform, kind and number of all devices of the run."""
  device = jax.devices()[0]
  return {
    "platform": device.platform,
    "kind": device.device_kind,
    "count": jax.device_count(),
    "processes": jax.process_count(),
  }


def _commit() -> str | None:
  """Returns the commit of the package's checkout, or None outside of one.

  '-dirty' follows where files of the commit were changed.
  """
  root = pathlib.Path(dcgan_inpaint.__file__).resolve().parent.parent
  if not (root / ".git").exists():
    return None  # Installed: a repository further up is another project's.
  command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
  try:
    return subprocess.run(
      [*command, "--exclude=*"],
      cwd=root,
      capture_output=True,
      check=True,
      text=True,
      timeout=10,
    ).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return None  # No git, or no commit yet.
