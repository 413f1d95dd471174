"""The search of any number of images, up to the completed images.

They are searched in batches (`compiled_search`). Depending on the settings, the
result is a mean: over an image and its mirror image, since both are equally
likely faces, but networks do not treat them alike; and over the results of each
of a model's encoders, since networks that were trained separately make
different errors (deep ensembles, Lakshminarayanan et al. 2017). A mean is
smoother than a face; `details` can give it the strength of detail that a single
face has. Then it is put into the hole (`blending`).
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import blending
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import compiled_search
from dcgan_inpaint.search import details
from dcgan_inpaint.search import settings as search_settings

# Images of a batch on the CPU, where its size is not to follow their number.
_FIXED_ON_CPU = 8


class Result(NamedTuple):
  """The result of a search, [N, ...] for N images.

  Attributes:
    completed: float32 [N, H, W, C], the images with the holes filled from
      `generated`, by the settings' `blending`; known pixels are the input's, to
      the bit.
    generated: float32 [N, H, W, C], G of the best start, or the mean over the
      starts (`reduce`), averaged with the mirror image (`mirrored`) and over
      the encoders, with its details strengthened (`detail_gain`).
    latent: float32 [N, latent_size], z of the best start.
    loss: float32 [N, starts], the final objective of every start. Latent and
      loss are those of the unmirrored image and the first encoder.
  """

  completed: np.ndarray
  generated: np.ndarray
  latent: np.ndarray
  loss: np.ndarray


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
      mesh: the devices that images are sharded over; all by default.

    Raises:
      errors.UserError: there is no encoder to start from, or the devices do not
        divide the batch.
    """
    mesh = mesh or sharding.create_mesh()
    self.compiled = compiled_search.CompiledSearch(networks, settings, mesh)

  @property
  def settings(self) -> search_settings.SearchSettings:
    """The settings of the search."""
    return self.compiled.settings

  def batch_size(self, count: int) -> int:
    """Returns the size of a compiled batch for `count` images in all.

    The configured size, or the next power of two for fewer images, so that a
    single image does not take the time of a whole batch, and few shapes exist.
    """
    devices = self.compiled.mesh.devices.size
    needed = max(devices, 1 << (count - 1).bit_length())
    needed += -needed % devices
    return min(needed, self.settings.batch_size)

  @property
  def fixed_size(self) -> int:
    """The size of batches whose images' results depend on no other image.

    The shape of a batch changes the last bits of what is computed, so it must
    not follow the number of images. More than a few at a time gain nothing on
    the CPU, and a single image waits for all of its batch.
    """
    devices = self.compiled.mesh.devices
    if devices.flat[0].platform != "cpu":
      return self.settings.batch_size
    few = _FIXED_ON_CPU + -_FIXED_ON_CPU % devices.size
    return min(few, self.settings.batch_size)

  def members(self, weights: bundle.Weights) -> list[bundle.Weights]:
    """Copies the weights to the devices, once for each encoder in use."""
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
      shape: of its images, [N, H, W, C].
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
      images: float32 [N, H, W, C] in [-1, 1]; values under a hole are ignored.
      masks: float32 [N, H, W, 1], 1 = known.
      indices: the images' numbers, of 32 bits; 0, 1, 2 ... by default. An
        image's starts are drawn from the seed and its number, so a set may be
        divided into several calls.
      samples: the number of the sample to make of each image; 0 by default.
        Different samples have different starts.
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
      # An incomplete last batch is padded with its first image: one shape, one
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
      self.settings.blending,
      found.generated,
      images,
      masks,
      images.shape[1] / search_settings.SIDE,
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
    # A sample after the first is one of the possible faces; its mirror image's,
    # or another encoder's, is another face, and their mean would not be a face.
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
    kept = details.strengthen(
      kept,
      masks,
      self.settings.detail_gain,
      kept.shape[1] / search_settings.SIDE,
    )
    return found._replace(generated=kept)
