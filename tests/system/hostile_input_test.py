"""Files that are made to do harm; `fuzzing_test` has random ones.

Zips with paths outside, decompression bombs and truncated files are tested in
`data/folder_test`, `data/decoding_test` and `inpaint_bad_input_test`.
"""

import ast
import io
import json
import os
import pathlib
import pickle
import struct
import time
import tracemalloc
import warnings
import zipfile

import image_files
import jax
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import pretrained
from dcgan_inpaint.data import celeba_sources
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import folder
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import benchmark_parts
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import trained_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = sorted(
  path
  for place in ("dcgan_inpaint", "configs", "launch", "docs")
  for path in (ROOT / place).rglob("*.py")
)

# --- pickles ------------------------------------------------------------------

# Modules and calls that can run code from a file.
PICKLES = {
  "pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve",
}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__"}


def unpickles(source):
  """Yields what in a module's source might run code from a file."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names = {alias.name.partition(".")[0] for alias in node.names}
      yield from names & PICKLES
    elif isinstance(node, ast.ImportFrom):
      yield from {(node.module or "").partition(".")[0]} & PICKLES
    elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
      if not (isinstance(node.value, ast.Constant) and not node.value.value):
        yield "allow_pickle"
    elif isinstance(node, ast.Call):
      called = ast.unparse(node.func)
      if called in CALLS or called in ("yaml.load", "torch.load"):
        yield called
      # Explicit at every call, whatever NumPy's default becomes.
      keywords = {keyword.arg for keyword in node.keywords}
      if called in ("np.load", "numpy.load") and "allow_pickle" not in keywords:
        yield called


@pytest.mark.parametrize(
  "path", SOURCES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_nothing_is_unpickled(path):
  assert not list(unpickles(path.read_text()))


@pytest.mark.parametrize(
  "source",
  [
    "import pickle",
    "from joblib import load",
    "import dill.session as x",
    "np.load(f)",
    "np.load(f, allow_pickle=True)",
    "np.load(f, allow_pickle=flag)",
    "eval(text)",
  ],
)
def test_the_search_for_pickles_finds_them(source):
  assert list(unpickles(source))


class Harmful:
  """An object whose unpickling creates a folder."""

  def __init__(self, path):
    self._path = str(path)

  def __reduce__(self):
    return os.mkdir, (self._path,)


@pytest.fixture
def harmful(tmp_path):
  """Bytes of an .npz with a pickle in it, and the folder it would create."""
  path = tmp_path / "harm"
  file = io.BytesIO()
  np.savez(file, digest=np.array([Harmful(path)], dtype=object), x=np.ones(1))
  pickle.loads(pickle.dumps(Harmful(path)))
  path.rmdir()  # It is harmful.
  return file.getvalue(), path


def test_a_model_with_a_pickle_is_refused_and_not_run(tmp_path, harmful):
  content, harm = harmful
  (tmp_path / "weights.npz").write_bytes(content)
  (tmp_path / "model.json").write_text('{"format": 1}')
  with pytest.raises(errors.UserError, match="allow_pickle") as refused:
    pretrained.read(tmp_path)
  assert str(tmp_path) in str(refused.value)
  assert not harm.exists()


def test_a_part_with_a_pickle_is_made_anew_and_not_run(
  tmp_path, harmful, caplog
):
  content, harm = harmful
  (tmp_path / "part.npz").write_bytes(content)
  assert benchmark_parts.read(tmp_path / "part.npz", "0", 1) is None
  assert "allow_pickle" in caplog.text and not harm.exists()


# --- models -------------------------------------------------------------------

SPY = """
import pathlib
from dcgan_inpaint.networks import losses

pathlib.Path(__file__).with_suffix(".ran").touch()

def loss():
  return losses.get("hinge")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """Returns the folder of a small model, as `export` writes it."""
  config = tiny.train_config()
  generator, discriminator = tiny.networks()
  weights = jax.device_get(tiny.weights(generator, discriminator))
  folder = tmp_path_factory.mktemp("model")
  about = {"config": config.to_dict(), "step": 3, "encoder": None}
  arrays = {
    "weights": trained_model.as_arrays(weights),
    "mean_image": np.zeros((64, 64, 3), np.uint8),
  }
  pretrained.write(folder, arrays, json.loads(json.dumps(about)))
  return folder


