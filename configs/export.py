r"""Writes a trained model, with its encoder, to distribute.

  python -m dcgan_inpaint.main --config=configs/export.py \
      --config.checkpoint.path=runs/celeba \
      --config.checkpoint.encoder=runs/encoder --config.output=model

Needs the two trainings, and takes half a minute. The folder, plain arrays, is
then used in every config by --config.checkpoint.path=model. Its subfolder
stablehlo contains the mode fidelity and the generator as programs for processes
without this package (docs/stablehlo.md); --config.stablehlo=False omits it.
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.export_job()
  # For processes without this package.
  config.stablehlo = True
  return config
