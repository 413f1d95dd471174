"""The job `export`: writes a trained model as plain arrays."""

import pathlib
from typing import Any

import jax
import ml_collections

from dcgan_inpaint import pretrained
from dcgan_inpaint.runtime import files
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
    One row, for results.json: the model's folder, step and size in bytes.

  Raises:
    errors.UserError: the checkpoint is missing or cannot be read.
  """
  if config.output:
    files.check_local(config.output, "config.output")
  model = trained_model.load(config.checkpoint, mesh)
  folder = pathlib.Path(config.output or pathlib.Path(workdir) / "model")
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
  size = pretrained.write(folder.expanduser(), jax.device_get(arrays), about)
  return [
    {
      "model": str(folder),
      "step": model.step,
      "bytes": size,
      # No images here; the weights are the data.
      "data_digest": trained_model.digest(model.weights._asdict()),
    }
  ]