def load(folder, **fields):
  settings = config_lib.checkpoint()
  settings.path = str(folder)
  settings.update(fields)
  return trained_model.load(settings, tiny.mesh(1))


def changed(model, folder, change):
  """Writes a copy of a model, with its model.json changed."""
  about = json.loads((model / "model.json").read_text())
  change(about)
  (folder / "model.json").write_text(json.dumps(about))
  (folder / "weights.npz").write_bytes((model / "weights.npz").read_bytes())
  return folder


def test_a_models_file_names_no_code_to_run(model, tmp_path, monkeypatch):
  (tmp_path / "spy.py").write_text(SPY)
  monkeypatch.syspath_prepend(tmp_path)
  folder = changed(
    model,
    tmp_path,
    lambda about: about["config"]["train"].update(loss="spy:loss"),
  )
  with pytest.raises(errors.UserError, match="checkpoint.loss=spy:loss"):
    load(folder)
  assert not (tmp_path / "spy.ran").exists()
  # The user may name it.
  assert load(folder, loss="spy:loss").step == 3
  assert (tmp_path / "spy.ran").exists()


@pytest.mark.parametrize(
  "change",
  [
    lambda about: about.pop("config"),
    lambda about: about["config"].pop("model"),
    lambda about: about["config"]["model"].update(width="wide"),
    lambda about: about["config"]["model"].update(width=0.1),
    lambda about: about["config"]["model"].update(latent_size=-1),
    lambda about: about.update(encoder={"width": 1.0}),
    lambda about: about.update(config=[1]),
  ],
)
def test_a_model_that_does_not_fit_its_description_is_refused(
  model, tmp_path, change
):
  with pytest.raises(errors.UserError) as refused:
    load(changed(model, tmp_path, change))
  assert str(tmp_path) in str(refused.value)


def kernel(weights, network="generator"):
  """Returns the name of a large array of a network."""
  names = [x for x in weights if x.startswith(f"weights/{network}/params")]
  return max(names, key=lambda name: weights[name].size)


@pytest.mark.parametrize(
  "change",
  [
    lambda x: x.astype(np.int32),
    lambda x: x.astype(np.float64),
    lambda x: x.astype(complex),
    lambda x: x.astype("U4"),
    lambda x: x[..., :-1],
    lambda x: x[None],
    lambda x: np.full_like(x, np.nan),
    lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.inf, x),
    lambda x: None,
  ],
)
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_model_that_cannot_be_searched_is_refused(
  model, tmp_path, change, network
):
  weights = dict(np.load(model / "weights.npz", allow_pickle=False))
  name = kernel(weights, network)
  array = change(weights.pop(name))
  if array is not None:
    weights[name] = array
  np.savez(tmp_path / "weights.npz", **weights)
  about = json.loads((model / "model.json").read_text())
  del about["weights_sha256"]
  (tmp_path / "model.json").write_text(json.dumps(about))
  with pytest.raises(errors.UserError) as refused:
    load(tmp_path)
  assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("step", ["\x1b[2J", None, 3.5, [1], True])
def test_a_model_whose_step_is_no_number_is_refused(model, tmp_path, step):
  with pytest.raises(errors.UserError) as refused:
    load(changed(model, tmp_path, lambda about: about.update(step=step)))
  assert str(refused.value).isprintable()


@pytest.mark.slow
def test_a_model_that_unpacks_to_much_is_not_unpacked(tmp_path):
  path = tmp_path / "weights.npz"
  np.savez_compressed(path, x=np.zeros(1 << 28, np.uint8))
  assert path.stat().st_size < 1 << 20
  (tmp_path / "model.json").write_text('{"format": 1}')
  assert peak_of(lambda: refused_model(tmp_path)) < 1 << 24


def test_an_array_that_says_it_is_huge_is_not_allocated(tmp_path):
  array = io.BytesIO()
  np.save(array, np.ones(4))
  content = array.getvalue().replace(b"(4,)", b"(99999999999,)")
  # The header keeps its length: spaces fill it up.
  content = content.replace(b" " * 10, b"", 1)
  assert len(content) == len(array.getvalue())
  with zipfile.ZipFile(tmp_path / "weights.npz", "w") as archive:
    archive.writestr("weights/generator/x.npy", content)
  (tmp_path / "model.json").write_text('{"format": 1}')
  assert peak_of(lambda: refused_model(tmp_path)) < 1 << 24


