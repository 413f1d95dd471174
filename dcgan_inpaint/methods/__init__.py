"""Every way to fill a hole, behind one interface.

A method maps images float32 [N, H, W, 3] in [-1, 1] and masks float32
[N, H, W, 1] (1 = known) to a `Completion`. None looks at what lies under the
hole, and all return the known pixels to the bit.

| name         | what it does                                        |
|--------------|-----------------------------------------------------|
| `mean_image` | pastes the mean training image                      |
| `biharmonic` | smoothest surface, by scikit-image                  |
| `telea`      | fast marching, by OpenCV (the extra `opencv`)       |
| `dcgan`      | the latent search of the paper, `config.search`     |
"""

from collections.abc import Callable
import functools
import importlib
import importlib.util
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from dcgan_inpaint import blending
from dcgan_inpaint import errors
from dcgan_inpaint import pixels
from dcgan_inpaint import trained

METHODS = ("mean_image", "biharmonic", "telea", "dcgan")


class Completion(NamedTuple):
  """What a method made of the images.

  Attributes:
    completed: float32 [N, H, W, 3] in [-1, 1].
    generated: G(z), of the same shape, where the method has one.
  """

  completed: np.ndarray
  generated: np.ndarray | None = None


Method = Callable[[np.ndarray, np.ndarray], Completion]


def names(text: str) -> list[str]:
  """Returns the methods that `config.evaluation.methods` lists.

  Args:
    text: names with commas between.

  Raises:
    errors.UserError: one is unknown, or its library is missing.
  """
  listed = [name.strip() for name in text.split(",") if name.strip()]
  for name in listed:
    if name not in METHODS:
      raise errors.UserError(
        f"config.evaluation.methods names {name!r}: choose among "
        f"{', '.join(METHODS)}"
      )
    if name == "telea" and not importlib.util.find_spec("cv2"):
      raise errors.UserError(
        "config.evaluation.methods names 'telea', which needs OpenCV: pip "
        "install 'dcgan-inpaint[opencv]'"
      )
  return listed


def create(
  name: str,
  model: trained.Trained,
  search_config: Any,
  mesh: jax.sharding.Mesh,
  shape: tuple[int, ...],
  on_batch: Callable[[int], None] = lambda count: None,
) -> Method:
  """Returns a method by name.

  Args:
    name: one of `METHODS`.
    model: the trained model.
    search_config: the section `config.search`.
    mesh: the devices.
    shape: [N, H, W, 3] of the images that are to come; what a method compiles
      is compiled for them here, so that timing the method leaves it out.
    on_batch: called with the number of images that were just finished.
  """
  if name == "dcgan":
    search = trained.make_search(model, search_config, mesh)
    size = search.batch_size(shape[0])
    search.warm_up(model.weights, (size, *shape[1:]))
    mode = search_config.blending
    blending.warm_up(mode, shape)

    def dcgan(images: np.ndarray, masks: np.ndarray) -> Completion:
      found = search(model.weights, images, masks, on_batch=on_batch)
      completed = blending.blend(mode, found.generated, images, masks)
      return Completion(completed, found.generated)

    return dcgan

  # A method's libraries are loaded only when it is asked for.
  module = importlib.import_module(f"dcgan_inpaint.methods.{name}")
  complete = module.complete
  if name == "mean_image":
    mean = pixels.to_float(model.mean_image)
    complete = functools.partial(complete, mean_image=mean)

  def method(images: np.ndarray, masks: np.ndarray) -> Completion:
    completed = complete(images, masks)
    on_batch(len(images))
    return Completion(completed)

  return method
