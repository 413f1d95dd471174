"""Parsing of the command line: the config, its fields, and help.

`main` defines the flags and `config_flags` parses them. In addition, a config
may be named without its folder, fields may have their former names, errors
suggest similar names, and `--help` prints a config.
"""

import ast
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import difflib
import os
import pathlib
import re
import runpy
import sys
import textwrap
import traceback
from typing import Any

from absl import flags
from absl import logging
from ml_collections import config_flags

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.fields import spec
from dcgan_inpaint.runtime import errors

_HELP = ("--help", "-help", "--helpshort", "-helpshort", "-h", "-?", "--?")
# `--config.train.steps=3`, `--noconfig.train.flip`: the prefix, the name, and
# the rest.
_FIELD = re.compile(r"(--?(?:no)?config\.)([^=]+)(.*)", re.DOTALL)


class _OneOrSeveralParser(flags.ArgumentParser):
  """Parses a Python tuple, such as ("a, b", "c"); other text stays text."""

  def parse(self, argument: Any) -> str | tuple[Any, ...]:
    if isinstance(argument, str) and argument.lstrip().startswith(("(", "[")):
      with contextlib.suppress(SyntaxError, ValueError):
        argument = ast.literal_eval(argument.strip())
    return tuple(argument) if isinstance(argument, list) else argument

  def flag_type(self) -> str:
    return "text or tuple"


config_flags.register_flag_parser_for_type(
  spec.OneOrSeveral, _OneOrSeveralParser()
)


