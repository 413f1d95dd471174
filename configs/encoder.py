r"""Trains an encoder for a generator, for the modes fidelity and realism.

  python -m dcgan_inpaint.main --config=configs/encoder.py \
      --config.checkpoint.path=runs/celeba --config.data.path=DIR \
      --workdir=runs/encoder

Needs the training images of the generator. The encoder is then set as
`config.checkpoint.encoder` in every other config, together with
`config.checkpoint.path`.

On two CPU cores, for a generator of a quarter of the width: 10,000 steps in
about forty minutes without skips, and a quarter more with them, with

  --config.encoder.width=0.25 --config.encoder.batch_size=64 \
      --config.encoder.steps=10000

To continue from a trained encoder, such as that of
--config.checkpoint.path=pretrained (rank 640), with more steps, other holes
(`config.encoder.families`), a higher rank or additional skips, use
--config.encoder.warm_start=True, its width and another --workdir. For a second
encoder, whose errors differ from the first one's, also use
--config.encoder.fresh_dense=True. Both are then used, by the mean of their
results, with

  --config.checkpoint.encoder="('runs/encoder', 'runs/second')"
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.train_encoder_job()
  # The generator's training data.
  config.data.name = "celeba"
  return config
