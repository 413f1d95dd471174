"""A trained model: what the job `train` leaves, loaded to be searched."""

import functools
import pathlib
from typing import Any
from typing import NamedTuple

from absl import logging
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from dcgan_inpaint import checkpoints as checkpoints_lib
from dcgan_inpaint import errors
from dcgan_inpaint import gan
from dcgan_inpaint import losses
from dcgan_inpaint import models
from dcgan_inpaint import report
from dcgan_inpaint import search as search_lib
from dcgan_inpaint import sharding


class Trained(NamedTuple):
  """A trained model.

  Attributes:
    weights: G's moving average and D, with their running statistics.
    config: the whole config that it was trained with.
    step: the training step of its checkpoint.
    mean_image: uint8 [64, 64, 3], the mean of its training images.
  """

  weights: search_lib.Weights
  config: ml_collections.ConfigDict
  step: int
  mean_image: np.ndarray


def load(config: Any, mesh: jax.sharding.Mesh) -> Trained:
  """Loads the model that `config.checkpoint` names.

  Args:
    config: the section `config.checkpoint`.
    mesh: the devices that the weights are copied to.

  Raises:
    errors.UserError: there is no such checkpoint, or none can be read.
  """
  reason = ""
  with checkpoints_lib.existing(config.path) as checkpoints:
    for step in checkpoints.candidates(config.step):
      try:
        return _load_step(checkpoints, step, config.path, mesh)
      except errors.UserError:
        raise
      except Exception as error:  # noqa: BLE001 (Orbax has many of its own.)
        reason = checkpoints_lib.first_line(error)
        logging.warning("checkpoint %s cannot be read (%s)", step, reason)
  raise errors.UserError(
    f"config.checkpoint.path={config.path!r}: the checkpoint {config.step!r} "
    f"cannot be read ({reason}); try --config.checkpoint.step=latest"
  )


def _load_step(
  checkpoints: checkpoints_lib.Checkpoints,
  step: int,
  workdir: str,
  mesh: jax.sharding.Mesh,
) -> Trained:
  config = ml_collections.ConfigDict(checkpoints.meta(step)["config"])
  generator, discriminator, _ = gan.networks(config)
  state = jax.eval_shape(
    functools.partial(
      gan.init_state,
      config.seed,
      generator,
      discriminator,
      config.model.latent_size,
      config.train,
    )
  )
  state = checkpoints.restore(
    step, checkpoints_lib.abstract(state, sharding.replicated(mesh))
  )
  return Trained(
    weights=search_lib.Weights(state.generator_ema, state.discriminator),
    config=config,
    step=step,
    mean_image=report.load_png(
      pathlib.Path(workdir).expanduser() / "mean_image.png"
    ),
  )


def search_loss(name: str, trained_with: str) -> losses.AdversarialLoss:
  """Returns the loss variant that is the search's prior.

  Args:
    name: `config.search.loss`; '' is the one of the training.
    trained_with: `config.train.loss` of the model.

  Raises:
    errors.UserError: it wants another number of logits than the trained
      discriminator gives.
  """
  trained_loss = losses.get(trained_with)
  if not name:
    return trained_loss
  loss = losses.get(name, "config.search.loss")
  if loss.outputs != trained_loss.outputs:
    raise errors.UserError(
      f"config.search.loss={name!r} wants {loss.outputs} logits, and the "
      f"model, trained with {trained_with!r}, gives {trained_loss.outputs}; "
      "leave the field empty"
    )
  return loss


def make_search(
  model: Trained, config: Any, mesh: jax.sharding.Mesh
) -> search_lib.Search:
  """Returns the search in a trained model's latent space.

  Args:
    model: the trained model.
    config: the section `config.search`; its `dtype` may differ from the one
      that the model was trained in.
    mesh: the devices.

  Raises:
    errors.UserError: `config.search` has a wrong value, or names a loss whose
      number of logits is not that of the trained discriminator.
  """
  loss = search_loss(config.loss, model.config.train.loss)
  generator, discriminator = models.create(model.config.model, loss.outputs)
  dtype = jnp.dtype(config.dtype)
  return search_lib.Search(
    generator.clone(dtype=dtype),
    discriminator.clone(dtype=dtype),
    loss,
    config,
    latent_size=model.config.model.latent_size,
    mesh=mesh,
  )
