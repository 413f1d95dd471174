"""Which image a result of the job `inpaint` belongs to.

Names of files do not say it: with two samples an image a.jpg has the results
a_1.png and a_2.png, and the first of them may be there already, as the only
result of an image a_1.jpg. So a file in the cache (`cache.beside`) holds a line
of JSON for each image of a folder of results: its name and those of its
results. A line is written before its results. Results without one, made
elsewhere or by an earlier version, belong to the image whose name they have.
"""

from collections.abc import Sequence
import json
import os
import pathlib

from dcgan_inpaint.data import folder
from dcgan_inpaint.runtime import cache


class Record:
  """The record of a folder of results; several processes may write to it."""

  def __init__(self, root: pathlib.Path):
    """Reads the record, if there is one.

    Args:
      root: the folder.
    """
    self._path = cache.beside(root, ".jsonl")
    self._owners: dict[str, str] = {}
    if self._path.is_file():
      for line in self._path.read_text(encoding="utf-8").splitlines():
        try:
          entry = json.loads(line)
          names = map(str, entry["results"])
          owners = dict.fromkeys(names, str(entry["image"]))
        # A process that was killed may have left a part of a line; its results
        # were not written.
        except (ValueError, KeyError, TypeError):
          continue
        self._owners.update(owners)
    # The folder may have been emptied since.
    self._owners = {
      name: owner
      for name, owner in self._owners.items()
      if os.path.lexists(root / name)
    }

  def names(self, file: folder.File, stem: str, samples: int) -> list[str]:
    """Returns the names of an image's results, none of which is another's.

    Args:
      file: the image.
      stem: its name among the images, without its suffix.
      samples: the number of its results.
    """
    number = 1
    while True:
      own = stem if number == 1 else f"{stem}~{number}"
      names = numbered(f"{own}.png", samples)
      owners = {self._owners.get(_clean(x), _text(file)) for x in names}
      if owners == {_text(file)}:
        return names
      number += 1

  def claim(self, file: folder.File, names: Sequence[str]) -> None:
    """Writes down what the results of an image are called.

    Args:
      file: the image.
      names: of its results.
    """
    new = [x for x in map(_clean, names) if self._owners.get(x) != _text(file)]
    if not new:
      return
    self._owners.update(dict.fromkeys(new, _text(file)))
    entry = json.dumps({"image": _text(file), "results": new})
    with self._path.open("a", encoding="utf-8") as lines:
      # In a line of its own, whatever a run that was killed left.
      lines.write(f"\n{entry}\n" if lines.tell() else f"{entry}\n")


def numbered(name: str, samples: int) -> list[str]:
  """Returns the names of an image's results.

  Args:
    name: of the only one.
    samples: their number.
  """
  if samples == 1:
    return [name]
  stem, dot, suffix = name.rpartition(".")
  return [f"{stem}_{number + 1}{dot}{suffix}" for number in range(samples)]


def _text(file: folder.File) -> str:
  return _clean(file.name)


def _clean(name: str) -> str:
  """Returns a name as text; on disk it may hold bytes that are none."""
  return name.encode(errors="surrogateescape").decode(errors="replace")
