"""A photograph of the public domain with a hole, to try the command on."""

import pathlib

import numpy as np
from PIL import Image
from PIL import ImageDraw

from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors


def write(folder: str = ".") -> tuple[pathlib.Path, pathlib.Path]:
  """Writes photo.png and mask.png.

  The photograph is scikit-image's `astronaut`: Eileen Collins, by NASA, 1993,
  in the public domain, 512x512. Scratches and her nose are the hole.

  Args:
    folder: where they go; made if there is none.

  Returns:
    The paths of both.

  Raises:
    errors.UserError: one of them exists.
  """
  from skimage import data

  root = pathlib.Path(folder).expanduser()
  photo, mask = root / "photo.png", root / "mask.png"
  for path in (photo, mask):
    if path.exists():
      raise errors.UserError(
        f"{path} exists and stays as it is: name another folder"
      )
  hole = Image.new("L", (512, 512))
  draw = ImageDraw.Draw(hole)
  draw.line([(180, 62), (225, 100), (270, 96)], 255, 5)
  draw.line([(258, 70), (215, 128), (196, 160)], 255, 4)
  draw.rectangle((209, 112, 238, 134), 255)
  pictures.save_png(photo, data.astronaut())
  pictures.save_png(mask, np.asarray(hole))
  return photo, mask
