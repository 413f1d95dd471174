"""Properties of every method of the registry, method by method."""

import importlib.util
import types

import numpy as np
import pytest
import skimage.data
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import methods
from dcgan_inpaint import pixels
from dcgan_inpaint.search import settings as search_settings
from dcgan_inpaint.search import trained_model


def _photographs(count, height, width, seed):
  """Returns uint8 [count, H, W, 3] cut-outs of a portrait."""
  rng = np.random.default_rng(seed)
  astronaut = skimage.data.astronaut()
  corners = rng.integers(20, 200, (count, 2))  # Her face, not the wall.
  return np.stack([astronaut[y:, x:][:height, :width] for y, x in corners])


def _masks(height, width):
  """Returns float32 [4, H, W, 1]: a box, a half, random pixels and no hole."""
  masks = np.ones((4, height, width, 1), np.float32)
  masks[0, height // 4 : height // 2, width // 4 : 3 * width // 4] = 0
  masks[1, :, : width // 2] = 0
  masks[2] = np.random.default_rng(0).random((height, width, 1)) < 0.2
  return masks


# `dcgan_paper` is `dcgan` of 1,000 steps.
@pytest.fixture(
  scope="module",
  params=[
    pytest.param(
      name, marks=pytest.mark.slow if spec.slow and name != "dcgan" else ()
    )
    for name, spec in methods.METHODS.items()
    if name != "dcgan_paper"
  ],
)
def filled(request):
  """Returns a method, images, a mask for each, and the method's results."""
  name = request.param
  spec = methods.METHODS[name]
  if spec.extra:
    library, _ = methods.LIBRARIES[spec.extra]
    if not importlib.util.find_spec(library):
      pytest.skip(f"needs the extra {spec.extra}")
  config = config_lib.evaluate_job()
  config.search = tiny.train_config(search__steps=2).search
  if spec.family == "dcgan":
    # The tiny model has no encoder, which the other modes need.
    config.checkpoint.path = "pretrained"
    if name == "dcgan":
      config.checkpoint.path = str(request.getfixturevalue("trained_run"))
    model = trained_model.load(config.checkpoint, tiny.mesh(4))
    height = width = tiny.SIZE
  else:
    height, width = 24, 20
    mean = _photographs(40, height, width, seed=1).mean(0)
    model = types.SimpleNamespace(mean_image=np.uint8(mean))
  images = pixels.to_float(_photographs(4, height, width, seed=0))
  masks = _masks(height, width)
  counts = []
  method = methods.create(
    name,
    model,
    search_settings.resolve(config.search),
    tiny.mesh(4),
    images.shape,
    on_batch=counts.append,
    training=lambda: _photographs(40, height, width, seed=1),
  )
  completed = method(images, masks).completed
  assert sum(counts) == len(images)
  return method, images, masks, completed


def test_known_pixels_come_back_to_the_bit(filled):
  _, images, masks, completed = filled
  assert completed.shape == images.shape and completed.dtype == np.float32
  known = masks[..., 0] == 1
  np.testing.assert_array_equal(completed[known], images[known])


def test_completed_pixels_are_finite_and_in_range(filled):
  _, _, _, completed = filled
  assert np.isfinite(completed).all()
  assert abs(completed).max() <= 1


def test_what_lies_under_the_hole_is_not_looked_at(filled):
  method, images, masks, completed = filled
  hidden = np.where(masks == 1, images, np.float32(np.nan))
  np.testing.assert_array_equal(method(hidden, masks).completed, completed)


def test_an_image_does_not_depend_on_its_neighbours(filled):
  method, images, masks, completed = filled
  for kept in range(2):
    others, holes = images[::-1].copy(), np.roll(masks, 1, axis=0)
    others[kept], holes[kept] = images[kept], masks[kept]
    # The rounding of linear algebra depends on the number of images.
    np.testing.assert_allclose(
      method(others, holes).completed[kept], completed[kept], atol=1e-5
    )


def test_holes_are_filled_and_not_by_what_was_hidden(filled):
  _, images, masks, completed = filled
  for image, mask, result in zip(images[:3], masks, completed, strict=False):
    hole = mask[..., 0] == 0
    assert (result[hole] != 0).any() and (result[hole] != image[hole]).any()


def test_training_images_are_loaded_only_for_methods_that_learn():
  def refuse():
    raise AssertionError("loaded")

  for name in ("harmonic", "ridge"):
    arguments = (name, None, None, tiny.mesh(1), (1, 8, 8, 3))
    if methods.METHODS[name].fits:
      with pytest.raises(AssertionError, match="loaded"):
        methods.create(*arguments, training=refuse)
      with pytest.raises(ValueError, match="'ridge'"):
        methods.create(*arguments)
    else:
      methods.create(*arguments, training=refuse)
