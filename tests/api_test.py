import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage
import tiny

import dcgan_inpaint
from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint.runtime import errors

SIDE = 64
FEW = {"mode": "paper", "steps": 2}


@pytest.fixture(scope="module")
def model(trained_run):
  return dcgan_inpaint.load_pretrained(str(trained_run))


def faces(count=3):
  config = config_lib.data()
  return data.load(config, "test", tiny.SHAPE, limit=count).images


def hole():
  mask = np.ones((SIDE, SIDE), bool)
  mask[16:48, 16:48] = False
  return mask


def test_known_pixels_come_back_to_the_bit_in_every_type(model):
  images = faces()
  for given in (
    images,
    np.float32(images / 127.5 - 1),
    images / 127.5 - 1,  # float64, more precise than float32.
    np.float16(images / 127.5 - 1),
  ):
    completed = dcgan_inpaint.inpaint(given, hole(), model=model, **FEW)
    assert completed.dtype == given.dtype and completed.shape == given.shape
    np.testing.assert_array_equal(completed[:, hole()], given[:, hole()])
    assert np.any(completed[:, ~hole()] != given[:, ~hole()])
    assert np.isfinite(completed).all()


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


def test_one_image_is_the_first_of_a_batch(model):
  images = faces(2)
  alone = dcgan_inpaint.inpaint(images[0], hole(), model=model, **FEW)
  both = dcgan_inpaint.inpaint(images, hole(), model=model, **FEW)
  assert alone.shape == (SIDE, SIDE, 3)
  assert np.abs(np.int32(alone) - both[0]).max() <= 1


@pytest.mark.parametrize(
  "shape",
  [(SIDE, SIDE), (SIDE, SIDE, 1), (3, SIDE, SIDE), (3, SIDE, SIDE, 1)],
)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64])
def test_a_mask_may_have_any_of_these_forms(model, shape, dtype):
  images = faces()
  masks = np.broadcast_to(
    hole()[..., None] if shape[-1] == 1 else hole(), shape
  ).astype(dtype)
  expected = dcgan_inpaint.inpaint(images, hole(), model=model, **FEW)
  np.testing.assert_array_equal(
    dcgan_inpaint.inpaint(images, masks, model=model, **FEW), expected
  )


def test_what_lies_under_the_hole_is_not_looked_at(model):
  images = np.float32(faces() / 127.5 - 1)
  expected = dcgan_inpaint.inpaint(images, hole(), model=model, **FEW)
  images[:, ~hole()] = np.nan
  np.testing.assert_array_equal(
    dcgan_inpaint.inpaint(images, hole(), model=model, **FEW), expected
  )


@pytest.mark.parametrize(
  "images, masks, fields, message",
  [
    (np.zeros((32, 32, 3)), hole(), {}, "configs/inpaint.py"),
    (np.zeros((64, 64)), hole(), {}, "images: shape"),
    (np.zeros((64, 64, 3)), np.ones((32, 32)), {}, "masks: shape"),
    (np.zeros((2, 64, 64, 3)), np.ones((3, 64, 64)), {}, "masks: shape"),
    (np.zeros((64, 64, 3)), 255 * np.ones((64, 64)), {}, "threshold"),
    (np.zeros((64, 64, 3), int), hole(), {}, "uint8 or float"),
    (np.full((64, 64, 3), 2.0), hole(), {}, r"beyond \[-1, 1\]"),
    (np.full((64, 64, 3), np.nan), hole(), {}, r"beyond \[-1, 1\]"),
    (np.full((64, 64, 3), np.inf), hole(), {}, r"beyond \[-1, 1\]"),
    (np.zeros((64, 64, 3)), np.full((64, 64), np.nan), {}, "threshold"),
    (np.zeros((64, 64, 3)), np.full((64, 64), np.inf), {}, "threshold"),
    (np.zeros((64, 64, 3)), hole(), {"mode": "best"}, "paper, fidelity"),
    (np.zeros((64, 64, 3)), hole(), {"step": 3}, "'step' is not .* steps"),
    (np.zeros((64, 64, 3)), hole(), {"steps": "3"}, "steps='3'"),
    (np.zeros((64, 64, 3)), hole(), {"steps": -1}, "config.search.steps"),
  ],
)
def test_a_wrong_argument_is_refused_in_a_line(
  model, images, masks, fields, message
):
  with pytest.raises(errors.UserError, match=message) as error:
    dcgan_inpaint.inpaint(images, masks, model=model, **{**FEW, **fields})
  assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_packages_model_fills_a_hole():
  (image,) = faces(1)
  completed = dcgan_inpaint.inpaint(image, hole(), refine_steps=2)
  np.testing.assert_array_equal(completed[hole()], image[hole()])


def test_importing_the_package_loads_nothing_heavy():
  heavy = {"jax", "flax", "orbax", "skimage", "scipy", "tensorflow_datasets"}
  script = f"import sys, dcgan_inpaint; print({heavy} & set(sys.modules))"
  result = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "set()"
