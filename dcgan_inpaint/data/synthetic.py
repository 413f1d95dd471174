"""Cartoon faces drawn by numpy: the data set that needs no download.

A face is a function of its seed alone. Its traits are correlated as they are in
photographs: hair and eyes with the skin, the brows with the hair, the shading
with the light, and every feature moves with the head. So a model that has
learned faces can infer most of a central hole from its surroundings; the mouth
and the gaze stay partly open. Smooth interpolation fails, since eyes, brows,
nose and mouth all lie in the hole.

Lengths are given for faces of 64x64 pixels. At other sizes the same face is
drawn, finer or coarser.
"""

from collections.abc import Sequence
import functools
import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from dcgan_inpaint import pixels
from dcgan_inpaint.runtime import cache
from dcgan_inpaint.runtime import errors

# Side of the faces that the lengths here are given for.
UNITS = 64
DEFAULT_SIZES = {"train": 4096, "validation": 256, "test": 256, "all": 4608}

# Pixels drawn at once: 0.8 MB of colours, which stay in the cache.
_CHUNK = 16 * UNITS**2
_ROLLS = 40  # Random numbers a face may use.

# This many take a second to draw, and are cached for the next run.
_FEWEST_TO_CACHE = 1024

# Scales of colours, dark to light, so that one number can lead to the next.
_SKIN = ((104, 66, 48), (158, 108, 78), (214, 162, 124), (248, 212, 184))
_HAIR = ((34, 27, 30), (92, 54, 36), (186, 98, 46), (238, 200, 124))
_EYES = ((62, 38, 26), (112, 72, 36), (82, 124, 72), (70, 132, 186))
_WHITE, _BLACK, _GUMS = (
  np.array(c, np.float32).reshape(3, 1, 1)
  for c in ((248, 247, 244), (16, 14, 18), (96, 26, 34))
)


def load(
  split: str,
  count: int = 0,
  seed: int = 0,
  image_size: int = UNITS,
  channels: int = 3,
) -> np.ndarray:
  """Returns the first `count` faces of a split.

  Args:
    split: 'train', 'validation', 'test', or 'all', which is these three in
      this order at their default sizes.
    count: number of faces; 0 is `DEFAULT_SIZES[split]`. Every split but 'all'
      is endless.
    seed: of 32 bits; each seed is a data set of its own.
    image_size: side of the images, pixels.
    channels: 3 (RGB) or 1 (grey).

  Returns:
    uint8 array [count, S, S, C]. No two splits or seeds share a face, except
    for 'all'.

  Raises:
    errors.UserError: for an unknown split, more faces than 'all' has, or a seed
      of more than 32 bits.
  """
  if split not in DEFAULT_SIZES:
    raise errors.UserError(
      f"the synthetic faces have no split {split!r}: choose one of "
      f"{', '.join(DEFAULT_SIZES)}"
    )
  if not 0 <= seed < 2**32:
    raise errors.UserError(
      f"config.data.seed={seed}: choose 0 to {2**32 - 1} for the synthetic "
      "faces"
    )
  count = count or DEFAULT_SIZES[split]
  if split == "all":
    if count > DEFAULT_SIZES["all"]:
      raise errors.UserError(
        f"split 'all' of the synthetic faces has {DEFAULT_SIZES['all']} "
        f"images, not {count}: choose fewer, or split 'train'"
      )
    parts = [
      _split_seeds(part, DEFAULT_SIZES[part], seed)
      for part in ("train", "validation", "test")
    ]
    seeds = np.concatenate(parts)[:count]
  else:
    seeds = _split_seeds(split, count, seed)
  if count < _FEWEST_TO_CACHE:
    images = draw(seeds, image_size)
  else:
    images = cache.array(
      lambda: draw(seeds, image_size),
      [sys.modules[__name__], np],
      seeds.tolist(),
      image_size,
    )
  return images if channels == 3 else pixels.to_grey(images)


def _split_seeds(split: str, count: int, seed: int) -> np.ndarray:
  """Returns the seeds of a split's faces: int64 [count]."""
  number = list(DEFAULT_SIZES).index(split)
  first = (seed * len(DEFAULT_SIZES) + number) << 28
  return first + np.arange(count, dtype=np.int64)


