"""Masks as people paint them, and what each kind means."""

import image_files
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFilter
import pytest
from skimage import data

from dcgan_inpaint.masks import mask_files
from dcgan_inpaint.runtime import errors

SIZE = (120, 90)  # Width and height.
HOLE = np.zeros(SIZE[::-1], bool)
HOLE[30:60, 40:70] = True


def values(white=255, black=0, dtype=np.uint8):
  return np.where(HOLE, white, black).astype(dtype)


def layer(colour, soft=0, background=(0, 0, 0, 0)):
  """Strokes of a colour on a transparent layer."""
  image = np.zeros((*HOLE.shape, 4), np.uint8)
  image[:] = background
  image[HOLE] = (*colour, 255)
  if soft:
    alpha = Image.fromarray(image[..., 3]).filter(
      ImageFilter.GaussianBlur(soft)
    )
    image[..., :3], image[..., 3] = colour, alpha
  return Image.fromarray(image)


def erased(colours, soft=0):
  """A picture from which the hole was erased."""
  alpha = Image.fromarray(values(0, 255))
  if soft:
    alpha = alpha.filter(ImageFilter.GaussianBlur(soft))
  return Image.fromarray(np.dstack([colours, np.asarray(alpha)]))


def noise(seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (*HOLE.shape, 3), np.uint8)


def blurred(radius):
  return Image.fromarray(values()).filter(ImageFilter.GaussianBlur(radius))


def palette_of(colours):
  image = Image.fromarray(HOLE.astype(np.uint8)).convert("P")
  image.putpalette(sum(colours, ()))
  return image


