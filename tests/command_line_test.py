"""Flags, fields and configs on the command line, without running a job."""

import ast
import json
import pathlib
import shlex
import subprocess
import sys

from absl import flags
from ml_collections import config_flags
import pytest

from dcgan_inpaint import command_line
from dcgan_inpaint import config as config_lib
from dcgan_inpaint.jobs import names
from dcgan_inpaint.runtime import errors

# ml_collections loads configs with it.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

ROOT = pathlib.Path(__file__).resolve().parents[1]
# All but `again`, whose fields depend on the file that it is given.
CONFIGS = [x for x in command_line.config_names() if x != "again"]
CONTRACT = {
  "quickstart",
  "prepare",
  "celeba",
  "paper_losses",
  "evaluate",
  "inpaint",
  "benchmark",
  "benchmark_throughput",
}


def parse(*words):
  """Returns the flags that `main` parses from some words."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", None, flag_values=values)
  for name in ("workdir", "platform", "compilation_cache"):
    flags.DEFINE_string(name, None, f"Of {name}.", flag_values=values)
  assert command_line.parse(values, ["main", *words]) == ["main"]
  return values


def parse_config(*words):
  return parse(*words)["config"].value


def refuse(*words):
  """Returns the message that refuses some words."""
  with pytest.raises(errors.UserError) as refused:
    parse(*words)
  message = str(refused.value)
  assert "\n" not in message and "Traceback" not in message
  return message


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
  """Makes an empty folder the working directory."""
  monkeypatch.chdir(tmp_path)
  return tmp_path


def write_config(path, *lines, job="train"):
  """Writes a user's own config."""
  path.write_text(
    "from dcgan_inpaint import config as defaults\n"
    "def get_config():\n"
    f"  config = defaults.{job}_job()\n"
    + "".join(f"  {line}\n" for line in lines)
    + "  return config\n"
  )
  return path


# --- the configs of the package -----------------------------------------------


def test_the_configs_of_the_contract_are_there():
  assert set(CONFIGS) >= CONTRACT


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_valid(name):
  config = parse_config(f"--config={name}")
  config_lib.check_fields(config)
  config_lib.validate(config)
  names.check(config)


@pytest.mark.parametrize("job", config_lib.JOBS)
def test_the_config_that_is_named_for_a_job_is_of_that_job(job):
  name = config_lib._JOBS[job].config_name
  assert parse_config(f"--config={name}").job == job


@pytest.mark.parametrize("name", CONFIGS)
def test_the_commands_of_a_docstring_are_valid(name):
  source = (command_line.config_folder() / f"{name}.py").read_text()
  docstring = ast.get_docstring(ast.parse(source)).replace("\\\n", " ")
  whole = []
  for line in docstring.splitlines():
    words = shlex.split(line) if line.startswith("  ") else []
    if words[:1] == ["python"]:
      assert words[:3] == ["python", "-m", "dcgan_inpaint.main"]
      whole.append(words[3])
      words = words[3:]
    elif words:  # More of the first command.
      assert words[0].startswith("--")
      words = [f"--config={name}", *words]
    if words:
      config = parse_config(*words)
      config_lib.check_fields(config)
      config_lib.validate(config)
  assert f"--config=configs/{name}.py" in whole
  # And those within sentences.
  for word in docstring.replace("(", " ").replace("`", " ").split():
    if word.startswith("--config."):
      field, equals, _ = word.removeprefix("--config.").partition("=")
      assert field in config_lib.flat(parse_config(f"--config={name}"))
      if equals:
        parse_config(f"--config={name}", word.rstrip(",.;:"))


@pytest.mark.parametrize(
  "word",
  [
    "quickstart",
    "quickstart.py",
    "configs/quickstart.py",
    "configs/quickstart",
  ],
)
def test_a_config_is_found_by_its_name_in_any_folder(elsewhere, word):
  assert parse_config(f"--config={word}").job == "train"
  assert parse_config("--config", word).job == "train"


def test_a_file_of_that_name_comes_first(elsewhere):
  (elsewhere / "configs").mkdir()
  write_config(elsewhere / "configs" / "quickstart.py", job="export")
  assert parse_config("--config=configs/quickstart.py").job == "export"
  assert parse_config("--config=quickstart").job == "train"


