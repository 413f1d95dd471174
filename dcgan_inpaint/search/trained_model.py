"""A trained model, loaded for the search.

It comes from a workdir of the job `train`, with the encoder of `train_encoder`
if there is one, or from a folder of `export`, such as the packaged model.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import Any
from typing import NamedTuple
from typing import cast

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from dcgan_inpaint import pretrained
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.networks import losses
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.training import checkpoints as checkpoints_lib
from dcgan_inpaint.training import encoder as encoder_training
from dcgan_inpaint.training import gan


class TrainedModel(NamedTuple):
  """A trained model.

  Attributes:
    weights: G's moving average and D, with their running statistics, and the
      encoder's, if any.
    networks: the networks of these weights, with the types and the loss of the
      training.
    config: the whole config that G and D were trained with, a `ConfigDict`.
    step: the training step of their checkpoint.
    mean_image: uint8 [S, S, C], the mean of its training images.
  """

  weights: bundle.Weights
  networks: bundle.NetworkBundle
  config: Any
  step: int
  mean_image: np.ndarray

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """The height, the width and the channels of its images."""
    return self.networks.generator.image_shape

  @property
  def encoder(self) -> encoder_lib.Encoder | None:
    """The encoder's module, or None."""
    return self.networks.encoder


def digest(variables: dcgan.Variables) -> str:
  """Returns 12 hexadecimal digits that identify a network's values.

  Args:
    variables: of any network.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
  return digest.hexdigest()[:12]


def load(config: Any, mesh: jax.sharding.Mesh) -> TrainedModel:
  """Loads the model that `config.checkpoint` names.

  Args:
    config: the section `config.checkpoint`.
    mesh: the devices that the weights are copied to.

  Raises:
    errors.UserError: there is no such checkpoint, none can be read, its loss is
      code that `config.checkpoint.loss` does not name, or the encoder was
      trained for another generator.
  """
  folder = pretrained.find(config.path)
  if folder:
    model = _read_exported(folder, config, mesh)
  else:
    model = _load_run(config, mesh)
  return load_encoder(model, config, mesh) if config.encoder else model


def as_arrays(weights: bundle.Weights) -> dict[str, Any]:
  """Returns the networks by the names of their arrays in a file.

  Args:
    weights: of a model.

  Returns:
    generator, discriminator, encoder, encoder_2 and so on.
  """
  arrays = weights._asdict()
  others = arrays.pop("other_encoders")
  return arrays | {
    f"encoder_{number}": encoder
    for number, encoder in enumerate(others, start=2)
  }


def _of_arrays(arrays: dict[str, Any]) -> bundle.Weights:
  """Returns the networks from the output of `as_arrays`."""
  arrays, others = dict(arrays), []
  while (name := f"encoder_{len(others) + 2}") in arrays:
    others.append(arrays.pop(name))
  return bundle.Weights(**arrays, other_encoders=tuple(others))


def _read_exported(
  folder: pathlib.Path, settings: Any, mesh: jax.sharding.Mesh
) -> TrainedModel:
  """Reads a folder of `export`."""
  arrays, about = pretrained.read(folder)
  try:
    return _assemble(arrays, about, settings, mesh)
  except errors.UserError:
    raise
  # Files that do not describe a model raise errors of many kinds.
  except Exception as error:  # noqa: BLE001
    if errors.of_machine(error):
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
) -> TrainedModel:
  """Builds a model from its plain arrays and their description."""
  config = ml_collections.ConfigDict(about["config"])
  networks = _networks(config, settings)
  if about["encoder"]:
    encoder = encoder_lib.create(
      ml_collections.ConfigDict({"dtype": "float32", **about["encoder"]}),
      networks.generator,
    )
    networks = dataclasses.replace(networks, encoder=encoder)
  weights = _of_arrays(arrays["weights"])
  state = _state_shapes(networks, config)
  image_shape = networks.generator.image_shape
  shapes = bundle.Weights(
    generator=state.generator_ema,
    discriminator=state.discriminator,
    encoder=networks.encoder and _encoder_shapes(networks.encoder, image_shape),
  )
  shapes = shapes._replace(
    other_encoders=(shapes.encoder,) * len(weights.other_encoders)
  )
  _check_arrays(as_arrays(shapes), as_arrays(weights))
  mean_image = arrays["mean_image"]
  if mean_image.dtype != np.uint8 or mean_image.shape != image_shape:
    raise ValueError("the mean image is none of its images")
  if type(about["step"]) is not int:
    raise ValueError(f"the step {about['step']!r} is no number of steps")
  return TrainedModel(
    weights=jax.device_put(weights, sharding.replicated(mesh)),
    networks=networks,
    config=config,
    step=about["step"],
    mean_image=mean_image,
  )


def _encoder_shapes(
  encoder: encoder_lib.Encoder, image_shape: tuple[int, int, int]
) -> dcgan.Variables:
  """Returns the shapes and types of an encoder's variables."""
  image = jnp.zeros((1, *image_shape))
  return jax.eval_shape(
    functools.partial(encoder.init, jax.random.key(0), image, image[..., :1])
  )


