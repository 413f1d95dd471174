import pathlib
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest
from scipy import ndimage
import tiny

import dcgan_inpaint
from dcgan_inpaint import api
from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint.photographs import user_images
from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import programs

SIDE = 64
FEW = {"mode": "paper", "steps": 2}


@pytest.fixture(scope="module")
def model(trained_run):
  return dcgan_inpaint.load_pretrained(str(trained_run))


def faces(count=3):
  config = config_lib.data()
  return data.load(config, "test", tiny.SHAPE, limit=count).images


def hole():
  mask = np.zeros((SIDE, SIDE), bool)
  mask[16:48, 16:48] = True
  return mask


def photograph(height=90, width=120):
  """A picture with a colour of its own everywhere, and a hole in it."""
  y, x = np.mgrid[:height, :width]
  image = np.stack([x * 2, y * 2, 255 - x - y], axis=-1).astype(np.uint8)
  mask = np.zeros((height, width), bool)
  mask[30:50, 40:70] = True
  image[mask] = 7
  return image, mask


@pytest.mark.slow
def test_known_pixels_come_back_to_the_bit_in_every_type(model):
  images = faces()
  for given in (
    images,
    np.uint16(images) * 257,
    np.float32(images / 127.5 - 1),
    images / 127.5 - 1,  # float64, more precise than float32.
    np.float16(images / 127.5 - 1),
    images / 255,
  ):
    completed = dcgan_inpaint.inpaint(given, hole(), model=model, **FEW)
    assert completed.dtype == given.dtype and completed.shape == given.shape
    np.testing.assert_array_equal(completed[:, ~hole()], given[:, ~hole()])
    assert np.any(completed[:, hole()] != given[:, hole()])
    assert np.isfinite(completed).all()


def test_floats_of_both_ranges_are_told_apart(model):
  image = faces(1)[0]
  expected = np.float64(
    dcgan_inpaint.inpaint(image, hole(), model=model, **FEW)
  )
  for values, back in (
    (image / 255, lambda x: x * 255),
    (image / 127.5 - 1, lambda x: (x + 1) * 127.5),
  ):
    found = dcgan_inpaint.inpaint(values, hole(), model=model, **FEW)
    np.testing.assert_allclose(back(found), expected, atol=0.51)
  # Where no value is negative, black may be meant to be -1.
  bright = image / 510 + 0.5
  asked, told = (
    dcgan_inpaint.inpaint(
      bright, hole(), model=model, value_range=value_range, **FEW
    )
    for value_range in ((-1, 1), None)
  )
  assert np.abs(asked - told)[hole()].max() > 0.01


def test_what_is_generated_is_blended_as_asked(model):
  images = np.float32(faces(1)[0] / 127.5 - 1)
  pasted, poisson = (
    dcgan_inpaint.inpaint(images, hole(), model=model, blending=mode, **FEW)
    for mode in ("paste", "poisson")
  )
  # The rim is the image's, the gradients are the generated image's.
  inside = np.s_[18:46, 18:46]
  unclipped = np.abs(ndimage.maximum_filter(np.abs(poisson), (3, 3, 1))) < 1
  gradients = [
    np.stack([ndimage.laplace(x[..., i]) for i in range(3)], axis=-1)
    for x in (pasted, poisson)
  ]
  np.testing.assert_allclose(
    *(x[inside][unclipped[inside]] for x in gradients), atol=1e-4
  )
  assert np.abs(pasted - poisson)[inside].max() > 0.05


def test_an_images_result_depends_on_no_other(model):
  images = [*faces(3), photograph()[0]]
  masks = [hole()] * 3 + [photograph()[1]]
  options = {"model": model, "faces": "whole", **FEW}
  alone = [
    dcgan_inpaint.inpaint(image, mask, **options)
    for image, mask in zip(images, masks, strict=True)
  ]
  together = dcgan_inpaint.inpaint(images[::-1], masks[::-1], **options)
  assert isinstance(together, list)
  for one, same in zip(alone, together[::-1], strict=True):
    np.testing.assert_array_equal(one, same)
  copies = dcgan_inpaint.inpaint(
    np.stack([images[0]] * 11), hole(), model=model, **FEW
  )
  np.testing.assert_array_equal(copies, [alone[0]] * 11)


