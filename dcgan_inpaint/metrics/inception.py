"""The network of the Fréchet Inception distance, as in the literature.

Inception V3 (Szegedy et al. 2015, arXiv 1512.00567) as it was frozen in
TensorFlow's `inception-2015-12-05.tgz`, which Heusel et al. 2017 (arXiv
1706.08500) use, and every FID since. It differs from today's Inception V3 in
its average pooling, which excludes the padding, and in its last block, which
has a maximum instead. The features are the means of the last activations, 2,048
values.

                    at 299 x 299 pixels
  Conv2d_1a_3x3     149 x 149 x 32
  Conv2d_2a_3x3     147 x 147 x 32
  Conv2d_2b_3x3     147 x 147 x 64    then the maximum of 3x3, stride 2
  Conv2d_3b_1x1     73 x 73 x 80
  Conv2d_4a_3x3     71 x 71 x 192     then the maximum of 3x3, stride 2
  Mixed_5b          35 x 35 x 256
  Mixed_5c, 5d      35 x 35 x 288
  Mixed_6a to 6e    17 x 17 x 768
  Mixed_7a          8 x 8 x 1280
  Mixed_7b, 7c      8 x 8 x 2048

The names are those of the weights that pytorch-fid and torch-fidelity publish.
They are not part of this package; `read` reads them from a file.
"""

from collections.abc import Callable
import pathlib
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint.runtime import errors

SIZE = 299  # The side of the images that the network was trained on.
DIMENSION = 2048

_EPSILON = 1e-3  # Of the normalisations, added to the variance.
# Of a layer in the file: its kernel, and its normalisation.
_KERNEL = "conv.weight"
_NORMALISATION = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


class _MixedA(nn.Module):
  """The blocks at 35x35 pixels; `pooled` channels come from the average."""

  pooled: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    one = _conv(x, "branch1x1", 64)
    five = _conv(x, "branch5x5_1", 48)
    five = _conv(five, "branch5x5_2", 64, (5, 5))
    three = _conv(x, "branch3x3dbl_1", 64)
    three = _conv(three, "branch3x3dbl_2", 96, (3, 3))
    three = _conv(three, "branch3x3dbl_3", 96, (3, 3))
    pool = _conv(_average(x), "branch_pool", self.pooled)
    return jnp.concatenate([one, five, three, pool], axis=-1)


class _MixedB(nn.Module):
  """From 35x35 pixels to 17x17."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    one = _conv(x, "branch3x3", 384, (3, 3), 2)
    three = _conv(x, "branch3x3dbl_1", 64)
    three = _conv(three, "branch3x3dbl_2", 96, (3, 3))
    three = _conv(three, "branch3x3dbl_3", 96, (3, 3), 2)
    return jnp.concatenate([one, three, _maximum(x)], axis=-1)


class _MixedC(nn.Module):
  """The blocks at 17x17 pixels; `inner` channels between the convolutions."""

  inner: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    one = _conv(x, "branch1x1", 192)
    seven = _conv(x, "branch7x7_1", self.inner)
    seven = _conv(seven, "branch7x7_2", self.inner, (1, 7))
    seven = _conv(seven, "branch7x7_3", 192, (7, 1))
    double = _conv(x, "branch7x7dbl_1", self.inner)
    double = _conv(double, "branch7x7dbl_2", self.inner, (7, 1))
    double = _conv(double, "branch7x7dbl_3", self.inner, (1, 7))
    double = _conv(double, "branch7x7dbl_4", self.inner, (7, 1))
    double = _conv(double, "branch7x7dbl_5", 192, (1, 7))
    pool = _conv(_average(x), "branch_pool", 192)
    return jnp.concatenate([one, seven, double, pool], axis=-1)


class _MixedD(nn.Module):
  """From 17x17 pixels to 8x8."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    three = _conv(x, "branch3x3_1", 192)
    three = _conv(three, "branch3x3_2", 320, (3, 3), 2)
    seven = _conv(x, "branch7x7x3_1", 192)
    seven = _conv(seven, "branch7x7x3_2", 192, (1, 7))
    seven = _conv(seven, "branch7x7x3_3", 192, (7, 1))
    seven = _conv(seven, "branch7x7x3_4", 192, (3, 3), 2)
    return jnp.concatenate([three, seven, _maximum(x)], axis=-1)


