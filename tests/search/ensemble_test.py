import dataclasses

import numpy as np
import pytest
import tiny_search

from dcgan_inpaint.search import blending
from dcgan_inpaint.search import details
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import film
from dcgan_inpaint.search import settings as search_settings

# --- the completed image ------------------------------------------------------


def test_known_pixels_come_back_to_the_bit():
  images, masks = tiny_search.some_images()
  images[0, 0, 0] = [-0.0, np.float32(1e-42), 3e38]
  masks[0, 0, 0] = 1
  result = tiny_search.default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  known = np.broadcast_to(masks > 0, images.shape)
  np.testing.assert_array_equal(
    result.completed.view(np.uint32)[known], images.view(np.uint32)[known]
  )
  np.testing.assert_array_equal(
    result.completed[~known], result.generated[~known]
  )
  assert np.any(result.generated[known] != images[known])


@pytest.mark.parametrize("secret", [np.nan, np.inf, 0.0])
def test_what_the_hole_hides_does_not_matter(secret):
  images, masks = tiny_search.some_images()
  hidden = np.where(masks > 0, images, np.float32(secret))
  tiny_search.assert_results_equal(
    tiny_search.default()(tiny_search.SKETCH_WEIGHTS, hidden, masks),
    tiny_search.default()(tiny_search.SKETCH_WEIGHTS, images, masks),
  )


def test_the_encoder_gets_no_pixel_from_under_the_hole():
  images, masks = tiny_search.some_images()
  search = tiny_search.from_encoder(refine_steps=3)
  found = search(tiny_search.parts_weights(), images, masks)
  changed = np.where(masks > 0.5, images, np.float32(np.nan))
  tiny_search.assert_results_equal(
    search(tiny_search.parts_weights(), changed, masks), found
  )


# --- many images --------------------------------------------------------------


def test_vmapped_equals_one_by_one():
  images, masks = tiny_search.some_images()
  together = tiny_search.default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  alone = tiny_search.make(devices=1, batch_size=1)
  for index in range(tiny_search.COUNT):
    one = slice(index, index + 1)
    # Not to the bit: a product of one row is summed in a different order.
    tiny_search.assert_results_close(
      alone(
        tiny_search.SKETCH_WEIGHTS, images[one], masks[one], indices=[index]
      ),
      ensemble.Result(*(value[one] for value in together)),
      1e-5,
    )


def test_permuting_the_images_permutes_the_results():
  images, masks = tiny_search.some_images()
  order = np.array([5, 2, 0, 3, 1, 4])
  search = tiny_search.default()
  straight = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  # An image's starts are drawn from its number.
  permuted = search(
    tiny_search.SKETCH_WEIGHTS, images[order], masks[order], indices=order
  )
  tiny_search.assert_results_equal(
    permuted, ensemble.Result(*(value[order] for value in straight))
  )


def test_neighbours_do_not_matter():
  images, masks = tiny_search.some_images(4)
  others = images.copy(), masks.copy()
  for mine, other in zip(
    others, tiny_search.some_images(4, seed=1), strict=True
  ):
    mine[[0, 3]] = other[[0, 3]]
  expected = tiny_search.default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  actual = tiny_search.default()(tiny_search.SKETCH_WEIGHTS, *others)
  tiny_search.assert_results_equal(actual, expected, rows=slice(1, 3))
  assert np.any(actual.latent[0] != expected.latent[0])


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_a_set_may_be_cut_into_several_calls(cut):
  images, masks = tiny_search.some_images()
  search = tiny_search.default()
  parts = [
    search(tiny_search.SKETCH_WEIGHTS, images[:cut], masks[:cut]),
    search(
      tiny_search.SKETCH_WEIGHTS,
      images[cut:],
      masks[cut:],
      indices=range(cut, tiny_search.COUNT),
    ),
  ]
  joined = ensemble.Result(
    *(np.concatenate(values) for values in zip(*parts, strict=True))
  )
  tiny_search.assert_results_equal(
    joined, search(tiny_search.SKETCH_WEIGHTS, images, masks)
  )


