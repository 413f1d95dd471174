"""The steps of `measure`, in order of importance.

First training and search, in turns with PyTorch, and XLA's settings; then the
paper's training with the fastest of them, and its quality; then an encoder for
it; then the rest.
"""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import math
import pathlib
import sys
from typing import Any
from typing import NamedTuple

import measure_commands
from measure_commands import Chosen
from measure_commands import Step

# Ends the names of what `measure_faces` packs.
SHEETS = ".sheets.zip"
# XLA records loops, too, into CUDA graphs (`+` adds to the default kinds), and
# graphs of a single command.
COMMAND_BUFFERS = (
  "--xla_gpu_enable_command_buffer=+WHILE --xla_gpu_graph_min_graph_size=1"
)


def check(options: argparse.Namespace) -> Step:
  """Returns the step that checks the machine.

  Args:
    options: of `measure`.
  """
  command = [sys.executable, str(measure_commands.HERE / "measure_check.py")]
  folder = options.out / "check"
  command += [str(folder), *(["--cpu"] if options.cpu else [])]
  return Step("check", command, 90)


class Unpacking(NamedTuple):
  """How faces in sheets become images.

  Attributes:
    step: which unpacks them.
    target: the zip of images.
  """

  step: Step
  target: pathlib.Path


def unpack(options: argparse.Namespace, name: str) -> Unpacking:
  """Returns the step that unpacks faces, see `measure_faces`.

  Args:
    options: of `measure`.
    name: of the option that names the sheets.
  """
  target = options.out / name / "faces.zip"
  script = str(measure_commands.HERE / "measure_faces.py")
  words = [sys.executable, script, "unpack", getattr(options, name)]
  return Unpacking(Step(name, [*words, str(target)], math.inf), target)


def names(options: argparse.Namespace) -> list[str]:
  """Returns the steps' names, in their order.

  Args:
    options: of `measure`.
  """
  return list(plan(options, choose([], options)))


def choose(
  lines: Sequence[Mapping[str, Any]], options: argparse.Namespace
) -> Chosen:
  """Returns the fastest settings of those that were measured.

  The implementation is the one that trains fastest at the second of the
  batch sizes. Command buffers are used if they are faster than without at the
  batch size at which both were measured. What is measured after the paper's
  training has begun changes nothing, since it could not be resumed.

  Args:
    lines: of measurements.jsonl.
    options: of `measure`.
  """
  size = measure_commands.sizes(options)
  rates: dict[tuple[str, str, str, int], float] = {}
  for line in lines[: _training_began(lines)]:
    for row in line["rows"]:
      if row.get("implementation") and row.get("per_second"):
        key = (line["setting"], row["what"], row["implementation"])
        rates[*key, row["batch"]] = row["per_second"]

  def rate(setting: str, what: str, implementation: str, batch: int) -> float:
    return rates.get((setting, what, implementation, batch), 0.0)

  implementation = max(
    ("dense", "phases", "plain", "padded"),  # The first of equals.
    key=lambda name: rate("", "train", name, size.train_batches[1]),
  )
  flags = {}
  for what, batch in (
    ("train", size.train_batches[0]),
    ("search", size.search_batches[1]),
  ):
    usual = rate("", what, "dense", batch) or math.inf
    if rate("command buffers", what, "dense", batch) > usual:
      flags[what] = COMMAND_BUFFERS
  return Chosen(implementation, flags)


def _training_began(lines: Sequence[Mapping[str, Any]]) -> int:
  """Returns the place of the first line of the paper's training, or the end."""
  began = len(lines)
  for place, line in reversed(list(enumerate(lines))):
    if line["step"] == "paper_training":
      if line["status"] == "set aside":
        break
      began = place
  return began


