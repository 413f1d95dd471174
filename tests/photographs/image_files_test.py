"""What comes in comes back: each kind of file, with its hole filled."""

import io

import image_files as encoded_files
import numpy as np
from PIL import Image
from PIL import ImageCms
import pytest

from dcgan_inpaint.photographs import colour_profiles
from dcgan_inpaint.photographs import image_files
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.runtime import errors

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 40, 60
COLOUR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = COLOUR[..., 0]
ALPHA = RNG.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
ALPHA[::3] = 255
HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[10:25, 20:45] = True
FILL = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def with_transparent_colour(mode):
  image = Image.fromarray(COLOUR).quantize(64)
  image.info["transparency"] = 3 if mode == "one" else bytes(range(64))
  return image


KINDS = {
  "1": (Image.fromarray(GREY > 99), "L"),
  "L": (Image.fromarray(GREY), "L"),
  "LA": (Image.fromarray(np.dstack([GREY, ALPHA])), "LA"),
  "RGB": (Image.fromarray(COLOUR), "RGB"),
  "RGBA": (Image.fromarray(np.dstack([COLOUR, ALPHA])), "RGBA"),
  "P": (Image.fromarray(COLOUR).quantize(64), "P"),
  "P of 256": (Image.fromarray(COLOUR).quantize(256), "P"),
  "P, one transparent": (with_transparent_colour("one"), "P"),
  "P with alpha": (with_transparent_colour("all"), "P"),
  "16 bits": (Image.fromarray(np.uint16(GREY) * 257 - 5), "I;16"),
}


def fill(encoded, path, **options):
  """Reads a file, fills its hole and writes it; returns what Pillow reads."""
  picture = image_files.read(encoded)
  filled = picture_lib.filled(picture, FILL, HOLE, **options)
  image_files.save(path, filled)
  with Image.open(path) as result:
    result.load()
    return result


def shown(image):
  """Returns an image's pixels with alpha, or its 16 bits."""
  if image.mode.startswith("I;16"):
    return np.asarray(image)[..., None]
  return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "bmp"])
@pytest.mark.parametrize("kind", KINDS)
def test_known_pixels_and_the_mode_come_back(tmp_path, kind, suffix):
  image, mode = KINDS[kind]
  if suffix == "bmp" and ("A" in kind or "P," in kind or "alpha" in kind):
    pytest.skip("BMP has no alpha")
  result = fill(encoded_files.encode(image), tmp_path / f"a.{suffix}")
  if suffix == "png" or (suffix == "tif" and kind[:2] not in ("P,", "P ")):
    assert result.mode == mode
  before, after = shown(image), shown(result)
  if suffix in ("webp", "bmp") and mode == "I;16":
    before = np.repeat(np.round(before / 257), 4, -1)
    before[..., 3] = 255
  np.testing.assert_array_equal(after[~HOLE], before[~HOLE])
  assert np.mean(np.any(after[HOLE] != before[HOLE], axis=-1)) > 0.5
  # Alpha is kept under the hole as well.
  if after.shape[-1] == 4:
    np.testing.assert_array_equal(after[..., 3], before[..., 3])


@pytest.mark.parametrize("kind", ["RGB", "RGBA"])
def test_the_hole_holds_what_was_generated(tmp_path, kind):
  result = fill(encoded_files.encode(KINDS[kind][0]), tmp_path / "a.png")
  np.testing.assert_array_equal(shown(result)[HOLE][:, :3], FILL[HOLE])


def test_a_palette_takes_the_nearest_of_its_colours_and_new_ones(tmp_path):
  result = fill(encoded_files.encode(KINDS["P"][0]), tmp_path / "a.png")
  error = np.int32(shown(result)[HOLE][:, :3]) - FILL[HOLE]
  # 192 free entries for noise in three channels.
  assert np.sqrt((error**2).mean()) < 35


@pytest.mark.parametrize("colours", [3, 200])
def test_a_full_palette_is_not_outgrown(tmp_path, colours):
  image = Image.fromarray(COLOUR).quantize(256)
  result = fill(encoded_files.encode(image), tmp_path / "a.png")
  assert result.mode == "P" and len(result.getpalette()) <= 768
  np.testing.assert_array_equal(shown(result)[~HOLE], shown(image)[~HOLE])


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_grey_stays_grey(tmp_path, kind, mode):
  smooth = Image.fromarray(GREY).resize((WIDTH, HEIGHT)).convert("L")
  image = smooth.convert(mode)
  if kind == "jpeg" and mode not in ("L", "RGB"):
    pytest.skip("JPEG has no such mode")
  result = fill(encoded_files.encode(image, kind), tmp_path / "a.png")
  pixels = np.int32(shown(result))[..., :3]
  assert np.ptp(pixels, axis=-1).max() <= (1 if kind == "jpeg" else 0)
  luma = FILL[HOLE] @ [0.299, 0.587, 0.114]
  tolerance = 12 if mode == "P" else 1
  assert np.abs(pixels[HOLE][:, 0] - luma).max() <= tolerance


def test_one_coloured_pixel_makes_a_picture_coloured(tmp_path):
  image = np.dstack([GREY] * 3)
  image[0, 0] = (200, 10, 10)
  result = fill(encoded_files.encode(image), tmp_path / "a.png")
  np.testing.assert_array_equal(shown(result)[HOLE][:, :3], FILL[HOLE])
  image[0, 0], image[12, 30] = 9, (200, 10, 10)  # In the hole: not looked at.
  result = fill(encoded_files.encode(image), tmp_path / "a.png")
  assert np.ptp(np.int32(shown(result))[..., :3], axis=-1).max() == 0


