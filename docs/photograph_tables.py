"""Damages photographs of faces, fills them, and prints how well.

  python docs/photograph_tables.py ORIGINALS DIR           # prints the table
  python docs/photograph_tables.py ORIGINALS DIR --write   # into the page, too

ORIGINALS is a folder or a zip of CelebA's aligned images of 178x218 (the first
`--count` of them, 80 by default). Each is turned, enlarged and laid into a
larger canvas, so that nothing takes it for an aligned face; gets one of the
kinds of damage; and is filled by `dcgan-inpaint` as it is installed. DIR gets
photos/, masks/, truth/ and completed/; what is there is not made again. Beside
it stand three methods that know no faces. PSNR is of the hole's pixels.
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys

import numpy as np
from PIL import Image
from PIL import ImageDraw
from skimage import restoration
from skimage import transform

from dcgan_inpaint import pixels
from dcgan_inpaint import short_command
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder
from dcgan_inpaint.methods import telea
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import files
from dcgan_inpaint.search import spline

PAGE = pathlib.Path(__file__).with_name("photographs.md")
BEGIN = "<!-- made by docs/photograph_tables.py -->"
END = "<!-- end of what is made -->"
WIDTH, HEIGHT = decoding.ALIGNED_SIZE
# Boxes (left, upper, right, lower) of an aligned image, in its pixels.
ELLIPSES = {
  "mouth": (64, 140, 113, 168),
  "eye": (56, 104, 83, 121),
  "nose": (74, 116, 103, 145),
  "beside": (-12, 30, 24, 80),
}
RECTANGLES = {"eyes": (52, 100, 125, 124), "half": (0, 60, 89, 185)}
# Widths of strokes, in pixels of an aligned image.
STROKES = {"scratches": 2, "strokes": 7}
KINDS = (*ELLIPSES, *RECTANGLES, *STROKES, "text")
METHODS = ("dcgan-inpaint", "Telea", "biharmonic", "harmonic")


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("originals")
  parser.add_argument("directory", type=pathlib.Path)
  parser.add_argument("--count", type=int, default=80)
  parser.add_argument("--write", action="store_true")
  given = parser.parse_args(argv)
  make(given.originals, given.directory, given.count)
  places = [str(given.directory / x) for x in ("photos", "masks", "completed")]
  try:
    short_command.main(places)
  except SystemExit as ended:
    if ended.code:
      raise
  text = table(given.directory)
  print(text)
  if given.write:
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    made = f"{before}{BEGIN}\n{text}\n{END}{after}"
    with files.replacing(PAGE) as temporary:
      temporary.write_text(made)


def make(originals: str, directory: pathlib.Path, count: int) -> None:
  """Makes photographs, masks and what is true under them."""
  for number, file in enumerate(
    folder.list_files(originals, "ORIGINALS")[:count]
  ):
    kind = KINDS[number % len(KINDS)]
    name = f"{number:03d}_{kind}.png"
    if (directory / "masks" / name).exists():
      continue
    rng = np.random.default_rng(number)
    image = np.asarray(decoding.open_rgb(file.read()))
    scale, angle = rng.uniform(1.2, 3), np.deg2rad(rng.uniform(-12, 12))
    shape = tuple(int(1.35 * scale * side) for side in (HEIGHT, WIDTH))
    # From the aligned image to the canvas: about their centres.
    to_canvas = (
      transform.SimilarityTransform(translation=(-WIDTH / 2, -HEIGHT / 2))
      + transform.SimilarityTransform(scale=scale, rotation=angle)
      + transform.SimilarityTransform(translation=(shape[1] / 2, shape[0] / 2))
    )
    photo = transform.warp(
      image, to_canvas.inverse, output_shape=shape, order=3, mode="reflect"
    )
    truth = np.uint8(np.round(255 * np.clip(photo, 0, 1)))
    drawn = np.asarray(draw(kind, rng), np.float32) / 255
    fine = transform.SimilarityTransform(scale=1 / 4) + to_canvas
    hole = transform.warp(drawn, fine.inverse, output_shape=shape) > 0.5
    white = np.where(hole[..., None], np.uint8(255), truth)
    pictures.save_png(directory / "truth" / name, truth)
    pictures.save_png(directory / "photos" / name, white)
    pictures.save_png(directory / "masks" / name, np.uint8(255 * hole))


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
  """Returns a hole over an aligned image, white, at four times its size."""
  mask = Image.new("L", (4 * WIDTH, 4 * HEIGHT))
  pen = ImageDraw.Draw(mask)
  if kind in ELLIPSES:
    pen.ellipse([4 * x for x in ELLIPSES[kind]], fill=255)
  elif kind in RECTANGLES:
    pen.rectangle([4 * x for x in RECTANGLES[kind]], fill=255)
  elif kind in STROKES:
    for _ in range(4):
      ends = 4 * rng.uniform((30, 60), (148, 185), (2, 2))
      pen.line([tuple(end) for end in ends], 255, 4 * STROKES[kind])
  else:
    for row in (100, 140):
      pen.text((4 * 20, 4 * row), "WATERMARK 26", fill=255, font_size=80)
  return mask


def table(directory: pathlib.Path) -> str:
  """Returns the Markdown table of what was filled."""
  scores: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
  completed = 0
  for path in sorted((directory / "truth").glob("*.png")):
    truth, mask = (
      np.asarray(Image.open(directory / x / path.name))
      for x in ("truth", "masks")
    )
    result = directory / "completed" / path.name
    completed += result.exists()
    ours = np.asarray(Image.open(result)) if result.exists() else truth * 0
    hole = mask > 127
    found = [ours, *classical(truth, hole)]
    scores[path.stem.split("_")[1]].append(
      [psnr(x, truth, hole) for x in found]
    )
  count = sum(map(len, scores.values()))
  means = {k: np.mean(rows, axis=0) for k, rows in scores.items() if rows}
  means["all"] = np.mean(sum(scores.values(), []), axis=0)
  lines = [f"| PSNR in the hole, dB | {' | '.join(means)} |"]
  lines.append("|---" * (1 + len(means)) + "|")
  for i, method in enumerate(METHODS):
    row = " | ".join(f"{mean[i]:.1f}" for mean in means.values())
    lines.append(f"| {method} | {row} |")
  return "\n".join([*lines, "", f"{completed} of {count} were completed."])


def classical(truth: np.ndarray, hole: np.ndarray) -> list[np.ndarray]:
  """Returns what `METHODS` but the first fill a hole with, uint8 each."""
  image = np.asarray(pixels.to_float(truth))
  known = (~hole).astype(np.float32)[..., None]
  marched = telea.complete(image[None], known[None])[0]
  blank = np.where(hole[..., None], 0, image / 2 + 0.5)
  smooth = restoration.inpaint_biharmonic(
    blank, hole, split_into_regions=True, channel_axis=-1
  )
  flat = spline.extend(image, hole, spline.Energy(membrane=1))
  filled = (marched, 2 * smooth - 1, flat)
  return [pixels.to_uint8(np.clip(x, -1, 1)) for x in filled]


def psnr(result: np.ndarray, truth: np.ndarray, hole: np.ndarray) -> float:
  """Returns the PSNR of uint8 images in the hole, dB."""
  error = (np.float64(result) - truth)[hole]
  return float(10 * np.log10(255**2 / max(1e-9, np.mean(error**2))))


if __name__ == "__main__":
  sys.exit(main())
