"""Fills the holes in images of your own with a trained model.

  python -m dcgan_inpaint.main --config=configs/inpaint.py \
      --config.checkpoint.path=runs/celeba \
      --config.input=photos --config.masks=masks --config.output=completed

The input is a folder, a zip or an image file. The masks are a folder with a
mask for each image, of the same name but for the suffix; one mask file for all
images; or a family of `config.mask`, such as --config.masks=centre. White is
the hole, unless --config.mask.file_polarity=white_is_known.

The model knows faces of 64x64 pixels, and so images and masks are cropped and
resized to 64x64 as in training: an aligned image of CelebA (178x218) to its
face, any other to its centre square. The results are PNG files of 64x64 under
the images' names. The same command again goes on where it was cut.
"""

from dcgan_inpaint import config as defaults


def get_config():
  """Returns the config."""
  config = defaults.inpaint_job()
  # Several short searches find more than a long one.
  config.search.starts = 4
  config.search.steps = 250
  config.search.learning_rate = 0.06
  return config
