import importlib.util
import json
import pathlib

import pytest

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.runtime import errors

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "configs"
# All but the one that has the fields of whatever file it is given.
CONFIGS = sorted(set(FOLDER.glob("*.py")) - {FOLDER / "again.py"})


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def every_section():
  """Returns a config with the sections of every job."""
  config = config_lib.train_job()
  config.encoder = config_lib.encoder()
  config.benchmark = config_lib.benchmark()
  config.throughput = config_lib.throughput()
  return config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_file_is_valid_and_says_how_it_is_run(path):
  module = load(path)
  config_lib.validate(module.get_config())
  command = f"python -m dcgan_inpaint.main --config=configs/{path.name}"
  assert command in module.__doc__


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_flags_of_a_docstring_are_fields_of_the_config(path):
  module = load(path)
  config = module.get_config()
  for word in module.__doc__.replace("(", " ").split():
    if word.startswith("--config."):
      field, _, value = word.removeprefix("--config.").partition("=")
      *sections, name = field.split(".")
      section = config
      for part in sections:
        section = section[part]
      assert name in section, word
      assert value, word


@pytest.mark.parametrize(
  "field, value, remedy",
  [
    ("job", "trian", ", ".join(config_lib.JOBS)),
    ("seed", -1, "from 0 to"),
    ("data.seed", -1, "from 0 to"),
    ("mask.seed", 2**32, "from 0 to"),
    ("search.seed", -1, "from 0 to"),
    ("model.width", 0.0, "above 0"),
    ("model.latent_size", 0, "at least 1"),
    ("model.dtype", "float16", "float32, bfloat16"),
    ("model.batch_norm_momentum", 1.0, "below 1"),
    ("model.convolution", "fast", "auto, "),
    ("data.name", "coco", "celeba, folder, synthetic"),
    ("data.split", "val", "train, validation, test, all"),
    ("data.max_images", -1, "at least 0"),
    ("train.loss", "sigmoid", "sigmoid_cross_entropy"),
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
    ("search.steps", -1, "at least 0"),
    ("search.learning_rate", -0.1, "above 0"),
    ("search.starts", 0, "at least 1"),
    ("search.prior_weight", -1.0, "at least 0"),
    ("search.refine_steps", -1, "at least 0"),
    ("search.refine_layer", 0, "(1, 2, 3, 4)"),
    ("search.refine_layer", 5, "(1, 2, 3, 4)"),
    ("search.refine_learning_rate", 0.0, "above 0"),
    ("search.proximal_weight", -1.0, "at least 0"),
    ("search.batch_size", 0, "at least 1"),
    ("search.steps_per_call", -1, "at least 0"),
    ("evaluation.images", -1, "at least 0"),
    ("evaluation.contact_sheet", -1, "at least 0"),
    ("encoder.width", 0.0, "above 0"),
    ("encoder.rank", -1, "at least 0"),
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
  ],
)
def test_a_wrong_value_is_refused_with_its_field_and_the_remedy(
  field, value, remedy
):
  config = every_section()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(errors.UserError) as refused:
    config_lib.validate(config)
  message = str(refused.value)
  assert message.startswith(f"config.{field}={value!r}")
  assert remedy in message and "\n" not in message


def test_every_limit_is_that_of_a_field():
  # A misspelt one would be passed over in silence.
  jobs = (every_section(), config_lib.inpaint_job())
  for field in [*config_lib._CHOICES, *config_lib._RANGES]:
    section, _, name = field.rpartition(".")
    assert any(
      name in (config.get(section, ()) if section else config)
      for config in jobs
    ), field


@pytest.mark.parametrize(
  "make",
  [
    config_lib.train_job,
    config_lib.train_encoder_job,
    config_lib.compare_job,
    config_lib.evaluate_job,
    config_lib.benchmark_job,
    config_lib.inpaint_job,
    config_lib.export_job,
    config_lib.prepare_job,
  ],
)
def test_a_job_is_valid_at_its_defaults(make):
  config = make()
  config_lib.validate(config)
  assert make.__name__ == f"{config.job}_job"


def results_of(config, **changes):
  """What is read of a results.json, with changes of the flat config."""
  stored = json.loads(json.dumps(config.to_dict()))
  for field, value in changes.items():
    section, name = field.split("__")
    stored[section][name] = value
  return {
    "job": config.job,
    "config": stored,
    "versions": {"dcgan_inpaint": "0.1.0"},
  }


@pytest.mark.parametrize("job", config_lib.JOBS)
def test_a_config_comes_back_from_its_results(job):
  config = getattr(config_lib, f"{job}_job")()
  if "search" in config:
    config.search.steps = 7  # A field that was open.
  restored = config_lib.of_results(results_of(config))
  assert restored.to_dict() == config.to_dict()
  assert restored.is_locked


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
