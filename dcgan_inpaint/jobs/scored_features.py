"""The features on which `evaluate` and `benchmark` measure realism.

`metrics/realism.py` says what is measured, `metrics/features.py` on what.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import importlib.util
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.metrics import features
from dcgan_inpaint.metrics import realism
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import trained_model

# Fewer images say nothing: KID needs two, and means little below some hundred.
_FEW = 2
_BATCH = 256  # Samples that are generated at a time.


def names(
  section: ml_collections.ConfigDict,
  data: ml_collections.ConfigDict,
  field: str,
) -> tuple[str, ...]:
  """Returns the names of the features, `auto` resolved.

  Args:
    section: of the config, with `features` and `inception`.
    data: the section `config.data`.
    field: the section's name, for messages.

  Raises:
    errors.UserError: there is no such name, or what it needs is missing.
  """
  listed = lists.words(section.features)
  if listed == ("auto",):
    installed = importlib.util.find_spec("face_recognition_models")
    return ("dlib",) if data.name == "celeba" and installed else ()
  for name in listed:
    if name not in features.NAMES:
      raise errors.UserError(
        f"{field}.features names {name!r}: choose among auto, "
        f"{', '.join(features.NAMES)}"
      )
  if "inception" in listed and not section.inception:
    raise errors.UserError(
      f"{field}.features names 'inception': give the file of its weights by "
      f"{field}.inception"
    )
  return tuple(dict.fromkeys(listed))


def create(
  section: ml_collections.ConfigDict,
  data: ml_collections.ConfigDict,
  training: Callable[[], np.ndarray],
  field: str,
) -> list[features.Features]:
  """Returns the features that a section of the config names.

  Args:
    section: of the config, with `features` and `inception`.
    data: the section `config.data`.
    training: gives the training images, uint8 [N, H, W, C], to which `raw` is
      fitted.
    field: the section's name, for messages.

  Raises:
    errors.UserError: of `names`, or a file cannot be read.
  """
  made = []
  for name in names(section, data, field):
    made.append(
      features.create(
        name,
        landmarks=detection.POINTS / alignment.SIZE,
        weights=section.inception,
        reference=training() if name == "raw" else None,
        field=f"{field}.features",
      )
    )
  return made


def extract(
  made: Sequence[features.Features], images: np.ndarray, count: int
) -> dict[str, np.ndarray]:
  """Returns the features of the images of all processes.

  Args:
    made: of `create`.
    images: uint8 [n, H, W, C], this process's slice.
    count: images of all processes.

  Returns:
    {name: float [count, D]}.
  """
  return {
    feature.name: sharding.gather_slices(feature.extract(images), count)
    for feature in made
  }


def score(
  made: Sequence[features.Features],
  completed: Mapping[str, np.ndarray],
  originals: Mapping[str, np.ndarray],
  chosen: np.ndarray,
) -> dict[str, Any]:
  """Returns the metrics of realism of completed images, for a row.

  Args:
    made: of `create`.
    completed: of `extract`.
    originals: of `extract`, for the images before their holes were cut.
    chosen: bool [count]: the images that count. Those without a hole, and those
      at which the method failed, say nothing.

  Returns:
    The metrics of `realism.score_completions` for all features.
  """
  row: dict[str, Any] = {}
  if not made:
    return row
  if np.sum(chosen) < _FEW:
    logging.warning(
      "%s images with a hole are too few to measure realism", np.sum(chosen)
    )
    return row
  for feature in made:
    row |= realism.score_completions(
      feature, completed[feature.name][chosen], originals[feature.name][chosen]
    )
  return row


def score_samples(
  made: Sequence[features.Features],
  reference: Mapping[str, np.ndarray],
  model: trained_model.TrainedModel,
  count: int,
  seed: int,
) -> dict[str, float]:
  """Returns how real a generator's own images look, for a row.

  Each process makes its slice of the samples.

  Args:
    made: of `create`.
    reference: of `extract`, for real images.
    model: whose generator it is.
    count: samples of all processes, at least one for each.
    seed: sample `i` is a function of it and of `i`.

  Returns:
    The metrics of `realism.compare` for all features.
  """
  networks = model.networks
  weights = sharding.local_copy(model.weights.generator)

  @jax.jit
  def generate(indices: jax.Array) -> jax.Array:
    keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))
    latents = jax.vmap(
      lambda key: dcgan.sample_latents(key, 1, networks.latent_size)[0]
    )(keys(indices))
    images = networks.generator.apply(weights, latents, train=False)
    assert isinstance(images, jax.Array)
    return images

  mine = np.arange(count)[sharding.process_slice(count)]
  extracted: dict[str, list[np.ndarray]] = {one.name: [] for one in made}
  with progress.Progress(
    len(mine), description="samples", visible=jax.process_index() == 0
  ) as bar:
    for first in range(0, len(mine), _BATCH):
      indices = mine[first : first + _BATCH]
      padded = np.resize(indices, _BATCH)
      generated = pixels.to_uint8(generate(padded))[: len(indices)]
      for one in made:
        extracted[one.name].append(one.extract(generated))
      bar.update(len(indices))
  row: dict[str, float] = {}
  for name, parts in extracted.items():
    merged = sharding.gather_slices(np.concatenate(parts), count)
    row |= realism.compare(name, merged, reference[name])
  return row
