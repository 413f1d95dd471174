"""The initial state of an encoder that starts from a trained one."""

from typing import Any
from typing import cast

from flax import traverse_util
import jax

from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import encoder as encoder_lib
from dcgan_inpaint.runtime import errors

# The dense layers, each of which sees all places.
_DENSE = ("mix_in", "mix_norm", "mix_out", "out_in", "out", "out_local")


def grow(
  variables: dcgan.Variables, smaller: dcgan.Variables
) -> dcgan.Variables:
  """Copies a trained encoder into one of the same or a higher rank.

  Args:
    variables: of the new encoder, as `init_state` makes them.
    smaller: of the trained one; it may lack skips, and no shape is larger.

  Returns:
    `variables`, with the leading part of every array taken from `smaller`.
  """
  grown = _flat(variables)
  for name, given in _flat(smaller).items():
    part = tuple(slice(size) for size in given.shape)
    grown[name] = grown[name].at[part].set(given)
  return traverse_util.unflatten_dict(grown)


def without_dense(variables: dcgan.Variables) -> dcgan.Variables:
  """Leaves out the dense layers, which hold most of an encoder's values.

  Args:
    variables: of an encoder.
  """
  kept = {
    name: leaf
    for name, leaf in _flat(variables).items()
    if name[1] not in _DENSE
  }
  return traverse_util.unflatten_dict(kept)


def _flat(variables: dcgan.Variables) -> dict[tuple[str, ...], jax.Array]:
  """Returns {('params', layer, name): array}."""
  return cast(Any, traverse_util.flatten_dict(variables))


def take_over(
  config: Any,
  wanted: encoder_lib.Encoder,
  given: encoder_lib.Encoder | None,
  variables: dcgan.Variables | None,
) -> dcgan.Variables | None:
  """Returns the variables with which the training of an encoder starts.

  Args:
    config: the section `config.encoder`.
    wanted: the encoder that is to be trained.
    given: the trained encoder of `config.checkpoint`, or None.
    variables: of `given`.

  Returns:
    Variables for `grow`, or None to start from random values.

  Raises:
    errors.UserError: there is no encoder to start from, or it does not fit.
  """
  if not config.warm_start:
    if config.fresh_dense:
      raise errors.UserError(
        "config.encoder.fresh_dense keeps the convolutions of a trained "
        "encoder: set config.encoder.warm_start=True, too, or leave it out"
      )
    return None
  if given is None or variables is None:
    raise errors.UserError(
      "config.encoder.warm_start starts from an encoder, and "
      "config.checkpoint brings none: name the workdir of its training as "
      "config.checkpoint.encoder"
    )
  # The rank that 0 stands for.
  last = dcgan.channel_counts(
    encoder_lib.CHANNELS, given.image_size, given.width
  )[0]
  ranks = given.rank or last, wanted.rank or last
  if given.width != wanted.width or ranks[0] > ranks[1]:
    raise errors.UserError(
      "config.encoder.warm_start starts from an encoder of "
      f"config.encoder.width={given.width} and rank={ranks[0]}; these are "
      f"{wanted.width} and {ranks[1]}: take that width and no lower rank, or "
      "start from scratch"
    )
  if given.skips and not wanted.skips:
    raise errors.UserError(
      "config.encoder.warm_start starts from an encoder with skips: leave "
      "config.encoder.skips=True, or start from scratch"
    )
  return without_dense(variables) if config.fresh_dense else variables
