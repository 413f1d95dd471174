import os
import pathlib
import subprocess
import sys

import fuzzing
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
  "path",
  sorted(path for path in fuzzing.CORPUS.rglob("*") if path.is_file()),
  ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_readers_keep_their_promise_over_the_corpus(tmp_path, path):
  fuzzing.check(path.parent.name, path.read_bytes(), tmp_path)


def test_every_reader_has_a_corpus():
  folders = {path.name for path in fuzzing.CORPUS.iterdir()}
  assert folders == set(fuzzing.READERS)


def test_a_broken_promise_is_found(tmp_path, monkeypatch):
  def careless(content, scratch):
    content.decode("ascii")

  monkeypatch.setitem(fuzzing.READERS, "results", careless)
  fuzzing.check("results", b"fine", tmp_path)
  with pytest.raises(UnicodeDecodeError):
    fuzzing.check("results", b"\xff", tmp_path)


@pytest.mark.slow
def test_a_short_run_of_the_fuzzer_finds_nothing(tmp_path):
  pytest.importorskip("atheris", reason="needs the fuzzer Atheris")
  ended = subprocess.run(
    [
      *(sys.executable, ROOT / "tests" / "system" / "fuzzing.py"),
      *("image,mask,zip,partition", "-max_total_time=3", "-seed=1"),
      f"-artifact_prefix={tmp_path}/",
    ],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert ended.returncode == 0, ended.stderr[-3000:]
  assert "Done " in ended.stderr