@pytest.mark.parametrize(
  "shape",
  [(SIDE, SIDE), (SIDE, SIDE, 1), (3, SIDE, SIDE), (3, SIDE, SIDE, 1)],
)
@pytest.mark.parametrize("white", [True, np.uint8(255), np.uint8(1), 0.5, -3])
def test_the_hole_is_what_is_not_zero(model, shape, white):
  images = faces()
  masks = np.broadcast_to(
    hole()[..., None] if shape[-1] == 1 else hole(), shape
  ) * np.asarray(white)
  expected = dcgan_inpaint.inpaint(images, hole(), model=model, **FEW)
  np.testing.assert_array_equal(
    dcgan_inpaint.inpaint(images, masks, model=model, **FEW), expected
  )
  np.testing.assert_array_equal(expected[:, ~hole()], images[:, ~hole()])


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "1"])
def test_masks_may_be_pillows_and_files(model, tmp_path, kind):
  image = faces(1)[0]
  mask = Image.fromarray(np.uint8(255 * hole())).convert(kind)
  mask.save(tmp_path / "mask.png")
  expected = dcgan_inpaint.inpaint(image, hole(), model=model, **FEW)
  several = [np.asarray(mask)] if kind in ("RGB", "RGBA") else []
  for given in (mask, tmp_path / "mask.png", *several):
    np.testing.assert_array_equal(
      dcgan_inpaint.inpaint(image, given, model=model, **FEW), expected
    )


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK"])
def test_a_pillow_image_comes_back_in_its_mode(model, mode):
  values, mask = photograph()
  image = Image.fromarray(values).convert(mode)
  image.info["dpi"] = (300, 300)
  found = dcgan_inpaint.inpaint(image, mask, model=model, faces="whole", **FEW)
  assert (found.mode, found.size) == (mode, image.size)
  assert found.info["dpi"] == (300, 300)
  before, after = (
    np.asarray(x if mode == "CMYK" else x.convert("RGBA"))
    for x in (image, found)
  )
  np.testing.assert_array_equal(after[~mask], before[~mask])
  if mode != "1":
    assert np.any(after[mask] != before[mask])


