"""MSE, PSNR, SSIM and sharpness of batches of images.

The first three equal scikit-image's to 1e-5.

The paper compares its losses by MSE and SSIM; PSNR is the field's custom. All
metrics are on the 8-bit scale, one value per image, so that tables can have
means and intervals. All but `summarise` work under `jit`, in float32 arithmetic
without matrix products, which an accelerator may round to TF32 or bfloat16.

Arguments are [B, H, W, C] arrays, uint8 or float in 0..255, and an optional
mask [B, H, W, 1] with 1 = known and 0 = hole. Without a mask a metric is taken
over the whole image, as in the paper; with one, only over the hole. For a hole
without pixels it is NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray

# What `evaluate` returns.
METRICS = (
  "mse", "psnr", "ssim", "ssim_gaussian", "hole_mse", "hole_psnr", "hole_ssim",
  "hole_ssim_gaussian", "hole_sharpness",
)  # fmt: skip

_RANGE = 255.0  # The distance from black to white of 8-bit images.

# The uniform window is scikit-image's default, the Gaussian one Wang et al.'s.
_UNIFORM = np.full(7, 1 / 7)
_GAUSSIAN = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
_GAUSSIAN /= _GAUSSIAN.sum()


def mse(
  images: Array, references: Array, mask: Array | None = None
) -> jax.Array:
  """Returns the mean squared error of each image, float32 [B], 0..65025.

  Args:
    images: uint8 or float [B, H, W, C] in 0..255.
    references: the true images, of the same shape.
    mask: None for the whole image, or [B, H, W, 1] for its hole (0).
  """
  squares = (_float(images) - _float(references)) ** 2
  return _mean(squares, mask)


def psnr(
  images: Array, references: Array, mask: Array | None = None
) -> jax.Array:
  """Returns the peak signal-to-noise ratio of each image, float32 [B], in dB.

  `10 log10(255^2 / mse)`; infinite where the two images are identical.

  Args:
    images: uint8 or float [B, H, W, C] in 0..255.
    references: the true images, of the same shape.
    mask: None for the whole image, or [B, H, W, 1] for its hole (0).
  """
  return 10 * jnp.log10(_RANGE**2 / mse(images, references, mask))


def ssim(
  images: Array,
  references: Array,
  mask: Array | None = None,
  gaussian: bool = False,
) -> jax.Array:
  """Returns the mean structural similarity of each image, float32 [B], -1..1.

  Wang, Bovik, Sheikh & Simoncelli, "Image quality assessment: from error
  visibility to structural similarity", IEEE TIP 13 (2004), with K1 = 0.01 and
  K2 = 0.03, separately in each colour channel. The whole image's value is
  `skimage.metrics.structural_similarity(..., channel_axis=-1, data_range=255)`:
  the mean of the map of local similarities without the border on which the
  window overhangs the image (3 pixels, Gaussian 5). The hole's value is the
  mean of that map over the hole's pixels, border included (`full=True` there);
  as a window reaches beyond its centre, known pixels near the hole count too.

  Args:
    images: uint8 or float [B, H, W, C] in 0..255, no side shorter than the
      window.
    references: the true images, of the same shape.
    mask: None for the whole image, or [B, H, W, 1] for its hole (0).
    gaussian: False for scikit-image's default, a uniform 7x7 window and sample
      covariances; True for the Gaussian window of Wang et al. (11x11, sigma
      1.5), scikit-image's `gaussian_weights=True,
      use_sample_covariance=False`.

  Raises:
    ValueError: an image is smaller than the window.
  """
  window = _GAUSSIAN if gaussian else _UNIFORM
  if min(images.shape[1:3]) < len(window):
    raise ValueError(
      f"SSIM's window is {len(window)} pixels wide; the images are only "
      f"{images.shape[1]}x{images.shape[2]}"
    )
  similarity = _similarity_map(
    _float(images), _float(references), window, sample=not gaussian
  )
  if mask is None:
    border = len(window) // 2
    similarity = similarity[:, border:-border, border:-border]
  return _mean(similarity, mask)


def sharpness(images: Array, references: Array, mask: Array) -> jax.Array:
  """Returns the relative strength of the gradients in each hole, float32 [B].

  The sum of the squared differences between neighbouring pixels of the hole,
  over that of the reference: 1 for as much detail, right or wrong, and less for
  a blur. NaN or infinite if the reference is flat or no two pixels of the hole
  are neighbours.

  Args:
    images: uint8 or float [B, H, W, C] in 0..255.
    references: the true images, of the same shape.
    mask: [B, H, W, 1], 1 = known, 0 = hole.
  """
  return _gradient_energy(images, mask) / _gradient_energy(references, mask)


@jax.jit
def evaluate(
  completed: Array, originals: Array, masks: Array
) -> dict[str, jax.Array]:
  """Returns every metric of a batch of completed images.

  Args:
    completed: uint8 [B, H, W, C].
    originals: uint8 [B, H, W, C], the images before their holes were cut.
    masks: [B, H, W, 1], 1 = known, 0 = hole.

  Returns:
    A dict of float32 [B]: `mse`, `psnr`, `ssim`, `ssim_gaussian` of the whole
    image, `hole_mse`, `hole_psnr`, `hole_ssim`, `hole_ssim_gaussian`,
    `hole_sharpness` of the hole.
  """
  return {
    "mse": mse(completed, originals),
    "psnr": psnr(completed, originals),
    "ssim": ssim(completed, originals),
    "ssim_gaussian": ssim(completed, originals, gaussian=True),
    "hole_mse": mse(completed, originals, masks),
    "hole_psnr": psnr(completed, originals, masks),
    "hole_ssim": ssim(completed, originals, masks),
    "hole_ssim_gaussian": ssim(completed, originals, masks, gaussian=True),
    "hole_sharpness": sharpness(completed, originals, masks),
  }


def summarise(values: Array) -> tuple[float, float]:
  """Returns the mean of one metric over images, and its 95 % interval.

  PSNR is averaged as usual in the field: the mean of the images' decibels, not
  the decibels of the mean error. Values that are not finite (the PSNR of a
  perfect image, the hole of an image that has none) are left out, unless all
  images are perfect.

  Args:
    values: float [n], one per image.

  Returns:
    (mean, half_width), floats: the mean lies within `mean ± half_width` with
    95 % confidence, by Student's t over the images. `half_width` is NaN for
    fewer than two finite values.
  """
  numbers = np.asarray(values, np.float64)
  finite = numbers[np.isfinite(numbers)]
  n = len(finite)
  if n == 0:
    return (np.inf if np.any(numbers == np.inf) else np.nan), np.nan
  if n == 1:
    return float(finite[0]), np.nan
  from scipy import special  # Slow to import, and not used in training.

  quantile = special.stdtrit(n - 1, 0.975)
  half_width = quantile * finite.std(ddof=1) / np.sqrt(n)
  return float(finite.mean()), float(half_width)


def _float(images: Array) -> jax.Array:
  return jnp.asarray(images, jnp.float32)


def _gradient_energy(images: Array, mask: Array) -> jax.Array:
  """Returns the sum of squared differences of neighbours in each hole, [B]."""
  values, hole = _float(images), 1 - _float(mask)
  along_y, along_x = (
    _sum(jnp.diff(values, axis=axis) ** 2 * jnp.minimum(*_pairs(hole, axis)))
    for axis in (1, 2)
  )
  return along_y + along_x


def _pairs(values: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
  size = values.shape[axis]
  return (
    jax.lax.slice_in_dim(values, 0, size - 1, axis=axis),
    jax.lax.slice_in_dim(values, 1, size, axis=axis),
  )


def _mean(values: jax.Array, mask: Array | None) -> jax.Array:
  """Returns the mean over [H, W, C] of each image, or over its hole."""
  if mask is not None:
    hole = jnp.broadcast_to(1 - _float(mask), values.shape)
    return _sum(values * hole) / _sum(hole)
  return _sum(values) / values[0].size


def _sum(values: jax.Array) -> jax.Array:
  # Row by row, to limit rounding errors of long float32 sums.
  return values.sum((2, 3)).sum(1)


def _similarity_map(
  x: jax.Array, y: jax.Array, window: np.ndarray, *, sample: bool
) -> jax.Array:
  """Returns SSIM's local map [B, H, W, C] (Wang et al., equation 13)."""
  mean_x, _, var_x = _local_covariance(x, x, window)
  mean_y, _, var_y = _local_covariance(y, y, window)
  _, _, cov = _local_covariance(x, y, window)
  if sample:
    count = len(window) ** 2
    var_x, var_y, cov = (count / (count - 1) * v for v in (var_x, var_y, cov))
  c1, c2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
  luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
  structure = (2 * cov + c2) / (var_x + var_y + c2)
  return luminance * structure


def _local_covariance(
  x: jax.Array, y: jax.Array, window: np.ndarray
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the means of x and of y, and their covariance, in each window.

  E[xy] - E[x]E[y] cancels in float32. The law of total covariance does not,
  and keeps the window separable: along the columns first, then along the
  rows, the covariance is the mean of the covariances so far plus the
  covariance of the means so far, taken about the mean of the step.

  Args:
    x: float32 [B, H, W, C].
    y: float32 [B, H, W, C].
    window: the weights along one axis; they add up to 1.
  """
  covariance = jnp.zeros_like(x)
  for axis in (1, 2):
    xs, ys = _taps(x, axis, window), _taps(y, axis, window)
    x, y = _average(xs, window), _average(ys, window)
    within = _taps(covariance, axis, window)
    covariance = _average(
      [c + (s - x) * (t - y) for c, s, t in zip(within, xs, ys, strict=True)],
      window,
    )
  return x, y, covariance


def _taps(images: jax.Array, axis: int, window: np.ndarray) -> list[jax.Array]:
  """Returns `images` shifted along `axis`, once for each of the weights.

  The border is mirrored, edge included (SciPy's `reflect`).
  """
  reach, size = len(window) // 2, images.shape[axis]
  padding = [(0, 0)] * images.ndim
  padding[axis] = (reach, reach)
  padded = jnp.pad(images, padding, mode="symmetric")
  return [
    jax.lax.slice_in_dim(padded, tap, tap + size, axis=axis)
    for tap in range(len(window))
  ]


def _average(taps: list[jax.Array], window: np.ndarray) -> jax.Array:
  first, *others = (float(w) * tap for w, tap in zip(window, taps, strict=True))
  return sum(others, start=first)
