import importlib
import json

import pytest

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import main
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import losses
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import blending
from dcgan_inpaint.search import settings as search_settings

# Each once, even if several jobs take it.
FIELDS = list(
  dict.fromkeys(
    field
    for job in config_lib.JOBS
    for field in config_lib.fields(job).values()
  )
)


def make(job):
  """Returns the config of a job at its defaults."""
  return getattr(config_lib, f"{job}_job")()


def job_of(field):
  """Returns a job that takes a field."""
  return next(x for x in config_lib.JOBS if field in config_lib.fields(x))


# --- fields -------------------------------------------------------------------


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_field_has_a_type_an_explanation_and_a_default_within_its_limit(
  field,
):
  assert field.explanation.endswith(".") and "\n" not in field.explanation
  if field.default is not None:
    assert isinstance(field.default, field.type)
    assert field.limit is None or field.limit.holds(field.default)


@pytest.mark.parametrize("job", config_lib.JOBS)
def test_a_job_is_known_to_all_and_valid_at_its_defaults(job):
  config = make(job)
  assert config.job == job
  config_lib.check_fields(config)
  config_lib.validate(config)
  assert set(config_lib.flat(config)) == {"job", *config_lib.fields(job)}
  assert config_lib.job_explanation(job)
  assert all(config_lib.sections(job).values())
  module, _, function = main._JOBS[job].function.partition(":")
  assert callable(getattr(importlib.import_module(module), function))


def test_main_runs_the_jobs_that_have_a_config():
  assert tuple(main._JOBS) == config_lib.JOBS


@pytest.mark.parametrize(
  "field, owned",
  [
    ("model.convolution", convolutions.IMPLEMENTATIONS),
    ("train.loss", losses.VARIANTS),
    ("search.blending", blending.MODES),
    ("search.mode", search_settings.MODES),
    ("faces", detection.DETECTORS),
    ("masks", mask_sets.FAMILIES),
  ],
)
def test_an_explanation_names_all_that_there_is(field, owned):
  explanation = config_lib.fields(job_of(field))[field].explanation
  assert [name for name in owned if name not in explanation] == []


# --- values -------------------------------------------------------------------


@pytest.mark.parametrize(
  "field, value, remedy",
  [
    ("seed", -1, "from 0 to"),
    ("data.seed", -1, "from 0 to"),
    ("mask.seed", 2**32, "from 0 to"),
    ("search.seed", -1, "from 0 to"),
    ("model.width", 0.0, "above 0"),
    ("model.latent_size", 0, "at least 1"),
    ("model.dtype", "float16", "float32, bfloat16"),
    ("model.batch_norm_momentum", 1.0, "below 1"),
    ("data.name", "coco", "celeba, folder, synthetic"),
    ("data.split", "val", "train, validation, test, all"),
    ("data.placement", "disk", "auto, device, stream"),
    ("data.max_images", -1, "at least 0"),
    ("data.workers", -1, "at least 0"),
    ("throughput.rounds", 0, "at least 1"),
    ("throughput.seconds", 0.0, "above 0"),
    ("throughput.peak_size", -1, "at least 0"),
    ("train.batch_size", 1, "at least 2"),
    ("train.epochs", -1.0, "at least 0"),
    ("train.steps", -1, "at least 0"),
    ("train.learning_rate", 0.0, "above 0"),
    ("train.learning_rate", float("nan"), "above 0"),
    ("train.beta1", 1.0, "below 1"),
    ("train.beta2", -0.1, "at least 0"),
    ("train.ema_decay", 1.0, "below 1"),
    ("train.steps_per_call", -1, "at least 0"),
    ("train.log_every", 0, "at least 1"),
    ("train.sample_every", -1, "at least 0"),
    ("train.save_every", 0, "at least 1"),
    ("train.max_to_keep", 0, "at least 1"),
    ("train.validation_images", -1, "at least 0"),
    ("train.validation_steps", 0, "at least 1"),
    ("search.mode", "papers", "paper, fidelity, realism"),
    ("search.start", "zeros", "random, encoder"),
    ("search.spread", -0.1, "at least 0"),
    ("search.reduce", "worst", "best, mean"),
    ("search.steps", -1, "at least 0"),
    ("search.learning_rate", -0.1, "above 0"),
    ("search.schedule", "linear", "cosine, constant"),
    ("search.starts", 0, "at least 1"),
    ("search.encoders", -1, "at least 0"),
    ("search.prior_weight", -1.0, "at least 0"),
    ("search.refine_steps", -1, "at least 0"),
    ("search.refine_layer", -1, "0, 1, 2, 3, 4, 5, 6"),
    ("search.refine_layer", 7, "0, 1, 2, 3, 4, 5, 6"),
    ("model.image_size", 100, "32, 64, 128, 256"),
    ("model.image_channels", 4, "1, 3"),
    ("data.crop", "center", "auto, centre, face128, none"),
    ("search.refine_learning_rate", 0.0, "above 0"),
    ("search.proximal_weight", -1.0, "at least 0"),
    ("search.detail_gain", -1.0, "at least 0"),
    ("search.dtype", "half", "float32, bfloat16"),
    ("search.batch_size", 0, "at least 1"),
    ("search.steps_per_call", -1, "at least 0"),
    ("evaluation.images", -1, "at least 0"),
    ("evaluation.contact_sheet", -1, "at least 0"),
    ("benchmark.images", -1, "at least 0"),
    ("benchmark.slow_images", -1, "at least 0"),
    ("benchmark.chunk", 0, "at least 1"),
    ("benchmark.contact_sheet", 0, "at least 1"),
    ("encoder.width", 0.0, "above 0"),
    ("encoder.rank", -1, "at least 0"),
    ("encoder.dropout", 1.0, "below 1"),
    ("encoder.dtype", "half", "float32, bfloat16"),
    ("encoder.mask_pool", 0, "at least 1"),
    ("encoder.known_weight", -0.1, "at least 0"),
    ("encoder.generated_share", 1.0, "below 1"),
    ("encoder.batch_size", 0, "at least 1"),
    ("encoder.steps", 0, "at least 1"),
    ("encoder.learning_rate", 0.0, "above 0"),
    ("encoder.weight_decay", -1.0, "at least 0"),
    ("encoder.steps_per_call", -1, "at least 0"),
    ("encoder.log_every", 0, "at least 1"),
    ("encoder.save_every", 0, "at least 1"),
    ("encoder.max_to_keep", 0, "at least 1"),
    ("encoder.validation_images", -1, "at least 0"),
    ("strips", "all", "'', original, masked"),
    ("samples", 0, "at least 1"),
    ("contact_sheet", -1, "at least 0"),
  ],
)
def test_a_wrong_value_is_refused_with_its_field_and_the_remedy(
  field, value, remedy
):
  config = make(job_of(field))
  config.update_from_flattened_dict({field: value})
  with pytest.raises(errors.UserError) as refused:
    config_lib.validate(config)
  message = str(refused.value)
  assert message.startswith(f"config.{field}={value!r}")
  assert remedy in message and "\n" not in message


