"""The job `train`: the training loop around `gan.train_step`.

Read it top to bottom: the data goes to the devices, the state is made or
restored, and compiled calls of several steps run until the end. Between them
come metrics, samples, validation and checkpoints. The same command again goes
on where the last checkpoint stands, and repeats what the uninterrupted run
would have done: to the bit on the CPU, and wherever else the arithmetic is
deterministic.
"""

import collections
from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import json
import os
import pathlib
import signal
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import pixels
from dcgan_inpaint.data import batches
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import stream as stream_lib
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.runtime import termination
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import metric_writer

# Calls that may wait on the devices at a time.
_CALLS_IN_FLIGHT = 8
# Images in the pictures that training leaves.
_SAMPLES = 64
_INPAINTED = 12

# What may not change when a run is resumed: the state's shapes and the run's
# course depend on it.
_FIXED = ("seed", "model", "data", "train")
# ... but for these, which only say how long, how often and where to.
_FREE = (
  "train.steps",
  "train.epochs",
  "train.steps_per_call",
  "train.log_every",
  "train.sample_every",
  "train.save_every",
  "train.max_to_keep",
  "train.validation_images",
  "train.validation_steps",
  "data.split",
  "data.test_path",
  "data.placement",
  "data.workers",
)
# Share of a device's memory that the training images may take.
_DATA_SHARE = 0.5
# Images of which `mean_image.png` and the digest are where they stream.
_SOME = 8192


