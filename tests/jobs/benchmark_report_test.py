import numpy as np
import pytest

from dcgan_inpaint.jobs import benchmark_report


@pytest.mark.parametrize(
  "share, area",
  [
    (0.01, "0-10 %"),
    (0.1, "0-10 %"),
    (0.1 + 1e-9, "0-10 %"),
    (0.11, "10-20 %"),
    (0.3, "20-30 %"),
    (1.0, "90-100 %"),
  ],
)
def test_a_bin_holds_its_upper_bound(share, area):
  chosen = dict(benchmark_report._areas(np.array([share, 0.55])))
  assert len(chosen) == 10
  assert [name for name, images in chosen.items() if images[0]] == [area]
  assert [name for name, images in chosen.items() if images[1]] == ["50-60 %"]
