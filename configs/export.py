r"""Writes a trained model, with its encoder, as plain arrays to distribute.

  python -m dcgan_inpaint.main --config=configs/export.py \
      --config.checkpoint.path=runs/celeba \
      --config.checkpoint.encoder=runs/encoder --config.output=model

Needs the two trainings, and takes seconds. The folder is then used in every
config by --config.checkpoint.path=model.
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  return defaults.export_job()
