"""Fills the holes of a data set with a trained model, and scores it.

  python -m dcgan_inpaint.main --config=configs/evaluate.py \
      --config.checkpoint.path=runs/celeba \
      --config.data.name=celeba --config.data.path=DIR \
      --workdir=runs/evaluate

The checkpoint is the --workdir of a training run; without one, the model of the
package is scored. `--config.data.name=folder` with `--config.data.split=all`
takes every image of a folder or zip.

The search is the paper's. `--config.search.mode=fidelity` completes a face in
one pass of an encoder and a few steps: the package's model has one, and
configs/encoder.py trains one for yours. By the paper's search a face costs
1,000 steps: about 2 s on two CPU cores, for a model of a quarter of the width.
A quarter of the time takes

  --config.search.steps=250 --config.search.learning_rate=0.06
"""

from dcgan_inpaint import config as defaults


def get_config():
  """Returns the config."""
  config = defaults.evaluate_job()
  config.checkpoint.path = "pretrained"
  config.data.name = "celeba"
  # All of the test split.
  config.data.split = "test"
  return config
