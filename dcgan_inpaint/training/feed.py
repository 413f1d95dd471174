"""The training images: where they are stored, and the batch of every step.

They are sharded over the devices, and a step gets the indices of its batch; or,
if the devices cannot hold them, they stream from disk, and a step gets the
batch itself. The order is the same (`data.batches`).
"""

from collections.abc import Callable
import dataclasses
import functools
import math
import os

import jax
import ml_collections
import numpy as np

from dcgan_inpaint import data
from dcgan_inpaint.data import batches
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import stream
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding

# The fraction of a device's memory that the training images may take.
_DATA_SHARE = 0.5
# Images in the sample that the digest and the mean are computed from when the
# images stream.
_SAMPLE = 8192


@dataclasses.dataclass(frozen=True)
class TrainingImages:
  """The training images of a run.

  Attributes:
    count: how many there are, over all processes.
    digest: identifies the data set, see `data.digest`.
    mean_image: uint8 [S, S, C], their mean.
    dataset: uint8 [N, S, S, C], sharded over the devices; None if the images
      stream.
    source: what they stream from; None if they are on the devices.
    batch_size: images per step, over all devices.
    seed: the seed of their order.
    workers: processes that decode streamed images; 0 = threads of this one.
    mesh: the devices of all processes.
  """

  count: int
  digest: str
  mean_image: np.ndarray
  dataset: jax.Array | None
  source: data.Source | None
  batch_size: int
  seed: int
  workers: int
  mesh: jax.sharding.Mesh

  def feed(self, steps: range) -> Callable[[int, int], jax.Array]:
    """Returns the function from a step and a number of steps to their batches.

    It returns int32 [steps, B], indices into `dataset`, replicated over the
    devices; or, if the images stream, uint8 [steps, B, S, S, C], each batch
    sharded over the devices.

    Args:
      steps: all steps of the run. The function must be called for consecutive
        steps.
    """
    order = {"batch_size": self.batch_size, "seed": self.seed}
    if self.source is None:

      def indices(step: int, count: int) -> jax.Array:
        rows = batches.indices(step, count, count=self.count, **order)
        return sharding.replicate(rows, self.mesh)

      return indices

    batch_by_batch = stream.batches(
      self.source,
      steps=steps,
      rows=sharding.local_rows(self.batch_size, self.mesh),
      image_shape=self.mean_image.shape,
      workers=self.workers,
      **order,
    )

    def images(step: int, count: int) -> jax.Array:
      del step  # The stream is at this step already.
      rows = np.stack([next(batch_by_batch) for _ in range(count)])
      return sharding.place_batches(rows, self.mesh)

    return images


def load(
  config: ml_collections.ConfigDict,
  section: str,
  image_shape: data.ImageShape,
  mesh: jax.sharding.Mesh,
) -> TrainingImages:
  """Copies the training images to the devices, or opens them for streaming.

  Args:
    config: the whole config.
    section: the section that has the `batch_size`.
    image_shape: (S, S, C) of the images, that of the model.
    mesh: the devices of all processes.

  Raises:
    errors.UserError: there are no images, too few for a batch, the devices do
      not divide a batch, or the images must be streamed and cannot be.
  """
  field, batch_size = f"config.{section}.batch_size", config[section].batch_size
  sharding.check_divisible(batch_size, mesh, field)
  source = open_stream(config.data, image_shape, mesh)
  if source:
    dataset, count = None, source.count
    images, indices = _spread_sample(source, image_shape)
  else:
    rows = functools.partial(sharding.local_rows, mesh=mesh)
    images, _, count = data.load(
      config.data,
      "train",
      image_shape,
      rows=rows if jax.process_count() > 1 else None,
    )
    indices = range(count)[rows(count)]
    dataset = sharding.place_images(images, mesh, count)
  if count < batch_size:
    raise errors.UserError(
      f"config.data holds {count} training images, fewer than "
      f"{field}={batch_size}: take a smaller batch"
    )
  return TrainingImages(
    count=count,
    digest=data.digest(images, indices),
    mean_image=_mean_image(images),
    dataset=dataset,
    source=source,
    batch_size=batch_size,
    seed=config.seed,
    workers=config.data.workers,
    mesh=mesh,
  )


def open_stream(
  config: ml_collections.ConfigDict,
  image_shape: data.ImageShape,
  mesh: jax.sharding.Mesh,
) -> data.Source | None:
  """Returns what to stream the training images from, or None to load them.

  Args:
    config: the section `config.data`.
    image_shape: (S, S, C) of the images.
    mesh: the devices.

  Raises:
    errors.UserError: they must be streamed, and cannot be.
  """
  # Synthetic faces are drawn in memory, and are few enough to fit always.
  if config.placement == "device" or (
    config.placement == "auto" and config.name == "synthetic"
  ):
    return None
  source = data.open_source(config, "train")
  size = source.count * math.prod(image_shape) / mesh.devices.size
  if config.placement == "auto":
    fits = size <= _DATA_SHARE * _device_memory()
    # If they do not fit in one process, all processes stream.
    if sharding.gather(np.array([fits])).all():
      return None
  stream.check()
  return source


def _device_memory() -> float:
  """Returns the bytes of memory of each device of this process."""
  devices = jax.local_devices()
  stats = devices[0].memory_stats()
  if stats and "bytes_limit" in stats:
    return stats["bytes_limit"]
  # The CPU's devices share the host's memory.
  host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return host / len(devices)


def _mean_image(images: np.ndarray) -> np.ndarray:
  """Returns the mean of uint8 [N, H, W, C] of all processes, rounded."""
  # In chunks: the whole set as float64 would take eight times its memory.
  total = np.zeros(images.shape[1:], np.float64)
  for first in range(0, len(images), 4096):
    total += images[first : first + 4096].sum(axis=0, dtype=np.float64)
  count = sharding.gather(np.array([len(images)])).sum()
  return np.round(sharding.gather(total).sum(axis=0) / count).astype(np.uint8)


def _spread_sample(
  source: data.Source, image_shape: data.ImageShape
) -> tuple[np.ndarray, np.ndarray]:
  """Returns this process's part of a sample of the images, and their indices.

  The sample represents images that stream; it is spread over the whole set.
  """
  spread = np.linspace(0, source.count - 1, min(source.count, _SAMPLE))
  mine = spread[sharding.process_slice(len(spread))].astype(np.int64)
  images, failures = decoding.decode_all(
    lambda i: source.read(int(mine[i])),
    len(mine),
    image_shape[0],
    channels=image_shape[2],
    crop=source.crop,
  )
  decoding.check_system(failures, [f"image {i:,}" for i in mine])
  if failures:
    i, error = min(failures.items())
    raise errors.UserError(
      f"image {mine[i]:,} of config.data cannot be read ({error}); where "
      "images stream none can be left out: remove it"
    )
  return images, mine
