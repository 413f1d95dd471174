import contextlib
import json
import os

import jax
import numpy as np
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import pretrained
from dcgan_inpaint.jobs import export
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import trained_model


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
  """Returns the folder of the tiny model, exported."""
  folder = tmp_path_factory.mktemp("exported")
  config = config_lib.export_job()
  config.checkpoint.path = str(trained_run)
  config.output = str(folder)
  (row,) = export.run(config, "", tiny.mesh(1))
  assert row["bytes"] == (folder / "weights.npz").stat().st_size
  return folder


def load(path):
  config = config_lib.checkpoint()
  config.path = str(path)
  return trained_model.load(config, tiny.mesh(1))


def test_an_exported_model_is_the_checkpoint_but_for_rounding(
  exported, trained_run
):
  there, back = load(trained_run), load(exported)
  assert jax.tree.structure(back.weights) == jax.tree.structure(there.weights)
  for before, after in zip(
    jax.tree.leaves(there.weights), jax.tree.leaves(back.weights), strict=True
  ):
    assert after.dtype == before.dtype
    # float16 has 11 significant bits, and fewer for the smallest values.
    np.testing.assert_allclose(after, before, rtol=2**-11, atol=2**-24)
    if before.ndim < 2:
      np.testing.assert_array_equal(after, before)
  for section in ("model", "train"):
    assert back.config[section].to_dict() == there.config[section].to_dict()
  assert "data" not in back.config  # Paths of the machine it was trained on.
  assert back.step == there.step and back.encoder is None
  np.testing.assert_array_equal(back.mean_image, there.mean_image)


def columns(*shape):
  """Returns columns of normal values from 0 to tens, and a constant one."""
  values = np.random.default_rng(0).normal(size=shape)
  values *= np.geomspace(1e-4, 10, shape[-1])
  values[..., 7] = 0
  values[..., 8] = 0
  values[0, ..., 8] = 3
  return np.float32(values)


@pytest.mark.parametrize("network", ["encoder", "encoder_2"])
def test_an_encoders_large_arrays_take_fewer_bits(tmp_path, network):
  matrix, kernel = columns(1280, 800), columns(5, 5, 64, 100)
  small, other = columns(100, 100), columns(1290, 800)
  encoder = {"matrix": matrix, "kernel": kernel, "small": small, "other": other}
  arrays = {
    "weights": {network: encoder, "generator": {"kernel": matrix}},
  }
  size = pretrained.write(tmp_path, arrays, {"step": 1})
  # The generator's takes two bytes a value, and compression gains little.
  most = 2.52 * matrix.size + kernel.size + 2 * small.size + other.size
  assert 0.7 * most < size < 1.01 * most
  back, about = pretrained.read(tmp_path)
  assert about == {"format": pretrained.FORMAT, "step": 1}
  assert jax.tree.structure(back) == jax.tree.structure(arrays)
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(back))
  found = back["weights"][network]
  for name, given in (("kernel", kernel), ("other", other)):
    # Half of one of the 127 steps on each side, per column's largest value.
    bound = 0.501 * np.abs(given).reshape(-1, given.shape[-1]).max(0) / 127
    assert (np.abs(found[name] - given) <= bound).all()
  groups, moved = (
    x.reshape(10, 128, 800) for x in (matrix, found["matrix"] - matrix)
  )
  # In the mean square, no worse than half of one of the 7 steps on each side of
  # a group's largest value; the best uniform quantiser of a normal distribution
  # has an error of 0.0115 of its variance for 16 levels, and here are 15.
  most = np.abs(groups).max(axis=1) / 14
  assert (np.sqrt((moved**2).mean(axis=1)) <= 1.001 * most).all()
  normal = np.arange(800) > 8
  share = (moved**2).mean(axis=1)[:, normal]
  share /= (groups**2).mean(axis=1)[:, normal]
  assert 0.008 < share.mean() < 0.016
  assert not found["matrix"][:, 7].any()
  np.testing.assert_allclose(found["matrix"][:, 8], matrix[:, 8], rtol=1e-3)
  for actual, given in (
    (found["small"], small),
    (back["weights"]["generator"]["kernel"], matrix),
  ):
    np.testing.assert_allclose(actual, given, rtol=2**-11, atol=2**-24)


