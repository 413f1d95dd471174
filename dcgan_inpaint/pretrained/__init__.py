"""Trained models as plain arrays, and the packaged model.

A model is a folder of two files: `weights.npz`, arrays under names with
slashes, and `model.json`, which describes the networks. Nothing is pickled.
Matrices and kernels are float16. Those of an encoder with more than 100,000
values are int8, with a scale for each last index, and its matrices of more than
a million values have four bits a value, with a scale for every 128 rows of a
column, which changes completed images by 0.34 of a grey level in the mean. All
other arrays keep their type.

The packaged model is in this folder; MODEL_CARD.md describes its data, its
training commands and its results.
"""

from collections.abc import Iterator
import hashlib
import io
import json
import os
import pathlib
from typing import Any

import numpy as np

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import untrusted

# The value of `config.checkpoint.path` that names the packaged model.
NAME = "pretrained"
# Increased when older readers cannot interpret the file. 1 has no int8, and 2
# neither four bits nor several encoders.
FORMAT = 3
# Values of an encoder's array above which it is int8, and above which it has
# four bits a value, if it is a matrix.
_LARGE = 100_000
_VERY_LARGE = 1_000_000
_ENCODER = "weights/encoder"
# Suffixes of the names of the scales of an array of int8, and of one of four
# bits.
_SCALE = "_scale"
_SCALE_4 = "_scale4"
# In model.json: of the bytes of weights.npz.
_DIGEST = "weights_sha256"
# Bytes of model.json and of weights.npz.
_MAX_ABOUT = 1 << 20
_MAX_WEIGHTS = 1 << 30
# Rows of a column that share a scale of the four bits.
_GROUP = 128


def find(path: str) -> pathlib.Path | None:
  """Returns the folder of an exported model.

  Args:
    path: `config.checkpoint.path`: 'pretrained', or any folder.

  Returns:
    None if the folder holds no exported model.
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
    folder: to write to; created if missing.
    arrays: nested dictionaries of NumPy arrays; None for a missing one.
    about: anything that JSON can represent.

  Returns:
    The bytes of weights.npz.
  """
  folder.mkdir(parents=True, exist_ok=True)
  flat = {}
  for name, leaf in _flatten(arrays):
    if leaf.dtype != np.float32 or leaf.ndim < 2:
      flat[name] = leaf
    elif not name.startswith(_ENCODER) or leaf.size <= _LARGE:
      flat[name] = leaf.astype(np.float16)
    elif leaf.ndim == 2 and leaf.size > _VERY_LARGE and not len(leaf) % _GROUP:
      flat[name], flat[name + _SCALE_4] = _in_four_bits(leaf)
    else:
      flat[name], flat[name + _SCALE] = _in_eight_bits(leaf)
  packed = io.BytesIO()
  np.savez_compressed(packed, **flat)
  content = packed.getvalue()
  sha256 = hashlib.sha256(content).hexdigest()
  # A reader at any moment, or after a kill, finds one model or the other: the
  # new description is of weights that lie under a name of their own until both
  # are there.
  waiting = _waiting(folder, sha256)
  with files.replacing(waiting) as temporary:
    temporary.write_bytes(content)
  described = {"format": FORMAT, _DIGEST: sha256, **about}
  with files.replacing(folder / "model.json") as temporary:
    temporary.write_text(json.dumps(described, indent=2))
  os.replace(waiting, folder / "weights.npz")
  for left in folder.glob(".weights.*.npz"):  # By an export that was killed.
    left.unlink()
  return len(content)


