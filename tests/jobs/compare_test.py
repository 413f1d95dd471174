import numpy as np
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.jobs import compare
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.jobs import train
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors

LOSSES = "hinge,mean_squared_error"


def compare_config(**fields):
  config = config_lib.compare_job()
  small = tiny.train_config(model__image_size=32)
  for section, values in small.to_dict().items():
    if isinstance(values, dict):
      for name, value in values.items():
        config[section][name] = value
  config.job = "compare"
  config.evaluation.methods = "dcgan"
  config.train.validation_images = 0
  config.train.sample_every = 0
  config.compare.losses, config.compare.seeds = LOSSES, "0,5"
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in fields.items()}
  )
  return config


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
  """Returns the workdir of a comparison, and its rows."""
  workdir = tmp_path_factory.mktemp("compared")
  return workdir, compare.run(compare_config(), str(workdir), tiny.mesh(4))


@pytest.mark.slow
def test_every_loss_is_trained_from_every_seed_and_then_averaged(compared):
  workdir, rows = compared
  runs, means = rows[:4], rows[4:]
  assert [(row["loss"], row["seed"]) for row in runs] == [
    ("hinge", 0),
    ("hinge", 5),
    ("mean_squared_error", 0),
    ("mean_squared_error", 5),
  ]
  assert len({row["mse"] for row in runs}) == 4
  assert {row["mask_digest"] for row in runs} == {runs[0]["mask_digest"]}
  for row in means:
    of_loss = [run["mse"] for run in runs if run["loss"] == row["loss"]]
    np.testing.assert_allclose(row["mse"], np.mean(of_loss))
    np.testing.assert_allclose(
      row["mse_spread"], abs(of_loss[0] - of_loss[1]) / np.sqrt(2)
    )
    assert row["seeds"] == 2
  assert means[0]["mse"] <= means[1]["mse"]
  paper = {row["loss"]: (row["paper_mse"], row["paper_ssim"]) for row in means}
  assert paper["mean_squared_error"] == (441.68, 0.73)
  assert paper["hinge"] == (None, None)
  for name, seed in (("hinge", 0), ("mean_squared_error", 5)):
    saved = results.read(workdir / name / f"seed_{seed}")
    assert saved["config"]["train"]["loss"] == name
    assert saved["config"]["seed"] == seed
    # The input of `configs/again.py`.
    assert config_lib.of_results(saved).job == "train"


@pytest.mark.slow
def test_what_is_done_is_not_done_again(compared, monkeypatch):
  workdir, rows = compared

  def refuse(*unused):
    raise AssertionError("evaluated again")

  monkeypatch.setattr(evaluate, "run", refuse)
  monkeypatch.setattr(train, "run", lambda *unused: [])
  again = compare.run(compare_config(), str(workdir), tiny.mesh(4))
  assert again == rows
  # Nor if fewer are requested.
  some = compare_config(compare__losses=("hinge",), compare__seeds=(5,))
  assert compare.run(some, str(workdir), tiny.mesh(4))[0] == rows[1]
  with pytest.raises(AssertionError, match="evaluated again"):
    compare.run(compare_config(search__steps=4), str(workdir), tiny.mesh(4))


@pytest.mark.parametrize("first, significant", [(90.0, True), (99.0, False)])
def test_the_best_loss_is_logged_with_its_lead_and_the_spread(
  caplog, first, significant
):
  caplog.set_level("INFO", logger="absl")
  metrics = {"psnr": 20.0, "ssim": 0.5, "hole_mse": 400.0, "hole_psnr": 18.0}
  rows = [
    {"loss": loss, "n": 3, "mse": mse, **metrics}
    for loss, mse in (
      ("hinge", 100.0), ("hinge", 104.0), ("mine", first), ("mine", first + 1)
    )
  ]  # fmt: skip
  means = compare.summary(rows)
  assert [row["loss"] for row in means] == ["mine", "hinge"]
  (line,) = caplog.messages
  assert line.index("mine") < line.index("hinge")
  # The larger of the deviations is that of 100 and 104.
  for number in (f"{101.5 - first:.1f}", f"{np.sqrt(8):.1f}"):
    assert number in line
  assert ("not more than" not in line) == significant


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"compare__losses": "hinge,hings"}, r"config\.compare\.losses.*hings"),
    ({"compare__losses": ""}, r"config\.compare\.losses"),
    ({"compare__seeds": "0,-1"}, r"config\.compare\.seeds"),
  ],
)
def test_wrong_losses_and_seeds_are_refused(tmp_path, fields, message):
  with pytest.raises(errors.UserError, match=message):
    compare.run(compare_config(**fields), str(tmp_path), tiny.mesh(4))
