"""The intermediate images of one image's search, for a film."""

from collections.abc import Callable
import functools

import jax
import numpy as np

from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import compiled_search
from dcgan_inpaint.search import details
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import latent_search
from dcgan_inpaint.search import settings as search_settings


def path(
  search: ensemble.Search,
  weights: bundle.Weights,
  image: np.ndarray,
  mask: np.ndarray,
  *,
  index: int = 0,
  frames: int = 50,
) -> np.ndarray:
  """Returns intermediate images of the search of one image.

  Args:
    search: the search.
    weights: the frozen networks.
    image: float32 [H, W, C] in [-1, 1].
    mask: float32 [H, W, 1], 1 = known.
    index: the image's number, as in a call of the search.
    frames: about how many images to return; at most one per step.

  Returns:
    float32 [F, H, W, C]: the generated images before the first step and at
    regular intervals, of the start that wins, or the mean over the starts
    (`reduce`), averaged with the mirror image (`mirrored`) and over the
    encoders.
  """
  compiled = search.compiled
  # A whole batch of the same image: the devices divide this shape.
  images, masks = (np.stack([x] * search.batch_size(1)) for x in (image, mask))
  numbers = np.full(len(images), index, np.uint32)
  upright = compiled.place(images, masks, numbers, 0 * numbers)
  turned = compiled.place(
    images[:, :, ::-1], masks[:, :, ::-1], numbers, 0 * numbers
  )
  look = _viewer(compiled)
  paths = []
  for member in search.members(weights):
    paths.append(_path(compiled, look, member, upright, frames))
    if search.settings.mirrored:
      mirrored = _path(compiled, look, member, turned, frames)
      paths.append(mirrored[:, :, ::-1])
  seen = np.mean(paths, axis=0)
  return details.strengthen(
    seen,
    np.broadcast_to(mask, (len(seen), *mask.shape)),
    search.settings.detail_gain,
    seen.shape[1] / search_settings.SIDE,
  )


_Look = Callable[[bundle.Weights, latent_search.State], np.ndarray]


def _viewer(compiled: compiled_search.CompiledSearch) -> _Look:
  """Returns a function to a batch's first image: G of each of its starts."""
  generate = jax.jit(
    jax.vmap(
      functools.partial(
        latent_search.generate, compiled.networks, compiled.settings
      ),
      in_axes=(None, 0),
    )
  )

  def look(weights: bundle.Weights, states: latent_search.State) -> np.ndarray:
    states = jax.device_get(states._replace(anchor=None, optimizer=()))
    first = jax.tree.map(lambda x: x[0], states)
    first = jax.device_put(first, sharding.replicated(compiled.mesh))
    return jax.device_get(generate(weights, first))

  return look


def _path(
  compiled: compiled_search.CompiledSearch,
  look: _Look,
  weights: bundle.Weights,
  problems: latent_search.Problem,
  frames: int,
) -> np.ndarray:
  """Returns the path of a batch's first image, unmirrored, by one encoder."""
  stages = compiled.stages(0)
  every = max(1, sum(stage.steps for stage in stages) // frames)
  with jax.transfer_guard("disallow"):
    states = compiled.begin(weights, problems)
    seen = [look(weights, states)]
    for stage in stages:
      states = compiled.enter(stage, weights, states)
      for first in range(0, stage.steps, every):
        steps = min(every, stage.steps - first)
        states = compiled.advance(stage, steps, weights, states, problems)
        seen.append(look(weights, states))
    if compiled.settings.reduce == "mean":
      return np.stack(seen).mean(axis=1)
    loss = compiled.end(weights, states, problems).loss[0]
  best = np.argmin(np.where(np.isfinite(loss), loss, np.inf))
  return np.stack(seen)[:, best]
