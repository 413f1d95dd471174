"""The job `compare`: loss variants under one budget, as in the paper's table.

Every loss trains a DCGAN from every seed with the same images, steps and
settings, searches with the same protocol, and is scored on the same faces and
holes. Runs that are trained and scored already are not repeated.
"""

import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.jobs import train
from dcgan_inpaint.networks import losses
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.runtime import lock
from dcgan_inpaint.training import checkpoints

# The paper's table: MSE and SSIM of the completed image. The paper does not
# state its mask, region, crop and number of images.
PAPER = {
  "mean_squared_error": (441.68, 0.73),
  "softmax_cross_entropy": (125.10, 0.84),
  "sigmoid_cross_entropy": (105.76, 0.87),
}
_METRICS = ("mse", "psnr", "ssim", "hole_mse", "hole_psnr")


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Trains and scores every loss of `config.compare` from every seed.

  Each leaves a training run in `workdir`/LOSS/seed_S.

  Args:
    config: the whole config.
    workdir: the folder of the runs.
    mesh: the devices.

  Returns:
    A row for each run, then a row for each loss: the mean over its seeds and
    their standard deviation, beside the paper's values.

  Raises:
    errors.UserError: a loss or a seed is wrong.
  """
  names = lists.words(config.compare.losses)
  for name in names:
    losses.get(name, "config.compare.losses")
  seeds = lists.words(config.compare.seeds)
  if not names or not seeds or not all(seed.isdecimal() for seed in seeds):
    raise errors.UserError(
      "config.compare: name losses and seeds, such as "
      "--config.compare.losses=hinge,minimax --config.compare.seeds=0,1,2"
    )
  rows = []
  for name in names:
    for seed in seeds:
      folder = pathlib.Path(workdir) / _folder_name(name) / f"seed_{seed}"
      rows.append(_run(config, name, int(seed), folder, mesh))
  return rows + summary(rows)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns a row for each loss, the best first, and logs which one is best.

  Args:
    rows: of the single runs.
  """
  by_loss: dict[str, list[dict[str, Any]]] = {}
  for row in rows:
    by_loss.setdefault(row["loss"], []).append(row)
  means = []
  for name, runs in by_loss.items():
    paper_mse, paper_ssim = PAPER.get(name, (None, None))
    row = {"loss": name, "seeds": len(runs), "n": runs[0]["n"]}
    for metric in _METRICS:
      values = [run[metric] for run in runs]
      row[metric] = float(np.mean(values))
      if metric in ("mse", "ssim"):
        # The sample's deviation, which one seed does not have.
        spread = np.std(values, ddof=1) if len(values) > 1 else np.nan
        row[f"{metric}_spread"] = float(spread)
    means.append(row | {"paper_mse": paper_mse, "paper_ssim": paper_ssim})
  means.sort(key=lambda row: row["mse"])
  if len(means) > 1:
    first, second = means[:2]
    lead = second["mse"] - first["mse"]
    spread = np.max([first["mse_spread"], second["mse_spread"]])
    logging.info(
      "%s is better than %s by %.1f of MSE, which is %s the standard deviation "
      "over the seeds, %.1f",
      first["loss"], second["loss"], lead,
      "more than" if lead > spread else "not more than", spread,
    )  # fmt: skip
  return means


def _run(
  config: ml_collections.ConfigDict,
  name: str,
  seed: int,
  folder: pathlib.Path,
  mesh: jax.sharding.Mesh,
) -> dict[str, Any]:
  """Trains and scores one loss from one seed, unless that is done already."""
  run = ml_collections.ConfigDict(config.to_dict())
  del run.compare  # A run does not depend on what else is compared.
  run.job, run.seed, run.train.loss = "train", seed, name
  logging.info("%s, seed %s", name, seed)
  # A training alone may be under way there, or its results be read.
  files.make_folder(folder, "--workdir")
  with lock.hold(folder):
    return _train_and_score(run, folder, mesh)


def _train_and_score(
  run: ml_collections.ConfigDict, folder: pathlib.Path, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
  """Does a run of the job `train`, and what of it is not done already."""
  training = train.run(run, str(folder), mesh)
  done = folder / "results.json"
  if done.exists():
    earlier = results.read(done)
    stored = config_lib.of_results(earlier)
    if checkpoints.as_json(stored) == checkpoints.as_json(run):
      return earlier["rows"][0]
  (row,) = evaluate.run(
    evaluate.of_training(run, str(folder)), str(folder), mesh
  )
  row = {
    "loss": run.train.loss,
    "seed": run.seed,
    **row,
    "training_data_digest": training[0]["data_digest"],
  }
  results.write(folder, "train", run, [row])
  return row


def _folder_name(loss: str) -> str:
  """Returns the folder of a loss, which may be 'package.module:function'."""
  return loss.replace(":", ".")
