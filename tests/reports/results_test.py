import json
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image
import pytest

import dcgan_inpaint
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files


@pytest.fixture
def images():
  shape = (5, 8, 6, 3)
  return np.random.default_rng(0).integers(0, 200, shape, np.uint8)


def read_png(path):
  with Image.open(path) as image:
    assert image.format == "PNG"
    return np.asarray(image)


def test_a_folder_is_made_and_left_empty(tmp_path):
  for _ in range(2):
    files.make_folder(tmp_path / "new" / "folder", "--workdir")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, name):
  (tmp_path / "file").write_text("taken")
  with pytest.raises(errors.UserError, match="--workdir=.*file.* cannot be wr"):
    files.make_folder(tmp_path / name, "--workdir")


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
  def refuse(**_):
    raise PermissionError(13, "Permission denied")

  # The superuser may write everywhere, and tests may run as one.
  monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
  with pytest.raises(errors.UserError, match=r"\(Permission denied\)"):
    files.make_folder(tmp_path, "--workdir")


@pytest.mark.parametrize("shape", [(8, 6, 3), (8, 6)])
def test_a_png_comes_back_to_the_bit(tmp_path, shape):
  image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  path = tmp_path / "new" / "folder" / "image.png"
  pictures.save_png(path, image)
  np.testing.assert_array_equal(read_png(path), image)
  assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / "file.txt"
  path.write_text("old")
  with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
    temporary.write_text("ne")
    raise KeyboardInterrupt
  assert path.read_text() == "old"
  assert list(tmp_path.iterdir()) == [path]


def test_set_aside_takes_the_first_free_number(tmp_path):
  path = tmp_path / "a.json"
  assert files.set_aside(path) is None
  for content in ("first", "second"):
    path.write_text(content)
    files.set_aside(path)
  assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
    "a.1.json": "first",
    "a.2.json": "second",
  }


