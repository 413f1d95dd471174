"""Coverage-guided fuzzing of everything that reads untrusted files.

  python tests/system/fuzzing.py image [FLAGS OF LIBFUZZER] [FOLDER]

feeds one of `READERS`, or several separated by commas, with mutations of its
corpus, `corpus/NAME`, until it violates the contract of all readers: for any
bytes, a reader returns what its docstring says, or raises `errors.UserError`
with a message of one printable line. A crash of the interpreter, a hang and
memory beyond the limit are violations, too. FOLDER gets the inputs that reach
new branches.

Atheris (libFuzzer) traces the branches of this package, of Pillow's and NumPy's
Python code and of `zipfile`; Pillow's decoders in C are run, but not traced.

The readers import modules when they are first called, so that Atheris can
instrument them.
"""

import pathlib
import sys
import tempfile
import zlib

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"

_EMPTY_NPZ = b"PK\5\6" + bytes(18)  # A zip without members.
_FLAGS = (
  "-max_len=4096",
  # Limits: seconds per input, and MiB of the process.
  "-timeout=20",
  "-rss_limit_mb=4096",
)


def _image(content: bytes, scratch: pathlib.Path) -> None:
  import numpy as np

  from dcgan_inpaint.data import folder
  from dcgan_inpaint.photographs import image_files
  from dcgan_inpaint.photographs import picture as picture_lib

  _write(scratch / "images" / "a.png", content)
  loaded = folder.load(str(scratch / "images"), "all", 64)
  assert loaded.images.shape == (1, 64, 64, 3)
  assert loaded.images.dtype == np.uint8 and loaded.names == ["a.png"]
  # What the job `inpaint` does with it.
  picture = image_files.read(content)
  seen = picture_lib.rgb(picture)
  height, width = picture.values.shape[:2]
  assert seen.dtype == np.uint8 and seen.shape == (height, width, 3)
  hole = np.zeros((height, width), bool)
  hole[1:4, 1:4] = True
  filled = picture_lib.filled(picture, seen, hole)
  image_files.save(scratch / "done.png", filled)
  again = image_files.read((scratch / "done.png").read_bytes())
  np.testing.assert_array_equal(
    picture_lib.rgb(again)[~hole], picture_lib.rgb(picture)[~hole]
  )


def _mask(content: bytes, scratch: pathlib.Path) -> None:
  import numpy as np

  from dcgan_inpaint.masks import mask_sets
  from dcgan_inpaint.masks import mask_settings

  # Chosen by the content, so that an input always does the same.
  choice = zlib.crc32(content)
  settings = mask_settings.MaskSettings(
    "file",
    path=str(_write(scratch / "mask.png", content)),
    file_polarity=("white_is_hole", "white_is_known")[choice % 2],
  )
  height, width = ((64, 64), (48, 30))[choice // 2 % 2]
  (mask,) = mask_sets.make(settings, [0], height, width)
  assert mask.shape == (height, width, 1) and mask.dtype == np.float32
  assert set(np.unique(mask)) <= {0, 1} and not mask.all()


def _zip(content: bytes, scratch: pathlib.Path) -> None:
  from dcgan_inpaint.data import folder

  path = _write(scratch / "images.zip", content)
  files = folder.list_files(str(path))
  places = {(scratch / "out" / file.name).resolve() for file in files}
  assert len(places) == len(files)
  inside = (scratch / "out").resolve()
  assert all(place.is_relative_to(inside) for place in places)
  folder.load(str(path), "all", 64)


def _partition(content: bytes, scratch: pathlib.Path) -> None:
  from dcgan_inpaint.data import celeba_sources

  path = _write(scratch / "partition.txt", content)
  rows = list(celeba_sources.read_partition(path))
  assert len({name for name, _ in rows}) == len(rows)
  assert all(split in (0, 1, 2) for _, split in rows)


def _model_weights(content: bytes, scratch: pathlib.Path) -> None:
  from dcgan_inpaint import pretrained

  _write(scratch / "model" / "weights.npz", content)
  _write(scratch / "model" / "model.json", b'{"format": 1}')
  arrays, _ = pretrained.read(scratch / "model")
  assert isinstance(arrays, dict)


def _model_about(content: bytes, scratch: pathlib.Path) -> None:
  from dcgan_inpaint import pretrained

  _write(scratch / "model" / "weights.npz", _EMPTY_NPZ)
  _write(scratch / "model" / "model.json", content)
  _, about = pretrained.read(scratch / "model")
  assert about["format"] in range(1, pretrained.FORMAT + 1)


def _benchmark_part(content: bytes, scratch: pathlib.Path) -> None:
  from dcgan_inpaint.jobs import benchmark_parts

  path = _write(scratch / "part.npz", content)
  part = benchmark_parts.read(path, "0123", 1)
  assert part is None or len(part.pictures) == 1


def _metrics(content: bytes, scratch: pathlib.Path) -> None:
  from dcgan_inpaint.training import metric_writer

  rows = metric_writer.read(_write(scratch / "metrics.jsonl", content))
  assert all("step" in row for row in rows)


def _results(content: bytes, scratch: pathlib.Path) -> None:
  from dcgan_inpaint.reports import results

  path = _write(scratch / "results.json", content)
  assert "rows" in results.read(path)


READERS = {
  "image": _image,
  "mask": _mask,
  "zip": _zip,
  "partition": _partition,
  "model_weights": _model_weights,
  "model_about": _model_about,
  "benchmark_part": _benchmark_part,
  "metrics": _metrics,
  "results": _results,
}


def check(name: str, content: bytes, scratch: pathlib.Path) -> None:
  """Raises an error if a reader violates its contract.

  Args:
    name: one of `READERS`.
    content: of the file to read.
    scratch: a folder for that file.
  """
  from dcgan_inpaint.runtime import errors

  try:
    READERS[name](content, scratch)
  except errors.UserError as error:
    assert str(error).isprintable(), repr(str(error))


def _write(path: pathlib.Path, content: bytes) -> pathlib.Path:
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(content)
  return path


def main(argv: list[str]) -> None:
  """Fuzzes one reader; does not return."""
  import atheris

  names, *flags = argv[1:]
  names = names.split(",")
  scratch = pathlib.Path(tempfile.mkdtemp())
  with atheris.instrument_imports(
    include=["dcgan_inpaint", "PIL", "zipfile", "numpy.lib"]
  ):
    from PIL import Image

    from dcgan_inpaint.data import decoding

    Image.init()  # All plug-ins, which otherwise are imported when needed.
    # Bombs are refused as usual, and allowed images do not take seconds.
    decoding.MAX_SIDE = 1 << 9
    for name in names:
      for seed in (CORPUS / name).iterdir():
        check(name, seed.read_bytes(), scratch)

  def check_all(content):
    for name in names:
      check(name, content, scratch)

  # libFuzzer writes new inputs into the first folder.
  if all(flag.startswith("-") for flag in flags):
    (scratch / "found").mkdir()
    flags.append(str(scratch / "found"))
  folders = [str(CORPUS / name) for name in names]
  atheris.Setup([argv[0], *_FLAGS, *flags, *folders], check_all)
  atheris.Fuzz()


if __name__ == "__main__":
  main(sys.argv)