def plan(options: argparse.Namespace, chosen: Chosen) -> dict[str, Step]:
  """Returns all steps by their names, in the order in which they are run.

  Args:
    options: of `measure`.
    chosen: the settings of those steps that compare none.
  """
  commands = measure_commands.Commands(options, chosen)
  size, out = measure_commands.sizes(options), options.out
  paper, encoder, model = (
    out / "paper_training",
    out / "encoder",
    out / "export" / "model",
  )
  middle = {
    "train": size.train_batches[1:2],
    "search": size.search_batches[1:2],
  }
  others = (
    "--config.model.convolution=phases",
    "--config.throughput.implementations=plain,padded",
  )
  kept = out / "programs" / "xla_gpu_per_fusion_autotune_cache_dir"
  steps = [
    commands.throughput("train", what="train", limit=150),
    commands.peer("torch_train", "train", limit=60),
    commands.throughput("search", what="search", limit=130),
    commands.peer("torch_search", "search", limit=45),
    commands.throughput(
      "implementations", *others, what="train,search", **middle, limit=120
    ),
    commands.throughput(
      "command_buffers",
      what="search,train",
      train=size.train_batches[:1],
      search=size.search_batches[:2],
      setting="command buffers",
      environment={"XLA_FLAGS": COMMAND_BUFFERS},
      limit=90,
    ),
    commands.training("paper_training", limit=300),
    commands.evaluation(
      "paper_search",
      "paper",
      paper,
      f"--config.search.steps={size.paper_steps}",
      f"--config.search.dtype={size.dtype}",
      needs=("paper_training",),
      follows="paper_training",
      limit=150,
      least=45,
    ),
    commands.peer("torch_train_compiled", "train", "--compile", limit=240),
    commands.peer("torch_search_compiled", "search", "--compile", limit=240),
    commands.job(
      "encoder",
      "encoder",
      *commands.data("train"),
      f"--config.checkpoint.path={paper}",
      "--config.checkpoint.step=latest",
      f"--config.encoder.width={size.encoder_width}",
      f"--config.encoder.dtype={size.dtype}",
      f"--config.encoder.batch_size={size.encoder_batch}",
      f"--config.encoder.steps={size.encoder_steps}",
      "--config.encoder.dropout=0.2",
      f"--config.encoder.save_every={size.encoder_steps // 10}",
      environment=commands.environment("train"),
      needs=("paper_training",),
      limit=math.inf,
      least=60,
      # For what comes of it.
      spare=120,
    ),
    commands.job(
      "export",
      "export",
      f"--config.checkpoint.path={paper}",
      "--config.checkpoint.step=latest",
      f"--config.checkpoint.encoder={encoder}",
      f"--config.output={model}",
      follows="encoder",
      limit=90,
    ),
    *(
      commands.evaluation(
        mode, mode, model, needs=("export",), follows="export", limit=90
      )
      for mode in ("fidelity", "realism")
    ),
    commands.programs(
      "programs", model, needs=("export",), follows="export", limit=90
    ),
    commands.throughput(
      "autotuning",
      what="train",
      train=size.train_batches[1:2],
      # JAX itself sets this folder along with its cache, which is off here.
      environment={
        "XLA_FLAGS": f"--xla_gpu_per_fusion_autotune_cache_dir={kept}",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
      },
      setting="autotuning kept",
      limit=60,
    ),
    commands.trial("start_up", "--config.train.steps=1", limit=120),
    commands.trial(
      "deterministic",
      f"--config.train.steps={size.trial_steps}",
      "--config.train.log_every=1",
      "--deterministic",
      limit=120,
    ),
    commands.trial(
      "out_of_memory",
      "--config.train.steps=1",
      # 80 GB for a single kernel, and its moments beside it.
      "--config.model.width=40",
      limit=60,
      unfit="the CPU's memory is everybody's" if options.cpu else "",
    ),
    commands.training(
      "streaming",
      f"--config.train.batch_size={size.train_batches[1]}",
      f"--config.train.steps={size.trial_steps}",
      "--config.data.placement=stream",
      "--config.data.workers=8",
      limit=90,
      unfit=(
        measure_commands.unfit_without("grain")
        if options.data
        else "drawn faces are in no files: needs --data=PATH"
      ),
    ),
    commands.throughput(
      "all_implementations", *others, what="train,search", limit=400
    ),
  ]
  return {step.name: step for step in steps}
