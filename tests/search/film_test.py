import numpy as np
import pytest
import tiny_search

from dcgan_inpaint.search import film


@pytest.mark.parametrize(
  "options",
  [
    {},
    pytest.param({"steps_per_call": 2}, marks=pytest.mark.slow),
    {"reduce": "mean"},
    {"mirrored": True},
    pytest.param({"detail_gain": 2.0}, marks=pytest.mark.slow),
  ],
  ids=["best", "some steps in a call", "mean", "mirrored", "details"],
)
def test_the_path_ends_where_the_search_ends(options):
  images, masks = tiny_search.some_images()
  search = tiny_search.make(**options)
  found = search(
    tiny_search.SKETCH_WEIGHTS,
    images,
    masks,
    indices=range(7, 7 + tiny_search.COUNT),
  )
  path = film.path(
    search,
    tiny_search.SKETCH_WEIGHTS,
    images[2],
    masks[2],
    index=9,
    frames=4,
  )
  # Eight steps, two per frame.
  assert path.shape == (5, tiny_search.SIDE, tiny_search.SIDE, 3)
  np.testing.assert_allclose(path[-1], found.generated[2], atol=1e-5)
  # Every frame differs, and the first one is before the first step.
  assert np.abs(np.diff(path, axis=0)).max(axis=(1, 2, 3)).min() > 0
  before = tiny_search.make(**{**options, "steps": 0})(
    tiny_search.SKETCH_WEIGHTS, images[2:3], masks[2:3], indices=[9]
  )
  if "reduce" in options:  # Another start wins at that moment.
    np.testing.assert_allclose(path[0], before.generated[0], atol=1e-5)


@pytest.mark.slow
def test_the_path_of_several_encoders_is_their_mean():
  images, masks = tiny_search.some_images()
  weights = [tiny_search.parts_weights(seed) for seed in (3, 4, 5)]
  together = weights[0]._replace(
    other_encoders=tuple(one.encoder for one in weights[1:])
  )
  for encoders, used in ((0, weights), (2, weights[:2])):
    search = tiny_search.from_encoder(
      refine_steps=2, refine_layer=2, encoders=encoders
    )
    path = film.path(search, together, images[2], masks[2], index=2)
    alone = [
      film.path(search, one, images[2], masks[2], index=2) for one in used
    ]
    np.testing.assert_allclose(path, np.mean(alone, axis=0), atol=1e-6)


def test_a_path_is_not_longer_than_the_search():
  images, masks = tiny_search.some_images()
  search = tiny_search.make(steps=3)
  path = film.path(search, tiny_search.SKETCH_WEIGHTS, images[0], masks[0])
  assert len(path) == 4
  assert np.abs(np.diff(path, axis=0)).max(axis=(1, 2, 3)).min() > 0
