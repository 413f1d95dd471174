import json
import pathlib
import platform
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import dcgan_inpaint
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors

ROWS = [
  {"method": "dcgan", "n": 2595, "mse": np.float32(269.7261), "ssim": 0.85519},
  {"method": "mean", "n": 2595, "mse": 12345.67, "images_per_second": 8.0},
]


def test_a_table_holds_each_value_to_four_digits():
  header, *lines = (line.split() for line in results.table(ROWS).splitlines())
  assert header == ["method", "n", "mse", "ssim", "images_per_second"]
  # A missing value is a dash; thousands have no decimals.
  assert lines == [
    ["dcgan", "2595", "269.7", "0.8552", "-"],
    ["mean", "2595", "12346", "-", "8"],
  ]


@pytest.mark.parametrize("columns", [None, ["mse", "method"]])
def test_a_table_aligns_words_to_the_left_and_numbers_to_the_right(columns):
  header, *lines = results.table(ROWS, columns).splitlines()
  shown = header.split()
  assert shown == (columns or list(ROWS[0]) + ["images_per_second"])
  first = header.index("method")
  assert {
    line.index(line.split()[shown.index("method")]) for line in lines
  } == {first}
  last = header.index("mse") + len("mse")
  for line in lines:
    number = line.split()[shown.index("mse")]
    assert line[:last].endswith(number)
    assert line == line.rstrip()


def test_a_table_of_no_rows_is_its_header():
  assert results.table([], ["mse", "method"]).split() == ["mse", "method"]


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


def test_what_differs_from_an_earlier_run_is_named(tmp_path, caplog):
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
  (jax_line,) = [x for x in caplog.messages if "jax" in x]
  assert jax.__version__ in jax_line and "0.1" in jax_line


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


@pytest.mark.parametrize("content", [None, '{"rows": [', "[1, 2]", '{"a": 1}'])
def test_a_wrong_results_file_is_refused_by_name(tmp_path, content):
  path = tmp_path / "results.json"
  if content is not None:
    path.write_text(content)
  for given in (tmp_path, path):
    with pytest.raises(errors.UserError) as refused:
      results.read(given)
    assert str(path) in str(refused.value)


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
