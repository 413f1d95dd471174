r"""Trains an encoder for a generator: the modes fidelity and realism want one.

  python -m dcgan_inpaint.main --config=configs/encoder.py \
      --config.checkpoint.path=runs/celeba --config.data.path=DIR \
      --workdir=runs/encoder

Needs the training images of the generator. Every other config then takes the
encoder as `config.checkpoint.encoder`, beside `config.checkpoint.path`.

On two CPU cores, for a generator of a quarter of the width: 10,000 steps in
about forty minutes without skips, and a quarter more with them, by

  --config.encoder.width=0.25 --config.encoder.batch_size=64 \
      --config.encoder.steps=10000

More steps, other holes (`config.encoder.families`), a higher rank or skips
where there were none, from an encoder that is trained already, such as that of
--config.checkpoint.path=pretrained (rank 640), go on with
--config.encoder.warm_start=True, its width and another --workdir. A second
encoder, whose errors are not the first one's, takes also
--config.encoder.fresh_dense=True; both are used, and the mean of what they give
taken, by

  --config.checkpoint.encoder="('runs/encoder', 'runs/second')"
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.train_encoder_job()
  # What the generator was trained on.
  config.data.name = "celeba"
  return config
