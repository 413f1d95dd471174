"""Trained models as plain arrays, and the one that comes with the package.

A model is a folder of two files: `weights.npz`, arrays under names with
slashes, and `model.json`, which says what they belong to. Nothing is pickled.
Matrices and kernels are float16, and an encoder's matrices of more than a
million values int8, with a scale for each column, which moves what is completed
by 0.16 of a grey level in the mean. All else keeps its type.

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
# Raised when an older reader could not make sense of the file. 1 had no int8.
FORMAT = 2
# Values of one of the encoder's matrices above which it is int8.
_LARGE = 1_000_000
_ENCODER = "weights/encoder/"
# Under this end of its name lie the scales of an int8 matrix.
_SCALE = "_scale"


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
  flat = {}
  for name, leaf in _flatten(arrays):
    if leaf.dtype != np.float32 or leaf.ndim < 2:
      flat[name] = leaf
    elif name.startswith(_ENCODER) and leaf.ndim == 2 and leaf.size > _LARGE:
      flat[name], flat[name + _SCALE] = _quantised(leaf)
    else:
      flat[name] = leaf.astype(np.float16)
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
  if written not in range(1, FORMAT + 1):
    raise errors.UserError(
      f"{folder}: a model of format {written!r}, and this version reads those "
      f"up to {FORMAT}: take the version of dcgan_inpaint that wrote it"
    )
  return arrays, about


def _quantised(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns a matrix [M, N] as int8 [M, N] and the float32 scales [N]."""
  scale = np.abs(matrix).max(axis=0) / np.float32(127)
  # A column of zeros stays one.
  steps = matrix / np.where(scale > 0, scale, 1)
  return np.round(steps).astype(np.int8), scale


def _unflatten(flat: dict[str, np.ndarray]) -> dict[str, Any]:
  """Returns nested dictionaries of arrays, float16 and int8 as float32."""
  arrays = {}
  flat = dict(flat)
  for name in [name for name in flat if flat[name].dtype == np.int8]:
    flat[name] = flat[name] * flat.pop(name + _SCALE)
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
