"""Every method under every kind of hole, on one set of images.

  python -m dcgan_inpaint.main --config=configs/benchmark.py \
      --config.checkpoint.path=runs/quickstart --workdir=runs/benchmark

Leaves report.html, results.json, results.csv, figures.npz with every image's
figures, and contact sheets. The same command again goes on where it was cut;
with another method or mask in the list, it runs only that.

The default runs on cartoon faces. On faces of your own, with as many images as
the interval of 95 % is to be narrow:

  python -m dcgan_inpaint.main --config=configs/benchmark.py \
      --config.checkpoint.path=runs/celeba --config.data.name=celeba \
      --config.data.path=DIR --config.benchmark.images=0 \
      --config.benchmark.slow_images=512

Methods and holes are lists, and a hole may set fields of `config.mask`:

  --config.benchmark.methods=mean_image,biharmonic,dcgan \
      --config.benchmark.masks=centre:size=24,random_pixels:share=0.5
"""

from dcgan_inpaint import config as defaults


def get_config():
  """Returns the config."""
  config = defaults.benchmark_job()
  config.data.name = "synthetic"
  config.benchmark.images = 64
  config.benchmark.slow_images = 8
  # Several short searches find more than a long one.
  config.search.starts = 2
  config.search.steps = 250
  config.search.learning_rate = 0.06
  return config
