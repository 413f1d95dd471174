r"""Every method under every kind of hole, on one set of images.

  python -m dcgan_inpaint.main --config=configs/benchmark.py \
      --workdir=runs/benchmark

Needs no download, and eight minutes on two CPU cores. Writes report.html,
results.json, results.csv, figures.npz with every image's metrics, and contact
sheets. The same command resumes an interrupted run; with another method or mask
in the list, it runs only that.

By default the packaged model completes cartoon faces, which it was not trained
on: this only checks that everything works. To compare methods, use faces like
those of the model's training, and enough of them for a narrow 95 % interval;
slow methods may get fewer:

  python -m dcgan_inpaint.main --config=configs/benchmark.py \
      --config.checkpoint.path=runs/celeba --config.data.name=celeba \
      --config.data.path=DIR --config.data.max_images=0 \
      --config.benchmark.images=0 --config.benchmark.slow_images=512

Methods and masks are lists, and a mask may set fields of `config.mask`:

  --config.benchmark.methods=mean_image,biharmonic,dcgan \
      --config.benchmark.masks=centre:size=24,random_pixels:share=0.5
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.benchmark_job()
  # The packaged model, on synthetic faces: nothing to download.
  config.checkpoint.path = "pretrained"
  config.data.name = "synthetic"
  # Limits the training images, which ridge, ppca and dictionary learn from.
  config.data.max_images = 2048
  # Few faces, so that all methods are done in minutes.
  config.benchmark.images = 32
  config.benchmark.slow_images = 4
  # For the method `dcgan`: shorter than the mode `paper`, at a similar error.
  config.search.steps = 250
  config.search.learning_rate = 0.06
  return config
