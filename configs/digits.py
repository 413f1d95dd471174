r"""A DCGAN of handwritten digits: 32x32 pixels, grey, from a folder.

  python -m dcgan_inpaint.main --config=configs/digits.py \
      --config.data.path=digits --workdir=runs/digits

A folder of anything will do. With scikit-learn installed, its 1,797 digits are
in `sklearn.datasets.load_digits().images`, 8x8 pixels of 0 to 16, which are
enlarged here. Save each into the folder as a PNG file:
`PIL.Image.fromarray(np.uint8(np.minimum(255, 16 * digit))).save(path)`.
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