def refused_model(folder):
  with pytest.raises(errors.UserError, match=str(folder)):
    pretrained.read(folder)


def peak_of(call):
  """Returns the bytes that a call allocates at the most."""
  tracemalloc.start()
  try:
    call()
    return tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()


def test_the_unchanged_model_is_read(model):
  assert load(model).step == 3


# --- zips ---------------------------------------------------------------------


FACE = image_files.encode(synthetic.load("test", 1)[0])


def write_zip(path, members, compression=zipfile.ZIP_STORED):
  with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
    warnings.simplefilter("ignore")  # About duplicate names.
    for name, content in members:
      archive.writestr(name, content, compression)
  return str(path)


@pytest.mark.parametrize(
  "names, fault",
  [
    (["a.png", "a.png"], r"'a\.png' .*twice"),
    (["a.png", "./a.png"], r"'\./a\.png' .*twice"),
    (["b/a.png", "b\\a.png"], r"a\.png' .*twice"),
    (["a.png", "b/../../c.png"], r"'b/\.\./\.\./c\.png' .*out of"),
    (["/a.png"], r"'/a\.png' .*out of"),
    (["a\x1b[2J.png"], "control characters"),
    (["a\nb.png"], "control characters"),
    ([f"{'a' * 250}.png"], "200 bytes"),
  ],
)
def test_a_zip_whose_names_harm_is_refused(tmp_path, names, fault):
  path = write_zip(tmp_path / "a.zip", [(name, FACE) for name in names])
  with pytest.raises(errors.UserError, match=fault) as refused:
    folder.list_files(path)
  assert path in str(refused.value) and str(refused.value).isprintable()


def test_names_that_only_look_odd_are_taken(tmp_path):
  names = [
    "at 12:30.png",
    "a..b.png",
    "写真\u30001.png",
    "a/b.png",
    "a/c.png",
    "a.b/c.png",
  ]
  path = write_zip(tmp_path / "a.zip", [(name, FACE) for name in names])
  assert sorted(file.name for file in folder.list_files(path)) == sorted(names)


def test_members_that_share_their_bytes_are_refused(tmp_path):
  path = tmp_path / "overlapping.zip"
  write_zip(path, [("a.png", FACE), ("b.png", FACE)])
  content = bytearray(path.read_bytes())
  # The second entry of the directory points to the first one's file.
  second = content.rindex(b"PK\1\2")
  struct.pack_into("<I", content, second + 42, 0)
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match="overlap"):
    folder.list_files(str(path))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_packs_too_well_is_refused(tmp_path, compression):
  path = write_zip(tmp_path / "a.zip", [("a.png", FACE)], compression)
  with pytest.raises(errors.UserError, match="deflate"):
    folder.list_files(path)


@pytest.mark.parametrize("honest", [True, False])
def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch, honest):
  monkeypatch.setattr(folder, "_MAX_BYTES", 1 << 20)
  path = tmp_path / "bomb.zip"
  size = 64 << 20
  write_zip(path, [("a.bmp", bytes(size))], zipfile.ZIP_DEFLATED)
  if not honest:  # Header and directory claim that it is small.
    small, large = struct.pack("<I", 1 << 10), struct.pack("<I", size)
    path.write_bytes(path.read_bytes().replace(large, small))
  assert path.stat().st_size < 1 << 20
  tracemalloc.start()
  try:
    with pytest.raises(errors.UserError, match="1 of 1 "):
      folder.load(str(path), "all", 64)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < size / 8


def test_what_is_called_an_image_starts_no_program(tmp_path, monkeypatch):
  # Pillow would pass PostScript to Ghostscript, whatever the file's name is.
  path = tmp_path / "a.png"
  path.write_bytes(image_files.encode(synthetic.load("test", 1)[0], "eps"))
  with pytest.raises(errors.UserError, match="BMP, GIF, JPEG"):
    folder.load(str(path), "all", 64)


# --- pixels and folders -------------------------------------------------------


def decoded(path):
  """Reads a folder of one image, which is refused."""
  with pytest.raises(errors.UserError, match="1 of 1 "):
    folder.load(str(path), "all", 64)


