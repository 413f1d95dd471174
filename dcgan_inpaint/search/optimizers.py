"""The optimisers of the search: any of optax, by name."""

import optax

from dcgan_inpaint.runtime import errors


def schedule(
  name: str, learning_rate: float, steps: int
) -> optax.ScalarOrSchedule:
  """Returns the learning rate of each step.

  Args:
    name: 'constant', or 'cosine', which falls to 0 over `steps`.
    learning_rate: the initial one.
    steps: the length of the schedule.
  """
  if name == "cosine":
    return optax.cosine_decay_schedule(learning_rate, max(1, steps))
  return learning_rate


def make(
  name: str,
  learning_rate: optax.ScalarOrSchedule,
  field: str = "config.search.optimizer",
) -> optax.GradientTransformationExtraArgs:
  """Returns an optimiser of optax by name.

  Args:
    name: a function of `optax` or `optax.contrib` that takes `learning_rate`.
    learning_rate: a number, which may be traced, or a function of the step.
    field: the config field that holds the name, for the message.

  Raises:
    errors.UserError: there is no such optimiser.
  """
  factory = getattr(optax, name, None) or getattr(optax.contrib, name, None)
  if factory is None:
    made = None
  else:
    try:
      made = factory(learning_rate=learning_rate)
    except (TypeError, ValueError):
      made = None
  if not isinstance(made, optax.GradientTransformation):
    raise errors.UserError(
      f"{field}={name!r} is not an optimiser of optax that takes a learning "
      "rate alone; take for instance adam, sgd, rmsprop, nadam, lion or lbfgs"
    )
  return optax.with_extra_args_support(made)
