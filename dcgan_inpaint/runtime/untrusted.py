"""Files that may be a stranger's, read within limits of time and memory."""

import errno
import functools
import io
import math
import os
import stat
import zipfile

import numpy as np

# Of a file, or of one in a zip, unpacked.
MAX_BYTES = 1 << 28
# Of all arrays of an .npz together: so many bytes, or so many for each of the
# file's. Weights do not pack well.
_MIN_UNPACKED = 1 << 26
_MAX_RATIO = 16
_PIECE = 1 << 16  # Bytes that are unpacked at a time.


def read_bytes(
  path: str | os.PathLike[str], max_bytes: int = MAX_BYTES
) -> bytes:
  """Reads a file that may be a stranger's: it neither waits nor fills memory.

  Args:
    path: the file. Of those that Linux makes up, as in /proc, nothing is read.
    max_bytes: the most that it may have.

  Raises:
    ValueError: it is larger, or no regular file: a device, a FIFO, a folder.
    OSError: it cannot be read.
  """

  def check(status: os.stat_result) -> int:
    if stat.S_ISDIR(status.st_mode):
      number = errno.EISDIR
      raise IsADirectoryError(number, os.strerror(number), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
      raise ValueError("no regular file")
    if status.st_size > max_bytes:
      raise ValueError(
        f"{status.st_size:,} bytes, and at most {max_bytes:,} are read"
      )
    return status.st_size

  # Twice: opening some devices does something, and the first look is not yet at
  # the file that is opened.
  check(os.stat(path))
  opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  with open(opened, "rb") as file:
    return file.read(check(os.fstat(opened)))


def read_npz(content: bytes) -> dict[str, np.ndarray]:
  """Returns the arrays of an .npz, which unpack to what their headers say.

  Nothing is unpickled, and nothing is allocated that the file does not fill.

  Args:
    content: of the file.

  Returns:
    {name: array}.

  Raises:
    ValueError: the arrays would be too large, or one is not what its header
      says.
    Exception: of many kinds, from zipfile and numpy, for a damaged file.
  """
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    most = max(_MIN_UNPACKED, _MAX_RATIO * len(content))
    if total > most:
      raise ValueError(
        f"{total:,} bytes unpacked, and at most {most:,} are read"
      )
    arrays: dict[str, np.ndarray] = {}
    for member in members:
      name = member.filename.removesuffix(".npy")
      if name in arrays:
        raise ValueError(f"{name!r} is there twice")
      with archive.open(member) as file:
        # In pieces, since zipfile would unpack everything before it cuts what
        # exceeds the size that the archive states.
        unpacked = b"".join(iter(functools.partial(file.read, _PIECE), b""))
      arrays[name] = read_array(unpacked)
    return arrays


def read_array(content: bytes) -> np.ndarray:
  """Returns the array of an .npy, whose bytes are those that it says.

  Args:
    content: of the file; what follows the array is not looked at.

  Raises:
    ValueError: the header is broken, or names more bytes than there are.
  """
  file = io.BytesIO(content)
  version = np.lib.format.read_magic(file)
  if version == (1, 0):
    header = np.lib.format.read_array_header_1_0(file)
  elif version == (2, 0):
    header = np.lib.format.read_array_header_2_0(file)
  else:
    raise ValueError(f"an array of version {version}")
  shape, _, dtype = header
  size = math.prod(shape) * dtype.itemsize
  if min(shape, default=0) < 0 or size > len(content) - file.tell():
    raise ValueError(
      f"an array of shape {shape} and type {dtype} is more than the file holds"
    )
  file.seek(0)
  return np.lib.format.read_array(file, allow_pickle=False)
