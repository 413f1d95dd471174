import functools
import pathlib

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import dcgan
from dcgan_inpaint.networks import native

GOLDEN = pathlib.Path(__file__).with_name("dcgan_golden.npz")

# The paper's tables 1 and 2, at width 1: the output of each layer.
GENERATOR_TABLE = {
  "dense": (4 * 4 * 1024,),
  "batch_norm_0": (4, 4, 1024),
  "deconv_1": (8, 8, 512),
  "batch_norm_1": (8, 8, 512),
  "deconv_2": (16, 16, 256),
  "batch_norm_2": (16, 16, 256),
  "deconv_3": (32, 32, 128),
  "batch_norm_3": (32, 32, 128),
  "deconv_4": (64, 64, 3),
}
DISCRIMINATOR_TABLE = {
  "conv_0": (32, 32, 64),
  "conv_1": (16, 16, 128),
  "batch_norm_1": (16, 16, 128),
  "conv_2": (8, 8, 256),
  "batch_norm_2": (8, 8, 256),
  "conv_3": (4, 4, 512),
  "batch_norm_3": (4, 4, 512),
  "dense": (1,),
}

LATENTS = np.zeros((2, 100), np.float32)
IMAGES = np.zeros((2, 64, 64, 3), np.float32)
PAPERS = {
  "generator": (dcgan.Generator(), LATENTS, GENERATOR_TABLE),
  "discriminator": (dcgan.Discriminator(), IMAGES, DISCRIMINATOR_TABLE),
}

every_network = pytest.mark.parametrize("network", PAPERS)


def init(module, example):
  # JAX's default random numbers take long to compile.
  key = jax.random.key(0, impl="rbg")
  # Compiled, so that the forward pass is left out.
  return jax.jit(lambda key: module.init(key, example, train=False))(key)


def abstract(module, example):
  """Returns shapes and types of the variables, without computing them."""
  return jax.eval_shape(lambda: init(module, example))


def layers(module, example, train):
  """Returns the type and shape of each layer's output, and the network's."""

  def apply(variables):
    return module.apply(
      variables,
      example,
      train=train,
      capture_intermediates=True,
      mutable=["intermediates", "batch_stats"],
    )

  output, state = jax.eval_shape(apply, abstract(module, example))
  given = state["intermediates"]
  del given["__call__"]
  return output, {name: value["__call__"][0] for name, value in given.items()}


@every_network
@pytest.mark.parametrize("train", [False, True])
def test_every_layer_gives_what_the_papers_table_says(network, train):
  module, example, table = PAPERS[network]
  output, given = layers(module, example, train)
  assert {name: value.shape[1:] for name, value in given.items()} == table
  assert output.shape == (2, *list(table.values())[-1])


@pytest.mark.parametrize(
  "network, count",
  [
    (
      "generator",
      100 * 4 * 4 * 1024
      + 5 * 5 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
      + 3  # The last layer's bias.
      + 2 * (1024 + 512 + 256 + 128),  # Scales and biases of BatchNorm.
    ),
    (
      "discriminator",
      5 * 5 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
      + 64
      + 2 * (128 + 256 + 512)
      + (4 * 4 * 512 + 1),
    ),
  ],
)
def test_parameter_count_at_the_papers_width(network, count):
  module, example, _ = PAPERS[network]
  assert dcgan.parameter_count(abstract(module, example)) == count


@every_network
def test_width_scales_every_layer_between_input_and_output(network):
  module, example, table = PAPERS[network]
  _, given = layers(module.clone(width=0.25), example, False)
  *inner, last = table
  for name in inner:
    assert given[name].shape[-1] == table[name][-1] // 4, name
  assert given[last].shape[1:] == table[last]


def test_the_thinnest_network_keeps_a_channel():
  assert dcgan.channel_counts(512, 64, 0.0001) == (1, 1, 1, 1)
  assert dcgan.channel_counts(512, 64, 0.006) == (3, 2, 1, 1)


