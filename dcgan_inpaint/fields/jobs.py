"""The jobs, with the sections and fields that each takes."""

import dataclasses

from dcgan_inpaint.fields import filling
from dcgan_inpaint.fields import spec
from dcgan_inpaint.fields import training

_HOLES = (
  "centre, box, half, random_pixels, pattern, strokes, scratches, text, "
  "blocks, lines, border, low_resolution or file, with fields of mask after "
  "colons, such as strokes:share=0.3"
)
_SCORED = ("placement", "workers")  # Fields of training images only.


@dataclasses.dataclass(frozen=True)
class TrainJob:
  """Trains a DCGAN, then inpaints held-out images."""

  config_name = "celeba"
  seed: int = spec.field(
    0,
    "Seed of the weights, the latents, the flips and the order of images.",
    spec.SEED,
  )
  masks: str = spec.field(
    "centre", f"The holes: {_HOLES}; or the path of a mask file."
  )
  model: training.Model = spec.section()
  data: training.Data = spec.section()
  train: training.Train = spec.section()
  mask: filling.Mask = spec.section()
  search: filling.Search = spec.section()
  evaluation: filling.Evaluation = spec.section()
  checkpoint: filling.Checkpoint = spec.section(only=["step"])


@dataclasses.dataclass(frozen=True)
class CompareJob(TrainJob):
  """Trains every loss from every seed, and scores each as `evaluate` does."""

  config_name = "paper_losses"
  evaluation: filling.Evaluation = spec.section(methods="dcgan")
  compare: filling.Compare = spec.section()


@dataclasses.dataclass(frozen=True)
class TrainEncoderJob:
  """Trains an encoder for the generator of a checkpoint."""

  config_name = "encoder"
  seed: int = spec.field(
    0,
    "Seed of the weights, the flips, the holes and the order of images.",
    spec.SEED,
  )
  masks: str = spec.field(
    "centre",
    f"The holes of the validation: {_HOLES}; or the path of a mask file.",
  )
  checkpoint: filling.Checkpoint = spec.section()
  encoder: training.Encoder = spec.section()
  data: training.Data = spec.section(without=["split"])
  mask: filling.Mask = spec.section()


@dataclasses.dataclass(frozen=True)
class EvaluateJob:
  """Fills the holes of a data set by every method, and scores them."""

  config_name = "evaluate"
  masks: str = spec.field(
    "centre", f"The holes: {_HOLES}; or the path of a mask file."
  )
  checkpoint: filling.Checkpoint = spec.section()
  data: training.Data = spec.section(without=_SCORED)
  mask: filling.Mask = spec.section()
  search: filling.Search = spec.section()
  evaluation: filling.Evaluation = spec.section()


@dataclasses.dataclass(frozen=True)
class BenchmarkJob:
  """Scores methods x masks over one data set."""

  config_name = "benchmark"
  checkpoint: filling.Checkpoint = spec.section()
  data: training.Data = spec.section(without=_SCORED)
  mask: filling.Mask = spec.section()
  search: filling.Search = spec.section()
  benchmark: filling.Benchmark = spec.section()


@dataclasses.dataclass(frozen=True)
class BenchmarkThroughputJob:
  """Measures the speed of training and search; needs no trained model."""

  config_name = "benchmark_throughput"
  seed: int = spec.field(0, "Seed of weights and images.", spec.SEED)
  model: training.Model = spec.section()
  train: training.Train = spec.section(
    only=[
      "loss",
      "batch_size",
      "learning_rate",
      "beta1",
      "beta2",
      "ema_decay",
      "roughness_weight",
      "flip",
      "steps_per_call",
    ]
  )
  search: filling.Search = spec.section()
  throughput: filling.Throughput = spec.section()


@dataclasses.dataclass(frozen=True)
class InpaintJob:
  """Completes a user's own images with the checkpoint's networks."""

  config_name = "inpaint"
  input: spec.OneOrSeveral = spec.field(
    "", "Images to complete: a folder, a zip or an image file, or several."
  )
  masks: str = spec.field(
    "centre",
    "The holes: a mask file for all images; a folder with a mask of the same "
    "name, up to the suffix, for each image; alpha, the images' own "
    f"transparent pixels; or {_HOLES}.",
  )
  output: str = spec.field(
    "",
    "Where the completed images go, as PNG; '' = completed/ in the workdir. "
    "For one image it may be a file, whose suffix decides the format.",
  )
  overwrite: bool = spec.field(
    False, "Replace results that exist; what was given always stays."
  )
  samples: int = spec.field(
    1,
    "Different completions of each image: NAME_1.png, NAME_2.png and so on; 1 "
    "makes NAME.png. search.spread sets how different they are.",
    spec.at_least(1),
  )
  faces: str = spec.field(
    "auto",
    "How faces are found: dlib (the extra faces), cascade (scikit-image's own, "
    "worse), whole (each image is one face, its centre square), or auto: dlib "
    "if installed, else cascade, except that images of the model's size and "
    "CelebA's aligned ones of 178x218 are faces as they are.",
  )
  max_megapixels: float = spec.field(
    64.0,
    "Millions of pixels above which a photograph is left out; one takes about "
    "65 bytes of memory a pixel.",
    spec.MEGAPIXELS,
  )
  rest: str = spec.field(
    "auto",
    "What fills a hole that no face covers: auto (a smooth surface that suits "
    "its surroundings), a method of the benchmark by its name, or leave: "
    "nothing.",
  )
  strips: str = spec.field(
    "",
    "Write strips/NAME.png to the workdir, with image, mask and result side by "
    "side: '' = none; original or masked sets how the image is shown.",
    spec.one_of("", "original", "masked"),
  )
  gif: str = spec.field(
    "",
    "The name of an image (without suffix) whose search is saved as path.gif.",
  )
  contact_sheet: int = spec.field(
    12, "Columns of contact_sheet.png, a face each; 0 = none.", spec.at_least(0)
  )
  checkpoint: filling.Checkpoint = spec.section()
  mask: filling.Mask = spec.section()
  search: filling.Search = spec.section()


@dataclasses.dataclass(frozen=True)
class ExportJob:
  """Writes a trained model as plain arrays, and as programs."""

  config_name = "export"
  output: str = spec.field(
    "", "The folder that the model is written to; '' = model/ in the workdir."
  )
  stablehlo: bool = spec.field(
    False,
    "Write stablehlo/ into that folder, too: the mode fidelity (where there is "
    "an encoder) and G alone, as programs that run without this package, for "
    "CPUs, CUDA GPUs and TPUs. Their arrays are float32.",
  )
  checkpoint: filling.Checkpoint = spec.section()


@dataclasses.dataclass(frozen=True)
class PrepareJob:
  """Makes a data set from CelebA, or from faces cropped from photographs."""

  config_name = "prepare"
  faces: str = spec.field(
    "auto",
    "folder: how faces are found: dlib, cascade, whole or auto; see the job "
    "inpaint.",
  )
  max_megapixels: float = spec.field(
    64.0,
    "Millions of pixels above which a photograph is left out; one takes about "
    "65 bytes of memory a pixel.",
    spec.MEGAPIXELS,
  )
  data: training.PreparedData = spec.section()
