r"""Makes a data set of face crops, from CelebA or from your photographs.

From CelebA as you downloaded it:

  python -m dcgan_inpaint.main --config=configs/prepare.py \
      --config.data.source=img_align_celeba.zip --config.data.path=DIR

Download img_align_celeba.zip (1.34 GiB) and list_eval_partition.txt by hand
from the CelebA page, into one folder. Needs neither TensorFlow nor a network,
and takes about six minutes on two cores. The faces have 64x64 pixels; for a
model of 128x128 --config.data.image_size=128 keeps every pixel of the crop.

From a folder of photographs, in which every face is detected and aligned, with
the extra `faces` by its landmarks (docs/photographs.md):

  python -m dcgan_inpaint.main --config=configs/prepare.py \
      --config.data.name=folder --config.data.source=photos \
      --config.data.path=DIR

To use it: --config.data.name=folder --config.data.path=DIR.
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  return defaults.prepare_job()