def draw(seeds: npt.ArrayLike, image_size: int = UNITS) -> np.ndarray:
  """Returns one face for each seed.

  Args:
    seeds: non-negative integers [N].
    image_size: side of the images, pixels.

  Returns:
    uint8 array [N, S, S, 3]. A face depends on its own seed and the size alone.
  """
  seeds = np.asarray(seeds, np.int64)
  images = np.empty((len(seeds), image_size, image_size, 3), np.uint8)
  at_once = max(1, _CHUNK // image_size**2)
  for start in range(0, len(seeds), at_once):
    chunk = slice(start, start + at_once)
    images[chunk] = _paint(_traits(seeds[chunk]), image_size)
  return images


def _traits(seeds: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the traits of each face, float32 [N] or [N, 3], by name.

  Lengths are units from the middle of the face, x to the right and y down;
  angles are radians; colours are 0 to 255.
  """
  rolls = iter(
    np.stack([np.random.default_rng(int(s)).random(_ROLLS) for s in seeds], 1)
  )

  def between(low: float, high: float) -> np.ndarray:
    return (low + (high - low) * next(rolls)).astype(np.float32)

  t = {}
  # Pose: the whole head moves, so the outline tells where the features are.
  t["shift_x"] = between(-0.6, 0.6)
  t["shift_y"] = between(-0.4, 0.4)
  t["tilt"] = between(-0.03, 0.03)
  t["light"] = between(-1, 1)  # -1 falls from the left, 1 from the right.

  # Colour: fair skin has the widest range of hair, light hair of light eyes.
  fairness = between(0, 1)
  hair = np.clip(between(0.1, 1.2) * (0.2 + 0.8 * fairness), 0, 1)
  t["skin"] = _along(_SKIN, fairness)
  t["hair"] = _along(_HAIR, hair)
  t["iris"] = _along(_EYES, np.clip(1.2 * hair + between(-0.1, 0.1), 0, 1))
  t["lips"] = t["skin"] * np.array([0.82, 0.42, 0.44], np.float32)
  t["shirt"] = _hue(between(0.3, 0.8), 120, 60)
  hue = between(0.45, 0.75)
  t["sky"] = _hue(hue, 195, 40)
  t["ground"] = _hue(hue + between(0, 0.1), 165, 40)

  # Shape: how wide and long the head is, how pointed, and its hair.
  wide = between(-1, 1)
  t["width"] = 18 + 1.2 * wide
  t["height"] = between(20, 22.5)
  t["jaw"] = between(0.1, 0.35)
  t["volume"] = between(2, 4.5)  # Of the hair over the skull.
  t["length"] = between(4, 34)  # How far down the hair falls.
  t["fringe"] = between(-13, -11)
  t["parting"] = between(-6, 6)
  t["sweep"] = between(0.004, 0.014)

  # Features: their sizes follow the head's; gaze and mouth are free.
  t["eye_x"] = 8.2 + 0.4 * wide
  t["eye_y"] = between(-2.2, -1.8)
  t["eye_width"] = 5 + 0.2 * wide
  t["eye_height"] = between(3.6, 4.6)
  t["iris_size"] = between(2.9, 3.3)
  t["gaze"] = between(-0.7, 0.7)
  t["brow_gap"] = between(2.2, 2.8)
  t["brow_slant"] = between(-0.06, 0.1)
  t["brow_size"] = between(0.8, 1.3)
  t["nose_y"] = between(3.5, 4.5)
  t["nose_size"] = 2.4 + 0.4 * wide
  t["mouth_y"] = 0.45 * t["height"] - 0.3
  t["mouth_width"] = 7 + 0.4 * wide + between(-0.7, 0.7)
  smile = between(0, 1)
  t["smile"] = 0.2 + 1.9 * smile
  t["mouth_open"] = 3.6 * np.maximum(0, smile - 0.25)
  t["blush"] = 0.3 * fairness
  return t


def _paint(traits: dict[str, np.ndarray], image_size: int) -> np.ndarray:
  """Returns the faces that `traits` describe, uint8 [N, S, S, 3].

  Layers are painted from back to front. Edges are antialiased by the signed
  distance to them, in pixels.
  """
  scale = image_size / UNITS
  # Channels come before rows and columns: numpy is slow over a last axis of 3.
  t = {
    name: value.reshape(len(value), -1, 1, 1) for name, value in traits.items()
  }
  axis = np.arange(image_size, dtype=np.float32) - (image_size - 1) / 2
  axis /= scale
  row, column = axis[:, None], axis[None, :]
  x0, y0 = column - t["shift_x"], row - t["shift_y"]
  cos, sin = np.cos(t["tilt"]), np.sin(t["tilt"])
  x, y = cos * x0 + sin * y0, cos * y0 - sin * x0
  turned = t["light"] * x / t["width"]

  image = t["sky"] + (row / UNITS + 0.5) * (t["ground"] - t["sky"])
  image = np.repeat(image, image_size, axis=3)
  paint = np.empty_like(image)  # One buffer for all layers.

  def part(top: int, bottom: int) -> tuple[Any, ...]:
    """Returns what is needed to paint a part of the face, of its rows.

    Returns:
      A function that paints in place where all of the given distances are
      negative, then x, y, |x| (faces are symmetric) and the light.
    """
    rows = _rows(top, bottom, scale)
    canvas, buffer = image[rows], paint[rows]

    def lay(
      colour: np.ndarray, *distances: np.ndarray, opacity: Any = 1
    ) -> None:
      distance = functools.reduce(np.maximum, distances)
      cover = np.clip(0.5 - scale * distance, 0, 1)
      np.subtract(colour, canvas, out=buffer)
      np.multiply(buffer, opacity * cover, out=buffer)
      np.add(canvas, buffer, out=canvas)

    return lay, x[rows], y[rows], np.abs(x[rows]), turned[rows]

  def skin(y: np.ndarray, turned: np.ndarray) -> np.ndarray:
    return t["skin"] * (1 + 0.16 * turned - 0.05 * y / t["height"])

  # Behind the head: long hair, neck and shoulders.
  over, top = t["width"] + t["volume"], t["height"] + t["volume"]
  lay, x_, y_, *_ = part(0, UNITS)
  falling = _ellipse(x_, np.minimum(y_ + 1, 0), over, top)
  lay(0.75 * t["hair"], falling, y_ - t["length"])
  lay, _, y_, side, _ = part(36, UNITS)
  lay(0.8 * t["skin"], side - 7, 8 - y_)
  lay, *_ = part(52, UNITS)
  shoulders = _ellipse(column - 0.5 * t["shift_x"], row - 36, 27, 13)
  lay(t["shirt"], shoulders[_rows(52, UNITS, scale)])

  # The head, lit from one side.
  lay, _, y_, side, light = part(24, 41)
  lay(0.88 * skin(y_, light), _ellipse(side - t["width"], y_ - 1, 2.5, 4))
  lay, x_, y_, _, light = part(6, 58)
  taper = 1 - t["jaw"] * np.clip(y_ / t["height"], 0, 1) ** 2
  lay(skin(y_, light), _ellipse(x_ / taper, y_, t["width"], t["height"]))
  lay, _, y_, side, _ = part(29, 47)
  cheek = 0.3 * _ellipse(side - 10, y_ - 6, 5, 4)
  lay(t["lips"], cheek, opacity=t["blush"])

  # The nose and its shadow, which falls away from the light.
  lay, x_, y_, _, light = part(27, 43)
  nose_x, nose_y, size = x_ + t["light"], y_ - t["nose_y"], t["nose_size"]
  colour = skin(y_, light)
  lay(0.75 * colour, _ellipse(nose_x, nose_y, size, 0.8 * size))
  lay(1.06 * colour, _ellipse(x_, nose_y + 1, size, 0.8 * size))

  # Mouth: two parabolas that meet in its corners, teeth under the upper one.
  lay, x_, y_, side, _ = part(35, 51)
  across = 1 - (x_ / t["mouth_width"]) ** 2
  upper = t["mouth_y"] + t["smile"] * across - y_
  lower = y_ - t["mouth_y"] - (t["smile"] + t["mouth_open"]) * across
  ends = side - t["mouth_width"]
  lay(t["lips"], upper - 1, lower - 1, ends)
  lay(_GUMS, upper, lower, ends)
  lay(_WHITE, upper, lower, ends, -upper - 1.8)

  # Eyes: a lid, a white, an iris with its pupil, and a glint.
  lay, x_, y_, side, _ = part(20, 38)
  eye_x, eye_y = side - t["eye_x"], y_ - t["eye_y"]
  width, height = t["eye_width"], t["eye_height"]
  white = _ellipse(eye_x, eye_y, width, height)
  lay(0.35 * t["hair"], _ellipse(eye_x, eye_y + 0.8, width + 0.4, height + 0.4))
  lay(_WHITE, white)
  look = eye_x - np.sign(x_) * t["gaze"]  # Both eyes look the same way.
  lay(t["iris"], _ellipse(look, eye_y, t["iris_size"], t["iris_size"]), white)
  lay(_BLACK, _ellipse(look, eye_y, 1.5, 1.5))
  lay(_WHITE, _ellipse(look + np.sign(x_), eye_y + 1.2, 0.9, 0.9))

  # Brows, then the hair over the forehead, brighter where the light falls.
  lay, _, y_, side, _ = part(17, 31)
  eye_x, eye_y = side - t["eye_x"], y_ - t["eye_y"]
  brow_y = eye_y + t["eye_height"] + t["brow_gap"]
  arch = np.abs(brow_y - t["brow_slant"] * eye_x - 0.05 * eye_x**2)
  lay(0.6 * t["hair"], arch - t["brow_size"], np.abs(eye_x) - t["eye_width"])
  lay, x_, y_, _, light = part(0, 38)
  gleam = _ellipse(x_ - 7 * t["light"], y_ + 19, 16, 7)
  hair = t["hair"] * (0.95 + 0.12 * light + 0.03 * np.clip(-gleam, 0, 5))
  line = t["fringe"] + t["sweep"] * (x_ - t["parting"]) ** 2
  cap = _ellipse(x_, y_ + 1, over, top)
  lay(hair, cap, y_ - line)
  lay(0.7 * hair, cap, y_ - line, np.abs(x_ - t["parting"]) - 0.2)

  image = np.moveaxis(image, 1, -1)
  return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _rows(top: int, bottom: int, scale: float) -> tuple[Any, ...]:
  """Returns an index of the rows in which a part of any face lies.

  Painting these alone saves two thirds of the time.

  Args:
    top: the first row of a face of `UNITS`.
    bottom: the one after the last.
    scale: pixels of a unit.
  """
  rows = slice(math.floor(scale * top), math.ceil(scale * bottom))
  return ..., rows, slice(None)


def _ellipse(x: Any, y: Any, a: Any, b: Any) -> np.ndarray:
  """Returns approximately the signed distance to an ellipse, negative inside.

  Args:
    x: from its centre, an array or a number, as all of these.
    y: from its centre.
    a: its half axis along x.
    b: its half axis along y.
  """
  return (np.sqrt((x / a) ** 2 + (y / b) ** 2) - 1) * np.minimum(a, b)


def _along(
  colours: Sequence[Sequence[int]], position: np.ndarray
) -> np.ndarray:
  """Returns colours [N, 3] on a scale of them, at positions in [0, 1]."""
  stops = np.linspace(0, 1, len(colours))
  channels = [np.interp(position, stops, c) for c in np.transpose(colours)]
  return np.stack(channels, axis=-1).astype(np.float32)


def _hue(hue: np.ndarray, level: float, swing: float) -> np.ndarray:
  """Returns colours [N, 3] around the colour circle, hue in turns."""
  thirds = np.array([0, 1 / 3, 2 / 3], np.float32)
  angle = 2 * np.pi * (hue[:, None] + thirds)
  return (level + swing * np.cos(angle)).astype(np.float32)
