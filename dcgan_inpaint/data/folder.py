"""Images from folders, zips and single files, with their names.

Nothing is extracted to disk: a zip is read in place.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import functools
import pathlib
import re
from typing import NamedTuple
import unicodedata
import zipfile
import zlib

from absl import logging

from dcgan_inpaint import data
from dcgan_inpaint.data import decoding
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.runtime import untrusted

HELD_OUT = 5  # Per cent that goes to validation, and as much to test.

_IMAGE = re.compile(
  r".*\.(apng|avif|bmp|dib|gif|heic|heif|hif|jfif|jpe?g?|jif|p[bgnp]m|png|"
  r"tiff?|webp)",
  re.I | re.S,
)
# Of images too, which are not read.
_UNREAD = re.compile(
  r".*\.(arw|cr2|cr3|dds|dng|eps|exr|hdr|ico|j2[ck]|jp2|jpx|jxl|jxr|nef|orf|"
  r"pcx|psb|psd|raf|raw|rw2|sgi|svg|tga|xcf)",
  re.I | re.S,
)
# Folders that systems put beside a user's own: thumbnails, twins, bins.
_SYSTEM = frozenset(
  {
    "@eadir", "@recycle", "@__thumb", "@sharebin", "@tmp", "#recycle",
    "#snapshot", "__macosx", "$recycle.bin", "lost+found", "recycler",
    "system volume information",
  }
)  # fmt: skip
_MAX_BYTES = untrusted.MAX_BYTES  # Of one file in a zip, unpacked.
_PIECE = 1 << 16  # Bytes that are unpacked at a time.
_MAX_NAME = 200  # Bytes of a name; results are called NAME_12.png.
_MIN_HEADER = 30  # Bytes before a member of a zip.
_MAX_BAD = 0.01  # Share of unreadable files above which a data set is refused.


class File(NamedTuple):
  """An encoded image file.

  Attributes:
    name: its path within the folder or zip, with forward slashes.
    read: function without arguments that returns its bytes.
    path: of the file on disk; None within a zip.
    source: the folder, zip or file that was given.
  """

  name: str
  read: Callable[[], bytes]
  path: pathlib.Path | None = None
  source: pathlib.Path = pathlib.Path()

  @property
  def stem(self) -> str:
    """The name without its suffix, as in `sub/NAME`."""
    return str(pathlib.PurePosixPath(self.name).with_suffix(""))


def load(
  path: str | Sequence[str],
  split: str,
  image_size: int,
  max_images: int = 0,
  *,
  channels: int = 3,
  crop: str = "auto",
  validation_path: str | Sequence[str] = "",
  test_path: str | Sequence[str] = "",
  ids: Collection[str] | None = None,
  rows: data.Rows | None = None,
) -> data.ImageSet:
  """Loads the images of one split.

  Where `validation_path` or `test_path` is empty, that split is taken from
  `path` by a hash of the file names, 5 % each: it is the same on every machine,
  and stays when files are added.

  Args:
    path: a folder (searched with its subfolders), a zip, an image file, or
      several of them: a tuple, or text with commas between.
    split: 'train', 'validation', 'test' or 'all', which is every file of the
      three paths.
    image_size: side of the images in pixels.
    max_images: number of images from the first; 0 is all.
    channels: 3 (RGB) or 1 (grey).
    crop: one of `decoding.CROPS`.
    validation_path: like `path`, for the validation split.
    test_path: like `path`, for the test split.
    ids: names without suffixes of the images to use; None is all.
    rows: which of these are loaded; None is all.

  Returns:
    The images, sorted by name within each folder or zip. Names repeat where two
    of them hold files of the same name.

  Raises:
    errors.UserError: a path does not exist, holds no image, leaves a split
      empty, or more than 1 % of the files cannot be read. Fewer are left out
      with a warning each, unless only some rows are loaded: the processes that
      load the others would not know of it.
  """
  files = list_split(path, split, validation_path, test_path, ids)
  files = files[: max_images or None]
  count = len(files)
  if rows:
    files = files[rows(count)]
  images, failures = decoding.decode_all(
    lambda i: files[i].read(),
    len(files),
    image_size,
    names=[file.name for file in files],
    channels=channels,
    crop=crop,
  )
  decoding.check_system(failures, [file.name for file in files])
  if failures:
    own = {"validation": validation_path, "test": test_path}
    paths = own.get(split) or path
    _report(paths, files, failures, allowed=0 if rows else _MAX_BAD)
    readable = [i for i in range(len(files)) if i not in failures]
    images, files = images[readable], [files[i] for i in readable]
    count = len(files)
  return data.ImageSet(images, [file.name for file in files], count)


def list_split(
  path: str | Sequence[str],
  split: str,
  validation_path: str | Sequence[str] = "",
  test_path: str | Sequence[str] = "",
  ids: Collection[str] | None = None,
) -> list[File]:
  """Returns the files of one split; arguments and errors are as in `load`."""
  files = _list_split(path, split, validation_path, test_path)
  if ids is None:
    return files
  kept = [x for x in files if pathlib.PurePosixPath(x.name).stem in ids]
  if not kept:
    raise errors.UserError(
      f"config.data.ids names none of the {len(files):,} images of the split "
      f"{split!r}, such as {files[0].name}"
    )
  return kept


def _list_split(
  path: str | Sequence[str],
  split: str,
  validation_path: str | Sequence[str],
  test_path: str | Sequence[str],
) -> list[File]:
  """Returns the files of one split, whatever their names."""
  own = {"validation": validation_path, "test": test_path}
  if split == "all":
    return list_files(
      [
        one
        for several in (path, validation_path, test_path)
        for one in lists.paths(several)
      ]
    )
  if own.get(split):
    return list_files(own[split])
  files = [
    file for file in list_files(path) if _split_by_hash(file.name, own) == split
  ]
  if not files:
    raise errors.UserError(
      f"no image of {path} falls into the {split} split, which goes by file "
      "name: give more images, or a path for that split "
      "(config.data.validation_path, config.data.test_path)"
    )
  return files


def list_files(
  paths: str | Sequence[str], field: str = "config.data.path"
) -> list[File]:
  """Returns the image files in folders and zips, sorted by name in each.

  Files whose suffix is not an image's are left out, and so are hidden ones
  (macOS puts a hidden twin of each file into its zips) and what lies in folders
  of the system. Images of formats that are not read are named in a warning.
  Folders that are linked are searched too, each once.

  Args:
    paths: folders, zips and image files: a sequence, or text with commas
      between (`lists.paths`).
    field: the config's name for `paths`, for messages.

  Raises:
    errors.UserError: a path does not exist, is a broken zip, or holds no image;
      or it is a zip that no honest program makes (see `_find_fault`).
  """
  files: list[File] = []
  for path in lists.paths(paths):
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
      found = _list_folder(path)
    elif path.suffix.lower() == ".zip" and path.is_file():
      found = _list_zip(path)
    elif path.is_file():
      found = [File(path.name, functools.partial(_read_file, path), path)]
    else:
      raise errors.UserError(
        f"{path} does not exist: give a folder, a zip or an image file as "
        f"{field}"
      )
    if not found:
      raise errors.UserError(
        f"{path} holds no image file (.png, .jpg, .webp and the like)"
      )
    files += [file._replace(source=path) for file in found]
  if not files:
    raise errors.UserError(
      f"{field} is empty: give a folder, a zip or an image file"
    )
  return files


def _list_folder(folder: pathlib.Path) -> list[File]:
  """Returns the image files below `folder`, sorted."""
  names = []
  # Folders that are linked come last, so that what can be reached without them
  # is named without them. Each is searched once: links may form a circle.
  waiting, linked = [folder], []
  # A link to a folder that holds this one leads to what is not in it.
  around = [place.stat() for place in folder.resolve().parents]
  seen = {(status.st_dev, status.st_ino) for status in around}
  while waiting or linked:
    place = waiting.pop() if waiting else linked.pop(0)
    status = place.stat()
    if (status.st_dev, status.st_ino) in seen:
      continue
    seen.add((status.st_dev, status.st_ino))
    try:
      inside = sorted(place.iterdir())
    except PermissionError as error:
      logging.warning("left out a folder that cannot be read: %s", error)
      continue
    for path in inside:
      if path.is_dir():
        if not _is_passed_over(path.name):
          (linked if path.is_symlink() else waiting).append(path)
      elif path.is_file():
        names.append(path.relative_to(folder).as_posix())
  return [
    File(name, functools.partial(_read_file, folder / name), folder / name)
    for name in _images(sorted(names), folder)
  ]


def _read_file(path: pathlib.Path) -> bytes:
  """Returns the bytes of a file."""
  return untrusted.read_bytes(path, _MAX_BYTES)


class _Archive(zipfile.ZipFile):
  """A zip that another process, which it is sent to, opens for itself."""

  def __reduce__(self):
    return _Archive, (self.filename,)


def _list_zip(path: pathlib.Path) -> list[File]:
  """Returns the image files in a zip, sorted."""
  try:
    archive = _Archive(path)
  except Exception as error:  # zipfile raises many kinds.
    raise errors.UserError(f"{path} cannot be read ({error})") from error
  members = [m for m in archive.infolist() if not m.filename.endswith("/")]
  for member in members:
    member.filename = _true_name(member)
  if fault := _find_fault(members):
    raise errors.UserError(f"{path} is refused: {fault}; pack the images again")
  by_name = {member.filename: member for member in members}
  return [
    File(name, functools.partial(_read_member, archive, by_name[name]))
    for name in _images(sorted(by_name), path)
  ]


def _true_name(member: zipfile.ZipInfo) -> str:
  """Returns the name of a zip's member.

  Where its flag does not say UTF-8, zipfile takes it for DOS's code page. Some
  programs, such as macOS's own, write UTF-8 without the flag.
  """
  if member.flag_bits & 0x800:
    return member.filename
  try:
    return member.filename.encode("cp437").decode("utf-8")
  except UnicodeError:
    return member.filename


def _find_fault(members: Sequence[zipfile.ZipInfo]) -> str | None:
  """Returns what no honest program puts into a zip, or None.

  Nothing is unpacked, but results are saved under the members' names.

  Args:
    members: the `zipfile.ZipInfo` of its files.
  """
  names, end = set(), 0
  for member in sorted(members, key=lambda member: member.header_offset):
    name = pathlib.PurePosixPath(member.filename.replace("\\", "/"))
    shown = f"its member '{member.filename[:80]}'"
    if any(unicodedata.category(x) == "Cc" for x in member.filename):
      return f"{shown} has control characters in its name"
    if name.is_absolute() or ".." in name.parts or str(name)[1:2] == ":":
      return f"{shown} points out of the archive"
    if str(name) in names:
      return f"{shown} is there twice"
    if max(map(len, map(str.encode, name.parts)), default=0) > _MAX_NAME:
      return f"{shown} has a name of more than {_MAX_NAME} bytes"
    # Others may unpack a few bytes to gigabytes at once.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
      return f"{shown} is packed by another method than deflate"
    # Members that share their bytes make a bomb of any size (D. Fifield, "A
    # better zip bomb", WOOT 2019). Later Pythons refuse it themselves.
    if member.header_offset < end:
      return f"{shown} overlaps another"
    names.add(str(name))
    end = member.header_offset + member.compress_size + _MIN_HEADER
  return None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
  """Returns the bytes of a zip's member."""
  if member.file_size > _MAX_BYTES:
    raise ValueError(
      f"{member.file_size:,} bytes unpacked, and at most {_MAX_BYTES:,} are "
      "read"
    )
  # In pieces, since zipfile would unpack everything before it cuts what exceeds
  # the size that the archive states.
  with archive.open(member) as file:
    return b"".join(iter(functools.partial(file.read, _PIECE), b""))


