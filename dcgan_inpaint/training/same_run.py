"""Whether a run may resume from the checkpoints in its workdir."""

from collections.abc import Sequence
from typing import Any

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists

# The values of fields that a run's checkpoint may lack.
_ABSENT = {
  "model.image_size": 64,
  "model.image_channels": 3,
  "data.crop": "auto",
  "data.ids": "",
  "train.roughness_weight": 0.0,
  "encoder.skips": False,
  "encoder.dropout": 0.0,
  "encoder.mirrored": False,
  "encoder.fresh_dense": False,
}


def check(
  then: dict[str, Any], now: dict[str, Any], fixed_fields: Sequence[str]
) -> None:
  """Refuses to resume a run with other data, networks or settings.

  Args:
    then: what the checkpoint was saved with: its `config`, as a dict, the
      number of training `images`, their `data` (the `digest`, and whether they
      are `streamed`), and what else distinguishes runs, such as the digest of
      the `generator` that an encoder is trained for.
    now: the same for this command.
    fixed_fields: the fields of the config that must not change: `section` for
      all fields of a section, or `section.field`.

  Raises:
    errors.UserError: names what differs, with both values.
  """
  for name in now.keys() - {"config", "images", "data"}:
    if then.get(name) != now[name]:
      raise errors.UserError(
        f"the run in --workdir was started with another {name}: take another "
        "--workdir"
      )
  if then["images"] != now["images"]:
    raise errors.UserError(
      f"the run in --workdir was started on {then['images']:,} training "
      f"images, and config.data now holds {now['images']:,}: give it the same "
      "images, or take another --workdir"
    )
  before = _ABSENT | _flat(then["config"], fixed_fields)
  after = _flat(now["config"], fixed_fields)
  # Fields that an older run's config does not have are not compared.
  differing = [
    f"config.{field}={after[field]!r} (was {before[field]!r})"
    for field in sorted(before.keys() & after.keys())
    if not _equal(before[field], after[field])
  ]
  if differing:
    raise errors.UserError(
      f"the run in --workdir was started with other values: "
      f"{', '.join(differing)}; take those, or another --workdir"
    )
  before_data, data = then.get("data"), now.get("data")
  # The digest of what streams is of a sample. Runs of 0.1.0 have none.
  if (
    before_data
    and data
    and before_data["streamed"] == data["streamed"]
    and before_data["digest"] != data["digest"]
  ):
    raise errors.UserError(
      f"the run in --workdir was started on other training images (digest "
      f"{before_data['digest']}, and config.data now has {data['digest']}): "
      "give it the same images, or take another --workdir"
    )


def _equal(before: Any, after: Any) -> bool:
  """Returns whether two values of a field mean the same.

  A field that lists several values may be text with commas, or a tuple, which
  JSON returns as a list.
  """
  if isinstance(before, str) != isinstance(after, str) and all(
    isinstance(value, (str, list, tuple)) for value in (before, after)
  ):
    return lists.words(before) == lists.words(after)
  return before == after


def _flat(config: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
  """Returns {'section.field': value} of some fields of a config."""
  flat = {}
  for field in fields:
    section, _, name = field.partition(".")
    value = config.get(section)
    if name:
      if isinstance(value, dict) and name in value:
        flat[field] = value[name]
    elif isinstance(value, dict):
      flat |= {f"{section}.{name}": item for name, item in value.items()}
    else:
      flat[section] = value
  return flat
