import copy

import pytest
import tiny

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.training import checkpoints
from dcgan_inpaint.training import encoder
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import same_run

# Fields that only say how long, how often and where. A new field of one of
# these sections is either here or one of the task's `fixed_fields`.
FREE = {
  "data.split",
  "data.test_path",
  "data.placement",
  "data.workers",
}
FREE_IN_TRAINING = {
  "steps",
  "steps_per_call",
  "log_every",
  "save_every",
  "max_to_keep",
  "validation_images",
}
TASKS = {
  "train": (
    gan.GanTask,
    tiny.train_config(),
    FREE_IN_TRAINING | {"epochs", "sample_every", "validation_steps"},
  ),
  "encoder": (encoder.EncoderTask, tiny.encoder_config(""), FREE_IN_TRAINING),
}


def meta(config, **more):
  return {"config": checkpoints.as_json(config), "images": 16, **more}


@pytest.mark.parametrize("section", TASKS)
def test_every_field_is_fixed_or_free(section):
  task, config, free = TASKS[section]
  config = checkpoints.as_json(config)
  sections = {field.partition(".")[0] for field in task.fixed_fields}
  fields = set()
  for name in sections:
    if isinstance(config[name], dict):
      fields |= {f"{name}.{field}" for field in config[name]}
    else:
      fields.add(name)
  fixed = set(task.fixed_fields)
  if "model" in fixed:
    fixed |= {field for field in fields if field.startswith("model.")}
    fixed.remove("model")
  free = FREE | {f"{section}.{field}" for field in free}
  if section == "encoder":  # It has no split to inpaint.
    free = free - {"data.split"}
  assert fixed | free == fields
  assert not fixed & free


@pytest.mark.parametrize("section", TASKS)
def test_a_free_field_may_change(section):
  task, config, free = TASKS[section]
  then = meta(config)
  now = copy.deepcopy(then)
  for field in free:
    now["config"][section][field] = 77
  now["config"]["data"]["placement"] = "stream"
  same_run.check(then, now, task.fixed_fields)


@pytest.mark.parametrize(
  "section, field, value",
  [
    ("train", "seed", 1),
    ("train", "model.width", 0.5),
    ("train", "train.loss", "hinge"),
    ("train", "data.seed", 3),
    ("train", "data.crop", "none"),
    ("train", "model.image_channels", 1),
    ("encoder", "seed", 1),
    ("encoder", "encoder.rank", 3),
    ("encoder", "data.path", "elsewhere"),
  ],
)
def test_a_fixed_field_is_named_with_both_values(section, field, value):
  task, config, _ = TASKS[section]
  then = meta(config)
  now = copy.deepcopy(then)
  *inside, name = field.split(".")
  place = now["config"][inside[0]] if inside else now["config"]
  was, place[name] = place[name], value
  with pytest.raises(errors.UserError) as refused:
    same_run.check(then, now, task.fixed_fields)
  message = str(refused.value)
  assert f"config.{field}={value!r}" in message and repr(was) in message
  assert message.count("config.") == 1 and "\n" not in message


def test_a_field_that_came_later_is_not_held_against_a_run():
  task, config, _ = TASKS["train"]
  then, now = meta(config), meta(config)
  del then["config"]["train"]["flip"], then["config"]["model"]["dtype"]
  same_run.check(then, now, task.fixed_fields)


def test_a_run_of_before_there_were_sizes_is_of_64_in_colour():
  task, config, _ = TASKS["train"]
  then, now = meta(config), meta(config)
  del then["config"]["model"]["image_size"]
  del then["config"]["model"]["image_channels"]
  del then["config"]["data"]["crop"]
  same_run.check(then, now, task.fixed_fields)
  now["config"]["model"]["image_size"] = 128
  with pytest.raises(errors.UserError, match=r"image_size=128 \(was 64\)"):
    same_run.check(then, now, task.fixed_fields)


def test_an_encoder_of_before_there_were_skips_has_none():
  task, config, _ = TASKS["encoder"]
  then, now = meta(config), meta(config)
  del then["config"]["encoder"]["skips"]
  assert now["config"]["encoder"]["skips"]
  with pytest.raises(errors.UserError, match=r"skips=True \(was False\)"):
    same_run.check(then, now, task.fixed_fields)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"images": 17}, "16 training images, .* 17"),
    ({"generator": "b"}, "another generator"),
  ],
)
def test_other_images_and_generators_are_refused(fields, message):
  task, config, _ = TASKS["encoder"]
  then = meta(config, generator="a")
  with pytest.raises(errors.UserError, match=message):
    same_run.check(then, then | fields, task.fixed_fields)


@pytest.mark.parametrize(
  "then, now, same",
  [
    (("a", False), ("a", False), True),
    (("a", False), ("b", False), False),
    (("a", True), ("b", True), False),
    # Of all images and of a sample.
    (("a", False), ("b", True), True),
    (None, ("b", False), True),  # A run of 0.1.0.
  ],
)
def test_other_images_of_the_same_number_are_refused(then, now, same):
  def of(data):
    config = tiny.train_config()
    if data is None:
      return meta(config)
    return meta(config, data={"digest": data[0], "streamed": data[1]})

  if same:
    same_run.check(of(then), of(now), gan.GanTask.fixed_fields)
  else:
    with pytest.raises(errors.UserError, match="other .* images.* a,.* b"):
      same_run.check(of(then), of(now), gan.GanTask.fixed_fields)


@pytest.mark.parametrize("listed, same", [(["a", "b"], True), (["b"], False)])
def test_a_tuple_is_the_text_that_lists_the_same(listed, same):
  then = meta(tiny.train_config(data__path="a, b"))
  now = copy.deepcopy(then)
  now["config"]["data"]["path"] = listed
  if same:
    same_run.check(then, now, gan.GanTask.fixed_fields)
  else:
    with pytest.raises(errors.UserError, match="config.data.path"):
      same_run.check(then, now, gan.GanTask.fixed_fields)
