import json

import jax
import numpy as np
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import errors
from dcgan_inpaint import pretrained
from dcgan_inpaint import trained


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
  """Returns the folder of the tiny model, exported."""
  folder = tmp_path_factory.mktemp("exported")
  config = config_lib.export_job()
  config.checkpoint.path = str(trained_run)
  config.output = str(folder)
  (row,) = trained.export(config, "", tiny.mesh(1))
  assert row["bytes"] == (folder / "weights.npz").stat().st_size
  return folder


def load(path):
  config = config_lib.checkpoint()
  config.path = str(path)
  return trained.load(config, tiny.mesh(1))


def test_an_exported_model_is_the_checkpoint_but_for_rounding(
  exported, trained_run
):
  there, back = load(trained_run), load(exported)
  assert jax.tree.structure(back.weights) == jax.tree.structure(there.weights)
  for before, after in zip(
    jax.tree.leaves(there.weights), jax.tree.leaves(back.weights), strict=True
  ):
    assert after.dtype == before.dtype
    # float16 keeps 11 bits, and of the smallest values fewer.
    np.testing.assert_allclose(after, before, rtol=2**-11, atol=2**-24)
    if before.ndim < 2:
      np.testing.assert_array_equal(after, before)
  for section in ("model", "train"):
    assert back.config[section].to_dict() == there.config[section].to_dict()
  assert "data" not in back.config  # Paths of the machine it was trained on.
  assert back.step == there.step and back.encoder is None
  np.testing.assert_array_equal(back.mean_image, there.mean_image)


def test_an_encoders_large_matrix_takes_a_byte_a_value(tmp_path):
  matrix = np.random.default_rng(0).normal(size=(1100, 1000))
  matrix = np.float32(matrix * np.geomspace(1e-4, 10, 1000))
  matrix[:, 7] = 0
  encoder = {"kernel": matrix, "bias": matrix[0]}
  arrays = {"weights": {"encoder": encoder, "generator": {"kernel": matrix}}}
  size = pretrained.write(tmp_path, arrays, {"step": 1})
  assert size < 3.02 * matrix.size  # The generator's takes two.
  back, about = pretrained.read(tmp_path)
  assert about == {"format": pretrained.FORMAT, "step": 1}
  assert jax.tree.structure(back) == jax.tree.structure(arrays)
  kernel = back["weights"]["encoder"]["kernel"]
  assert kernel.dtype == np.float32
  # Half a step of the 127 on each side, of each column's largest value.
  bound = 0.501 * np.abs(matrix).max(axis=0) / 127
  assert (np.abs(kernel - matrix) <= bound).all()
  np.testing.assert_array_equal(back["weights"]["encoder"]["bias"], matrix[0])
  np.testing.assert_allclose(
    back["weights"]["generator"]["kernel"], matrix, rtol=2**-11, atol=2**-24
  )


def test_a_model_of_the_first_format_is_read(exported, tmp_path):
  for path in exported.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  about = json.loads((tmp_path / "model.json").read_text())
  (tmp_path / "model.json").write_text(json.dumps({**about, "format": 1}))
  then, now = load(tmp_path).weights, load(exported).weights
  jax.tree.map(np.testing.assert_array_equal, then, now)


def test_nothing_is_pickled(exported):
  with np.load(exported / "weights.npz", allow_pickle=False) as file:
    assert all(file[name].dtype != object for name in file.files)


@pytest.mark.parametrize(
  "damage, message",
  [
    (lambda folder: (folder / "model.json").unlink(), "model.json"),
    (lambda folder: (folder / "weights.npz").write_bytes(b"PK\3\4"), "cannot"),
    (lambda folder: (folder / "model.json").write_text("{"), "cannot be read"),
    (
      lambda folder: (folder / "model.json").write_text(
        json.dumps({"format": 3})
      ),
      "format 3",
    ),
  ],
)
def test_a_broken_model_is_refused_in_a_line(
  exported, tmp_path, damage, message
):
  for path in exported.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  damage(tmp_path)
  with pytest.raises(errors.UserError) as error:
    load(tmp_path)
  assert message in str(error.value) and "\n" not in str(error.value)


def test_the_packages_own_model_is_small_and_has_all_three_networks():
  folder = pretrained.find(pretrained.NAME)
  size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
  assert size <= 16 * 2**20
  assert (folder / "MODEL_CARD.md").is_file()
  model = load(pretrained.NAME)
  assert model.encoder is not None
  assert model.weights._fields == ("generator", "discriminator", "encoder")
  for leaf in jax.tree.leaves(model.weights):
    assert np.isfinite(leaf).all()
