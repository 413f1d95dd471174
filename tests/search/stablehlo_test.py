import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
import tiny_search

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import pixels
from dcgan_inpaint import pretrained
from dcgan_inpaint.jobs import export
from dcgan_inpaint.networks import native
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import stablehlo
from dcgan_inpaint.search import trained_model

# What a process may import that has JAX alone.
OUTSIDE = """
import importlib.machinery as machinery
import sys

ALLOWED = {"jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "opt_einsum",
           "flatbuffers", *sys.stdlib_module_names}

class OnlyJax(machinery.PathFinder):
  @classmethod
  def find_spec(cls, name, path=None, target=None):
    top = name.partition(".")[0]
    if top in ALLOWED or top.startswith("_sysconfigdata"):
      return super().find_spec(name, path, target)

sys.meta_path[:] = [
  machinery.BuiltinImporter, machinery.FrozenImporter, OnlyJax,
]
import pathlib
import jax
import jax.export
import numpy as np

folder, inputs, outputs = map(pathlib.Path, sys.argv[1:])
given = dict(np.load(inputs))
weights = {name: dict(np.load(folder / f"{name}.npz"))
           for name in ("generator", "encoder")}

def load(name):
  data = (folder / f"{name}.jax_export").read_bytes()
  program = jax.export.deserialize(bytearray(data))
  assert program.platforms == ("cpu", "cuda", "tpu"), program.platforms
  return program

fidelity = jax.jit(load("fidelity").call)
generator = load("generator").call
both = {**weights["generator"], **weights["encoder"]}
several = fidelity(both, given["images"], given["holes"])
one = fidelity(both, given["images"][:1], given["holes"][:1])

def brightness(latents):
  return generator(weights["generator"], latents).mean()

np.savez(
  outputs,
  several=several,
  one=one,
  generated=generator(weights["generator"], given["latents"]),
  gradient=jax.grad(brightness)(given["latents"]),
)
assert "dcgan_inpaint" not in sys.modules and "flax" not in sys.modules
"""


def a_model():
  """Returns a tiny G and D with an encoder with skips, and their weights."""
  encoder, variables = tiny_search.dcgan_encoder()
  networks = tiny_search.networks(tiny_search.DCGAN, encoder=encoder)
  weights = tiny_search.dcgan_weights()._replace(
    encoder=variables,
    # Of several encoders, the mean is taken.
    other_encoders=(jax.tree.map(lambda x: 0.9 * x, variables),),
  )
  return networks, weights


def fidelity_settings(**fields):
  config = config_lib.search()
  config.mode = "fidelity"
  config.batch_size = 4
  config.update(fields)
  return search_settings.resolve(config)


def some_faces(count=3):
  """Returns uint8 images, bool holes, and latents."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (count, 64, 64, 3), np.uint8)
  holes = np.zeros((count, 64, 64), bool)
  holes[:, 10:30, 20:50] = True
  holes[-1] = rng.random((64, 64)) > 0.5
  latents = rng.uniform(-1, 1, (count, tiny.LATENT_SIZE)).astype(np.float32)
  return images, holes, latents


def flat(weights):
  arrays = trained_model.as_arrays(weights)
  arrays.pop("discriminator")
  return stablehlo.flatten(arrays)


def assert_alike(actual, expected):
  """Checks that only what lies between two grey levels may differ."""
  # Sums in another order: by the batch, and by what XLA fuses.
  difference = np.abs(actual.astype(int) - expected)
  assert difference.max() <= 1 and np.mean(difference > 0) < 5e-3


def searched(networks, weights, images, holes):
  """Returns what the search itself completes."""
  search = trained_model.make_search(
    networks, fidelity_settings(), tiny.mesh(1)
  )
  masks = np.float32(~holes[..., None])
  found = search(weights, pixels.to_float(images), masks).completed
  return np.where(holes[..., None], pixels.to_uint8(found), images)


def test_names_with_slashes_bring_back_every_network():
  def variables(value):
    return {"params": {"dense": {"kernel": value}}, "batch_stats": {"x": -1}}

  others = tuple(map(variables, range(2, 13)))
  weights = bundle.Weights(variables(0), {}, variables(1), others)
  arrays = flat(weights)
  assert arrays["encoder_12/params/dense/kernel"] == 12
  assert stablehlo._weights(arrays) == weights
  alone = bundle.Weights(variables(0), {})
  assert stablehlo._weights(flat(alone)) == alone


@pytest.mark.parametrize(
  "fields",
  [
    {"start": "random"},
    {"starts": 2},
    {"prior_weight": 0.1},
    {"detail_gain": 2.0},
  ],
)
def test_a_search_of_another_kind_is_refused(fields):
  networks = tiny_search.networks(tiny_search.DCGAN)
  with pytest.raises(ValueError, match="cannot be exported"):
    stablehlo.fidelity(networks, fidelity_settings(**fields), {})


@pytest.mark.slow
def test_a_process_without_the_package_gets_the_same_pixels(tmp_path):
  networks, weights = a_model()
  write_exported(tmp_path, weights)
  programs = export.write_programs(tmp_path, networks)
  assert programs == ["generator.jax_export", "fidelity.jax_export"]
  images, holes, latents = some_faces()
  np.savez(tmp_path / "in.npz", images=images, holes=holes, latents=latents)
  script = tmp_path / "outside.py"
  script.write_text(OUTSIDE)
  # Isolated: no folder of ours, and no variable that names one.
  subprocess.run(
    [
      sys.executable, "-I", script,
      tmp_path / "stablehlo", tmp_path / "in.npz", tmp_path / "out.npz",
    ],
    check=True,
    timeout=600,
  )  # fmt: skip
  with np.load(tmp_path / "out.npz") as file:
    out = dict(file)
  # Of the arrays as they were exported.
  exported = pretrained.read(tmp_path)[0]["weights"]
  weights = trained_model._of_arrays(exported)
  several = out["several"]
  assert_alike(several, searched(networks, weights, images, holes))
  np.testing.assert_array_equal(several[~holes], images[~holes])
  assert np.any(several[holes] != images[holes])
  assert_alike(out["one"], several[:1])
  generated = networks.generate(weights, latents)
  np.testing.assert_allclose(out["generated"], generated, atol=2e-5)
  gradient = jax.grad(lambda z: networks.generate(weights, z).mean())(latents)
  np.testing.assert_allclose(out["gradient"], gradient, atol=1e-7, rtol=1e-3)


def write_exported(folder, weights: bundle.Weights):
  arrays = jax.device_get(trained_model.as_arrays(weights))
  pretrained.write(folder, {"weights": arrays}, {"step": 1})


@pytest.mark.slow
@pytest.mark.skipif(bool(native.build()), reason="there is no C++ compiler")
def test_the_convolutions_in_cpp_give_way():
  # Of any size, grey as well.
  generator, discriminator = tiny.networks(
    implementation="native", image_size=32, image_channels=1
  )
  networks = bundle.NetworkBundle(
    generator, discriminator, tiny_search.LOSS, tiny.LATENT_SIZE
  )
  weights = tiny.weights(generator, discriminator)
  arrays = stablehlo.flatten({"generator": weights.generator})
  program = jax.export.deserialize(
    bytearray(stablehlo.generator(networks, arrays))
  )
  _, _, latents = some_faces()
  np.testing.assert_allclose(
    program.call(arrays, latents),
    networks.generate(weights, latents),
    atol=2e-5,
  )