# The channels at 4x4, 8x8 and so on to half the image's side, of G and D.
SIZES = {
  32: ((1024, 512, 256), (512, 256, 128)),
  128: ((1024, 512, 256, 128, 64), (512, 256, 128, 64, 32)),
  256: ((1024, 512, 256, 128, 64, 32), (512, 256, 128, 64, 32, 16)),
}


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_other_sizes_add_or_drop_layers_at_the_end_of_the_image(size, colours):
  of_g, of_d = SIZES[size]
  generator = dcgan.Generator(image_size=size, image_channels=colours)
  assert generator.image_shape == (size, size, colours)
  assert generator.channels == of_g
  expected = {"dense": (16 * 1024,), "batch_norm_0": (4, 4, 1024)}
  for layer, count in enumerate([*of_g[1:], colours], start=1):
    side = 4 * 2**layer
    expected[f"deconv_{layer}"] = (side, side, count)
    expected[f"batch_norm_{layer}"] = (side, side, count)
  del expected[f"batch_norm_{generator.layers}"]
  images, given = layers(generator, LATENTS, True)
  assert {name: value.shape[1:] for name, value in given.items()} == expected
  assert images.shape == (2, size, size, colours)

  discriminator = dcgan.Discriminator(image_size=size)
  expected = {"dense": (1,)}
  for layer, count in enumerate(of_d[::-1]):
    side = size // 2 ** (layer + 1)
    expected[f"conv_{layer}"] = (side, side, count)
    expected[f"batch_norm_{layer}"] = (side, side, count)
  del expected["batch_norm_0"]
  _, given = layers(discriminator, np.zeros(images.shape, np.float32), True)
  assert {name: value.shape[1:] for name, value in given.items()} == expected


@pytest.mark.parametrize("size", [0, 4, 48, 100])
def test_a_side_that_no_layers_reach_is_refused(size):
  with pytest.raises(ValueError, match=rf"{size} .*32, 64, 128"):
    dcgan.channel_counts(1024, size, 1)


@every_network
def test_only_layers_without_batch_norm_have_a_bias(network):
  module, example, _ = PAPERS[network]
  params = traverse_util.flatten_dict(abstract(module, example)["params"])
  biased = {layer for layer, name in params if name == "bias"}
  kernels = {layer for layer, name in params if name == "kernel"}
  free = {"generator": {"deconv_4"}, "discriminator": {"conv_0", "dense"}}
  assert kernels & biased == free[network]


@every_network
def test_weights_start_as_in_dcgan(network):
  # The layers of a small network: no layer draws otherwise than another.
  module, example, _ = PAPERS[network]
  module = module.clone(width=0.125, image_size=16)
  if network == "discriminator":
    example = example[:, :16, :16]
  variables = traverse_util.flatten_dict(init(module, example))
  for path, value in variables.items():
    match path[-1]:
      case "kernel":
        error = 5 * 0.02 / np.sqrt(value.size)
        assert abs(np.mean(value)) < error, path
        assert abs(np.std(value) - 0.02) < error, path
      case "scale" | "var":
        np.testing.assert_array_equal(value, 1)
      case "bias" | "mean":
        np.testing.assert_array_equal(value, 0)
      case other:
        pytest.fail(f"who is {other}?")


@every_network
@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_computes_in_it_and_keeps_the_rest_in_float32(network, train):
  module, example, _ = PAPERS[network]
  module = module.clone(dtype=jnp.bfloat16)
  variables = abstract(module, example)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype("float32")
  }
  output, updated = jax.eval_shape(
    lambda v: module.apply(v, example, train=train, mutable=["batch_stats"]),
    variables,
  )
  assert output.dtype == jnp.float32
  assert jax.tree.map(lambda x: x.dtype, updated) == {
    "batch_stats": jax.tree.map(lambda x: x.dtype, variables["batch_stats"])
  }
  _, given = layers(module, example, train)
  if network == "discriminator":
    # A bfloat16 logit would have only three digits.
    assert given.pop("dense").dtype == jnp.float32
  assert {value.dtype for value in given.values()} == {jnp.dtype("bfloat16")}


def test_images_fill_the_range_of_tanh_and_no_more():
  generator, _ = tiny.networks()
  variables = tiny.variables(generator, np.zeros((1, tiny.LATENT_SIZE)))
  latents = dcgan.sample_latents(jax.random.key(0), 4, tiny.LATENT_SIZE)
  images = jax.jit(lambda v, z: generator.apply(v, z, train=False))(
    variables, 10 * latents
  )
  assert -1 <= images.min() < -0.9
  assert 0.9 < images.max() <= 1


