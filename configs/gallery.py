r"""Every family of holes over the same faces, completed and with its errors.

  python -m dcgan_inpaint.main --config=configs/gallery.py \
      --config.data.path=faces --workdir=runs/gallery

Needs faces, a folder or a zip, cropped as for training (configs/prepare.py),
and about a minute on two CPU cores. Writes a picture for each family to
contact_sheets/, all of them to contact_sheet.png, report.html with the errors
of every image, and a row for each family to results.json. docs/masks.md shows
such a run.

`--config.benchmark.masks` sets other sizes and shares, and your own mask:

  --config.benchmark.masks=strokes:share=0.4,file:path=mask.png

On cartoon faces, with the model of configs/quickstart.py:

  python -m dcgan_inpaint.main --config=configs/gallery.py \
      --config.checkpoint.path=runs/quickstart --config.search.mode=paper \
      --config.data.name=synthetic --workdir=runs/gallery
"""

from dcgan_inpaint import config as defaults
from dcgan_inpaint.masks import mask_sets


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.benchmark_job()
  # The packaged model, by the search with the lowest error.
  config.checkpoint.path = "pretrained"
  config.search.mode = "fidelity"
  # Every image of a folder or zip.
  config.data.name = "folder"
  config.data.split = "all"
  config.benchmark.methods = "dcgan"
  # All but `file`, which needs a mask file.
  families = [family for family in mask_sets.FAMILIES if family != "file"]
  config.benchmark.masks = tuple(families)
  # The first faces, which the pictures show.
  config.benchmark.images = 8
  return config