class _MixedE(nn.Module):
  """The blocks at 8x8 pixels; the last has a maximum instead of an average."""

  last: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    one = _conv(x, "branch1x1", 320)
    three = _conv(x, "branch3x3_1", 384)
    wide = _conv(three, "branch3x3_2a", 384, (1, 3))
    high = _conv(three, "branch3x3_2b", 384, (3, 1))
    double = _conv(x, "branch3x3dbl_1", 448)
    double = _conv(double, "branch3x3dbl_2", 384, (3, 3))
    double_wide = _conv(double, "branch3x3dbl_3a", 384, (1, 3))
    double_high = _conv(double, "branch3x3dbl_3b", 384, (3, 1))
    pool = nn.max_pool(x, (3, 3), padding="SAME") if self.last else _average(x)
    pool = _conv(pool, "branch_pool", 192)
    return jnp.concatenate(
      [one, wide, high, double_wide, double_high, pool], axis=-1
    )


class Inception(nn.Module):
  """The network, its normalisations folded into the convolutions."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns the means of the last activations, float32 [B, 2048].

    Args:
      x: float32 [B, H, W, 3] in [-1, 1]; 299x299, and no less than 75x75.
    """
    x = _conv(x, "Conv2d_1a_3x3", 32, (3, 3), 2)
    x = _conv(x, "Conv2d_2a_3x3", 32, (3, 3), padding="VALID")
    x = _conv(x, "Conv2d_2b_3x3", 64, (3, 3))
    x = _maximum(x)
    x = _conv(x, "Conv2d_3b_1x1", 80)
    x = _conv(x, "Conv2d_4a_3x3", 192, (3, 3), padding="VALID")
    x = _maximum(x)
    x = _MixedA(32, name="Mixed_5b")(x)
    x = _MixedA(64, name="Mixed_5c")(x)
    x = _MixedA(64, name="Mixed_5d")(x)
    x = _MixedB(name="Mixed_6a")(x)
    x = _MixedC(128, name="Mixed_6b")(x)
    x = _MixedC(160, name="Mixed_6c")(x)
    x = _MixedC(160, name="Mixed_6d")(x)
    x = _MixedC(192, name="Mixed_6e")(x)
    x = _MixedD(name="Mixed_7a")(x)
    x = _MixedE(last=False, name="Mixed_7b")(x)
    x = _MixedE(last=True, name="Mixed_7c")(x)
    return x.mean((1, 2))


def create(path: str) -> Callable[[np.ndarray], jax.Array]:
  """Returns the function that maps images to Inception's features.

  Args:
    path: of the weights; see `read`.

  Returns:
    A function from images, uint8 [B, H, W, 3] of any size, to features, float32
    [B, 2048]. Compiled for each B, H and W.

  Raises:
    errors.UserError: the weights cannot be read.
  """
  params = jax.device_put(read(path))

  def features(images: np.ndarray) -> jax.Array:
    return _apply(params, images)

  return features


def resize(images: jax.Array, size: int = SIZE) -> jax.Array:
  """Returns float32 images at [B, size, size, C], as the frozen network does.

  TensorFlow 1's bilinear interpolation: the first pixels coincide, not the
  edges, and there is no antialiasing. Another way to resize changes FID by more
  than the difference between many methods (Parmar et al. 2022, arXiv
  2104.11222).

  Args:
    images: float32 [B, H, W, C].
    size: the side of the result.
  """
  rows, columns = (
    jnp.asarray(_interpolation(side, size)) for side in images.shape[1:3]
  )
  return jnp.einsum(
    "ih,jw,bhwc->bijc", rows, columns, images, precision="highest"
  )


