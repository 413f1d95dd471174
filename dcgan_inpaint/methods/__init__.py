"""Every way to fill a hole, behind one interface.

A method maps images float32 [N, H, W, C] in [-1, 1], RGB or grey, and masks
float32 [N, H, W, 1] (1 = known) to a `Completion`. None uses values under the
hole, and all return the known pixels to the bit (`filling`). An image's result
does not depend on the others in the batch. An image without known pixels
becomes mid-grey, or what the method has learned.

By the families that the paper reviews:

| diffusion         | what it does                                    |
|-------------------|-------------------------------------------------|
| `harmonic`        | smoothest membrane: the Laplacian is 0          |
| `total_variation` | level lines as short as possible                |
| `biharmonic`      | smoothest surface, by scikit-image              |
| `spline`          | the surface that fills its surroundings best    |
| `bertalmio`       | carries the Laplacian along level lines         |
| `taylor3`         | continues level lines at constant curvature     |
| `telea`           | fast marching, by OpenCV (the extra `opencv`)   |
| `navier_stokes`   | marching along level lines, by OpenCV           |

| texture, exemplar | what it does                                    |
|-------------------|-------------------------------------------------|
| `efros_leung`     | grows texture pixel by pixel                    |
| `quilting`        | lays blocks along the least visible cut         |
| `criminisi`       | copies patches, the strongest edges first       |
| `patchmatch`      | votes among nearest patches, coarse to fine     |

| sparse            | what it does                                    |
|-------------------|-------------------------------------------------|
| `sparse_dct`      | few coefficients of a block DCT                 |
| `sparse_wavelet`  | few coefficients of undecimated wavelets        |
| `mca`             | cartoon in wavelets plus texture in the DCT     |
| `dictionary`      | patches learned from the training images        |

| linear models     | what it does                                    |
|-------------------|-------------------------------------------------|
| `mean_image`      | pastes the mean training image                  |
| `ridge`           | regression of the hole on the known pixels      |
| `ppca`            | probabilistic PCA: the hole's conditional mean  |

| this project      | what it does                                    |
|-------------------|-------------------------------------------------|
| `dcgan`           | the latent search, as `config.search` sets it   |
| `dcgan_paper`     | its mode `paper`, with that mode's settings     |
| `dcgan_fidelity`  | its mode `fidelity`, likewise                   |
| `dcgan_realism`   | its mode `realism`, likewise                    |

To add one: a module `methods/NAME.py` with `complete(images, masks) -> float32
[N, H, W, C]`, decorated with `filling.keeps_known_pixels`, and a line here, in
`METHODS` and in the table. A method that learns from training images also has
`fit(images) -> fitted`, and takes its return value as
`complete(images, masks, fitted=...)`.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import importlib
import importlib.util
import time
import types
from typing import NamedTuple

from absl import logging
import jax
import numpy as np

from dcgan_inpaint import pixels
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model


class Spec(NamedTuple):
  """The properties of a method, known before it is loaded.

  Attributes:
    family: its family in the paper's review; tables are sorted by it.
    extra: the extra of setup.py with the library that it needs; '' = none.
    fits: whether it learns from the training images, by `fit`.
    trained: whether it needs the trained model.
    slow: whether it takes a few hundredths of a second or more for an image of
      64x64 on a CPU; it then gets `config.benchmark.slow_images` images in
      `benchmark`.
  """

  family: str
  extra: str = ""
  fits: bool = False
  trained: bool = False
  slow: bool = False


METHODS = types.MappingProxyType(
  {
    "harmonic": Spec("diffusion"),
    "total_variation": Spec("diffusion", slow=True),
    "biharmonic": Spec("diffusion"),
    "spline": Spec("diffusion", slow=True),
    "bertalmio": Spec("diffusion", slow=True),
    "taylor3": Spec("diffusion", slow=True),
    "telea": Spec("diffusion", extra="opencv"),
    "navier_stokes": Spec("diffusion", extra="opencv"),
    "efros_leung": Spec("texture", slow=True),
    "quilting": Spec("texture", slow=True),
    "criminisi": Spec("exemplar", slow=True),
    "patchmatch": Spec("exemplar", slow=True),
    "sparse_dct": Spec("sparse", slow=True),
    "sparse_wavelet": Spec("sparse", slow=True),
    "mca": Spec("sparse", slow=True),
    "dictionary": Spec("sparse", fits=True, slow=True),
    "mean_image": Spec("linear", trained=True),
    "ridge": Spec("linear", fits=True, slow=True),
    "ppca": Spec("linear", fits=True, slow=True),
    "dcgan": Spec("dcgan", trained=True, slow=True),
    "dcgan_paper": Spec("dcgan", trained=True, slow=True),
    "dcgan_fidelity": Spec("dcgan", trained=True, slow=True),
    "dcgan_realism": Spec("dcgan", trained=True, slow=True),
  }
)

# The module that each extra installs, and its name in messages.
LIBRARIES = types.MappingProxyType({"opencv": ("cv2", "OpenCV")})

# The largest number of images that a method compiles for.
_WARM_UP = 256


class Completion(NamedTuple):
  """The result of a method.

  Attributes:
    completed: float32 [N, H, W, C] in [-1, 1].
    generated: G(z), of the same shape, if the method has one.
  """

  completed: np.ndarray
  generated: np.ndarray | None = None


# Called as (images, masks) or (images, masks, indices). The indices are the
# images' positions in their data set, 0, 1, 2 ... by default; the latent search
# draws its starts from them, so that a set may be done in several calls.
Method = Callable[..., Completion]


def names(
  listed: str | Sequence[str], field: str = "config.evaluation.methods"
) -> list[str]:
  """Returns the methods that a config field lists.

  Args:
    listed: names, as text with commas or as a tuple. 'all' stands for every
      method whose library is installed; the log names those that are left out.
    field: the field, for messages.

  Raises:
    errors.UserError: one is unknown, or its library is missing.
  """
  wanted = list(lists.words(listed))
  if wanted == ["all"]:
    left_out = {name for name in METHODS if _missing_library(name)}
    for name in sorted(left_out):
      logging.warning(
        "%s=all leaves out %r, which needs %s: pip install "
        "'dcgan-inpaint[%s]'",
        field, name, _missing_library(name), METHODS[name].extra,
      )  # fmt: skip
    return [name for name in METHODS if name not in left_out]
  for name in wanted:
    if name not in METHODS:
      raise errors.UserError(
        f"{field} names {name!r}: choose among {', '.join(METHODS)}"
      )
    if library := _missing_library(name):
      raise errors.UserError(
        f"{field} names {name!r}, which needs {library}: pip install "
        f"'dcgan-inpaint[{METHODS[name].extra}]'"
      )
  return wanted


def _missing_library(name: str) -> str:
  """Returns the library that a method needs and that is missing, or ''."""
  module, library = LIBRARIES.get(METHODS[name].extra, ("", ""))
  return library if module and not importlib.util.find_spec(module) else ""


def create(
  name: str,
  model: trained_model.TrainedModel | None,
  settings: search_settings.SearchSettings | None,
  mesh: jax.sharding.Mesh,
  shape: tuple[int, ...],
  on_batch: Callable[[int], None] = lambda count: None,
  training: Callable[[], np.ndarray] | None = None,
  on_fit: Callable[[float], None] = lambda seconds: None,
) -> Method:
  """Returns a method by name.

  Args:
    name: one of `METHODS`.
    model: the trained model; None is allowed for a method that needs none
      (`Spec.trained`).
    settings: of the latent search; None is allowed for any other method.
    mesh: the devices.
    shape: [N, H, W, C] of the images to complete; a method compiles for them
      here, so that its timing excludes compilation.
    on_batch: called with the number of images that were just finished.
    training: returns the training images, uint8 [M, H, W, C]; called only for
      a method that is fitted to them, which is done here too.
    on_fit: called with the seconds that the fit took.

  Raises:
    ValueError: the method needs training images or a model, and there are none.
  """
  if METHODS[name].family == "dcgan":
    if model is None or settings is None:
      raise ValueError(f"method {name!r} searches in a model: give both")
    _, _, mode = name.partition("_")
    if mode:
      settings = settings.in_mode(mode)
    search = trained_model.make_search(model.networks, settings, mesh)
    search.warm_up(model.weights, shape)

    def dcgan(
      images: np.ndarray,
      masks: np.ndarray,
      indices: Sequence[int] | None = None,
    ) -> Completion:
      found = search(
        model.weights,
        images,
        masks,
        indices=indices,
        size=search.batch_size(shape[0]),
        on_batch=on_batch,
      )
      return Completion(found.completed, found.generated)

    return dcgan

  # Imported here, so that only the libraries of this method are loaded.
  module = importlib.import_module(f"dcgan_inpaint.methods.{name}")
  complete = module.complete
  if name == "mean_image":
    if model is None:
      raise ValueError(
        f"method {name!r} takes it from a trained model: give it"
      )
    mean = pixels.to_float(model.mean_image)
    complete = functools.partial(complete, mean_image=mean)
  if METHODS[name].fits:
    if training is None:
      raise ValueError(f"method {name!r} learns from training images: give it")
    faces = training()
    start = time.perf_counter()
    complete = functools.partial(complete, fitted=module.fit(faces))
    on_fit(time.perf_counter() - start)

  # Images without a hole: this only compiles.
  blank = np.zeros((min(shape[0], _WARM_UP), *shape[1:]), np.float32)
  complete(blank, np.ones_like(blank[..., :1]))

  def method(
    images: np.ndarray,
    masks: np.ndarray,
    indices: Sequence[int] | None = None,
  ) -> Completion:
    del indices
    completed = complete(images, masks)
    on_batch(len(images))
    return Completion(completed)

  return method
