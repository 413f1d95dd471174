import gzip
import json

import jax
import numpy as np
import pytest

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import profiling


@pytest.fixture
def session(monkeypatch):
  """Returns what was done, in order; the profiler only says so."""
  done = []
  monkeypatch.setattr(
    jax.profiler, "start_trace", lambda folder, **unused: done.append("start")
  )
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: done.append("stop"))
  return done


def make_calls(done, calls, kind="train", numbered=True):
  """Makes calls of steps from `first` to `last`; says so in `done`."""
  for first, last in calls:
    number = {"first": first} if numbered else {}
    wait = lambda: done.append("wait")  # noqa: E731
    with profiling.call(kind, last - first, wait, **number):
      done.append(first)


@pytest.mark.parametrize(
  "wanted, calls, expected",
  [
    (
      range(2, 4),
      [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)],
      [0, 1, "wait", "start", 2, 3, "wait", "stop", 4],
    ),
    # Calls of many steps are traced whole.
    (
      range(25, 41),
      [(0, 20), (20, 40), (40, 60), (60, 80)],
      [0, "wait", "start", 20, 40, "wait", "stop", 60],
    ),
    (range(0, 1), [(0, 9)], ["wait", "start", 0, "wait", "stop"]),
    # The job ends first.
    (range(1, 9), [(0, 2), (2, 4)], ["wait", "start", 0, 2, "stop"]),
    # It goes on in the middle, or behind all.
    (range(1, 4), [(2, 6)], ["wait", "start", 2, "wait", "stop"]),
    (range(1, 4), [(7, 8)], [7]),
  ],
)
def test_calls_with_wanted_steps_are_traced(
  session, tmp_path, wanted, calls, expected
):
  with profiling.trace("train", wanted, tmp_path):
    make_calls(session, calls)
  assert session == expected


def test_steps_without_a_number_are_counted(session, tmp_path):
  with profiling.trace("search", range(30, 40), tmp_path):
    # Two batches of two calls each.
    make_calls(session, [(0, 10), (10, 20)] * 2, "search", numbered=False)
  assert session == [0, 10, 0, "wait", "start", 10, "wait", "stop"]


def test_steps_of_another_kind_are_not(session, tmp_path, caplog):
  with profiling.trace("search", range(0, 9), tmp_path):
    make_calls(session, [(0, 4)])
  make_calls(session, [(0, 4)], kind="search")
  assert session == [0, 0]
  assert "no search step from 0 to 8" in caplog.text


def test_a_trace_is_stopped_where_the_job_fails(session, tmp_path):
  with (
    pytest.raises(errors.UserError),
    profiling.trace("train", range(0, 9), tmp_path),
  ):
    make_calls(session, [(0, 4)])
    raise errors.UserError("not finite")
  assert session == ["wait", "start", 0, "stop"]


@pytest.mark.parametrize(
  "text", ["100", "110:100", "5:5", "a:b", "-1:4", "1:2:3", ""]
)
def test_what_are_no_steps_is_refused(text):
  with pytest.raises(errors.UserError, match=f"--profile_steps={text}.*100:"):
    profiling.parse(text)


def test_steps_are_from_one_number_up_to_another():
  assert profiling.parse("100:110") == range(100, 110)


def test_tensorboard_and_perfetto_find_their_files(tmp_path):
  step = jax.jit(lambda x: x @ x)
  x = step(np.ones((64, 64), np.float32))

  def wait():
    jax.block_until_ready(x)

  with profiling.trace("train", range(1, 3), tmp_path):
    for first in range(4):
      with profiling.call("train", 1, wait, first):
        x = step(x)
  (folder,) = (tmp_path / "plugins" / "profile").iterdir()
  assert [path for path in folder.glob("*.xplane.pb") if path.stat().st_size]
  with gzip.open(folder / "perfetto_trace.json.gz") as file:
    events = json.load(file)["traceEvents"]
  # The steps that were wanted, each once, by name and number.
  marked = [event for event in events if event.get("name") == "train"]
  assert [event["args"]["step_num"] for event in marked] == ["1", "2"]