def test_the_generator_goes_on_from_the_activations_of_any_layer():
  generator, _ = tiny.networks()
  latents = np.random.default_rng(0).uniform(-1, 1, (2, tiny.LATENT_SIZE))
  variables = tiny.variables(generator, np.float32(latents))

  @jax.jit
  def parts(variables, latents):
    def apply(x, method, **options):
      return generator.apply(
        variables, x, train=False, method=method, **options
      )

    first = apply(latents, "first_activations")
    inside = [
      apply(first, "later_activations", last=layer) for layer in (1, 2, 3, 4)
    ]
    images = [
      apply(x, "from_activations", layer=layer)
      for layer, x in enumerate(inside, start=1)
    ]
    # In two steps, too.
    late = apply(inside[1], "later_activations", first=2, last=4)
    return (
      generator.apply(variables, latents, train=False),
      inside,
      images,
      late,
    )

  whole, inside, images, late = parts(variables, np.float32(latents))
  sides = [x.shape[1:3] for x in inside]
  assert sides == [(4, 4), (8, 8), (16, 16), (32, 32)]
  assert np.std(whole) > 0.05
  for image in images:
    np.testing.assert_allclose(image, whole, atol=1e-5)
  np.testing.assert_allclose(late, inside[3], atol=1e-5)


def test_create_hands_on_every_field():
  config = config_lib.model()
  config.width = 0.5
  config.dtype = "bfloat16"
  config.batch_norm_momentum = 0.7
  config.convolution = "plain"
  config.image_size, config.image_channels = 128, 1
  generator, _ = dcgan.create(config, 2)
  assert generator.image_channels == 1
  for network in dcgan.create(config, 2):
    assert network.image_size == 128
    assert network.width == 0.5
    assert network.dtype == jnp.bfloat16
    assert network.batch_norm_momentum == 0.7
    assert network.implementation == "plain"
  assert network.outputs == 2


def test_a_model_of_an_older_format_has_the_papers_size():
  config = config_lib.model()
  del config.image_size, config.image_channels
  generator, discriminator = dcgan.create(config, 1)
  assert generator.image_shape == (64, 64, 3)
  assert discriminator.image_size == 64


def test_latents_are_uniform_and_a_function_of_the_key():
  latents = dcgan.sample_latents(jax.random.key(1), 400, 50)
  again = dcgan.sample_latents(jax.random.key(1), 400, 50)
  assert latents.shape == (400, 50)
  assert latents.dtype == jnp.float32
  np.testing.assert_array_equal(latents, again)
  counts, _ = np.histogram(latents, bins=10, range=(-1, 1))
  assert counts.sum() == latents.size
  np.testing.assert_allclose(counts, 2000, atol=250)  # Six deviations.


# --- against Flax's own layers ----------------------------------------------


class PlainGenerator(nn.Module):
  """Table 1 in Flax's own layers, with the names of `dcgan.Generator`."""

  channels: tuple
  colours: int = 3

  @nn.compact
  def __call__(self, z, train):
    def norm(layer):
      return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        name=f"batch_norm_{layer}",
      )

    first, *others = self.channels
    x = nn.Dense(16 * first, use_bias=False, name="dense")(z)
    x = nn.relu(norm(0)(x.reshape(-1, 4, 4, first)))
    for layer, features in enumerate(others, start=1):
      x = nn.ConvTranspose(
        features, (5, 5), (2, 2), use_bias=False, name=f"deconv_{layer}"
      )(x)
      x = nn.relu(norm(layer)(x))
    last = f"deconv_{len(self.channels)}"
    return nn.tanh(nn.ConvTranspose(self.colours, (5, 5), (2, 2), name=last)(x))


class PlainDiscriminator(nn.Module):
  """Table 2 in Flax's own layers, with the names of `dcgan.Discriminator`."""

  channels: tuple

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(self.channels[0], (5, 5), (2, 2), name="conv_0")(x)
    x = nn.leaky_relu(x, 0.2)
    for layer, features in enumerate(self.channels[1:], start=1):
      x = nn.Conv(
        features, (5, 5), (2, 2), use_bias=False, name=f"conv_{layer}"
      )(x)
      x = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        name=f"batch_norm_{layer}",
      )(x)
      x = nn.leaky_relu(x, 0.2)
    return nn.Dense(1, name="dense")(x.reshape(len(x), -1))