def test_a_wrong_job_is_refused_with_the_choices():
  config = make("train")
  config.job = "trian"
  for check in (config_lib.validate, config_lib.check_fields):
    with pytest.raises(errors.UserError, match="config.job='trian'.*inpaint"):
      check(config)


def test_drawn_faces_are_not_prepared():
  config = make("prepare")
  config.data.name = "synthetic"
  with pytest.raises(errors.UserError, match="config.data.name='synthetic'"):
    config_lib.validate(config)


@pytest.mark.parametrize("value", ["a.zip", ("a, b", "c"), (("A", "B"), "C")])
def test_a_field_of_several_takes_text_and_tuples(value):
  config = make("evaluate").lock()
  for field in ("data.path", "checkpoint.encoder", "evaluation.methods"):
    config.update_from_flattened_dict({field: value})
    assert config_lib.flat(config)[field] == value
  with pytest.raises(TypeError):
    config.data.path = 3


# --- the fields of a job ------------------------------------------------------


@pytest.mark.parametrize(
  "of, job, lacks, has",
  [
    ("train", "benchmark", "config.benchmark", "config.train"),
    ("train", "evaluate", "config.checkpoint.path", "config.model"),
    ("evaluate", "inpaint", "config.input", "config.evaluation"),
    ("benchmark", "train", "config.model", "config.benchmark"),
    ("prepare", "export", "config.checkpoint", "config.data"),
  ],
)
def test_a_job_that_does_not_go_with_the_config_is_refused(of, job, lacks, has):
  config = make(of)
  config.job = job
  with pytest.raises(errors.UserError) as refused:
    config_lib.check_fields(config)
  message = str(refused.value)
  for part in (f"config.job={job!r}", lacks, has, f"--config={job}"):
    # A job's config usually has its name.
    if part != "--config=train":
      assert part in message
  assert "\n" not in message


