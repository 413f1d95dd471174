import errno
import os
import re
import warnings
import zlib

from absl import logging
import image_files
import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint.data import decoding
from dcgan_inpaint.runtime import errors


def noise(seed, size=(64, 64)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (*size[::-1], 3), np.uint8)


def deep_grey(value):
  return Image.fromarray(np.full((64, 64), value, np.uint16))


def palette(transparent=None):
  image = Image.new("P", (64, 64), 1)
  image.putpalette([9, 9, 9, 200, 100, 50])
  if transparent is not None:
    image.info["transparency"] = transparent
  return image


@pytest.mark.parametrize(
  "image, kind, expected",
  [
    (Image.new("L", (64, 64), 7), "png", (7, 7, 7)),
    (Image.new("1", (64, 64), 1), "png", (255, 255, 255)),
    (Image.new("1", (64, 64), 0), "tiff", (0, 0, 0)),
    (palette(), "png", (200, 100, 50)),
    (palette(), "gif", (200, 100, 50)),
    (palette(transparent=1), "png", (255, 255, 255)),
    (palette(transparent=1), "gif", (255, 255, 255)),
    (Image.new("LA", (64, 64), (100, 255)), "png", (100, 100, 100)),
    (Image.new("RGBA", (64, 64), (9, 8, 7, 255)), "png", (9, 8, 7)),
    # Half transparent over white.
    (Image.new("RGBA", (64, 64), (0, 100, 200, 128)), "png", (127, 177, 227)),
    (deep_grey(65535), "png", (255, 255, 255)),
    (deep_grey(257 * 90), "png", (90, 90, 90)),
    (deep_grey(257 * 90), "tiff", (90, 90, 90)),
    # What Pillow 10 writes as PPM are 32 bits, of which it writes 16.
    (deep_grey(257 * 90).convert("I"), "ppm", (90, 90, 90)),
    (Image.new("CMYK", (64, 64), (255, 0, 0, 0)), "tiff", (0, 255, 255)),
    (Image.new("CMYK", (64, 64), (255, 0, 0, 0)), "jpeg", (0, 255, 255)),
  ],
)
def test_every_kind_of_pixel_becomes_rgb(image, kind, expected):
  pixels = decoding.decode(image_files.encode(image, kind), 64)
  assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
  assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_16_bits_a_colour_become_8():
  cv2 = pytest.importorskip("cv2")  # Pillow cannot write them.
  _, encoded = cv2.imencode(".png", np.uint16(noise(0)[..., ::-1]) * 257)
  np.testing.assert_array_equal(
    decoding.decode(encoded.tobytes(), 64), noise(0)
  )


@pytest.mark.parametrize(
  "orientation, turned",
  [
    (1, lambda x: x),
    (2, np.fliplr),
    (3, lambda x: np.rot90(x, 2)),
    (4, np.flipud),
    (5, lambda x: x.swapaxes(0, 1)),
    (6, lambda x: np.rot90(x, -1)),
    (7, lambda x: np.rot90(x, 2).swapaxes(0, 1)),
    (8, np.rot90),
  ],
)
def test_exif_orientation_is_applied(orientation, turned):
  exif = Image.Exif()
  exif[0x0112] = orientation
  picture = noise(1)
  np.testing.assert_array_equal(
    decoding.decode(image_files.encode(picture, exif=exif), 64), turned(picture)
  )
  grey = picture[..., 0]
  deep = Image.fromarray(np.uint16(grey) * 257)
  np.testing.assert_array_equal(
    decoding.decode(image_files.encode(deep, "tiff", exif=exif), 64)[..., 0],
    turned(grey),
  )


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_is_taken_and_named(kind, caplog):
  caplog.set_level("INFO", logger="absl")
  frames = [
    Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue")
  ]
  still = image_files.encode(frames[0], kind)
  moving = image_files.encode(
    frames[0], kind, save_all=True, append_images=frames[1:]
  )
  images, failures = decoding.decode_all(
    [still, moving].__getitem__, 2, 64, ["still", "moving"]
  )
  assert not failures
  # WebP is not exact.
  np.testing.assert_allclose(
    np.int32(images), [[[[255, 0, 0]] * 64] * 64] * 2, atol=4
  )
  (line,) = caplog.messages
  assert line.startswith("moving ") and "3 frames" in line


BAD = [
  (b"", "the file is empty"),
  (b"These are words.", "not an image of BMP, GIF, JPEG"),
  (b"\x89PNG\r\n\x1a\n", "not an image of"),
  (image_files.encode(noise(0), "eps"), "not an image of"),
  (image_files.encode(noise(0), "jpeg")[:1000], "truncated"),
  (image_files.encode(noise(0))[:1000], "truncated"),
  (image_files.encode(noise(0), "gif")[:1000], "truncated"),
  (image_files.encode(noise(0), "bmp")[:1000], "truncated"),
  (image_files.encode(noise(0, (1, 1))), "only 1x1 pixels"),
  (image_files.encode(noise(0, (300, 7))), "only 300x7 pixels"),
  (image_files.encode(Image.new("F", (64, 64)), "tiff"), "32-bit"),
  (image_files.encode(Image.new("I", (64, 64)), "tiff"), "32-bit"),
  (image_files.encode(Image.new("1", (400, 400))), "400x400 pixels"),
]


@pytest.mark.parametrize("content, reason", BAD)
def test_a_bad_file_is_refused_with_its_reason(monkeypatch, content, reason):
  monkeypatch.setattr(decoding, "MAX_SIDE", 300)
  with pytest.raises(Exception, match=reason) as refused:
    decoding.decode(content, 64)
  # No address in memory, and one line.
  assert "<" not in str(refused.value) and "\n" not in str(refused.value)