def _images(names: Sequence[str], where: pathlib.Path) -> list[str]:
  """Returns the names of images; those that are not read are logged."""
  visible = [
    name for name in names if not any(map(_is_passed_over, name.split("/")))
  ]
  unread = [name for name in visible if _UNREAD.fullmatch(name)]
  if not {"HEIF", "HEIC"} & set(decoding.formats()):
    heif = [x for x in visible if re.fullmatch(r".*\.(hei[cf]|hif)", x, re.I)]
    if heif:
      logging.warning(
        "left out %s of %s: %s (%s)",
        f"{len(heif):,}", where, _few(heif), decoding.NO_HEIF,
      )  # fmt: skip
    visible = [name for name in visible if name not in set(heif)]
  if unread:
    logging.warning(
      "left out %s of %s whose format is not read: %s",
      f"{len(unread):,}", where, _few(unread),
    )  # fmt: skip
  return [name for name in visible if _IMAGE.fullmatch(name)]


def _few(names: Sequence[str]) -> str:
  """Returns the first names of a list."""
  more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
  return ", ".join(names[:5]) + more


def _is_passed_over(part: str) -> bool:
  """Tells whether a file or a folder is hidden, or one of the system's."""
  return part.startswith(".") or part.lower() in _SYSTEM


def _split_by_hash(name: str, own: dict[str, str | Sequence[str]]) -> str:
  """Returns the split of a file; a split with a path of its `own` gets none."""
  # Without its folder: a folder and a zip of it are split alike.
  own_name = name.rpartition("/")[2].encode(errors="surrogateescape")
  per_cent = zlib.crc32(own_name) % 100
  if per_cent < HELD_OUT and not own["validation"]:
    return "validation"
  if HELD_OUT <= per_cent < 2 * HELD_OUT and not own["test"]:
    return "test"
  return "train"


def _report(
  paths: str | Sequence[str],
  files: Sequence[File],
  failures: dict[int, Exception],
  allowed: float,
) -> None:
  """Warns of each unreadable file, and refuses a set that has too many."""
  lines = [
    f"{files[i].name}: {type(error).__name__}: {error}"
    for i, error in sorted(failures.items())
  ]
  if len(failures) > allowed * len(files):
    raise errors.UserError(
      f"{len(failures)} of {len(files)} images of {paths} cannot be read; "
      f"remove or replace them. The first is {lines[0]}"
    )
  for line in lines:
    logging.warning("left out an image that cannot be read: %s", line)