@pytest.mark.parametrize(
  "shape", [(90, 120), (90, 120, 1), (90, 120, 3), (90, 120, 4), (2, 90, 120)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_of_any_size_and_channels(model, shape, dtype):
  mask = photograph()[1]
  top = {np.uint8: 255, np.uint16: 65_535, np.float32: 1}[dtype]
  values = np.random.default_rng(0).random(shape)
  image = (values * top).astype(dtype)
  kept = image.copy()
  found = dcgan_inpaint.inpaint(image, mask, model=model, faces="whole", **FEW)
  assert found.dtype == dtype and found.shape == shape
  np.testing.assert_array_equal(image, kept)  # The caller's own.
  known = np.broadcast_to(
    ~mask if len(shape) == 2 or shape[0] == 2 else ~mask[..., None], shape
  )
  np.testing.assert_array_equal(found[known], image[known])
  if shape[-1] == 4:
    np.testing.assert_array_equal(found[..., 3], image[..., 3])


def test_a_path_gives_a_pillow_image_that_is_upright(model, tmp_path):
  values, mask = photograph()
  exif = Image.Exif()
  exif[0x0112] = 6
  path = tmp_path / "photo, 1.png"
  Image.fromarray(np.rot90(values)).save(path, exif=exif, dpi=(72, 72))
  found = dcgan_inpaint.inpaint(
    str(path), mask, model=model, faces="whole", **FEW
  )
  assert isinstance(found, Image.Image)
  np.testing.assert_array_equal(np.asarray(found)[~mask], values[~mask])


def test_models_are_named_or_given(model, trained_run):
  image = faces(1)[0]
  expected = dcgan_inpaint.inpaint(image, hole(), model=model, **FEW)
  for named in (str(trained_run), pathlib.Path(trained_run)):
    np.testing.assert_array_equal(
      dcgan_inpaint.inpaint(image, hole(), model=named, **FEW), expected
    )


@pytest.mark.parametrize("images", [[], np.zeros((0, 64, 64, 3), np.uint8)])
def test_no_images_give_none(images):
  found = dcgan_inpaint.inpaint(images, hole())
  assert type(found) is type(images) and len(found) == 0


def test_a_mask_in_the_old_sense_is_named(model, caplog):
  dcgan_inpaint.inpaint(faces(1)[0], ~hole(), model=model, **FEW)
  assert not caplog.text
  small = np.ones((SIDE, SIDE), bool)
  small[20:30, 20:30] = False
  dcgan_inpaint.inpaint(faces(1)[0], small, model=model, **FEW)
  assert "other way round" in caplog.text


def test_what_lies_under_the_hole_is_not_looked_at(model):
  images = np.float32(faces() / 127.5 - 1)
  expected = dcgan_inpaint.inpaint(images, hole(), model=model, **FEW)
  images[:, hole()] = np.nan
  np.testing.assert_array_equal(
    dcgan_inpaint.inpaint(images, hole(), model=model, **FEW), expected
  )


BLACK = np.zeros((64, 64, 3))


@pytest.mark.parametrize(
  "images, masks, fields, message",
  [
    (np.zeros((2, 64, 64, 3, 1)), hole(), {}, "images: shape"),
    (np.zeros((64, 64, 5, 3, 3)), hole(), {}, "images: shape"),
    (np.zeros((4, 4, 3)), np.ones((4, 4)), {}, "4x4"),
    (BLACK, np.ones((32, 32)), {}, "masks: .* shape"),
    (np.zeros((2, 64, 64, 3)), np.ones((3, 64, 64)), {}, "masks: shape"),
    (np.zeros((2, 64, 64, 3)), [hole()] * 3, {}, "masks: 3 .* 2 images"),
    (np.zeros((64, 64, 3), int), hole(), {}, "uint8, uint16 or float"),
    (np.full((64, 64, 3), 2.0), hole(), {}, r"beyond \[0, 1\]"),
    (np.full((64, 64, 3), -2.0), hole(), {}, r"beyond \[-1, 1\]"),
    (np.full((64, 64, 3), np.nan), hole(), {}, "beyond"),
    (np.full((64, 64, 3), np.inf), hole(), {}, "beyond"),
    (BLACK, np.full((64, 64), np.nan), {}, "finite"),
    (BLACK, np.full((64, 64), "x"), {}, "booleans or finite"),
    (BLACK, Image.new("L", (64, 60), 1), {}, "64x60 .* 64x64"),
    ("none.png", hole(), {}, "none.png.*No such file"),
    (BLACK, "none.png", {}, "none.png.*No such file"),
    (BLACK, hole(), {"value_range": (0, 255)}, "value_range"),
    (BLACK, hole(), {"model": 3}, "model: int"),
    (BLACK, hole(), {"model": "nowhere"}, "nowhere"),
    (BLACK, hole(), {"faces": "some"}, "faces='some'.*whole"),
    (BLACK, hole(), {"rest": "some"}, "rest='some'.*leave"),
    (BLACK, hole(), {"mode": "best"}, "paper, fidelity"),
    (BLACK, hole(), {"mode": None}, "mode=None"),
    (BLACK, hole(), {"step": 3}, "'step' is not .* steps"),
    (BLACK, hole(), {"steps": "3"}, "steps='3'"),
    (BLACK, hole(), {"steps": [5]}, r"steps=\[5\]"),
    (BLACK, hole(), {"steps": -1}, "config.search.steps"),
  ],
)
def test_a_wrong_argument_is_refused_in_a_line(
  model, images, masks, fields, message
):
  fields = {"model": model, **FEW, **fields}
  with pytest.raises(errors.UserError, match=message) as error:
    dcgan_inpaint.inpaint(images, masks, **fields)
  assert "\n" not in str(error.value)


def test_numbers_of_numpy_are_numbers(model):
  fields = {**FEW, "steps": np.int64(2), "seed": np.uint32(0)}
  np.testing.assert_array_equal(
    dcgan_inpaint.inpaint(faces(1)[0], hole(), model=model, **fields),
    dcgan_inpaint.inpaint(faces(1)[0], hole(), model=model, **FEW),
  )


@pytest.mark.slow
def test_other_numbers_compile_nothing(model):
  image = faces(1)
  dcgan_inpaint.inpaint(image, hole(), model=model, **FEW)
  before = programs._shared.cache_info().misses
  for fields in (
    {"seed": 5},
    {"steps": 3},
    {"learning_rate": 0.2},
    {"prior_weight": 0.3},
  ):
    dcgan_inpaint.inpaint(image, hole(), model=model, **{**FEW, **fields})
  assert programs._shared.cache_info().misses == before
  # A search of another kind does.
  dcgan_inpaint.inpaint(image, hole(), model=model, **FEW, prior_weight=0.0)
  assert programs._shared.cache_info().misses == before + 1


@pytest.mark.slow
def test_what_is_kept_can_be_freed(model):
  image = faces(1)
  first = dcgan_inpaint.inpaint(image, hole(), model=model, **FEW)
  assert 0 < programs._shared.cache_info().currsize <= 8
  dcgan_inpaint.clear_caches()
  assert programs._shared.cache_info().currsize == 0
  again = dcgan_inpaint.inpaint(image, hole(), model=model, **FEW)
  np.testing.assert_array_equal(again, first)


def test_few_files_are_held_at_a_time(model, tmp_path, monkeypatch):
  paths = []
  for i, face in enumerate(faces(1).repeat(20, axis=0)):
    paths.append(tmp_path / f"{i}.png")
    Image.fromarray(face).save(paths[-1])
  read, search, events = user_images.read, api._search, []

  def note_read(*args):
    events.append("read")
    return read(*args)

  def note_search(fill, model, work):
    events.append("search")
    search(fill, model, work)

  monkeypatch.setattr(user_images, "read", note_read)
  monkeypatch.setattr(api, "_search", note_search)
  found = dcgan_inpaint.inpaint(paths, hole(), model=model, **FEW)
  assert len(found) == 20
  # The first one is read twice, since masks must fit it.
  reads = [len(x) for x in "".join(e[0] for e in events).split("s")]
  assert reads == [9, 8, 4, 0]


def test_compiled_programs_are_kept(model, tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "PROGRAMS", str(tmp_path))
  given = jax.config.jax_compilation_cache_dir
  try:
    for before in (None, "elsewhere"):
      jax.config.update("jax_compilation_cache_dir", before)
      api._use_compilation_cache()
      now = jax.config.jax_compilation_cache_dir
      assert now == (before or str(tmp_path))
  finally:
    jax.config.update("jax_compilation_cache_dir", given)


@pytest.mark.slow
def test_the_packages_model_fills_a_hole():
  (image,) = faces(1)
  completed = dcgan_inpaint.inpaint(image, hole(), refine_steps=2)
  np.testing.assert_array_equal(completed[~hole()], image[~hole()])


def test_importing_the_package_loads_nothing_heavy():
  heavy = {"jax", "flax", "orbax", "skimage", "scipy", "tensorflow_datasets"}
  script = f"import sys, dcgan_inpaint; print({heavy} & set(sys.modules))"
  result = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "set()"
