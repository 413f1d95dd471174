import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec
import numpy as np
import pytest
import tiny

from dcgan_inpaint import errors
from dcgan_inpaint import sharding


def test_the_mesh_is_one_axis_over_all_devices():
  mesh = sharding.create_mesh()
  assert mesh.axis_names == ("data",)
  assert list(mesh.devices) == jax.devices()
  assert mesh.axis_types == (AxisType.Auto,)


def test_specs_of_weights_and_batches():
  mesh = tiny.mesh(1)
  assert sharding.replicated(mesh).spec == PartitionSpec()
  assert sharding.split(mesh).spec == PartitionSpec("data")


@pytest.mark.parametrize("count", [4, 8, 128])
def test_a_batch_that_the_devices_divide_is_taken(count):
  sharding.check_divisible(count, tiny.mesh(4), "config.train.batch_size")


@pytest.mark.parametrize("count, right", [(1, 4), (5, 4), (6, 8), (127, 128)])
def test_another_batch_is_refused_with_the_nearest_right_one(count, right):
  with pytest.raises(errors.UserError) as error:
    sharding.check_divisible(count, tiny.mesh(4), "config.train.batch_size")
  assert str(error.value) == (
    f"config.train.batch_size={count}: 4 devices do not divide it; take {right}"
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
