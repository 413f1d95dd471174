"""The search of any number of images, down to their completed images.

They are searched in batches (`compiled_search`). The result is a mean where the
settings say so: of an image and its mirror image, since a face and its mirror
image are as likely, but networks do not treat them alike; and of what each of a
model's encoders gives, since networks trained apart err apart (deep ensembles,
Lakshminarayanan et al. 2017). A mean is smoother than a face; `details` can
give it the strength of detail that a single face has. Then it is put into the
hole (`blending`).
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
import numpy as np

from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import blending
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import compiled_search
from dcgan_inpaint.search import details
from dcgan_inpaint.search import settings as search_settings


class Result(NamedTuple):
  """What a search found, [N, ...] for N images.

  Attributes:
    completed: float32 [N, H, W, 3], the holes filled from what was generated,
      by the settings' `blending`; known pixels are the input's, to the bit.
    generated: float32 [N, H, W, 3], G of the best start, or the mean over the
      starts (`reduce`); in the mean over their mirror images (`mirrored`) and
      the encoders; its details strengthened (`detail_gain`).
    latent: float32 [N, latent_size], z of the best start.
    loss: float32 [N, starts], the objective of every start at the end; both are
      those of the image as it is, by the first encoder.
  """

  completed: np.ndarray
  generated: np.ndarray
  latent: np.ndarray
  loss: np.ndarray


@functools.lru_cache(maxsize=8)
def _compiled(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  mesh: jax.sharding.Mesh,
) -> compiled_search.CompiledSearch:
  """Returns the search of a batch, which searches that are alike share.

  What it has compiled goes with it: the weights are arguments, so the models of
  several seeds, or calls of the Python interface, need not compile anew.
  """
  return compiled_search.CompiledSearch(networks, settings, mesh)


class Search:
  """A search over any number of images, compiled once for each batch shape.

  Attributes:
    compiled: the search of a batch.
  """

  def __init__(
    self,
    networks: bundle.NetworkBundle,
    settings: search_settings.SearchSettings,
    mesh: jax.sharding.Mesh | None = None,
  ):
    """Prepares the compiled functions; nothing is compiled yet.

    Args:
      networks: G, D and E.
      settings: of the search.
      mesh: the devices that images are split over; all by default.

    Raises:
      errors.UserError: there is no encoder to start from, or the devices do not
        divide the batch.
    """
    self.compiled = _compiled(
      networks, settings, mesh or sharding.create_mesh()
    )

  @property
  def settings(self) -> search_settings.SearchSettings:
    """The settings of the search."""
    return self.compiled.settings

  def batch_size(self, count: int) -> int:
    """Returns the images of a compiled batch for `count` images in all.

    The configured size, or the next power of two where there are fewer, so
    that one image alone does not pay for a whole batch and few shapes exist.
    """
    devices = self.compiled.mesh.devices.size
    needed = max(devices, 1 << (count - 1).bit_length())
    needed += -needed % devices
    return min(needed, self.settings.batch_size)

  def members(self, weights: bundle.Weights) -> list[bundle.Weights]:
    """Brings the weights to the devices, once for each encoder that is used."""
    count = self.settings.encoders if self.settings.start == "encoder" else 1
    return bundle.each_encoder(self.compiled.prepare(weights), count)

  def warm_up(
    self,
    weights: bundle.Weights,
    shape: tuple[int, ...],
    *,
    size: int | None = None,
  ) -> None:
    """Compiles what a call runs.

    Args:
      weights: the frozen networks.
      shape: of its images, [N, H, W, 3].
      size: as in the call.
    """
    first, *_ = self.members(weights)
    blank = np.zeros(
      (size or self.batch_size(shape[0]), *shape[1:]), np.float32
    )
    numbers = np.zeros(len(blank), np.uint32)
    problems = self.compiled.place(blank, blank[..., :1], numbers, numbers)
    self.compiled.warm_up(first, problems, self.compiled.stages(numbers))
    blending.warm_up(self.settings.blending, shape)

  def __call__(
    self,
    weights: bundle.Weights,
    images: np.ndarray,
    masks: np.ndarray,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    samples: Sequence[int] | np.ndarray | None = None,
    size: int | None = None,
    on_batch: Callable[[int], None] = lambda count: None,
  ) -> Result:
    """Completes every image.

    Args:
      weights: the frozen networks.
      images: float32 [N, H, W, 3] in [-1, 1]; what lies under a hole is not
        looked at.
      masks: float32 [N, H, W, 1], 1 = known.
      indices: the images' numbers, of 32 bits; 0, 1, 2 ... by default. An
        image's starts are drawn from the seed and its number, so a set may be
        cut into several calls.
      samples: which sample of its image each is to be; 0 by default. The starts
        of sample 1 are other ones than those of sample 0, and so on.
      size: images of a compiled batch; `batch_size(N)` by default. Calls of
        one size share what is compiled.
      on_batch: called with the number of images that each batch finished.

    Returns:
      The results, as numpy arrays, in the order of the images.
    """
    count = len(images)
    size = size or self.batch_size(count)
    indices = np.asarray(range(count) if indices is None else indices)
    samples = np.asarray([0] * count if samples is None else samples)
    members = self.members(weights)
    batches = []
    for first in range(0, count, size):
      # A ragged last batch is filled up with its first image: one shape, one
      # compilation.
      rows = np.arange(first, first + size)
      rows = np.where(rows < count, rows, first)
      batches.append(
        self._search(
          members, images[rows], masks[rows], indices[rows], samples[rows]
        )
      )
      on_batch(min(size, count - first))
    found = compiled_search.Found(
      *(np.concatenate(parts)[:count] for parts in zip(*batches, strict=True))
    )
    completed = blending.blend(
      self.settings.blending, found.generated, images, masks
    )
    return Result(completed, *found)

  def _search(
    self,
    members: list[bundle.Weights],
    images: np.ndarray,
    masks: np.ndarray,
    indices: np.ndarray,
    samples: np.ndarray,
  ) -> compiled_search.Found:
    """Searches for one batch; takes the means, and strengthens the details."""
    run, place = self.compiled.run, self.compiled.place
    upright = place(images, masks, indices, samples)
    first, *others = members
    found = run(first, upright, self.compiled.stages(samples))
    # A sample after the first is one face of those that could be there, and the
    # mirror image's, or another encoder's, is another: no mean of them is a
    # face.
    averaged = samples == 0
    stages = self.compiled.stages(0)
    generated = [found.generated]
    if averaged.any():
      generated += [run(x, upright, stages).generated for x in others]
    if averaged.any() and self.settings.mirrored:
      turned = place(images[:, :, ::-1], masks[:, :, ::-1], indices, samples)
      generated += [
        run(x, turned, stages).generated[:, :, ::-1] for x in members
      ]
    kept = found.generated
    if len(generated) > 1:
      mean = np.mean(generated, axis=0)
      kept = np.where(averaged[:, None, None, None], mean, kept)
    kept = details.strengthen(kept, masks, self.settings.detail_gain)
    return found._replace(generated=kept)
