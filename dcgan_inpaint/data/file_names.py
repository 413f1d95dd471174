"""Which image file is which: names of their own, pairs, and what must stay."""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
import os
import pathlib
import unicodedata

from dcgan_inpaint.data import folder
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists


def normal(name: str) -> str:
  """Returns a name in the one form of Unicode by which names are compared.

  macOS stores é as an e and an accent, other systems as one letter.
  """
  return unicodedata.normalize("NFC", name)


def by_stem(files: Sequence[folder.File]) -> dict[str, folder.File]:
  """Returns {`normal` name without suffix, as in `sub/NAME`: file}.

  Args:
    files: the files.

  Raises:
    errors.UserError: two names differ in their suffix alone.
  """
  stems: dict[str, folder.File] = {}
  for file in files:
    stem = normal(file.stem)
    if stem in stems:
      raise errors.UserError(
        f"{stems[stem].name} and {file.name} have the same name without "
        "their suffix: rename one, or give them in separate runs"
      )
    stems[stem] = file
  return stems


def by_own_name(files: Sequence[folder.File]) -> dict[str, folder.File]:
  """Returns {a name of its own: file}, in their order.

  That is the name without its suffix, as in `sub/NAME`. Files that would share
  one keep their suffix, as in `NAME.jpg`; and those of several folders or zips
  have its name before theirs.

  Args:
    files: the files.
  """
  ways = (
    lambda file: file.stem,
    lambda file: file.name,
    lambda file: f"{file.source.stem}/{file.stem}",
    lambda file: f"{file.source.name}/{file.name}",
  )
  names, taken = {}, set()
  left = list(range(len(files)))
  for way in ways:
    wanted = [way(files[i]) for i in left]
    count = collections.Counter(wanted)
    for i, name in zip(left, wanted, strict=True):
      if count[name] == 1 and name not in taken:
        names[i] = name
    taken.update(wanted)
    left = [i for i in left if i not in names]
  # The same file twice, or folders of one name.
  for i in left:
    number = 2
    while (name := f"{files[i].stem} ({number})") in taken:
      number += 1
    taken.add(name)
    names[i] = name
  return {names[i]: file for i, file in enumerate(files)}


def without(
  files: Sequence[folder.File], others: Sequence[pathlib.Path]
) -> list[folder.File]:
  """Returns the files that are none of others, but for those named alone.

  Args:
    files: the files.
    others: paths of files that may lie in the folders of `files`.
  """
  there = {path.resolve() for path in others}
  return [
    file
    for file in files
    if file.path is None
    or file.path == file.source
    or file.path.resolve() not in there
  ]


def check_kept(
  results: Iterable[pathlib.Path], files: Sequence[folder.File], field: str
) -> None:
  """Refuses results that would take the place of files that were given.

  Args:
    results: the paths that are to be written.
    files: which must stay.
    field: the config's name for where the results go.

  Raises:
    errors.UserError: names the first that would be lost.
  """
  given = {
    (status.st_dev, status.st_ino): file.path
    for file in files
    if file.path is not None
    for status in [file.path.stat()]
  }
  for path in results:
    try:
      status = path.stat()
    except OSError:
      continue  # There is none.
    if original := given.get((status.st_dev, status.st_ino)):
      raise errors.UserError(
        f"{field}: the result {str(path)!r} would take the place of the "
        f"original {str(original)!r}: choose another folder or name"
      )


def check_apart(
  output: str | os.PathLike[str],
  field: str,
  inputs: str | Sequence[str],
  inputs_field: str,
) -> None:
  """Refuses an output folder in which the input itself lies.

  Args:
    output: the folder that is written to.
    field: the config's name for it.
    inputs: folders, zips and image files, as for `list_files`.
    inputs_field: the config's name for them.

  Raises:
    errors.UserError: names both.
  """
  output = pathlib.Path(output).expanduser()
  for path in lists.paths(inputs):
    path = pathlib.Path(path).expanduser().resolve()
    if path.is_dir() and output.resolve().is_relative_to(path):
      raise errors.UserError(
        f"{field}={str(output)!r} lies in {inputs_field}={str(path)!r}, and "
        "results would be taken for input: choose a folder elsewhere"
      )
