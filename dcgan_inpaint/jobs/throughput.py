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
`parts/`: the same command again resumes where it was interrupted, and another
value in a list costs only itself. Where the code was changed, take another
workdir.
"""

import hashlib
import json
import pathlib
import statistics
from typing import Any

from absl import logging
import jax
import ml_collections

import dcgan_inpaint
from dcgan_inpaint.jobs import throughput_programs as programs
from dcgan_inpaint.jobs import throughput_report as report
from dcgan_inpaint.jobs import throughput_timing as timing
from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import flops
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.training import gan

_WHATS = ("train", "search")


def cells(
  config: ml_collections.ConfigDict,
  search: search_settings.SearchSettings,
  devices: int,
) -> list[programs.Cell]:
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
    first = programs.Cell(
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
  with timing.recompiling(config.throughput.recompile):
    for number, cell in enumerate(todo, start=1):
      path = folder / "parts" / f"{_digest(cell, config)}.json"
      if path.exists():
        row = json.loads(path.read_text())
        logging.info("%s of %s was done before", number, len(todo))
      else:
        if cell.devices not in peaks:
          peaks[cell.devices] = timing.peak(cell.devices, config)
        row = _row(cell, config, search, peaks[cell.devices])
        with files.replacing(path) as temporary:
          temporary.write_text(json.dumps(row))
        logging.info("%s of %s: %s", number, len(todo), report.sentence(row))
      rows.append(row)
  report.draw(folder / "throughput.png", rows)
  return rows


def _digest(cell: programs.Cell, config: ml_collections.ConfigDict) -> str:
  """Returns 16 hexadecimal digits of all that a measurement depends on."""
  device = jax.devices()[0]
  settings = {
    "cell": cell,
    "versions": [jax.__version__, dcgan_inpaint.__version__],
    "device": [device.device_kind, jax.device_count()],
    **{name: config[name].to_dict() for name in ("model", "train", "search")},
    "how": [
      config.throughput[name]
      for name in ("rounds", "seconds", "peak_size", "recompile")
    ],
  }
  text = json.dumps(settings, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _row(
  cell: programs.Cell,
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
  mesh = timing.mesh_of(cell.devices)
  try:
    if cell.what == "train":
      measured = programs.train(cell, settings, networks, mesh)
    else:
      measured = programs.search(cell, settings, search, networks, mesh)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    logging.warning("%s: the devices' memory does not suffice", cell)
    measured = timing.Measured([float("nan")], float("nan"), 0)
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
