"""Examples for the page: photographs of the public domain, with their masks."""

import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL import ImageDraw

from dcgan_inpaint import sample
from dcgan_inpaint.reports import pictures

_PAPER = (236, 232, 222)  # The colour under scratches.


class Example(NamedTuple):
  """A photograph with its mask.

  Attributes:
    title: what is the matter with it.
    photograph: its file.
    mask: the file of its hole, which is white.
  """

  title: str
  photograph: pathlib.Path
  mask: pathlib.Path


def write(folder: pathlib.Path) -> list[Example]:
  """Writes the examples.

  The portrait is by NASA; the rocket, `skimage.data.rocket`, by SpaceX. Both
  gave them to the public domain.

  Args:
    folder: where they go.
  """
  return [
    Example("a scratched portrait", *_write_portrait(folder / "portrait")),
    Example("a date on a picture", *_write_rocket(folder / "rocket")),
  ]


def _write_portrait(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes the package's sample, whose scratches are there to be seen."""
  photograph, mask = sample.write(str(folder))
  image = pictures.load_png(photograph).copy()
  image[pictures.load_png(mask) > 0] = _PAPER
  pictures.save_png(photograph, image)
  return photograph, mask


def _write_rocket(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes a photograph that a date and a scratch are drawn on."""
  from skimage import data

  rocket = Image.fromarray(data.rocket())
  mask = Image.new("L", rocket.size)
  for image, colour, wider in ((rocket, "#ffb347", 0), (mask, "white", 2)):
    draw = ImageDraw.Draw(image)
    draw.text(
      (430, 20), "11 FEB 2015", colour, font_size=22, stroke_width=wider
    )
    draw.line([(0, 250), (250, 170), (639, 215)], colour, 3 + 2 * wider)
  photograph, hole = folder / "photo.png", folder / "mask.png"
  pictures.save_png(photograph, np.asarray(rocket))
  pictures.save_png(hole, np.asarray(mask))
  return photograph, hole
