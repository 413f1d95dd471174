"""What a job leaves behind: pictures, curves, tables and `results.json`.

Only process 0 calls these functions. Files appear whole or not at all, and an
earlier `results.json` is set aside, never overwritten.
"""

import contextlib
import datetime
import importlib.metadata
import json
import math
import numbers
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile

from absl import logging
import jax
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

import dcgan_inpaint
from dcgan_inpaint import errors

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
  "scikit-image",
)


@contextlib.contextmanager
def replacing(path):
  """Yields a path to write to, which takes the place of `path` at the end.

  A reader sees the old file or the new one, never a half. If the block
  raises, `path` stays as it was. Folders are made as needed.

  Args:
    path: the file to write.

  Yields:
    A `pathlib.Path` in the same folder.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def make_folder(path, field):
  """Makes a folder, if need be, and makes sure that it can be written to.

  Args:
    path: the folder.
    field: the flag or config field that names it, for the message.

  Raises:
    errors.UserError: it cannot be made or written to.
  """
  path = pathlib.Path(path)
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as error:
    raise errors.UserError(
      f"{field}={str(path)!r} cannot be written to ({error.strerror}): take "
      "a folder elsewhere"
    ) from error


def set_aside(path):
  """Renames `path`, if it exists, to the first free `NAME.1.EXT`, `NAME.2.EXT`.

  Args:
    path: the file that is about to be written anew.

  Returns:
    The new path of the old file, or None where there was none.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  number = 1
  while (kept := path.with_suffix(f".{number}{path.suffix}")).exists():
    number += 1
  return path.rename(kept)


def save_png(path, image):
  """Writes a PNG file.

  Args:
    path: the file.
    image: uint8 [H, W, 3], or [H, W] for grey.
  """
  with replacing(path) as temporary:
    Image.fromarray(np.asarray(image)).save(temporary, format="PNG")


def load_png(path):
  """Reads what `save_png` wrote.

  Args:
    path: the file.

  Returns:
    uint8 [H, W, 3], or [H, W] for grey.

  Raises:
    errors.UserError: if there is no such file, or it is no picture.
  """
  try:
    with Image.open(path, formats=["PNG"]) as image:
      return np.asarray(image)
  except FileNotFoundError:
    raise errors.UserError(
      f"{path} does not exist. It lies in the workdir of a training run."
    ) from None
  except Exception as error:  # Pillow raises many kinds.
    raise errors.UserError(f"{path} cannot be read: {error}.") from None


def save_gif(path, frames, milliseconds=80):
  """Writes an animated GIF, which stands still at its end and starts anew.

  Args:
    path: the file.
    frames: list of uint8 [H, W, 3].
    milliseconds: how long a frame is shown; the last one for two seconds.
  """
  first, *others = map(Image.fromarray, frames)
  with replacing(path) as temporary:
    first.save(
      temporary,
      format="GIF",
      save_all=True,
      append_images=others,
      duration=[milliseconds] * len(others) + [2000],
      loop=0,
    )


def grid(images, columns, padding=2):
  """Returns images side by side on white, row by row.

  Args:
    images: uint8 [N, H, W, 3].
    columns: images in a row; the last row may have fewer.
    padding: pixels between the images and around them.

  Returns:
    uint8 [rows * (H + padding) + padding, columns * (W + padding) + padding,
    3].
  """
  images = np.asarray(images)
  count, height, width, channels = images.shape
  rows = math.ceil(count / columns)
  cells = np.full(
    (rows * columns, height + padding, width + padding, channels), 255, np.uint8
  )
  cells[:count, padding:, padding:] = images
  cells = cells.reshape(rows, columns, *cells.shape[1:])
  sheet = np.concatenate(np.concatenate(cells, axis=1), axis=1)
  edges = ((0, padding), (0, padding), (0, 0))
  return np.pad(sheet, edges, constant_values=255)


