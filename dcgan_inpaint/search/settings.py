"""The settings of a search: `config.search`, with nothing left open.

A mode sets the fields that `config.search` leaves open (None). `paper` is the
plain search in z (the paper's equations 1 to 3). z alone reaches few faces
exactly, so the other modes go on in activations inside G. `fidelity` has the
lowest error: G's first activations come from an encoder, in one pass and
without any search of z, then others are refined; the completed image is a mean
of what could be there. `realism` gives that mean the strength of detail that a
single face has.

Only `resolve` reads the open fields; all else takes a `SearchSettings`.
"""

from collections.abc import Mapping
import dataclasses
import types
from typing import Any

import ml_collections

from dcgan_inpaint.fields import filling
from dcgan_inpaint.fields import spec
from dcgan_inpaint.networks import losses
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.search import blending
from dcgan_inpaint.search import optimizers


@dataclasses.dataclass(frozen=True)
class SearchSettings:
  """The settings of a search.

  Attributes:
    mode: 'paper', 'fidelity' or 'realism', which has set what was left open.
    start: what a search starts from: 'random' (latents) or 'encoder'.
    spread: of the starts around the encoder's; 1 = as G's faces around a mean.
    starts: how many starts an image has.
    reduce: what becomes of them: 'best' (the lowest loss) or 'mean'.
    mirrored: whether the result is the mean with that of the mirror image.
    encoders: of how many encoders the result is the mean; 0 = all.
    steps: of gradient descent on z.
    learning_rate: of these, the first.
    schedule: of every learning rate: 'cosine' (to 0) or 'constant'.
    optimizer: of optax or optax.contrib, by name.
    importance: whether known pixels count by how near they are to the hole.
    prior_weight: lambda, the weight of the prior.
    loss: the variant whose prior it is; '' = the one of the training.
    blending: how what is generated fills the hole, of `blending.MODES`.
    refine_steps: of gradient descent on activations inside G, after those on z.
    refine_layer: the deconvolution that gets these activations, 1 to 4.
    refine_learning_rate: of these steps, the first.
    proximal_weight: of the squared distance to the activations at the outset.
    detail_gain: what multiplies the details of the result, deep in a hole.
    dtype: what the layers compute in: 'float32' or 'bfloat16'.
    batch_size: images searched at a time, over all devices.
    steps_per_call: steps in one compiled call; 0 = 1 on the CPU, 50 elsewhere.
    seed: what the starts are drawn from, image by image.
  """

  mode: str
  start: str
  spread: float
  starts: int
  reduce: str
  mirrored: bool
  encoders: int
  steps: int
  learning_rate: float
  schedule: str
  optimizer: str
  importance: bool
  prior_weight: float
  loss: str
  blending: str
  refine_steps: int
  refine_layer: int
  refine_learning_rate: float
  proximal_weight: float
  detail_gain: float
  dtype: str
  batch_size: int
  steps_per_call: int
  seed: int

  def in_mode(self, mode: str) -> "SearchSettings":
    """Returns the settings in another mode, with all that it sets."""
    return dataclasses.replace(self, mode=mode, **MODES[mode])


_FIDELITY = {
  "start": "encoder",
  "starts": 1,
  "reduce": "mean",
  "mirrored": True,
  "blending": "screened",
  "steps": 0,
  "learning_rate": 0.03,
  "prior_weight": 0.0,
  "refine_steps": 30,
  "refine_layer": 4,
  "refine_learning_rate": 0.02,
  "proximal_weight": 2.0,
  "detail_gain": 1.0,
}
# What a mode sets where `config.search` leaves a field open.
MODES: Mapping[str, Mapping[str, Any]] = types.MappingProxyType(
  {
    "paper": {
      "start": "random",
      "starts": 1,
      "reduce": "best",
      "mirrored": False,
      "blending": "paste",
      "steps": 1000,
      "learning_rate": 0.03,
      "prior_weight": 0.1,
      "refine_steps": 0,
      "refine_layer": 1,
      "refine_learning_rate": 0.01,
      "proximal_weight": 1.0,
      "detail_gain": 1.0,
    },
    "fidelity": _FIDELITY,
    "realism": {**_FIDELITY, "detail_gain": 2.1},
  }
)


def resolve(
  config: ml_collections.ConfigDict, mode: str | None = None
) -> SearchSettings:
  """Returns the settings that `config.search` stands for.

  To be called when a job starts, before anything is loaded.

  Args:
    config: the section `config.search`.
    mode: another mode, whose fields are all its own; that of the config, for
      the fields that are left open there, by default.

  Raises:
    errors.UserError: a value is out of its range, or names a mode, a loss, an
      optimiser or another choice that there is not.
  """
  fields = config.to_dict()
  for field in spec.fields_of(filling.Search):
    value = fields[field.name]
    # An open field has no value yet.
    if value is not None and field.limit and not field.limit.holds(value):
      raise errors.UserError(
        f"config.search.{field.name}={value!r}: must be {field.limit.text}"
      )
  if fields["blending"] not in (None, *blending.MODES):
    raise errors.UserError(
      f"config.search.blending={fields['blending']!r}: must be one of "
      f"{', '.join(blending.MODES)}"
    )
  for field, value in MODES[fields["mode"]].items():
    if fields[field] is None:
      fields[field] = value
  settings = SearchSettings(**fields)
  if settings.loss:
    losses.get(settings.loss, "config.search.loss")
  optimizers.make(settings.optimizer, settings.learning_rate)
  return settings if mode is None else settings.in_mode(mode)