@pytest.mark.parametrize("padding", [0, 2, 3])
def test_a_grid_holds_each_image_at_its_place(images, padding):
  sheet = pictures.grid(images, columns=3, padding=padding)
  assert sheet.dtype == np.uint8
  assert sheet.shape == (2 * (8 + padding) + padding, 18 + 4 * padding, 3)
  covered = np.zeros(sheet.shape[:2], bool)
  for i, image in enumerate(images):
    top = padding + (i // 3) * (8 + padding)
    left = padding + (i % 3) * (6 + padding)
    np.testing.assert_array_equal(sheet[top : top + 8, left : left + 6], image)
    covered[top : top + 8, left : left + 6] = True
  assert (sheet[~covered] == 255).all()


def test_a_contact_sheet_has_a_labelled_row_per_kind(tmp_path, images):
  path = tmp_path / "contact_sheet.png"
  rows = {"original": images, "G(z), the longest label": images[:2]}
  pictures.contact_sheet(path, rows, scale=3)
  sheet = read_png(path)
  large = images.repeat(3, axis=1).repeat(3, axis=2)
  strip = pictures.grid(large, columns=5)
  height, width = strip.shape[:2]
  assert sheet.shape[0] == 2 * height
  np.testing.assert_array_equal(sheet[:height, -width:], strip)
  short = pictures.grid(large[:2], columns=2)
  left = sheet.shape[1] - width
  second = sheet[height:, left:]
  np.testing.assert_array_equal(second[:, : short.shape[1]], short)
  assert (second[:, short.shape[1] :] == 255).all()
  # Both labels are written, the longer one wider, and neither is cut off.
  extents = [
    np.flatnonzero((label < 128).any(axis=(0, 2)))
    for label in (sheet[:height, :left], sheet[height:, :left])
  ]
  assert 0 < len(extents[0]) < len(extents[1])
  assert all(e[0] > 0 and e[-1] < left - 1 for e in extents)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("shared", [True, False])
def test_the_masked_view_changes_the_hole_alone(images, kind, shared):
  mask = np.ones((8, 6, 1), np.float32)
  mask[2:5, 1:4] = 0
  masks = mask if shared else np.stack([mask] * 5)
  view = pictures.masked_view(images, kind(masks))
  assert view.dtype == np.uint8
  known = mask[..., 0] == 1
  np.testing.assert_array_equal(view[:, known], images[:, known])
  assert (view[:, ~known] >= 200).all()  # Brighter than all of these images.


def test_curves_are_drawn_without_pyplot(tmp_path):
  """Also with gaps and with nothing to draw."""
  script = (
    "import sys\n"
    "from dcgan_inpaint import report\n"
    "values = [1.0, float('nan'), 3.0, float('inf'), 2.0]\n"
    "series = {'d_loss': (range(5), values), 'none': ([], [])}\n"
    "report.curves(sys.argv[1], series, 'losses')\n"
    "report.curves(sys.argv[2], {})\n"
    "assert 'matplotlib.pyplot' not in sys.modules\n"
  )
  paths = [tmp_path / "curves.png", tmp_path / "empty.png"]
  subprocess.run(
    [sys.executable, "-W", "error::UserWarning", "-c", script, *paths],
    check=True,
    cwd=pathlib.Path(dcgan_inpaint.__file__).parent.parent,
  )
  drawn, empty = (read_png(path)[..., :3] for path in paths)
  orange, blue = (255, 127, 14), (31, 119, 180)  # Matplotlib's C1 and C0.
  assert (drawn == blue).all(axis=-1).sum() > 100
  assert not (empty == blue).all(axis=-1).any()
  assert (drawn == orange).all(axis=-1).any()  # The legend's line.


ROWS = [
  {"method": "dcgan", "n": 2595, "mse": np.float32(269.7261), "ssim": 0.85519},
  {"method": "mean", "n": 2595, "mse": 12345.67, "images_per_second": 8.0},
]


def test_a_table_is_aligned():
  assert results.table(ROWS) == (
    "method     n    mse    ssim  images_per_second\n"
    "dcgan   2595  269.7  0.8552                  -\n"
    "mean    2595  12346       -                  8"
  )


def test_a_table_shows_the_columns_asked_for():
  assert results.table(ROWS, ["mse", "method"]).splitlines() == [
    "  mse  method",
    "269.7  dcgan",
    "12346  mean",
  ]
  assert results.table([], ["mse", "method"]) == "mse  method"


def test_results_come_back_with_all_that_made_them(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["main.py", "--config=a b.py"])
  config = ml_collections.ConfigDict({"mask": {"size": 32, "sides": ("left",)}})
  path = results.write(tmp_path, "evaluate", config, ROWS, seconds=1.5)
  assert path == tmp_path / "results.json"
  saved = results.read(tmp_path)
  assert saved == results.read(path)
  assert saved["job"] == "evaluate"
  assert saved["config"] == {"mask": {"size": 32, "sides": ["left"]}}
  assert saved["seconds"] == 1.5
  assert saved["rows"][0]["mse"] == pytest.approx(269.7261)
  assert saved["rows"][0]["n"] == 2595
  assert saved["command"] == "main.py '--config=a b.py'"
  assert saved["versions"]["python"] == platform.python_version()
  assert saved["versions"]["jax"] == jax.__version__
  assert saved["versions"]["scikit-image"]
  assert saved["devices"]["platform"] == jax.default_backend()
  assert saved["devices"]["count"] == jax.device_count()


def test_what_differs_from_an_earlier_run_is_said(tmp_path, caplog):
  results.write(tmp_path, "evaluate", {}, ROWS)
  saved = results.read(tmp_path)
  results.warn_of_differences(saved)
  assert not caplog.records
  saved["versions"] |= {"jax": "0.1", "numpy": "1.0"}
  saved["commit"] = "abc"
  results.warn_of_differences(saved)
  assert [record.args[0] for record in caplog.records] == [
    "commit",
    "jax",
    "numpy",
  ]
  assert f"jax is {jax.__version__} here, and was 0.1" in caplog.text


@pytest.mark.parametrize(
  ("value", "expected"),
  [
    (float("nan"), None),
    (np.float32("inf"), None),
    (jnp.float32(0.5), 0.5),
    (np.array([1.0, -np.inf]), [1.0, None]),
    ({"a": (np.int64(1), True, "x", None)}, {"a": [1, True, "x", None]}),
    (pathlib.PurePosixPath("a/b"), "a/b"),
  ],
)
def test_results_are_valid_json(tmp_path, value, expected):
  path = results.write(tmp_path, "train", {}, [{"value": value}])

  def refuse(name):
    raise AssertionError(f"{name} is not JSON")

  saved = json.loads(path.read_text(), parse_constant=refuse)
  assert saved["rows"] == [{"value": expected}]


def test_earlier_results_are_kept(tmp_path):
  for mse in (1, 2, 3):
    results.write(tmp_path, "evaluate", {}, [{"mse": mse}])
  names = ["results.1.json", "results.2.json", "results.json"]
  assert sorted(path.name for path in tmp_path.iterdir()) == names
  for name, mse in zip(names, (1, 2, 3), strict=True):
    assert results.read(tmp_path / name)["rows"] == [{"mse": mse}]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (None, "does not exist"),
    ('{"rows": [', "not valid JSON"),
    ("[1, 2]", "no 'rows'"),
  ],
)
def test_a_wrong_results_file_is_refused_by_name(tmp_path, content, message):
  if content is not None:
    (tmp_path / "results.json").write_text(content)
  with pytest.raises(errors.UserError, match=message) as error:
    results.read(tmp_path)
  assert str(tmp_path / "results.json") in str(error.value)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
  def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", *identity, *arguments]
    return subprocess.run(
      command, cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.strip()

  module = tmp_path / "dcgan_inpaint" / "__init__.py"
  module.parent.mkdir()
  module.write_text("")
  monkeypatch.setattr(dcgan_inpaint, "__file__", str(module))
  assert results._commit() is None  # No checkout.
  git("init")
  assert results._commit() is None  # No commit.
  git("add", ".")
  git("-c", "commit.gpgsign=false", "commit", "-m", "first")
  git("tag", "v1")
  assert results._commit() == git("rev-parse", "HEAD")
  module.write_text("changed")
  assert results._commit() == git("rev-parse", "HEAD") + "-dirty"
