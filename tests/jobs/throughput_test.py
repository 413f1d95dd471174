import json

import jax
import numpy as np
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.jobs import throughput
from dcgan_inpaint.jobs import throughput_programs
from dcgan_inpaint.jobs import throughput_timing
from dcgan_inpaint.networks import flops
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import settings as search_settings


def throughput_config(**fields):
  config = config_lib.benchmark_throughput_job()
  config.model.width = tiny.WIDTH
  config.model.latent_size = tiny.LATENT_SIZE
  config.train.batch_size = 8
  config.search.batch_size = 4
  config.search.steps = 2
  config.throughput.devices = "2"
  config.throughput.rounds = 3
  config.throughput.seconds = 0.01
  config.throughput.peak_size = 64
  # The suite's cache of compiled programs serves here, too.
  config.throughput.recompile = False
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in fields.items()}
  )
  return config


def cells(config, devices):
  """Returns what a config measures on so many devices."""
  settings = search_settings.resolve(config.search)
  return throughput.cells(config, settings, devices)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  """Returns the workdir of a run, its config and its rows."""
  workdir = tmp_path_factory.mktemp("throughput")
  config = throughput_config(throughput__steps="4")
  rows = throughput.run(config, str(workdir), sharding.create_mesh())
  return workdir, config, rows


@pytest.mark.slow
def test_training_and_search_are_measured(measured):
  workdir, _, rows = measured
  assert [(row["what"], row["steps"]) for row in rows] == [
    ("train", None),
    ("search", 2),
    ("search", 4),
  ]
  operations = {
    "train": 8 * flops.train_step(tiny.WIDTH, tiny.LATENT_SIZE, tiny.SHAPE),
    "search": 4 * flops.search_step(tiny.WIDTH, tiny.LATENT_SIZE, tiny.SHAPE),
  }
  for row in rows:
    seconds = row["milliseconds_per_step"] / 1e3
    assert row["devices"] == 2 and row["implementation"] == "auto"
    assert row["batch"] == {"train": 8, "search": 4}[row["what"]]
    assert row["per_second"] == pytest.approx(row["batch"] / seconds)
    assert row["gigaflops_per_second"] == pytest.approx(
      operations[row["what"]] / seconds / 1e9
    )
    assert row["flops_utilisation"] > 0
    assert row["milliseconds_fastest"] <= row["milliseconds_per_step"]
    assert row["milliseconds_per_step"] <= row["milliseconds_slowest"]
    assert row["memory_megabytes"] > 0 and row["compile_seconds"] > 0
  assert (workdir / "throughput.png").stat().st_size > 10_000


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(measured, monkeypatch):
  workdir, config, rows = measured

  def refuse(*unused):
    raise AssertionError("measured again")

  monkeypatch.setattr(throughput, "_row", refuse)
  again = throughput.run(config, str(workdir), sharding.create_mesh())
  assert again == json.loads(json.dumps(rows))
  other = throughput_config(search__prior_weight=0.0)
  with pytest.raises(AssertionError, match="measured again"):
    throughput.run(other, str(workdir), sharding.create_mesh())


def test_a_list_varies_one_thing_and_implementations_meet_every_batch():
  config = throughput_config(
    throughput__devices="1,2",
    throughput__implementations="dense",
    throughput__train_batches="16",
    throughput__search_batches="4,6",
    throughput__widths="0.1",
    throughput__starts="1,3",
    throughput__steps="5",
  )
  found = cells(config, 8)
  train = [tuple(cell)[1:5] for cell in found if cell.what == "train"]
  assert train == [
    ("auto", 1, tiny.WIDTH, 8),
    ("auto", 1, tiny.WIDTH, 16),
    ("dense", 1, tiny.WIDTH, 8),
    ("dense", 1, tiny.WIDTH, 16),
    ("auto", 2, tiny.WIDTH, 8),
    ("auto", 1, 0.1, 8),
  ]
  search = [tuple(cell)[1:] for cell in found if cell.what == "search"]
  assert search == [
    ("auto", 1, tiny.WIDTH, 4, 1, 2),
    ("auto", 1, tiny.WIDTH, 6, 1, 2),
    ("dense", 1, tiny.WIDTH, 4, 1, 2),
    ("dense", 1, tiny.WIDTH, 6, 1, 2),
    ("auto", 2, tiny.WIDTH, 4, 1, 2),
    ("auto", 1, 0.1, 4, 1, 2),
    ("auto", 1, tiny.WIDTH, 4, 3, 2),
    ("auto", 1, tiny.WIDTH, 4, 1, 5),
  ]


def test_a_list_may_be_a_tuple():
  lists = {"train_batches": (16, 32), "implementations": ("dense", "plain")}
  tuples = {f"throughput__{name}": value for name, value in lists.items()}
  texts = {name: ",".join(map(str, value)) for name, value in tuples.items()}
  first, second = (
    throughput.cells(config, search_settings.resolve(config.search), 8)
    for config in (throughput_config(**tuples), throughput_config(**texts))
  )
  assert first == second


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"throughput__what": "trane"}, "what='trane': take train, search"),
    (
      {"throughput__implementations": "fast"},
      "implementations: 'fast' is none of auto, plain",
    ),
    ({"throughput__widths": "1,two"}, "widths='1,two': list numbers above 0"),
    ({"throughput__starts": "0"}, "starts='0': list numbers above 0"),
    ({"throughput__devices": "99"}, "devices='99', and there are 8"),
    (
      {"throughput__train_batches": "9"},
      "2 devices do not divide a batch of 9",
    ),
  ],
)
def test_a_wrong_list_is_refused(fields, message):
  with pytest.raises(errors.UserError, match=message):
    cells(throughput_config(**fields), 8)


def test_what_does_not_fit_into_memory_leaves_a_row_without_figures(
  monkeypatch, caplog
):
  def exhausted(*unused):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

  monkeypatch.setattr(throughput_programs, "train", exhausted)
  config = throughput_config()
  (cell, _) = cells(config, 2)
  settings = search_settings.resolve(config.search)
  row = throughput._row(cell, config, settings, 1e12)
  assert row["batch"] == 8 and row["per_second"] is None
  assert "memory does not suffice" in caplog.text


def test_the_cache_of_programs_is_left_as_it_was():
  usual = jax.config.jax_compilation_cache_dir
  with throughput_timing.recompiling(True):
    empty = jax.config.jax_compilation_cache_dir
    assert empty != usual
    jax.jit(lambda x: np.pi * x)(1.0)
  assert jax.config.jax_compilation_cache_dir == usual