def test_padding_of_a_ragged_batch_changes_nothing():
  images, masks = tiny_search.some_images(5)
  finished = []
  padded = tiny_search.default()(
    tiny_search.SKETCH_WEIGHTS, images, masks, on_batch=finished.append
  )
  assert finished == [4, 1]
  assert len(padded.completed) == 5
  full_images, full_masks = tiny_search.some_images(8, seed=3)
  full_images[:5], full_masks[:5] = images, masks
  full = tiny_search.default()(
    tiny_search.SKETCH_WEIGHTS, full_images, full_masks
  )
  tiny_search.assert_results_equal(padded, full, rows=slice(5))


@pytest.mark.parametrize(
  "devices, batch_size, count, expected",
  [
    (1, 64, 1, 1),
    (1, 64, 3, 4),
    (4, 64, 1, 4),
    (4, 64, 5, 8),
    (4, 64, 64, 64),
    (4, 64, 1000, 64),
    (3, 66, 4, 6),
    (3, 66, 64, 66),
  ],
)
def test_few_images_do_not_pay_for_a_whole_batch(
  devices, batch_size, count, expected
):
  search = tiny_search.make(devices=devices, batch_size=batch_size)
  assert search.batch_size(count) == expected


# --- means --------------------------------------------------------------------


def test_an_image_and_its_mirror_image_are_completed_alike():
  images, masks = tiny_search.some_images()
  plain, both = (
    tiny_search.make(tiny_search.PARTS, steps=5),
    tiny_search.make(tiny_search.PARTS, steps=5, mirrored=True),
  )
  weights = tiny_search.parts_weights()
  alone = plain(weights, images, masks).generated
  turned = plain(weights, images[:, :, ::-1], masks[:, :, ::-1]).generated
  found = both(weights, images, masks)
  expected = (alone + turned[:, :, ::-1]) / 2
  np.testing.assert_allclose(found.generated, expected, atol=1e-6)
  np.testing.assert_array_equal(
    found.completed, np.where(masks > 0.5, images, found.generated)
  )
  again = both(weights, images[:, :, ::-1], masks[:, :, ::-1])
  np.testing.assert_allclose(
    again.completed[:, :, ::-1], found.completed, atol=1e-6
  )
  # A mean is not a sample of the possible faces.
  samples = np.arange(tiny_search.COUNT) % 2
  mixed, others = (
    search(weights, images, masks, samples=samples) for search in (both, plain)
  )
  second = samples == 1
  for field in ("generated", "completed"):
    for one, expected in ((~second, found), (second, others)):
      np.testing.assert_allclose(
        getattr(mixed, field)[one], getattr(expected, field)[one], atol=1e-6
      )


def several_encoders():
  """Returns weights of three one-encoder models, and of one with all three."""
  each = [tiny_search.parts_weights(seed) for seed in (3, 4, 5)]
  first, *others = (weights.encoder for weights in each)
  return each, each[0]._replace(encoder=first, other_encoders=tuple(others))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("encoders", "mirrored"), [(0, False), (0, True), (2, True), (1, False)]
)
def test_several_encoders_give_the_mean_of_what_each_of_them_gives(
  encoders, mirrored
):
  images, masks = tiny_search.some_images()
  each, together = several_encoders()
  options = {"mirrored": mirrored, "refine_steps": 2, "refine_layer": 2}
  alone = [tiny_search.from_encoder(**options)(w, images, masks) for w in each]
  assert np.abs(alone[0].generated - alone[1].generated).max() > 0.05
  used = alone[: encoders or None]
  mean = tiny_search.from_encoder(**options, encoders=encoders)
  found = mean(together, images, masks)
  expected = np.mean([one.generated for one in used], axis=0)
  np.testing.assert_allclose(found.generated, expected, atol=1e-6)
  np.testing.assert_array_equal(
    found.completed, np.where(masks > 0.5, images, found.generated)
  )
  np.testing.assert_allclose(found.loss, alone[0].loss, rtol=1e-6)
  # Samples after the first use only the first encoder.
  samples = np.arange(tiny_search.COUNT) % 2
  mixed, first = (
    search(weights, images, masks, samples=samples).generated
    for search, weights in (
      (mean, together),
      (tiny_search.from_encoder(**options), each[0]),
    )
  )
  np.testing.assert_allclose(mixed[::2], found.generated[::2], atol=1e-6)
  np.testing.assert_allclose(mixed[1::2], first[1::2], atol=1e-6)
  path = film.path(mean, together, images[2], masks[2], index=2)
  np.testing.assert_allclose(path[-1], found.generated[2], atol=1e-5)


