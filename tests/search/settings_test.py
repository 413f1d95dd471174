import dataclasses
import typing

import pytest

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import settings as search_settings


def section(**fields):
  """Returns `config.search` with some fields set."""
  config = config_lib.search()
  config.update(fields)
  return config


def test_the_settings_have_the_fields_of_the_config():
  fields = [
    field.name for field in dataclasses.fields(search_settings.SearchSettings)
  ]
  assert sorted(fields) == sorted(config_lib.search())


@pytest.mark.parametrize("mode", search_settings.MODES)
def test_every_field_is_described_and_of_its_type(mode):
  settings = search_settings.resolve(section(mode=mode))
  types = typing.get_type_hints(search_settings.SearchSettings)
  for field, value in dataclasses.asdict(settings).items():
    assert type(value) is types[field], field
    assert f"    {field}: " in search_settings.SearchSettings.__doc__


@pytest.mark.parametrize("mode", search_settings.MODES)
def test_a_mode_sets_what_is_left_open_and_nothing_else(mode):
  config = section(mode=mode)
  open_fields = {name for name, value in config.items() if value is None}
  values = search_settings.MODES[mode]
  assert set(values) == open_fields
  config.steps = 7
  settings = search_settings.resolve(config)
  expected = {**config.to_dict(), **values, "steps": 7}
  assert dataclasses.asdict(settings) == expected
  assert config.starts is None  # The config itself is unchanged.


@pytest.mark.parametrize("mode", search_settings.MODES)
def test_another_mode_takes_the_place_of_fields_that_are_set(mode):
  config = section(steps=7, detail_gain=3.0, seed=5)
  settings = search_settings.resolve(config, mode)
  assert settings == search_settings.resolve(config).in_mode(mode)
  assert settings == search_settings.resolve(section(mode=mode, seed=5))


def test_the_last_activations_are_those_of_the_model():
  settings = search_settings.resolve(section(mode="fidelity"))
  for layers in (3, 4, 5):
    found = settings.for_layers(layers)
    assert found == dataclasses.replace(settings, refine_layer=layers)
  third = search_settings.resolve(section(mode="fidelity", refine_layer=3))
  assert third.for_layers(5) == third
  fifth = search_settings.resolve(section(mode="fidelity", refine_layer=5))
  with pytest.raises(errors.UserError, match="refine_layer=5.* 4 .*1 to 4"):
    fifth.for_layers(4)
  # Without a step there is nothing wrong.
  dataclasses.replace(fifth, refine_steps=0).for_layers(4)


def test_settings_do_not_change():
  settings = search_settings.resolve(section())
  with pytest.raises(dataclasses.FrozenInstanceError):
    settings.steps = 3
  assert hash(settings) == hash(search_settings.resolve(section()))


@pytest.mark.parametrize(
  "field, value, remedy",
  [
    ("mode", "papers", "paper, fidelity, realism"),
    ("start", "zeros", "random, encoder"),
    ("reduce", "worst", "best, mean"),
    ("schedule", "linear", "cosine, constant"),
    ("blending", "alpha", "paste, poisson, screened"),
    ("dtype", "half", "float32, bfloat16"),
    ("loss", "sigmoid", "sigmoid_cross_entropy"),
    ("optimizer", "adamm", "adam, sgd, rmsprop, nadam, lion or lbfgs"),
  ],
)
def test_a_wrong_choice_is_refused_with_its_field_and_the_choices(
  field, value, remedy
):
  with pytest.raises(errors.UserError) as refused:
    search_settings.resolve(section(**{field: value}))
  message = str(refused.value)
  assert message.startswith(f"config.search.{field}={value!r}")
  assert remedy in message and "\n" not in message
