"""A disk cache of arrays that take seconds to compute."""

from collections.abc import Callable
import contextlib
import hashlib
import pathlib
from types import ModuleType
from typing import Any

import numpy as np

from dcgan_inpaint.runtime import files

FOLDER = "~/.cache/dcgan_inpaint/arrays"


def array(
  make: Callable[[], np.ndarray], modules: list[ModuleType], *arguments: Any
) -> np.ndarray:
  """Returns `make()`, or what an earlier run has stored of it.

  Args:
    make: computes the array; the same for the same modules and arguments.
    modules: what it depends on: by their version, or else by their source.
    *arguments: what else it depends on; told apart by `repr`.
  """
  made_by = [
    getattr(module, "__version__", None)
    or pathlib.Path(str(module.__file__)).read_text()
    for module in modules
  ]
  key = repr((made_by, arguments)).encode()
  path = pathlib.Path(FOLDER).expanduser()
  path /= f"{hashlib.sha256(key).hexdigest()[:16]}.npy"
  # One that is missing or damaged is made again.
  with (
    contextlib.suppress(OSError, ValueError, EOFError),
    # numpy leaves a file open that it cannot read.
    path.open("rb") as file,
  ):
    return np.load(file, allow_pickle=False)
  made = make()
  # Where nothing can be stored, it is made every time.
  with (
    contextlib.suppress(OSError),
    files.replacing(path) as whole,
    whole.open("wb") as file,
  ):
    np.save(file, made, allow_pickle=False)
  return made
