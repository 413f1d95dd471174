import json
import struct
import sys

import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.training import metric_writer


def steps(path):
  return [metrics["step"] for metrics in metric_writer.read(path)]


def records(path):
  """The records of a TFRecord file: length, checksum, bytes, checksum."""
  data = path.read_bytes()
  while data:
    (length,) = struct.unpack("<Q", data[:8])
    yield data[12 : 12 + length]
    data = data[16 + length :]


def write(workdir, wanted, **options):
  with metric_writer.MetricWriter(
    workdir, tensorboard=False, **options
  ) as writer:
    for step in wanted:
      writer.scalars(step, {"loss": step / 10})
  return workdir / "metrics.jsonl"


def test_scalars_are_one_json_object_a_line(tmp_path):
  with metric_writer.MetricWriter(tmp_path, tensorboard=False) as writer:
    writer.scalars(1, {"d_loss": np.float32(0.5), "g_loss": 2})
    writer.scalars(2, {"d_loss": float("nan")})
  path = tmp_path / "metrics.jsonl"
  expected = [
    {"step": 1, "d_loss": 0.5, "g_loss": 2},
    {"step": 2, "d_loss": None},
  ]
  assert [
    json.loads(line) for line in path.read_text().splitlines()
  ] == expected
  assert metric_writer.read(path) == expected


def test_a_line_is_in_the_file_as_soon_as_it_is_written(tmp_path):
  writer = metric_writer.MetricWriter(tmp_path, tensorboard=False)
  writer.scalars(1, {"loss": 1.0})
  assert steps(tmp_path / "metrics.jsonl") == [1]
  writer.close()
  writer.close()


def test_after_resuming_every_step_stands_once(tmp_path):
  write(tmp_path, [10, 20, 30, 40])
  path = write(tmp_path, [30, 40, 50], resume_step=20)
  assert steps(path) == [10, 20, 30, 40, 50]
  assert metric_writer.read(path)[1] == {"step": 20, "loss": 2.0}


@pytest.mark.parametrize("half", ['{"step": 30, "lo', "{}", '{"step": 30}\n\0'])
def test_a_half_written_last_line_is_skipped(tmp_path, half):
  path = write(tmp_path, [10, 20])
  with path.open("a") as file:
    file.write(half)
  assert steps(path)[:2] == [10, 20]
  assert steps(write(tmp_path, [30], resume_step=20)) == [10, 20, 30]


@pytest.mark.parametrize(
  "line", ["broken", '{"step": "x"}', '{"step": 1.5}', '{"step": null}', "[1]"]
)
def test_a_broken_line_in_the_middle_is_refused_by_number(tmp_path, line):
  path = tmp_path / "metrics.jsonl"
  path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
  with pytest.raises(errors.UserError, match=r"metrics\.jsonl, line 2"):
    metric_writer.read(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
  with pytest.raises(errors.UserError, match=r"metrics\.jsonl does not exist"):
    metric_writer.read(tmp_path / "metrics.jsonl")


def test_a_run_from_the_beginning_sets_the_old_metrics_aside(tmp_path):
  write(tmp_path, [10, 20])
  assert steps(write(tmp_path, [10])) == [10]
  assert steps(tmp_path / "metrics.1.jsonl") == [10, 20]


def test_images_are_png_files_named_by_step(tmp_path):
  image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
  with metric_writer.MetricWriter(tmp_path, tensorboard=False) as writer:
    writer.images(500, {"samples": image})
  with Image.open(tmp_path / "samples" / "step_000500.png") as file:
    np.testing.assert_array_equal(np.asarray(file), image)


def test_tensorboard_gets_the_same_scalars_and_images(tmp_path):
  event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
  image = np.zeros((8, 6, 3), np.uint8)
  with metric_writer.MetricWriter(tmp_path, resume_step=20) as writer:
    writer.scalars(30, {"d_loss": 0.5})
    writer.images(30, {"samples": image})
  [path] = (tmp_path / "tensorboard").iterdir()
  events = [event_pb2.Event.FromString(record) for record in records(path)]
  values = {v.tag: (e.step, v) for e in events for v in e.summary.value}
  step, scalar = values["d_loss"]
  assert (step, scalar.simple_value) == (30, 0.5)
  step, picture = values["samples"]
  assert (step, picture.image.height, picture.image.width) == (30, 8, 6)
  # Events of steps that the resumed run repeats are purged.
  started = event_pb2.SessionLog.START
  assert [e.step for e in events if e.session_log.status == started] == [21]


def test_without_tensorboardx_the_metrics_are_written_still(
  tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  with metric_writer.MetricWriter(tmp_path) as writer:
    writer.scalars(1, {"loss": 1.0})
    writer.flush()
  assert steps(tmp_path / "metrics.jsonl") == [1]
  assert not (tmp_path / "tensorboard").exists()
