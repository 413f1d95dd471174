r"""Fills the holes of a data set with a trained model, and scores it.

  python -m dcgan_inpaint.main --config=configs/evaluate.py \
      --config.checkpoint.path=runs/celeba \
      --config.data.name=celeba --config.data.path=DIR \
      --workdir=runs/evaluate

Needs CelebA, prepared by `configs/prepare.py`. The checkpoint is the --workdir
of a training run; without one, the packaged model is scored.
`--config.data.name=folder` with `--config.data.split=all` reads every image of
a folder or zip. `--config.masks=strokes:share=0.3` makes other holes than a
square in the centre; a mask file is also possible (docs/masks.md).

The search is the paper's: 1,000 steps, about 2 s a face on two CPU cores, for a
model of a quarter of the width. This takes a quarter of the time:

  --config.search.steps=250 --config.search.learning_rate=0.06

`--config.search.mode=fidelity` completes a face in one pass of an encoder and a
few steps: the packaged model has an encoder, and configs/encoder.py trains one
for your model.
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.evaluate_job()
  # The packaged model.
  config.checkpoint.path = "pretrained"
  # Prepared by `configs/prepare.py`.
  config.data.name = "celeba"
  # All of the test split.
  config.data.split = "test"
  return config
