"""Operations by hand, from the paper's two tables."""

import pytest

from dcgan_inpaint.networks import flops

# Products, layer by layer, at width 1: pixels of the smaller side, taps,
# channels of both sides.
PAPER = (64, 64, 3)
DENSE = 100 * 4 * 4 * 1024
DECONVOLUTIONS = (
  16 * 25 * 1024 * 512,
  64 * 25 * 512 * 256,
  256 * 25 * 256 * 128,
  1024 * 25 * 128 * 3,
)
CONVOLUTIONS = (
  1024 * 25 * 3 * 64,
  256 * 25 * 64 * 128,
  64 * 25 * 128 * 256,
  16 * 25 * 256 * 512,
)
LOGIT = 4 * 4 * 512


def test_a_pass_at_full_width_is_the_sum_over_the_papers_layers():
  assert flops.generator(1, 100, PAPER) == 2 * (DENSE + sum(DECONVOLUTIONS))
  assert flops.discriminator(1, PAPER) == 2 * (sum(CONVOLUTIONS) + LOGIT)
  assert flops.generator(1, 100, PAPER) == pytest.approx(1.28e9, rel=2e-3)
  assert flops.discriminator(1, PAPER) == pytest.approx(0.325e9, rel=2e-3)
  assert (
    flops.discriminator(1, PAPER, 2) - flops.discriminator(1, PAPER)
    == 2 * LOGIT
  )


@pytest.mark.parametrize("shape", [(32, 32, 1), (128, 128, 3), (256, 256, 1)])
def test_at_other_sizes_each_layer_between_costs_as_much_as_the_others(shape):
  side, _, colours = shape
  between = side.bit_length() - 4  # Layers that do not meet the image.
  finest = 128 * 64 // side  # Channels at half the image's side, of G.
  image = (side // 2) ** 2 * 25 * colours
  assert flops.generator(1, 100, shape) == 2 * (
    DENSE + between * DECONVOLUTIONS[0] + image * finest
  )
  assert flops.discriminator(1, shape) == 2 * (
    LOGIT + between * CONVOLUTIONS[1] + image * finest // 2
  )
  assert flops.search_step(1, 100, shape) == 2 * (
    flops.generator(1, 100, shape) + flops.discriminator(1, shape)
  )
  # As below, layer by layer.
  assert flops.train_step(1, 100, shape) == 2 * (
    2 * DENSE
    + 3 * (between * DECONVOLUTIONS[0] + image * finest)
    + 8 * (LOGIT + between * CONVOLUTIONS[1])
    + 6 * image * finest // 2
  )


def test_a_training_step_counts_each_layers_gradients_where_they_are_needed():
  passes = {
    # Forward pass and gradient of the kernel; for the others the gradient of
    # the activations, too.
    DENSE: 2,
    DECONVOLUTIONS[3]: 3,
    # Real and generated: forward pass and both gradients; then G's update.
    CONVOLUTIONS[0]: 2 * 2 + 2,
    LOGIT: 2 * 3 + 2,
  }
  expected = sum(products * count for products, count in passes.items())
  # Three layers of each network have the same size.
  expected += 3 * sum(DECONVOLUTIONS[:3]) + (2 * 3 + 2) * sum(CONVOLUTIONS[1:])
  assert flops.train_step(1, 100, PAPER) == 2 * expected


def test_a_search_step_goes_forwards_and_back():
  both = flops.generator(0.25, 100, PAPER) + flops.discriminator(0.25, PAPER)
  assert flops.search_step(0.25, 100, PAPER) == 2 * both
  assert flops.search_step(
    0.25, 100, PAPER, prior=False
  ) == 2 * flops.generator(0.25, 100, PAPER)


def test_half_the_width_is_about_a_quarter_of_the_operations():
  assert flops.train_step(0.5, 100, PAPER) / flops.train_step(
    1, 100, PAPER
  ) == pytest.approx(0.25, abs=0.01)
