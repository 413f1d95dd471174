"""The command `dcgan-inpaint`: fills holes in photographs, in a line.

It is the job `inpaint` with the fields that most people want, without a
workdir: what it would hold besides the results is not kept. `dcgan-inpaint run`
is `dcgan_inpaint.main`, for every job and field.
"""

import argparse
from collections.abc import Sequence
import importlib.util
import signal
import sys
import tempfile
from typing import NoReturn

_USAGE = "dcgan-inpaint IMAGES MASKS OUTPUT [options]"
_DESCRIPTION = """\
Fills the holes in photographs, with the model of the package.

  dcgan-inpaint photo.jpg mask.png out.png     one photograph
  dcgan-inpaint photos/ masks/ out/            a mask of the same name for each
  dcgan-inpaint sample [FOLDER]                photo.png and mask.png, to try it
  dcgan-inpaint serve                          a page in the browser
  dcgan-inpaint run --config=quickstart        any job; run --help lists them

White is the hole. MASKS is a file, a folder, or alpha: the transparent pixels.
OUTPUT is a folder, or a file whose suffix decides the format. Any field of the
job inpaint may follow, as --config.faces=whole (run --config=inpaint --help).
"""


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command.

  Args:
    argv: its words without the program's name; those of the process by default.
  """
  words = list(sys.argv[1:] if argv is None else argv)
  try:
    if words[:1] == ["run"]:
      _run(words[1:])
    elif words[:1] == ["sample"]:
      _sample(words[1:])
    elif words[:1] == ["serve"]:
      _serve(words[1:])
    else:
      _fill(words)
  # While libraries are loaded, or serving.
  except KeyboardInterrupt as stopped:
    name = str(stopped) or "SIGINT"
    print(f"stopped by {name}", flush=True)
    sys.exit(128 + signal.Signals[name])


def _run(words: list[str]) -> None:
  """Runs `dcgan_inpaint.main`."""
  # Only here: it takes seconds, and `--help` should not.
  from absl import app

  from dcgan_inpaint import main as main_lib

  app.run(
    main_lib.main,
    argv=["dcgan-inpaint run", *words],
    flags_parser=main_lib.parse_flags,
  )


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in the line that every error of the package has."""

  def error(self, message: str) -> NoReturn:
    print(f"error: {message}; --help explains the command", file=sys.stderr)
    sys.exit(2)


def _sample(words: list[str]) -> None:
  """Writes the sample photograph and its mask."""
  parser = _Parser(
    prog="dcgan-inpaint sample",
    description="Writes photo.png (public domain) and mask.png, to try: "
    "dcgan-inpaint photo.png mask.png out.png",
  )
  parser.add_argument("folder", nargs="?", default=".", help="where they go")
  given = parser.parse_args(words)
  from dcgan_inpaint import main as main_lib
  from dcgan_inpaint import sample

  with main_lib.in_a_line():
    photo, mask = sample.write(given.folder)
    print(f"{photo} and {mask}; try: dcgan-inpaint {photo} {mask} out.png")


_SERVE = """\
A page in the browser: load a photograph, paint the hole, fill it.

  dcgan-inpaint serve                   http://127.0.0.1:7860, for this machine
  dcgan-inpaint serve --host=0.0.0.0    for all, with a token in the address

Nothing is fetched from or sent to anywhere else. Files that are loaded, and
results, are removed after an hour and at the end. Ctrl-C ends it.
"""


def _serve(words: list[str]) -> None:
  """Serves the page."""
  parser = _Parser(
    prog="dcgan-inpaint serve",
    usage="dcgan-inpaint serve [options]",
    description=_SERVE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument(
    "--host", default="127.0.0.1", help="the name or address to listen at"
  )
  parser.add_argument(
    "--port", type=int, default=7860, help="7860; 0 takes any that is free"
  )
  parser.add_argument(
    "--model", default="pretrained", help="a folder, in place of the package's"
  )
  parser.add_argument(
    "--seconds",
    type=float,
    default=300,
    help="the most that a hole may take, 300",
  )
  given = parser.parse_args(words)
  if importlib.util.find_spec("gradio") is None:
    parser.error("the page is an extra: pip install 'dcgan-inpaint[web]'")
  from dcgan_inpaint import main as main_lib
  from dcgan_inpaint.web import server

  with main_lib.in_a_line():
    server.serve(given.host, given.port, given.model, given.seconds)


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog="dcgan-inpaint",
    usage=_USAGE,
    description=_DESCRIPTION,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("images", help=argparse.SUPPRESS)
  parser.add_argument("masks", help=argparse.SUPPRESS)
  parser.add_argument("output", help=argparse.SUPPRESS)
  parser.add_argument(
    "--mode", default="fidelity", help="fidelity, realism or paper"
  )
  parser.add_argument(
    "--samples", type=int, default=1, help="different completions of each"
  )
  parser.add_argument("--seed", type=int, default=0, help="draws others")
  parser.add_argument(
    "--model", default="pretrained", help="a folder, in place of the package's"
  )
  parser.add_argument(
    "--black-is-hole", action="store_true", help="of the masks, not white"
  )
  parser.add_argument(
    "--overwrite", action="store_true", help="replace results that exist"
  )
  parser.add_argument("--workdir", help="keep results.csv and more there")
  return parser


def _fill(words: list[str]) -> None:
  """Runs the job `inpaint`."""
  parser = _parser()
  given, others = parser.parse_known_args(words)
  for word in others:
    if not word.startswith("--config.") or "=" not in word:
      parser.error(f"{word!r} is no option")
  from absl import app

  from dcgan_inpaint import main as main_lib

  # A name may have commas, which part several paths in plain text.
  fields = {
    "input": repr((given.images,)),
    "masks": given.masks,
    "output": given.output,
    "samples": given.samples,
    "overwrite": given.overwrite,
    "contact_sheet": 12 if given.workdir else 0,
    "checkpoint.path": given.model,
    "search.mode": given.mode,
    "search.seed": given.seed,
  }
  if given.black_is_hole:
    fields["mask.file_polarity"] = "white_is_known"
  set_here = [f"--config.{field}={value}" for field, value in fields.items()]
  with tempfile.TemporaryDirectory(prefix="dcgan_inpaint_") as temporary:
    workdir = f"--workdir={given.workdir or temporary}"
    app.run(
      main_lib.brief,
      argv=["dcgan-inpaint", "--config=inpaint", workdir, *set_here, *others],
      flags_parser=main_lib.parse_flags,
    )