def swapped_profile():
  """Returns a profile like sRGB whose primaries have changed their places."""
  srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
  profile = bytearray(srgb)
  for tag, other in ((b"rXYZ", b"gXYZ"),):
    one, two = profile.index(tag), profile.index(other)
    profile[one + 4 : one + 12], profile[two + 4 : two + 12] = (
      profile[two + 4 : two + 12],
      profile[one + 4 : one + 12],
    )
  # Under another name, for sRGB itself is passed through.
  return (
    bytes(profile)
    .replace(b"s\0R\0G\0B", b"o\0w\0n\0!")
    .replace(b"sRGB", b"own!")
  )


def in_srgb(image):
  profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
  srgb = ImageCms.createProfile("sRGB")
  return np.asarray(ImageCms.profileToProfile(image, profile, srgb))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_a_profile_is_carried_and_the_hole_is_in_its_space(tmp_path, suffix):
  profile = swapped_profile()
  assert colour_profiles.is_readable(profile, 3)
  image = Image.fromarray(COLOUR)
  encoded = encoded_files.encode(image, icc_profile=profile)
  seen = picture_lib.rgb(image_files.read(encoded))
  # Red and green have changed places: what the networks see.
  assert np.corrcoef(seen[..., 0].ravel(), COLOUR[..., 1].ravel())[0, 1] > 0.9
  result = fill(encoded, tmp_path / f"a.{suffix}")
  assert result.info["icc_profile"] == profile
  np.testing.assert_array_equal(np.asarray(result)[~HOLE], COLOUR[~HOLE])
  # As shown on a screen the hole is what was generated.
  far = np.abs(np.int32(in_srgb(result)[HOLE]) - FILL[HOLE])
  assert np.median(far) <= 2


@pytest.mark.parametrize("profile", [b"", b"no profile", bytes(5000)])
def test_a_profile_that_cannot_be_read_costs_no_image(tmp_path, profile):
  encoded = encoded_files.encode(COLOUR, "jpeg", icc_profile=profile)
  result = fill(encoded, tmp_path / "a.png")
  assert "icc_profile" not in result.info and result.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_dpi_and_exif_come_back_upright(tmp_path, suffix):
  exif = Image.Exif()
  exif[0x010F], exif[0x0112] = "Maker", 6
  encoded = encoded_files.encode(
    np.ascontiguousarray(np.rot90(COLOUR)), "png", exif=exif, dpi=(300, 150)
  )
  result = fill(encoded, tmp_path / f"a.{suffix}")
  assert result.size == (WIDTH, HEIGHT)
  if suffix != "jpg":
    np.testing.assert_array_equal(np.asarray(result)[~HOLE], COLOUR[~HOLE])
  carried = result.getexif()
  assert carried[0x010F] == "Maker" and carried.get(0x0112, 1) == 1
  if suffix != "webp":
    assert [round(float(x)) for x in result.info["dpi"]] == [150, 300]


def test_exif_of_a_tiff_is_carried(tmp_path):
  exif = Image.Exif()
  exif[0x010F], exif[0x0112] = "Maker", 6
  encoded = encoded_files.encode(
    np.ascontiguousarray(np.rot90(COLOUR)), "tiff", exif=exif
  )
  result = fill(encoded, tmp_path / "a.png")
  np.testing.assert_array_equal(np.asarray(result)[~HOLE], COLOUR[~HOLE])
  assert result.getexif()[0x010F] == "Maker"


@pytest.mark.parametrize("dpi", [(0, 0), (np.nan, 1), "x", None, (1, 1e9)])
def test_a_dpi_that_no_file_can_hold_is_left_out(dpi):
  image = Image.fromarray(COLOUR)
  image.info["dpi"] = dpi
  assert image_files.from_pillow(image).dpi is None


@pytest.mark.parametrize(
  "suffix, kind, lost",
  [
    (".png", "RGBA", ""),
    (".tiff", "16 bits", ""),
    (".jpg", "RGB", "to the bit"),
    (".JFIF", "RGBA", "transparency"),
    (".bmp", "LA", "transparency"),
    (".webp", "16 bits", "16 bits"),
  ],
)
def test_what_a_format_does_not_keep_is_named(suffix, kind, lost):
  picture = image_files.read(encoded_files.encode(KINDS[kind][0]))
  reason = image_files.what_is_lost(f"a{suffix}", picture)
  assert lost in reason and bool(lost) == bool(reason)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_become_a_jpeg(tmp_path, kind):
  result = fill(encoded_files.encode(KINDS[kind][0]), tmp_path / "a.jpg")
  assert result.format == "JPEG" and result.size == (WIDTH, HEIGHT)


def test_a_suffix_that_is_not_written_is_refused(tmp_path):
  picture = image_files.read(encoded_files.encode(COLOUR))
  with pytest.raises(errors.UserError, match=r"a\.gif.*\.png"):
    image_files.save(tmp_path / "a.gif", picture)
  assert not image_files.is_named(tmp_path / "a.gif")
  assert image_files.is_named("A.PNG") and not image_files.is_named("folder")


def test_what_was_erased_becomes_opaque_where_it_is_filled(tmp_path):
  image = Image.fromarray(np.dstack([COLOUR, np.uint8(255 * ~HOLE)]))
  opaque = np.ones_like(HOLE)
  result = fill(encoded_files.encode(image), tmp_path / "a.png", opaque=opaque)
  assert (np.asarray(result)[..., 3] == 255).all()


def test_colours_under_partial_transparency_count_as_they_are():
  values = np.dstack([COLOUR, np.full_like(GREY, 200)])
  values[5, 5, 3] = 0
  seen = picture_lib.rgb(
    image_files.read(encoded_files.encode(Image.fromarray(values)))
  )
  assert (seen[5, 5] == 255).all()
  seen[5, 5] = COLOUR[5, 5]
  np.testing.assert_array_equal(seen, COLOUR)
