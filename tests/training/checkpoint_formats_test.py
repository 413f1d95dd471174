"""Checkpoints of every earlier format can still be read.

`checkpoints_format_1.zip` holds the checkpoints of version 0.1.0 (Python 3.11,
JAX 0.10.2, Orbax 0.12.8) of two trainings of two steps on synthetic faces:
`gan`, by `tiny.train_config(model__width=0.01, train__steps=2,
train__save_every=2, train__sample_every=0)`, and `encoder`, of the same size,
for its generator.
Never regenerate it: a change of format adds a second file.
"""

import pathlib
import zipfile

import jax
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import same_run

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """The workdirs `gan` and `encoder` of format 1."""
  folder = tmp_path_factory.mktemp("format_1")
  with zipfile.ZipFile(HERE / "checkpoints_format_1.zip") as file:
    file.extractall(folder)
  return folder


def test_format_1_is_loaded_as_a_model(runs):
  config = config_lib.checkpoint()
  config.path, config.encoder = str(runs / "gan"), str(runs / "encoder")
  model = trained_model.load(config, tiny.mesh(1))
  assert model.step == 2 and model.config.model.width == 0.01
  # The values of the version that saved them.
  *networks, other_encoders = model.weights
  assert list(map(trained_model.digest, networks)) == [
    "e05dcd9b1522",
    "36c19d97975c",
    "36e4df4deb34",
  ]
  assert other_encoders == ()


@pytest.mark.slow
def test_a_training_of_format_1_can_go_on(runs):
  config = tiny.train_config(model__width=0.01, train__steps=8)
  generator, discriminator, _ = gan.networks(config)
  state = jax.eval_shape(
    lambda: gan.init_state(
      0, generator, discriminator, tiny.LATENT_SIZE, config.train
    )
  )
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  meta = {"config": checkpoints_lib.as_json(config), "images": 16}
  with checkpoints_lib.existing(str(runs / "gan")) as checkpoints:
    step, state = checkpoints.restore_latest(
      checkpoints_lib.abstract(state, here),
      check=lambda then: same_run.check(then, meta, gan.GanTask.fixed_fields),
    )
  assert step == state.step == 2
  assert trained_model.digest(state) == "c55d4f17cda2"
