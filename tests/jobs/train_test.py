import re

import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import train
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.training import metric_writer


def test_what_a_run_leaves(trained_run):
  config = tiny.train_config()
  rows = metric_writer.read(trained_run / "metrics.jsonl")
  losses = [row for row in rows if "generator_loss" in row]
  assert [row["step"] for row in losses] == list(range(1, 7))
  assert all(np.isfinite(row["discriminator_loss"]) for row in losses)
  inversions = [row["step"] for row in rows if "inversion_mse" in row]
  assert inversions == [3, 6]
  for name in (
    "config.json",
    "losses.png",
    "samples/step_000006.png",
    "inpainted/step_000003.png",
    "inpainted/step_000006.png",
  ):
    assert (trained_run / name).stat().st_size > 0
  assert list((trained_run / "tensorboard").iterdir())
  faces = synthetic.load("train", config.data.max_images)
  np.testing.assert_array_equal(
    np.asarray(Image.open(trained_run / "mean_image.png")),
    np.round(faces.mean(axis=0)),
  )


@pytest.mark.parametrize(
  "fields",
  [
    {"train.learning_rate": 1e-3},
    {"model.width": 0.05, "seed": 1},
    {"data.seed": 3, "train.loss": "hinge"},
  ],
)
def test_another_config_is_refused_by_its_fields(trained_run, fields):
  config = tiny.train_config()
  config.update_from_flattened_dict(fields)
  with pytest.raises(errors.UserError) as refused:
    train.run(config, str(trained_run), tiny.mesh(4))
  message = str(refused.value)
  named = re.findall(r"config\.([\w.]+)=", message)
  assert sorted(named) == sorted(fields)
  for value in fields.values():
    assert repr(value) in message
  assert "\n" not in message


@pytest.mark.parametrize(
  "steps, epochs, images, expected", [(7, 2.0, 100, 7), (0, 2.5, 100, 30)]
)
def test_steps_win_over_epochs_of_whole_batches(
  steps, epochs, images, expected
):
  config = tiny.train_config(
    train__steps=steps, train__epochs=epochs, train__batch_size=8
  ).train
  assert train.total_steps(config, images) == expected
