r"""A DCGAN of 128x128 faces, from folders or zips of image files.

  python -m dcgan_inpaint.main --config=configs/faces128.py \
      --config.data.path=faces --workdir=runs/faces128

The face of CelebA's aligned images (178x218) is 128 pixels wide there, so that
nothing of it is lost; of other images the centre square is taken
(--config.data.crop). By a hash of their names 5 % of the files are held out
for validation and 5 % for testing; held-out folders of their own are
--config.data.validation_path and --config.data.test_path. An encoder for it,
and everything else, takes the size from the model:

  python -m dcgan_inpaint.main --config=configs/encoder.py \
      --config.checkpoint.path=runs/faces128 --config.data.name=folder \
      --config.data.path=faces --workdir=runs/encoder128

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
