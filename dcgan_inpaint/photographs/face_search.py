"""The search for all faces of some photographs, in one batch."""

from collections.abc import Callable
from collections.abc import Mapping

import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.photographs import photograph
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import trained_model


def search_all(
  search: ensemble.Search,
  model: trained_model.TrainedModel,
  photographs: Mapping[str, photograph.Photograph],
  number: Callable[[str, int], int],
  samples: int,
  size: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns G(z) and the loss for all faces of some photographs.

  Args:
    search: of crops.
    model: whose networks it searches.
    photographs: by their names.
    number: function of a photograph's name and a face's place that returns the
      number, of 32 bits, from which its starts are drawn.
    samples: how many different completions each gets.
    size: crops that are searched at a time.

  Returns:
    {name: float32 [samples, F, S, S, 3]}, and {name: float [samples]}, the
    sum over the faces.
  """
  wanted = [
    (name, face, sample)
    for name, one in photographs.items()
    for sample in range(samples)
    for face in range(len(one.faces))
  ]
  shape = (*model.image_shape[:2], 3)
  generated, loss = np.empty((0, *shape), np.float32), np.empty(0)
  if wanted:
    found = search(
      model.weights,
      for_model(
        model, np.stack([photographs[n].crops[f] for n, f, _ in wanted])
      ),
      np.stack([photographs[n].masks[f] for n, f, _ in wanted]),
      indices=[number(n, f) for n, f, _ in wanted],
      samples=[sample for *_, sample in wanted],
      size=size,
    )
    generated, loss = in_colour(found.generated), found.loss.min(axis=1)
  images, losses, first = {}, {}, 0
  for name, one in photographs.items():
    faces = len(one.faces)
    part = slice(first, first + samples * faces)
    images[name] = generated[part].reshape(samples, faces, *shape)
    losses[name] = loss[part].reshape(samples, faces).sum(axis=1)
    first = part.stop
  return images, losses


def for_model(
  model: trained_model.TrainedModel, crops: np.ndarray
) -> np.ndarray:
  """Returns crops, uint8 [..., 3], as the model's float32 [..., C]."""
  if model.image_shape[2] == 1:
    crops = pixels.to_grey(crops)
  return pixels.to_float(crops)


def in_colour(images: np.ndarray) -> np.ndarray:
  """Returns what a model gives, [..., C], as [..., 3]: photographs are RGB."""
  return images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)
