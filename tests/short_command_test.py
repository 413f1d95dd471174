import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint import sample
from dcgan_inpaint import short_command
from dcgan_inpaint.runtime import errors

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCREEN = 24, 80  # Lines and columns of a terminal.


def run(words, **options):
  """Runs the command in a process of its own."""
  return subprocess.run(
    [sys.executable, "-m", "dcgan_inpaint", *map(str, words)],
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    **options,
  )


@pytest.mark.parametrize(
  "words", [["--help"], ["sample", "--help"], ["serve", "--help"]]
)
def test_the_help_fits_a_screen(capsys, words):
  with pytest.raises(SystemExit) as ended:
    short_command.main(words)
  assert not ended.value.code
  lines = capsys.readouterr().out.splitlines()
  assert 3 < len(lines) < SCREEN[0]
  assert max(map(len, lines)) <= SCREEN[1]


@pytest.mark.slow
def test_the_help_of_run_fits_a_screen():
  result = run(["run", "--help"])
  lines = result.stdout.splitlines()
  assert result.returncode == 0 and "quickstart" in result.stdout
  assert len(lines) < SCREEN[0] and max(map(len, lines)) <= SCREEN[1]


@pytest.mark.parametrize(
  "words, named",
  [
    ([], "images"),
    (["a.png", "b.png"], "output"),
    (["a", "b", "c", "d"], "'d'"),
    (["a", "b", "c", "--foo"], "'--foo'"),
    (["a", "b", "c", "--config.faces"], "--config.faces"),
    (["a", "b", "c", "--samples=x"], "--samples"),
  ],
)
def test_a_wrong_word_is_refused_in_a_line(capsys, words, named):
  with pytest.raises(SystemExit) as ended:
    short_command.main(words)
  assert ended.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ") and named in line


def test_the_command_is_installed():
  text = (ROOT / "setup.py").read_text()
  assert '"dcgan-inpaint = dcgan_inpaint.short_command:main"' in text


def test_the_sample_is_a_photograph_with_its_mask(tmp_path):
  photo, mask = sample.write(str(tmp_path / "new"))
  with Image.open(photo) as image, Image.open(mask) as hole:
    assert image.size == hole.size == (512, 512)
    assert 0.002 < np.asarray(hole).astype(bool).mean() < 0.02
  with pytest.raises(errors.UserError, match="photo.png"):
    sample.write(str(tmp_path / "new"))


@pytest.mark.slow
def test_a_photograph_is_filled_from_any_folder(tmp_path):
  assert run(["sample"], cwd=tmp_path).returncode == 0
  (tmp_path / "photo.png").rename(tmp_path / "my photo, 1.png")
  words = ["my photo, 1.png", "mask.png", "out.png"]
  result = run(words, cwd=tmp_path)
  assert result.returncode == 0, result.stderr
  assert result.stdout == "1 image filled: out.png\n"
  # Nothing else is left behind.
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "mask.png", "my photo, 1.png", "out.png",
  ]  # fmt: skip
  before, after, mask = (
    np.asarray(Image.open(tmp_path / name))
    for name in (words[0], *words[:0:-1])
  )
  hole = mask > 0
  np.testing.assert_array_equal(after[~hole], before[~hole])
  assert np.mean(after[hole] != before[hole]) > 0.5
  again = run(words, cwd=tmp_path)
  assert again.returncode == 2 and "out.png exists" in again.stderr
