"""The job `benchmark_throughput`: how fast training and search are.

Measured are the very programs that the jobs `train` and `inpaint` run, on
random weights and images: training steps with their optimiser, on images that
lie on the devices, and whole searches from the first latent to the completed
image; both in `config.model.dtype`. After a warm-up come several rounds; the
median counts, and the fastest and the slowest round are the spread. `flops`
counts the operations, and the peak that they are compared with is measured
beside them by a large matrix product.

`config` says what is measured at the least, and each list of
`config.throughput` varies one thing of it. Every measurement leaves a file in
`parts/`: the same command again goes on where it was cut, and another value in
a list costs only itself. Where the code was changed, take another workdir.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import statistics
import tempfile
import time
from typing import Any
from typing import NamedTuple

from absl import logging
import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import ml_collections
import numpy as np

import dcgan_inpaint
from dcgan_inpaint.data import batches
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import flops
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import compiled_search
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import loop

_WHATS = ("train", "search")
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


class Measured(NamedTuple):
  """What a warm-up and some rounds say of a cell.

  Attributes:
    seconds: of a step, a value a round.
    compile_seconds: of tracing and compiling the step.
    memory: bytes on each device while a step runs: arguments, results and what
      lies between, as XLA planned it.
  """

  seconds: list[float]
  compile_seconds: float
  memory: int


def cells(
  config: ml_collections.ConfigDict,
  search: search_settings.SearchSettings,
  devices: int,
) -> list[Cell]:
  """Returns what is measured, each cell once.

  Args:
    config: the whole config.
    search: of `config.search`.
    devices: how many there are.

  Raises:
    errors.UserError: a list has a wrong value, or the devices do not divide a
      batch.
  """
  options = config.throughput
  implementations = _listed(options.implementations, "implementations", str)
  if unknown := set(implementations) - {"auto", *convolutions.IMPLEMENTATIONS}:
    raise errors.UserError(
      f"config.throughput.implementations: {unknown.pop()!r} is none of auto, "
      f"{', '.join(convolutions.IMPLEMENTATIONS)}"
    )
  whats = _listed(options.what, "what", str)
  if not whats or set(whats) - set(_WHATS):
    raise errors.UserError(
      f"config.throughput.what={options.what!r}: take train, search or both, "
      "with a comma"
    )
  counts = _listed(options.devices, "devices", int) or [devices]
  if max(counts) > devices:
    raise errors.UserError(
      f"config.throughput.devices={options.devices!r}, and there are {devices};"
      " JAX_NUM_CPU_DEVICES makes several of the CPU"
    )
  found = []
  for what in whats:
    trains = what == "train"
    first = Cell(
      what,
      config.model.convolution,
      counts[0],
      config.model.width,
      config.train.batch_size if trains else search.batch_size,
      None if trains else search.starts,
      None if trains else search.steps,
    )
    sizes = [
      first.batch,
      *_listed(options[f"{what}_batches"], f"{what}_batches", int),
    ]
    varied = {
      "devices": counts,
      "width": _listed(options.widths, "widths", float),
    }
    if not trains:
      varied["starts"] = _listed(options.starts, "starts", int)
      varied["steps"] = _listed(options.steps, "steps", int)
    found += [
      first._replace(implementation=implementation, batch=size)
      for implementation in (first.implementation, *implementations)
      for size in sizes
    ]
    found += [
      first._replace(**{name: value})
      for name, values in varied.items()
      for value in values
    ]
  for cell in found:
    if cell.batch % cell.devices:
      raise errors.UserError(
        f"config.throughput: {cell.devices} devices do not divide a batch of "
        f"{cell.batch} ({cell.what}); take other batches or devices"
      )
  return list(dict.fromkeys(found))


def _listed(value: str | tuple, field: str, kind: type) -> list[Any]:
  """Returns the values that a field lists.

  Raises:
    errors.UserError: one is no number, or not above 0.
  """
  try:
    values = [kind(word) for word in lists.words(value)]
  except ValueError:
    values = [0]
  if kind is not str and not all(value > 0 for value in values):
    raise errors.UserError(
      f"config.throughput.{field}={value!r}: list numbers above 0 with commas"
    )
  return values


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Measures every cell, and draws how cost grows.

  Leaves throughput.png in `workdir`, where anything is varied.

  Args:
    config: the whole config.
    workdir: where the results go.
    mesh: the devices; `config.throughput.devices` takes fewer of them.

  Returns:
    A row for each cell, for results.json. `per_second` counts images in
    training, and steps of single starts in a search (`unit`);
    `flops_utilisation` is a share of the peak that was measured in this run on
    as many devices. What did not fit into the devices' memory has no figures.

  Raises:
    errors.UserError: `config.throughput` has a wrong value.
  """
  search = search_settings.resolve(config.search)
  todo = cells(config, search, mesh.devices.size)
  folder = pathlib.Path(workdir)
  rows, peaks = [], {}
  with _compiling_anew(config.throughput.compile_anew):
    for number, cell in enumerate(todo, start=1):
      path = folder / "parts" / f"{_digest(cell, config)}.json"
      if path.exists():
        row = json.loads(path.read_text())
        logging.info("%s of %s was done before", number, len(todo))
      else:
        if cell.devices not in peaks:
          peaks[cell.devices] = _peak(cell.devices, config)
        row = _row(cell, config, search, peaks[cell.devices])
        with files.replacing(path) as temporary:
          temporary.write_text(json.dumps(row))
        logging.info("%s of %s: %s", number, len(todo), _sentence(row))
      rows.append(row)
  _draw(folder / "throughput.png", rows)
  return rows


