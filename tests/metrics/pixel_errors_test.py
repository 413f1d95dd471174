import jax
import numpy as np
import pytest
from scipy import ndimage
import skimage.data
import skimage.metrics

from dcgan_inpaint.metrics import pixel_errors

_WANG = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


def _pairs():
  """Returns pairs of uint8 [4, 40, 48, 3], from noise to a change of shade."""
  rng = np.random.default_rng(0)
  shape = (4, 40, 48, 3)

  def noise(low, high):
    return rng.integers(low, high, shape, dtype=np.uint8)

  astronaut = skimage.data.astronaut()
  corners = rng.integers(0, 460, (4, 2))
  faces = np.stack([astronaut[y : y + 40, x : x + 48] for y, x in corners])
  noisy = np.clip(faces + rng.normal(0, 20, shape), 0, 255).astype(np.uint8)
  tiles = 255 * np.kron(rng.integers(0, 2, (4, 5, 6, 1)), np.ones((1, 8, 8, 3)))
  return {
    "noise": (noise(0, 256), noise(0, 256)),
    "photographs": (faces, noisy),
    "one bright, one dark, nearly constant": (noise(249, 251), noise(10, 12)),
    "both bright and nearly constant": (noise(249, 251), noise(249, 251)),
    "white and black": (np.full_like(faces, 255), np.zeros_like(faces)),
    "black and white tiles": (tiles.astype(np.uint8), noisy),
  }


_PAIRS = _pairs()


def _holes():
  """Returns masks [4, 40, 48, 1] with holes inside and at the border."""
  masks = np.ones((4, 40, 48, 1), np.float32)
  masks[:2, 10:30, 8:40] = 0
  masks[2, :, :24] = 0
  masks[3] = np.random.default_rng(1).random((40, 48, 1)) < 0.2
  return masks


def _gradients(image, hole):
  """Returns the differences of neighbours in the hole, pair by pair."""
  height, width = hole.shape
  return np.array(
    [
      image[i, j] - image[k, m]
      for i in range(height)
      for j in range(width)
      for k, m in ((i + 1, j), (i, j + 1))
      if k < height and m < width and hole[i, j] and hole[k, m]
    ]
  )


@np.errstate(divide="ignore", invalid="ignore")
def _expected(x, y, mask):
  """Returns the metrics of one float64 pair [H, W, 3] and its hole."""
  hole = mask[..., 0] == 0
  options = dict(channel_axis=-1, data_range=255)
  similarity = skimage.metrics.structural_similarity
  ssim, similarities = similarity(x, y, full=True, **options)
  gaussian, gaussians = similarity(x, y, full=True, **_WANG, **options)
  return {
    "mse": skimage.metrics.mean_squared_error(x, y),
    "psnr": skimage.metrics.peak_signal_noise_ratio(x, y, data_range=255),
    "ssim": ssim,
    "ssim_gaussian": gaussian,
    "hole_mse": skimage.metrics.mean_squared_error(x[hole], y[hole]),
    "hole_psnr": skimage.metrics.peak_signal_noise_ratio(
      x[hole], y[hole], data_range=255
    ),
    "hole_ssim": similarities[hole].mean(),
    "hole_ssim_gaussian": gaussians[hole].mean(),
    # float64, which divides by 0 as NumPy does.
    "hole_sharpness": np.divide(
      *(np.sum(_gradients(image, hole) ** 2) for image in (x, y))
    ),
  }


