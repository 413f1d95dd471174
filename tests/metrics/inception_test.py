import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dcgan_inpaint.metrics import features
from dcgan_inpaint.metrics import inception
from dcgan_inpaint.runtime import errors

pytestmark = pytest.mark.slow

# From Szegedy et al., table 1, and the frozen network's graph.
SHAPES = {
  "Conv2d_1a_3x3": (149, 149, 32),
  "Conv2d_2a_3x3": (147, 147, 32),
  "Conv2d_2b_3x3": (147, 147, 64),
  "Conv2d_3b_1x1": (73, 73, 80),
  "Conv2d_4a_3x3": (71, 71, 192),
  "Mixed_5b": (35, 35, 256),
  "Mixed_5c": (35, 35, 288),
  "Mixed_5d": (35, 35, 288),
  "Mixed_6a": (17, 17, 768),
  "Mixed_6b": (17, 17, 768),
  "Mixed_6c": (17, 17, 768),
  "Mixed_6d": (17, 17, 768),
  "Mixed_6e": (17, 17, 768),
  "Mixed_7a": (8, 8, 1280),
  "Mixed_7b": (8, 8, 2048),
  "Mixed_7c": (8, 8, 2048),
}


@functools.cache
def _structure():
  """Returns the shapes of the parameters and of every layer's result."""
  network = inception.Inception()
  image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  _, layers = jax.eval_shape(
    functools.partial(network.apply, capture_intermediates=True),
    variables,
    image,
  )
  return variables["params"], layers["intermediates"]


def _convolutions():
  """Returns {layer: shape of its kernel [h, w, in, out]}."""
  found = {}

  def visit(tree, path):
    if "kernel" in tree:
      found[".".join(path)] = tree["kernel"].shape
    else:
      for name, inner in tree.items():
        visit(inner, (*path, name))

  visit(_structure()[0], ())
  return found


@pytest.fixture(scope="module")
def weights():
  """Returns random weights, in the format of the published file."""
  rng = np.random.default_rng(0)
  arrays = {}
  for layer, (h, w, before, channels) in sorted(_convolutions().items()):
    kernel = rng.normal(size=(channels, before, h, w))
    # Scaled to keep the variance after the ReLU.
    kernel *= np.sqrt(2 / (h * w * before))
    arrays[f"{layer}.conv.weight"] = np.float32(kernel)
    for name, low, high in (
      ("weight", 0.9, 1.1), ("bias", -0.1, 0.1), ("running_mean", -0.1, 0.1),
      ("running_var", 0.9, 1.1),
    ):  # fmt: skip
      values = rng.uniform(low, high, channels)
      arrays[f"{layer}.bn.{name}"] = np.float32(values)
    arrays[f"{layer}.bn.num_batches_tracked"] = np.int64(0)
  arrays["fc.weight"] = np.float32(rng.normal(size=(1008, 2048)))
  arrays["fc.bias"] = np.zeros(1008, np.float32)
  return arrays


@pytest.fixture(scope="module")
def path(weights, tmp_path_factory):
  path = tmp_path_factory.mktemp("inception") / "inception.npz"
  np.savez(path, **weights)
  return path


