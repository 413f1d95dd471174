"""The configs of the jobs: their defaults, and the check of their fields.

A file in `configs/` starts from the config of a job and sets the fields of its
experiment. The fields are defined in `fields`: their types and explanations,
their limits, and the jobs that take them.
"""

from collections.abc import Collection
from collections.abc import Iterable
import difflib
import types
from typing import Any

from absl import logging
import ml_collections

from dcgan_inpaint.fields import filling
from dcgan_inpaint.fields import jobs
from dcgan_inpaint.fields import spec
from dcgan_inpaint.fields import training
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists

ConfigDict = ml_collections.ConfigDict

_JOBS = types.MappingProxyType(
  {
    "train": jobs.TrainJob,
    "train_encoder": jobs.TrainEncoderJob,
    "compare": jobs.CompareJob,
    "evaluate": jobs.EvaluateJob,
    "benchmark": jobs.BenchmarkJob,
    "benchmark_throughput": jobs.BenchmarkThroughputJob,
    "inpaint": jobs.InpaintJob,
    "export": jobs.ExportJob,
    "prepare": jobs.PrepareJob,
  }
)
JOBS = tuple(_JOBS)

# Former names of fields, which are still read.
RENAMED = types.MappingProxyType(
  {
    "train.keep": "train.max_to_keep",
    "encoder.keep": "encoder.max_to_keep",
    "search.keep": "search.reduce",
    "search.refine_pull": "search.proximal_weight",
    "throughput.forms": "throughput.implementations",
    "throughput.compile_anew": "throughput.recompile",
    "mask.family": "masks",
  }
)

# Fields that may name code, as "package.module:function".
_CODE = ("train.loss", "search.loss", "checkpoint.loss", "compare.losses")


def fields(job: str) -> dict[str, spec.Field]:
  """Returns the fields that a job takes, by their names.

  Args:
    job: one of `JOBS`.
  """
  return {field.name: field for field in spec.fields_of(_JOBS[job])}


def sections(job: str) -> dict[str, str]:
  """Returns the sections that a job takes, each with a paragraph about it.

  Args:
    job: one of `JOBS`.
  """
  return {
    name: _paragraph(section)
    for name, section in spec.sections_of(_JOBS[job]).items()
  }


def job_explanation(job: str) -> str:
  """Returns the explanation of a job, a paragraph.

  Args:
    job: one of `JOBS`.
  """
  return _paragraph(_JOBS[job])


def _paragraph(schema: type) -> str:
  return " ".join(str(schema.__doc__).split())


def _build(schema: type) -> ConfigDict:
  """Returns a section, or a job without its name, at its defaults."""
  config = ConfigDict()
  for field in spec.fields_of(schema):
    section, _, name = field.name.rpartition(".")
    if section and section not in config:
      config[section] = ConfigDict()
    values = config[section] if section else config
    if field.default is None or field.type is spec.OneOrSeveral:
      # Fixes the type, which the default may not have.
      values[name] = ml_collections.config_dict.FieldReference(
        field.default, field_type=field.type
      )
    else:
      values[name] = field.default
  return config


def _job(name: str) -> ConfigDict:
  config = _build(_JOBS[name])
  config.job = name
  return config


def model() -> ConfigDict:
  """Returns the section `config.model`."""
  return _build(training.Model)


def data() -> ConfigDict:
  """Returns the section `config.data`."""
  return _build(training.Data)


def train() -> ConfigDict:
  """Returns the section `config.train`."""
  return _build(training.Train)


def encoder() -> ConfigDict:
  """Returns the section `config.encoder`."""
  return _build(training.Encoder)


def checkpoint() -> ConfigDict:
  """Returns the section `config.checkpoint`."""
  return _build(filling.Checkpoint)


def mask() -> ConfigDict:
  """Returns the section `config.mask`."""
  return _build(filling.Mask)


def search() -> ConfigDict:
  """Returns the section `config.search`.

  A field that is None has the value of `mode`, see `search.settings.MODES`.
  """
  return _build(filling.Search)


def train_job() -> ConfigDict:
  """Returns a config of the job `train`.

  After training it inpaints held-out images, unless `evaluation.methods` is
  empty.
  """
  return _job("train")


def train_encoder_job() -> ConfigDict:
  """Returns a config of the job `train_encoder`."""
  return _job("train_encoder")


def compare_job() -> ConfigDict:
  """Returns a config of the job `compare`, whose runs are of `train_job`."""
  return _job("compare")


def evaluate_job() -> ConfigDict:
  """Returns a config of the job `evaluate`."""
  return _job("evaluate")


def benchmark_job() -> ConfigDict:
  """Returns a config of the job `benchmark`."""
  return _job("benchmark")


def benchmark_throughput_job() -> ConfigDict:
  """Returns a config of the job `benchmark_throughput`."""
  return _job("benchmark_throughput")


def inpaint_job() -> ConfigDict:
  """Returns a config of the job `inpaint`."""
  return _job("inpaint")


def export_job() -> ConfigDict:
  """Returns a config of the job `export`."""
  return _job("export")


def prepare_job() -> ConfigDict:
  """Returns a config of the job `prepare`."""
  return _job("prepare")


def read_old_names(config: ConfigDict, given: Collection[str] = ()) -> None:
  """Moves the values of fields with former names, and logs a warning.

  Args:
    config: a whole config, which is changed.
    given: fields whose values are kept, such as those of the command line.
  """
  job = config.get("job")
  taken = fields(job) if job in JOBS else {}
  for old, new in RENAMED.items():
    values = flat(config)
    if old in values and new in taken:
      logging.warning("%s", renamed(old))
      section, _, name = old.rpartition(".")
      with config.unlocked():
        if new not in given:
          config.update_from_flattened_dict({new: values[old]})
        del config[section][name]