@pytest.mark.parametrize(
  "dtype", [np.uint8, pytest.param(np.float32, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("pair", _PAIRS)
def test_every_metric_equals_scikit_images_or_numpys(pair, dtype):
  images, references = (x.astype(dtype) for x in _PAIRS[pair])
  if dtype == np.float32:  # Not integers, so that sums are inexact.
    images, references = images * np.float32(0.9937), references + 0.123
  masks = _holes()
  metrics = pixel_errors.evaluate(images, references, masks)
  expected = [
    _expected(x.astype(np.float64), y.astype(np.float64), mask)
    for x, y, mask in zip(images, references, masks, strict=True)
  ]
  assert set(metrics) == set(expected[0])
  for name, values in metrics.items():
    assert values.dtype == np.float32
    np.testing.assert_allclose(
      values,
      [metric[name] for metric in expected],
      # MSE reaches 65025, where 1e-5 is below float32's precision.
      rtol=1e-6 if name.endswith(("mse", "sharpness")) else 0,
      atol=1e-5,
      err_msg=name,
    )


@pytest.mark.slow
def test_evaluate_is_the_single_functions():
  images, references = _PAIRS["photographs"]
  masks = _holes()
  metrics = pixel_errors.evaluate(images, references, masks)
  for name in ("mse", "psnr", "ssim"):
    function = getattr(pixel_errors, name)
    for prefix, mask in (("", None), ("hole_", masks)):
      np.testing.assert_allclose(
        metrics[prefix + name], function(images, references, mask), rtol=1e-5
      )


def test_an_image_s_metrics_do_not_depend_on_its_neighbours():
  images, references = _PAIRS["photographs"]
  masks = _holes()
  batch = pixel_errors.evaluate(images, references, masks)
  for i in range(4):
    # Among three copies of itself, for which nothing is compiled anew.
    alone = pixel_errors.evaluate(
      *(x[[i] * 4] for x in (images, references, masks))
    )
    for name, values in alone.items():
      np.testing.assert_allclose(values, batch[name][i], rtol=1e-6)


def test_the_hole_s_error_is_blind_to_the_known_pixels():
  images, references = _PAIRS["photographs"]
  masks = _holes()
  other = np.where(masks == 1, 255 - images, images)
  for metric in (pixel_errors.mse, pixel_errors.psnr):
    np.testing.assert_array_equal(
      metric(images, references, masks), metric(other, references, masks)
    )


def test_identical_images_are_perfect():
  images, _ = _PAIRS["photographs"]
  metrics = pixel_errors.evaluate(images, images, _holes())
  for name, perfect in {"mse": 0, "psnr": np.inf, "ssim": 1}.items():
    np.testing.assert_array_equal(metrics[name], np.full(4, perfect))
    np.testing.assert_array_equal(metrics["hole_" + name], np.full(4, perfect))


def test_a_mask_without_a_hole_has_no_hole_metric():
  images, references = _PAIRS["photographs"]
  metrics = pixel_errors.evaluate(images, references, np.ones((4, 40, 48, 1)))
  for name in metrics:
    assert np.isnan(metrics[name]).all() == name.startswith("hole_")


def test_a_blur_is_less_sharp_and_noise_is_sharper():
  images, noisy = _PAIRS["photographs"]
  blurred = ndimage.uniform_filter(np.float32(images), (0, 3, 3, 0))
  masks = _holes()
  assert np.all(pixel_errors.sharpness(blurred, images, masks) < 0.7)
  assert np.all(pixel_errors.sharpness(noisy, images, masks) > 1.5)
  np.testing.assert_allclose(pixel_errors.sharpness(images, images, masks), 1)


def test_an_image_smaller_than_the_window_is_refused():
  small = np.zeros((1, 10, 10, 3), np.uint8)
  assert pixel_errors.ssim(small, small) == 1
  with pytest.raises(ValueError, match="11 pixels.*10x10"):
    pixel_errors.ssim(small, small, gaussian=True)


def test_no_metric_multiplies_matrices():
  # On an accelerator those would be rounded to TF32 or bfloat16.
  images, references = _PAIRS["photographs"]
  program = jax.jit(pixel_errors.evaluate).lower(images, references, _holes())
  text = program.as_text()
  assert "stablehlo.dot" not in text and "stablehlo.convolution" not in text


def test_summarise_gives_student_s_interval():
  # Mean 4, standard deviation 2, t(0.975, 4 degrees of freedom) = 2.776445.
  mean, half_width = pixel_errors.summarise([2.0, 2.0, 4.0, 6.0, 6.0])
  assert mean == 4
  assert half_width == pytest.approx(2.776445 * 2 / 5**0.5, rel=1e-6)


def test_summarise_leaves_out_what_is_not_finite():
  assert pixel_errors.summarise([20.0, np.inf, 30.0, np.nan])[0] == 25
  mean, half_width = pixel_errors.summarise([20.0])
  assert mean == 20 and np.isnan(half_width)
  assert pixel_errors.summarise([np.inf, np.inf])[0] == np.inf
  assert np.isnan(pixel_errors.summarise([np.nan])[0])


def test_the_names_of_the_metrics_are_those_of_an_evaluation():
  image = jax.ShapeDtypeStruct((1, 16, 16, 3), np.uint8)
  mask = jax.ShapeDtypeStruct((1, 16, 16, 1), np.float32)
  shapes = jax.eval_shape(pixel_errors.evaluate, image, image, mask)
  assert set(shapes) == set(pixel_errors.METRICS)