def test_an_encoder_of_the_second_format_is_read(tmp_path):
  steps = np.random.default_rng(0).integers(-127, 128, (1100, 1000), np.int8)
  scale = np.geomspace(1e-4, 10, 1000, dtype=np.float32)
  np.savez(
    tmp_path / "weights.npz",
    **{"weights/encoder/kernel": steps, "weights/encoder/kernel_scale": scale},
  )
  (tmp_path / "model.json").write_text('{"format": 2}')
  back, _ = pretrained.read(tmp_path)
  np.testing.assert_array_equal(
    back["weights"]["encoder"]["kernel"], steps * scale
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
    (lambda folder: (folder / "weights.npz").write_bytes(b"PK\3\4"), "zip"),
    (lambda folder: (folder / "model.json").write_text("{"), "line 1"),
    (
      lambda folder: (folder / "model.json").write_text(
        json.dumps({"format": 4})
      ),
      "format 4",
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
  text = str(error.value)
  assert str(tmp_path) in text and message in text and "\n" not in text


def test_a_changed_bit_is_noticed(exported, tmp_path):
  content = bytearray((exported / "weights.npz").read_bytes())
  rng = np.random.default_rng(0)
  (tmp_path / "model.json").write_bytes((exported / "model.json").read_bytes())
  for place in rng.integers(0, len(content), 20):
    content[place] ^= 1 << rng.integers(8)
    (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(errors.UserError, match=str(tmp_path)):
      pretrained.read(tmp_path)


def test_a_model_without_a_digest_is_read(exported, tmp_path):
  for path in exported.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  about = json.loads((tmp_path / "model.json").read_text())
  del about["weights_sha256"]
  (tmp_path / "model.json").write_text(json.dumps(about))
  then, now = load(tmp_path).weights, load(exported).weights
  jax.tree.map(np.testing.assert_array_equal, then, now)


class Killed(BaseException):
  """What ends an export at once."""


@pytest.mark.parametrize("moment, left", [(0, 1), (1, 1), (2, 2), (3, 2)])
def test_an_export_that_is_killed_leaves_one_whole_model(
  tmp_path, monkeypatch, moment, left
):
  def write(number):
    arrays = {"weights": {"generator": {"kernel": np.float32([number] * 9)}}}
    pretrained.write(tmp_path, arrays, {"step": number})

  write(1)
  renames = iter(range(10))
  replace = os.replace

  def replace_or_die(*paths):
    if next(renames) == moment:
      raise Killed
    replace(*paths)

  with monkeypatch.context() as patch:
    patch.setattr(os, "replace", replace_or_die)
    with contextlib.suppress(Killed):
      write(2)
  arrays, about = pretrained.read(tmp_path)
  assert about["step"] == left
  np.testing.assert_array_equal(
    arrays["weights"]["generator"]["kernel"], [left] * 9
  )
  # The next export ends what was begun.
  write(3)
  assert pretrained.read(tmp_path)[1]["step"] == 3
  assert {x.name for x in tmp_path.iterdir()} == {"model.json", "weights.npz"}


def test_the_packages_own_model_is_small_and_has_all_its_networks():
  folder = pretrained.find(pretrained.NAME)
  size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
  assert size <= 16 * 2**20
  assert (folder / "MODEL_CARD.md").is_file()
  model = load(pretrained.NAME)
  assert model.encoder is not None
  for network in model.weights:
    assert jax.tree.leaves(network)
  for leaf in jax.tree.leaves(model.weights):
    assert np.isfinite(leaf).all()
