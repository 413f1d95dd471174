"""One mesh over all devices, and where arrays lie on it.

The design is one axis, `data`: batches are split over it, weights are copied.
The same program then runs on one CPU and on eight GPUs, and BatchNorm sees the
global batch.
"""

import jax
from jax.sharding import AxisType
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from dcgan_inpaint import errors


def create_mesh() -> Mesh:
  """Returns the mesh over all devices, one axis `data`."""
  # The axis type is stated: the default became Explicit in JAX 0.9, under which
  # gradients of convolutions fail.
  return jax.make_mesh(
    (jax.device_count(),), ("data",), axis_types=(AxisType.Auto,)
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of weights: a copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of batches: the first axis is cut over the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def check_divisible(count: int, mesh: Mesh, field: str) -> None:
  """Refuses a batch that the devices do not divide.

  Args:
    count: images in the batch.
    mesh: the mesh it is to be split over.
    field: the config field that set `count`.

  Raises:
    errors.UserError: names the field, both numbers and the nearest right one.
  """
  devices = mesh.devices.size
  if count % devices:
    nearest = max(devices, round(count / devices) * devices)
    raise errors.UserError(
      f"{field}={count}: {devices} devices do not divide it; take {nearest}"
    )


def place_images(images: np.ndarray, mesh: Mesh) -> jax.Array:
  """Lays a data set on the devices, each holding an equal part.

  Args:
    images: uint8 [N, H, W, 3], the same on every process.
    mesh: the mesh.

  Returns:
    The images split over the mesh. Where the devices do not divide N, up to
    one image a device of black is added at the end, which no index reaches.
  """
  rows = len(images) + -len(images) % mesh.devices.size

  def part(index):
    mine = images[index]
    first, last, _ = index[0].indices(rows)
    black = np.zeros((last - first - len(mine), *images.shape[1:]), np.uint8)
    return np.concatenate([mine, black]) if len(black) else mine

  return jax.make_array_from_callback(
    (rows, *images.shape[1:]), split(mesh), part
  )
