"""Prints the tables of docs/scaling.md from the compiled training step.

  python docs/scaling_table.py            # prints them
  python docs/scaling_table.py --write    # puts them into docs/scaling.md

What is counted (operations, bytes that are all-reduced, memory) is read from
the program that XLA compiles of the paper's training and search, at full width,
for two devices made of the CPU; nothing is run. What is assumed of the hardware
is in `HARDWARE`, from the vendors' data sheets.
"""

import math
import pathlib
import re
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_inpaint import config as config_lib
from dcgan_inpaint.networks import losses
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.training import gan
from dcgan_inpaint.training import loop

PAGE = pathlib.Path(__file__).with_name("scaling.md")
DEVICES = (8, 64, 512, 4096)
# Images a device and step.
BATCH = 128
# The share of the peak that the convolutions reach; not measured here.
UTILISATION = 0.4
IMAGES = 10**9
# Name, starts, steps, and whether the loss uses the discriminator.
SEARCHES = (
  ("paper: 1 start of 1,000 steps", 1, 1000, True),
  ("4 starts of 250 steps", 4, 250, True),
  # Refinements inside G, which cost at most what steps on z cost.
  ("fidelity, realism: 2 x 30 steps, for the mirror image too", 2, 30, False),
  ("the same with two encoders, as the package has them", 4, 30, False),
)


class Hardware(NamedTuple):
  """What is assumed of an accelerator.

  Attributes:
    flops: peak operations a second in bfloat16, dense.
    memory: bytes.
    group: how many devices the fast links join.
    fast: bytes a second and device, each way, within a group.
    slow: bytes a second and device, each way, between groups.
    latency: seconds that a hop of an all-reduce takes, regardless of its size.
  """

  flops: float
  memory: float
  group: int
  fast: float
  slow: float
  latency: float


HARDWARE = {
  # NVLink 4 within a host of 8; one 400 Gb/s InfiniBand port a GPU beyond.
  "H100": Hardware(989e12, 80e9, 8, 450e9, 50e9, 3e-6),
  # A pod of up to 8,960 chips in a 3D torus of six 100 GB/s links a chip.
  "TPU v5p": Hardware(459e12, 95e9, 8960, 300e9, 300e9, 1e-6),
}


class Program(NamedTuple):
  """What a training step needs, according to the compiled program.

  Attributes:
    flops: operations an image.
    reduced: bytes all-reduced a step and device: gradients, statistics.
    reductions: the number of these all-reduces.
    exchanged: bytes for each image of the global batch that are all-reduced
      on top where the images lie on the devices.
    state: bytes of the state, on every device.
    temporary: bytes of activations and other temporaries, a device, at
      `BATCH`.
  """

  flops: float
  reduced: int
  reductions: int
  exchanged: float
  state: int
  temporary: int


_BYTES = {"f32": 4, "s32": 4, "u32": 4, "u8": 1, "bf16": 2, "pred": 1}


def collectives(text: str) -> list[int]:
  """Returns the bytes of each collective of a compiled program.

  Args:
    text: its HLO.
  """
  found = []
  for shapes in re.findall(
    r"= (.*?) (?:all-reduce|all-gather|all-to-all|reduce-scatter|"
    r"collective-permute)(?:-start)?\(",
    text,
  ):
    found.append(
      sum(
        _BYTES[kind] * math.prod(map(int, filter(None, sides.split(","))))
        for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
      )
    )
  return found


def _abstract(*shape, dtype=np.uint8):
  return jax.ShapeDtypeStruct(shape, dtype)


def training(config) -> Program:
  """Returns what the training step of a config compiles to."""
  mesh = sharding.create_mesh()
  devices = mesh.devices.size
  batch = BATCH * devices
  generator, discriminator, loss = gan.networks(config)
  task = gan.GanTask(
    generator=generator,
    discriminator=discriminator,
    loss=loss,
    latent_size=config.model.latent_size,
    config=config.train,
  )
  state = jax.eval_shape(lambda: task.init(sharding.replicated(mesh)))

  lowered = loop.compile_steps(task, mesh, streamed=True).lower(
    state,
    None,
    _abstract(1, batch, *generator.image_shape),
    _abstract(dtype=np.uint32),
    task.frozen,
  )
  compiled = lowered.compile()
  reduced = collectives(compiled.as_text())
  # What a step does first where the images lie on the devices.
  many = sharding.batch_sharding(mesh)
  take = jax.jit(
    lambda dataset, rows: dataset[rows],
    in_shardings=(many, sharding.replicated(mesh)),
    out_shardings=many,
  )
  exchanged = collectives(
    take.lower(
      _abstract(devices * 1024, *generator.image_shape),
      _abstract(batch, dtype=np.int32),
    )
    .compile()
    .as_text()
  )
  return Program(
    flops=lowered.cost_analysis()["flops"] / batch,
    reduced=sum(reduced),
    reductions=len(reduced),
    exchanged=sum(exchanged) / batch,
    state=sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)),
    temporary=compiled.memory_analysis().temp_size_in_bytes,
  )


