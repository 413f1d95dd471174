"""What the job `benchmark` writes: rows, tables, pictures and the HTML report.

Everywhere `parts` is {method: {mask: its part for all images that the method
got, the first ones of the set}}, and `masks` is {mask: float32 [N, H, W, 1]}.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import importlib
import math
import pathlib
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import ml_collections
import numpy as np

from dcgan_inpaint import data
from dcgan_inpaint import methods
from dcgan_inpaint.jobs import benchmark_parts
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.jobs import scored_features
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.metrics import features as features_lib
from dcgan_inpaint.reports import html
from dcgan_inpaint.reports import image_table
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import files

Parts: TypeAlias = dict[str, dict[str, benchmark_parts.Part]]
Masks: TypeAlias = dict[str, np.ndarray]


class Scored(NamedTuple):
  """What realism is measured by.

  Attributes:
    features: of `scored_features.create`.
    originals: of `scored_features.extract`, for the images before their holes
      were cut.
  """

  features: Sequence[features_lib.Features]
  originals: Mapping[str, np.ndarray]


_BINS = 10  # Of the hole's share of the image.


def write(
  workdir: pathlib.Path,
  config: ml_collections.ConfigDict,
  rows: list[dict[str, Any]],
  parts: Parts,
  masks: Masks,
  faces: data.ImageSet,
) -> None:
  """Writes every file of the job but results.json.

  Args:
    workdir: where they go.
    config: the whole config.
    rows: of `make_rows`.
    parts: the results.
    masks: the masks.
    faces: the images and their names.
  """
  _write_csv(workdir / "results.csv", rows)
  _write_metrics(workdir / "figures.npz", parts, masks, faces.names)
  _write_pictures(workdir, parts, masks, faces)
  shown = config.benchmark.contact_sheet
  html.write(
    workdir / "report.html",
    results.collect("benchmark", config, rows),
    {name: _summary(name) for name in parts},
    faces.names[:shown],
    faces.images[:shown],
    [_shown(mask, masks[mask], parts, faces) for mask in masks],
  )


def make_rows(
  parts: Parts,
  masks: Masks,
  data_digest: str,
  step: int | None,
  scored: Scored,
) -> list[dict[str, Any]]:
  """Returns the rows of results.json, mask by mask.

  Args:
    parts: the results.
    masks: the masks.
    data_digest: the images'.
    step: of the trained model, for the methods that use it; None without one.
    scored: what realism is measured by.
  """
  rows = []
  for mask, of_mask in masks.items():
    shares = mask_sets.hole_share(of_mask)
    common = _common([of_method[mask] for of_method in parts.values()])
    for name, of_method in parts.items():
      spec = methods.METHODS[name]
      rows.append(
        {
          "method": name,
          "family": spec.family,
          "mask": mask,
          "mask_digest": mask_sets.digest(of_mask),
          "data_digest": data_digest,
          **_means(of_method[mask], shares, common, scored),
          "step": step if spec.trained else None,
        }
      )
  return rows


def _common(parts: Sequence[benchmark_parts.Part]) -> np.ndarray:
  """Returns which images all of the methods completed, bool [N]."""
  count = max(len(part.failed) for part in parts)
  common = np.ones(count, bool)
  for part in parts:
    common[len(part.failed) :] = False
    common[: len(part.failed)] &= ~part.failed
  return common


def _means(
  part: benchmark_parts.Part,
  shares: np.ndarray,
  common: np.ndarray,
  scored: Scored,
) -> dict[str, Any]:
  """Returns what a row says of a part: its means, its failures, its times.

  Args:
    part: of all images that the method got, the first of the set.
    shares: the holes' shares of all images, float [M].
    common: bool [M], the images that all methods completed.
    scored: what realism is measured by.
  """
  count = len(part.failed)
  holed = shares[:count] > 0

  def realism(chosen: np.ndarray) -> dict[str, Any]:
    return scored_features.score(
      scored.features,
      part.features,
      {name: values[:count] for name, values in scored.originals.items()},
      chosen & holed & ~part.failed,
    )

  return {
    **_means_of(part, np.ones(count, bool)),
    **realism(np.ones(count, bool)),
    "failures": int(np.sum(part.failed)),
    "seconds_per_image": part.seconds / count,
    "images_per_second": count / part.seconds,
    "fit_seconds": None if math.isnan(part.fit_seconds) else part.fit_seconds,
    "common": {
      **_means_of(part, common[:count]),
      **realism(common[:count]),
    },
    "by_hole_area": [
      {"hole_area": area, **_means_of(part, chosen)}
      for area, chosen in _areas(shares[:count])
      if np.any(chosen)
    ],
  }


def _means_of(part: benchmark_parts.Part, chosen: np.ndarray) -> dict[str, Any]:
  """Returns the means over the images that are chosen, bool [N]."""
  metrics = {name: values[chosen] for name, values in part.metrics.items()}
  return {"n": int(np.sum(chosen & ~part.failed)), **evaluate.score(metrics)}


def _areas(shares: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
  """Yields each bin's name and which images have a hole of that share."""
  # Rounded, so that one half is not a little more than one half.
  bins = np.ceil(np.round(shares * _BINS, 6)).astype(int)
  for upper in range(1, _BINS + 1):
    yield f"{10 * upper - 10}-{10 * upper} %", bins == upper


