import json
import pathlib
import re
import shutil
import time

import jax
import numpy as np
import pytest
import tiny

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import checkpoints as checkpoints_lib

# Orbax's pending work at the time of the damage ends in a warning, at any time.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


def make_state(step=0, devices=4):
  """A pytree of several types, its weights copied to all of some devices."""
  rng = np.random.default_rng(step)
  state = {
    "step": np.int32(step),
    "weights": {"kernel": rng.normal(size=(5, 5, 3, 8)).astype(np.float32)},
    "half": rng.normal(size=(7,)).astype(jax.numpy.bfloat16),
  }
  return jax.device_put(state, sharding.replicated(tiny.mesh(devices)))


def make_target(devices=4):
  one = sharding.replicated(tiny.mesh(devices))
  return checkpoints_lib.abstract(make_state(), one)


def assert_same(state, expected):
  jax.tree.map(np.testing.assert_array_equal, state, expected)
  assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(
    lambda x: x.dtype, expected
  )


def save(folder, errors_by_step, max_to_keep=2):
  """Saves a state for each step, with its inversion MSE."""
  with checkpoints_lib.Checkpoints(folder, max_to_keep) as checkpoints:
    for step, error in errors_by_step.items():
      checkpoints.save(step, make_state(step), {"images": step}, error)


def test_a_state_comes_back_to_the_bit_with_its_meta(tmp_path):
  save(tmp_path, {3: 1.5})
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    assert_same(checkpoints.restore(3, make_target()), make_state(3))
    assert checkpoints.meta(3) == {"images": 3}


@pytest.mark.parametrize("then, now", [(4, 1), (1, 4)])
def test_a_state_is_restored_on_another_number_of_devices(tmp_path, then, now):
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, make_state(1, then), {}, None)
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    state = checkpoints.restore(1, make_target(now))
  assert_same(state, make_state(1))
  for leaf in jax.tree.leaves(state):
    assert len(leaf.devices()) == now


@pytest.mark.parametrize(
  "max_to_keep, values, kept, best",
  [
    (2, {1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0, 5: 5.0}, [2, 4, 5], 2),
    (1, {1: 3.0, 2: 2.0, 3: 1.0}, [3], 3),
    # Without held-out images the latest are kept, and the last is the best.
    (2, {1: None, 2: None, 3: None}, [2, 3], 3),
  ],
)
def test_the_latest_and_the_best_are_kept(
  tmp_path, max_to_keep, values, kept, best
):
  save(tmp_path, values, max_to_keep)
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps() == kept
    assert checkpoints.candidates("best")[0] == best
    assert checkpoints.candidates("latest") == kept[::-1]
    assert checkpoints.candidates(str(kept[0])) == kept[:1]
    for which in ("7", "last", ""):
      with pytest.raises(errors.UserError, match=f"best, latest.*{kept[0]}"):
        checkpoints.candidates(which)


def test_an_empty_folder_has_no_candidate_and_nothing_to_resume(tmp_path):
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore_latest(make_target(), print) is None
    with pytest.raises(errors.UserError, match="holds no checkpoint"):
      checkpoints.candidates("best")


@pytest.mark.parametrize("workdir", ["", "none"])
def test_a_workdir_without_checkpoints_is_refused(tmp_path, workdir):
  path = workdir and str(tmp_path / workdir)
  with (
    pytest.raises(errors.UserError, match="config.checkpoint.path=.*workdir"),
    checkpoints_lib.existing(path),
  ):
    pass
  assert not (tmp_path / "none").exists()


def make_empty(step):
  """Damages a checkpoint as a killed run may."""
  shutil.rmtree(step)
  step.mkdir()


def truncate(step):
  """Damages a checkpoint as a full disk may."""
  for path in (step / "state").rglob("d/*"):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def lose_meta(step):
  shutil.rmtree(step / "meta")


def lose_arrays(step):
  for folder in list((step / "state").rglob("d")):
    shutil.rmtree(folder)


def lose_state(step):
  shutil.rmtree(step / "state")


