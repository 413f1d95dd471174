"""What takes seconds to make and is kept on disk: arrays, compiled programs."""

from collections.abc import Callable
import contextlib
import glob
import hashlib
import io
import os
import pathlib
import re
import tempfile
from types import ModuleType
from typing import Any
import warnings

from absl import logging
import numpy as np

from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import untrusted

_DAMAGED_PROGRAM = re.compile(
  "Error reading persistent compilation cache entry for '(.+?)'"
)

FOLDER = "~/.cache/dcgan_inpaint/arrays"
# Of compiled programs, where nobody names another.
PROGRAMS = "~/.cache/dcgan_inpaint/xla"
# Of what is known of folders that hold results and nothing else.
FOLDERS = "~/.cache/dcgan_inpaint/folders"


def beside(folder: str | os.PathLike[str], suffix: str) -> pathlib.Path:
  """Returns a file that belongs to a folder and does not lie in it.

  Args:
    folder: which may not exist.
    suffix: of the file.

  Returns:
    Its path, in the cache, or in a folder of the user's own for temporary files
    where there can be no cache.
  """
  path = os.fsencode(pathlib.Path(folder).expanduser().resolve())
  root = pathlib.Path(FOLDERS).expanduser()
  try:
    root.mkdir(parents=True, exist_ok=True)
  except OSError:
    root = pathlib.Path(tempfile.gettempdir(), f"dcgan_inpaint_{os.getuid()}")
    root.mkdir(mode=0o700, exist_ok=True)
  return root / f"{hashlib.sha256(path).hexdigest()[:32]}{suffix}"


def heal_programs(folder: str | os.PathLike[str]) -> None:
  """Removes damaged programs from JAX's cache when it comes upon them.

  JAX only warns, compiles again and leaves the file, to warn again in every
  later run.

  Args:
    folder: `jax_compilation_cache_dir`.
  """
  show = warnings.showwarning

  def remove(message: Warning | str, *details: Any, **more: Any) -> None:
    found = _DAMAGED_PROGRAM.match(str(message))
    if not found:
      show(message, *details, **more)
      return
    # The warning tells the function, of which few programs are kept.
    for entry in pathlib.Path(folder).glob(f"{glob.escape(found[1])}-*"):
      with contextlib.suppress(OSError):
        entry.unlink()
    logging.warning(
      "a damaged program is removed from %s, and compiled again", folder
    )

  warnings.showwarning = remove


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
  # One that is missing, damaged or without a digest is made again.
  with contextlib.suppress(OSError, ValueError):
    content = path.read_bytes()
    if files.is_sealed(content):
      return untrusted.read_array(content)
  made = make()
  stored = io.BytesIO()
  np.save(stored, made, allow_pickle=False)
  # Where nothing can be stored, it is made every time.
  with contextlib.suppress(OSError), files.replacing(path) as whole:
    whole.write_bytes(files.seal(stored.getvalue()))
  return made