@pytest.mark.slow
def test_encoders_that_do_not_start_the_search_are_not_run():
  images, masks = tiny_search.some_images()
  each, together = several_encoders()
  search = tiny_search.make(tiny_search.PARTS, steps=3)
  np.testing.assert_array_equal(
    search(together, images, masks).generated,
    search(each[0], images, masks).generated,
  )


@pytest.mark.parametrize("scale", [1, 2])
def test_the_details_of_the_mean_are_strengthened_where_it_is_asked_for(
  monkeypatch, scale
):
  # As if these images were as large as faces, or twice as large.
  monkeypatch.setattr(search_settings, "SIDE", tiny_search.SIDE / scale)
  images, masks = tiny_search.some_images()
  options = {"steps": 5, "mirrored": True}
  mean, strong = (
    tiny_search.make(tiny_search.PARTS, detail_gain=gain, **options)(
      tiny_search.parts_weights(), images, masks
    )
    for gain in (1.0, 3.0)
  )
  expected = details.strengthen(mean.generated, masks, 3.0, scale)
  assert np.abs(expected - mean.generated).max() > 0.05
  np.testing.assert_allclose(strong.generated, expected, atol=1e-6)
  np.testing.assert_array_equal(
    strong.completed, np.where(masks > 0.5, images, strong.generated)
  )


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("mode", blending.MODES)
def test_what_is_generated_is_blended_as_the_settings_say(
  monkeypatch, mode, scale
):
  monkeypatch.setattr(search_settings, "SIDE", tiny_search.SIDE / scale)
  images, masks = tiny_search.some_images()
  search = tiny_search.make(blending=mode, steps=2)
  found = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  expected = blending.blend(mode, found.generated, images, masks, scale)
  np.testing.assert_array_equal(found.completed, expected)
  pasted = np.where(masks > 0.5, images, found.generated)
  assert (mode == "paste") == np.array_equal(found.completed, pasted)


@pytest.mark.parametrize("count", [3, 6])
def test_after_warm_up_no_blending_is_left_to_compile(count):
  images, masks = tiny_search.some_images(count)
  search = tiny_search.make(blending="poisson", steps=2)
  blending.poisson.clear_cache()
  search.warm_up(tiny_search.SKETCH_WEIGHTS, images.shape)
  assert blending.poisson._cache_size() == 1
  search(tiny_search.SKETCH_WEIGHTS, images, masks)
  assert blending.poisson._cache_size() == 1


@pytest.mark.parametrize(
  "devices, batch_size, expected",
  [(1, 64, 8), (4, 64, 8), (8, 64, 8), (1, 4, 4), (8, 8, 8)],
)
def test_the_fixed_size_follows_no_number_of_images(
  devices, batch_size, expected
):
  search = tiny_search.make(devices=devices, batch_size=batch_size)
  assert search.fixed_size == expected


def test_searches_of_other_numbers_share_what_is_compiled():
  networks, traces = [], []

  def prior(logits):
    traces.append(logits.shape)
    return tiny_search.LOSS.prior(logits)

  loss = dataclasses.replace(tiny_search.LOSS, prior=prior)
  images, masks = tiny_search.some_images(4)
  numbers = {
    "seed": 7,
    "learning_rate": 0.2,
    "prior_weight": 0.7,
    "proximal_weight": 0.5,
    "steps": 5,
    "detail_gain": 1.5,
    "mirrored": True,
  }
  for fields in ({}, *({name: value} for name, value in numbers.items())):
    search = tiny_search.make(loss=loss, **fields, steps_per_call=1)
    found = search(tiny_search.SKETCH_WEIGHTS, images, masks)
    networks.append(search.compiled.programs)
    if not fields:
      once, first = len(traces), found
    # They are used, and not traced anew.
    assert len(traces) == once > 0
    used = not np.array_equal(found.generated, first.generated)
    assert used == bool(fields.keys() - {"proximal_weight"})
  assert len(set(map(id, networks))) == 1


def test_a_search_with_a_prior_and_one_without_are_two_programs():
  one, other = (
    tiny_search.make(steps=2, prior_weight=weight).compiled
    for weight in (0.1, 0.0)
  )
  assert one.programs is not other.programs