def read(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the arrays, in float32, and the `about` of `write`.

  Raises:
    errors.UserError: a file is missing or broken, or of a later format.
  """
  try:
    about = json.loads(untrusted.read_bytes(folder / "model.json", _MAX_ABOUT))
    sha256 = about.pop(_DIGEST, None)  # Models of 0.1.0 have none.
    content, intact = _weights(folder, sha256)
    arrays = _unflatten(untrusted.read_npz(content))
    written = about.get("format")
    if not intact:
      raise ValueError("weights.npz is damaged, or of another model.json")
  # NumPy, zipfile and JSON raise many kinds of exceptions.
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


def _waiting(folder: pathlib.Path, sha256: str) -> pathlib.Path:
  """Returns the path of weights that are not yet under their final name."""
  return folder / f".weights.{sha256[:16]}.npz"


def _weights(folder: pathlib.Path, sha256: str | None) -> tuple[bytes, bool]:
  """Returns the bytes of the weights, and whether they are what they should.

  Args:
    folder: of the model.
    sha256: of the bytes, as the description says; None leaves it open.
  """
  content = untrusted.read_bytes(folder / "weights.npz", _MAX_WEIGHTS)
  if sha256 is None or hashlib.sha256(content).hexdigest() == sha256:
    return content, True
  waiting = _waiting(folder, str(sha256))
  if waiting.is_file():
    content = untrusted.read_bytes(waiting, _MAX_WEIGHTS)
  return content, hashlib.sha256(content).hexdigest() == sha256


def _in_eight_bits(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns an array [..., N] as int8 [..., N] and the float32 scales [N]."""
  scale = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
  scale /= np.float32(127)
  # Columns of zeros stay zero.
  steps = array / np.where(scale > 0, scale, 1)
  return np.round(steps).astype(np.int8), scale


def _in_four_bits(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns a matrix [M, N] in four bits a value.

  Each scale is chosen from several by the least squared error: clipping a
  column's few largest values costs less than coarser steps of all others.

  Args:
    matrix: float32; M is a multiple of `_GROUP`.

  Returns:
    uint8 [M / 2, N], an even row in the low half and the odd one after it in
    the high half, each value 8 more than its steps of -7 to 7; and the float16
    scales [M / _GROUP, N].
  """
  groups = matrix.reshape(-1, _GROUP, matrix.shape[1])
  largest = np.abs(groups).max(axis=1, keepdims=True) / 7
  steps, scale = np.zeros_like(groups), np.zeros_like(largest)
  least = np.full_like(largest, np.inf)
  for fraction in np.linspace(0.4, 1, 13, dtype=np.float32):
    tried = np.float32(np.float16(largest * fraction))
    # Columns of zeros, or of values too small for float16, become zero.
    found = np.round(groups / np.where(tried > 0, tried, np.inf)).clip(-7, 7)
    error = np.sum((groups - found * tried) ** 2, axis=1, keepdims=True)
    better = error < least
    steps = np.where(better, found, steps)
    scale = np.where(better, tried, scale)
    least = np.minimum(error, least)
  halves = (steps + 8).astype(np.uint8).reshape(-1, 2, matrix.shape[1])
  return halves[:, 0] | halves[:, 1] << 4, scale[:, 0].astype(np.float16)


def _from_four_bits(packed: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """Returns the float32 matrix [M, N] from the output of `_in_four_bits`."""
  steps = np.stack([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
  groups = steps.reshape(len(scale), -1, packed.shape[1])
  matrix = groups * scale[:, None].astype(np.float32)
  return matrix.reshape(-1, packed.shape[1])


def _unflatten(flat: dict[str, np.ndarray]) -> dict[str, Any]:
  """Returns nested dictionaries of arrays, dequantised to float32."""
  arrays = {}
  flat = dict(flat)
  for name in list(flat):
    if name + _SCALE in flat:
      flat[name] = flat[name] * flat.pop(name + _SCALE)
    elif name + _SCALE_4 in flat:
      flat[name] = _from_four_bits(flat[name], flat.pop(name + _SCALE_4))
  for name, leaf in flat.items():
    *parents, last = name.split("/")
    place = arrays
    for parent in parents:
      place = place.setdefault(parent, {})
    if last in place:
      raise ValueError(f"{name!r} is there twice")
    place[last] = leaf.astype(np.float32) if leaf.dtype == np.float16 else leaf
  return arrays


def _flatten(
  tree: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the leaves with their names with slashes; None is left out."""
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _flatten(value, f"{prefix}{name}/")
    elif value is not None:
      yield f"{prefix}{name}", np.asarray(value)
