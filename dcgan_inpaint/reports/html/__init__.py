"""The report of the job `benchmark`: one self-contained HTML file.

It is `page.html`, `page.css` and `page.js` of this folder with the metrics and
the pictures filled in. The page draws its tables and charts in the browser,
loads nothing over the network, and forbids itself to.
"""

import base64
import importlib.resources
import io
import json
import pathlib
from typing import Any
from typing import NamedTuple

import numpy as np

from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import files


class Mask(NamedTuple):
  """What is shown of one mask, for K images.

  Attributes:
    name: as in the rows.
    digest: of the set of masks.
    hole_share: the mean share of the hole, 0..1.
    masked: uint8 [K, H, W, C], the images with their holes.
    completed: {method: uint8 [K, H, W, C]}.
    metrics: {method: {metric: float [K]}}, of each image.
  """

  name: str
  digest: str
  hole_share: float
  masked: np.ndarray
  completed: dict[str, np.ndarray]
  metrics: dict[str, dict[str, np.ndarray]]


def write(
  path: pathlib.Path,
  entries: dict[str, Any],
  summaries: dict[str, str],
  names: list[str],
  originals: np.ndarray,
  masks: list[Mask],
) -> None:
  """Writes the report.

  Args:
    path: the HTML file.
    entries: of `results.collect`, with the rows of the job `benchmark`.
    summaries: {method: one line about it}, in the order of the methods.
    names: of the K images that are shown.
    originals: uint8 [K, H, W, C].
    masks: what is shown of each mask.
  """
  content = {
    "results": entries,
    "summaries": summaries,
    "images": [
      {"name": name, "original": _picture(image)}
      for name, image in zip(names, originals, strict=True)
    ],
    "masks": [
      mask._asdict()
      | {
        "masked": [_picture(image) for image in mask.masked],
        "completed": {
          method: [_picture(image) for image in images]
          for method, images in mask.completed.items()
        },
      }
      for mask in masks
    ],
  }
  text = json.dumps(results.plain(content), allow_nan=False)
  page = _file("page.html")
  for marker, part in {
    "/*STYLE*/": _file("page.css"),
    "/*SCRIPT*/": _file("page.js"),
    # Escaped, so that no text within the data can end the script element.
    "/*DATA*/": text.replace("<", "\\u003c"),
  }.items():
    page = page.replace(marker, part, 1)
  with files.replacing(path) as temporary:
    temporary.write_text(page, encoding="utf-8")


def _file(name: str) -> str:
  package = importlib.resources.files("dcgan_inpaint.reports.html")
  return (package / name).read_text(encoding="utf-8")


def _picture(image: np.ndarray) -> str:
  """Returns an image as a data URI, in WebP: a third of a PNG's bytes."""
  file = io.BytesIO()
  pictures.to_image(image).save(file, "webp", quality=90, method=6)
  return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