def test_what_follows_a_colon_is_for_the_config(elsewhere):
  assert "none.json does not exist" in refuse("--config=again:none.json")


@pytest.mark.parametrize(
  "word, near",
  [
    ("quickstar", "quickstart"),
    ("configs/benchmrk.py", "benchmark"),
    ("else/quickstart.py", "quickstart"),
    ("__init__", "quickstart"),
    ("anything", "paper_losses"),
  ],
)
def test_a_config_that_is_not_there_is_refused_with_the_near_ones(
  elsewhere, word, near
):
  message = refuse(f"--config={word}", "--config.train.steps=3")
  assert f"--config={word} " in message and near in message


# --- fields -------------------------------------------------------------------


@pytest.mark.parametrize(
  "words, parts",
  [
    (["--config.model.latents=3"], ["model.latents", "latent_size"]),
    (["--config.train.stepz=3"], ["train.stepz", "config.train.steps"]),
    (["--config.train.stepz", "3"], ["train.stepz", "config.train.steps"]),
    (["--noconfig.train.flop"], ["train.flop", "config.train.flip"]),
    (["--config.trian.steps=3"], ["trian.steps", "config.train.steps"]),
    (["--config.train.steps.x=3"], ["train.steps.x", "config.train.steps"]),
    (["--config.train=3"], ["config.train is a section", "config.train.loss"]),
    (["--config.train.steps=many"], ["config.train.steps", "many"]),
    (["--config.train.flip=many"], ["config.train.flip", "many"]),
    (["--config.benchmark.masks=half"], ["benchmark.masks", "config.masks"]),
    (["--config.checkpoint.path=x"], ["'train'", "evaluate"]),
    (["--workdr=x"], ["workdr", "workdir"]),
  ],
)
def test_a_wrong_flag_is_refused_with_what_is_near(words, parts):
  message = refuse("--config=quickstart", *words)
  for part in parts:
    assert part in message


def test_a_field_without_a_config_is_refused():
  assert "--config=NAME" in refuse("--config.train.steps=3")


@pytest.mark.parametrize(
  "line, part",
  [
    ("raise ValueError('no such thing')", "no such thing"),
    ("config.train.steps = 'many'", "many"),
    ("config.train.loss.x = 3", "attribute 'x'"),
    ("config.trian.steps = 3", "trian"),
    ("config.train.steps = stepz", "stepz"),
    ("config.train.steps = (3", "never closed"),
  ],
)
def test_a_config_that_fails_says_why(tmp_path, line, part):
  path = write_config(tmp_path / "own.py", line)
  message = refuse(f"--config={path}")
  for expected in (part, str(path), "line 4"):
    assert expected in message


@pytest.mark.parametrize(
  "word, value",
  [
    ("a.zip", "a.zip"),
    ("a.zip,b.zip", "a.zip,b.zip"),
    ('("a, b", "c")', ("a, b", "c")),
    ("('a + b',)", ("a + b",)),
    ("['a', 'b']", ("a", "b")),
    ("(photos)", "(photos)"),
    ("(old) photos, new", "(old) photos, new"),
    ("2024", "2024"),
    ("007", "007"),
    ("None", "None"),
    ("", ""),
    ("()", ()),
  ],
)
def test_a_field_of_several_takes_text_and_tuples_of_python(word, value):
  config = parse_config("--config=evaluate", f"--config.data.path={word}")
  assert config.data.path == value


@pytest.mark.parametrize(
  "config, old, word, value",
  [
    ("quickstart", "train.keep", "5", 5),
    ("encoder", "encoder.keep", "5", 5),
    ("quickstart", "search.keep", "best", "best"),
    ("quickstart", "search.refine_pull", "3", 3.0),
    ("benchmark_throughput", "throughput.forms", "plain", "plain"),
    ("quickstart", "mask.family", "half", "half"),
    ("inpaint", "mask.family", "strokes", "strokes"),
  ],
)
@pytest.mark.parametrize("equals", [True, False])
def test_a_former_name_is_read_and_named(
  config, old, word, value, equals, caplog
):
  new = config_lib.RENAMED[old]
  words = [f"--config.{old}={word}"] if equals else [f"--config.{old}", word]
  values = parse(f"--config={config}", *words)
  assert config_lib.flat(values["config"].value)[new] == value
  assert f"config.{old} " in caplog.text and f"config.{new}" in caplog.text
  assert config_flags.get_override_values(values["config"]) == {new: value}


