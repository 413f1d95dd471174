"""The processes of a job, one mesh over their devices, and what lies where.

The mesh has one axis, `data`: batches are split over it, weights are copied.
The same program then runs on one CPU, on eight GPUs and on many hosts, and
BatchNorm sees the global batch. Training runs over all devices of all
processes; what needs no communication (the search, and all that is done image
by image) runs in each process over its own.
"""

import glob
import importlib.util
import os
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
from orbax.checkpoint import multihost

from dcgan_inpaint.runtime import errors

# A process that is silent for so long is dead, and JAX stops all others.
_HEARTBEAT_SECONDS = 60
# How long a process waits for the others, as long as they live.
_PATIENCE_SECONDS = 7 * 24 * 3600


def start_processes(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> int:
  """Joins the processes of a job; to be called before anything else of JAX.

  With all three arguments, as they say. With none, by
  `jax.distributed.initialize`'s own search where the environment shows a
  cluster: a SLURM step of several tasks, a pod of an indexed Job of Kubernetes
  (which needs `jax[k8s]`), or a host with TPUs. `num_processes=1` alone is one
  process, whatever the environment shows. A cluster in which the others cannot
  be found is an error, never a run alone.

  Args:
    coordinator_address: host and port of process 0, HOST:PORT.
    num_processes: how many there are.
    process_id: which this is, from 0.

  Returns:
    How many processes there should now be; `jax.process_count()` must agree.

  Raises:
    errors.UserError: the arguments do not go together, or the others cannot be
      found.
  """
  given = (coordinator_address, num_processes, process_id)
  if given == (None, 1, None):
    return 1
  cluster, expected = "the three flags", num_processes
  options = {}
  if given == (None, None, None):
    cluster, expected = _find_cluster()
    if not cluster:
      return 1
  elif None in given or not 0 <= process_id < num_processes:
    raise errors.UserError(
      f"--coordinator_address={coordinator_address} "
      f"--num_processes={num_processes} --process_id={process_id}: give all "
      "three, with a process_id from 0 to num_processes - 1; or none, and they "
      "are looked for; or --num_processes=1 alone"
    )
  else:
    # What is said is meant: nothing of the environment is mixed in.
    options["cluster_detection_method"] = "deactivate"
  try:
    jax.distributed.initialize(
      *given, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS, **options
    )
  # Each cluster's search has errors of its own kind.
  except Exception as error:  # noqa: BLE001
    reason = str(error).strip().partition("\n")[0]
    raise errors.UserError(
      f"the processes could not be joined by {cluster} ({reason}): give "
      "--coordinator_address, --num_processes and --process_id, or "
      "--num_processes=1 for this process alone"
    ) from error
  return expected or jax.process_count()


def _find_cluster() -> tuple[str, int | None]:
  """Returns the cluster that the environment shows, and its processes.

  The name is '' where there is none, the number None where JAX must find it.
  """
  tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
  if tasks > 1:
    return "SLURM", tasks
  if "JOB_COMPLETION_INDEX" in os.environ:
    return "Kubernetes", None
  chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
  if chips and importlib.util.find_spec("libtpu"):
    return "TPU", None
  return "", 1


def create_mesh() -> Mesh:
  """Returns the mesh over all devices of all processes, one axis `data`."""
  # By process, so that each holds one piece of whatever is split.
  devices = sorted(jax.devices(), key=lambda x: (x.process_index, x.id))
  return _mesh(devices)


def local_mesh(mesh: Mesh) -> Mesh:
  """Returns the mesh over those devices of a mesh that are this process's."""
  mine = jax.process_index()
  return _mesh([x for x in mesh.devices.flat if x.process_index == mine])


def _mesh(devices: list[jax.Device]) -> Mesh:
  # The axis type is stated: the default became Explicit in JAX 0.9, under which
  # gradients of convolutions fail.
  return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of weights: a copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of batches: the first axis is cut over the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def step_batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of [steps, batch, ...]: each batch is split."""
  return NamedSharding(mesh, PartitionSpec(None, "data"))


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


def local_rows(count: int, mesh: Mesh) -> slice:
  """Returns which of `count` rows lie on the devices of this process.

  The rows are cut into one equal piece a device; where the devices do not
  divide them, the last piece is the shorter.

  Args:
    count: images of a batch or of a data set.
    mesh: the mesh.
  """
  devices = mesh.devices.flat
  each = -(-count // len(devices))
  mine = [
    place
    for place, device in enumerate(devices)
    if device.process_index == jax.process_index()
  ]
  first, last = min(mine) * each, (max(mine) + 1) * each
  return slice(min(first, count), min(last, count))


def process_slice(count: int) -> slice:
  """Returns which of `count` pieces of work this process does: every n-th."""
  return slice(jax.process_index(), count, jax.process_count())


def wait_for_all(name: str) -> None:
  """Waits until every process is here; where there is one, does nothing.

  To be called before what all processes do together, where one of them may
  come late: it may have compiled for longer, or had more to do. Collectives of
  the CPU give up after 30 seconds; this does not.

  Args:
    name: what is waited for; the same on all processes.
  """
  multihost.get_barrier_sync_fn()(key=name, timeout_ms=1000 * _PATIENCE_SECONDS)


def gather(values: np.ndarray) -> np.ndarray:
  """Returns the values of all processes, [processes, ...], to the bit.

  All processes must call it, and each waits there for the others.

  Args:
    values: float64, one dimension or more, of one shape on all processes.
  """
  wait_for_all("gather")
  # As halves of 32 bits: JAX has no 64-bit numbers unless told to.
  halves = np.ascontiguousarray(values, np.float64).view(np.uint32)
  gathered = np.asarray(multihost_utils.process_allgather(halves))
  gathered = gathered.reshape(jax.process_count(), *halves.shape)
  return np.ascontiguousarray(gathered).view(np.float64)


def gather_slices(values: np.ndarray, count: int) -> np.ndarray:
  """Returns float64 [count] from what each process has of its `share`."""
  local_rows = -(-count // jax.process_count())
  padded = np.zeros(local_rows)
  padded[: len(values)] = values
  return gather(padded).T.reshape(-1)[:count]


def local_copy(tree: Any) -> Any:
  """Returns replicated arrays as arrays of one device of this process."""
  return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def place_images(
  images: np.ndarray, mesh: Mesh, count: int | None = None
) -> jax.Array:
  """Lays a data set on the devices, each holding an equal part.

  Args:
    images: uint8 [N, H, W, 3], the `rows` of this process.
    mesh: the mesh.
    count: the images of all processes; those of this one by default.

  Returns:
    The images split over the mesh. Where the devices do not divide their
    number, up to one image a device of black is added at the end, which no
    index reaches.
  """
  count = len(images) if count is None else count
  total = count + -count % mesh.devices.size
  offset = local_rows(count, mesh).start

  def part(index):
    first, last, _ = index[0].indices(total)
    mine = images[first - offset : last - offset]
    black = np.zeros((last - first - len(mine), *images.shape[1:]), np.uint8)
    return np.concatenate([mine, black]) if len(black) else mine

  return jax.make_array_from_callback(
    (total, *images.shape[1:]), batch_sharding(mesh), part
  )


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Copies arrays to every device, an explicit transfer.

  Args:
    tree: a pytree of numpy arrays or scalars, the same in all processes.
    mesh: the mesh.
  """
  return jax.tree.map(lambda leaf: _place(leaf, replicated(mesh)), tree)


def place_batches(images: np.ndarray, mesh: Mesh) -> jax.Array:
  """Lays the batches of several steps on the devices, an explicit transfer.

  Args:
    images: [steps, B, ...], of each batch the `rows` of this process.
    mesh: the mesh.

  Returns:
    [steps, batch, ...], each batch split over the mesh.
  """
  return _place(images, step_batch_sharding(mesh))


def _place(values: Any, placed: NamedSharding) -> jax.Array:
  """Returns an array of what each process has of it."""
  # Of several processes, JAX counts this as an implicit transfer.
  with jax.transfer_guard_host_to_device("allow"):
    return jax.make_array_from_process_local_data(placed, np.asarray(values))
