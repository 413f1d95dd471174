import numpy as np
import pytest
import tiny_encoder

from dcgan_inpaint.training import warm_start


@pytest.mark.slow
def test_growing_keeps_what_the_smaller_encoder_knows():
  smaller, fresh = (
    tiny_encoder.first_variables(tiny_encoder.create(rank=rank), seed)
    for seed, rank in enumerate((3, 5))
  )
  grown = warm_start.grow(fresh, smaller)["params"]
  kernel = grown["mix_in"]["kernel"]
  np.testing.assert_array_equal(
    kernel[:, :3], smaller["params"]["mix_in"]["kernel"]
  )
  np.testing.assert_array_equal(
    kernel[:, 3:], fresh["params"]["mix_in"]["kernel"][:, 3:]
  )
  np.testing.assert_array_equal(
    grown["mix_out"]["kernel"],
    np.concatenate(
      [
        smaller["params"]["mix_out"]["kernel"],
        fresh["params"]["mix_out"]["kernel"][3:],
      ]
    ),
  )
  for name in ("conv_0", "conv_1"):
    np.testing.assert_array_equal(
      grown[name]["kernel"], smaller["params"][name]["kernel"]
    )
