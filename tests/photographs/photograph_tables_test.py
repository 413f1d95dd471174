"""docs/photograph_tables.py: damaged photographs, and how they are filled."""

import importlib.util
import pathlib
import shutil

import numpy as np
from PIL import Image
import pytest
from skimage import data

from dcgan_inpaint.reports import pictures
from dcgan_inpaint.search import spline

ROOT = pathlib.Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location(
  "photograph_tables", ROOT / "docs" / "photograph_tables.py"
)
assert _spec and _spec.loader
tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tables)


@pytest.mark.parametrize("kind", tables.KINDS)
def test_every_kind_of_damage_is_drawn_over_the_face(kind):
  hole = np.asarray(tables.draw(kind, np.random.default_rng(0))) > 127
  assert hole.shape == (4 * 218, 4 * 178)
  assert 0.005 < hole.mean() < 0.4
  # Thin kinds are as thin as their name says.
  if kind in tables.STROKES:
    _, thickness = spline.pieces(hole)
    assert thickness.max() < 4 * 2 * tables.STROKES[kind]


@pytest.mark.slow
def test_a_table_of_what_was_filled(tmp_path):
  face = Image.fromarray(data.astronaut()[20:238, 130:308])
  for number in range(2):
    pictures.save_png(tmp_path / "in" / f"{number}.png", np.asarray(face))
  tables.make(str(tmp_path / "in"), tmp_path, 2)
  names = sorted(path.name for path in (tmp_path / "masks").iterdir())
  assert names == ["000_mouth.png", "001_eye.png"]
  truth, photo, mask = (
    np.asarray(Image.open(tmp_path / folder / names[0]))
    for folder in ("truth", "photos", "masks")
  )
  np.testing.assert_array_equal(photo[mask == 0], truth[mask == 0])
  assert (photo[mask > 0] == 255).all() and 0 < (mask > 0).mean() < 0.1
  # The first comes back off by 10 levels, the second is missing.
  off = np.where(truth > 127, truth - np.uint8(10), truth + np.uint8(10))
  pictures.save_png(tmp_path / "completed" / names[0], off)
  text = tables.table(tmp_path)
  ours = [row for row in text.splitlines() if row.startswith("| dcgan-")]
  expected = 20 * np.log10(255 / 10)
  assert ours[0].split(" | ")[1] == f"{expected:.1f}"
  assert "1 of 2" in text
  # What exists is not made again.
  shutil.rmtree(tmp_path / "in")
  pictures.save_png(tmp_path / "in" / "0.png", np.asarray(face))
  before = (tmp_path / "truth" / names[0]).stat().st_mtime_ns
  tables.make(str(tmp_path / "in"), tmp_path, 1)
  assert (tmp_path / "truth" / names[0]).stat().st_mtime_ns == before
