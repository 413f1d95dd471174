"""A trained model, loaded to be searched.

It is what the job `train` leaves, with the encoder that `train_encoder` leaves
where there is one; or a folder that `export` wrote, such as the model that
comes with the package.
"""

import functools
import hashlib
import pathlib
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from dcgan_inpaint import checkpoints as checkpoints_lib
from dcgan_inpaint import encoder as encoder_lib
from dcgan_inpaint import errors
from dcgan_inpaint import gan
from dcgan_inpaint import losses
from dcgan_inpaint import models
from dcgan_inpaint import pretrained
from dcgan_inpaint import report
from dcgan_inpaint import search as search_lib
from dcgan_inpaint import sharding


class Trained(NamedTuple):
  """A trained model.

  Attributes:
    weights: G's moving average and D, with their running statistics, and the
      encoder's, if any.
    config: the whole config that G and D were trained with.
    step: the training step of their checkpoint.
    mean_image: uint8 [64, 64, 3], the mean of its training images.
    encoder: the encoder's module, or None.
  """

  weights: search_lib.Weights
  config: ml_collections.ConfigDict
  step: int
  mean_image: np.ndarray
  encoder: encoder_lib.Encoder | None = None


def digest(variables: models.Variables) -> str:
  """Returns 12 hexadecimal digits that tell one network's values from others.

  Args:
    variables: of any network.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
  return digest.hexdigest()[:12]


def load(config: Any, mesh: jax.sharding.Mesh) -> Trained:
  """Loads the model that `config.checkpoint` names.

  Args:
    config: the section `config.checkpoint`.
    mesh: the devices that the weights are copied to.

  Raises:
    errors.UserError: there is no such checkpoint, none can be read, its loss is
      code that `config.checkpoint.loss` does not name, or the encoder is
      another generator's.
  """
  folder = pretrained.find(config.path)
  if folder:
    model = _read_exported(folder, config, mesh)
  else:
    model = _load_run(config, mesh)
  return load_encoder(model, config, mesh) if config.encoder else model


def export(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """The job `export`: writes a model as plain arrays, see `pretrained`.

  Args:
    config: the whole config.
    workdir: where the model goes by default.
    mesh: the devices.

  Returns:
    A row with the size of what was written, for results.json.
  """
  model = load(config.checkpoint, mesh)
  folder = pathlib.Path(config.output or pathlib.Path(workdir) / "model")
  encoder = None
  if model.encoder:
    encoder = {
      "width": model.encoder.width,
      "rank": model.encoder.rank,
      "skips": bool(model.encoder.skips),
    }
  # What the networks are; where the images lay is nobody's business.
  about = {
    "config": checkpoints_lib.as_json(
      ml_collections.ConfigDict(
        {name: model.config[name] for name in ("seed", "model", "train")}
      )
    ),
    "step": model.step,
    "encoder": encoder,
  }
  arrays = {"weights": model.weights._asdict(), "mean_image": model.mean_image}
  size = pretrained.write(folder.expanduser(), jax.device_get(arrays), about)
  return [
    {
      "model": str(folder),
      "step": model.step,
      "bytes": size,
      # No images here; the weights are the data.
      "data_digest": digest(model.weights._asdict()),
    }
  ]


def _read_exported(
  folder: pathlib.Path, settings: Any, mesh: jax.sharding.Mesh
) -> Trained:
  """Reads what `export` wrote."""
  arrays, about = pretrained.read(folder)
  try:
    return _assemble(arrays, about, settings, mesh)
  except errors.UserError:
    raise
  # Whatever the files hold that is not of a model.
  except Exception as error:  # noqa: BLE001
    if errors.advice(error):
      raise
    reason = checkpoints_lib.first_line(error)
    raise errors.UserError(
      f"{folder}: the model cannot be read ({reason}); export it again"
    ) from error


def _assemble(
  arrays: dict[str, Any],
  about: dict[str, Any],
  settings: Any,
  mesh: jax.sharding.Mesh,
) -> Trained:
  """Makes a model of its plain arrays and of what is known about them."""
  config = ml_collections.ConfigDict(about["config"])
  _check_loss(config, settings)
  encoder = None
  if about["encoder"]:
    generator, _, _ = gan.networks(config)
    encoder = encoder_lib.create(
      ml_collections.ConfigDict({"dtype": "float32", **about["encoder"]}),
      generator,
    )
  weights = search_lib.Weights(**arrays["weights"])
  shapes = _state_shapes(config)
  for name, expected, given in (
    ("generator", shapes.generator_ema, weights.generator),
    ("discriminator", shapes.discriminator, weights.discriminator),
  ):
    if jax.tree.map(np.shape, expected) != jax.tree.map(np.shape, given):
      raise ValueError(f"the {name}'s arrays are not those of its config")
  return Trained(
    weights=jax.device_put(weights, sharding.replicated(mesh)),
    config=config,
    step=about["step"],
    mean_image=arrays["mean_image"],
    encoder=encoder,
  )


def _load_run(config: Any, mesh: jax.sharding.Mesh) -> Trained:
  """Loads from the workdir of a training run."""
  with checkpoints_lib.existing(config.path) as checkpoints:
    _, model = checkpoints.first_readable(
      checkpoints.candidates(config.step),
      lambda step: _load_step(checkpoints, step, config, mesh),
      f"instead of --config.checkpoint.step={config.step} try latest, or a "
      "step",
    )
  return model


def _load_step(
  checkpoints: checkpoints_lib.Checkpoints,
  step: int,
  settings: Any,
  mesh: jax.sharding.Mesh,
) -> Trained:
  config = ml_collections.ConfigDict(checkpoints.meta(step)["config"])
  _check_loss(config, settings)
  state = checkpoints.restore(
    step,
    checkpoints_lib.abstract(_state_shapes(config), sharding.replicated(mesh)),
  )
  return Trained(
    weights=search_lib.Weights(state.generator_ema, state.discriminator),
    config=config,
    step=step,
    mean_image=report.load_png(
      pathlib.Path(settings.path).expanduser() / "mean_image.png"
    ),
  )


def _check_loss(config: ml_collections.ConfigDict, settings: Any) -> None:
  """Refuses to run code because a model's file says so.

  Args:
    config: what the model was trained with, as its file says.
    settings: the section `config.checkpoint`, as the user says.
  """
  name = config.train.loss
  if name not in losses.VARIANTS and name != settings.loss:
    raise errors.UserError(
      f"config.checkpoint.path={settings.path!r} was trained with the loss "
      f"{name!r}, which is code: if you trust it, name it yourself, as "
      f"--config.checkpoint.loss={name}"
    )


def _state_shapes(config: ml_collections.ConfigDict) -> gan.GanState:
  """Returns the shapes and types of what a training with a config saves."""
  generator, discriminator, _ = gan.networks(config)
  return jax.eval_shape(
    functools.partial(
      gan.init_state,
      config.seed,
      generator,
      discriminator,
      config.model.latent_size,
      config.train,
    )
  )


def load_encoder(
  model: Trained, config: Any, mesh: jax.sharding.Mesh
) -> Trained:
  """Returns the model with the encoder of `config.encoder`.

  Of several trainings it is the mean of their weights (Wortsman et al. 2022,
  "Model soups", arXiv 2203.05482), which is of use where each went on from the
  one before.

  Args:
    model: the model whose generator the encoder was trained for.
    config: the section `config.checkpoint`; the best encoder of each training
      is taken.
    mesh: the devices that the weights are copied to.

  Raises:
    errors.UserError: there is none, one is another generator's, or they are of
      several shapes.
  """
  names = [name.strip() for name in config.encoder.split(",")]
  encoder, mean = _read_encoder(model, names[0], mesh)
  for count, name in enumerate(names[1:], start=2):
    other, variables = _read_encoder(model, name, mesh)
    # Dropout is of the training alone.
    if other.clone(dropout=encoder.dropout) != encoder:
      raise errors.UserError(
        f"config.checkpoint.encoder: {name!r} is an encoder of another width, "
        f"rank, type or skips than {names[0]!r}; the mean is of equal ones"
      )
    mean = optax.incremental_update(variables, mean, 1 / count)
  return model._replace(
    weights=model.weights._replace(encoder=mean), encoder=encoder
  )


def _read_encoder(
  model: Trained, workdir: str, mesh: jax.sharding.Mesh
) -> tuple[encoder_lib.Encoder, models.Variables]:
  """Reads the best encoder of one training."""
  field = "config.checkpoint.encoder"

  def read(step):
    meta = checkpoints.meta(step)
    if meta["generator"] != digest(model.weights.generator):
      raise errors.UserError(
        f"{field}={workdir!r} was trained for the generator "
        f"{meta['generator']}, and this one is "
        f"{digest(model.weights.generator)}: train an encoder for it"
      )
    settings = ml_collections.ConfigDict(meta["config"]["encoder"])
    generator, _, _ = gan.networks(model.config)
    encoder = encoder_lib.create(settings, generator)
    shapes = jax.eval_shape(
      functools.partial(encoder_lib.init_state, 0, encoder, settings)
    )
    state = checkpoints.restore(
      step, checkpoints_lib.abstract(shapes, sharding.replicated(mesh))
    )
    return encoder, state.variables

  with checkpoints_lib.existing(
    workdir, field, checkpoints_lib.COMPLETION_MSE
  ) as checkpoints:
    _, found = checkpoints.first_readable(
      checkpoints.candidates("best"),
      read,
      f"name another training of an encoder as {field}",
    )
  return found


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
    encoder=model.encoder and model.encoder.clone(dtype=dtype),
  )
