"""Training with non-finite numbers, and on degenerate data.

The allowed values of images and masks are in `properties_test`, `api_test` and
`methods/methods_test`; the losses of a saturated discriminator are in
`losses_test`.
"""

import jax
import numpy as np
import pytest
import tiny

from dcgan_inpaint.jobs import train
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import loop
from dcgan_inpaint.training import metric_writer

LOSS = """
import dataclasses
import jax
import jax.numpy as jnp
from dcgan_inpaint.networks import losses

def loss():
  def steep(logits):  # 0, with a gradient that is no number.
    return jnp.sqrt(jnp.abs(logits - jax.lax.stop_gradient(logits)))[:, 0]

  return dataclasses.replace(losses.get("hinge"), generator=steep)
"""

PLAIN = {"train__validation_images": 0, "train__sample_every": 0}


def saved(workdir):
  folders = (workdir / "checkpoints").iterdir()
  return sorted(int(x.name) for x in folders if x.name.isdecimal())


@pytest.mark.slow
def test_a_gradient_that_is_no_number_stops_the_run_before_it_is_saved(
  tmp_path, monkeypatch
):
  (tmp_path / "steep.py").write_text(LOSS)
  monkeypatch.syspath_prepend(tmp_path)
  # The losses of step 1 are finite, and the state after it is not.
  config = tiny.train_config(
    **PLAIN,
    model__image_size=32,
    train__loss="steep:loss",
    train__save_every=1,
  )
  with pytest.raises(
    errors.UserError, match="at step 1 .*generator_update nan.*learning_rate"
  ):
    train.run(config, str(tmp_path), tiny.mesh(1))
  assert saved(tmp_path) == []


@pytest.mark.slow
def test_images_of_one_colour_train_to_finite_numbers(tmp_path, trained_run):
  del trained_run  # Compiles the same program first.
  for number in range(24):
    black = np.zeros((64, 64, 3), np.uint8)
    pictures.save_png(tmp_path / "black" / f"{number}.png", black)
  config = tiny.train_config(
    **PLAIN, data__name="folder", data__path=str(tmp_path / "black")
  )
  train.run(config, str(tmp_path), tiny.mesh(4))
  rows = metric_writer.read(tmp_path / "metrics.jsonl")
  assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
  assert all(np.isfinite(list(row.values())).all() for row in rows)
  assert saved(tmp_path) == [3, 6]


@pytest.mark.slow
def test_a_discriminator_that_saturates_leaves_training_finite(trained_run):
  config = tiny.train_config()
  generator, discriminator, loss = gan.networks(config)
  mesh = tiny.mesh(4)
  # The program that `trained_run` compiles.
  task = gan.GanTask(
    generator=generator,
    discriminator=discriminator,
    loss=loss,
    latent_size=tiny.LATENT_SIZE,
    config=config.train,
  )
  steps = loop.compile_steps(task, mesh)
  noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
  dataset = sharding.place_images(noise, mesh)
  indices = np.arange(8, dtype=np.int32)[None]
  saved_state = tiny.saved_state(trained_run, 6)
  for sure in (1e4, -1e4):
    bias = np.full(1, sure, np.float32)
    saved_state.discriminator["params"]["dense"]["bias"] = bias
    state = saved_state
    for _ in range(3):
      state = jax.device_put(state, sharding.replicated(mesh))
      state, metrics = jax.device_get(
        steps(state, dataset, indices, np.uint32(0), task.frozen)
      )
      assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
      assert all(np.isfinite(value).all() for value in metrics.values())
      assert abs(metrics["fake_logit"]) > 9e3  # As constructed.
      if sure < 0:  # That all is fake: G still learns, by -log D.
        assert metrics["generator_update"] > 1e-3
