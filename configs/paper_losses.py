r"""The paper's table: loss functions under the same budget, by MSE and SSIM.

  python -m dcgan_inpaint.main --config=configs/paper_losses.py \
      --config.data.path=DIR --workdir=runs/paper_losses

Needs CelebA, prepared by `configs/prepare.py`. Trains a DCGAN with every loss
and every seed and fills a 32x32 hole in the centre of test faces by the paper's
search. The table has the mean over the seeds and their standard deviation, next
to the paper's own results. The paper does not state mask, region, crop and
number of images, so only the order can be compared.

At full width this is 15 trainings of 20 epochs. At an eighth of the width, two
CPU cores take about three hours with

  --config.model.width=0.125 --config.train.batch_size=64 \
      --config.train.steps=4000 --config.evaluation.images=256

The same command resumes an interrupted run.
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.compare_job()
  # Prepared by `configs/prepare.py`.
  config.data.name = "celeba"
  return config
