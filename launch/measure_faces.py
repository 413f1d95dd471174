"""Packs faces into sheets, for a machine to which little can be copied.

  python launch/measure_faces.py pack faces.sheets.zip train-0.zip train-1.zip
  python launch/measure_faces.py unpack faces.sheets.zip faces.zip

A sheet is a WebP picture of up to 32x32 faces of one size, which takes a sixth
less than as many WebP files: 36,000 faces of 64x64 take 51 MB. Names are kept,
but for the suffix. `measure` unpacks files that are named .sheets.zip.
"""

from collections.abc import Sequence
import io
import json
import pathlib
import sys
import zipfile

import numpy as np
from PIL import Image

_SIDE = 32  # Faces along each side of a sheet.
_QUALITY = 90
_NAMES = "names.json"


def pack(target: pathlib.Path, sources: Sequence[pathlib.Path]) -> int:
  """Writes the faces of zips as sheets; returns how many there are.

  Args:
    target: the zip that is written.
    sources: zips of images, all of one size.
  """
  names, faces = [], []
  with zipfile.ZipFile(target, "w") as archive:

    def write() -> None:
      size = faces[0].shape[0]
      sheet = np.zeros((_SIDE, _SIDE, size, size, 3), np.uint8)
      sheet.reshape(-1, size, size, 3)[: len(faces)] = faces
      picture = sheet.transpose(0, 2, 1, 3, 4).reshape(-1, _SIDE * size, 3)
      encoded = io.BytesIO()
      Image.fromarray(picture).save(encoded, "WEBP", quality=_QUALITY)
      number = (len(names) - 1) // _SIDE**2
      archive.writestr(f"{number:04d}.webp", encoded.getvalue())
      faces.clear()

    for source in sources:
      with zipfile.ZipFile(source) as images:
        for name in sorted(images.namelist()):
          image = Image.open(io.BytesIO(images.read(name))).convert("RGB")
          names.append(name)
          faces.append(np.asarray(image))
          if len(faces) == _SIDE**2:
            write()
    if faces:
      write()
    archive.writestr(_NAMES, json.dumps(names))
  return len(names)


def unpack(source: pathlib.Path, target: pathlib.Path) -> int:
  """Writes the faces of sheets as single images; returns how many there are.

  Args:
    source: of `pack`.
    target: the zip that is written, of BMP images, which are fast to write.
  """
  partial = target.with_name(f".{target.name}")
  with zipfile.ZipFile(source) as sheets, zipfile.ZipFile(partial, "w") as into:
    names = json.loads(sheets.read(_NAMES))
    for first in range(0, len(names), _SIDE**2):
      encoded = sheets.read(f"{first // _SIDE**2:04d}.webp")
      picture = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
      size = len(picture) // _SIDE
      faces = picture.reshape(_SIDE, size, _SIDE, size, 3)
      faces = faces.transpose(0, 2, 1, 3, 4).reshape(-1, size, size, 3)
      for name, face in zip(names[first:], faces, strict=False):
        bitmap = io.BytesIO()
        Image.fromarray(face).save(bitmap, "BMP")
        path = pathlib.PurePosixPath(name).with_suffix(".bmp")
        into.writestr(str(path), bitmap.getvalue())
  partial.replace(target)
  return len(names)


if __name__ == "__main__":
  _verb, _first, *_others = sys.argv[1:]
  _paths = [pathlib.Path(path) for path in _others]
  _count = (
    pack(pathlib.Path(_first), _paths)
    if _verb == "pack"
    else unpack(pathlib.Path(_first), *_paths)
  )
  print(f"{_count} faces")
