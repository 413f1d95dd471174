import pytest

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.jobs import names
from dcgan_inpaint.runtime import errors


def make(job, **fields):
  config = getattr(config_lib, f"{job}_job")()
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in fields.items()}
  )
  return config


@pytest.mark.parametrize("job", config_lib.JOBS)
def test_the_names_of_the_defaults_are_known(job):
  names.check(make(job))


@pytest.mark.parametrize(
  "job, field, value, choice",
  [
    ("train", "model__convolution", "fast", "winograd"),
    ("benchmark_throughput", "model__convolution", "fast", "auto"),
    ("train", "train__loss", "sigmoid", "sigmoid_cross_entropy"),
    ("train", "search__loss", "sigmoid", "sigmoid_cross_entropy"),
    ("evaluate", "search__blending", "alpha", "poisson"),
    ("inpaint", "faces", "everywhere", "cascade"),
    ("inpaint", "rest", "fill", "auto, leave, harmonic"),
    ("prepare", "faces", "everywhere", "dlib"),
    ("train", "masks", "center", "centre"),
    ("evaluate", "masks", "centre,half", "half"),
    ("train_encoder", "masks", "none.png", "mask file"),
    ("train_encoder", "encoder__families", "centre,circle", "strokes"),
    ("train_encoder", "encoder__families", ("centre", "circle"), "strokes"),
    ("train_encoder", "encoder__families", "", "strokes"),
  ],
)
def test_an_unknown_name_is_refused_with_the_choices(job, field, value, choice):
  with pytest.raises(errors.UserError) as refused:
    names.check(make(job, **{field: value}))
  message = str(refused.value)
  assert message.startswith(f"config.{field.replace('__', '.')}=")
  assert choice in message and "\n" not in message
