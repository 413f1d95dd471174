"""The settings of a search: `config.search`, with nothing left open.

A mode sets the fields that `config.search` leaves open (None). `paper` is the
plain search in z (the paper's equations 1 to 3). Few faces are in the range of
z, so the other modes optimise activations inside G. `fidelity` has the lowest
error: an encoder predicts G's first activations in one pass, without any search
of z, then later ones are refined; the completed image approximates the mean of
the possible faces. `realism` gives that mean the strength of detail that a
single face has.

Only `resolve` reads the open fields; all other code takes a `SearchSettings`.
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

# Side of the image that lengths in pixels are given for, those of the blending
# and of the details; they grow with the image.
SIDE = 64


@dataclasses.dataclass(frozen=True)
class SearchSettings:
  """The settings of a search.

  Attributes:
    mode: 'paper', 'fidelity' or 'realism', which sets the open fields.
    start: what a search starts from: 'random' (latents) or 'encoder'.
    spread: of the starts around the encoder's output; 1 = as wide as G's faces
      around their mean.
    starts: the number of starts for each image.
    reduce: how the starts are combined: 'best' (the lowest loss) or 'mean'.
    mirrored: whether the result is the mean with that of the mirror image.
    encoders: how many encoders the result is the mean of; 0 = all.
    steps: of gradient descent on z.
    learning_rate: the initial one of these steps.
    schedule: of every learning rate: 'cosine' (to 0) or 'constant'.
    optimizer: of optax or optax.contrib, by name.
    importance: whether known pixels are weighted by how much of their
      neighbourhood is missing.
    prior_weight: lambda, the weight of the prior.
    loss: the loss variant of the prior; '' = that of the training.
    blending: how the generated image fills the hole, of `blending.MODES`.
    refine_steps: of gradient descent on activations inside G, after those on z.
    refine_layer: the deconvolution whose input these activations are, from 1
      on; 0 = the last.
    refine_learning_rate: the initial one of these steps.
    proximal_weight: of the squared distance to the initial activations.
    detail_gain: factor on the details of the result, deep in a hole.
    dtype: the type the layers compute in: 'float32' or 'bfloat16'.
    batch_size: images searched at a time, over all devices.
    steps_per_call: steps in one compiled call; 0 = 1 on the CPU, 50 elsewhere.
    seed: the seed of the starts, image by image.
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
    """Returns the settings in another mode, with all values that it sets."""
    return dataclasses.replace(self, mode=mode, **MODES[mode])

  def for_layers(self, layers: int) -> "SearchSettings":
    """Returns the settings of a search in a G of so many deconvolutions.

    Raises:
      errors.UserError: it refines what none of them gets.
    """
    if self.refine_steps and self.refine_layer > layers:
      raise errors.UserError(
        f"config.search.refine_layer={self.refine_layer}: this model's "
        f"generator has {layers} deconvolutions; choose 1 to {layers}, or 0 "
        "for the last"
      )
    return dataclasses.replace(self, refine_layer=self.refine_layer or layers)


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
  "refine_layer": 0,
  "refine_learning_rate": 0.02,
  "proximal_weight": 2.0,
  "detail_gain": 1.0,
}
# The values of each mode for the open fields of `config.search`.
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
  """Returns the settings that `config.search` describes.

  To be called when a job starts, before anything is loaded.

  Args:
    config: the section `config.search`.
    mode: another mode, which then sets all of its fields; by default that of
      the config, which sets only the open ones.

  Raises:
    errors.UserError: a value is out of its range, or names a mode, a loss, an
      optimiser or another choice that does not exist.
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