def all_reduce_seconds(size: float, devices: int, of: Hardware) -> float:
  """Returns the time of a ring all-reduce, by groups and then between them.

  Args:
    size: bytes on each device.
    devices: how many take part.
    of: the hardware.
  """
  inner = min(devices, of.group)
  outer = -(-devices // of.group)
  return (
    2 * size * (inner - 1) / inner / of.fast
    + 2 * size / inner * (outer - 1) / outer / of.slow
  )


def latency_seconds(program: Program, devices: int, of: Hardware) -> float:
  """Returns the time of a step's all-reduces if they held no bytes: trees."""
  return program.reductions * 2 * math.log2(devices) * of.latency


def step_rows(program: Program) -> list[dict]:
  """Returns the table of step times, a row for each hardware and number."""
  rows = []
  for name, of in HARDWARE.items():
    speed = UTILISATION * of.flops
    for devices in DEVICES:
      compute = program.flops * BATCH / speed
      latency = latency_seconds(program, devices, of)
      reduce = all_reduce_seconds(program.reduced, devices, of)
      exchange = all_reduce_seconds(
        program.exchanged * BATCH * devices, devices, of
      )
      # The gradients' all-reduce overlaps with computation; latencies do not,
      # since each layer waits for BatchNorm's statistics.
      hidden = math.ceil(reduce * speed / program.flops)
      step = compute + latency + max(0, reduce - compute)
      rows.append(
        {
          "devices": f"{devices:,} {name}",
          "images a step": f"{BATCH * devices:,}",
          "compute, ms": f"{1e3 * compute:.2f}",
          "all-reduce, ms": f"{1e3 * reduce:.3f}",
          "latency, ms": f"{1e3 * latency:.3f}",
          "step, ms": f"{1e3 * step:.2f}",
          "efficiency": f"{compute / step:.0%}",
          "hidden from a batch of": f"{hidden:,} a device",
          "exchange of resident images, ms": f"{1e3 * exchange:.2f}",
        }
      )
  return rows


def search_flops(config, prior: bool) -> float:
  """Returns the operations of one step of the search for one image.

  Args:
    config: a config of the job `train`, for the networks.
    prior: whether the loss uses the discriminator, too.
  """
  generator, discriminator, loss = gan.networks(config)
  latent = _abstract(config.model.latent_size, dtype=np.float32)
  image = _abstract(*generator.image_shape, dtype=np.float32)
  mask = _abstract(*generator.image_shape[:2], 1, dtype=np.float32)

  def variables(network, example):
    return jax.eval_shape(
      lambda: network.init(
        jax.random.key(0), jnp.zeros((1, *example.shape)), train=False
      )
    )

  def objective(latent, g, d, image, mask):
    generated = generator.apply(g, latent[None], train=False)
    value = losses.contextual(generated[0], image, mask)
    if prior:
      logits = discriminator.apply(d, generated, train=False)
      value += loss.prior(logits)[0]
    return value

  step = jax.jit(jax.value_and_grad(objective)).lower(
    latent,
    variables(generator, latent),
    variables(discriminator, image),
    image,
    mask,
  )
  return step.cost_analysis()["flops"]


def inpainting_rows(config) -> list[dict]:
  """Returns the cost of a billion images, a row for each way to search."""
  rows = []
  for name, starts, steps, prior in SEARCHES:
    flops = search_flops(config, prior) * starts * steps
    row = {"search": name, "operations an image": f"{flops / 1e12:.2f}e12"}
    for hardware, of in HARDWARE.items():
      seconds = flops / (UTILISATION * of.flops)
      row[f"images a second and {hardware}"] = f"{1 / seconds:,.0f}"
      row[f"{hardware}-hours for a billion"] = f"{seconds * IMAGES / 3600:,.0f}"
    rows.append(row)
  return rows


def markdown(rows: list[dict]) -> str:
  """Returns rows as a table of Markdown."""
  lines = [list(rows[0]), ["---"] * len(rows[0]), *(x.values() for x in rows)]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables() -> dict[str, str]:
  """Returns the page's tables, by the names of their places in it."""
  config = config_lib.train_job()
  # `phases` has no multiplications by the zeros between pixels.
  config.model.convolution = "phases"
  program = training(config)
  model = config.model
  images = 162_770 * model.image_size**2 * model.image_channels
  counted = [
    ("operations", f"{program.flops / 1e9:.2f}e9 an image"),
    (
      "all-reduced",
      f"{program.reduced / 1e6:.1f} MB a step and device, in "
      f"{program.reductions} pieces",
    ),
    (
      "exchanged on top where the images lie on the devices",
      f"{program.exchanged / 1e3:.1f} kB for each image of the global batch",
    ),
    ("state, on each device", f"{program.state / 1e6:.1f} MB"),
    (
      f"activations and other temporaries, at {BATCH} images a device",
      f"{program.temporary / 1e9:.2f} GB",
    ),
    (
      "CelebA's training images, over all devices",
      f"{images / 1e9:.2f} GB",
    ),
  ]
  return {
    "program": markdown([{"what": k, "how much": v} for k, v in counted]),
    "training": markdown(step_rows(program)),
    "inpainting": markdown(inpainting_rows(config)),
  }


def fill(page: str, contents: dict[str, str]) -> str:
  """Returns the page with each table in its place, between two comments."""
  for name, table in contents.items():
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = page.split(begin)
    page = before + begin + table + "\n" + end + rest.split(end)[1]
  return page


def main() -> None:
  """Prints the tables, or writes them into the page."""
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", 2)
  # The program is read and never run: its machine code need not be fast.
  jax.config.update("jax_disable_most_optimizations", True)
  contents = tables()
  if "--write" in sys.argv:
    with files.replacing(PAGE) as path:
      path.write_text(fill(PAGE.read_text(), contents))
  else:
    print("\n\n".join(contents.values()))


if __name__ == "__main__":
  main()
