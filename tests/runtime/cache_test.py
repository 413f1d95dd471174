import io
import subprocess
import sys

import numpy as np
import pytest

from dcgan_inpaint.runtime import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "FOLDER", str(tmp_path / "arrays"))
  return tmp_path / "arrays"


class Maker:
  """Makes an array of its number, and counts how often."""

  def __init__(self, number=3):
    self.number, self.calls = number, 0

  def __call__(self):
    self.calls += 1
    return np.full((2, 5), self.number, np.uint8)


def test_what_is_kept_is_not_made_again():
  make = Maker()
  first, second = (cache.array(make, [cache, np], "a", 1) for _ in range(2))
  np.testing.assert_array_equal(first, np.full((2, 5), 3))
  np.testing.assert_array_equal(second, first)
  assert second.dtype == np.uint8
  assert make.calls == 1


def test_other_arguments_or_modules_are_another_array():
  make = Maker()
  for modules, arguments in [
    ([cache], (1,)),
    ([cache], ("1",)),
    ([cache, np], (1,)),
    ([cache], (1, None)),
  ]:
    cache.array(make, modules, *arguments)
  assert make.calls == 4


def test_another_source_or_version_is_another_array(tmp_path):
  make = Maker()

  class Module:
    __file__ = str(tmp_path / "module.py")

  source = tmp_path / "module.py"
  for text in ("a = 1", "a = 2"):
    source.write_text(text)
    cache.array(make, [Module])
  for version in ("1.0", "1.1"):
    Module.__version__ = version
    cache.array(make, [Module])
  assert make.calls == 4


def npz():
  packed = io.BytesIO()
  np.savez(packed, np.ones(3))
  return packed.getvalue()


def huge():
  """An array whose header says that it has 728 TB."""
  stored = io.BytesIO()
  np.save(stored, np.ones(3, np.uint8))
  return stored.getvalue().replace(
    b"(3,), }" + b" " * 14, b"(728000000000000,), }"
  )


@pytest.mark.parametrize(
  "damage", [b"", b"\x93NUMPY\x01", b"no array", None, npz(), huge()]
)
def test_a_damaged_file_is_made_again(folder, damage):
  make = Maker()
  cache.array(make, [cache])
  (path,) = folder.iterdir()
  whole = path.read_bytes()
  path.write_bytes(whole[:-1] if damage is None else damage)
  np.testing.assert_array_equal(cache.array(make, [cache]), make())
  assert path.read_bytes() == whole


def test_any_changed_bit_is_noticed(folder):
  make = Maker()
  cache.array(make, [cache])
  (path,) = folder.iterdir()
  whole = path.read_bytes()
  for place in range(len(whole)):
    content = bytearray(whole)
    content[place] ^= 4
    path.write_bytes(content)
    np.testing.assert_array_equal(cache.array(make, [cache]), make())
    assert path.read_bytes() == whole


def test_what_is_kept_is_an_array_of_numpy(folder):
  cache.array(Maker(), [cache])
  (path,) = folder.iterdir()
  np.testing.assert_array_equal(np.load(path, allow_pickle=False), Maker()())


def test_where_nothing_can_be_kept_it_is_made(folder):
  folder.write_text("a file in the place of the folder")
  assert cache.array(Maker(), [cache]).shape == (2, 5)


# Twice the same program, once damaged on disk.
HEAL = """
import pathlib, sys
import jax
from dcgan_inpaint.runtime import cache

folder = pathlib.Path(sys.argv[1])
jax.config.update("jax_compilation_cache_dir", str(folder))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
cache.heal_programs(folder)

def heal_me(x):
  return x * 2 + 1

print(jax.jit(heal_me)(3.0))
"""


@pytest.mark.slow
def test_a_damaged_program_is_removed_once(tmp_path):
  def run():
    done = subprocess.run(
      [sys.executable, "-c", HEAL, str(tmp_path)],
      capture_output=True,
      text=True,
      check=True,
    )
    assert done.stdout.split() == ["7.0"]
    return done.stderr

  def entries():
    return [
      path
      for path in tmp_path.glob("jit_heal_me-*")
      if not path.name.endswith("atime")
    ]

  assert "damaged" not in run()
  (entry,) = entries()
  whole = entry.read_bytes()
  entry.write_bytes(whole[: len(whole) // 2])
  said = run()
  assert said.count("a damaged program is removed") == 1
  assert "Error reading" not in said
  (entry,) = entries()
  assert len(entry.read_bytes()) > len(whole) // 2
  assert "damaged" not in run()