def _images():
  rng = np.random.default_rng(1)
  tiles = rng.integers(0, 256, (2, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
  return np.uint8(tiles)


def test_every_layer_has_its_published_shape():
  _, layers = _structure()
  found = {name: layers[name]["__call__"][0].shape[1:] for name in SHAPES}
  assert found == SHAPES


def test_there_are_as_many_weights_as_published():
  kernels = _convolutions()
  assert len(kernels) == 94
  count = sum(np.prod(shape) + 2 * shape[-1] for shape in kernels.values())
  # Inception V3 without its classifier has 21,802,784 values (Keras, whose
  # normalisations have a mean, a variance and a shift, no scale).
  assert count + sum(shape[-1] for shape in kernels.values()) == 21_802_784


# The first features of `_images`, by torch-fidelity 0.4.0 with these weights.
FEATURES = [
  [0.08596309, 0.10621613, 0.53179514, 0.03036836, 0, 1.4423509],
  [0.08423418, 0.11391912, 0.5800396, 0.03019422, 0, 1.4448086],
]


def test_the_features_are_torch_fidelity_s(path):
  extract = features.create("inception", weights=str(path)).extract
  found = extract(_images())
  assert found.shape == (2, 2048)
  np.testing.assert_allclose(found[:, :6], FEATURES, rtol=1e-4)


def test_the_features_are_torch_s_where_that_is_at_hand(
  weights, path, tmp_path
):
  torch = pytest.importorskip("torch")
  fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
  file = tmp_path / "weights.pth"
  torch.save({k: torch.tensor(v) for k, v in weights.items()}, file)
  network = fidelity.FeatureExtractorInceptionV3(
    "inception", ["2048"], feature_extractor_weights_path=str(file)
  )
  images = torch.tensor(_images().transpose(0, 3, 1, 2))
  (expected,) = network(images)
  found = inception.create(str(path))(_images())
  np.testing.assert_allclose(
    found, expected.numpy(), rtol=1e-4, atol=1e-5 * float(expected.max())
  )


def test_averages_leave_the_padding_out():
  x = np.random.default_rng(0).normal(size=(1, 7, 9, 2)).astype(np.float32)
  window = np.ones((1, 3, 3, 1))
  sums = ndimage.convolve(np.float64(x), window, mode="constant")
  counts = ndimage.convolve(np.ones_like(x), window, mode="constant")
  np.testing.assert_allclose(inception._average(x), sums / counts, atol=1e-6)


@pytest.mark.parametrize("before, after", [(64, 299), (13, 20), (20, 13)])
def test_images_are_resized_as_by_tensorflow_1(before, after):
  # The pixel at `i before / after`, linearly between the two around it.
  image = np.random.default_rng(0).normal(size=(before, before)).astype("f4")
  expected = np.zeros((after, after))
  for i in range(after):
    for j in range(after):
      y, x = i * before / after, j * before / after
      y0, x0 = int(y), int(x)
      y1, x1 = min(y0 + 1, before - 1), min(x0 + 1, before - 1)
      upper = image[y0, x0] * (1 - x + x0) + image[y0, x1] * (x - x0)
      lower = image[y1, x0] * (1 - x + x0) + image[y1, x1] * (x - x0)
      expected[i, j] = upper * (1 - y + y0) + lower * (y - y0)
  found = inception.resize(image[None, ..., None], after)[0, ..., 0]
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_layer_and_its_normalisation_are_read_as_one(weights, path):
  params = inception.read(str(path))["Mixed_6b"]["branch7x7_2"]
  name = "Mixed_6b.branch7x7_2"
  x = np.random.default_rng(0).normal(size=128)
  # At one position of the kernel, [1, 7]: the third in its row.
  product = np.float64(weights[f"{name}.conv.weight"])[:, :, 0, 2] @ x
  gamma, beta, mean, variance = (
    weights[f"{name}.bn.{part}"]
    for part in ("weight", "bias", "running_mean", "running_var")
  )
  expected = gamma * (product - mean) / np.sqrt(variance + 1e-3) + beta
  found = x @ np.float64(params["kernel"][0, 2]) + params["bias"]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def _without(arrays):
  del arrays["Mixed_7c.branch_pool.bn.bias"]


def _of_another_shape(arrays):
  # A wrong shape; torchvision's own Inception has the right ones.
  arrays["Mixed_7c.branch_pool.bn.bias"] = np.zeros(191, np.float32)


@pytest.mark.parametrize(
  "change, match",
  [(_without, "nothing.*192"), (_of_another_shape, r"191.*192")],
)
def test_other_weights_are_refused_by_name(weights, tmp_path, change, match):
  arrays = dict(weights)
  change(arrays)
  path = tmp_path / "other.npz"
  np.savez(path, **arrays)
  with pytest.raises(
    errors.UserError, match=f"other.npz.*Mixed_7c.branch_pool.bn.bias.*{match}"
  ):
    inception.read(str(path))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and no more"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
  path = tmp_path / "weights.npz"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(errors.UserError, match="weights.npz"):
    inception.read(str(path))
