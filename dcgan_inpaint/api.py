"""The two calls of the Python interface.

Whatever is heavy is imported within them, so that `import dcgan_inpaint` stays
quick.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import process

if TYPE_CHECKING:
  from dcgan_inpaint.search import settings as search_settings
  from dcgan_inpaint.search import trained_model


def load_pretrained(path: str = "pretrained") -> trained_model.TrainedModel:
  """Loads a trained model.

  Args:
    path: 'pretrained', the model that comes with the package; the folder of an
      exported model; or the workdir of a training run.

  Returns:
    The networks and weights of generator, discriminator and encoder (None where
    there is none), the config they were trained with, and the mean training
    image. Its generator maps z to faces by

      model.networks.generator.apply(model.weights.generator, z, train=False)

  Raises:
    errors.UserError: there is no such model, or it cannot be read.
  """
  from dcgan_inpaint import config as config_lib
  from dcgan_inpaint.runtime import sharding
  from dcgan_inpaint.search import trained_model

  process.check_not_forked()
  settings = config_lib.checkpoint()
  settings.path = path
  return trained_model.load(settings, sharding.create_mesh())


def inpaint(
  images: np.ndarray,
  masks: np.ndarray,
  *,
  mode: str = "fidelity",
  model: trained_model.TrainedModel | None = None,
  seed: int = 0,
  **search: Any,
) -> np.ndarray:
  """Fills the holes in faces.

  The faces are to be cropped as the model's training images were: CelebA's
  aligned image, its box x 25..152 and y 57..184, for the package's own model.
  Photographs of any size, in which faces must be found first, are the command
  line's: configs/inpaint.py.

  Args:
    images: one image [S, S, C] or many [N, S, S, C], of the model's size and
      channels ([64, 64, 3]); uint8, or float in [-1, 1]. What lies under a hole
      is not looked at, and may be NaN.
    masks: one mask for all [S, S], [S, S, 1], or one for each image, with N
      before it; bool or numbers, True or 1 = known, False or 0 = hole.
    mode: 'fidelity' (the lowest error), 'realism' (that, as sharp as a face is)
      or 'paper' (the plain search in z).
    model: what `load_pretrained` returned; the package's own by default.
    seed: what the starts of the search are drawn from. An image's result
      depends on its place in `images`, and on no other image.
    **search: other fields of `config.search`, such as `steps=250`.

  Returns:
    The completed images, of the shape and the type of `images`; known pixels
    are the input's, to the bit.

  Raises:
    errors.UserError: an argument has a wrong shape, type, range or name;
      or the process is a fork of one that has used JAX.
  """
  from dcgan_inpaint import pixels
  from dcgan_inpaint.search import trained_model

  process.check_not_forked()
  images, masks = np.asarray(images), np.asarray(masks)
  if model is None:
    model = _pretrained()
  batch, holes = _as_batch(images, masks, model.image_shape)
  settings = _settings(mode=mode, seed=seed, **search)
  fill = trained_model.make_search(model.networks, settings)
  found = fill(model.weights, batch, holes)
  completed = found.completed
  if images.dtype == np.uint8:
    completed = pixels.to_uint8(completed)
  known = np.broadcast_to(holes > 0.5, completed.shape)
  completed = completed.reshape(images.shape).astype(images.dtype)
  # A float64 image passed through float32.
  return np.where(known.reshape(images.shape), images, completed)


def _as_batch(
  images: np.ndarray, masks: np.ndarray, image_shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns images float32 [N, S, S, C] and masks float32 [N, S, S, 1]."""
  from dcgan_inpaint import pixels

  size, _, channels = image_shape
  if images.ndim not in (3, 4) or images.shape[-3:] != image_shape:
    raise errors.UserError(
      f"images: shape {images.shape}, and must be [{size}, {size}, {channels}] "
      f"or [N, {size}, {size}, {channels}]; configs/inpaint.py takes images of "
      "any size"
    )
  batch = images.reshape(-1, *image_shape)
  if masks.shape[-1:] != (1,):
    masks = masks[..., None]
  try:
    holes = np.broadcast_to(masks, (len(batch), size, size, 1))
  except ValueError as error:
    raise errors.UserError(
      f"masks: shape {masks.shape} for images of shape {images.shape}; give "
      f"[{size}, {size}], or one for each image"
    ) from error
  if not np.isin(holes, (0, 1)).all():
    raise errors.UserError(
      "masks: values other than 0 (hole) and 1 (known); threshold them first"
    )
  holes = holes.astype(np.float32)
  if batch.dtype == np.uint8:
    return np.asarray(pixels.to_float(batch)), holes
  if not np.issubdtype(batch.dtype, np.floating):
    raise errors.UserError(f"images: {batch.dtype}; give uint8 or float")
  known = np.where(holes > 0.5, batch, 0)
  # A NaN fails both comparisons.
  if not ((known >= -1) & (known <= 1)).all():
    raise errors.UserError(
      "images: known pixels beyond [-1, 1]; give uint8, or x / 127.5 - 1"
    )
  return known.astype(np.float32), holes


@functools.cache
def _pretrained() -> trained_model.TrainedModel:
  return load_pretrained()


def _settings(**fields: Any) -> search_settings.SearchSettings:
  """Returns the settings of a search from fields of `config.search`."""
  import ml_collections

  from dcgan_inpaint import config as config_lib
  from dcgan_inpaint.search import settings as search_settings

  section = config_lib.search()
  for field, value in fields.items():
    if field not in section:
      raise errors.UserError(
        f"inpaint: {field!r} is not a field of config.search: choose among "
        f"{', '.join(section)}"
      )
    try:
      section[field] = value
    except TypeError as error:
      raise errors.UserError(f"inpaint: {field}={value!r}: {error}") from error
  config_lib.validate(
    ml_collections.ConfigDict({"job": "inpaint", "search": section})
  )
  return search_settings.resolve(section)
