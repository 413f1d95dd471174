import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint import pixels

EVERY_VALUE = np.arange(256, dtype=np.uint8)

both_kinds = pytest.mark.parametrize(
  "module, kind", [(np, np.ndarray), (jnp, jax.Array)], ids=["numpy", "jax"]
)


@both_kinds
def test_every_8_bit_value_goes_to_the_papers_range_and_back(module, kind):
  scaled = pixels.to_float(module.asarray(EVERY_VALUE))
  assert isinstance(scaled, kind)
  assert scaled.dtype == np.float32
  expected = EVERY_VALUE.astype(np.float64) / 127.5 - 1
  np.testing.assert_allclose(scaled, expected, rtol=0, atol=2e-7)
  assert scaled[0] == -1
  assert scaled[255] == 1
  back = pixels.to_uint8(scaled)
  assert isinstance(back, kind)
  assert back.dtype == np.uint8
  np.testing.assert_array_equal(back, EVERY_VALUE)


@both_kinds
@pytest.mark.parametrize(
  "value, expected",
  [(-1.3, 0), (1.3, 255), (0.51 / 127.5 - 1, 1), (0.49 / 127.5 - 1, 0)],
)
def test_8_bit_values_are_rounded_and_clipped(module, kind, value, expected):
  image = module.full((2, 2, 3), value, module.float32)
  np.testing.assert_array_equal(pixels.to_uint8(image), expected)


def test_grey_is_the_luma_that_pillow_gives():
  colours = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
  grey = pixels.to_grey(colours)
  assert grey.shape == (3, 40, 50, 1) and grey.dtype == np.uint8
  for image, expected in zip(grey, colours, strict=True):
    luma = np.asarray(Image.fromarray(expected).convert("L"))
    np.testing.assert_array_equal(image[..., 0], luma)
  values = EVERY_VALUE[:, None]
  np.testing.assert_array_equal(pixels.to_grey(values.repeat(3, 1)), values)
