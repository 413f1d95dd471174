"""The shared reference model, as variables of this package's networks.

It is only used for the development of the search, and is not part of the
package. `reference/README.md` in the shared folder describes the arrays.
"""

import os

import ml_collections
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.search import bundle


def config() -> ml_collections.ConfigDict:
  """Returns the section `config.model` of the reference model."""
  model = config_lib.model()
  model.width = 0.5
  return model


def load(path: str | os.PathLike) -> bundle.Weights:
  """Reads `dcgan_width0.5.npz`.

  Args:
    path: the file.

  Returns:
    The weights of both networks, float32 NumPy arrays, with the variables'
    names of `dcgan.Generator` and `dcgan.Discriminator`. The biases that the
    reference does not have are zeros.
  """
  with np.load(path) as file:
    arrays = {name: np.asarray(file[name], np.float32) for name in file.files}

  def norms(network, layers):
    params, statistics = {}, {}
    for layer in layers:
      bn, name = f"bn{layer}", f"batch_norm_{layer}"
      params[name] = {
        "scale": arrays[f"{network}/params/{bn}/s"],
        "bias": arrays[f"{network}/params/{bn}/b"],
      }
      statistics[name] = {
        "mean": arrays[f"{network}/batch_stats/{bn}/0"],
        "var": arrays[f"{network}/batch_stats/{bn}/1"],
      }
    return params, statistics

  params, statistics = norms("generator", range(4))
  params["dense"] = {"kernel": arrays["generator/params/fc"]}
  for layer in range(1, 5):
    kernel = arrays[f"generator/params/w{layer - 1}"]
    params[f"deconv_{layer}"] = {"kernel": kernel}
  params["deconv_4"]["bias"] = np.zeros(3, np.float32)
  generator = {"params": params, "batch_stats": statistics}

  params, statistics = norms("discriminator", range(1, 4))
  for layer in range(4):
    kernel = arrays[f"discriminator/params/w{layer}"]
    params[f"conv_{layer}"] = {"kernel": kernel}
  params["conv_0"]["bias"] = np.zeros(32, np.float32)
  params["dense"] = {
    "kernel": arrays["discriminator/params/fc"],
    "bias": np.zeros(1, np.float32),
  }
  discriminator = {"params": params, "batch_stats": statistics}
  return bundle.Weights(generator, discriminator)
