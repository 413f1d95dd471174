"""Photographs, read ahead by threads and collected into batches to search."""

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import concurrent.futures
import os
from typing import TypeAlias

from dcgan_inpaint.photographs import photograph

# Pixels of the photographs that are held at a time, beside one that is larger.
_MAX_PIXELS = 1 << 28

# A photograph's name, and what was read, or the error that prevented it.
Item: TypeAlias = tuple[str, photograph.Photograph | Exception]


def read(
  names: Sequence[str],
  read_one: Callable[[str], photograph.Photograph],
  searches: int,
  samples: int,
) -> Iterator[list[Item]]:
  """Yields batches of photographs, as soon as each needs enough searches.

  A photograph that cannot be read does not stop the others.

  Args:
    names: of the photographs.
    read_one: reads one by its name; called from several threads.
    searches: searches that run at a time, and the most photographs of a batch.
    samples: searches for each face.

  Yields:
    The photographs of a batch, in order.
  """
  batch: list[Item] = []
  needed, area = 0, 0
  for name, item in _read_ahead(names, read_one):
    batch.append((name, item))
    if isinstance(item, photograph.Photograph):
      needed += len(item.faces) * samples
      area += item.hole.size
    if max(needed, len(batch)) >= searches or area >= _MAX_PIXELS:
      yield batch
      batch, needed, area = [], 0, 0
  if batch:
    yield batch


def _read_ahead(
  names: Sequence[str], read_one: Callable[[str], photograph.Photograph]
) -> Iterator[Item]:
  """Yields each name and what was read; threads do the work."""
  threads = os.cpu_count() or 1
  waiting = collections.deque()

  def first() -> Item:
    name, future = waiting.popleft()
    try:
      return name, future.result()
    # One bad file costs that file alone; Pillow raises many kinds.
    except Exception as error:  # noqa: BLE001
      return name, error

  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for name in names:
      waiting.append((name, pool.submit(read_one, name)))
      if len(waiting) > threads:
        yield first()
    while waiting:
      yield first()
