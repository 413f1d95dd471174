"""The wheel and the sdist: their contents, and that they work on their own."""

import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from configs import quickstart

pytest.importorskip("setuptools")

ROOT = pathlib.Path(__file__).resolve().parents[2]
_NOT_SOURCE = shutil.ignore_patterns(
  ".git", ".venv*", "__pycache__", "*.egg-info", "build", "dist", "runs"
)


def run(*words, cwd, path):
  """Runs Python; returns what it printed."""
  ended = subprocess.run(
    [sys.executable, *map(str, words)],
    cwd=cwd,
    env={"PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu", "PATH": ""},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stdout + ended.stderr
  return ended.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
  """Returns the sdist, unpacked."""
  folder = tmp_path_factory.mktemp("sdist")
  shutil.copytree(ROOT, folder / "checkout", ignore=_NOT_SOURCE)
  build = "from setuptools import build_meta as b; b.build_sdist('..')"
  run("-c", build, cwd=folder / "checkout", path="")
  (archive,) = folder.glob("*.tar.gz")
  with tarfile.open(archive) as file:
    file.extractall(folder, filter="data")
  return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def installed(sdist, tmp_path_factory):
  """Returns a folder with the installed wheel, built from the sdist."""
  folder = tmp_path_factory.mktemp("wheel")
  build = (
    f"from setuptools import build_meta as b; b.build_wheel({str(folder)!r})"
  )
  run("-c", build, cwd=sdist, path="")
  (wheel,) = folder.glob("*.whl")
  with zipfile.ZipFile(wheel) as file:
    file.extractall(folder / "site")
  return folder / "site"


@pytest.mark.slow
def test_the_wheel_has_the_package_and_its_configs(installed):
  def files(folder):
    return {
      path.relative_to(folder)
      for path in folder.rglob("*")
      if path.is_file() and "__pycache__" not in path.parts
    }

  assert {path.name.partition("-")[0] for path in installed.iterdir()} == {
    "dcgan_inpaint"
  }
  configs = {"configs" / path for path in files(ROOT / "configs")}
  source = files(ROOT / "dcgan_inpaint")
  assert files(installed / "dcgan_inpaint") == source | configs


@pytest.mark.slow
def test_the_wheel_runs_a_config_by_its_name_in_an_empty_folder(
  installed, tmp_path
):
  module = ["-m", "dcgan_inpaint.main"]
  shown = run(
    *module, "--config=quickstart", "--help", cwd=tmp_path, path=installed
  )
  steps = quickstart.get_config().train.steps
  assert f"--config.train.steps={steps}\n" in shown
  where = "import dcgan_inpaint.configs.quickstart as q; print(q.__file__)"
  file = run("-P", "-c", where, cwd=tmp_path, path=installed).strip()
  assert pathlib.Path(file).is_relative_to(installed)


@pytest.mark.slow
def test_the_sdist_tests_itself(sdist):
  shown = run(
    "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/config_test.py",
    cwd=sdist, path=sdist,
  )  # fmt: skip
  assert " passed" in shown and "failed" not in shown
  for folder in ("configs", "docs", "launch", "requirements", "tests/system"):
    there = {x.name for x in (sdist / folder).iterdir() if x.is_file()}
    assert there == {x.name for x in (ROOT / folder).iterdir() if x.is_file()}
