"""Image files in memory, for tests of their readers."""

import io

import numpy as np
from PIL import Image


def encode(image, kind="png", **options):
  """Returns the bytes of an image file.

  Args:
    image: of Pillow, or its pixels.
    kind: the format, as Pillow calls it.
    **options: of the format.
  """
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()