def total_steps(config: Any, images: int) -> int:
  """Returns how many steps `config.train` asks for, over so many images."""
  return config.steps or round(config.epochs * (images // config.batch_size))


def _flat(config: dict[str, Any], sections: Sequence[str]) -> dict[str, Any]:
  """Returns {'section.field': value} of some sections of a config."""
  flat = {}
  for section in sections:
    value = config.get(section)
    if isinstance(value, dict):
      flat |= {f"{section}.{name}": item for name, item in value.items()}
    else:
      flat[section] = value
  return flat


def check_same_run(
  then: dict[str, Any],
  now: dict[str, Any],
  fixed: Sequence[str] = _FIXED,
  free: Sequence[str] = _FREE,
) -> None:
  """Refuses to go on with a run under another config.

  Args:
    then: what the checkpoint was saved with: its `config`, as a dict, and how
      many training `images` there were.
    now: the same of this command.
    fixed: sections of the config that may not change ...
    free: ... but for these fields.

  Raises:
    errors.UserError: names what differs, with both values.
  """
  if then["images"] != now["images"]:
    raise errors.UserError(
      f"the run in --workdir was started on {then['images']:,} training "
      f"images, and config.data now holds {now['images']:,}: give it the same "
      "images, or take another --workdir"
    )
  then, now = (_flat(x["config"], fixed) for x in (then, now))
  # A field that came later is not held against an older run.
  differing = [
    f"config.{field}={now[field]!r} (was {then[field]!r})"
    for field in sorted(then.keys() & now.keys())
    if field not in free and then[field] != now[field]
  ]
  if differing:
    raise errors.UserError(
      f"the run in --workdir was started with other values: "
      f"{', '.join(differing)}; take those, or another --workdir"
    )


class _Validation:
  """Inversion of held-out images, and a picture of inpainted ones.

  How near the generator comes to faces it has not seen bounds what any search
  can do, so it chooses the best checkpoint. Each process does all of it on its
  own devices, which takes no longer than doing a share.
  """

  def __init__(self, config, generator, discriminator, loss, held_out, mesh):
    # Small batches: one shape serves the inversions and the picture.
    devices = mesh.devices.size
    settings = dataclasses.replace(
      search_settings.resolve(config_lib.search()),
      steps=config.train.validation_steps,
      learning_rate=0.1,
      prior_weight=0.0,
      batch_size=-(-16 // devices) * devices,
    )
    networks = bundle.NetworkBundle(
      generator, discriminator, loss, config.model.latent_size
    )
    self._search = ensemble.Search(networks, settings, mesh)
    self._count = min(config.train.validation_images, len(held_out))
    shown = held_out[:_INPAINTED]
    originals = np.concatenate([held_out[: self._count], shown])
    known = np.ones((self._count, *originals.shape[1:3], 1), np.float32)
    holes = mask_sets.make(
      config.mask, np.arange(len(shown)), *originals.shape[1:3]
    )
    self._originals = originals
    self._masks = np.concatenate([known, holes])

  def __call__(self, state: gan.GanState) -> tuple[float, dict[str, Any]]:
    """Returns the inversion MSE (8-bit scale) and the contact sheet's rows."""
    found = self._search(
      bundle.Weights(
        sharding.local_copy(state.generator_ema),
        sharding.local_copy(state.discriminator),
      ),
      pixels.to_float(self._originals),
      self._masks,
    )
    generated = pixels.to_uint8(found.generated)
    error = generated.astype(np.float32) - self._originals
    rows = {
      "original": self._originals,
      "masked": pictures.masked_view(self._originals, self._masks),
      "G(z)": generated,
      "completed": pixels.to_uint8(found.completed),
    }
    shown = {name: x[self._count :] for name, x in rows.items()}
    # One figure for all, by which all keep the same checkpoints.
    error = sharding.gather(np.mean(error[: self._count] ** 2, keepdims=True))
    return float(error.flat[0]), shown


def run_and_evaluate(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """The job: `run`, then the job `evaluate` for what it trained.

  Args:
    config: the whole config; where `evaluation.methods` is empty, nothing is
      evaluated.
    workdir: where the run lives.
    mesh: the devices of all processes.

  Returns:
    The rows of both.
  """
  # Before hours of training.
  evaluate.check(config, sharding.local_mesh(mesh))
  rows = run(config, workdir, mesh)
  # JAX's handler, of several processes, let training save; what follows is
  # done anew.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  if config.evaluation.methods:
    config.checkpoint.path = workdir
    config.checkpoint.loss = config.train.loss
    rows += evaluate.run(config, workdir, mesh)
  return rows


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Trains a DCGAN, or goes on with the training that `workdir` holds.

  Leaves in `workdir`: checkpoints/, metrics.jsonl and TensorBoard's files,
  samples/, inpainted/, losses.png, mean_image.png and config.json.

  Args:
    config: the whole config.
    workdir: where the run lives.
    mesh: the devices.

  Returns:
    A row with the throughput and the last inversion MSE, for results.json.

  Raises:
    errors.UserError: the data is missing, the workdir holds another run, or
      the loss is no longer finite.
    errors.Stopped: SIGTERM came, and the last step is saved.
  """
  settings = config.train
  sharding.check_divisible(settings.batch_size, mesh, "config.train.batch_size")
  workdir = pathlib.Path(workdir)
  first_process = jax.process_index() == 0

  # --- data -----------------------------------------------------------------
  source = _stream_from(config.data, mesh)
  if source:
    dataset, image_count = None, source.count
    images, indices = _some(source)
  else:
    rows = functools.partial(sharding.local_rows, mesh=mesh)
    real = data.load(
      config.data, "train", rows=rows if jax.process_count() > 1 else None
    )
    images, image_count = real.images, real.count
    indices = range(image_count)[rows(image_count)]
    dataset = sharding.place_images(images, mesh, image_count)
    del real
  mean_image, digest = _mean_image(images), data.digest(images, indices)
  del images  # The devices have them.
  if image_count < settings.batch_size:
    raise errors.UserError(
      f"config.data holds {image_count} training images, fewer than "
      f"config.train.batch_size={settings.batch_size}: take a smaller batch"
    )
  steps = total_steps(settings, image_count)
  logging.info(
    "%s training images of %s (%s), %s steps of %s",
    f"{image_count:,}", config.data.name,
    "streamed" if source else "on the devices", f"{steps:,}",
    settings.batch_size,
  )  # fmt: skip

  # --- state ----------------------------------------------------------------
  generator, discriminator, loss = gan.networks(config)
  latent_size = config.model.latent_size
  one = sharding.replicated(mesh)
  init = functools.partial(
    gan.init_state,
    config.seed,
    generator,
    discriminator,
    latent_size,
    settings,
  )
  shapes = jax.eval_shape(init)
  logging.info(
    "parameters: generator %s, discriminator %s",
    *(f"{dcgan.parameter_count(variables):,}"
      for variables in (shapes.generator, shapes.discriminator)),
  )  # fmt: skip
  target = checkpoints_lib.abstract(shapes, one)
  checkpoints = checkpoints_lib.Checkpoints(
    workdir / "checkpoints", settings.max_to_keep
  )
  meta = {"config": checkpoints_lib.as_json(config), "images": image_count}
  restored = checkpoints.restore_latest(
    target, check=lambda then: check_same_run(then, meta)
  )
  if restored is None:
    first_step, state = 0, jax.jit(init, out_shardings=one)()
  else:
    first_step, state = restored
    logging.info("resuming %s at step %s", workdir, f"{first_step:,}")
  if first_process:
    pictures.save_png(workdir / "mean_image.png", mean_image)
    with files.replacing(workdir / "config.json") as path:
      path.write_text(json.dumps(meta["config"], indent=2))

  # --- compiled functions ---------------------------------------------------
  train_steps = gan.compile_steps(
    mesh,
    streamed=bool(source),
    generator=generator,
    discriminator=discriminator,
    loss=loss,
    latent_size=latent_size,
    config=settings,
  )
  on_cpu = mesh.devices.flat[0].platform == "cpu"
  steps_per_call = settings.steps_per_call or (1 if on_cpu else 20)
  validation = None
  if settings.validation_images:
    held_out = data.load(
      config.data,
      "validation",
      limit=max(settings.validation_images, _INPAINTED),
    ).images
    validation = _Validation(
      config,
      generator,
      discriminator,
      loss,
      held_out,
      sharding.local_mesh(mesh),
    )
  sample = jax.jit(
    lambda variables: pixels.to_uint8(
      generator.apply(
        variables,
        dcgan.sample_latents(
          jax.random.key(config.seed), _SAMPLES, latent_size
        ),
        train=False,
      )
    ),
    in_shardings=one,
    out_shardings=one,
  )

  # --- the loop -------------------------------------------------------------
  writer = metric_writer.MetricWriter(
    workdir, resume_step=first_step, writable=first_process
  )
  bar = progress.Progress(
    steps * settings.batch_size,
    description="train",
    initial=first_step * settings.batch_size,
    visible=first_process,
  )
  feed = _feed(config, mesh, source, image_count, range(first_step, steps))
  running = _RunningMeans()
  in_flight = collections.deque()
  compiled = {}

  def collect(keep: int) -> None:
    """Takes metrics off the devices until `keep` calls are in flight."""
    while len(in_flight) > keep:
      last, pending = in_flight.popleft()
      values = jax.device_get(pending)
      running.add(values)
      _check_finite(values, last, checkpoints)
      bar.update(
        len(values["generator_loss"]) * settings.batch_size,
        **{name: float(value[-1]) for name, value in values.items()
           if name.endswith("loss")},
      )  # fmt: skip

  step, error = first_step, None
  watch = termination.Watch(together=True)
  with checkpoints, writer, bar, watch:
    while step < steps:
      if watch.due():
        collect(0)
        if means := running.take():
          writer.scalars(step, means)
        checkpoints.save(step, state, meta, None)
        raise errors.Stopped(f"stopped and saved at step {step:,} of {steps:,}")
      count = min(steps_per_call, steps - step)
      arguments = (state, dataset, feed(step, count), np.uint32(config.seed))
      if count not in compiled:
        # Nothing may run while the clock stands, here and below.
        collect(0)
        with bar.paused():
          compiled[count] = train_steps.lower(*arguments).compile()
          sharding.wait_for_all("compiled")
      state, metrics = compiled[count](*arguments)
      before, step = step, step + count
      in_flight.append((step, metrics))
      collect(_CALLS_IN_FLIGHT)

      is_due = functools.partial(due, before=before, step=step, last=steps)
      if is_due(settings.sample_every):
        collect(0)
      if is_due(settings.log_every) or is_due(settings.save_every):
        collect(0)
        writer.scalars(step, running.take())
      if is_due(settings.sample_every):
        with bar.paused():
          samples = pictures.grid(
            np.asarray(sample(state.generator_ema)), columns=8
          )
          writer.images(step, {"samples": samples})
      if is_due(settings.save_every):
        with bar.paused():
          if validation:
            error, sheet = validation(state)
            writer.scalars(step, {checkpoints_lib.INVERSION_MSE: error})
            if first_process:
              pictures.contact_sheet(
                workdir / "inpainted" / f"step_{step:06d}.png", sheet
              )
          checkpoints.save(step, state, meta, error)
          writer.flush()
  if first_process:
    _draw_curves(workdir)
  return [
    {
      "what": "train",
      "batch": settings.batch_size,
      "steps": step,
      "data_digest": digest,
      # None where an earlier run had done it all.
      "per_second": bar.rate or None,
      "milliseconds_per_step": (
        1000 * settings.batch_size / bar.rate if bar.rate else None
      ),
      checkpoints_lib.INVERSION_MSE: error
      or (_last_inversion_mse(workdir) if first_process else None),
    }
  ]


def _stream_from(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> data.Source | None:
  """Returns what to stream the training images from, or None to load them.

  Args:
    config: the section `config.data`.
    mesh: the devices.

  Raises:
    errors.UserError: they must be streamed, and cannot be.
  """
  # Synthetic faces are drawn in memory, and so few that they always fit.
  if config.placement == "device" or (
    config.placement == "auto" and config.name == "synthetic"
  ):
    return None
  source = data.open_source(config, "train")
  size = source.count * dcgan.IMAGE_SIZE**2 * 3 / mesh.devices.size
  if config.placement == "auto":
    fits = size <= _DATA_SHARE * _device_memory()
    # One that is short of memory makes all stream.
    if sharding.gather(np.array([fits])).all():
      return None
  stream_lib.check()
  return source


def _device_memory() -> float:
  """Returns the bytes of memory of each device of this process."""
  devices = jax.local_devices()
  stats = devices[0].memory_stats()
  if stats and "bytes_limit" in stats:
    return stats["bytes_limit"]
  # The CPU's devices share the host's.
  host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return host / len(devices)


def _feed(
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  source: data.Source | None,
  count: int,
  steps: range,
) -> Callable[[int, int], np.ndarray | jax.Array]:
  """Returns the function from a step and a number of steps to their batches.

  Args:
    config: the whole config.
    mesh: the devices.
    source: what the images stream from, or None where the devices have them.
    count: the number of training images.
    steps: all steps of the run; those asked for must follow one another.
  """
  order = {"batch_size": config.train.batch_size, "seed": config.seed}
  if not source:
    return functools.partial(batches.indices, count=count, **order)
  stream = stream_lib.batches(
    source,
    steps=steps,
    rows=sharding.local_rows(config.train.batch_size, mesh),
    size=dcgan.IMAGE_SIZE,
    workers=config.data.workers,
    **order,
  )

  def feed(step: int, count: int) -> jax.Array:
    del step  # The stream is there already.
    return sharding.place_batches(
      np.stack([next(stream) for _ in range(count)]), mesh
    )

  return feed


def due(every: int, before: int, step: int, last: int) -> bool:
  """Tells whether a call from `before` to `step` passed a multiple of `every`.

  The last step is due for everything that is wanted at all (`every` > 0).
  """
  return bool(every) and (before // every < step // every or step == last)


def _last_inversion_mse(workdir: pathlib.Path) -> float | None:
  """Returns the figure of the last validation, or None without one."""
  figures = [
    row[checkpoints_lib.INVERSION_MSE]
    for row in metric_writer.read(workdir / "metrics.jsonl")
    if checkpoints_lib.INVERSION_MSE in row
  ]
  return figures[-1] if figures else None


class _RunningMeans:
  """Means of the metrics since they were last taken."""

  def __init__(self):
    self._values = collections.defaultdict(list)

  def add(self, values: dict[str, np.ndarray]) -> None:
    for name, steps in values.items():
      self._values[name].extend(steps)

  def take(self) -> dict[str, float]:
    means = {name: float(np.mean(x)) for name, x in self._values.items()}
    self._values.clear()
    return means


def _check_finite(values, last, checkpoints) -> None:
  """Stops the run where a figure is not finite, and says at which step."""
  finite = np.all([np.isfinite(steps) for steps in values.values()], axis=0)
  if finite.all():
    return
  step = last - len(finite) + int(np.argmin(finite)) + 1
  figures = ", ".join(
    f"{name} {steps[np.argmin(finite)]}" for name, steps in values.items()
  )
  saved = checkpoints.steps()
  raise errors.UserError(
    f"non-finite loss at step {step} ({figures}): lower "
    "config.train.learning_rate, and start in another --workdir; the last "
    f"checkpoint is {saved[-1] if saved else 'none'}"
  )


def _mean_image(images: np.ndarray) -> np.ndarray:
  """Returns the mean of uint8 [N, H, W, 3] of all processes, rounded."""
  # By chunks: the whole set as float64 would take eight times its memory.
  total = np.zeros(images.shape[1:], np.float64)
  for first in range(0, len(images), 4096):
    total += images[first : first + 4096].sum(axis=0, dtype=np.float64)
  count = sharding.gather(np.array([len(images)])).sum()
  return np.round(sharding.gather(total).sum(axis=0) / count).astype(np.uint8)


def _some(source: data.Source) -> tuple[np.ndarray, np.ndarray]:
  """Returns this process's share of some images, and their places.

  They stand for images that stream, and are spread over the whole set.
  """
  spread = np.linspace(0, source.count - 1, min(source.count, _SOME))
  mine = np.int64(spread)[sharding.process_slice(len(spread))]
  images, failures = decoding.decode_all(
    lambda i: source.read(int(mine[i])), len(mine), dcgan.IMAGE_SIZE
  )
  if failures:
    i, error = min(failures.items())
    raise errors.UserError(
      f"image {mine[i]:,} of config.data cannot be read ({error}); where "
      "images stream none can be left out: remove it"
    )
  return images, mine


def _draw_curves(workdir: pathlib.Path) -> None:
  """Draws losses.png from metrics.jsonl."""
  series = collections.defaultdict(lambda: ([], []))
  for row in metric_writer.read(workdir / "metrics.jsonl"):
    for name, value in row.items():
      if name.endswith("_loss") and value is not None:
        series[name][0].append(row["step"])
        series[name][1].append(value)
  pictures.curves(workdir / "losses.png", dict(series), title="Training losses")
