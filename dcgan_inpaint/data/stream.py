"""Batches that stream from disk, for data sets that the devices cannot hold.

Grain reads, decodes and prefetches in threads or processes of its own. The
order is that of `batches`, so a streamed run sees what a run with its data on
the devices sees, and a resumed one continues at the exact sample. Each process
reads only its own rows of each batch.
"""

from collections.abc import Iterator
import functools
import multiprocessing
import os
import threading
from types import ModuleType

import numpy as np

from dcgan_inpaint import data
from dcgan_inpaint.data import batches as batch_order
from dcgan_inpaint.data import decoding
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import process

# Batches that are ready or being read, per thread.
_AHEAD = 2


def check() -> None:
  """Raises errors.UserError where Grain is not installed."""
  _grain()


def _grain() -> ModuleType:
  """Returns Grain, which only streaming needs."""
  try:
    import grain
  except ImportError:
    raise errors.UserError(
      "config.data.placement='stream' needs Grain: pip install "
      "'dcgan-inpaint[stream]'"
    ) from None
  return grain


def _read(
  source: data.Source, image_shape: data.ImageShape, index: int
) -> np.ndarray:
  """Returns one decoded image."""
  try:
    encoded = decoding.read_persistently(functools.partial(source.read, index))
    size, _, channels = image_shape
    return decoding.decode(encoded, size, channels=channels, crop=source.crop)
  except Exception as error:  # Pillow and zipfile raise many kinds.
    if decoding.is_of_system(error):
      raise errors.UserError(
        f"image {index:,} of config.data cannot be read now ({error}): correct "
        "that and run the same command again"
      ) from error
    raise errors.UserError(
      f"image {index:,} of config.data cannot be read ({error}): none can be "
      "left out of a stream; remove it, and start in another --workdir"
    ) from error


def _batch(
  step: int,
  *,
  source: data.Source,
  image_shape: data.ImageShape,
  rows: slice,
  **order: int,
) -> np.ndarray:
  """Returns the rows of one step's batch; `order` is of `batches.indices`."""
  (indices,) = batch_order.indices(step, 1, count=source.count, **order)
  return np.stack([_read(source, image_shape, int(i)) for i in indices[rows]])


def _end_with_parent(worker: int, workers: int) -> None:
  """Lets a worker process end when the one that started it has died.

  Grain tells them to end; a process that gets SIGKILL tells nobody.
  """
  del worker, workers
  parent = multiprocessing.parent_process()
  if parent is None:
    return

  def end() -> None:
    parent.join()
    process.leave(1)

  threading.Thread(target=end, name="parent", daemon=True).start()


def batches(
  source: data.Source,
  *,
  steps: range,
  batch_size: int,
  rows: slice,
  seed: int,
  image_shape: data.ImageShape,
  workers: int = 0,
) -> Iterator[np.ndarray]:
  """Yields this process's rows of the batch of each step.

  Args:
    source: the images.
    steps: the steps, counted from 0; a resumed run starts above 0.
    batch_size: images a step, over all processes.
    rows: which of a batch's images this process reads; its `local_rows`.
    seed: the run's seed.
    image_shape: (S, S, C) of the images.
    workers: processes that decode; 0 = one thread per core, of this process.

  Yields:
    uint8 [rows, S, S, C].

  Raises:
    errors.UserError: Grain is not installed, an image cannot be read, or a
      worker was killed.
  """
  grain = _grain()
  read = functools.partial(
    _batch,
    source=source,
    image_shape=image_shape,
    rows=rows,
    batch_size=batch_size,
    seed=seed,
  )
  threads = os.cpu_count() or 1
  stream = grain.MapDataset.range(steps.start, steps.stop).map(read)
  stream = stream.to_iter_dataset(
    grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=_AHEAD * threads
    )
  )
  if workers:
    stream = stream.mp_prefetch(
      grain.MultiprocessingOptions(workers), worker_init_fn=_end_with_parent
    )
  try:
    yield from stream
  except RuntimeError as error:
    # Grain has no class of its own for a process that was killed.
    if "Worker process" not in str(error):
      raise
    raise errors.UserError(
      f"a process that reads config.data has ended "
      f"({str(error).partition('. ')[0]}): if memory ran out, lower "
      f"config.data.workers={workers}; run the same command again"
    ) from error