@pytest.mark.parametrize(
  "job, field, near",
  [
    ("train", "model.latents", ["config.model.latent_size", "width"]),
    ("train", "train.stepz", ["config.train.steps"]),
    ("train", "trian.steps", ["config.train.steps"]),
    ("train", "maskz", ["config.masks"]),
    ("train", "checkpoint.path", ["evaluate", "config.checkpoint has step"]),
    ("train", "benchmark.methods", ["benchmark", "config.evaluation.methods"]),
    ("benchmark", "masks", ["config.benchmark.masks"]),
    ("benchmark", "data.placement", ["train"]),
    ("train_encoder", "data.split", ["train", "evaluate"]),
    ("benchmark_throughput", "train.steps", ["train", "throughput.steps"]),
    ("export", "anything", ["output", "checkpoint"]),
  ],
)
def test_a_field_that_the_job_does_not_take_is_refused(job, field, near):
  config = make(job)
  section, _, name = field.rpartition(".")
  if section and section not in config:
    config[section] = config_lib.ConfigDict()
  (config[section] if section else config)[name] = 3
  with pytest.raises(errors.UserError) as refused:
    config_lib.check_fields(config)
  message = str(refused.value)
  for part in (f"config.{field} ", repr(job), *near):
    assert part in message
  assert "\n" not in message


# --- former names -------------------------------------------------------------

# A value of each renamed field, other than its default.
OLD = {
  "train.keep": 5,
  "encoder.keep": 5,
  "search.keep": "best",
  "search.refine_pull": 3.0,
  "throughput.forms": "plain,dense",
  "throughput.compile_anew": False,
  "mask.family": "half",
}


@pytest.mark.parametrize("old", config_lib.RENAMED)
@pytest.mark.parametrize("given", [False, True])
def test_a_former_name_in_a_config_file_is_read(old, given, caplog):
  new = config_lib.RENAMED[old]
  config = make(job_of(new))
  untouched = config.to_dict()
  section, _, name = old.rpartition(".")
  config[section][name] = OLD[old]
  config.lock()
  config_lib.read_old_names(config, [new] if given else [])
  assert f"config.{old} " in caplog.text and f"config.{new}" in caplog.text
  config_lib.check_fields(config)
  config_lib.validate(config)
  assert config.is_locked
  if not given:
    assert config_lib.flat(config)[new] == OLD[old]
    default = config_lib.fields(config.job)[new].default
    with config.unlocked():
      config.update_from_flattened_dict({new: default})
  assert config.to_dict() == untouched


def results_of(config, **changes):
  """Returns a results.json as read, with changes of the flat config."""
  stored = json.loads(json.dumps(config.to_dict()))
  for field, value in changes.items():
    section, name = field.split("__")
    stored.setdefault(section, {})[name] = value
  return {
    "job": config.job,
    "config": stored,
    "versions": {"dcgan_inpaint": "0.1.0"},
  }


@pytest.mark.parametrize("job", config_lib.JOBS)
def test_a_config_comes_back_from_its_results(job):
  config = make(job)
  if "search" in config:
    config.search.steps = 7  # A field that was open.
  if "checkpoint" in config and "encoder" in config.checkpoint:
    config.checkpoint.encoder = (("A", "B"), "C+D")
  restored = config_lib.of_results(results_of(config))
  assert restored.to_dict() == config.to_dict()
  assert restored.is_locked


@pytest.mark.parametrize("old", config_lib.RENAMED)
def test_results_with_a_former_name_are_read(old):
  new = config_lib.RENAMED[old]
  config = make(job_of(new))
  results = results_of(config, **{old.replace(".", "__"): OLD[old]})
  # With both names, the current one is used.
  assert config_lib.of_results(results).to_dict() == config.to_dict()
  section, _, name = new.rpartition(".")
  del (results["config"][section] if section else results["config"])[name]
  restored = config_lib.flat(config_lib.of_results(results))
  assert restored == {**config_lib.flat(config), new: OLD[old]}


@pytest.mark.parametrize(
  "job, unused",
  [
    ("train", {"checkpoint__path": "runs/quickstart"}),
    ("benchmark", {"mask__family": "centre", "data__workers": 0}),
    ("benchmark_throughput", {"train__keep": 2, "train__steps": 0}),
  ],
)
def test_what_the_job_never_used_is_left_out_of_its_results(job, unused):
  # As an earlier version wrote them.
  config = make(job)
  results = results_of(config, **unused)
  assert config_lib.of_results(results).to_dict() == config.to_dict()


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"train__stepz": 3}, "stepz.* take the version .* 0.1.0"),
    ({"train__steps": "many"}, "take the version"),
  ],
)
def test_results_that_this_version_does_not_know_are_refused(changes, message):
  results = results_of(config_lib.train_job(), **changes)
  with pytest.raises(errors.UserError, match=message) as refused:
    config_lib.of_results(results)
  assert "\n" not in str(refused.value)


def test_results_of_an_unknown_job_are_refused():
  results = results_of(config_lib.train_job()) | {"job": "dream"}
  with pytest.raises(errors.UserError, match="'dream'.*train"):
    config_lib.of_results(results)
