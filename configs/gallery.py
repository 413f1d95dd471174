"""Every family of holes over the same faces, completed and with its figures.

  python -m dcgan_inpaint.main --config=configs/gallery.py \
      --config.checkpoint.path=runs/quickstart --workdir=runs/gallery

Leaves a picture a family in contact_sheets/, report.html with the figures of
every image, and a row a family in results.json. On faces of your own:

  python -m dcgan_inpaint.main --config=configs/gallery.py \
      --config.checkpoint.path=runs/celeba --config.data.name=folder \
      --config.data.path=DIR --config.data.split=all --workdir=runs/gallery

`--config.benchmark.masks` takes other sizes and shares, and your own mask:

  --config.benchmark.masks=strokes:share=0.4,file:path=mask.png

Eight faces cost 12 x 8 searches of 250 steps: about 50 s on two CPU cores, for
a model of a quarter of the width.
"""

from dcgan_inpaint import config as defaults
from dcgan_inpaint import masks


def get_config():
  """Returns the config."""
  config = defaults.benchmark_job()
  config.data.name = "synthetic"
  config.benchmark.methods = "dcgan"
  # All but `file`, which needs one.
  families = [family for family in masks.FAMILIES if family != "file"]
  config.benchmark.masks = ",".join(families)
  config.benchmark.images = 8
  config.search.steps = 250
  config.search.learning_rate = 0.06
  return config
