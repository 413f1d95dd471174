r"""The speed of training and search on this machine, and how cost grows.

  python -m dcgan_inpaint.main --config=configs/benchmark_throughput.py

Needs no download, and some minutes on two CPU cores, at a quarter of the
paper's width. Writes results.json and throughput.png; the same command resumes
an interrupted run.

On a GPU at full width, every implementation of the convolutions at every batch
size, to choose what `config.model.convolution=auto` stands for there:

  python -m dcgan_inpaint.main --config=configs/benchmark_throughput.py \
      --platform=gpu --config.model.width=1.0 \
      --config.model.dtype=bfloat16 \
      --config.throughput.implementations=dense,phases,plain \
      --config.train.batch_size=64 \
      --config.throughput.train_batches=512,2048 \
      --config.search.batch_size=1 \
      --config.throughput.search_batches=64,1024 \
      --config.search.steps=200 --config.throughput.steps=1000 \
      --workdir=runs/throughput_gpu
"""

from dcgan_inpaint import config as defaults


def get_config() -> defaults.ConfigDict:
  """Returns the config."""
  config = defaults.benchmark_throughput_job()
  # A quarter of the paper's channels, and small batches: for a CPU.
  config.model.width = 0.25
  config.train.batch_size = 64
  config.search.batch_size = 16
  config.search.steps = 20
  # One more value of each shows how the cost grows.
  config.throughput.train_batches = "16"
  config.throughput.search_batches = "1"
  config.throughput.widths = "0.125"
  config.throughput.starts = "4"
  config.throughput.steps = "80"
  return config