def test_a_former_name_in_a_users_own_config_is_read(tmp_path, capsys, caplog):
  path = write_config(
    tmp_path / "own.py", "config.train.keep = 5", "config.mask.family = 'half'"
  )
  config = parse_config(f"--config={path}", "--config.masks=border")
  assert config.train.max_to_keep == 5 and config.masks == "border"
  assert "config.train.max_to_keep" in caplog.text
  text = read_help(f"--config={path}", "--help", capsys=capsys)
  assert "--config.masks=half" in text


def test_flags_may_come_from_a_file(tmp_path):
  path = tmp_path / "flags.txt"
  path.write_text("--config=quickstart\n--config.train.keep=5\n")
  assert parse_config(f"--flagfile={path}").train.max_to_keep == 5


# --- help ---------------------------------------------------------------------


def read_help(*words, capsys):
  with pytest.raises(SystemExit) as left:
    parse(*words)
  assert not left.value.code
  return capsys.readouterr().out


@pytest.mark.parametrize("word", ["--help", "-h", "--helpshort"])
def test_help_names_the_configs_and_the_flags(word, capsys):
  text = read_help(word, capsys=capsys)
  for part in (*CONTRACT, "--workdir", "Of platform."):
    assert part in text


@pytest.mark.parametrize("name", CONFIGS)
def test_help_explains_a_config_field_by_field(name, capsys):
  config = parse_config(f"--config={name}")
  text = read_help("--help", f"--config={name}", capsys=capsys)
  for line in text.splitlines():
    assert len(line) <= 80 or " " not in line.strip()  # A long value.
  source = (command_line.config_folder() / f"{name}.py").read_text()
  assert text.startswith(ast.get_docstring(ast.parse(source)))
  words = " ".join(text.split())
  for section, explanation in config_lib.sections(config.job).items():
    assert f"config.{section}: {explanation}" in words
  for field in config_lib.fields(config.job).values():
    value = config_lib.flat(config)[field.name]
    assert (
      f"--config.{field.name} (open)"
      if value is None
      else f"--config.{field.name}={value}"
    ) in words
    assert " ".join(field.explanation.split()) in words
    if field.limit:
      assert field.limit.text in words


def test_help_shows_the_values_of_the_command_line(capsys):
  text = read_help(
    "--config=quickstart", "--config.train.keep=7", "--help", capsys=capsys
  )
  assert "--config.train.max_to_keep=7" in text


@pytest.mark.slow
def test_help_of_the_program_ends_well(elsewhere):
  # As a user calls it, outside of the package's checkout.
  ended = subprocess.run(
    [sys.executable, "-m", "dcgan_inpaint.main", "--config=inpaint", "--help"],
    capture_output=True,
    text=True,
    env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": ""},
  )
  assert ended.returncode == 0, ended.stderr
  for part in ("--workdir", "--num_processes", "--config.masks=centre"):
    assert part in ended.stdout
  assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
  "job, field, code",
  [
    ("train", "train.loss", "spy:loss"),
    ("train", "search.loss", "http.server:test"),
    ("evaluate", "checkpoint.loss", "spy:loss"),
    ("compare", "compare.losses", "hinge,spy:loss"),
  ],
)
def test_a_results_file_names_no_code_to_run(elsewhere, job, field, code):
  (elsewhere / "spy.py").write_text("open('ran', 'w')")
  config = getattr(config_lib, f"{job}_job")().to_dict()
  section, _, name = field.partition(".")
  config[section][name] = code
  stored = {"job": job, "config": config, "rows": [], "versions": {}}
  (elsewhere / "results.json").write_text(json.dumps(stored))
  again = "--config=again:results.json"
  message = refuse(again)
  assert f"config.{field}" in message and f"--config.{field}={code}" in message
  assert f"config.{field}" in refuse(again, "--config.seed=3")
  # The user may; or takes another loss.
  for own in (code, "hinge"):
    read = parse_config(again, f"--config.{field}={own}")
    assert config_lib.flat(read)[field] == own
  assert not (elsewhere / "ran").exists()
