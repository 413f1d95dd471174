"""Makes the data set of 64x64 face crops from CelebA as you downloaded it.

  python -m dcgan_inpaint.main --config=configs/prepare.py \
      --config.data.source=img_align_celeba.zip --config.data.path=DIR

Download img_align_celeba.zip (1.34 GiB) and list_eval_partition.txt by hand
from the CelebA page, into one folder. Needs no TensorFlow and no network, and
about six minutes on two cores.
"""

from dcgan_inpaint import config as defaults


def get_config():
  """Returns the config."""
  return defaults.prepare_job()
