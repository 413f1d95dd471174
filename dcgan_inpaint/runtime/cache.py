"""Arrays that take seconds to make, kept in the user's cache between runs."""

from collections.abc import Callable
import contextlib
import hashlib
import pathlib
from types import ModuleType
from typing import Any

import numpy as np

from dcgan_inpaint.runtime import files

CACHE = "~/.cache/dcgan_inpaint/kept"


def array(
  make: Callable[[], np.ndarray], modules: list[ModuleType], *arguments: Any
) -> np.ndarray:
  """Returns `make()`, from the file of an earlier run if there is one.

  Args:
    make: makes the array, always the same one.
    modules: whose source, or else whose version, it depends on.
    *arguments: what else it depends on; told apart by `repr`.
  """
  made_by = [
    getattr(module, "__version__", None)
    or pathlib.Path(module.__file__).read_text()
    for module in modules
  ]
  key = repr((made_by, arguments)).encode()
  path = pathlib.Path(CACHE).expanduser()
  path /= f"{hashlib.sha256(key).hexdigest()[:16]}.npy"
  # One that is not there, or damaged, is made again.
  with contextlib.suppress(OSError, ValueError, EOFError):
    return np.load(path, allow_pickle=False)
  made = make()
  # Where nothing can be kept, it is made every time.
  with (
    contextlib.suppress(OSError),
    files.replacing(path) as whole,
    whole.open("wb") as file,
  ):
    np.save(file, made, allow_pickle=False)
  return made
