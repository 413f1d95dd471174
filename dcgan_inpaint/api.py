"""The calls of the Python interface.

Whatever is heavy is imported within them, so that `import dcgan_inpaint` stays
quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import os
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import process

if TYPE_CHECKING:
  from dcgan_inpaint.photographs import picture as picture_lib
  from dcgan_inpaint.photographs import user_images
  from dcgan_inpaint.search import ensemble
  from dcgan_inpaint.search import settings as search_settings
  from dcgan_inpaint.search import trained_model

# Images that are in work at a time; they may be large.
_CHUNK = 8


def load_pretrained(
  path: str | os.PathLike[str] = "pretrained",
) -> trained_model.TrainedModel:
  """Loads a trained model.

  Args:
    path: 'pretrained', the model that comes with the package; the folder of an
      exported model; or the workdir of a training run.

  Returns:
    The networks and weights of generator, discriminator and encoder (None where
    there is none), the config they were trained with, and the mean training
    image. Its generator maps z to faces by

      model.networks.generator.apply(model.weights.generator, z, train=False)

  Raises:
    errors.UserError: there is no such model, or it cannot be read.
  """
  from dcgan_inpaint import config as config_lib
  from dcgan_inpaint.runtime import sharding
  from dcgan_inpaint.search import trained_model

  process.check_not_forked()
  settings = config_lib.checkpoint()
  settings.path = os.fspath(path)
  return trained_model.load(settings, sharding.create_mesh())


def inpaint(
  image: Any,
  mask: Any,
  *,
  mode: str = "fidelity",
  model: Any = "pretrained",
  seed: int = 0,
  value_range: tuple[float, float] | None = None,
  faces: str = "auto",
  rest: str | None = None,
  **search: Any,
) -> Any:
  """Fills the holes in photographs.

  An image of the model's own size, 64x64 pixels for the package's, is taken for
  a face as it is, cropped as the model's training images were: CelebA's aligned
  image, its box x 25..152 and y 57..184. In an image of any other size the
  faces at the hole are found first, as by the command line.

  Args:
    image: a Pillow image; an array of uint8, uint16 or float, grey [H, W] or
      [H, W, 1], RGB [H, W, 3] or with alpha [H, W, 2] or [H, W, 4]; or the path
      of a file, which is turned as its EXIF says. Many are a list, or an array
      with an axis N before the others. What lies under a hole is not looked at,
      and may be NaN.
    mask: what is not zero is the hole, as in OpenCV and scikit-image: an array
      [H, W] or [H, W, C] of booleans or numbers, a Pillow image, or the path of
      a file, whose white is the hole. One for all images, or one for each.
    mode: 'fidelity' (the lowest error), 'realism' (that, as sharp as a face is)
      or 'paper' (the plain search in z).
    model: 'pretrained', the package's own; the path of another, as
      `load_pretrained` takes it; or what that returned, which saves loading it
      again.
    seed: what the starts of the search are drawn from. An image's result
      depends on no other image.
    value_range: of floats, (0, 1) or (-1, 1); None tells them apart: where any
      known value is negative, black is -1.
    faces: how faces are found, as `config.faces`.
    rest: what becomes of a hole that no face covers, as `config.rest`, whose
      default it has.
    **search: other fields of `config.search`, such as `steps=250`.

  Returns:
    What was given, with the holes filled: a Pillow image in its mode (for a
    path, too), an array in its shape and type, a list for several. Known pixels
    are the input's, to the bit.

  Raises:
    errors.UserError: an argument has a wrong shape, type, range or name;
      or the process is a fork of one that has used JAX.
  """
  from dcgan_inpaint import config as config_lib
  from dcgan_inpaint.photographs import detection
  from dcgan_inpaint.photographs import photograph
  from dcgan_inpaint.photographs import user_images
  from dcgan_inpaint.search import trained_model

  process.check_not_forked()
  settings = _settings(mode=mode, seed=seed, **search)
  if rest is None:
    rest = str(config_lib.inpaint_job().rest)
  photograph.check_rest(rest, "rest")
  errors.check_choice("faces", faces, detection.DETECTORS)
  images, join = user_images.split(image)
  if not images:
    return join([])
  first = user_images.read(images[0], "image 0").picture.values
  masks = user_images.split_masks(mask, len(images), first.shape[:2])
  # One range for all, and what is wrong with arrays shows before any search;
  # files are not read yet.
  value_range = user_images.float_range(
    (
      user_images.known_floats(*_read(images, masks, i))
      for i, one in enumerate(images)
      if user_images.is_array(one)
    ),
    value_range,
  )

  _use_compilation_cache()
  model = _model(model)
  detect = detection.create(
    faces, "faces", model.image_shape[0], model.mean_image
  )
  # Crops are not blended: photographs are, at their own scale.
  fill = trained_model.make_search(
    model.networks, dataclasses.replace(settings, blending="paste")
  )
  of_photographs = search.get("blending") or _PHOTOGRAPHS_BLENDING

  def results() -> Iterator[Any]:
    """Yields the results; few images are held at a time."""
    for first in range(0, len(images), _CHUNK):
      given, work = [], []
      for i in range(len(images))[first : first + _CHUNK]:
        one, hole = _read(images, masks, i, warn=True)
        one = user_images.with_range(one, value_range)
        try:
          work.append(_Work(one.picture, hole, detect, rest, model))
        except errors.UserError as error:
          raise errors.UserError(f"image {i}: {error}") from error
        given.append((one, hole))
      _search(fill, model, work)
      for one, (image, hole) in zip(work, given, strict=True):
        filled = one.filled(settings.blending, of_photographs, rest)
        yield image.give_back(filled, hole)

  return join(results())


def clear_caches() -> None:
  """Frees what calls of `inpaint` keep for later ones.

  That is the package's own model and the compiled programs of the last eight
  kinds of search; later calls load and compile again. Numbers such as `seed`,
  `steps`, `learning_rate` and `prior_weight` make no other kind.
  """
  import gc

  from dcgan_inpaint.search import blending
  from dcgan_inpaint.search import programs

  _pretrained.cache_clear()
  programs.clear()
  blending.bound_cache(0)
  gc.collect()
  process.give_back_freed_memory()


def _read(
  images: Sequence[Any], masks: Sequence[Any], i: int, warn: bool = False
) -> tuple[user_images.Given, np.ndarray]:
  """Reads an image and its hole, bool [H, W].

  Args:
    images: all of them.
    masks: one for each.
    i: which.
    warn: whether to log what is odd about the mask.
  """
  from dcgan_inpaint.masks import mask_files
  from dcgan_inpaint.photographs import user_images

  one = user_images.read(images[i], f"image {i}")
  height, width = one.picture.values.shape[:2]
  reading = user_images.hole(masks[i], height, width, f"masks: mask {i}")
  if warn and reading.hole.any():
    note = reading.note.replace("config.mask.file_polarity", "not 0 is hole")
    mask_files.warn(note, f"mask {i}")
  return one, reading.hole


# As in configs/inpaint.py: photographs have another light than the faces that
# the model was trained on.
_PHOTOGRAPHS_BLENDING = "spline"


class _Work:
  """An image with its crops for the search.

  Attributes:
    crops: float32 [F, S, S, C], of the model's size and channels.
    masks: float32 [F, S, S, 1], 1 = known.
    generated: float32 [F, S, S, C], what the search found for them.
  """

  def __init__(
    self,
    picture: picture_lib.Picture,
    hole: np.ndarray,
    detect: Any,
    rest: str,
    model: trained_model.TrainedModel,
  ):
    """Finds the faces; other arguments are as in `photograph.prepare`."""
    from dcgan_inpaint.photographs import face_search
    from dcgan_inpaint.photographs import photograph
    from dcgan_inpaint.photographs import picture as picture_lib
    from dcgan_inpaint.photographs import user_images

    self._picture, self._hole = picture, hole
    self._photograph = None
    size, _, channels = model.image_shape
    if hole.shape == (size, size):
      # Not rounded to 8 bits.
      self.crops = user_images.as_float(picture, hole, channels)[None]
      self.masks = (~hole).astype(np.float32)[None, ..., None]
      if not hole.any():
        self.crops, self.masks = self.crops[:0], self.masks[:0]
    else:
      seen = picture_lib.rgb(picture)
      self._photograph = photograph.prepare(seen, hole, detect, rest, size)
      self.crops = face_search.for_model(model, self._photograph.crops)
      self.masks = self._photograph.masks
    self.generated = np.empty_like(self.crops)

  def filled(
    self, blending: str, of_photographs: str, rest: str
  ) -> picture_lib.Picture:
    """Returns the picture with its hole filled.

    Args:
      blending: of an image that is a crop.
      of_photographs: of any other.
      rest: as in `photograph.prepare`.
    """
    from dcgan_inpaint.photographs import face_search
    from dcgan_inpaint.photographs import photograph
    from dcgan_inpaint.photographs import picture as picture_lib
    from dcgan_inpaint.search import blending as blending_lib

    hole = self._hole
    if not hole.any():
      return self._picture
    if self._photograph is None:
      completed = blending_lib.blend(
        blending, self.generated, self.crops, self.masks
      )[0]
      completed = face_search.in_colour(completed)
    else:
      completed, left = photograph.complete(
        self._photograph,
        face_search.in_colour(self.generated),
        of_photographs,
        rest,
      )
      if rest == "leave":
        hole = hole & ~left
    return picture_lib.filled(self._picture, completed, hole)


def _search(
  fill: ensemble.Search, model: trained_model.TrainedModel, work: list[_Work]
) -> None:
  """Searches for all crops of some images."""
  counts = [len(one.crops) for one in work]
  if not sum(counts):
    return
  # The shape of a batch changes the last bits of what it computes. On the CPU
  # each image has one of its own, so that no other can change it; elsewhere all
  # have one shape. For the same reason all have the same starts.
  devices = fill.compiled.mesh.devices
  each = 1 if devices.flat[0].platform == "cpu" else 16
  found = fill(
    model.weights,
    np.concatenate([one.crops for one in work]),
    np.concatenate([one.masks for one in work]),
    indices=[0] * sum(counts),
    size=each * devices.size,
  )
  parts = np.split(found.generated, np.cumsum(counts)[:-1])
  for one, part in zip(work, parts, strict=True):
    one.generated = part


def _model(model: Any) -> trained_model.TrainedModel:
  """Returns a model by its name or path, or as it was loaded."""
  from dcgan_inpaint.search import trained_model

  if model is None or model == "pretrained":
    return _pretrained()
  if isinstance(model, (str, os.PathLike)):
    return load_pretrained(model)
  if isinstance(model, trained_model.TrainedModel):
    return model
  raise errors.UserError(
    f"model: {type(model).__name__}; give 'pretrained', a path, or what "
    "load_pretrained returned"
  )


@functools.cache
def _pretrained() -> trained_model.TrainedModel:
  return load_pretrained()


def _use_compilation_cache() -> None:
  """Keeps compiled programs where the command line does, unless told where."""
  import jax

  from dcgan_inpaint.runtime import cache

  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update(
      "jax_compilation_cache_dir", os.path.expanduser(cache.PROGRAMS)
    )


def _settings(**fields: Any) -> search_settings.SearchSettings:
  """Returns the settings of a search from fields of `config.search`."""
  import ml_collections

  from dcgan_inpaint import config as config_lib
  from dcgan_inpaint.search import settings as search_settings

  section = config_lib.search()
  for field, value in fields.items():
    if field not in section:
      raise errors.UserError(
        f"inpaint: {field!r} is not a field of config.search: choose among "
        f"{', '.join(section)}"
      )
    if isinstance(value, np.generic):
      value = value.item()
    kind = config_lib.fields("inpaint")[f"search.{field}"].type
    is_open = value is None and section[field] is None
    is_number = kind is float and isinstance(value, int)
    if not (is_open or is_number or isinstance(value, kind)):
      raise errors.UserError(
        f"inpaint: {field}={value!r} is not of type {kind.__name__}"
      )
    try:
      section[field] = value
    except TypeError as error:
      raise errors.UserError(f"inpaint: {field}={value!r}: {error}") from error
  config_lib.validate(
    ml_collections.ConfigDict({"job": "inpaint", "search": section})
  )
  return search_settings.resolve(section)
