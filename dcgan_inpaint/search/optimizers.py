"""The optimisers of the search: any of optax, by name."""

import optax

from dcgan_inpaint.runtime import errors


def make(
  name: str,
  learning_rate: float,
  schedule: str = "constant",
  steps: int = 1,
  field: str = "config.search.optimizer",
) -> optax.GradientTransformationExtraArgs:
  """Returns an optimiser of optax by name.

  Args:
    name: a function of `optax` or `optax.contrib` that takes `learning_rate`.
    learning_rate: the initial learning rate.
    schedule: 'constant', or 'cosine', which falls to 0 over `steps`.
    steps: the length of the schedule.
    field: the config field that holds the name, for the message.

  Raises:
    errors.UserError: there is no such optimiser.
  """
  rate: optax.ScalarOrSchedule = learning_rate
  if schedule == "cosine":
    rate = optax.cosine_decay_schedule(learning_rate, max(1, steps))
  factory = getattr(optax, name, None) or getattr(optax.contrib, name, None)
  if factory is None:
    made = None
  else:
    try:
      made = factory(learning_rate=rate)
    except (TypeError, ValueError):
      made = None
  if not isinstance(made, optax.GradientTransformation):
    raise errors.UserError(
      f"{field}={name!r} is not an optimiser of optax that takes a learning "
      "rate alone; take for instance adam, sgd, rmsprop, nadam, lion or lbfgs"
    )
  return optax.with_extra_args_support(made)