def contact_sheet(path, rows, scale=2):
  """Writes a labelled picture: a row a kind of image, a column an image.

  Args:
    path: the PNG file.
    rows: dict from a label ('original', 'masked', 'G(z)', 'completed') to
      uint8 [N, H, W, 3]. A row may be shorter than the longest.
    scale: whole number by which the images are enlarged, without smoothing.
  """
  font = ImageFont.load_default(size=8 + 4 * scale)
  margin = 8
  left = 2 * margin + max(math.ceil(font.getlength(label)) for label in rows)
  strips = []
  for label, images in rows.items():
    large = np.repeat(np.repeat(images, scale, axis=1), scale, axis=2)
    strip = Image.fromarray(grid(large, len(large)))
    labelled = Image.new("RGB", (left + strip.width, strip.height), "white")
    labelled.paste(strip, (left, 0))
    ImageDraw.Draw(labelled).text(
      (margin, strip.height / 2), label, "black", font, anchor="lm"
    )
    strips.append(np.asarray(labelled))
  width = max(strip.shape[1] for strip in strips)
  strips = [
    np.pad(
      strip,
      ((0, 0), (0, width - strip.shape[1]), (0, 0)),
      constant_values=255,
    )
    for strip in strips
  ]
  save_png(path, np.concatenate(strips))


def masked_view(images, masks):
  """Returns images with a pale chequer pattern in their holes.

  Args:
    images: uint8 [N, H, W, 3].
    masks: [N, H, W, 1] or [H, W, 1], 1 = known, 0 = hole.

  Returns:
    uint8 [N, H, W, 3].
  """
  images, masks = np.asarray(images), np.asarray(masks)
  row, column = np.indices(images.shape[1:3]) // 4
  pattern = np.where((row + column) % 2, 200, 230)[..., None]
  return np.where(masks > 0.5, images, pattern).astype(np.uint8)


