"""The commands that the steps of `measure_steps` are made of, in two sizes."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import importlib.util
import pathlib
import sys
import types
from typing import Any
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
_NOTHING: Mapping[str, str] = types.MappingProxyType({})
_PAPER_BATCH = 128


class Sizes(NamedTuple):
  """How large everything is.

  Attributes:
    width: of the networks.
    dtype: that they compute in.
    train_batches: images a step; the second one decides which settings win.
    search_batches: images searched at a time, likewise.
    search_steps: of a search whose throughput is measured.
    round_seconds: that a round of a measurement lasts.
    images: training images seen in the paper's training.
    paper_steps: of a search whose images are scored.
    search_batch: images searched at a time, where they are scored.
    scored: test images; 0 = all.
    encoder_width: of the encoder.
    encoder_batch: images a step of its training.
    encoder_steps: of its training.
    trial_steps: of the short trainings that try one thing.
  """

  width: float
  dtype: str
  train_batches: tuple[int, ...]
  search_batches: tuple[int, ...]
  search_steps: int
  round_seconds: float
  images: int
  paper_steps: int
  search_batch: int
  scored: int
  encoder_width: float
  encoder_batch: int
  encoder_steps: int
  trial_steps: int


ACCELERATOR = Sizes(
  width=1.0,
  dtype="bfloat16",
  train_batches=(64, 512, 2048),
  search_batches=(1, 64, 1024),
  search_steps=200,
  round_seconds=0.5,
  images=4_000_000,
  paper_steps=1000,
  search_batch=1024,
  scored=0,
  encoder_width=0.5,
  encoder_batch=256,
  encoder_steps=15_000,
  trial_steps=200,
)
CPU = Sizes(
  width=0.03,
  dtype="float32",
  train_batches=(4, 8),
  search_batches=(1, 4),
  search_steps=4,
  round_seconds=0.02,
  images=1024,
  paper_steps=4,
  search_batch=8,
  scored=8,
  encoder_width=0.03,
  encoder_batch=8,
  encoder_steps=20,
  trial_steps=4,
)
_NO_PICTURES = (
  "--config.train.sample_every=0",
  "--config.train.validation_images=0",
  "--config.evaluation.methods=",
)


class Step(NamedTuple):
  """A step: one command.

  Attributes:
    name: of the step, and of its folder.
    command: what is run.
    limit: seconds that it may take.
    least: seconds without which it is not begun; few of what can be cut.
    setting: what is special about it, for the tables.
    environment: variables.
    spare: seconds that are left to the steps after it.
    needs: steps that must be done before.
    follows: a step that must have been run before, and after which this one is
      run again.
    unfit: why it cannot be run here; '' where it can.
  """

  name: str
  command: Sequence[str]
  limit: float
  least: float = 20.0
  setting: str = ""
  environment: Mapping[str, str] = _NOTHING
  spare: float = 0.0
  needs: tuple[str, ...] = ()
  follows: str = ""
  unfit: str = ""


class Chosen(NamedTuple):
  """The settings that were the fastest so far.

  Attributes:
    implementation: of the convolutions.
    flags: XLA's, by what is computed: 'train' or 'search'.
  """

  implementation: str
  flags: Mapping[str, str]


def sizes(options: argparse.Namespace) -> Sizes:
  """Returns the sizes that the options ask for.

  Args:
    options: of `measure`.
  """
  return CPU if options.cpu else ACCELERATOR


def unfit_without(module: str) -> str:
  """Returns a reason where a module is not installed.

  Args:
    module: its name.
  """
  there = importlib.util.find_spec(module) is not None
  return "" if there else f"needs the package {module}"


class Commands:
  """Makes steps of commands, of one size and on one data set."""

  def __init__(self, options: argparse.Namespace, chosen: Chosen):
    """Begins with nothing.

    Args:
      options: of `measure`.
      chosen: the settings of those steps that compare none.
    """
    self._options, self._chosen = options, chosen
    self._size = sizes(options)

  def job(self, name: str, config: str, *flags: str, **fields: Any) -> Step:
    """Returns a step that is a job of the package.

    Args:
      name: of the step; its folder is the workdir.
      config: of the package, by its name.
      *flags: of the command line, more of them.
      **fields: of the step.
    """
    out = self._options.out
    command = [
      *(sys.executable, "-m", "dcgan_inpaint.main", f"--config={config}"),
      f"--workdir={out / name}",
      # JAX keeps what autotuning has found in there, too.
      f"--compilation_cache={out / 'programs'}",
    ]
    return Step(name, [*command, *flags], **fields)

  def throughput(
    self,
    name: str,
    *flags: str,
    what: str,
    train: Sequence[int] | None = None,
    search: Sequence[int] | None = None,
    **fields: Any,
  ) -> Step:
    """Returns a step that measures throughput.

    Args:
      name: of the step.
      *flags: more of them.
      what: 'train', 'search' or both.
      train: batches of training; those of the size by default.
      search: batches of the search, likewise.
      **fields: of the step.
    """
    size = self._size
    words = [
      f"throughput.what={what}",
      f"throughput.seconds={size.round_seconds}",
      *(f"throughput.{name}=" for name in ("widths", "starts", "steps")),
      # Of the step's machine: the cache is its own.
      "throughput.recompile=False",
      f"model.width={size.width}",
      f"model.dtype={size.dtype}",
      "model.convolution=dense",
      f"search.dtype={size.dtype}",
      f"search.steps={size.search_steps}",
    ]
    for kind, (first, *others) in (
      ("train", train or size.train_batches),
      ("search", search or size.search_batches),
    ):
      words.append(f"{kind}.batch_size={first}")
      words.append(f"throughput.{kind}_batches={','.join(map(str, others))}")
    if self._options.cpu:
      words += ["throughput.rounds=2", "throughput.peak_size=64"]
    words = [f"--config.{word}" for word in words]
    return self.job(name, "benchmark_throughput", *words, *flags, **fields)

  def training(self, name: str, *flags: str, **fields: Any) -> Step:
    """Returns a step that trains a DCGAN as the paper does, without pictures.

    Args:
      name: of the step.
      *flags: more of them.
      **fields: of the step.
    """
    batch = min(_PAPER_BATCH, 4 * self._size.train_batches[0])
    return self.job(
      name,
      "celeba",
      *self.data("train"),
      f"--config.model.width={self._size.width}",
      f"--config.model.dtype={self._size.dtype}",
      f"--config.model.convolution={self._chosen.implementation}",
      f"--config.train.batch_size={batch}",
      f"--config.train.steps={self._size.images // batch}",
      "--config.train.save_every=10000",
      "--config.train.sample_every=0",
      "--config.train.validation_images=0",
      "--config.evaluation.methods=",
      *flags,
      environment=self.environment("train"),
      **fields,
    )

  def evaluation(
    self, name: str, mode: str, model: pathlib.Path, *flags: str, **fields: Any
  ) -> Step:
    """Returns a step that scores a model on the test faces.

    Args:
      name: of the step.
      mode: of the search.
      model: the checkpoint.
      *flags: more of them.
      **fields: of the step.
    """
    return self.job(
      name,
      "evaluate",
      *self.data("test"),
      f"--config.checkpoint.path={model}",
      "--config.checkpoint.step=latest",
      "--config.evaluation.methods=dcgan",
      f"--config.evaluation.images={self._size.scored}",
      f"--config.search.mode={mode}",
      f"--config.search.batch_size={self._size.search_batch}",
      *flags,
      environment=self.environment("search"),
      **fields,
    )

  def peer(self, name: str, job: str, *flags: str, **fields: Any) -> Step:
    """Returns a step that measures the PyTorch peer.

    Args:
      name: of the step.
      job: 'train' or 'search'.
      *flags: of the peer.
      **fields: of the step.
    """
    size, file = self._size, self._options.peer
    batches = size.train_batches if job == "train" else size.search_batches
    device = ["cpu"] if self._options.cpu else ["cuda", "--bf16"]
    command = [
      *(sys.executable, file, job, "--width", str(size.width)),
      *("--batch", *map(str, batches), "--device", *device, *flags),
    ]
    unfit = unfit_without("torch") if file else "needs --peer=FILE"
    return self._watched("peer", Step(name, command, unfit=unfit, **fields))

  def trial(self, name: str, *flags: str, **fields: Any) -> Step:
    """Returns a step that runs a short training, and looks how it went.

    Args:
      name: of the step, and of the trial of `measure_trials`.
      *flags: of the training.
      **fields: of the step.
    """
    return self._watched(name, self.training(name, *flags, **fields))

  def programs(self, name: str, model: pathlib.Path, **fields: Any) -> Step:
    """Returns a step that runs the StableHLO of an exported model.

    Args:
      name: of the step.
      model: the folder of the exported model.
      **fields: of the step.
    """
    command = [str(model / "stablehlo"), str(self._size.search_batch)]
    return self._watched("programs", Step(name, command, **fields))

  def _watched(self, trial: str, step: Step) -> Step:
    """Returns a step whose command is run by a trial of `measure_trials`."""
    watcher = [sys.executable, str(HERE / "measure_trials.py"), trial]
    folder = str(self._options.out / step.name)
    return step._replace(command=[*watcher, folder, "--", *step.command])

  def data(self, split: str) -> list[str]:
    """Returns the flags of the faces.

    Args:
      split: 'train', or 'test', for a job that scores.
    """
    options, fields = self._options, []
    path = options.data or (options.test_data if split == "test" else "")
    if path:
      fields += ["name=folder", f"path={path}"]
      fields += [f"validation_path={options.validation_data}"]
      fields += [f"test_path={options.test_data}"]
    else:
      fields += ["name=synthetic"]
      fields += ["max_images=64"] if options.cpu else []
    if split == "test":
      fields += ["split=test"]
    return [f"--config.data.{field}" for field in fields]

  def environment(self, what: str) -> dict[str, str]:
    """Returns the variables that are fastest.

    Args:
      what: 'train' or 'search'.
    """
    flags = self._chosen.flags.get(what, "")
    return {"XLA_FLAGS": flags} if flags else {}
