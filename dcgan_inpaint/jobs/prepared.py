"""Which photographs the job `prepare` has cut faces out of, and their names.

Names of files do not say it: the second face of party.jpg and the only one of
party_2.jpg would both be party_2.png. So a hidden file in the data set's folder
holds a line of JSON for each photograph: its name, a digest of its content, and
the names of its faces. A line is written before its faces, so that every file
there is known; a photograph is done when all of its faces exist.
"""

import hashlib
import json
import pathlib

from dcgan_inpaint.data import folder

NAME = ".prepared.jsonl"


class Record:
  """The record of a folder of faces."""

  def __init__(self, root: pathlib.Path):
    """Reads the record, if there is one.

    Args:
      root: the folder, which need not exist.
    """
    self._root = root
    self._faces: dict[tuple[str, str], list[str]] = {}
    # Files that an earlier version left without a record.
    self._older: set[str] = set()
    path = root / NAME
    if path.exists():
      for line in path.read_text(encoding="utf-8").splitlines():
        try:
          entry = json.loads(line)
          key = (entry["photograph"], entry["digest"])
          self._faces[key] = list(map(str, entry["faces"]))
        # The last line may be torn; that photograph is done again.
        except (ValueError, KeyError, TypeError):
          continue
    else:
      self._older = {
        file.relative_to(root).as_posix() for file in root.rglob("*.png")
      }
    self._taken = {name for names in self._faces.values() for name in names}

  def is_done(self, file: folder.File, encoded: bytes) -> bool:
    """Tells whether all faces of a photograph exist.

    Args:
      file: the photograph.
      encoded: its bytes.
    """
    names = self._faces.get(_key(file, encoded))
    if names is None:
      first = {_face_names(file.stem, 1)[0], _face_names(file.stem, 2)[0]}
      return bool(first & self._older)
    return all((self._root / name).exists() for name in names)

  def propose(self, file: folder.File, encoded: bytes, count: int) -> list[str]:
    """Returns names for the faces of a photograph, which no other has.

    Args:
      file: the photograph.
      encoded: its bytes.
      count: of its faces.
    """
    names = self._faces.get(_key(file, encoded), [])
    return names if len(names) == count else self._free_names(file, count)

  def claim(self, file: folder.File, encoded: bytes, names: list[str]) -> None:
    """Writes down what the faces of a photograph are to be called.

    Args:
      file: the photograph.
      encoded: its bytes.
      names: what `propose` returned.
    """
    key = _key(file, encoded)
    if self._faces.get(key) == names:
      return
    self._faces[key] = names
    self._taken.update(names)
    entry = {"photograph": key[0], "digest": key[1], "faces": names}
    self._root.mkdir(parents=True, exist_ok=True)
    with (self._root / NAME).open("a", encoding="utf-8") as lines:
      # In a line of its own, whatever a run that was cut left.
      start = "\n" if lines.tell() else ""
      lines.write(f"{start}{json.dumps(entry)}")

  def _free_names(self, file: folder.File, count: int) -> list[str]:
    """Returns names that are not taken, the plainest that there are."""
    number = 1
    while True:
      for stem in (file.stem, file.name):
        own = stem if number == 1 else f"{stem}~{number}"
        names = _face_names(own, count)
        if not any(
          name in self._taken or (self._root / name).exists() for name in names
        ):
          return names
      number += 1


def _key(file: folder.File, encoded: bytes) -> tuple[str, str]:
  """Returns what tells a photograph from others."""
  # A name on disk may hold bytes that are no text.
  name = file.name.encode(errors="surrogateescape").decode(errors="replace")
  return name, hashlib.sha256(encoded).hexdigest()[:16]


def _face_names(stem: str, count: int) -> list[str]:
  """Returns the names of a photograph's faces."""
  if count == 1:
    return [f"{stem}.png"]
  return [f"{stem}_{number + 1}.png" for number in range(count)]