@pytest.mark.parametrize(
  "size, kind",
  [
    ((13_300, 13_300), "png"),
    ((8, 8_100_000), "png"),
    ((70_000, 8), "tiff"),
    ((60_000, 1_100), "gif"),
  ],
)
def test_pixels_are_counted_before_they_are_decoded(tmp_path, size, kind):
  bomb = image_files.encode(Image.new("1", size), kind)
  (tmp_path / f"a.{kind}").write_bytes(bomb)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Pillow's own.
    assert peak_of(lambda: decoded(tmp_path)) < 8 * len(bomb) + (1 << 22)
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} pixels"):
      decoding.image_size(bomb)


def test_as_many_pixels_are_decoded_at_a_time_as_one_image_may_have(
  monkeypatch,
):
  image = image_files.encode(Image.new("RGB", (500, 400)))
  held, most = [], []
  open_rgb = decoding.open_rgb

  def watched(*arguments):
    held.append(1)
    most.append(len(held))
    time.sleep(0.01)
    held.pop()
    return open_rgb(*arguments)

  monkeypatch.setattr(decoding, "open_rgb", watched)
  monkeypatch.setattr(decoding, "MAX_MEGAPIXELS", 0.5)
  monkeypatch.setattr(decoding, "_CHUNK", 1)
  monkeypatch.setattr(os, "cpu_count", lambda: 8)
  images, failures = decoding.decode_all(lambda i: image, 24, 64)
  assert len(images) == 24 and not failures
  assert max(most) == 2


def test_a_large_sparse_file_is_not_read(tmp_path):
  with (tmp_path / "a.png").open("wb") as file:
    file.truncate(1 << 33)
  assert peak_of(lambda: decoded(tmp_path)) < 1 << 20


def test_a_folder_of_what_is_no_file_hangs_nothing(tmp_path):
  (tmp_path / "face.png").write_bytes(FACE)
  os.mkfifo(tmp_path / "fifo.png")
  (tmp_path / "folder.png").mkdir()
  for name, target in {
    "zero.png": "/dev/zero",
    "tty.jpg": "/dev/tty",
    "stdin.png": "/dev/stdin",
    "kmsg.png": "/proc/kmsg",
    "kcore.png": "/proc/kcore",
    "self.png": "/proc/self/mem",
    "loop.png": "loop.png",
    "up": "..",
  }.items():
    (tmp_path / name).symlink_to(target)
  # Whatever of these are files, none of them is an image.
  found = {file.name: file for file in folder.list_files(str(tmp_path))}
  assert "face.png" in found
  for name in set(found) - {"face.png"}:
    with pytest.raises((ValueError, OSError)):
      decoding.open_rgb(found[name].read())
  data.digest_files(tmp_path)


def test_a_name_with_a_line_break_is_an_image_like_others(tmp_path):
  (tmp_path / "a\nb.png").write_bytes(FACE)
  assert folder.load(str(tmp_path), "all", 64).names == ["a\nb.png"]


# --- partitions and names -----------------------------------------------------


@pytest.mark.parametrize(
  "content, message",
  [
    (b"a.jpg 0\na.jpg 2\n", "line 2: 'a.jpg'"),
    (b"\xff\xfe\n", "line 1: .*0, 1 or 2"),
    (b"a.jpg " + b"9" * 10**6, "line 1: .*0, 1 or 2"),
  ],
)
def test_a_partition_that_cannot_be_is_refused(tmp_path, content, message):
  path = tmp_path / "list_eval_partition.txt"
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match=message) as refused:
    list(celeba_sources.read_partition(path))
  assert path.name in str(refused.value) and len(str(refused.value)) < 500


def test_a_file_whose_name_is_no_text_is_an_image_like_others(tmp_path):
  name = b"caf\xe9.png"  # Latin-1, from an old disk.
  with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
    file.write(FACE)
  splits = {
    split
    for split in ("train", "validation", "test")
    for _ in _listed(tmp_path, split)
  }
  assert len(splits) == 1
  loaded = folder.load(str(tmp_path), "all", 64)
  assert os.fsencode(loaded.names[0]) == name


def _listed(path, split):
  try:
    return folder.list_split(str(path), split)
  except errors.UserError:
    return []


def test_the_readme_says_that_configs_are_code():
  text = " ".join((ROOT / "README.md").read_text().split())
  sentences = [x for x in text.split(". ") if "config" in x and "trust" in x]
  assert any("Python" in sentence for sentence in sentences)