PLAIN = {
  "white": values(),
  "bool": Image.fromarray(HOLE),
  "one": values(1),
  "grey": values(128),
  "dark grey": values(7),
  "16 bits": values(65_535, dtype=np.uint16),
  "16 bits of classes": values(1, dtype=np.uint16),
  "RGB": np.dstack([values()] * 3),
  "opaque RGBA": np.dstack([values()] * 3 + [values(255, 255)]),
  "palette": palette_of([(0, 0, 0), (255, 255, 255)]),
  "LA": Image.fromarray(values()).convert("LA"),
  "white layer": layer((255, 255, 255)),
  "black layer": layer((0, 0, 0)),
  "red layer": layer((255, 0, 0)),
  "white on transparent white": layer(
    (255, 255, 255), background=(255, 255, 255, 0)
  ),
  "erased picture": erased(noise()),
  "erased black": erased(np.zeros((*HOLE.shape, 3), np.uint8)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_mask_means_what_it_shows(kind):
  reading = mask_files.read(image_files.encode(PLAIN[kind]))
  np.testing.assert_array_equal(reading.hole, HOLE)
  assert reading.note == ""


@pytest.mark.parametrize(
  "kind",
  ["white", "bool", "16 bits", "RGB", "opaque RGBA", "palette", "LA",
   "white layer", "white on transparent white"],
)  # fmt: skip
def test_the_polarity_turns_it_round(kind):
  reading = mask_files.read(image_files.encode(PLAIN[kind]), "white_is_known")
  np.testing.assert_array_equal(reading.hole, ~HOLE)


@pytest.mark.parametrize("polarity", mask_files.POLARITIES)
@pytest.mark.parametrize("radius", [1, 3])
def test_soft_edges_belong_to_the_hole(polarity, radius):
  soft = np.asarray(blurred(radius))
  if polarity == "white_is_known":
    soft = 255 - soft
  reading = mask_files.read(image_files.encode(soft), polarity)
  expected = soft > 0 if polarity == "white_is_hole" else soft < 255
  np.testing.assert_array_equal(reading.hole, expected)
  assert (reading.hole & HOLE).sum() == HOLE.sum()


@pytest.mark.parametrize("soft", [1, 3])
def test_soft_edges_of_a_layer_belong_to_the_hole(soft):
  for image in (layer((255, 255, 255), soft), layer((0, 0, 0), soft)):
    hole = mask_files.read(image_files.encode(image)).hole
    np.testing.assert_array_equal(hole, np.asarray(image)[..., 3] > 0)
  image = erased(noise(), soft)
  hole = mask_files.read(image_files.encode(image)).hole
  np.testing.assert_array_equal(hole, np.asarray(image)[..., 3] < 255)


@pytest.mark.parametrize("quality", [30, 60, 95])
@pytest.mark.parametrize("kind", ["jpeg", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_losses_of_a_format_make_no_holes_of_their_own(kind, quality, mode):
  image = Image.fromarray(values()).convert(mode)
  encoded = image_files.encode(image, kind, quality=quality)
  hole = mask_files.read(encoded).hole
  assert hole[HOLE].all()
  # Ripples reach no further than the blocks at the edge.
  near = np.zeros_like(HOLE)
  near[22:68, 32:78] = True
  assert not hole[~near].any() and hole.sum() < 1.4 * HOLE.sum()


def test_a_noisy_background_is_no_hole():
  rng = np.random.default_rng(0)
  grain = rng.integers(0, 12, HOLE.shape)
  scanned = np.where(HOLE, 255 - grain, grain).astype(np.uint8)
  hole = mask_files.read(image_files.encode(scanned)).hole
  np.testing.assert_array_equal(hole, HOLE)


@pytest.mark.parametrize(
  "image, names",
  [
    (np.where(HOLE[..., None], [255, 0, 0], 0).astype(np.uint8), "#ff0000"),
    (np.where(HOLE[..., None], [0, 0, 255], 255).astype(np.uint8), "#0000ff"),
    (palette_of([(0, 0, 0), (128, 0, 0)]), "#800000"),
    (noise(), "colours"),
    (data.brick(), "picture"),
  ],
)
def test_what_is_no_mask_is_refused(image, names):
  with pytest.raises(errors.UserError, match=names):
    mask_files.read(image_files.encode(image))


@pytest.mark.parametrize("polarity", mask_files.POLARITIES)
def test_a_hole_that_is_nearly_everything_names_the_polarity(polarity):
  white = polarity == "white_is_hole"
  few = np.zeros(HOLE.shape, bool)
  few[40:50, 40:60] = True
  image = np.uint8(255 * (~few if white else few))
  reading = mask_files.read(image_files.encode(image), polarity)
  np.testing.assert_array_equal(reading.hole, ~few)
  assert "file_polarity" in reading.note and "98.1 %" in reading.note


@pytest.mark.parametrize("value, polarity", [(0, "hole"), (255, "known")])
def test_a_mask_without_a_hole_names_its_range_and_the_polarity(
  value, polarity
):
  image = np.full(HOLE.shape, value, np.uint8)
  reading = mask_files.read(image_files.encode(image), f"white_is_{polarity}")
  assert not reading.hole.any()
  assert f"{value} to {value}" in reading.note
  assert "file_polarity" in reading.note


def test_a_speck_of_transparency_does_not_decide():
  image = np.dstack([values()] * 3 + [values(255, 255)])
  image[0, 0, 3] = 0
  reading = mask_files.read(image_files.encode(image))
  np.testing.assert_array_equal(reading.hole, HOLE)
  assert "transparent" in reading.note


@pytest.mark.parametrize(
  "mask, image",
  [((64, 48), (640, 480)), ((640, 480), (64, 48)), ((1000, 667), (500, 333)),
   ((333, 500), (1000, 1501)), ((100, 75), (33, 25)), ((64, 64), (64, 64))],
)  # fmt: skip
def test_a_mask_of_another_size_and_the_same_proportions_fits(mask, image):
  hole = np.zeros(mask[::-1], bool)
  hole[: mask[1] // 2] = True
  fitted = mask_files.fit(hole, *image[::-1])
  assert fitted.shape == image[::-1]
  assert fitted.mean() == pytest.approx(0.5, abs=1.5 / min(*image, *mask))


@pytest.mark.parametrize(
  "mask, image",
  [((300, 400), (400, 300)), ((64, 64), (640, 480)), ((640, 480), (64, 64)),
   ((500, 375), (500, 400)), ((100, 100), (100, 105))],
)  # fmt: skip
def test_other_proportions_are_refused_with_both_sizes(mask, image):
  with pytest.raises(errors.UserError) as refused:
    mask_files.fit(np.ones(mask[::-1], bool), *image[::-1])
  for width, height in (mask, image):
    assert f"{width}x{height}" in str(refused.value)


@pytest.mark.parametrize("factor", [2, 7.5, 20])
def test_thin_lines_survive_where_a_mask_is_reduced(factor):
  width, height = (round(factor * side) for side in SIZE)
  mask = Image.new("1", (width, height))
  ImageDraw.Draw(mask).line([(3, height - 5), (width - 4, 2)], 1, 1)
  hole = mask_files.fit(np.asarray(mask), SIZE[1], SIZE[0])
  # An unbroken line from side to side.
  assert hole.any(axis=0).sum() >= SIZE[0] - 2
  assert hole.mean() < 0.04
