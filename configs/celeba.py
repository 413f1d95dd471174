r"""The paper's training: a DCGAN on CelebA at 64x64, 20 epochs.

With CelebA prepared by `configs/prepare.py`:

  python -m dcgan_inpaint.main --config=configs/celeba.py \
      --config.data.path=DIR --workdir=runs/celeba

With faces of your own, in folders or zips. Images of 178x218 are cropped to
CelebA's face box, others to their centre square; 5 % of the files are held out
for validation and 5 % for testing, by a hash of their names:

  python -m dcgan_inpaint.main --config=configs/celeba.py \
      --config.data.name=folder --config.data.path=faces.zip

Full width needs a GPU (bfloat16: --config.model.dtype=bfloat16); the faces take
2 GB of its memory. The time has not been measured. On two CPU cores use a
quarter of the width: 450,000 images in about an hour, with

  --config.model.width=0.25 --config.train.batch_size=64 \
      --config.train.steps=7000
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.train_job()
  # Prepared by `configs/prepare.py`.
  config.data.name = "celeba"
  # The loss with the paper's best results, and its number of epochs.
  config.train.loss = "sigmoid_cross_entropy"
  config.train.epochs = 20.0
  # Some held-out faces, completed after training; `configs/evaluate.py` scores
  # them all.
  config.evaluation.images = 64
  return config
