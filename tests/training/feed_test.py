import numpy as np
import pytest
import tiny

from dcgan_inpaint.data import synthetic
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.training import feed

STEPS = 5  # Of half the images each: two epochs and a half.


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
  """A folder of 16 faces; returns the fields of the config that name it."""
  folder = tmp_path_factory.mktemp("faces")
  for i, face in enumerate(synthetic.load("train", 16)):
    pictures.save_png(folder / f"{i:02d}.png", face)
  paths = ("path", "validation_path", "test_path")
  return {"data__name": "folder"} | {f"data__{x}": str(folder) for x in paths}


def load(section="train", devices=4, **fields):
  if section == "encoder":
    config = tiny.encoder_config("", **fields)
  else:
    config = tiny.train_config(**fields)
  return feed.load(config, section, tiny.SHAPE, tiny.mesh(devices))


def seen(images, steps):
  """Returns the batches of some steps, in calls of one and two."""
  batch, found = images.feed(steps), []
  for step in steps[:2]:
    found.append(np.asarray(batch(step, 1)))
  for step in steps[2::2]:
    found.append(np.asarray(batch(step, min(2, steps.stop - step))))
  found = np.concatenate(found)
  return found if images.dataset is None else np.asarray(images.dataset)[found]


@pytest.mark.parametrize("section", ["train", "encoder"])
def test_a_stream_gives_what_lies_on_the_devices(faces, section):
  resident, streamed = (
    load(section, **faces, data__placement=placement)
    for placement in ("device", "stream")
  )
  assert resident.source is None and streamed.dataset is None
  assert resident.count == streamed.count == 16
  assert resident.digest == streamed.digest
  mean = synthetic.load("train", 16).mean(axis=0).round()
  np.testing.assert_array_equal(resident.mean_image, mean)
  np.testing.assert_array_equal(streamed.mean_image, mean)
  expected = seen(resident, range(STEPS))
  assert expected.shape == (STEPS, 8, 64, 64, 3)
  assert len(np.unique(expected, axis=0)) == STEPS
  np.testing.assert_array_equal(seen(streamed, range(STEPS)), expected)
  # A run interrupted in the middle of an epoch resumes at the exact image.
  for images in (resident, streamed):
    later = seen(images, range(3, STEPS))
    np.testing.assert_array_equal(later, expected[3:])


def test_batches_lie_where_the_steps_want_them(faces):
  resident, streamed = (
    load(**faces, data__placement=placement)
    for placement in ("device", "stream")
  )
  indices = resident.feed(range(2))(0, 2)
  assert indices.shape == (2, 8) and indices.is_fully_replicated
  batches = streamed.feed(range(2))(0, 2)
  shards = [shard.data.shape for shard in batches.addressable_shards]
  assert shards == [(2, 2, 64, 64, 3)] * 4


@pytest.mark.parametrize(
  "placement, memory, streams",
  [
    # 16 images of 12,288 bytes over four devices, half of whose memory may be
    # used.
    ("auto", 2 * 4 * 12_288, False),
    ("auto", 2 * 4 * 12_288 - 1, True),
    ("device", 0, False),
    ("stream", 1e12, True),
  ],
)
def test_what_does_not_fit_streams(
  faces, monkeypatch, placement, memory, streams
):
  monkeypatch.setattr(feed, "_device_memory", lambda: memory)
  config = tiny.train_config(**faces, data__placement=placement).data
  source = feed.open_stream(config, tiny.SHAPE, tiny.mesh(4))
  assert (source is not None) == streams
  assert source is None or source.count == 16


@pytest.mark.parametrize("section", ["train", "encoder"])
@pytest.mark.parametrize(
  "batch_size, message",
  [
    (6, "batch_size=6.* 4 devices .*take 8"),
    (32, "16 training images, fewer than .*batch_size=32"),
  ],
)
def test_a_batch_that_cannot_be_is_refused(section, batch_size, message):
  with pytest.raises(errors.UserError, match=message) as refused:
    load(section, **{f"{section}__batch_size": batch_size})
  assert f"config.{section}.batch_size" in str(refused.value)


def test_an_image_that_cannot_be_read_ends_a_stream(faces, tmp_path):
  (tmp_path / "broken.png").write_text("no picture")
  paths = ("path", "validation_path", "test_path")
  broken = {f"data__{x}": str(tmp_path) for x in paths}
  with pytest.raises(errors.UserError, match="image 0 .*cannot be read"):
    load(**faces | broken, data__placement="stream", train__batch_size=4)
