"""Runs the search in the shared reference model, to compare with its table.

  PYTHONPATH=. python tests/system/reference_table.py \
      --shared=../shared --images=256

The table is in the shared folder's `reference/README.md`. It checks the search
independently of this package's training. Extrapolated from fewer faces, 256
faces, 1 start and 1,000 steps take about 25 minutes on two CPU cores. The first
64 have MSE 283.6 +- 55.0, PSNR 24.54, SSIM .849; the table has 269.3, 24.56,
.847 for 256.
"""

import argparse
import pathlib

import numpy as np
import reference_weights

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import pixels
from dcgan_inpaint.data import folder
from dcgan_inpaint.jobs import evaluate
from dcgan_inpaint.masks import mask_sets
from dcgan_inpaint.masks import mask_settings
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import losses
from dcgan_inpaint.reports import progress
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import settings as search_settings


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--shared", default="../shared", type=pathlib.Path)
  parser.add_argument("--images", default=256, type=int)
  parser.add_argument("--starts", default=1, type=int)
  parser.add_argument("--steps", default=1000, type=int)
  parser.add_argument("--learning_rate", default=0.03, type=float)
  arguments = parser.parse_args()

  config = config_lib.search()
  config.batch_size = 32
  config.starts = arguments.starts
  config.steps = arguments.steps
  config.learning_rate = arguments.learning_rate
  loss = losses.get("sigmoid_cross_entropy")
  networks = dcgan.create(reference_weights.config(), loss.outputs)
  search = ensemble.Search(
    bundle.NetworkBundle(*networks, loss), search_settings.resolve(config)
  )
  faces = folder.load(
    str(arguments.shared / "celeba/faces64/test.zip"), "all"
  ).images[: arguments.images]
  holes = mask_sets.make(
    mask_settings.MaskSettings(), np.arange(len(faces)), 64, 64
  )
  with progress.Progress(len(faces), description="search") as bar:
    found = search(
      reference_weights.load(arguments.shared / "reference/dcgan_width0.5.npz"),
      pixels.to_float(faces),
      holes,
      on_batch=bar.update,
    )
  filled = evaluate.Filled(
    completed=pixels.to_uint8(found.completed),
    generated=None,
    failed=np.zeros(len(faces), bool),
    seconds=bar.seconds,
  )
  row = evaluate.score(evaluate.metrics(filled, faces, holes))
  print({name: round(value, 4) for name, value in row.items()})


if __name__ == "__main__":
  main()