def bomb(side):
  """Returns a PNG file that claims to be a square."""
  # A PNG file begins with 8 bytes, then its first chunk's length, name, content
  # (width and height first) and check sum.
  fine = image_files.encode(noise(0))
  header = b"IHDR" + 2 * side.to_bytes(4) + fine[24:29]
  return fine[:12] + header + zlib.crc32(header).to_bytes(4) + fine[33:]


# Pillow itself warns of the first, and refuses the second.
@pytest.mark.parametrize("side", [10_000, 20_000])
def test_pixels_have_one_limit_and_it_is_ours(side, monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    with pytest.raises(ValueError, match=f"{side}x{side} pixels.*64 mega"):
      decoding.decode(bomb(side), 64)
    # More may be allowed.
    assert decoding.image_size(bomb(side), 500) == (side, side)
  # Others keep Pillow's.
  assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_a_bad_file_costs_that_file_alone(monkeypatch):
  monkeypatch.setattr(decoding, "MAX_SIDE", 300)
  good = [image_files.encode(noise(i)) for i in range(len(BAD))]
  files = [
    file
    for (bad, _), fine in zip(BAD, good, strict=True)
    for file in (bad, fine)
  ]

  def read(i):
    if i == 2:
      raise PermissionError(13, "Permission denied")
    return files[i]

  images, failures = decoding.decode_all(read, len(files), 64)
  assert sorted(failures) == list(range(0, len(files), 2))
  assert "Permission denied" in str(failures[2])
  np.testing.assert_array_equal(
    images[1::2], [noise(i) for i in range(len(BAD))]
  )


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_disk_that_fails_for_a_moment_costs_no_image(monkeypatch, number):
  monkeypatch.setattr(decoding, "_WAITS", (0.0, 0.0))
  image = image_files.encode(Image.new("RGB", (64, 64), "red"))
  attempts = []

  def read(i):
    attempts.append(i)
    if i == 1 and attempts.count(1) < 3:
      raise OSError(number, os.strerror(number), "b.png")
    return image

  images, failures = decoding.decode_all(read, 3, 64)
  assert not failures and (images[1] == images[0]).all()
  assert attempts.count(1) == 3


@pytest.mark.parametrize(
  "error, of_system",
  [
    (OSError(errno.EIO, "Input/output error"), True),
    (FileNotFoundError(errno.ENOENT, "No such file"), True),
    (MemoryError(), True),
    (OSError("image file is truncated"), False),
    (ValueError("the file is empty"), False),
  ],
)
def test_only_what_a_file_holds_may_change_a_data_set(error, of_system):
  assert decoding.is_of_system(error) == of_system
  failures = {0: ValueError("the file is empty"), 1: error}
  if of_system:
    with pytest.raises((errors.UserError, MemoryError)) as stopped:
      decoding.check_system(failures, ["a.png", "b.png"])
    assert isinstance(error, MemoryError) or "b.png" in str(stopped.value)
  else:
    decoding.check_system(failures, ["a.png", "b.png"])


@pytest.mark.parametrize(
  "crop, size, box",
  [
    ("auto", (178, 218), (25, 57, 153, 185)),
    ("face128", (178, 218), (25, 57, 153, 185)),
    ("centre", (178, 218), (0, 20, 178, 198)),
    ("none", (178, 218), (0, 0, 178, 218)),
    ("auto", (200, 100), (50, 0, 150, 100)),
    ("centre", (200, 100), (50, 0, 150, 100)),
    ("none", (200, 100), (0, 0, 200, 100)),
  ],
)
def test_crops_go_by_their_names(crop, size, box):
  assert set(decoding.CROPS) == {"auto", "centre", "face128", "none"}
  image = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
  )
  expected = image.crop(box).resize((32, 32), Image.Resampling.LANCZOS)
  encoded = image_files.encode(image)
  np.testing.assert_array_equal(
    decoding.decode(encoded, 32, crop=crop), np.asarray(expected)
  )
  grey = image.convert("L").crop(box).resize((32, 32), Image.Resampling.LANCZOS)
  np.testing.assert_array_equal(
    decoding.decode(encoded, 32, channels=1, crop=crop)[..., 0],
    np.asarray(grey),
  )


def test_the_face_of_an_aligned_image_is_at_128_as_it_is():
  pixels = np.random.default_rng(0).integers(0, 256, (218, 178, 3), np.uint8)
  np.testing.assert_array_equal(
    decoding.decode(image_files.encode(pixels), 128), pixels[57:185, 25:153]
  )


def test_the_crop_of_a_face_needs_an_aligned_image():
  encoded = image_files.encode(np.zeros((218, 200, 3), np.uint8))
  with pytest.raises(ValueError, match="200x218.*face128.*178x218"):
    decoding.decode(encoded, 64, crop="face128")


def test_images_smaller_than_the_model_are_named_once(caplog, monkeypatch):
  # Absl counts the calls of each place in the code.
  monkeypatch.setattr(logging, "_log_counter_per_token", {})
  files = [image_files.encode(noise(i)) for i in range(4)]
  files[1] = image_files.encode(np.zeros((50, 90, 3), np.uint8))

  def load(size):
    images, failures = decoding.decode_all(lambda i: files[i], 4, size)
    assert images.shape == (4, size, size, 3) and not failures

  load(32)
  assert not caplog.records
  for _ in range(3):
    load(64)
  (record,) = caplog.records
  assert re.search("1 of 4 .* 64 .* 50", record.getMessage())
