"""The validations that search: how a training chooses its best checkpoint.

Each process does all of one on its own devices, which takes no longer than
doing a share; its number is that of the first process, by which all keep the
same checkpoints.
"""

from collections.abc import Callable
import dataclasses

import jax
import ml_collections
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import data
from dcgan_inpaint import pixels
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.metrics import pixel_errors
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.training import encoder as encoder_training
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import loop

# Images in the pictures that a validation leaves.
_SHOWN = 12


def inversion(
  config: ml_collections.ConfigDict,
  networks: bundle.NetworkBundle,
  mesh: jax.sharding.Mesh,
) -> Callable[[gan.GanState], tuple[float, loop.Pictures]] | None:
  """Returns the function that inverts held-out images and inpaints some.

  How near the generator comes to faces it has not seen bounds what any search
  can do. It gives the mean squared error of G(z) (8-bit, whole) and, as
  `inpainted`, the rows of a contact sheet.

  Args:
    config: the whole config; None is returned where it wants no
      `train.validation_images`.
    networks: what is trained.
    mesh: the devices of all processes.
  """
  count = config.train.validation_images
  if not count:
    return None
  image_shape = networks.generator.image_shape
  held_out = data.load(
    config.data, "validation", image_shape, limit=max(count, _SHOWN)
  ).images
  count = min(count, len(held_out))
  shown = held_out[:_SHOWN]
  originals = np.concatenate([held_out[:count], shown])
  holes = mask_sets.make(
    mask_sets.parse(config.masks, config.mask),
    range(len(shown)),
    *image_shape[:2],
  )
  known = np.ones((count, *holes.shape[1:]), np.float32)
  masks = np.concatenate([known, holes])
  mesh = sharding.local_mesh(mesh)
  settings = dataclasses.replace(
    search_settings.resolve(config_lib.search()),
    steps=config.train.validation_steps,
    learning_rate=0.1,
    prior_weight=0.0,
    batch_size=_batch_size(mesh),
  )
  search = ensemble.Search(networks, settings, mesh)

  def validate(state: gan.GanState) -> tuple[float, loop.Pictures]:
    found = search(
      bundle.Weights(
        sharding.local_copy(state.generator_ema),
        sharding.local_copy(state.discriminator),
      ),
      pixels.to_float(originals),
      masks,
    )
    generated = pixels.to_uint8(found.generated)
    error = generated[:count].astype(np.float32) - originals[:count]
    rows = {
      "original": originals,
      "masked": pictures.masked_view(originals, masks),
      "G(z)": generated,
      "completed": pixels.to_uint8(found.completed),
    }
    shown = {name: images[count:] for name, images in rows.items()}
    return _of_all(np.mean(error**2)), {"inpainted": shown}

  return validate


def completion(
  config: ml_collections.ConfigDict,
  model: trained_model.TrainedModel,
  encoder: encoder_lib.Encoder,
  mesh: jax.sharding.Mesh,
) -> (
  Callable[[encoder_training.EncoderState], tuple[float, loop.Pictures]] | None
):
  """Returns the function that completes held-out images by an encoder alone.

  It gives the mean squared error of the blended images (8-bit, whole) and, as
  `completed`, the rows of a contact sheet.

  Args:
    config: the whole config; None is returned where it wants no
      `encoder.validation_images`.
    model: the model whose generator the encoder is for.
    encoder: what is trained.
    mesh: the devices of all processes.
  """
  count = config.encoder.validation_images
  if not count:
    return None
  originals = data.load(
    config.data, "validation", model.image_shape, limit=count
  ).images
  masks = mask_sets.make(
    mask_sets.parse(config.masks, config.mask),
    range(len(originals)),
    *model.image_shape[:2],
  )
  mesh = sharding.local_mesh(mesh)
  settings = dataclasses.replace(
    search_settings.resolve(config_lib.search(), "fidelity"),
    refine_steps=0,
    batch_size=_batch_size(mesh),
  )
  search = trained_model.make_search(
    dataclasses.replace(model.networks, encoder=encoder), settings, mesh
  )
  weights = sharding.local_copy(model.weights._replace(other_encoders=()))

  def validate(
    state: encoder_training.EncoderState,
  ) -> tuple[float, loop.Pictures]:
    variables = sharding.local_copy(state.variables)
    found = search(
      weights._replace(encoder=variables), pixels.to_float(originals), masks
    )
    completed = pixels.to_uint8(found.completed)
    rows = {
      "original": originals,
      "masked": pictures.masked_view(originals, masks),
      "G": pixels.to_uint8(found.generated),
      "completed": completed,
    }
    shown = {name: images[:_SHOWN] for name, images in rows.items()}
    error = np.mean(pixel_errors.mse(completed, originals))
    return _of_all(error), {"completed": shown}

  return validate


def _batch_size(mesh: jax.sharding.Mesh) -> int:
  """Returns about 16 images: one shape serves all that is searched here."""
  devices = mesh.devices.size
  return -(-16 // devices) * devices


def _of_all(error: np.floating) -> float:
  """Returns the first process's error in every process."""
  return float(sharding.gather(np.array([error], np.float64)).flat[0])