def _digest(cell: Cell, config: ml_collections.ConfigDict) -> str:
  """Returns 16 hexadecimal digits of all that a measurement depends on."""
  device = jax.devices()[0]
  settings = {
    "cell": cell,
    "versions": [jax.__version__, dcgan_inpaint.__version__],
    "device": [device.device_kind, jax.device_count()],
    **{name: config[name].to_dict() for name in ("model", "train", "search")},
    "how": [
      config.throughput[name]
      for name in ("rounds", "seconds", "peak_size", "compile_anew")
    ],
  }
  text = json.dumps(settings, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _compiling_anew(wanted: bool) -> Iterator[None]:
  """Gives the block a cache of compiled programs that is empty at first."""
  if not wanted:
    yield
    return
  usual = jax.config.jax_compilation_cache_dir
  with tempfile.TemporaryDirectory() as empty:
    try:
      jax.config.update("jax_compilation_cache_dir", empty)
      compilation_cache.reset_cache()
      yield
    finally:
      jax.config.update("jax_compilation_cache_dir", usual)
      compilation_cache.reset_cache()


def _mesh(devices: int) -> jax.sharding.Mesh:
  whole = sharding.create_mesh()
  return jax.sharding.Mesh(
    whole.devices[:devices], whole.axis_names, axis_types=whole.axis_types
  )


def _peak(devices: int, config: ml_collections.ConfigDict) -> float:
  """Returns the operations a second of a large matrix product on each device.

  In the type that the networks compute in. The fastest round counts.
  """
  mesh = _mesh(devices)
  on_cpu = mesh.devices.flat[0].platform == "cpu"
  size = config.throughput.peak_size or (2048 if on_cpu else 8192)
  many = sharding.batch_sharding(mesh)
  matrices = jax.jit(
    lambda: jnp.ones((devices, size, size), config.model.dtype),
    out_shardings=many,
  )()
  product = jax.jit(
    lambda x: jnp.einsum("dij,djk->dik", x, x), out_shardings=many
  )
  seconds = _rounds(
    lambda: jax.block_until_ready(product(matrices)), config.throughput
  )
  peak = 2 * devices * size**3 / min(seconds)
  logging.info(
    "peak: %.3g Tflop/s by products of %s x %s in %s on %s devices",
    peak / 1e12, size, size, config.model.dtype, devices,
  )  # fmt: skip
  return peak


def _rounds(run: Callable[[], Any], options: Any) -> list[float]:
  """Returns the seconds of a call, a mean a round, after a warm-up.

  Args:
    run: what is measured; it returns when its work is done.
    options: the section `config.throughput`.
  """
  run()  # Compiles, where that is still to be done.
  start = time.perf_counter()
  run()
  once = time.perf_counter() - start
  repeats = max(1, round(options.seconds / once))
  seconds = []
  for _ in range(options.rounds):
    start = time.perf_counter()
    for _ in range(repeats):
      run()
    seconds.append((time.perf_counter() - start) / repeats)
  return seconds


def _row(
  cell: Cell,
  config: ml_collections.ConfigDict,
  search: search_settings.SearchSettings,
  peak: float,
) -> dict[str, Any]:
  """Measures a cell; returns its row."""
  settings = ml_collections.ConfigDict(config.to_dict())
  settings.model.convolution = cell.implementation
  settings.model.width = cell.width
  networks = bundle.NetworkBundle(
    *gan.networks(settings), settings.model.latent_size
  )
  outputs = networks.loss.outputs
  mesh = _mesh(cell.devices)
  try:
    if cell.what == "train":
      measured = _train(cell, settings, networks, mesh)
    else:
      measured = _search(cell, settings, search, networks, mesh)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    logging.warning("%s: the devices' memory does not suffice", cell)
    measured = Measured([float("nan")], float("nan"), 0)
  seconds = statistics.median(measured.seconds)
  if cell.what == "train":
    done = cell.batch
    operations = cell.batch * flops.train_step(
      cell.width,
      config.model.latent_size,
      networks.generator.image_shape,
      outputs,
    )
  else:
    done = cell.batch * (cell.starts or 1)
    operations = done * flops.search_step(
      cell.width,
      config.model.latent_size,
      networks.generator.image_shape,
      outputs,
      prior=search.prior_weight > 0,
    )
  return results.plain(
    {
      **cell._asdict(),
      "per_second": done / seconds,
      "unit": "images" if cell.what == "train" else "image-steps",
      "milliseconds_per_step": 1e3 * seconds,
      "milliseconds_fastest": 1e3 * min(measured.seconds),
      "milliseconds_slowest": 1e3 * max(measured.seconds),
      "gigaflops_per_second": operations / seconds / 1e9,
      "flops_utilisation": operations / seconds / peak,
      "memory_megabytes": measured.memory / 1e6,
      "compile_seconds": measured.compile_seconds,
    }
  )


def _memory(compiled: jax.stages.Compiled) -> int:
  """Returns the bytes that a program needs on each device while it runs."""
  plan: Any = compiled.memory_analysis()
  return (
    plan.argument_size_in_bytes
    + plan.output_size_in_bytes
    + plan.temp_size_in_bytes
    - plan.alias_size_in_bytes
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


def _train(
  cell: Cell,
  config: ml_collections.ConfigDict,
  networks: bundle.NetworkBundle,
  mesh: jax.sharding.Mesh,
) -> Measured:
  """Measures training steps, in calls as the job `train` makes them."""
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

  seconds = _rounds(run, config.throughput)
  return Measured(
    [x / steps for x in seconds], compile_seconds, _memory(compiled)
  )


def _search(
  cell: Cell,
  config: ml_collections.ConfigDict,
  settings: search_settings.SearchSettings,
  networks: bundle.NetworkBundle,
  mesh: jax.sharding.Mesh,
) -> Measured:
  """Measures whole searches, each from its first latent to its images."""
  settings = dataclasses.replace(
    settings, starts=cell.starts, steps=cell.steps, batch_size=cell.batch
  )
  search = ensemble.Search(networks, settings, mesh)
  state = _task(config, networks).init(sharding.replicated(mesh))
  weights = bundle.Weights(state.generator, state.discriminator)
  shape = (cell.batch, *networks.generator.image_shape)
  rng = np.random.default_rng(config.seed)
  images = rng.uniform(-1, 1, shape).astype(np.float32)
  masks = mask_sets.make(
    mask_settings.MaskSettings(), np.arange(cell.batch), *shape[1:3]
  )
  start = time.perf_counter()
  lowered = compiled_search.lower(search.compiled, weights, shape)
  compiled = lowered.compile()
  compile_seconds = time.perf_counter() - start
  seconds = _rounds(
    lambda: search(weights, images, masks, size=cell.batch), config.throughput
  )
  return Measured(
    [x / (cell.steps or 1) for x in seconds], compile_seconds, _memory(compiled)
  )


def _sentence(row: dict[str, Any]) -> str:
  """Returns a row as a line of the log."""
  of = ", ".join(
    f"{name} {row[name]}" for name in Cell._fields[1:] if row[name] is not None
  )
  if row["per_second"] is None:
    return f"{row['what']} ({of}): out of memory"
  return (
    f"{row['what']} ({of}): {row['per_second']:,.1f} {row['unit']}/s, "
    f"{row['milliseconds_per_step']:.4g} ms a step "
    f"({row['milliseconds_fastest']:.4g} to {row['milliseconds_slowest']:.4g}),"
    f" {row['flops_utilisation']:.0%} of the peak"
  )


def _draw(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  """Draws how cost grows, a panel for each thing that was varied.

  A panel holds the rows that differ from the first of their kind in this one
  thing, or in the implementation as well, which has a line of its own.
  """
  # Slow to import, see `report.curves`.
  from matplotlib import figure

  panels = []
  for what in dict.fromkeys(row["what"] for row in rows):
    of_kind = [row for row in rows if row["what"] == what]
    for varied in ("batch", "devices", "width", "starts", "steps"):
      fixed = [x for x in Cell._fields if x not in (varied, "implementation")]
      alike = [
        row for row in of_kind if all(row[x] == of_kind[0][x] for x in fixed)
      ]
      if len({row[varied] for row in alike}) > 1:
        panels.append((what, varied, alike))
  if not panels:
    return
  columns = min(3, len(panels))
  lines = -(-len(panels) // columns)
  drawing = figure.Figure(
    figsize=(4.2 * columns, 3.4 * lines), layout="constrained"
  )
  axes = list(drawing.subplots(lines, columns, squeeze=False).flat)
  for place, (what, varied, alike) in zip(axes, panels, strict=False):
    for implementation in dict.fromkeys(row["implementation"] for row in alike):
      points = sorted(
        (
          row[varied],
          *(
            row[f"milliseconds_{which}"] * (row["steps"] or 1)
            for which in ("per_step", "fastest", "slowest")
          ),
        )
        for row in alike
        if row["implementation"] == implementation and row["per_second"]
      )
      if points:
        x, median, fastest, slowest = np.array(points).T
        spread = (median - fastest, slowest - median)
        place.errorbar(
          x, median, spread, marker="o", capsize=3, label=implementation
        )
    unit = "step" if what == "train" else "search"
    place.set(title=what, xlabel=varied, ylabel=f"ms a {unit}")
    # From zero on: what is twice as high costs twice as much.
    place.set(xlim=(0, None), ylim=(0, None))
    place.grid(alpha=0.3)
    place.legend(title="implementation")
  for place in axes[len(panels) :]:
    place.set_axis_off()
  with files.replacing(path) as temporary:
    drawing.savefig(temporary, format="png", dpi=120)
