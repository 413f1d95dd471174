"""What an image file says beside its pixels, read so that it costs no image.

Programs write all kinds of metadata, broken ones too, and viewers show the
picture all the same. Of PNG files the chunks that matter are kept before Pillow
sees them; of EXIF only the orientation is read, and what is carried on to a
result is carried as it is, byte for byte, but for the orientation and the
thumbnail, which shows the picture as it was.
"""

from collections.abc import Iterator
import struct
from typing import Any
import zlib

from PIL import Image

_ORIENTATION = 0x0112  # Of the tags of TIFF 6.0, section 8.
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202  # Of EXIF 2.3, section 4.6.
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}

_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks that a picture needs, broken or not, and those that say how it is shown
# (PNG specification, third edition, table 7); the others are left out.
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_USEFUL = (
  b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"pHYs", b"eXIf", b"acTL",
  b"fcTL", b"fdAT",
)  # fmt: skip
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
# Texts that may hold an orientation: ImageMagick's EXIF, and XMP.
_EXIF_TEXT = "Raw profile type exif"
_TEXTS = (_EXIF_TEXT.encode(), b"XML:com.adobe.xmp")
_MAX_BYTES = 1 << 20  # Of a profile or a text, unpacked: Pillow's own limit.


def without_ballast(encoded: bytes) -> bytes:
  """Returns an image file without metadata that Pillow refuses.

  Args:
    encoded: bytes of any file. Only PNG files are changed: damaged or huge
      chunks that the picture does not need are left out, and texts.
  """
  if not encoded.startswith(_PNG):
    return encoded
  return _PNG + b"".join(
    chunk for kind, content, chunk in _chunks(encoded) if _keeps(kind, content)
  )


def _chunks(encoded: bytes) -> Iterator[tuple[bytes, bytes | None, bytes]]:
  """Yields a PNG file's chunks: kind, content (None if damaged), and bytes."""
  place = len(_PNG)
  while place < len(encoded):
    length = int.from_bytes(encoded[place : place + 4], "big")
    end = place + 12 + length
    kind = encoded[place + 4 : place + 8]
    content = encoded[place + 8 : end - 4]
    whole = zlib.crc32(kind + content).to_bytes(4, "big")
    intact = end <= len(encoded) and encoded[end - 4 : end] == whole
    if end > len(encoded):
      kind = b"IDAT"  # A torn file, which Pillow is to see.
    yield kind, content if intact else None, encoded[place:end]
    place = end


def _keeps(kind: bytes, content: bytes | None) -> bool:
  """Tells whether a chunk of a PNG file is kept; see `_chunks`."""
  if kind in _NEEDED or not kind[:1].islower():  # Upper case: critical.
    return True
  if content is None:
    return False
  if kind == b"iCCP":
    return _unpacks(content.partition(b"\0")[2][1:])
  if kind in _TEXT:
    name, _, rest = content.partition(b"\0")
    packed = rest[1:] if kind == b"zTXt" else b""
    if kind == b"iTXt" and rest[:1] == b"\1":
      packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    fits = _unpacks(packed) if packed else len(rest) < _MAX_BYTES
    return name in _TEXTS and fits
  return kind in _USEFUL


def _unpacks(packed: bytes) -> bool:
  """Tells whether bytes can be inflated, to no more than Pillow takes."""
  inflate = zlib.decompressobj()
  try:
    inflate.decompress(packed, _MAX_BYTES)
  except zlib.error:
    return False
  return not inflate.unconsumed_tail


def orientation(image: Image.Image) -> int:
  """Returns the orientation in a loaded image's EXIF, 1 to 8; 1 is upright.

  Args:
    image: of Pillow; EXIF that cannot be read says nothing.
  """
  try:
    value = image.getexif().get(_ORIENTATION, 1)
  except Exception:  # noqa: BLE001 (Pillow raises many kinds.)
    return 1
  return value if value in _TURNS else 1


def upright(image: Image.Image) -> Image.Image:
  """Returns an image turned as its EXIF says.

  `ImageOps.exif_transpose` also rewrites all of the EXIF, which fails where a
  tag holds what it may not.

  Args:
    image: of Pillow, as it was opened; its pixels are read here.
  """
  image.load()
  turn = _TURNS.get(orientation(image))
  return image if turn is None else image.transpose(turn)


def carried_exif(image: Image.Image) -> bytes | None:
  """Returns the EXIF that a result of a loaded image carries, or None.

  It is that of the image, upright and without a thumbnail. Where it cannot be
  read, there is none.

  Args:
    image: of Pillow, as it was opened.
  """
  try:
    raw = image.info.get("exif") or _exif_in_text(image.info)
    if not raw and image.format == "TIFF":
      raw = _exif_of_tiff(image)
    return _reset(raw) if raw else None
  except Exception:  # noqa: BLE001 (A camera may have written anything.)
    return None


def _exif_in_text(info: dict[Any, Any]) -> bytes:
  """Returns the EXIF that ImageMagick wrote as text into a PNG file."""
  lines = str(info.get(_EXIF_TEXT, "")).split("\n")
  return bytes.fromhex("".join(lines[3:]))


def _exif_of_tiff(image: Image.Image) -> bytes | None:
  """Returns the EXIF of a TIFF file, whose other tags describe its pixels."""
  # What the picture shows, who made it, when and with what.
  about = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
  given, kept = image.getexif(), Image.Exif()
  for tag in about:
    if tag in given:
      kept[tag] = given[tag]
  for directory in (0x8769, 0x8825):  # EXIF's own, and GPS.
    if inner := given.get_ifd(directory):
      kept.get_ifd(directory).update(inner)
  return kept.tobytes() if len(kept) else None


def _reset(exif: bytes) -> bytes:
  """Returns EXIF with orientation 1 and without its thumbnail.

  Raises:
    Exception: of many kinds, for what is not EXIF.
  """
  body = bytearray(exif.removeprefix(b"Exif\0\0"))
  order = {b"II*\0": "<", b"MM\0*": ">"}[bytes(body[:4])]

  def directory(place: int) -> tuple[dict[int, int], int]:
    """Returns the places of a directory's tags, and that of its end."""
    (count,) = struct.unpack_from(f"{order}H", body, place)
    places = range(place + 2, place + 2 + 12 * count, 12)
    tags = {struct.unpack_from(f"{order}H", body, x)[0]: x for x in places}
    return tags, place + 2 + 12 * count

  def value(place: int) -> int:
    return struct.unpack_from(f"{order}I", body, place + 8)[0]

  (first,) = struct.unpack_from(f"{order}I", body, 4)
  tags, end = directory(first)
  if _ORIENTATION in tags:
    # One value of the type SHORT.
    struct.pack_into(f"{order}HIHH", body, tags[_ORIENTATION] + 2, 3, 1, 1, 0)
  (second,) = struct.unpack_from(f"{order}I", body, end)
  if second:
    tags, _ = directory(second)
    if _THUMBNAIL in tags and _THUMBNAIL_BYTES in tags:
      start = value(tags[_THUMBNAIL])
      stop = min(len(body), start + value(tags[_THUMBNAIL_BYTES]))
      body[start:stop] = bytes(max(0, stop - start))
    struct.pack_into(f"{order}I", body, end, 0)
  return b"Exif\0\0" + bytes(body)