def _check_arrays(expected: dict[str, Any], given: dict[str, Any]) -> None:
  """Refuses networks whose arrays a search could not use.

  Args:
    expected: {name: variables of shapes and types}.
    given: {name: variables}.

  Raises:
    ValueError: names the network.
  """
  for name, shapes in expected.items():
    tree = jax.tree.map(lambda x: (np.shape(x), x.dtype), given[name])
    if jax.tree.map(lambda x: (x.shape, x.dtype), shapes) != tree:
      raise ValueError(f"the {name}'s arrays are not those of its config")
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(given[name])):
      raise ValueError(f"the {name} has values that are not finite")


def _load_run(config: Any, mesh: jax.sharding.Mesh) -> TrainedModel:
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
) -> TrainedModel:
  config = ml_collections.ConfigDict(checkpoints.meta(step)["config"])
  networks = _networks(config, settings)
  state = checkpoints.restore(
    step,
    checkpoints_lib.abstract(
      _state_shapes(networks, config), sharding.replicated(mesh)
    ),
  )
  return TrainedModel(
    weights=bundle.Weights(state.generator_ema, state.discriminator),
    networks=networks,
    config=config,
    step=step,
    mean_image=_read_mean(settings.path, networks.generator.image_shape),
  )


def _read_mean(workdir: str, shape: tuple[int, int, int]) -> np.ndarray:
  """Reads the mean image, uint8 of a shape, that a training has left."""
  path = pathlib.Path(workdir).expanduser() / "mean_image.png"
  image = pictures.load_png(path)
  if image.size != np.prod(shape):
    raise errors.UserError(
      f"{path} has the shape {image.shape}, and the model's images {shape}: it "
      "is of another training"
    )
  return image.reshape(shape)  # A grey PNG has no axis of channels.


def _networks(config: Any, settings: Any) -> bundle.NetworkBundle:
  """Returns G and D; never runs code that only a model's file names.

  Args:
    config: the training's config, from the model's file.
    settings: the section `config.checkpoint`, from the user.
  """
  name = config.train.loss
  if name not in losses.VARIANTS and name != settings.loss:
    raise errors.UserError(
      f"config.checkpoint.path={settings.path!r} was trained with the loss "
      f"{name!r}, which is code: if you trust it, name it yourself, as "
      f"--config.checkpoint.loss={name}"
    )
  return bundle.NetworkBundle(*gan.networks(config), config.model.latent_size)


def _state_shapes(networks: bundle.NetworkBundle, config: Any) -> gan.GanState:
  """Returns the shapes and types of the state that a training saves."""
  return jax.eval_shape(
    functools.partial(
      gan.init_state,
      config.seed,
      networks.generator,
      networks.discriminator,
      networks.latent_size,
      config.train,
    )
  )


def load_encoder(
  model: TrainedModel, config: Any, mesh: jax.sharding.Mesh
) -> TrainedModel:
  """Returns the model with the encoders of `config.encoder`.

  Several workdirs instead of one give one encoder, the mean of their weights
  (Wortsman et al. 2022, "Model soups", arXiv 2203.05482), which is useful if
  each training started from the weights of the preceding one. Several encoders
  stay separate, and a search takes the mean of their results.

  Args:
    model: the model whose generator the encoders were trained for.
    config: the section `config.checkpoint`; the best encoder of each training
      is taken.
    mesh: the devices that the weights are copied to.

  Raises:
    errors.UserError: there is none, one was trained for another generator, or
      their shapes differ.
  """
  first = None
  encoders: list[dcgan.Variables] = []
  for workdirs in _encoders(config.encoder):
    means: list[dcgan.Variables] = []
    for count, name in enumerate(workdirs, start=1):
      encoder, variables = _read_encoders(model, name, mesh)
      first = first or encoder
      # Dropout is only used in training.
      if encoder.clone(dropout=first.dropout) != first:
        raise errors.UserError(
          f"config.checkpoint.encoder: {name!r} is an encoder of another "
          "width, rank, type or skips than the first one; means are of equal "
          "ones"
        )
      if count > 1 and len(variables) != len(means):
        raise errors.UserError(
          f"config.checkpoint.encoder: {name!r} has {len(variables)} encoders, "
          f"and what stands before it {len(means)}; means are of as many"
        )
      means = (
        cast(list, optax.incremental_update(variables, means, 1 / count))
        if count > 1
        else variables
      )
    encoders += means
  first_weights, *others = encoders
  return model._replace(
    weights=model.weights._replace(
      encoder=first_weights, other_encoders=tuple(others)
    ),
    networks=dataclasses.replace(model.networks, encoder=first),
  )


