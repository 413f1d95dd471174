import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_search

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import profiling
from dcgan_inpaint.search import compiled_search
from dcgan_inpaint.search import ensemble
from dcgan_inpaint.search import latent_search

COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)


def place(compiled, images, masks):
  """Returns the first four images on the devices."""
  numbers = np.arange(4)
  return compiled.place(images[:4], masks[:4], numbers, 0 * numbers)


def traced(**options):
  """Returns a search, and a list that grows whenever its loss is traced."""
  traces = []

  def prior(logits):
    traces.append(logits.shape)
    return tiny_search.LOSS.prior(logits)

  loss = dataclasses.replace(tiny_search.LOSS, prior=prior)
  return tiny_search.make(loss=loss, **options), traces


def test_ragged_batches_are_traced_once():
  search, traces = traced()
  images, masks = tiny_search.some_images(11)
  search(tiny_search.SKETCH_WEIGHTS, images[:4], masks[:4])
  once = len(traces)
  assert once > 0
  for count in (11, 4, 3, 9):
    search(tiny_search.SKETCH_WEIGHTS, images[:count], masks[:count])
  assert len(traces) == once


def test_after_warm_up_nothing_is_left_to_trace():
  search, traces = traced(steps=5, steps_per_call=2)
  images, masks = tiny_search.some_images(9)
  search.warm_up(tiny_search.SKETCH_WEIGHTS, images.shape)
  warm = len(traces)
  assert warm > 0
  search(tiny_search.SKETCH_WEIGHTS, images, masks)
  assert len(traces) == warm


def test_calls_of_one_size_share_what_is_compiled():
  search, traces = traced(batch_size=8)
  images, masks = tiny_search.some_images(8)
  large = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  once = len(traces)
  small = search(tiny_search.SKETCH_WEIGHTS, images[:2], masks[:2], size=8)
  assert len(traces) == once
  tiny_search.assert_results_equal(
    small, ensemble.Result(*(value[:2] for value in large))
  )


def test_a_batch_that_the_devices_do_not_divide_is_refused():
  with pytest.raises(errors.UserError, match="config.search.batch_size=6.*8"):
    tiny_search.make(batch_size=6)


def test_a_mode_that_wants_an_encoder_says_so_where_there_is_none():
  with pytest.raises(errors.UserError) as error:
    tiny_search.make(mode="fidelity", steps=None, starts=None)
  message = str(error.value)
  assert message.startswith("config.search.mode='fidelity'")
  assert "configs/encoder.py" in message


@pytest.mark.parametrize(
  "steps_per_call", [3, pytest.param(8, marks=pytest.mark.slow), 20]
)
def test_steps_per_call_do_not_matter(steps_per_call):
  images, masks = tiny_search.some_images(4)
  search = tiny_search.make(steps_per_call=steps_per_call)
  tiny_search.assert_results_close(
    search(tiny_search.SKETCH_WEIGHTS, images, masks),
    tiny_search.default()(tiny_search.SKETCH_WEIGHTS, images, masks),
    1e-5,
  )


def test_the_seed_draws_the_starts():
  images, masks = tiny_search.some_images(4)
  first = tiny_search.default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  other = tiny_search.make(seed=1)(tiny_search.SKETCH_WEIGHTS, images, masks)
  assert np.all(first.latent != other.latent)


def test_more_starts_leave_the_first_as_it_was():
  images, masks = tiny_search.some_images()
  one = tiny_search.make(starts=1)(tiny_search.SKETCH_WEIGHTS, images, masks)
  three = tiny_search.default()(tiny_search.SKETCH_WEIGHTS, images, masks)
  np.testing.assert_allclose(one.loss[:, 0], three.loss[:, 0], rtol=1e-5)
  assert np.any(three.loss.argmin(axis=1) > 0)


@pytest.mark.slow
def test_the_starts_of_a_sample_follow_those_of_the_sample_before():
  images, masks = tiny_search.some_images(2)
  six = tiny_search.make(starts=6)(tiny_search.SKETCH_WEIGHTS, images, masks)
  for sample in range(3):
    two = tiny_search.make(starts=2)(
      tiny_search.SKETCH_WEIGHTS, images, masks, samples=[sample] * 2
    )
    own = slice(2 * sample, 2 * sample + 2)
    np.testing.assert_allclose(two.loss, six.loss[:, own], rtol=1e-5)


def test_a_start_whose_loss_is_not_finite_does_not_win():
  def prior(logits):
    return jnp.where(logits[:, 0] > 0.6, jnp.nan, 0.0)

  loss = dataclasses.replace(tiny_search.LOSS, prior=prior)
  images, masks = tiny_search.some_images()
  # Too small a learning rate to leave the initial values.
  search = tiny_search.make(loss=loss, starts=8, learning_rate=1e-6)
  result = search(tiny_search.SKETCH_WEIGHTS, images, masks)
  lost = np.isnan(result.loss)
  assert np.all(lost.any(axis=1) & ~lost.all(axis=1))
  for index, row in enumerate(result.loss):
    found = tiny_search.papers_objective(
      result.latent[index],
      images[index],
      masks[index],
      0.0,
    )
    np.testing.assert_allclose(found, np.nanmin(row), rtol=1e-5)


