"""The names in a config that the modules which own them know.

`config.validate` checks what the fields themselves say: types, choices and
ranges. What a loss or a family of masks may be called is known where it is
made, and is asked there before a job loads anything. Methods are checked by the
jobs that run them, which also look for their libraries.
"""

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import losses
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import photograph
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.search import settings as search_settings


def check(config: config_lib.ConfigDict) -> None:
  """Refuses names that nobody knows.

  Args:
    config: the whole config of any job.

  Raises:
    errors.UserError: names the field, its value and the choices.
  """
  if "model" in config:
    errors.check_choice(
      "config.model.convolution",
      config.model.convolution,
      ("auto", *convolutions.IMPLEMENTATIONS),
    )
  if "train" in config:
    losses.get(config.train.loss, "config.train.loss")
  if "search" in config:
    search_settings.resolve(config.search)
  if "encoder" in config:
    for family in lists.words(config.encoder.families) or ("",):
      errors.check_choice("config.encoder.families", family, mask_sets.FAMILIES)
  if "faces" in config:
    errors.check_choice("config.faces", config.faces, detection.DETECTORS)
  if "rest" in config:
    photograph.check_rest(config.rest)
  # The job `inpaint` takes other masks too, and reads them first.
  if "masks" in config and config.job != "inpaint":
    mask_sets.parse(config.masks, config.mask)
