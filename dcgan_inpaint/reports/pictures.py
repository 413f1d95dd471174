"""Pictures and curves that a job writes.

Files appear whole or not at all. Of several processes that would write the same
file, only process 0 calls these functions.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import math
import os

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
  """Writes a PNG file.

  Args:
    path: the file.
    image: uint8 [H, W, 3], or [H, W] or [H, W, 1] for grey.
  """
  with files.replacing(path) as temporary:
    to_image(image).save(temporary, format="PNG")


def to_image(image: np.ndarray) -> Image.Image:
  """Returns a Pillow image, of mode RGB or L.

  Args:
    image: uint8 [H, W, 3], or [H, W] or [H, W, 1] for grey.
  """
  image = np.asarray(image)
  return Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)


def load_png(path: str | os.PathLike[str]) -> np.ndarray:
  """Reads what `save_png` wrote.

  Args:
    path: the file.

  Returns:
    uint8 [H, W, 3], or [H, W] for grey.

  Raises:
    errors.UserError: there is no such file, or it is not a picture.
  """
  try:
    with Image.open(path, formats=["PNG"]) as image:
      return np.asarray(image)
  except FileNotFoundError:
    raise errors.UserError(
      f"{path} does not exist: it lies in the workdir of a training run"
    ) from None
  except Exception as error:  # Pillow raises many kinds.
    raise errors.UserError(f"{path} cannot be read ({error})") from None


def save_gif(
  path: str | os.PathLike[str],
  frames: Sequence[np.ndarray],
  milliseconds: int = 80,
) -> None:
  """Writes an animated GIF, which repeats after a pause at its end.

  Args:
    path: the file.
    frames: uint8 [H, W, 3] or [H, W, 1] each.
    milliseconds: duration of a frame; the last one is shown for two seconds.
  """
  first, *others = map(to_image, frames)
  with files.replacing(path) as temporary:
    first.save(
      temporary,
      format="GIF",
      save_all=True,
      append_images=others,
      duration=[milliseconds] * len(others) + [2000],
      loop=0,
    )


def grid(
  images: np.ndarray | Sequence[np.ndarray], columns: int, padding: int = 2
) -> np.ndarray:
  """Returns images side by side on white, row by row.

  Args:
    images: uint8 [N, H, W, C].
    columns: images in a row; the last row may have fewer.
    padding: pixels between the images and around them.

  Returns:
    uint8 [rows * (H + padding) + padding, columns * (W + padding) + padding,
    C].
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


def contact_sheet(
  path: str | os.PathLike[str], rows: Mapping[str, np.ndarray], scale: int = 0
) -> None:
  """Writes a labelled picture: a row per kind of image, a column per image.

  Args:
    path: the PNG file.
    rows: {label: uint8 [N, H, W, C]}, for labels such as 'original', 'masked',
      'G(z)' and 'completed'. Rows may have different lengths.
    scale: whole number by which the images are enlarged, without smoothing; 0 =
      so that they have about 128 rows, as 2 for 64x64.
  """
  if not scale:
    height = next(iter(rows.values())).shape[1]
    scale = min(4, max(1, 128 // height))
  font = ImageFont.load_default(size=8 + 4 * scale)
  margin = 8
  left = 2 * margin + max(math.ceil(font.getlength(label)) for label in rows)
  strips = []
  for label, images in rows.items():
    large = np.repeat(np.repeat(images, scale, axis=1), scale, axis=2)
    strip = to_image(grid(large, len(large)))
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


def masked_view(images: npt.ArrayLike, masks: npt.ArrayLike) -> np.ndarray:
  """Returns images with a pale chequered pattern in their holes.

  Args:
    images: uint8 [N, H, W, C].
    masks: [N, H, W, 1] or [H, W, 1], 1 = known, 0 = hole.

  Returns:
    uint8 [N, H, W, C].
  """
  images, masks = np.asarray(images), np.asarray(masks)
  row, column = np.indices(images.shape[1:3]) // 4
  pattern = np.where((row + column) % 2, 200, 230)[..., None]
  return np.where(masks > 0.5, images, pattern).astype(np.uint8)


def curves(
  path: str | os.PathLike[str],
  series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
  title: str = "",
) -> None:
  """Writes curves over training steps as a PNG file.

  The values are drawn pale, and their moving average over a twentieth of the
  points on top.

  Args:
    path: the PNG file.
    series: {name: (steps, values)}, two sequences of one length. Values that
      are not finite leave gaps.
    title: text above the plot.
  """
  # Imported here, since it is slow and needed at the end of a job only. Without
  # pyplot there is no window, no backend to choose and no global state.
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
  with files.replacing(path) as temporary:
    drawing.savefig(temporary, format="png", dpi=120)
