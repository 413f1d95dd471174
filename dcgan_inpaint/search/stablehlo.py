"""A trained model as programs that run without this package.

`fidelity` completes images as `ensemble.Search` does in that mode, with the
mirror image, all encoders and the blending, in one pure function; `generator`
is G alone. Each is serialised by `jax.export` as StableHLO for CPUs, CUDA GPUs
and TPUs and for any number of images. A process with JAX runs it as

  program = jax.export.deserialize(bytearray(path.read_bytes()))
  completed = program.call(weights, images, holes)

The weights are arguments, flat dictionaries of arrays under names with slashes:
XLA would fold constants for minutes. A call of C++ cannot be serialised, so
other convolutions take the place of the native ones: `winograd` on the CPU,
which takes about twice their time, and `dense` elsewhere. (`phases`, and
`by_channels` with it, has a gradient in the kernel that cannot be exported for
any number of images.) JAX promises to read a program for six months.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from flax import traverse_util
import jax
from jax import export
import jax.numpy as jnp

from dcgan_inpaint import pixels
from dcgan_inpaint.search import blending
from dcgan_inpaint.search import bundle
from dcgan_inpaint.search import latent_search
from dcgan_inpaint.search import programs
from dcgan_inpaint.search import settings as search_settings

PLATFORMS = ("cpu", "cuda", "tpu")

# {'generator/params/dense/kernel': array}.
Arrays = Mapping[str, Any]


def flatten(networks: Mapping[str, Any]) -> dict[str, Any]:
  """Returns networks as the flat arrays that the programs take.

  Args:
    networks: {name: variables}, of `trained_model.as_arrays`.
  """
  there = {name: x for name, x in networks.items() if x is not None}
  return traverse_util.flatten_dict(there, sep="/")


def generator(networks: bundle.NetworkBundle, arrays: Arrays) -> bytes:
  """Returns G, serialised, with its gradients of the first order.

  The program takes `arrays` and latents float32 [N, latent_size] in [-1, 1],
  and returns images float32 [N, S, S, C] in [-1, 1].

  Args:
    networks: of the model.
    arrays: of `flatten`, those of the generator alone, or their shapes.
  """

  def generate(
    networks: bundle.NetworkBundle, arrays: Arrays, latents: jax.Array
  ) -> jax.Array:
    return networks.generate(_weights(arrays), latents)

  (count,) = export.symbolic_shape("n")
  latents = jax.ShapeDtypeStruct((count, networks.latent_size), jnp.float32)
  return _serialise(generate, networks, arrays, latents, vjp_order=1)


def fidelity(
  networks: bundle.NetworkBundle,
  settings: search_settings.SearchSettings,
  arrays: Arrays,
) -> bytes:
  """Returns the completion of images, serialised.

  The program takes `arrays`, images uint8 [N, S, S, C], whose values under a
  hole are ignored, and holes bool [N, S, S], True = to be filled. It returns
  the completed images, uint8 [N, S, S, C].

  Args:
    networks: of the model, with its encoder.
    settings: of the mode `fidelity`.
    arrays: of `flatten`, those of the generator and the encoders, or their
      shapes.

  Raises:
    ValueError: the settings are not those of a search that this can export: one
      start an image from an encoder, without a prior or stronger details.
  """
  if (
    settings.start != "encoder"
    or settings.starts > 1
    or settings.prior_weight
    or settings.detail_gain != 1
  ):
    raise ValueError(f"this search cannot be exported: {settings}")
  settings = settings.for_layers(networks.generator.layers)
  (count,) = export.symbolic_shape("n")
  shape = (count, *networks.generator.image_shape)
  return _serialise(
    functools.partial(complete, settings=settings),
    networks,
    arrays,
    jax.ShapeDtypeStruct(shape, jnp.uint8),
    jax.ShapeDtypeStruct(shape[:3], jnp.bool_),
  )


def complete(
  networks: bundle.NetworkBundle,
  arrays: Arrays,
  images: jax.Array,
  holes: jax.Array,
  settings: search_settings.SearchSettings,
) -> jax.Array:
  """Completes images as `ensemble.Search` does: each one's first sample.

  Args:
    networks: of the model.
    arrays: of `flatten`.
    images: uint8 [N, S, S, C].
    holes: bool [N, S, S].
    settings: of the search.
  """
  dtype = jnp.dtype(settings.dtype)
  networks = dataclasses.replace(
    networks,
    generator=networks.generator.clone(dtype=dtype),
    encoder=networks.encoder and networks.encoder.clone(dtype=dtype),
  )
  masks = jnp.float32(~holes[..., None])
  known = jnp.where(masks > 0.5, pixels.to_float(images), 0)
  members = bundle.each_encoder(_weights(arrays), settings.encoders)
  number = jnp.zeros(images.shape[:1], jnp.uint32)
  seed = jnp.uint32(settings.seed)

  def find(
    weights: bundle.Weights, images: jax.Array, masks: jax.Array
  ) -> jax.Array:
    problems = latent_search.Problem(images, masks, number, number)
    states = programs.begin(networks, settings, weights, seed, problems)
    for stage in latent_search.stages(settings):
      if stage.variable == "offset":  # The encoder's own start does not settle.
        continue
      states = programs.enter(networks, settings, stage, weights, states)
      states = programs.advance(
        networks, settings, stage, stage.steps, weights, states, problems
      )
    found, _, _ = programs.end(networks, settings, weights, states, problems)
    return found

  generated = [find(x, known, masks) for x in members]
  if settings.mirrored:
    turned = known[:, :, ::-1], masks[:, :, ::-1]
    generated += [find(x, *turned)[:, :, ::-1] for x in members]
  mean = jnp.mean(jnp.stack(generated), axis=0)
  scale = images.shape[1] / search_settings.SIDE
  filled = blending.fill(settings.blending, mean, known, masks, scale=scale)
  return jnp.where(holes[..., None], pixels.to_uint8(filled), images)


def _weights(arrays: Arrays) -> bundle.Weights:
  """Returns the networks of `flatten`, without D, which is not used."""
  networks = traverse_util.unflatten_dict(dict(arrays), sep="/")
  generator = networks.pop("generator")
  encoders = [networks[name] for name in sorted(networks, key=_number)]
  return bundle.Weights(
    generator,
    discriminator={},
    encoder=encoders[0] if encoders else None,
    other_encoders=tuple(encoders[1:]),
  )


def _number(name: str) -> int:
  """Returns the place of 'encoder', 'encoder_2' and so on."""
  return int(name.removeprefix("encoder").removeprefix("_") or 1)


def _serialise(
  function: Callable[..., jax.Array],
  networks: bundle.NetworkBundle,
  *shapes: Any,
  vjp_order: int = 0,
) -> bytes:
  """Returns a function of networks and arrays, serialised for all platforms.

  Args:
    function: of the networks, and of what has the shapes.
    networks: with any convolutions, which others take the place of.
    *shapes: of the program's arguments, or arrays of these shapes.
    vjp_order: of the gradients that are to be had.
  """

  def run(*arguments: Any) -> jax.Array:
    on_cpu, elsewhere = (
      functools.partial(function, _portable(networks, on_cpu=on_cpu))
      for on_cpu in (True, False)
    )
    return jax.lax.platform_dependent(*arguments, cpu=on_cpu, default=elsewhere)

  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes
  )
  exported = export.export(jax.jit(run), platforms=PLATFORMS)(*shapes)
  return bytes(exported.serialize(vjp_order=vjp_order))


def _portable(
  networks: bundle.NetworkBundle, *, on_cpu: bool
) -> bundle.NetworkBundle:
  """Returns the networks with convolutions that can be serialised."""
  implementation = "winograd" if on_cpu else "dense"
  encoder = networks.encoder
  return dataclasses.replace(
    networks,
    generator=networks.generator.clone(implementation=implementation),
    encoder=encoder and encoder.clone(implementation=implementation),
  )
