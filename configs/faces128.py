r"""A DCGAN of 128x128 faces, from folders or zips of image files.

  python -m dcgan_inpaint.main --config=configs/faces128.py \
      --config.data.path=faces --workdir=runs/faces128

The face of CelebA's aligned images (178x218) is 128 pixels wide there, so that
nothing of it is lost; of other images the centre square is taken, or all of it
with --config.data.crop=none. By a hash of their names 5 % of the files are held
out for validation and 5 % for testing; folders of their own for these are named
as --config.data.validation_path=DIR and --config.data.test_path=DIR. Everything
else, such as an encoder by `configs/encoder.py`, takes the size from the model.

The rule of the layers is in `networks/dcgan.py`; the added one takes about as
many operations as each of the others. 32, 64 or 256 pixels are
--config.model.image_size=256, and grey images --config.model.image_channels=1.
On two CPU cores take a quarter of the width, as in `configs/celeba.py`:

  --config.model.width=0.25 --config.train.batch_size=64 \
      --config.train.steps=7000
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.train_job()
  config.model.image_size = 128
  config.data.name = "folder"
  # The loss with the paper's best results, and its number of epochs.
  config.train.loss = "sigmoid_cross_entropy"
  config.train.epochs = 20.0
  # After training, a look at some held-out faces; `configs/evaluate.py` scores
  # them all.
  config.evaluation.images = 64
  return config