def _summary(name: str) -> str:
  """Returns one line about a method: the first of its module's docstring."""
  try:
    module = importlib.import_module(f"dcgan_inpaint.methods.{name}")
  except ModuleNotFoundError:  # The latent search is not a module of `methods`.
    module = importlib.import_module("dcgan_inpaint.search.latent_search")
  return str(module.__doc__).partition("\n")[0]


def _write_csv(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  """Writes every mean: a line for all images, for the common ones, each bin."""
  lines = []
  for row in rows:
    shared = {
      name: value
      for name, value in row.items()
      if name not in ("common", "by_hole_area")
    }
    lines.append({"images": "all", **shared})
    lines.append({"images": "common", **shared, **row["common"]})
    # Those of one area are too few to measure realism on.
    blank = dict.fromkeys(
      name for name in row["common"] if name not in row["by_hole_area"][0]
    )
    for area in row["by_hole_area"]:
      means = {name: area[name] for name in area if name != "hole_area"}
      lines.append(
        {"images": f"hole {area['hole_area']}", **shared, **blank, **means}
      )
  with files.replacing(path) as temporary, temporary.open("w") as file:
    writer = csv.DictWriter(file, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
      {name: image_table.cell(value) for name, value in line.items()}
      for line in results.plain(lines)
    )


def _write_metrics(
  path: pathlib.Path, parts: Parts, masks: Masks, image_names: list[str]
) -> None:
  """Writes the metrics of every image: float32 [methods, masks, images].

  They are NaN where a method failed, or did not get the image. `methods`,
  `masks` and `images` hold the names, `hole_share` [masks, images] the shares
  of the holes.
  """
  first = next(iter(parts.values()))
  arrays: dict[str, Any] = {
    name: np.full(
      (len(parts), len(masks), len(image_names)), np.nan, np.float32
    )
    for name in next(iter(first.values())).metrics
  }
  for i, of_method in enumerate(parts.values()):
    for j, part in enumerate(of_method.values()):
      for name, values in part.metrics.items():
        arrays[name][i, j, : len(values)] = values
  with files.replacing(path) as temporary, temporary.open("wb") as file:
    np.savez_compressed(
      file,
      methods=list(parts),
      masks=list(masks),
      images=image_names,
      hole_share=[mask_sets.hole_share(of) for of in masks.values()],
      **arrays,
    )


def _write_pictures(
  workdir: pathlib.Path, parts: Parts, masks: Masks, faces: data.ImageSet
) -> None:
  """Writes a contact sheet for each mask, and one of all masks."""
  sheets = {}
  for mask, of_mask in masks.items():
    completed = {name: of[mask].pictures for name, of in parts.items()}
    shown = max(map(len, completed.values()))
    originals = faces.images[:shown]
    sheets[mask] = {
      "original": originals,
      "masked": pictures.masked_view(originals, of_mask[:shown]),
      **completed,
    }
    captioned = {
      _caption(row, parts[row][mask]) if row in parts else row: images
      for row, images in sheets[mask].items()
    }
    name = f"{benchmark_parts.file_name(mask)}.png"
    pictures.contact_sheet(workdir / "contact_sheets" / name, captioned)
  # A column per mask, each with another image, of those that all methods have.
  count = min(len(rows) for sheet in sheets.values() for rows in sheet.values())
  columns = [
    {row: images[i % count] for row, images in sheet.items()}
    for i, sheet in enumerate(sheets.values())
  ]
  pictures.contact_sheet(
    workdir / "contact_sheet.png",
    {row: np.stack([column[row] for column in columns]) for row in columns[0]},
  )


def _caption(name: str, part: benchmark_parts.Part) -> str:
  """Returns a method's name with its means over all images."""
  mse, ssim = (np.nanmean(part.metrics[metric]) for metric in ("mse", "ssim"))
  return f"{name}: MSE {mse:.0f}, SSIM {ssim:.2f}"


def _shown(
  mask: str, masks: np.ndarray, parts: Parts, faces: data.ImageSet
) -> html.Mask:
  """Returns what the HTML report shows of one mask."""
  of_mask = {name: of[mask] for name, of in parts.items()}
  shown = max(len(part.pictures) for part in of_mask.values())
  return html.Mask(
    name=mask,
    digest=mask_sets.digest(masks),
    hole_share=float(np.mean(mask_sets.hole_share(masks))),
    masked=pictures.masked_view(faces.images[:shown], masks[:shown]),
    completed={name: part.pictures for name, part in of_mask.items()},
    metrics={
      name: {
        metric: values[: len(part.pictures)]
        for metric, values in part.metrics.items()
      }
      for name, part in of_mask.items()
    },
  )
