import importlib.util

import ml_collections
import numpy as np
import pytest

from dcgan_inpaint.jobs import scored_features
from dcgan_inpaint.metrics import features


def section(listed):
  return ml_collections.ConfigDict({"features": listed, "inception": "w.npz"})


@pytest.mark.parametrize(
  "data, installed, expected",
  [
    ("celeba", True, ("dlib",)),
    ("celeba", False, ()),
    # Whether these are faces of that crop, nobody knows.
    ("folder", True, ()),
    ("synthetic", True, ()),
  ],
)
def test_faces_of_celeba_are_scored_where_the_library_is(
  monkeypatch, data, installed, expected
):
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: installed or None
  )
  config = ml_collections.ConfigDict({"name": data})
  assert scored_features.names(section("auto"), config, "here") == expected


@pytest.mark.parametrize(
  "listed, expected",
  [
    ("", ()),
    ("raw, inception,raw", ("raw", "inception")),
    (("dlib",), ("dlib",)),
  ],
)
def test_features_are_named_in_text_or_tuples(listed, expected):
  config = ml_collections.ConfigDict({"name": "synthetic"})
  assert scored_features.names(section(listed), config, "here") == expected


def test_images_that_do_not_count_change_nothing():
  raw = features.Features("raw", lambda images: images.mean((1, 2)))
  rng = np.random.default_rng(0)
  found, originals = rng.random((2, 6, 3))
  chosen = np.array([True, True, False, True, True, True])
  row = scored_features.score([raw], {"raw": found}, {"raw": originals}, chosen)
  found[2] = np.nan
  assert row == scored_features.score(
    [raw], {"raw": found}, {"raw": originals}, chosen
  )
  assert row["raw_n"] == 5
  none = np.zeros(6, bool)
  assert not scored_features.score([raw], {"raw": found}, {}, none)
