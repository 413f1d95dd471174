import gc
import sys

import numpy as np
from orbax.checkpoint._src.serialization import tensorstore_utils
import pytest
import tensorstore as ts

from dcgan_inpaint.training import checkpoints as checkpoints_lib

SAVES = 40
ARRAYS = 20


@pytest.mark.slow
def test_saves_lose_no_memory(tmp_path):
  state = {f"w{i}": np.full((8, 8), i, np.float32) for i in range(ARRAYS)}
  blocks = []
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    for step in range(SAVES):
      checkpoints.save(step, state, {"images": 1}, error=1.0)
      checkpoints._manager.wait_until_finished()
      gc.collect()
      blocks.append(sys.getallocatedblocks())
  # By now all is imported and every cache is filled.
  lost = (blocks[-1] - blocks[SAVES // 2]) / (SAVES - 1 - SAVES // 2)
  # TensorStore's leak would take several for each array, and 250 for metrics.
  assert lost < 2 * ARRAYS


def test_what_is_saved_is_found_under_the_same_paths(tmp_path):
  """What is asked once a save is what TensorStore says of each array."""
  with checkpoints_lib.Checkpoints(tmp_path) as checkpoints:
    spec = {"driver": "file", "path": f"{tmp_path}/a/"}
    instead = tensorstore_utils.ts.KvStore.Spec(spec)
    expected = ts.KvStore.Spec(spec).to_json()
    assert instead.to_json() == expected
    # A caller may change what it gets.
    instead.to_json().clear()
    assert instead.to_json() == expected
    checkpoints.save(0, {"w": np.ones(3)}, {"images": 1}, error=1.0)
    assert checkpoints.steps() == [0]
