"""Pictures with odd metadata, which every viewer shows."""

import struct
import zlib

import image_files
import numpy as np
from PIL import Image
from PIL import PngImagePlugin
import pytest

from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import metadata

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
TURNED = np.ascontiguousarray(np.rot90(PICTURE))  # Upright by orientation 6.
# One tag of IFD 0, the orientation, and an IFD 1 with a thumbnail.
_THUMBNAIL = b"\xff\xd8 the picture as it was \xff\xd9"


def exif(orientation=6, order="<", kind=3, thumbnail=True):
  """Returns EXIF by the letter of TIFF 6.0."""
  head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
  value = struct.pack(f"{order}HH", orientation, 0)
  first = struct.pack(f"{order}H", 1)
  first += struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
  if not thumbnail:
    return b"Exif\0\0" + head + first + bytes(4)
  place = 8 + len(first) + 4
  second = struct.pack(f"{order}H", 2)
  start = place + 2 + 2 * 12 + 4
  for tag, number in ((0x0201, start), (0x0202, len(_THUMBNAIL))):
    second += struct.pack(f"{order}HHII", tag, 4, 1, number)
  second += bytes(4) + _THUMBNAIL
  return b"Exif\0\0" + head + first + struct.pack(f"{order}I", place) + second


def impossible():
  """Returns EXIF with a resolution of -1/0 beside the orientation 6."""
  head = b"II*\0" + struct.pack("<IH", 8, 2)
  head += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
  head += struct.pack("<HHII", 0x011A, 10, 1, 8 + 2 + 2 * 12 + 4)
  return b"Exif\0\0" + head + bytes(4) + struct.pack("<ii", -1, 0)


def chunk(kind, content, damaged=False):
  whole = zlib.crc32(kind + content) ^ damaged
  return struct.pack(">I", len(content)) + kind + content + whole.to_bytes(4)


def with_chunks(*chunks, after=False):
  """A PNG file with more chunks, before its pixels or after them."""
  encoded = image_files.encode(PICTURE)
  place = encoded.index(b"IEND" if after else b"IDAT") - 4
  return encoded[:place] + b"".join(chunks) + encoded[place:]


def text(name, content):
  info = PngImagePlugin.PngInfo()
  info.add_text(name, content, zip=True)
  return image_files.encode(PICTURE, pnginfo=info)


HUGE = zlib.compress(bytes(3 << 20))
ODD = {
  "a huge text": text("prompt", "x" * (3 << 20)),
  "many texts": with_chunks(*[chunk(b"zTXt", b"a\0\0" + HUGE)] * 70),
  "a damaged text": with_chunks(chunk(b"tEXt", b"a\0b", damaged=True)),
  "a damaged text after": with_chunks(
    chunk(b"tEXt", b"a\0b", damaged=True), after=True
  ),
  "a damaged eXIf": with_chunks(chunk(b"eXIf", b"II*\0zzzz", damaged=True)),
  "an eXIf that is none": with_chunks(chunk(b"eXIf", b"nothing of the kind")),
  "an empty eXIf": with_chunks(chunk(b"eXIf", b"")),
  "raw EXIF that is none": text("Raw profile type exif", "\nexif\n 9\nzz!\n"),
  "a huge profile": with_chunks(chunk(b"iCCP", b"a\0\0" + HUGE)),
  "a broken profile": with_chunks(chunk(b"iCCP", b"a\0\0not zlib")),
  "a huge XMP": with_chunks(
    chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + HUGE)
  ),
  "an unknown chunk": with_chunks(chunk(b"vpAg", b"??", damaged=True)),
  "a wrong dpi": with_chunks(chunk(b"pHYs", b"??", damaged=True)),
  "EXIF of a wrong type": image_files.encode(PICTURE, exif=exif(1, kind=5)),
  "EXIF out of range": image_files.encode(PICTURE, exif=exif(99)),
  "a rational of -1/0": image_files.encode(TURNED, exif=impossible()),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_metadata_costs_no_image(kind):
  np.testing.assert_array_equal(decoding.decode(ODD[kind], 64), PICTURE)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_the_orientation_is_applied_and_reset(order, kind):
  options = {"lossless": True} if kind == "webp" else {}
  given = exif(6, order)
  encoded = image_files.encode(TURNED, kind, exif=given, **options)
  if kind != "jpeg":
    np.testing.assert_array_equal(decoding.decode(encoded, 64), PICTURE)
  with decoding.open_file(encoded) as image:
    image.load()
    carried = metadata.carried_exif(image)
  assert carried is not None and len(carried) == len(given)
  # The picture as it was is gone; all else stays as it is.
  assert _THUMBNAIL not in carried
  reread = Image.Exif()
  reread.load(carried)
  assert dict(reread) == {0x0112: 1}


def test_metadata_of_a_camera_is_carried_byte_for_byte():
  camera = Image.Exif()
  camera[0x010F], camera[0x0110], camera[0x0112] = "Maker", "Model", 8
  camera.get_ifd(0x8769)[0x927C] = b"a note that only the maker reads"
  camera.get_ifd(0x8825)[1] = "N"
  encoded = image_files.encode(PICTURE, "jpeg", exif=camera)
  with decoding.open_file(encoded) as image:
    image.load()
    before, carried = image.info["exif"], metadata.carried_exif(image)
  assert carried is not None
  differ = [a != b for a, b in zip(before, carried, strict=True)]
  assert sum(differ) == 1  # The orientation.


@pytest.mark.parametrize(
  "raw",
  [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"junk", exif()[:20]],
)
def test_exif_that_cannot_be_read_is_not_carried(raw):
  image = Image.new("RGB", (8, 8))
  image.info["exif"] = raw
  assert metadata.carried_exif(image) is None
  assert metadata.orientation(image) == 1


def test_other_files_than_png_stay_as_they_are():
  for content in (b"", b"GIF89a", image_files.encode(PICTURE, "jpeg")):
    assert metadata.without_ballast(content) == content


def test_a_torn_png_stays_torn():
  encoded = with_chunks(chunk(b"tEXt", b"a\0b"))
  for end in (60, len(encoded) // 2, len(encoded) - 30):
    with pytest.raises(Exception, match="truncated|not an image"):
      decoding.decode(encoded[:end], 64)