def renamed(old: str) -> str:
  """Returns a line with the new name of a field.

  Args:
    old: one of `RENAMED`.
  """
  return f"config.{old} is now called config.{RENAMED[old]}"


def flat(config: ConfigDict | dict[str, Any]) -> dict[str, Any]:
  """Returns {'section.field': value} of a config.

  Args:
    config: a `ConfigDict` or a dict, of sections and fields.
  """
  values = {}
  for name, value in config.items():
    if isinstance(value, (ConfigDict, dict)):
      inner = flat(value)
      values |= {f"{name}.{field}": inner[field] for field in inner}
    else:
      values[name] = value
  return values


def of_results(results: dict[str, Any]) -> ConfigDict:
  """Returns the config that a job was run with.

  Former names are read. Fields that an earlier version accepted for the job,
  and that only other jobs take now, are left out: the job never used them.

  Args:
    results: from `reports.results.read`.

  Raises:
    errors.UserError: this version of the package knows no such job or field.
  """
  job = results.get("job")
  if job not in JOBS:
    raise errors.UserError(
      f"the results are of the job {job!r}; this version of the package knows "
      f"{', '.join(JOBS)}"
    )
  stored = flat(results["config"])
  for old, new in RENAMED.items():
    if old in stored:
      value = stored.pop(old)
      if new in fields(job) and new not in stored:
        logging.info("%s", renamed(old))
        stored[new] = value
  config = _job(job)
  config.lock()
  of_others = {field for other in JOBS for field in fields(other)}
  try:
    for field, value in stored.items():
      if field in flat(config) or field not in of_others:
        config.update_from_flattened_dict({field: _as_tuples(value)})
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
      "this version of the package cannot take the config of the results "
      f"({str(error.args[0]).partition(chr(10))[0]}): take the version that "
      f"wrote them, {results['versions']['dcgan_inpaint']}"
    ) from error
  return config


def refuse_code(config: ConfigDict, given: Collection[str]) -> None:
  """Refuses a config out of a file that names code to import.

  Args:
    config: a whole config, of `of_results`.
    given: fields that the user sets on the command line; what the file says of
      these does not count.

  Raises:
    errors.UserError: names the field, the code and how to run it all the same.
  """
  values = flat(config)
  for field in _CODE:
    if field in given:
      continue
    for name in lists.words(values.get(field, "")):
      if ":" in name:
        raise errors.UserError(
          f"config.{field} of the results names {name!r}, which is code: if "
          "you trust it, name it yourself, as "
          f"--config.{field}={','.join(lists.words(values[field]))}"
        )


def _as_tuples(value: Any) -> Any:
  """Returns a value with tuples where JSON has lists."""
  if isinstance(value, list):
    return tuple(map(_as_tuples, value))
  return value


def check_fields(config: ConfigDict) -> None:
  """Raises an error if a config's fields are not those of its job.

  Args:
    config: a whole config.

  Raises:
    errors.UserError: the job does not go with the config, or a field is not
      one of the job's.
  """
  _check_job(config)
  taken = {"job": None, **fields(config.job)}
  given = flat(config)
  lacks = _missing(taken, given)
  if lacks:
    unused = _missing(given, taken)
    raise errors.UserError(
      f"config.job={config.job!r} does not go with this config, which lacks "
      f"{lacks}{f' and has {unused}' if unused else ''}: name a config of that "
      f"job, such as --config={_JOBS[config.job].config_name}"
    )
  for name in given:
    if name not in taken:
      raise errors.UserError(unknown_field(name, config.job))


def _missing(names: Iterable[str], there: Iterable[str]) -> str:
  """Returns the missing ones of some fields, or their whole sections."""
  sections_there = {name.partition(".")[0] for name in there}
  missing = []
  for name in names:
    section = name.partition(".")[0]
    if name not in there:
      missing.append(name if section in sections_there else section)
  return ", ".join(f"config.{name}" for name in dict.fromkeys(missing))


def unknown_field(name: str, job: str) -> str:
  """Returns a line on a field that a job does not take, with similar ones.

  Args:
    name: with its section, such as 'train.stepz'.
    job: one of `JOBS`.
  """
  line = f"config.{name} is not a field of the job {job!r}"
  if others := [other for other in JOBS if name in fields(other)]:
    line += f", but of {', '.join(others)}"
  section, _, last = name.rpartition(".")
  siblings = {
    field.rpartition(".")[2]: field
    for field in (*fields(job), *sections(job))
    if field.rpartition(".")[0] == section
  }
  near = [field for field in fields(job) if field.rpartition(".")[2] == last]
  near += difflib.get_close_matches(name, fields(job), cutoff=0.75)
  near += [siblings[x] for x in difflib.get_close_matches(last, siblings)]
  if near:
    names = [f"config.{field}" for field in dict.fromkeys(near)]
    line += f". Did you mean {' or '.join(names[:3])}?"
  if siblings:
    inside = f"config.{section}" if section else "config"
    line += f" ({inside} has {', '.join(siblings)})"
  return line


def validate(config: ConfigDict) -> None:
  """Raises an error for values outside of their limits.

  Args:
    config: a config; sections and fields of its job may be missing.

  Raises:
    errors.UserError: names the field, its value and the choices or the range.
  """
  _check_job(config)
  given = flat(config)
  for name, field in fields(config.job).items():
    value = given.get(name)
    if value is not None and field.limit and not field.limit.holds(value):
      raise errors.UserError(
        f"config.{name}={value!r}: must be {field.limit.text}"
      )


def _check_job(config: ConfigDict) -> None:
  if config.get("job") not in JOBS:
    raise errors.UserError(
      f"config.job={config.get('job')!r}: must be one of {', '.join(JOBS)}"
    )
