"""Fills the holes in images of your own with a trained model.

  python -m dcgan_inpaint.main --config=configs/inpaint.py \
      --config.checkpoint.path=runs/celeba \
      --config.input=photos --config.masks=masks --config.output=completed

The input is a folder, a zip or an image file. The masks are a folder with a
mask for each image, of the same name but for the suffix; one mask file for all
images; alpha, the images' own transparent pixels; or a family of `config.mask`,
such as --config.masks=centre. White is the hole, unless
--config.mask.file_polarity=white_is_known.

Images keep their size. The model knows faces of 64x64 pixels: each face that a
hole touches is found, brought to that size, completed and laid back into the
hole, and all other pixels stay as they are (docs/photographs.md). With
--config.faces=whole each image is one face, its centre square. The results are
PNG files under the images' names. The same command again goes on where it was
cut.

The workdir gets results.csv, a row an image, and contact_sheet.png. More on
request: --config.samples=4 for four completions of each image,
--config.strips=masked for strips of image, mask and result, --config.gif=NAME
for the search's path as a film, --config.search.blending=poisson for no seams.
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
