"""Lines of the log and the figure of the job `benchmark_throughput`."""

import pathlib
from typing import Any

import numpy as np

from dcgan_inpaint.jobs import throughput_programs as programs
from dcgan_inpaint.runtime import files


def sentence(row: dict[str, Any]) -> str:
  """Returns a row as a line of the log.

  Args:
    row: of results.json.
  """
  of = ", ".join(
    f"{name} {row[name]}"
    for name in programs.Cell._fields[1:]
    if row[name] is not None
  )
  if row["per_second"] is None:
    return f"{row['what']} ({of}): out of memory"
  return (
    f"{row['what']} ({of}): {row['per_second']:,.1f} {row['unit']}/s, "
    f"{row['milliseconds_per_step']:.4g} ms a step "
    f"({row['milliseconds_fastest']:.4g} to {row['milliseconds_slowest']:.4g}),"
    f" {row['flops_utilisation']:.0%} of the peak"
  )


def draw(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  """Draws how cost grows, a panel for each thing that was varied.

  A panel holds the rows that differ from the first of their kind in this one
  thing, or in the implementation as well, which has a line of its own.

  Args:
    path: the file; none is made where nothing was varied.
    rows: of results.json.
  """
  # Slow to import, see `report.curves`.
  from matplotlib import figure

  panels = []
  for what in dict.fromkeys(row["what"] for row in rows):
    of_kind = [row for row in rows if row["what"] == what]
    for varied in ("batch", "devices", "width", "starts", "steps"):
      fixed = [
        x for x in programs.Cell._fields if x not in (varied, "implementation")
      ]
      alike = [
        row for row in of_kind if all(row[x] == of_kind[0][x] for x in fixed)
      ]
      if len({row[varied] for row in alike}) > 1:
        panels.append((what, varied, alike))
  if not panels:
    return
  columns = min(3, len(panels))
  lines = -(-len(panels) // columns)
  drawing = figure.Figure(
    figsize=(4.2 * columns, 3.4 * lines), layout="constrained"
  )
  axes = list(drawing.subplots(lines, columns, squeeze=False).flat)
  for place, (what, varied, alike) in zip(axes, panels, strict=False):
    for implementation in dict.fromkeys(row["implementation"] for row in alike):
      points = sorted(
        (
          row[varied],
          *(
            row[f"milliseconds_{which}"] * (row["steps"] or 1)
            for which in ("per_step", "fastest", "slowest")
          ),
        )
        for row in alike
        if row["implementation"] == implementation and row["per_second"]
      )
      if points:
        x, median, fastest, slowest = np.array(points).T
        spread = (median - fastest, slowest - median)
        place.errorbar(
          x, median, spread, marker="o", capsize=3, label=implementation
        )
    unit = "step" if what == "train" else "search"
    place.set(title=what, xlabel=varied, ylabel=f"ms a {unit}")
    # From zero on: what is twice as high costs twice as much.
    place.set(xlim=(0, None), ylim=(0, None))
    place.grid(alpha=0.3)
    place.legend(title="implementation")
  for place in axes[len(panels) :]:
    place.set_axis_off()
  with files.replacing(path) as temporary:
    drawing.savefig(temporary, format="png", dpi=120)
