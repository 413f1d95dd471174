r"""Every method under every kind of hole, on one set of images.

  python -m dcgan_inpaint.main --config=configs/benchmark.py \
      --workdir=runs/benchmark

Needs nothing, and eight minutes on two CPU cores. Leaves report.html,
results.json, results.csv, figures.npz with every image's figures, and contact
sheets. The same command again goes on where it was cut; with another method or
mask in the list, it runs only that.

The default takes the model of the package to cartoon faces, which it has never
seen: it shows that all is well, no more. What methods are worth is seen on
faces like those that the model was trained on, and on enough of them that the
95 % interval is narrow; those that are slow may get fewer:

  python -m dcgan_inpaint.main --config=configs/benchmark.py \
      --config.checkpoint.path=runs/celeba --config.data.name=celeba \
      --config.data.path=DIR --config.data.max_images=0 \
      --config.benchmark.images=0 --config.benchmark.slow_images=512

Methods and holes are lists, and a hole may set fields of `config.mask`:

  --config.benchmark.methods=mean_image,biharmonic,dcgan \
      --config.benchmark.masks=centre:size=24,random_pixels:share=0.5
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.benchmark_job()
  # The model of the package, on drawn faces: nothing to download.
  config.checkpoint.path = "pretrained"
  config.data.name = "synthetic"
  # Training images too, which ridge, ppca and dictionary learn from.
  config.data.max_images = 2048
  # Few faces, so that all methods are done in minutes.
  config.benchmark.images = 32
  config.benchmark.slow_images = 4
  # For the method `dcgan`: shorter than the mode `paper`, and as good.
  config.search.steps = 250
  config.search.learning_rate = 0.06
  return config
