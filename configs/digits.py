r"""A DCGAN of handwritten digits: 32x32 pixels, grey, from a folder.

  python -m dcgan_inpaint.main --config=configs/digits.py \
      --config.data.path=digits --workdir=runs/digits

A folder of anything will do. The 1,797 digits of scikit-learn (8x8 pixels,
which are enlarged) are written into one by

  import os
  import numpy as np
  from PIL import Image
  from sklearn import datasets

  os.makedirs("digits", exist_ok=True)
  for number, digit in enumerate(datasets.load_digits().images):
    image = Image.fromarray(np.uint8(np.minimum(255, 16 * digit)))
    image.save(f"digits/{number:04d}.png")
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.train_job()
  config.model.image_size = 32
  config.model.image_channels = 1
  # An eighth of the paper's channels: digits are simpler than faces.
  config.model.width = 0.125
  config.data.name = "folder"
  config.train.batch_size = 64
  config.train.steps = 1500
  config.train.sample_every = 500
  config.train.save_every = 500
  # The mirror image of a digit is none.
  config.train.flip = False
  # Short searches are enough for small images.
  config.search.starts = 2
  config.search.steps = 200
  config.search.learning_rate = 0.06
  return config
