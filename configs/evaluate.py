"""Fills the holes of a data set with a trained model, and scores it.

  python -m dcgan_inpaint.main --config=configs/evaluate.py \
      --config.checkpoint.path=runs/celeba \
      --config.data.name=celeba --config.data.path=DIR \
      --workdir=runs/evaluate

The checkpoint is the --workdir of a training run. `--config.data.name=folder`
with `--config.data.split=all` takes every image of a folder or zip.
"""

from dcgan_inpaint import config as defaults


def get_config():
  """Returns the config."""
  config = defaults.evaluate_job()
  # The paper's search; its figures are on all test faces.
  config.data.name = "celeba"
  config.data.split = "test"
  config.search.steps = 1000
  return config
