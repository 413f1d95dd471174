import re

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec
import numpy as np
import pytest
import tiny

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding


def test_the_mesh_is_one_axis_over_all_devices():
  mesh = sharding.create_mesh()
  assert mesh.axis_names == ("data",)
  assert list(mesh.devices) == jax.devices()
  assert mesh.axis_types == (AxisType.Auto,)


def test_specs_of_weights_and_batches():
  mesh = tiny.mesh(1)
  assert sharding.replicated(mesh).spec == PartitionSpec()
  assert sharding.batch_sharding(mesh).spec == PartitionSpec("data")


@pytest.mark.parametrize("count", [4, 8, 128])
def test_a_batch_that_the_devices_divide_is_taken(count):
  sharding.check_divisible(count, tiny.mesh(4), "config.train.batch_size")


@pytest.mark.parametrize("count, right", [(1, 4), (5, 4), (6, 8), (127, 128)])
def test_another_batch_is_refused_with_the_nearest_valid_one(count, right):
  with pytest.raises(errors.UserError) as refused:
    sharding.check_divisible(count, tiny.mesh(4), "config.train.batch_size")
  assert re.match(
    rf"config\.train\.batch_size={count}\b.*\b4 devices\b.*\b{right}$",
    str(refused.value),
  )


@pytest.mark.parametrize("count, placed", [(8, 8), (9, 12), (3, 4)])
def test_a_data_set_lies_in_equal_parts_with_black_at_the_end(count, placed):
  rng = np.random.default_rng(0)
  images = rng.integers(1, 256, (count, 4, 4, 3), np.uint8)
  array = sharding.place_images(images, tiny.mesh(4))
  assert array.dtype == np.uint8
  parts = [shard.data.shape for shard in array.addressable_shards]
  assert parts == 4 * [(placed // 4, 4, 4, 3)]
  np.testing.assert_array_equal(array[:count], images)
  np.testing.assert_array_equal(array[count:], 0)


# --- several processes: how they are found ------------------------------------


@pytest.fixture
def joined(monkeypatch):
  """Replaces what joins the processes; returns the calls, and no cluster."""
  calls = []
  for name in ("SLURM_STEP_NUM_TASKS", "JOB_COMPLETION_INDEX"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(
    jax.distributed,
    "initialize",
    lambda *given, **options: calls.append((given, options)),
  )
  return calls


@pytest.mark.parametrize("given", [(None, None, None), (None, 1, None)])
def test_one_process_alone_joins_nobody(joined, given):
  assert sharding.start_processes(*given) == 1
  assert not joined


@pytest.mark.parametrize(
  "name", ["SLURM_STEP_NUM_TASKS", "JOB_COMPLETION_INDEX"]
)
def test_a_variable_that_is_empty_names_no_cluster(joined, monkeypatch, name):
  monkeypatch.setenv(name, "")
  assert sharding.start_processes() == 1
  assert not joined


def test_a_number_of_tasks_that_is_none_is_refused(joined, monkeypatch):
  monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "many")
  with pytest.raises(errors.UserError, match="SLURM_STEP_NUM_TASKS='many'"):
    sharding.start_processes()


def test_the_flags_override_the_environment(joined, monkeypatch):
  monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
  assert sharding.start_processes("host:1234", 2, 1) == 2
  ((given, options),) = joined
  assert given == ("host:1234", 2, 1)
  assert options["cluster_detection_method"] == "deactivate"
  assert options["heartbeat_timeout_seconds"] == 60


@pytest.mark.parametrize(
  "name, value, expected",
  [("SLURM_STEP_NUM_TASKS", "8", 8), ("JOB_COMPLETION_INDEX", "0", 1)],
)
def test_a_cluster_is_found_by_its_variables(
  joined, monkeypatch, name, value, expected
):
  monkeypatch.setenv(name, value)
  assert sharding.start_processes() == expected
  ((given, options),) = joined
  assert given == (None, None, None)
  assert options["cluster_detection_method"] is None


@pytest.mark.parametrize(
  "given",
  [
    ("host:1234", None, None),
    ("host:1234", 2, None),
    (None, 2, 0),
    (None, 2, None),
    ("host:1234", 2, 2),
    ("host:1234", 2, -1),
  ],
)
def test_flags_that_contradict_each_other_are_refused(joined, given):
  with pytest.raises(errors.UserError) as refused:
    sharding.start_processes(*given)
  names = ("coordinator_address", "num_processes", "process_id")
  for name, value in zip(names, given, strict=True):
    assert f"--{name}={value}" in str(refused.value)
  assert not joined


def test_processes_that_cannot_be_found_are_an_error(monkeypatch):
  def fail(*unused, **options):
    raise ValueError("coordinator_address should be defined.\nAnd more.")

  monkeypatch.setattr(jax.distributed, "initialize", fail)
  monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
  with pytest.raises(errors.UserError) as refused:
    sharding.start_processes()
  message = str(refused.value)
  assert "Kubernetes (coordinator_address should be defined.)" in message
  assert "And more." not in message  # One line.
  for flag in ("--coordinator_address", "--process_id", "--num_processes=1"):
    assert flag in message


def test_one_process_has_all_rows_and_all_work():
  mesh = tiny.mesh(4)
  assert range(10)[sharding.local_rows(10, mesh)] == range(10)
  assert range(10)[sharding.process_slice(10)] == range(10)
  np.testing.assert_array_equal(
    sharding.gather(np.array([1 / 3, 2**40])), [[1 / 3, 2**40]]
  )
  np.testing.assert_array_equal(
    sharding.gather_slices(np.array([1 / 3, np.inf]), 2), [1 / 3, np.inf]
  )
