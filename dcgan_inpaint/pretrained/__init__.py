"""Trained models as plain arrays, and the one that comes with the package.

A model is a folder of two files: `weights.npz`, arrays under names with
slashes, and `model.json`, which says what they belong to. Nothing is pickled.
Matrices and kernels are float16, which halves the file and changes an image by
less than a grey level; all else keeps its type.

The model of the package lies beside this file; MODEL_CARD.md tells what it was
trained on, with which command, and what it does.
"""

import json
import pathlib
from typing import Any

import numpy as np

from dcgan_inpaint import errors
from dcgan_inpaint import report

# The value of `config.checkpoint.path` that means the package's own model.
NAME = "pretrained"
# Raised when an older reader could not make sense of the file.
FORMAT = 1


def find(path: str) -> pathlib.Path | None:
  """Returns the folder of an exported model.

  Args:
    path: `config.checkpoint.path`: 'pretrained', or any folder.

  Returns:
    None where the folder holds no exported model.
  """
  if path == NAME:
    return pathlib.Path(__file__).parent
  folder = pathlib.Path(path).expanduser()
  return folder if path and (folder / "weights.npz").is_file() else None


def write(
  folder: pathlib.Path, arrays: dict[str, Any], about: dict[str, Any]
) -> int:
  """Writes a model.

  Args:
    folder: where to; made if it is not there.
    arrays: nested dictionaries of numpy arrays; None where one is missing.
    about: whatever JSON can hold.

  Returns:
    The bytes of weights.npz.
  """
  folder.mkdir(parents=True, exist_ok=True)
  flat = {
    name: leaf.astype(np.float16)
    if leaf.dtype == np.float32 and leaf.ndim > 1
    else leaf
    for name, leaf in _flatten(arrays)
  }
  path = folder / "weights.npz"
  with report.replacing(path) as temporary, temporary.open("wb") as file:
    np.savez(file, **flat)
  with report.replacing(folder / "model.json") as temporary:
    temporary.write_text(json.dumps({"format": FORMAT, **about}, indent=2))
  return path.stat().st_size


def read(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the arrays, float32 again, and what `write` got as `about`.

  Raises:
    errors.UserError: a file is missing or broken, or of a later format.
  """
  try:
    about = json.loads((folder / "model.json").read_text())
    with np.load(folder / "weights.npz", allow_pickle=False) as file:
      flat = {name: file[name] for name in file.files}
    written = about.get("format")
    arrays = _unflatten(flat)
  # numpy, zipfile and JSON raise many kinds.
  except Exception as error:  # noqa: BLE001
    raise errors.UserError(
      f"{folder}: the model cannot be read ({error}); export it again"
    ) from error
  if written != FORMAT:
    raise errors.UserError(
      f"{folder}: a model of format {written!r}, and this version "
      f"reads {FORMAT}: take the version of dcgan_inpaint that wrote it"
    )
  return arrays, about


def _unflatten(flat: dict[str, np.ndarray]) -> dict[str, Any]:
  """Returns nested dictionaries of arrays, float16 as float32."""
  arrays = {}
  for name, leaf in flat.items():
    *parents, last = name.split("/")
    place = arrays
    for parent in parents:
      place = place.setdefault(parent, {})
    if last in place:
      raise ValueError(f"{name!r} is there twice")
    place[last] = leaf.astype(np.float32) if leaf.dtype == np.float16 else leaf
  return arrays


def _flatten(tree: dict[str, Any], prefix: str = ""):
  """Yields the leaves under their names with slashes; None is left out."""
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _flatten(value, f"{prefix}{name}/")
    elif value is not None:
      yield f"{prefix}{name}", np.asarray(value)