def curves(path, series, title=""):
  """Writes curves over training steps as a PNG file.

  The values are drawn pale; over them, their moving average over a twentieth
  of the points.

  Args:
    path: the PNG file.
    series: dict from a name to (steps, values), two sequences of one length.
      Values that are not finite leave gaps.
    title: text above the plot.
  """
  # Slow to import, and only wanted at the end of a job. Without pyplot there
  # is no window, no backend to choose and nothing global to close.
  from matplotlib import figure

  drawing = figure.Figure(figsize=(8, 4.5), layout="constrained")
  axes = drawing.subplots()
  for number, (name, (steps, values)) in enumerate(series.items()):
    steps, values = np.asarray(steps), np.asarray(values, np.float64)
    color = f"C{number}"
    axes.plot(steps, values, color=color, alpha=0.3, linewidth=0.8)
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    window = np.ones(max(1, len(values) // 20))
    if len(values):
      # Divided by the points under the window, which are fewer at the ends.
      total = np.convolve(values, window, "same")
      values = total / np.convolve(np.ones_like(values), window, "same")
    axes.plot(steps, values, color=color, linewidth=1.6, label=name)
  axes.set(title=title, xlabel="step")
  axes.grid(alpha=0.3)
  if series:
    axes.legend()
  with replacing(path) as temporary:
    drawing.savefig(temporary, format="png", dpi=120)


def table(rows, columns=None):
  """Returns rows as aligned text: words to the left, numbers to the right.

  Args:
    rows: list of dicts from a column's name to a value.
    columns: names in their order; None takes all in order of appearance.

  Returns:
    Lines of text, the header first. What a row lacks is '-'.
  """
  header, cells, numeric = _cells(rows, columns)
  lines = [header, *cells]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(
      cell.rjust(width) if right else cell.ljust(width)
      for cell, width, right in zip(line, widths, numeric, strict=True)
    ).rstrip()
    for line in lines
  )


def _cells(rows, columns):
  """Returns the header, the rows as text, and which columns are numbers."""
  if columns is None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
  numeric = [
    any(isinstance(row.get(name), numbers.Real) for row in rows)
    for name in columns
  ]
  cells = [[_text(row.get(name)) for name in columns] for row in rows]
  return list(columns), cells, numeric


def _text(value):
  """Returns a value as a table shows it: four digits, no exponents."""
  if value is None:
    return "-"
  if isinstance(value, numbers.Real) and not isinstance(
    value, numbers.Integral
  ):
    return f"{value:.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"
  return str(value)


def results(job, config, rows, **extra):
  """Returns rows with all that is needed to repeat the job, as JSON knows it.

  Args:
    job: the job's name.
    config: `ml_collections.ConfigDict` or dict.
    rows: list of dicts of numbers and words. NaN and infinity become None,
      because JSON has no name for them.
    **extra: more entries.
  """
  entries = {
    "job": job,
    "config": config.to_dict() if hasattr(config, "to_dict") else config,
    "versions": _versions(),
    "devices": _devices(),
    "commit": _commit(),
    "command": shlex.join(sys.argv),
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    **extra,
    "rows": rows,
  }
  return plain(entries)


def write_results(workdir, job, config, rows, **extra):
  """Writes `results.json`: the `results` of a job.

  An earlier one is kept as `results.1.json`, `results.2.json` and so on.

  Args:
    workdir: the job's folder.
    job: the job's name.
    config: `ml_collections.ConfigDict` or dict.
    rows: list of dicts of numbers and words.
    **extra: more entries of the file.

  Returns:
    The path of the file.
  """
  path = pathlib.Path(workdir) / "results.json"
  entries = results(job, config, rows, **extra)
  text = json.dumps(entries, indent=2, allow_nan=False) + "\n"
  with replacing(path) as temporary:
    temporary.write_text(text)
    set_aside(path)
  return path


def read_results(path):
  """Returns what `write_results` wrote.

  Args:
    path: the file, or the folder in which `results.json` lies.

  Raises:
    UserError: if there is no such file, or it is no results file.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = path / "results.json"
  try:
    results = json.loads(path.read_text())
  except FileNotFoundError:
    raise errors.UserError(
      f"{path} does not exist. Give the workdir of a job that has finished."
    ) from None
  except (ValueError, RecursionError) as error:
    raise errors.UserError(f"{path} is not valid JSON: {error}.") from None
  if not isinstance(results, dict) or "rows" not in results:
    raise errors.UserError(f"{path} is no results file: it has no 'rows'.")
  return results


def warn_of_differences(results):
  """Warns where an earlier run was not made by what runs here.

  Args:
    results: of `read_results`.
  """
  now = {"commit": _commit(), **_versions()}
  then = {"commit": results.get("commit"), **results.get("versions", {})}
  for name in now:
    if name in then and then[name] != now[name]:
      logging.warning(
        "%s is %s here, and was %s: the result may differ",
        name, now[name], then[name],
      )  # fmt: skip


def plain(value):
  """Returns a value as JSON knows it: arrays as lists, NaN and inf as None.

  Args:
    value: numbers, words, paths, arrays, and dicts and sequences of them.
  """
  if isinstance(value, dict):
    return {str(name): plain(item) for name, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if isinstance(value, pathlib.PurePath):
    return str(value)
  if hasattr(value, "tolist"):  # Arrays and scalars of numpy and JAX.
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _versions():
  """Returns the version of each package that shapes a result."""
  versions = {
    "python": platform.python_version(),
    "dcgan_inpaint": dcgan_inpaint.__version__,
  }
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = None
  return versions


def _devices():
  """Returns the platform, kind and number of all devices of the run."""
  device = jax.devices()[0]
  return {
    "platform": device.platform,
    "kind": device.device_kind,
    "count": jax.device_count(),
    "processes": jax.process_count(),
  }


def _commit():
  """Returns the commit of the package's checkout, or None outside of one.

  '-dirty' follows where files of the commit were changed.
  """
  root = pathlib.Path(dcgan_inpaint.__file__).resolve().parent.parent
  if not (root / ".git").exists():
    return None  # Installed: a repository further up is someone else's.
  command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
  try:
    return subprocess.run(
      [*command, "--exclude=*"],
      cwd=root,
      capture_output=True,
      check=True,
      text=True,
      timeout=10,
    ).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return None  # No git, or no commit yet.