def example(network, implementation="auto"):
  """Returns a tiny network, the same in Flax's layers, variables, inputs."""
  rng = np.random.RandomState(7)
  generator, discriminator = tiny.networks(implementation=implementation)
  if network == "generator":
    plain = PlainGenerator((31, 15, 8, 4))
    inputs = rng.uniform(-1, 1, (3, tiny.LATENT_SIZE))
    module = generator
  else:
    plain = PlainDiscriminator((2, 4, 8, 15))
    inputs = rng.uniform(-1, 1, (3, 64, 64, 3))
    module = discriminator
  inputs = np.float32(inputs)
  return module, plain, tiny.variables(module, inputs), inputs


@functools.cache
def of_flax(network):
  """Returns the output of Flax's own layers for `example`."""
  _, plain, variables, inputs = example(network)
  return jax.jit(functools.partial(plain.apply, train=False))(variables, inputs)


@every_network
@pytest.mark.parametrize(
  "implementation",
  [
    # Of which 'by_channels' is made, and which convolutions_test.py compares
    # one by one.
    pytest.param(name, marks=pytest.mark.slow)
    if name in ("padded", "dense", "phases", "winograd")
    else name
    for name in convolutions.IMPLEMENTATIONS
  ],
)
def test_equals_flaxs_own_layers(network, implementation):
  if implementation == "native" and native.build():
    pytest.skip("needs the CPU and a C++ compiler")
  module, _, variables, inputs = example(network, implementation)
  actual = jax.jit(lambda v, x: module.apply(v, x, train=False))
  np.testing.assert_allclose(
    actual(variables, inputs), of_flax(network), rtol=0, atol=1e-5
  )
  prepared = dcgan.prepare(module, variables)
  np.testing.assert_array_equal(
    actual(prepared, inputs), actual(variables, inputs)
  )


@every_network
def test_training_equals_flaxs_own_layers_in_statistics_too(network):
  module, plain, variables, inputs = example(network)

  def apply(network):
    return jax.jit(
      lambda v: network.apply(v, inputs, train=True, mutable=["batch_stats"])
    )(variables)

  def check(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

  jax.tree.map(check, apply(module), apply(plain))


@pytest.mark.slow
# A size, its colours, and the channels at the width below, of G and D.
@every_network
@pytest.mark.parametrize(
  "size, colours, of_g, of_d",
  [
    (32, 1, (31, 15, 8), (4, 8, 15)),
    (128, 3, (31, 15, 8, 4, 2), (1, 2, 4, 8, 15)),
    pytest.param(
      256, 1, (31, 15, 8, 4, 2, 1), (1, 1, 2, 4, 8, 15), marks=pytest.mark.slow
    ),
  ],
)
def test_other_sizes_equal_flaxs_own_layers_in_gradients_too(
  network, size, colours, of_g, of_d
):
  generator, discriminator = tiny.networks(
    image_size=size, image_channels=colours
  )
  rng = np.random.RandomState(7)
  if network == "generator":
    module, plain = generator, PlainGenerator(of_g, colours)
    inputs = np.float32(rng.uniform(-1, 1, (2, tiny.LATENT_SIZE)))
  else:
    module, plain = discriminator, PlainDiscriminator(of_d)
    inputs = np.float32(rng.uniform(-1, 1, (2, *generator.image_shape)))
  variables = tiny.variables(module, inputs)

  def value_and_gradients(network):
    def total(variables, inputs):
      output = network.apply(variables, inputs, train=False)
      return jnp.sum(output**2), output

    return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(
      variables, inputs
    )

  def check(actual, expected):
    scale = max(1e-3, np.abs(expected).max())
    np.testing.assert_allclose(actual / scale, expected / scale, 0, 1e-4)

  jax.tree.map(check, value_and_gradients(module), value_and_gradients(plain))


# --- against stored outputs of correct networks ------------------------------


def forward(network):
  """Returns the golden values: some of the pixels, or the logits."""
  module, _, variables, inputs = example(network)
  apply = jax.jit(lambda v, x: module.apply(v, x, train=False))
  output = np.asarray(apply(variables, inputs))
  return output[:, ::4, 1::4] if network == "generator" else output


@every_network
def test_forward_pass_is_the_golden_one(network):
  """`python tests/networks/dcgan_test.py` rewrites the file."""
  with np.load(GOLDEN) as golden:
    expected = golden[network]
  assert expected.std() > 0.1
  np.testing.assert_allclose(forward(network), expected, rtol=0, atol=1e-4)


if __name__ == "__main__":
  np.savez_compressed(GOLDEN, **{name: forward(name) for name in PAPERS})
