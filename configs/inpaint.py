r"""Fills the holes in images of your own, with the packaged model.

  python -m dcgan_inpaint.main --config=configs/inpaint.py \
      --config.input=photos --config.masks=masks --config.output=completed

Needs images: a folder, a zip or an image file. A face takes about a quarter of
a second on two CPU cores. The masks are a folder with a mask of the same name,
up to the suffix, for each image; one mask file for all images; alpha, the
images' own transparent pixels; or drawn, such as --config.masks=centre or
--config.masks=strokes:share=0.3 (docs/masks.md). White is the hole, unless
--config.mask.file_polarity=white_is_known.

`dcgan-inpaint photos masks completed` is short for the command above. Images
keep their size, mode, profile and EXIF. The model is made for faces of one
size, 64x64 pixels: each face that a hole touches is detected, resampled to that
size, completed and laid back into the hole; scratches, and what no face covers,
are interpolated; and all other pixels are unchanged (docs/photographs.md).
With --config.faces=whole each image is one face, its centre square. The results
are PNG files with the images' names; for one image --config.output may name a
file, and so its format. The same command resumes an interrupted run.

The workdir gets results.csv, with a row per image, and contact_sheet.png.
Options: --config.samples=4 for four different completions of each image,
--config.strips=masked for strips of image, mask and result, --config.gif=NAME
for the search's path as a film.

To use a model of your own, name the --workdir of its training, with the encoder
that configs/encoder.py trained for it, or with the paper's search, which needs
no encoder:

  --config.checkpoint.path=runs/celeba --config.checkpoint.encoder=runs/encoder
  --config.checkpoint.path=runs/celeba --config.search.mode=paper
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.inpaint_job()
  # The packaged model, by the search with the lowest error.
  config.checkpoint.path = "pretrained"
  config.search.mode = "fidelity"
  # Photographs differ in lighting from the faces that the model was trained on.
  config.search.blending = "spline"
  return config