def test_the_mean_over_the_starts_is_kept_where_it_is_asked_for():
  images, masks = tiny_search.some_images()
  weights = tiny_search.parts_weights()
  mean = tiny_search.make(tiny_search.PARTS, steps=5, starts=3, reduce="mean")(
    weights, images, masks
  )
  # The same steps, with visible states.
  compiled = tiny_search.make(tiny_search.PARTS, steps=5, starts=3).compiled
  placed, problems = compiled.prepare(weights), place(compiled, images, masks)
  states = compiled.begin(placed, problems)
  (stage,) = compiled.stages(0)
  states = compiled.enter(stage, placed, states)
  states = compiled.advance(stage, 5, placed, states, problems)
  generated = []
  for number in range(3):
    latents = states.latent[:, number]
    generated.append(
      tiny_search.PARTS[0].apply(weights.generator, latents, train=False)
    )
  expected = np.mean(generated, axis=0)
  np.testing.assert_allclose(mean.generated[:4], expected, atol=1e-5)


@functools.cache
def dcgan_result(devices):
  images, masks = tiny_search.some_images(4, side=tiny.SIZE)
  search = tiny_search.default(tiny_search.DCGAN, devices, steps=5, starts=2)
  return search(tiny_search.dcgan_weights(), images, masks)


@pytest.mark.slow
def test_one_and_four_devices_find_the_same():
  tiny_search.assert_results_close(dcgan_result(4), dcgan_result(1), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["random", "encoder"])
def test_devices_have_nothing_to_say_to_each_other(start):
  encoder, encoder_variables = tiny_search.dcgan_encoder()
  search = tiny_search.make(
    tiny_search.DCGAN, 4, encoder=encoder, steps=5, starts=2, start=start,
    refine_steps=2, refine_layer=3,
  ).compiled  # fmt: skip
  weights = tiny_search.dcgan_weights()._replace(encoder=encoder_variables)
  images, masks = tiny_search.some_images(4, side=tiny.SIZE)
  weights, problems = search.prepare(weights), place(search, images, masks)
  begun = search.begin(weights, problems)
  stage = search.stages(0)[-1]
  states = search.enter(stage, weights, begun)
  programs, values = search.programs, search._values
  lowered_programs = (
    programs.begin.lower(weights, values, problems),
    programs.enter.lower(stage.variable, weights, stage.rates, begun),
    programs.advance.lower(
      stage.variable, 1, weights, values, stage.rates, states, problems
    ),
    programs.end.lower(weights, values, states, problems),
  )
  for lowered in lowered_programs:
    compiled = lowered.compile()
    assert not [name for name in COLLECTIVES if name in compiled.as_text()]
    for leaf in jax.tree.leaves(compiled.output_shardings):
      assert len(leaf.device_set) == 4
      assert not leaf.is_fully_replicated


def test_the_first_call_of_steps_is_lowered_without_being_compiled():
  compiled = tiny_search.make(steps=5, steps_per_call=3).compiled
  shape = (4, tiny_search.SIDE, tiny_search.SIDE, 3)
  shapes = jax.eval_shape(lambda: tiny_search.SKETCH_WEIGHTS)
  program = compiled_search.lower(compiled, shapes, shape)
  states = program.out_info
  assert states.latent.shape == (4, 3, tiny.LATENT_SIZE)
  assert program.compile().memory_analysis().argument_size_in_bytes > 0


# --- transfers ----------------------------------------------------------------


def test_the_steps_of_a_search_may_not_transfer_anything():
  compiled = tiny_search.default().compiled
  weights = compiled.prepare(tiny_search.SKETCH_WEIGHTS)
  images, masks = tiny_search.some_images(4)
  numbers = np.arange(4, dtype=np.uint32)
  on_host = latent_search.Problem(images, masks, numbers, 0 * numbers)
  # JAX accepts arrays of the host, unless transfers are disallowed.
  compiled.begin(weights, on_host)
  with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
    compiled.run(weights, on_host, compiled.stages(0))


@pytest.mark.parametrize(
  "options",
  [
    pytest.param({}, marks=pytest.mark.slow),
    {"mirrored": True, "detail_gain": 2.0},
  ],
)
def test_all_that_is_transferred_is_transferred_explicitly(options):
  images, masks = tiny_search.some_images()
  search = tiny_search.from_encoder(starts=2, refine_steps=3, **options)
  weights = tiny_search.parts_weights()
  with jax.transfer_guard("disallow"):
    search(weights, images, masks)


def test_the_steps_of_all_batches_are_counted_for_a_trace(
  tmp_path, monkeypatch
):
  done = tiny.record_traces(monkeypatch)
  search = tiny_search.make(steps=6, steps_per_call=4)
  images, masks = tiny_search.some_images()  # A batch of four, one of two.
  with profiling.trace("search", range(6, 10), tmp_path):
    search.warm_up(tiny_search.SKETCH_WEIGHTS, images.shape)
    search(tiny_search.SKETCH_WEIGHTS, images, masks)
  assert done == [0, 4, "start", 6, "stop", 10]