def read(path: str) -> dict[str, Any]:
  """Returns the parameters of `Inception` from a file of weights.

  The file holds the arrays of pytorch-fid's or torch-fidelity's
  `inception-2015-12-05` under their names (`Mixed_5b.branch1x1.conv.weight`),
  which these lines write where PyTorch is installed:

    import numpy, torch
    weights = torch.load("pt_inception-2015-12-05-6726825d.pth")
    numpy.savez("inception.npz", **{k: v.numpy() for k, v in weights.items()})

  Args:
    path: of the .npz. Other arrays in it are ignored.

  Raises:
    errors.UserError: there is no such file, or it does not hold these weights.
  """
  if not path:
    raise errors.UserError(
      "the features 'inception' need the weights of the FID network, an .npz "
      "that comes with no package: name the file, or take 'dlib' for faces"
    )
  try:
    # NumPy does not close a file that it cannot read.
    with (
      pathlib.Path(path).expanduser().open("rb") as opened,
      np.load(opened, allow_pickle=False) as file,
    ):
      arrays = {name: np.asarray(file[name], np.float32) for name in file.files}
  # NumPy and zipfile raise many kinds of exceptions.
  except Exception as error:  # noqa: BLE001
    raise errors.UserError(
      f"{path}: Inception's weights cannot be read ({error}): give the .npz of "
      "pytorch-fid's pt_inception-2015-12-05"
    ) from error
  shapes: Any = jax.eval_shape(
    Inception().init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32),
  )
  flat = {}
  layers: Any = traverse_util.flatten_dict(shapes["params"])
  for names, leaf in layers.items():
    *layer, kind = names
    if kind == "kernel":
      kernel, bias = _layer(arrays, ".".join(layer), leaf.shape, path)
      flat[*layer, "kernel"], flat[*layer, "bias"] = kernel, bias
  return traverse_util.unflatten_dict(flat)


def _layer(
  arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...], path: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a layer's kernel [h, w, in, out] and bias, float32."""
  height, width, before, channels = shape
  expected = {_KERNEL: (channels, before, height, width)}
  expected |= dict.fromkeys(_NORMALISATION, (channels,))
  for part, wanted in expected.items():
    full = f"{name}.{part}"
    found = arrays[full].shape if full in arrays else "nothing"
    if found != wanted:
      raise errors.UserError(
        f"{path}: {full} is {found}, and must be {wanted}: give the .npz of "
        "pytorch-fid's pt_inception-2015-12-05"
      )
  kernel, gamma, beta, mean, variance = (
    arrays[f"{name}.{part}"].astype(np.float64) for part in expected
  )
  scale = gamma / np.sqrt(variance + _EPSILON)
  kernel = kernel.transpose(2, 3, 1, 0) * scale
  bias = beta - mean * scale
  return kernel.astype(np.float32), bias.astype(np.float32)


@jax.jit
def _apply(params: Any, images: jax.Array) -> jax.Array:
  scaled = (resize(jnp.float32(images)) - 128) / 128
  return Inception().apply({"params": params}, scaled)  # pyright: ignore


def _interpolation(before: int, after: int) -> np.ndarray:
  """Returns the weight of each old pixel in each new one, [after, before]."""
  places = np.arange(after, dtype=np.float32) * np.float32(before / after)
  lower = np.floor(places).astype(int)
  share = places - lower
  weights = np.zeros((after, before), np.float32)
  weights[np.arange(after), lower] += 1 - share
  weights[np.arange(after), np.minimum(lower + 1, before - 1)] += share
  return weights


def _conv(
  x: jax.Array,
  name: str,
  channels: int,
  size: tuple[int, int] = (1, 1),
  strides: int = 1,
  padding: str = "",
) -> jax.Array:
  """Returns a convolution with ReLU; without a stride, of x's size."""
  convolution = nn.Conv(
    channels,
    size,
    strides,
    padding or ("SAME" if strides == 1 else "VALID"),
    precision="highest",
    name=name,
  )
  return nn.relu(convolution(x))


def _average(x: jax.Array) -> jax.Array:
  return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def _maximum(x: jax.Array) -> jax.Array:
  return nn.max_pool(x, (3, 3), (2, 2))