def parse(flag_values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
  """Parses the flags.

  Args:
    flag_values: the flags of `main`; `config` is a config file.
    argv: the words of the command line, the program first.

  Returns:
    The arguments that are no flags, the program first. If help is requested, it
    is printed and the process exits.

  Raises:
    errors.UserError: a flag, a field or a value is wrong, or there is no such
      config.
  """
  program, *given = argv
  words = flag_values.read_flags_from_files(list(given), force_gnu=False)
  wants_help = any(word in _HELP for word in words)
  words = [word for word in words if word not in _HELP]
  old_names = set(given_fields(words)) & set(config_lib.RENAMED)
  words = _with_config_path([_with_new_name(word) for word in words])
  try:
    with _sys_argv([program, *words]):
      rest = flag_values([program, *words])
  except Exception as error:
    # Because of a flag, an unknown field, or a config file.
    if line := _reason(error, words):
      raise errors.UserError(line) from error
    raise
  for name in sorted(old_names):
    logging.warning("%s", config_lib.renamed(name))
  if config := flag_values["config"].value:
    overridden = config_flags.get_override_values(flag_values["config"])
    config_lib.read_old_names(config, overridden)
  if wants_help:
    # A pager may be closed before the end.
    with contextlib.suppress(BrokenPipeError):
      print(help_text(flag_values), flush=True)
    sys.exit(0)
  return rest


# Configs.


def config_folder() -> pathlib.Path:
  """Returns the folder of the configs that come with the package."""
  package = pathlib.Path(__file__).resolve().parent
  installed = package / "configs"  # In a wheel; otherwise next to the package.
  return installed if installed.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
  """Returns the names of the configs that come with the package."""
  files = sorted(config_folder().glob("[!_]*.py"))
  return [path.stem for path in files]


def find_config(name: str) -> str:
  """Returns the path of a config file, with the argument of its `get_config`.

  Args:
    name: a path, or a name of `config_names`, optionally with the suffix '.py'
      and the prefix 'configs/'. The argument follows after a colon.

  Raises:
    errors.UserError: there is no such config.
  """
  path, colon, argument = name.partition(":")
  if os.path.isfile(path):
    return name
  own = re.fullmatch(r"(?:configs/)?(\w+)(?:\.py)?", path)
  if own and own[1] in config_names():
    return f"{config_folder() / own[1]}.py{colon}{argument}"
  names = config_names()
  near = difflib.get_close_matches(pathlib.PurePath(path).stem, names)
  raise errors.UserError(
    f"--config={path} does not exist: name a file, or one of "
    f"{', '.join(near or names)}"
  )


def _with_config_path(words: list[str]) -> list[str]:
  """Returns the words with the config's name replaced by its path."""
  words = list(words)
  for i, word in enumerate(words):
    if re.fullmatch("--?config=.+", word, re.DOTALL):
      flag, _, name = word.partition("=")
      words[i] = f"{flag}={find_config(name)}"
    elif word in ("--config", "-config") and i + 1 < len(words):
      words[i + 1] = find_config(words[i + 1])
  return words


def _config_of(words: list[str]) -> str:
  """Returns the path of the config that the words name, or ''."""
  config = ""
  for word, following in zip(words, [*words[1:], ""], strict=True):
    flag, _, name = word.partition("=")
    if flag in ("--config", "-config"):
      config = name or following
  return config


@contextlib.contextmanager
def _sys_argv(words: list[str]) -> Iterator[None]:
  """Replaces sys.argv, in which `config_flags` looks for fields."""
  given, sys.argv = sys.argv, words
  try:
    yield
  finally:
    sys.argv = given


# Fields.


def _with_new_name(word: str) -> str:
  """Returns a word with the current name of its field."""
  match = _FIELD.fullmatch(word)
  if match and match[2] in config_lib.RENAMED:
    return f"{match[1]}{config_lib.RENAMED[match[2]]}{match[3]}"
  return word


def given_fields(words: Sequence[str]) -> list[str]:
  """Returns the names of the fields that words set, as 'train.steps'.

  Args:
    words: of a command line.
  """
  return [match[2] for match in map(_FIELD.fullmatch, words) if match]


def _reason(error: Exception, words: list[str]) -> str | None:
  """Returns a line on why words are refused, or None for an internal error."""
  path, colon, argument = _config_of(words).partition(":")
  if not path and given_fields(words):
    return "name a config first, as --config=NAME; --help lists all"
  if path:
    # Once more, alone, to find out whether the config itself is wrong.
    try:
      get_config = runpy.run_path(path)["get_config"]
      config = get_config(argument) if colon else get_config()
    except errors.UserError as own:
      return str(own)
    except Exception as own:  # noqa: BLE001 (A config is code.)
      frames = traceback.extract_tb(own.__traceback__)
      lines = [frame.lineno for frame in frames if frame.filename == path]
      where = f"{path}, line {lines[-1]}" if lines else path
      return f"{where}: {_one_line(own)}"
    if line := _wrong_field(config, words):
      return line
  # ml_collections raises these for a value of the wrong type, for example.
  ours = (flags.Error, AttributeError, KeyError, TypeError, OSError)
  return _one_line(error) if isinstance(error, ours) else None


def _wrong_field(config: Any, words: list[str]) -> str | None:
  """Returns a line on the first field that the config does not have."""
  if getattr(config, "job", None) not in config_lib.JOBS:
    return None
  there, sections = config_lib.flat(config), config_lib.sections(config.job)
  for name in given_fields(words):
    if name in sections:
      inside = [x for x in config_lib.fields(config.job) if f"{name}." in x]
      return (
        f"config.{name} is a section: set its fields, as config.{inside[0]}"
      )
    if name not in there:
      return config_lib.unknown_field(name, config.job)
  return None


def _one_line(error: Exception) -> str:
  """Returns the message of an error, without a traceback that it contains."""
  # The first line names the flag, the last one the remedy. ml_collections nests
  # errors, whose line breaks are then escaped.
  text = str(error).replace("\\n", "\n")
  lines = text.strip().splitlines() or [type(error).__name__]
  return " ".join(dict.fromkeys([lines[0], lines[-1]]))


# Help.


def help_text(flag_values: flags.FlagValues) -> str:
  """Returns the help: of the config, if one is named, and of the flags.

  Args:
    flag_values: the flags of `main`, parsed.
  """
  main = flag_values.find_module_defining_flag("workdir")
  lines = []
  config = flag_values["config"].value
  if config is None:
    lines += [
      "dcgan-inpaint run --config=NAME [--workdir=DIR] "
      "[--config.FIELD=VALUE ...]",
      "",
      *_wrapped(
        "NAME is a file or a config (--config=NAME --help explains its "
        "fields): " + ", ".join(config_names())
      ),
    ]
  else:
    path = config_flags.get_config_filename(flag_values["config"])
    source = pathlib.Path(path.partition(":")[0]).read_text()
    lines += [ast.get_docstring(ast.parse(source)) or path]
  lines += ["", "Flags:"]
  for flag in flag_values.get_flags_for_module(main):
    if flag.name != "config" and "." not in flag.name:
      lines += [f"  --{flag.name}={'' if flag.value is None else flag.value}"]
      lines += _wrapped(str(flag.help), 6)
  if config is not None:
    lines += _fields(config)
  return "\n".join(lines)


def _fields(config: Any) -> Iterator[str]:
  """Yields lines on the fields of a config, section by section."""
  config_lib.check_fields(config)
  values = config_lib.flat(config)
  explanations = {"": config_lib.job_explanation(config.job)}
  explanations |= config_lib.sections(config.job)
  for section, explanation in explanations.items():
    title = f"config.{section}" if section else f"The job {config.job}"
    yield from ("", *_wrapped(f"{title}: {explanation}"), "")
    for field in config_lib.fields(config.job).values():
      if field.name.rpartition(".")[0] == section:
        value = values[field.name]
        shown = " (open)" if value is None else f"={value}"
        yield from _wrapped(f"--config.{field.name}{shown}", 2)
        kind = field.type.__name__
        if field.type is spec.OneOrSeveral:
          kind = "str or tuple"
        if field.limit:
          kind += f", {field.limit.text}"
        yield from _wrapped(f"{kind}: {field.explanation}", 6)


def _wrapped(text: str, indent: int = 0) -> list[str]:
  """Returns a paragraph in lines of at most 80 characters."""
  return textwrap.wrap(
    text,
    80,
    initial_indent=" " * indent,
    subsequent_indent=" " * indent,
    break_long_words=False,
    break_on_hyphens=False,
  )
