"""The job `export`: writes a trained model as plain arrays, and as programs."""

import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import pretrained
from dcgan_inpaint.runtime import files
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import stablehlo
from dcgan_inpaint.search import trained_model
from dcgan_inpaint.training import checkpoints


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Writes a trained model, with its encoder if it has one; see `pretrained`.

  Args:
    config: the whole config.
    workdir: where the model goes by default.
    mesh: the devices.

  Returns:
    One row, for results.json: the model's folder, step and size in bytes, and
    the programs, if any.

  Raises:
    errors.UserError: the checkpoint is missing or cannot be read.
  """
  if config.output:
    files.check_local(config.output, "config.output")
  model = trained_model.load(config.checkpoint, mesh)
  folder = pathlib.Path(config.output or pathlib.Path(workdir) / "model")
  folder = folder.expanduser()
  encoder = None
  if model.encoder:
    encoder = {
      "width": model.encoder.width,
      "rank": model.encoder.rank,
      "skips": bool(model.encoder.skips),
    }
  # Nothing about the training images, whose paths may be private.
  about = {
    "config": checkpoints.as_json(
      ml_collections.ConfigDict(
        {name: model.config[name] for name in ("seed", "model", "train")}
      )
    ),
    "step": model.step,
    "encoder": encoder,
  }
  arrays = {
    "weights": trained_model.as_arrays(model.weights),
    "mean_image": model.mean_image,
  }
  size = pretrained.write(folder, jax.device_get(arrays), about)
  row = {
    "model": str(folder),
    "step": model.step,
    "bytes": size,
    # No images here; the weights are the data.
    "data_digest": trained_model.digest(model.weights._asdict()),
  }
  if config.stablehlo:
    row["programs"] = write_programs(folder, model.networks)
  return [row]


def write_programs(
  folder: pathlib.Path, networks: bundle.NetworkBundle
) -> list[str]:
  """Writes the programs of an exported model into its folder `stablehlo`.

  Their arrays are those that the exported model has, so that both give the
  same: generator.npz, and encoder.npz where it has encoders.

  Args:
    folder: of the exported model.
    networks: of the model.

  Returns:
    The names of the programs' files.
  """
  exported = pretrained.read(folder)[0]["weights"]
  exported.pop("discriminator")
  generator = {"generator": exported.pop("generator")}
  generator, encoder = stablehlo.flatten(generator), stablehlo.flatten(exported)
  programs = {"generator": stablehlo.generator(networks, generator)}
  arrays = {"generator": generator}
  if encoder:
    settings = search_settings.resolve(config_lib.search(), "fidelity")
    both = {**generator, **encoder}
    programs["fidelity"] = stablehlo.fidelity(networks, settings, both)
    arrays["encoder"] = encoder
  else:
    logging.info("no program of the mode fidelity: the model has no encoder")
  inside = folder / "stablehlo"
  for name, flat in arrays.items():
    with (
      files.replacing(inside / f"{name}.npz") as temporary,
      temporary.open("wb") as file,
    ):
      np.savez_compressed(file, **flat)
  for name, program in programs.items():
    with files.replacing(inside / f"{name}.jax_export") as temporary:
      temporary.write_bytes(program)
  return [f"{name}.jax_export" for name in programs]
