"""Fills the holes of a data set with a trained model, and scores it.

  python -m dcgan_inpaint.main --config=configs/evaluate.py \
      --config.checkpoint.path=runs/celeba \
      --config.data.name=celeba --config.data.path=DIR \
      --workdir=runs/evaluate

The checkpoint is the --workdir of a training run. `--config.data.name=folder`
with `--config.data.split=all` takes every image of a folder or zip.

A face costs 1,000 steps of search: about 2 s on two CPU cores, for a model of a
quarter of the width. A quarter of the time takes

  --config.search.steps=250 --config.search.learning_rate=0.06
"""

from dcgan_inpaint import config as defaults


def get_config():
  """Returns the config."""
  config = defaults.evaluate_job()
  config.data.name = "celeba"
  # All of the test split.
  config.data.split = "test"
  return config
