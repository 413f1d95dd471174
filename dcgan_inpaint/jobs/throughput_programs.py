"""The programs whose throughput is measured: those of training and of search.

They are the very ones that the jobs `train` and `inpaint` run, on random
weights and images.
"""

import dataclasses
import time
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from dcgan_inpaint.data import batches
from dcgan_inpaint.jobs import throughput_timing as timing
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import compiled_search
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import loop

# Training images that lie on the devices.
_IMAGES = 4096


class Cell(NamedTuple):
  """What one row measures.

  Attributes:
    what: 'train' or 'search'.
    implementation: of the convolutions.
    devices: how many the batch is split over.
    width: of the networks.
    batch: images a step of training, or searched at a time.
    starts: of each image; None in training.
    steps: of each search; None in training.
  """

  what: str
  implementation: str
  devices: int
  width: float
  batch: int
  starts: int | None
  steps: int | None


def train(
  cell: Cell,
  config: ml_collections.ConfigDict,
  networks: bundle.NetworkBundle,
  mesh: jax.sharding.Mesh,
) -> timing.Measured:
  """Measures training steps, in calls as the job `train` makes them.

  Args:
    cell: what is measured.
    config: the whole config, with the cell's width and implementation.
    networks: G and D.
    mesh: the cell's devices.
  """
  task = _task(config, networks)
  state = task.init(sharding.replicated(mesh))
  count = max(_IMAGES, cell.batch)
  rng = np.random.default_rng(config.seed)
  shape = (count, *networks.generator.image_shape)
  dataset = sharding.place_images(rng.integers(0, 256, shape, np.uint8), mesh)
  steps = loop.steps_per_call(config.train, mesh)
  rows = batches.indices(
    0, steps, batch_size=cell.batch, count=count, seed=config.seed
  )
  arguments = (dataset, rows, np.uint32(config.seed), task.frozen)
  start = time.perf_counter()
  compiled = loop.compile_steps(task, mesh).lower(state, *arguments).compile()
  compile_seconds = time.perf_counter() - start

  def run():
    nonlocal state
    state, metrics = compiled(state, *arguments)
    jax.block_until_ready(metrics)

  seconds = timing.rounds(run, config.throughput)
  return timing.Measured(
    [x / steps for x in seconds], compile_seconds, timing.memory(compiled)
  )


def search(
  cell: Cell,
  config: ml_collections.ConfigDict,
  settings: search_settings.SearchSettings,
  networks: bundle.NetworkBundle,
  mesh: jax.sharding.Mesh,
) -> timing.Measured:
  """Measures whole searches, each from its first latent to its images.

  Args:
    cell: what is measured.
    config: the whole config, with the cell's width and implementation.
    settings: of the search; starts, steps and batch are the cell's.
    networks: G and D.
    mesh: the cell's devices.
  """
  settings = dataclasses.replace(
    settings, starts=cell.starts, steps=cell.steps, batch_size=cell.batch
  )
  fill = ensemble.Search(networks, settings, mesh)
  state = _task(config, networks).init(sharding.replicated(mesh))
  weights = bundle.Weights(state.generator, state.discriminator)
  shape = (cell.batch, *networks.generator.image_shape)
  rng = np.random.default_rng(config.seed)
  images = rng.uniform(-1, 1, shape).astype(np.float32)
  masks = mask_sets.make(
    mask_settings.MaskSettings(), np.arange(cell.batch), *shape[1:3]
  )
  start = time.perf_counter()
  lowered = compiled_search.lower(fill.compiled, weights, shape)
  compiled = lowered.compile()
  compile_seconds = time.perf_counter() - start
  seconds = timing.rounds(
    lambda: fill(weights, images, masks, size=cell.batch), config.throughput
  )
  return timing.Measured(
    [x / (cell.steps or 1) for x in seconds],
    compile_seconds,
    timing.memory(compiled),
  )


def _task(
  config: ml_collections.ConfigDict, networks: bundle.NetworkBundle
) -> gan.GanTask:
  """Returns what the job `train` trains."""
  return gan.GanTask(
    generator=networks.generator,
    discriminator=networks.discriminator,
    loss=networks.loss,
    latent_size=networks.latent_size,
    config=config.train,
    seed=config.seed,
  )