def cut_short(name):
  """Returns the damage that leaves half of one file."""

  def cut(step):
    content = (step / name).read_bytes()
    (step / name).write_bytes(content[: len(content) // 2])

  return cut


def become_a_file(step):
  shutil.rmtree(step)
  step.write_bytes(b"of somebody else")


def replace_metrics(content):
  """Returns the damage that leaves other JSON than ours."""

  def replace(step):
    (step / "metrics" / "metrics").write_text(content)

  return replace


def take_place(step):
  """Puts something else under the name of a checkpoint."""
  make_empty(step)
  (step / "weights.npz").write_bytes(b"PK")


@pytest.mark.parametrize(
  "damage",
  [
    make_empty,
    truncate,
    lose_meta,
    lose_arrays,
    lose_state,
    cut_short("meta/metadata"),
    # Orbax itself does not open a folder with broken metrics.
    cut_short("metrics/metrics"),
    cut_short("state/_METADATA"),
    cut_short("state/manifest.ocdbt"),
    take_place,
    become_a_file,
    replace_metrics("[1, 2]"),
    replace_metrics("3"),
    replace_metrics("{}"),
    replace_metrics('{"inversion_mse": "low"}'),
    replace_metrics('{"inversion_mse": null}'),
  ],
)
def test_a_broken_checkpoint_gives_way_to_the_one_before(
  tmp_path, damage, caplog
):
  folder = tmp_path / "checkpoints"
  save(folder, {1: 1.0, 2: 2.0})
  damage(folder / "2")
  with checkpoints_lib.Checkpoints(folder) as checkpoints:
    step, state = checkpoints.restore_latest(make_target(), lambda meta: None)
    assert step == 1
    assert_same(state, make_state(1))
    assert re.search("checkpoint 2 .*cannot be read", caplog.text)
    # The run reaches that step again, and must be able to save it.
    checkpoints.save(2, make_state(2), {"images": 2}, 2.0)
  with checkpoints_lib.Checkpoints(folder) as checkpoints:
    assert checkpoints.steps() == [1, 2]
    assert_same(checkpoints.restore(2, make_target()), make_state(2))


def test_a_checkpoint_of_other_shapes_gives_way_to_the_one_before(
  tmp_path, caplog
):
  save(tmp_path, {1: 1.0})
  other = {**make_state(2), "half": np.zeros(8, jax.numpy.bfloat16)}
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(2, other, {"images": 2}, 2.0)
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    step, state = checkpoints.restore_latest(make_target(), lambda meta: None)
  assert step == 1
  assert_same(state, make_state(1))
  assert "shape" in caplog.text


def stored_arrays(folder):
  """Returns the files that hold the values of a checkpoint."""
  return sorted(x for x in (folder / "state").rglob("d/*") if x.is_file())


@pytest.mark.slow
def test_a_changed_bit_in_the_arrays_is_noticed(tmp_path):
  folder = tmp_path / "checkpoints"
  save(folder, {1: 1.0, 2: 2.0})
  rng = np.random.default_rng(0)
  taken = []
  for _ in range(20):
    path = rng.choice(stored_arrays(folder / "2"))
    whole = path.read_bytes()
    content = bytearray(whole)
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    with checkpoints_lib.Checkpoints(folder, writable=False) as checkpoints:
      step, state = checkpoints.first_readable(
        [2, 1], lambda x: checkpoints.restore(x, make_target()), "none"
      )
    assert_same(state, make_state(step))
    taken.append(step)
    path.write_bytes(whole)
  # Orbax leaves copies that nobody reads; what is read is what was saved.
  assert 1 in taken


def test_other_values_in_the_arrays_are_noticed(tmp_path):
  # What Orbax itself would read without a word.
  save(tmp_path / "other", {3: 3.0})
  save(tmp_path / "run", {1: 1.0, 2: 2.0})
  shutil.rmtree(tmp_path / "run" / "2" / "state")
  shutil.copytree(
    tmp_path / "other" / "3" / "state", tmp_path / "run" / "2" / "state"
  )
  with checkpoints_lib.Checkpoints(tmp_path / "run") as checkpoints:
    with pytest.raises(ValueError, match="digest"):
      checkpoints.restore(2, make_target())
    step, state = checkpoints.restore_latest(make_target(), lambda meta: None)
  assert step == 1
  assert_same(state, make_state(1))


def test_a_checkpoint_without_a_digest_is_read(tmp_path):
  save(tmp_path, {1: 1.0})
  path = tmp_path / "1" / "meta" / "metadata"
  meta = json.loads(path.read_text())
  del meta["sha256"]
  path.write_text(json.dumps(meta))
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    assert_same(checkpoints.restore(1, make_target()), make_state(1))


@pytest.mark.parametrize("number", [2, 0, "7b"])
def test_an_unknown_format_stops_the_run(tmp_path, number):
  save(tmp_path, {1: 1.0, 2: 2.0})
  path = tmp_path / "2" / "meta" / "metadata"
  meta = json.loads(path.read_text())
  assert meta["format"] == checkpoints_lib.FORMAT
  path.write_text(json.dumps({**meta, "format": number}))
  with (
    checkpoints_lib.Checkpoints(tmp_path) as checkpoints,
    pytest.raises(
      errors.UserError, match=f"checkpoint 2 of .* format {number!r}.* up to 1"
    ) as refused,
  ):
    checkpoints.restore_latest(make_target(), lambda meta: None)
  assert "\n" not in str(refused.value)
  # A later version's work is neither repeated nor overwritten.
  assert (tmp_path / "2").exists()


@pytest.mark.parametrize(
  "broken, writable", [("2", False), ("12", True), ("12", False)]
)
def test_broken_metrics_are_refused_where_none_may_give_way(
  tmp_path, broken, writable
):
  save(tmp_path, {1: 1.0, 2: 2.0})
  for step in broken:
    cut_short("metrics/metrics")(tmp_path / step)
  with pytest.raises(errors.UserError, match="/metrics/metrics is no JSON"):
    checkpoints_lib.Checkpoints(tmp_path, writable=writable)
  assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}


def test_where_none_can_be_read_nothing_starts_from_scratch(tmp_path):
  save(tmp_path, {1: 1.0, 2: 2.0})
  for step in ("1", "2"):
    make_empty(tmp_path / step)
  with (
    checkpoints_lib.Checkpoints(tmp_path) as checkpoints,
    pytest.raises(errors.UserError, match="no checkpoint .* can be read") as no,
  ):
    checkpoints.restore_latest(make_target(), lambda meta: None)
  assert "\n" not in str(no.value)
  # Neither was touched: the user decides what to do with them.
  assert {path.name for path in tmp_path.iterdir()} >= {"1", "2"}


def test_what_the_check_refuses_is_refused(tmp_path):
  save(tmp_path, {1: 1.0, 2: 2.0})

  def check(meta):
    raise errors.UserError(f"another run: {meta['images']}")

  with (
    checkpoints_lib.Checkpoints(tmp_path) as checkpoints,
    pytest.raises(errors.UserError, match="another run: 2"),
  ):
    checkpoints.restore_latest(make_target(), check)


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
  save(tmp_path, {1: 1.0})
  half = pathlib.Path(tmp_path / "2.orbax-checkpoint-tmp")
  half.mkdir()
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps() == [1]
    # Orbax cleans up in the background.
    deadline = time.monotonic() + 20
    while half.exists() and time.monotonic() < deadline:
      time.sleep(0.05)
  assert not half.exists()
