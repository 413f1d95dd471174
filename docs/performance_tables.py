"""Prints the tables of docs/performance.md from what launch/measure.sh left.

  python docs/performance_tables.py DIR           # prints them
  python docs/performance_tables.py DIR --write   # puts them into the page

DIR holds measurements.jsonl. Of several measurements of one thing the last
counts. What was not measured is not in the tables.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import json
import pathlib
import sys
from typing import Any

from dcgan_inpaint.runtime import files

PAGE = pathlib.Path(__file__).with_name("performance.md")
BEGIN = "<!-- made by docs/performance_tables.py -->"
END = "<!-- end of what is made -->"
# How many times PyTorch's better mode is the target, on an H100.
ASKED = {
  ("train", 64): 4.0,
  ("train", 512): 1.8,
  ("train", 2048): 1.6,
  ("search", 1): 4.0,
  ("search", 64): 2.5,
  ("search", 1024): 1.6,
}
# The setting of the step that is measured for its compilation.
AUTOTUNING = "autotuning kept"
UNITS = {
  "train": "Training, images a second",
  "search": "Search, image-steps a second",
}

Row = dict[str, Any]


def read(folder: pathlib.Path) -> list[Row]:
  """Returns the lines of measurements.jsonl that are whole.

  Args:
    folder: of the measurements.
  """
  lines = []
  for text in (folder / "measurements.jsonl").read_text().splitlines():
    try:
      lines.append(json.loads(text))
    except ValueError:
      continue  # Cut in the middle.
  return lines


def rows_of(lines: Sequence[Row], *steps: str) -> list[Row]:
  """Returns the rows of each step's last line that has any.

  Args:
    lines: of `read`.
    *steps: their names; all by default.
  """
  last = {
    line["step"]: line["rows"]
    for line in lines
    if line["rows"] and (not steps or line["step"] in steps)
  }
  return [row for rows in last.values() for row in rows]


def table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
  """Returns a table of Markdown.

  Args:
    header: of the columns.
    body: the cells, line by line.
  """
  lines = [header, ["---"] * len(header), *body]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None) -> str:
  """Returns a number with three digits, or all before the point."""
  if value is None:
    return "–"
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine(lines: Sequence[Row]) -> Row:
  """Returns what the last check saw.

  Args:
    lines: of `read`.

  Raises:
    ValueError: there was no check that found a device.
  """
  seen = rows_of(lines, "check")
  if not seen:
    raise ValueError("no check of the machine")
  return seen[-1]


def _about(lines: Sequence[Row]) -> str:
  """Returns a sentence on the machine and the day."""
  seen, days = machine(lines), sorted({line["date"][:10] for line in lines})
  parts = [
    seen["kind"],
    f"JAX {seen['jax']}",
    *([f"PyTorch {seen['torch']}"] if seen.get("torch") else []),
    *([f"driver: {seen['driver']}"] if seen.get("driver") else []),
    " to ".join(dict.fromkeys((days[0], days[-1]))),
  ]
  return f"Measured by `launch/measure.sh` on {'; '.join(parts)}."


def rates(lines: Sequence[Row], what: str) -> dict[int, dict[str, Row]]:
  """Returns the row of each batch and variant, {batch: {variant: row}}.

  Args:
    lines: of `read`.
    what: 'train' or 'search'.
  """
  found: dict[int, dict[str, Row]] = {}
  for line in lines:
    for row in line["rows"]:
      name = row.get("implementation")
      # A whole training has no implementation, and tells nothing of a step.
      if row.get("what") == what and name and row.get("per_second"):
        setting = line.get("setting")
        variant = f"{name}, {setting}" if setting else name
        found.setdefault(row["batch"], {})[variant] = row
  return dict(sorted(found.items()))


def throughput(lines: Sequence[Row], what: str) -> str:
  """Returns the table of images a second beside PyTorch's.

  Args:
    lines: of `read`.
    what: 'train' or 'search'.
  """
  found = rates(lines, what)
  variants = sorted(
    {
      variant
      for rows in found.values()
      for variant in rows
      if not variant.endswith(AUTOTUNING)  # As fast, and sooner compiled.
    },
    key=lambda name: (name.startswith("torch"), name),
  )
  body = []
  for batch, rows in found.items():
    rate = {x: rows[x]["per_second"] for x in variants if x in rows}
    cells = [number(rate.get(variant)) for variant in variants]
    ours, peers = (
      [rate[x] for x in rate if x.startswith("torch") == torch]
      for torch in (False, True)
    )
    ratio = "–"
    if ours and peers:
      ratio = f"**{max(ours) / max(peers):.2f}**"
    asked = ASKED.get((what, batch))
    body.append([str(batch), *cells, ratio, str(asked) if asked else "–"])
  header = ["batch", *variants, "best / PyTorch's best", "target"]
  return f"{UNITS[what]}:\n\n{table(header, body)}" if body else ""


def steps(lines: Sequence[Row]) -> str:
  """Returns the table of what a step takes.

  Args:
    lines: of `read`.
  """
  body = []
  for what in UNITS:
    for batch, rows in rates(lines, what).items():
      for variant, row in rows.items():
        if "memory_megabytes" in row:
          body.append(
            [
              what, str(batch), variant, number(row["milliseconds_per_step"]),
              f"{number(row['milliseconds_fastest'])} to "
              f"{number(row['milliseconds_slowest'])}",
              f"{row['flops_utilisation']:.0%}",
              number(row["memory_megabytes"]), number(row["compile_seconds"]),
            ]
          )  # fmt: skip
  header = [
    "", "batch", "implementation", "ms a step", "rounds", "of the peak",
    "memory, MB", "compiling, s",
  ]  # fmt: skip
  return f"What a step takes:\n\n{table(header, body)}" if body else ""


def quality(lines: Sequence[Row]) -> str:
  """Returns the table of the paper's training, and of its images.

  Args:
    lines: of `read`.
  """
  parts = []
  for name, title in (
    ("paper_training", "The paper's training"),
    ("encoder", "Training of the encoder"),
  ):
    attempts = []
    for line in lines:
      if line["step"] == name:
        again = line["status"] == "set aside"
        attempts = [] if again else [*attempts, line]
    trained = [row for line in attempts for row in line["rows"]]
    if trained and attempts[-1]["status"] == "done":
      row, seconds = trained[-1], sum(line["seconds"] for line in attempts)
      rate = row["per_second"] and f", {number(row['per_second'])} a second"
      parts.append(
        f"{title}: {row['steps'] * row['batch']:,} images in "
        f"{number(seconds)} s, start and compilation included{rate or ''}."
      )
  body = [
    [
      step, row["mask"], str(row["n"]), f"{row['mse']:.1f}",
      f"{row['psnr']:.2f}", f"{row['ssim']:.4f}",
      number(row["images_per_second"]),
    ]
    for step in ("paper_search", "fidelity", "realism")
    for row in rows_of(lines, step)
  ]  # fmt: skip
  header = ["", "hole", "faces", "MSE", "PSNR", "SSIM", "faces a second"]
  if body:
    parts.append(f"Test faces, scored:\n\n{table(header, body)}")
  return "\n\n".join(parts)


def trials(lines: Sequence[Row]) -> str:
  """Returns the list of what was tried once.

  Args:
    lines: of `read`.
  """
  said = []
  rows = {row.get("what"): row for row in rows_of(lines, "start_up")}
  if row := rows.get("start_up"):
    said.append(
      "a training of one step with its programs compiled before: "
      f"{number(row['seconds'])} s, from the command to the prompt"
    )
  for row in rows_of(lines, "deterministic"):
    said.append(
      f"`--deterministic`, twice: {row['steps']} steps "
      f"{'equal to the bit' if row['equal'] else 'NOT equal'}, "
      f"{number(row['per_second'])} images a second"
    )
  for row in rows_of(lines, "out_of_memory"):
    said.append(
      "out of memory: "
      + ("one line that names what to lower" if row["advised"] else "NO advice")
    )
  for row in rows_of(lines, "streaming"):
    said.append(
      f"images streamed from disk, batch {row['batch']}: "
      f"{number(row['per_second'])} images a second"
    )
  for row in rows_of(lines, "programs"):
    said.append(
      f"`fidelity` as StableHLO, {row['batch']} images: "
      f"{number(row['per_second'])} a second; "
      f"{row['share_that_differs']:.2%} of the values differ from the CPU's, "
      f"by {row['largest_difference']} grey levels at the most"
    )
  return "\n".join(f"- {line}" for line in said)


def page(lines: Sequence[Row]) -> str:
  """Returns all tables, in the page's order.

  Args:
    lines: of `read`.
  """
  parts = [
    _about(lines),
    *(throughput(lines, what) for what in UNITS),
    steps(lines),
    quality(lines),
    trials(lines),
  ]
  return "\n\n".join(filter(None, parts))


def insert(text: str, made: str) -> str:
  """Returns the page with the tables in their place.

  Args:
    text: of the page.
    made: of `page`.
  """
  before, _, rest = text.partition(BEGIN)
  _, _, after = rest.partition(END)
  return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def main(words: Sequence[str]) -> int:
  """Prints or writes; returns the exit status.

  Args:
    words: of the command line.
  """
  folders = [word for word in words if word != "--write"]
  if len(folders) != 1:
    print(__doc__)
    return 2
  lines = read(pathlib.Path(folders[0]))
  made = page(lines)
  if "--write" not in words:
    print(made)
    return 0
  if machine(lines)["platform"] == "cpu":
    print("error: these are figures of a trial on the CPU, not for the page")
    return 2
  with files.replacing(PAGE) as temporary:
    temporary.write_text(insert(PAGE.read_text(), made))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
