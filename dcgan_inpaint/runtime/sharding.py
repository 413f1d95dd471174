"""The processes of a job, their mesh of devices, and the placement of arrays.

The mesh has one axis, `data`: batches are split over it, weights are
replicated. The same program then runs on one CPU, on eight GPUs and on many
hosts, and BatchNorm sees the global batch. Training runs over all devices of
all processes; what needs no communication (the search, and other work on single
images) runs in each process over its own devices.
"""

from collections.abc import Sequence
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

# A process that is silent for longer counts as dead, and JAX stops all others.
_HEARTBEAT_SECONDS = 60
# How long a process waits for others that are alive.
_BARRIER_SECONDS = 7 * 24 * 3600


def start_processes(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> int:
  """Joins the processes of a job; call it before anything else of JAX.

  All three arguments together are taken as they are. Without any,
  `jax.distributed.initialize` detects the cluster that the environment shows: a
  SLURM step of several tasks, a pod of an indexed Job of Kubernetes (which
  needs `jax[k8s]`), or a host with TPUs. `num_processes=1` alone is one
  process, whatever the environment shows. A cluster whose other processes
  cannot be found is an error, never a run of this process alone.

  Args:
    coordinator_address: host and port of process 0, HOST:PORT.
    num_processes: number of processes.
    process_id: the number of this one, from 0.

  Returns:
    The expected number of processes; `jax.process_count()` must agree.

  Raises:
    errors.UserError: the arguments contradict each other, or the other
      processes cannot be found.
  """
  given = (coordinator_address, num_processes, process_id)
  if given == (None, 1, None):
    return 1
  cluster, expected, detection = "the three flags", num_processes, None
  if given == (None, None, None):
    cluster, expected = _find_cluster()
    if not cluster:
      return 1
  elif (
    coordinator_address is None
    or num_processes is None
    or process_id is None
    or not 0 <= process_id < num_processes
  ):
    raise errors.UserError(
      f"--coordinator_address={coordinator_address} "
      f"--num_processes={num_processes} --process_id={process_id}: give all "
      "three, with a process_id from 0 to num_processes - 1; or none, and they "
      "are detected; or --num_processes=1 alone"
    )
  else:
    # The environment must not override what the user says.
    detection = "deactivate"
  try:
    jax.distributed.initialize(
      coordinator_address,
      num_processes,
      process_id,
      cluster_detection_method=detection,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )
  # Each kind of cluster has errors of its own.
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

  The name is '' if there is none; the number is None if JAX must find it.
  """
  # One that is set and empty says nothing.
  tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or "1"
  if not tasks.isdecimal():
    raise errors.UserError(
      f"SLURM_STEP_NUM_TASKS={tasks!r} is no number: start the job by srun, or "
      "give --num_processes=1 for this process alone"
    )
  if int(tasks) > 1:
    return "SLURM", int(tasks)
  if os.environ.get("JOB_COMPLETION_INDEX"):
    return "Kubernetes", None
  chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
  if chips and importlib.util.find_spec("libtpu"):
    return "TPU", None
  return "", 1


def create_mesh() -> Mesh:
  """Returns the mesh over all devices of all processes, one axis `data`."""
  # Ordered by process, so that each holds one piece of what is split.
  devices = sorted(jax.devices(), key=lambda x: (x.process_index, x.id))
  return _mesh(devices)


def local_mesh(mesh: Mesh) -> Mesh:
  """Returns the mesh over this process's devices of a mesh."""
  mine = jax.process_index()
  return _mesh([x for x in mesh.devices.flat if x.process_index == mine])


def _mesh(devices: Sequence[Any]) -> Mesh:
  # Under `Explicit`, the default since JAX 0.9, gradients of convolutions fail.
  return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of weights: a copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of batches: the first axis is split over devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def step_batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of [steps, batch, ...]: each batch is split."""
  return NamedSharding(mesh, PartitionSpec(None, "data"))


def check_divisible(count: int, mesh: Mesh, field: str) -> None:
  """Refuses a batch that the devices do not divide evenly.

  Args:
    count: images in the batch.
    mesh: the mesh to split it over.
    field: the config field that set `count`.

  Raises:
    errors.UserError: names the field, both numbers and the nearest valid one.
  """
  devices = mesh.devices.size
  if count % devices:
    nearest = max(devices, round(count / devices) * devices)
    raise errors.UserError(
      f"{field}={count}: {devices} devices do not divide it; take {nearest}"
    )


def local_rows(count: int, mesh: Mesh) -> slice:
  """Returns which of `count` rows lie on the devices of this process.

  The rows are split into equal pieces, one per device; if the devices do not
  divide them, the last piece is shorter.

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
  """Waits until every process has called this; one process alone does not wait.

  Call it before a collective operation that one of the processes may reach
  late, having compiled for longer or had more to do. Collectives of the CPU
  give up after 30 seconds; this does not.

  Args:
    name: of what follows; the same on all processes.
  """
  multihost.get_barrier_sync_fn()(key=name, timeout_ms=1000 * _BARRIER_SECONDS)


def gather(values: np.ndarray) -> np.ndarray:
  """Returns the values of all processes, [processes, ...], to the bit.

  All processes must call it, and each waits for the others.

  Args:
    values: float64, one dimension or more, of one shape on all processes.
  """
  wait_for_all("gather")
  # As halves of 32 bits: JAX disables 64-bit numbers by default.
  halves = np.ascontiguousarray(values, np.float64).view(np.uint32)
  gathered = np.asarray(multihost_utils.process_allgather(halves))
  gathered = gathered.reshape(jax.process_count(), *halves.shape)
  return np.ascontiguousarray(gathered).view(np.float64)


def gather_slices(values: np.ndarray, count: int) -> np.ndarray:
  """Returns float64 [count, ...], merged from each process's `process_slice`.

  Args:
    values: float64 [n, ...], this process's slice.
    count: pieces of work of all processes.
  """
  padded = np.zeros((-(-count // jax.process_count()), *values.shape[1:]))
  padded[: len(values)] = values
  merged = np.moveaxis(gather(padded), 0, 1)
  return merged.reshape(-1, *values.shape[1:])[:count]


def local_copy(tree: Any) -> Any:
  """Returns replicated arrays as arrays of one device of this process."""
  return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def place_images(
  images: np.ndarray, mesh: Mesh, count: int | None = None
) -> jax.Array:
  """Places a data set on the devices, each holding an equal part.

  Args:
    images: uint8 [N, H, W, 3], the `local_rows` of this process.
    mesh: the mesh.
    count: images of all processes; by default those of this one.

  Returns:
    The images split over the mesh. If the devices do not divide their number,
    fewer black images than there are devices are added at the end, which no
    index reaches.
  """
  count = len(images) if count is None else count
  total = count + -count % mesh.devices.size
  offset = local_rows(count, mesh).start

  def part(index: Any) -> np.ndarray:
    first, last, _ = index[0].indices(total)
    mine = images[first - offset : last - offset]
    black = np.zeros((last - first - len(mine), *images.shape[1:]), np.uint8)
    return np.concatenate([mine, black]) if len(black) else mine

  return jax.make_array_from_callback(
    (total, *images.shape[1:]), batch_sharding(mesh), part
  )


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Copies arrays to every device, by an explicit transfer.

  Args:
    tree: a pytree of numpy arrays or scalars, the same in all processes.
    mesh: the mesh.
  """
  return jax.tree.map(lambda leaf: _place(leaf, replicated(mesh)), tree)


def place_batches(images: np.ndarray, mesh: Mesh) -> jax.Array:
  """Places the batches of several steps on the devices, explicitly.

  Args:
    images: [steps, B, ...], of each batch the `local_rows` of this process.
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