def _encoders(value: str | tuple[Any, ...]) -> list[tuple[str, ...]]:
  """Returns, for each of several encoders, the workdirs of its weights.

  Args:
    value: `config.checkpoint.encoder`: a path; or a tuple of encoders, each a
      path or a tuple of paths, which stands for the mean of their weights. Text
      that is no path may separate encoders by plus signs, and the paths of one
      encoder by commas: 'A,B+C' is (('A', 'B'), 'C').
  """
  if not isinstance(value, str):
    return [(x,) if isinstance(x, str) else tuple(x) for x in value]
  if os.path.exists(os.path.expanduser(value)):
    return [(value,)]
  return [lists.words(term) or ("",) for term in value.split("+")]


def _read_encoders(
  model: TrainedModel, name: str, mesh: jax.sharding.Mesh
) -> tuple[encoder_lib.Encoder, list[dcgan.Variables]]:
  """Reads the best encoder of a training, or those of an exported model."""
  folder = pretrained.find(name)
  if not folder:
    encoder, variables = _read_encoder(model, name, mesh)
    return encoder, [variables]
  field = "config.checkpoint.encoder"
  # A loss that is code has been named by the user for the model.
  settings = ml_collections.ConfigDict(
    {"path": name, "loss": model.config.train.loss}
  )
  there = _read_exported(folder, settings, mesh)
  if there.encoder is None or there.weights.encoder is None:
    raise errors.UserError(f"{field}={name!r}: this model has no encoder")
  _check_generator(name, digest(there.weights.generator), model)
  return there.encoder, [there.weights.encoder, *there.weights.other_encoders]


def _check_generator(name: str, trained_for: str, model: TrainedModel) -> None:
  """Refuses an encoder that was trained for the generator of another model."""
  generator = digest(model.weights.generator)
  if trained_for != generator:
    raise errors.UserError(
      f"config.checkpoint.encoder={name!r} was trained for the generator "
      f"{trained_for}, and this one is {generator}: train an encoder for it"
    )


def _read_encoder(
  model: TrainedModel, workdir: str, mesh: jax.sharding.Mesh
) -> tuple[encoder_lib.Encoder, dcgan.Variables]:
  """Reads the best encoder of one training."""
  field = "config.checkpoint.encoder"

  def read(step):
    meta = checkpoints.meta(step)
    _check_generator(workdir, meta["generator"], model)
    settings = ml_collections.ConfigDict(meta["config"]["encoder"])
    encoder = encoder_lib.create(settings, model.networks.generator)
    shapes = jax.eval_shape(
      functools.partial(encoder_training.init_state, 0, encoder, settings)
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


def search_loss(
  name: str, trained: losses.AdversarialLoss
) -> losses.AdversarialLoss:
  """Returns the loss variant that is the search's prior.

  Args:
    name: `config.search.loss`; '' is that of the training.
    trained: the loss of the training.

  Raises:
    errors.UserError: it needs another number of logits than the trained
      discriminator returns.
  """
  loss = losses.get(name, "config.search.loss") if name else trained
  if loss.outputs != trained.outputs:
    raise errors.UserError(
      f"config.search.loss={name!r} wants {loss.outputs} logits, and the "
      f"trained discriminator gives {trained.outputs}: leave the field empty"
    )
  return loss


def make_search(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  mesh: jax.sharding.Mesh | None = None,
) -> ensemble.Search:
  """Returns the search in the latent space of trained networks.

  Args:
    networks: of a `TrainedModel`.
    settings: of the search; its `dtype` may differ from that of the training.
    mesh: the devices; all by default.

  Raises:
    errors.UserError: the settings name a loss whose number of logits differs
      from that of the trained discriminator, need an encoder that the model
      does not have, or have a batch size that the devices do not divide.
  """
  dtype = jnp.dtype(settings.dtype)
  networks = bundle.NetworkBundle(
    generator=networks.generator.clone(dtype=dtype),
    discriminator=networks.discriminator.clone(dtype=dtype),
    loss=search_loss(settings.loss, networks.loss),
    latent_size=networks.latent_size,
    encoder=networks.encoder and networks.encoder.clone(dtype=dtype),
  )
  return ensemble.Search(networks, settings, mesh)
