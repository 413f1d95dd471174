import functools

import numpy as np
import pytest

from dcgan_inpaint.jobs import benchmark_parts

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
PART = benchmark_parts.Part(
  metrics={"mse": np.float32([1, np.nan, 3])},
  failed=np.array([False, True, False]),
  seconds=1.5,
  fit_seconds=float("nan"),
  pictures=PICTURES,
  features={"raw": np.float32([[1, 2], [3, 4], [5, 6]])},
)


def assert_same(part, expected):
  assert part._fields == expected._fields
  for value, wanted in zip(part, expected, strict=True):
    np.testing.assert_equal(value, wanted)


def test_a_part_comes_back_with_the_pictures_that_are_shown(tmp_path):
  path = tmp_path / "grey" / "part.npz"
  benchmark_parts.write(path, "digest", PART)
  assert_same(benchmark_parts.read(path, "digest", 2), PART)
  one = PART._replace(pictures=PICTURES[:1])
  assert_same(benchmark_parts.read(path, "digest", 1), one)
  # More pictures than it has, another digest, or no file: it is run.
  assert benchmark_parts.read(path, "digest", 3) is None
  assert benchmark_parts.read(path, "other", 2) is None
  assert benchmark_parts.read(tmp_path / "none.npz", "digest", 2) is None
  # Likewise where features are wanted that it lacks.
  assert_same(benchmark_parts.read(path, "digest", 2, ["raw"]), PART)
  assert benchmark_parts.read(path, "digest", 2, ["raw", "dlib"]) is None


def test_a_part_with_the_placeholder_of_older_files_is_read(tmp_path):
  fields = PART._asdict()
  metrics = fields.pop("metrics")
  del fields["features"]
  path = tmp_path / "part.npz"
  np.savez(path, digest="digest", **metrics, **fields, figures=0)
  assert_same(
    benchmark_parts.read(path, "digest", 2), PART._replace(features={})
  )


@pytest.mark.parametrize(
  "fields",
  [
    {"failed": np.zeros(2, bool)},
    {"failed": np.zeros(3)},
    {"metrics": {"mse": np.float32([1, 2])}},
    {"metrics": {"mse": np.array(["a", "b", "c"])}},
    {"metrics": {"mse": np.float32([-1, 2, 3])}},
    {"metrics": {"mse": np.float32([7e4, 2, 3])}},
    {"metrics": {"ssim": np.float32([1.2, 1, 1])}},
    {"metrics": {"hole_psnr": np.float32([-3, np.inf, 1])}},
    {"metrics": {"mse": np.float32([1, 2, 3]), "more": np.zeros(3)}},
    {"metrics": {}},
    {"pictures": PICTURES[:, :2]},
    {"pictures": np.float32(PICTURES)},
    {"seconds": -1.0},
    {"seconds": np.inf},
    {"seconds": "long"},
  ],
)
def test_a_part_that_cannot_be_is_run_again(tmp_path, fields, caplog):
  path = tmp_path / "part.npz"
  benchmark_parts.write(path, "digest", PART._replace(**fields))
  read = functools.partial(
    benchmark_parts.read, path, "digest", 2,
    image_shape=PICTURES.shape[1:], count=3, names=["mse"],
  )  # fmt: skip
  assert read() is None
  assert str(path) in caplog.text
  benchmark_parts.write(path, "digest", PART)
  assert_same(read(), PART)


@pytest.mark.parametrize(
  "mask, name",
  [
    ("centre 20", "centre_20"),
    ("random 50 %", "random_50"),
    ("box:position=8,8", "box_position_8_8"),
    ("../Holes.PNG", "holes.png"),
  ],
)
def test_a_mask_names_its_folder_safely(mask, name):
  assert benchmark_parts.file_name(mask) == name


def test_parts_are_joined_in_order():
  fitted = PART._replace(fit_seconds=4.0)
  joined = benchmark_parts.join([fitted, fitted._replace(fit_seconds=6.0)])
  np.testing.assert_equal(joined.metrics["mse"], [1, np.nan, 3] * 2)
  np.testing.assert_equal(joined.failed, [False, True, False] * 2)
  np.testing.assert_equal(joined.pictures, np.concatenate([PICTURES] * 2))
  # The time is all of it; a fit is the same one, timed twice.
  assert (joined.seconds, joined.fit_seconds) == (3.0, 5.0)
  np.testing.assert_equal(
    joined.features["raw"], np.tile(PART.features["raw"], (2, 1))
  )
