"""The fields of a config, section by section, and the check of their values.

A file in `configs/` starts from these sections and sets what its experiment
needs. `ml_collections` refuses names that are not here (`lock_config=True`);
`validate` refuses values that cannot be meant, and names the choices; the
fields of `config.mask` are checked by `masks.make`, which reads them.
"""

from collections.abc import Callable
import types
from typing import Any

import ml_collections

from dcgan_inpaint.networks import convolutions
from dcgan_inpaint.networks import losses
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.runtime import errors

ConfigDict = ml_collections.ConfigDict
# A field that is None, open to a value of one type.
placeholder = ml_collections.config_dict.placeholder

JOBS = (
  "train",
  "train_encoder",
  "compare",
  "evaluate",
  "benchmark",
  "benchmark_throughput",
  "inpaint",
  "export",
  "prepare",
)


def model() -> ConfigDict:
  """The networks; a checkpoint remembers these."""
  config = ConfigDict()
  # Multiplies every channel count; 1.0 is the paper's.
  config.width = 1.0
  # Values of z.
  config.latent_size = 100
  # What the layers compute in: float32 or bfloat16. Parameters, statistics and
  # losses stay float32.
  config.dtype = "float32"
  # How much of BatchNorm's running statistics a step keeps.
  config.batch_norm_momentum = 0.9
  # Form of the 5x5 convolutions; 'auto' takes the fastest for the backend.
  config.convolution = "auto"
  return config


def data() -> ConfigDict:
  """Where the images come from."""
  config = ConfigDict()
  # celeba (made by the job `prepare`), folder (folders and zips) or synthetic.
  config.name = "synthetic"
  # celeba: the folder of the prepared set. folder: a folder, a zip, or several
  # with commas.
  config.path = ""
  # folder only: held-out images. Where empty, a share of `path` is held out, by
  # a hash of each file's name.
  config.validation_path = ""
  config.test_path = ""
  # The split that is inpainted: train, validation, test, or all (everything
  # that `path` holds).
  config.split = "test"
  # Take only so many images of a split; 0 = all.
  config.max_images = 0
  # Draws the synthetic faces.
  config.seed = 0
  # Training images: `device` loads them into the devices' memory once, `stream`
  # reads them from disk as they are needed (celeba and folder; the extra
  # `stream`), in the same order; `auto` streams what does not fit.
  config.placement = "auto"
  # stream: processes that decode, as many as there are cores where reading is
  # the limit; 0 = threads, which share Python's lock: about 4,000 images a
  # second in all.
  config.workers = 0
  return config


def train() -> ConfigDict:
  """Adversarial training: the DCGAN's settings (Radford et al. 2016)."""
  config = ConfigDict()
  # sigmoid_cross_entropy, softmax_cross_entropy, mean_squared_error, hinge,
  # minimax, or your own as "package.module:function".
  config.loss = "sigmoid_cross_entropy"
  # Images a step, over all devices.
  config.batch_size = 128
  # Passes over the training images (the paper: 20) ...
  config.epochs = 20.0
  # ... or steps, which win where they are not 0.
  config.steps = 0
  # Adam, for both networks.
  config.learning_rate = 2e-4
  config.beta1 = 0.5
  config.beta2 = 0.999
  # Decay a step of the generator's moving average, which is what inpaints.
  config.ema_decay = 0.999
  # Mirror images at random.
  config.flip = True
  # Steps in one compiled call; 0 = 1 on the CPU, whose loops are slow when
  # compiled, and 20 elsewhere.
  config.steps_per_call = 0
  # Steps between lines of metrics.jsonl.
  config.log_every = 50
  # Steps between pictures of samples and of inpainted faces; 0 = none.
  config.sample_every = 1000
  # Steps between checkpoints, each with its inversion MSE on held-out images.
  config.save_every = 1000
  # Latest checkpoints that are kept, beside the best.
  config.max_to_keep = 2
  # Held-out images for the inversion MSE, and steps of that search; 0 images =
  # no validation, and the last checkpoint counts as the best. The search is one
  # start of Adam from 0.1 with a cosine, without a prior.
  config.validation_images = 64
  config.validation_steps = 100
  return config


def mask() -> ConfigDict:
  """The holes."""
  config = ConfigDict()
  # centre, box, half, random_pixels, pattern, strokes, scratches, text, blocks,
  # lines, border, low_resolution or file; docs/masks.md shows them.
  config.family = "centre"
  # In pixels (>= 1) or as a share of the shorter side (< 1); 0 = the family's
  # usual. centre, box: side of the square. pattern: of the blobs. strokes:
  # width of the brush. scratches: of the cracks. text: height of the letters.
  # blocks: side of a block. lines: rows lost together. border: width of the
  # rim. low_resolution: distance of the known pixels.
  config.size = 0.0
  # box: 'y,x' of its top left corner; '' = a random place for each image.
  config.position = ""
  # half: the side that is missing: left, right, top or bottom.
  config.side = "left"
  # random_pixels, pattern, strokes, scratches, text, blocks, lines: the share
  # of pixels that is missing; 0 = the family's usual.
  config.share = 0.0
  # file: an image file, one mask for all.
  config.path = ""
  # file: white_is_hole or white_is_known.
  config.file_polarity = "white_is_hole"
  # Draws the random families, image by image.
  config.seed = 0
  return config


def search() -> ConfigDict:
  """The latent search (the paper's equations 1 to 3, and on from there).

  A field that is None is as `mode` sets it, see `search.settings.MODES`.
  """
  config = ConfigDict()
  # paper: the plain search in z. fidelity: the lowest error, a mean of what
  # could be there. realism: that mean with the details of a single face. The
  # last two start from an encoder.
  config.mode = "paper"
  # What a search starts from: random (latents) or encoder.
  config.start = placeholder(str)
  # encoder: how far the starts after the first lie around its face; 1 = as far
  # as G's own faces lie around their mean. Samples after the first, too.
  config.spread = 0.5
  # How many starts an image has ...
  config.starts = placeholder(int)
  # ... and what becomes of them: best (the lowest loss) or mean.
  config.reduce = placeholder(str)
  # Complete the mirror image too, and take the mean with that mirrored back; of
  # an image's first sample only.
  config.mirrored = placeholder(bool)
  # Of how many of the model's encoders the mean is taken, of an image's first
  # sample; 0 = all. The time goes with their number.
  config.encoders = 0
  # Steps of gradient descent on z; the paper's "after many iterations".
  config.steps = placeholder(int)
  # Its first learning rate, and how that goes on: cosine (to 0) or constant.
  config.learning_rate = placeholder(float)
  config.schedule = "cosine"
  # Any optimiser of optax (or optax.contrib) that takes a learning rate.
  config.optimizer = "adam"
  # Weigh the known pixels by how near they are to the hole (Yeh et al. 2017), 1
  # in the mean; the paper weighs all alike.
  config.importance = False
  # Lambda, the weight of the prior beside the sum over known pixels.
  config.prior_weight = placeholder(float)
  # The prior's loss variant; '' = the one that the checkpoint was trained with.
  config.loss = ""
  # How G(z) fills the hole: paste (the paper's); poisson, which keeps its
  # gradients and takes the values on the rim from the image; screened, which
  # does so near the rim.
  config.blending = placeholder(str)
  # Steps on activations inside G, after those on z; which ones, by the
  # deconvolution that gets them (1: 4x4, 2: 8x8, 3: 16x16, 4: 32x32); their
  # learning rate, and the weight of the squared distance to where they set out.
  # For an encoder without skips, 3 is better than the 4 of the modes.
  config.refine_steps = placeholder(int)
  config.refine_layer = placeholder(int)
  config.refine_learning_rate = placeholder(float)
  config.proximal_weight = placeholder(float)
  # What multiplies the details of what was found, in the depth of a hole; above
  # 1 where it is a mean, which is smoother than a face.
  config.detail_gain = placeholder(float)
  # What the layers compute in: float32 or bfloat16.
  config.dtype = "float32"
  # Images searched at a time, over all devices.
  config.batch_size = 64
  # Steps in one compiled call; 0 = 1 on the CPU and 50 elsewhere.
  config.steps_per_call = 0
  # Draws the starts, image by image.
  config.seed = 0
  return config


def encoder() -> ConfigDict:
  """The encoder that `fidelity` and `realism` start from, and its training."""
  config = ConfigDict()
  # Multiplies its channel counts.
  config.width = 1.0
  # Values in the middle of its dense layers; 0 = the channels of its last
  # convolution.
  config.rank = 0
  # Whether it changes G's second to fourth activations beside the first.
  config.skips = True
  # Share of the values in the middle of its dense layers that each step sets to
  # 0; the packaged model's last trainings had 0.15 to 0.35.
  config.dropout = 0.0
  # Train the mean of what an image and its mirror image give, which `fidelity`
  # and `realism` take, in place of each alone; a step takes 1.75 times as long.
  config.mirrored = False
  # What the layers compute in: float32 or bfloat16.
  config.dtype = "float32"
  # Go on from the (first) encoder that `config.checkpoint` brings, of this
  # width and of this rank or a lower one, with skips or without, in place of
  # random values: for more steps or other holes.
  config.warm_start = False
  # Take only the convolutions and skips from there, and begin the dense layers
  # anew: for one more encoder, whose errors are not those of the first.
  config.fresh_dense = False
  # The families of holes it sees, of `config.mask`; one that stands twice is
  # drawn twice as often.
  config.families = (
    "centre,centre,centre,centre,half,half,random_pixels,random_pixels,pattern,"
    "pattern,box,strokes,scratches,text,blocks,lines,border,low_resolution"
  )
  # Holes that are drawn before training, and then used again and again.
  config.mask_pool = 4096
  # Weight of a known pixel's squared error, where one in the hole has 1.
  config.known_weight = 0.1
  # Share of a batch that is faces of G in the place of real ones.
  config.generated_share = 0.0
  # Mirror images at random.
  config.flip = True
  # Images a step, over all devices, and steps.
  config.batch_size = 256
  config.steps = 15000
  # AdamW; the learning rate falls to 0 by a cosine.
  config.learning_rate = 1e-3
  config.weight_decay = 1e-3
  # Steps in one compiled call; 0 = 1 on the CPU and 20 elsewhere.
  config.steps_per_call = 0
  # Steps between lines of metrics.jsonl.
  config.log_every = 50
  # Steps between checkpoints, each with its error on held-out images.
  config.save_every = 1000
  # Latest checkpoints that are kept, beside the best.
  config.max_to_keep = 2
  # Held-out images, with the holes of `config.mask`.
  config.validation_images = 256
  return config


def evaluation() -> ConfigDict:
  """What is inpainted and scored, after training or on its own."""
  config = ConfigDict()
  # Methods, with commas, of `dcgan_inpaint.methods`.
  config.methods = "mean_image,biharmonic,dcgan"
  # How many images of the split; 0 = all.
  config.images = 0
  # Columns of contact_sheet.png.
  config.contact_sheet = 12
  return config


def benchmark() -> ConfigDict:
  """Methods x masks, and how many images each method gets."""
  config = ConfigDict()
  # Methods, with commas, of `dcgan_inpaint.methods`; 'all' = all whose
  # libraries are installed.
  config.methods = "all"
  # Holes, with commas: families of `config.mask`, each with fields of its own
  # after colons, such as 'centre,random_pixels:share=0.5:seed=3'. Where a value
  # has a comma, the hole stands in double quotes: '"box:position=8,8",half'.
  # What a hole does not set is taken from `config.mask`.
  config.masks = "centre,half,random_pixels,pattern,strokes,text"
  # How many images of the split; 0 = all.
  config.images = 0
  # How many of them the slow methods get (`methods.Spec.slow`); 0 = all.
  config.slow_images = 512
  # Images that a method gets at a time; what a run that is cut loses.
  config.chunk = 64
  # Images of each mask that the contact sheets and the report show.
  config.contact_sheet = 8
  return config


def throughput() -> ConfigDict:
  """What is measured beside the one training and search of the config.

  Each list, with commas, varies one thing; '' varies nothing. What it does not
  vary is as `config.model`, `config.train` and `config.search` say.
  """
  config = ConfigDict()
  # What is measured: train, search or both.
  config.what = "train,search"
  # Implementations of the convolutions, see `config.model.convolution`. Each is
  # measured at every batch, since they decide which one is the fastest.
  config.implementations = ""
  # Images a step of training, and searched at a time.
  config.train_batches = ""
  config.search_batches = ""
  # Numbers of devices, of which the first serves all else; all otherwise.
  config.devices = ""
  # Widths of the networks.
  config.widths = ""
  # Starts of an image, and steps of a search.
  config.starts = ""
  config.steps = ""
  # Rounds, of which the median counts, and the seconds that a round lasts at
  # least.
  config.rounds = 5
  config.seconds = 1.0
  # The side of the square matrices whose product is taken for the peak; 0 =
  # 2048 on the CPU and 8192 elsewhere.
  config.peak_size = 0
  # Compile everything anew, whatever the cache of compiled programs holds, so
  # that compilation is timed as a first run sees it.
  config.compile_anew = True
  return config


def checkpoint() -> ConfigDict:
  """Which trained model is used."""
  config = ConfigDict()
  # The workdir of a training run, the folder of an exported model, or
  # 'pretrained': the one that comes with the package.
  config.path = ""
  # best (by inversion MSE on held-out images), latest, or a step.
  config.step = "best"
  # The loss that it was trained with, where that is a user's own: its code runs
  # by this name, and not by the word of a file.
  config.loss = ""
  # The workdir of the training of an encoder for it, or an exported model that
  # has one for it; several, with commas: the mean of their weights; more than
  # one encoder, with plus signs between them: `A,B+C` is the mean of what that
  # of A and B and that of C give; '' = what was exported with it, if anything.
  config.encoder = ""
  return config


def train_job() -> ConfigDict:
  """A config of the job `train`, at its defaults.

  After training it inpaints held-out images, where `evaluation.methods` is not
  empty.
  """
  config = ConfigDict()
  config.job = "train"
  # One seed for the weights, the latents, the flips and the order of images.
  config.seed = 0
  config.model = model()
  config.data = data()
  config.train = train()
  config.mask = mask()
  config.search = search()
  config.evaluation = evaluation()
  config.checkpoint = checkpoint()
  return config


def evaluate_job() -> ConfigDict:
  """A config of the job `evaluate`; the networks are the checkpoint's."""
  config = ConfigDict()
  config.job = "evaluate"
  config.checkpoint = checkpoint()
  config.data = data()
  config.mask = mask()
  config.search = search()
  config.evaluation = evaluation()
  return config


def benchmark_job() -> ConfigDict:
  """A config of the job `benchmark`; the networks are the checkpoint's."""
  config = ConfigDict()
  config.job = "benchmark"
  config.checkpoint = checkpoint()
  config.data = data()
  config.mask = mask()
  config.search = search()
  config.benchmark = benchmark()
  return config


def benchmark_throughput_job() -> ConfigDict:
  """A config of the job `benchmark_throughput`; nothing trained is needed."""
  config = ConfigDict()
  config.job = "benchmark_throughput"
  # Draws weights and images.
  config.seed = 0
  config.model = model()
  config.train = train()
  config.search = search()
  config.throughput = throughput()
  return config


def inpaint_job() -> ConfigDict:
  """A config of the job `inpaint`; the networks are the checkpoint's."""
  config = ConfigDict()
  config.job = "inpaint"
  config.checkpoint = checkpoint()
  # Images to complete: a folder, a zip or an image file, or several with
  # commas.
  config.input = ""
  # One of the families of `config.mask`, a mask file for all images, a folder
  # with a mask for each, of the same name but for the suffix, or alpha: the
  # images' own transparent pixels.
  config.masks = "centre"
  # How faces are found: dlib (the extra `faces`), cascade (scikit-image's own,
  # worse), whole (each image is one face, its centre square), or auto: dlib
  # where it is there, else cascade, but images of 64x64, and CelebA's aligned
  # ones of 178x218, are faces as they are.
  config.faces = "auto"
  # What becomes of a hole that no face covers: leave, or biharmonic (slow where
  # such a hole has more than some thousand pixels).
  config.rest = "leave"
  # Where the completed images go; '' = `completed` in the workdir.
  config.output = ""
  # Make anew what is there already.
  config.overwrite = False
  # Different completions of each image: NAME_1.png, NAME_2.png and so on; 1
  # makes NAME.png. `search.spread` says how different.
  config.samples = 1
  # Leave strips/NAME.png in the workdir, image, mask and result side by side:
  # '' = none, original or masked says how the image is shown.
  config.strips = ""
  # The name of an image (without suffix) whose search is left as path.gif.
  config.gif = ""
  # Columns of contact_sheet.png, a face each; 0 = none.
  config.contact_sheet = 12
  config.mask = mask()
  config.search = search()
  return config


def train_encoder_job() -> ConfigDict:
  """A config of the job `train_encoder`, for the generator of a checkpoint."""
  config = ConfigDict()
  config.job = "train_encoder"
  # One seed for the weights, the flips, the holes and the order of images.
  config.seed = 0
  config.checkpoint = checkpoint()
  config.encoder = encoder()
  config.data = data()
  config.mask = mask()
  return config


def compare_job() -> ConfigDict:
  """A config of the job `compare`, whose every run is one of `train_job`."""
  config = train_job()
  config.job = "compare"
  config.compare = ConfigDict()
  # Loss variants, with commas: the paper's three, and two beside them.
  config.compare.losses = (
    "mean_squared_error,softmax_cross_entropy,sigmoid_cross_entropy,hinge,"
    "minimax"
  )
  # Seeds that each loss is trained from, with commas.
  config.compare.seeds = "0,1,2"
  config.evaluation.methods = "dcgan"
  return config


def export_job() -> ConfigDict:
  """A config of the job `export`."""
  config = ConfigDict()
  config.job = "export"
  config.checkpoint = checkpoint()
  # The folder that the model is written to; '' = `model` in the workdir.
  config.output = ""
  return config


def prepare_job() -> ConfigDict:
  """A config of the job `prepare`."""
  config = ConfigDict()
  config.job = "prepare"
  config.data = ConfigDict()
  # celeba, or folder: photographs, out of which faces are cut and aligned.
  config.data.name = "celeba"
  # celeba: what was downloaded: img_align_celeba.zip or the folder it unpacks
  # to, with list_eval_partition.txt beside it; or a prepared `celeb_a` of tfds.
  # folder: a folder, a zip, or several with commas.
  config.data.source = ""
  # Where the prepared set goes.
  config.data.path = ""
  # folder: how faces are found; see `inpaint_job`.
  config.faces = "auto"
  return config


def of_results(results: dict[str, Any]) -> ConfigDict:
  """Returns the config that a job was run with.

  Args:
    results: of `report.read_results`.

  Raises:
    errors.UserError: this version of the package knows no such job or field.
  """
  job = results.get("job")
  if job not in JOBS:
    raise errors.UserError(
      f"the results are of the job {job!r}; this version of the package knows "
      f"{', '.join(JOBS)}"
    )
  config = globals()[f"{job}_job"]().lock()
  try:
    config.update(results["config"])
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
      "this version of the package cannot take the config of the results "
      f"({str(error.args[0]).partition(chr(10))[0]}): take the version that "
      f"wrote them, {results['versions']['dcgan_inpaint']}"
    ) from error
  return config


_CHOICES = {
  "model.dtype": ("float32", "bfloat16"),
  "model.convolution": ("auto", *convolutions.IMPLEMENTATIONS),
  "data.name": ("celeba", "folder", "synthetic"),
  "data.split": ("train", "validation", "test", "all"),
  "data.placement": ("auto", "device", "stream"),
  "faces": detection.DETECTORS,
  "rest": ("leave", "biharmonic"),
  "strips": ("", "original", "masked"),
  "encoder.dtype": ("float32", "bfloat16"),
}


def _above(bound: float) -> tuple[Callable[[float], bool], str]:
  return lambda value: value > bound, f"above {bound}"


def _at_least(bound: float) -> tuple[Callable[[float], bool], str]:
  return lambda value: value >= bound, f"at least {bound}"


def _one_of(*choices: int) -> tuple[Callable[[int], bool], str]:
  return lambda value: value in choices, f"one of {choices}"


def _share() -> tuple[Callable[[float], bool], str]:
  return lambda value: 0 <= value < 1, "at least 0 and below 1"


def _seed() -> tuple[Callable[[float], bool], str]:
  return lambda value: 0 <= value < 2**32, "from 0 to 4294967295"


_RANGES = types.MappingProxyType(
  {
    "seed": _seed(),
    "data.seed": _seed(),
    "mask.seed": _seed(),
    "search.seed": _seed(),
    "model.width": _above(0),
    "model.latent_size": _at_least(1),
    "model.batch_norm_momentum": _share(),
    "data.max_images": _at_least(0),
    "data.workers": _at_least(0),
    "train.batch_size": _at_least(2),
    "train.epochs": _at_least(0),
    "train.steps": _at_least(0),
    "train.learning_rate": _above(0),
    "train.beta1": _share(),
    "train.beta2": _share(),
    "train.ema_decay": _share(),
    "train.steps_per_call": _at_least(0),
    "train.log_every": _at_least(1),
    "train.sample_every": _at_least(0),
    "train.save_every": _at_least(1),
    "train.max_to_keep": _at_least(1),
    "train.validation_images": _at_least(0),
    "train.validation_steps": _at_least(1),
    "encoder.width": _above(0),
    "encoder.rank": _at_least(0),
    "encoder.mask_pool": _at_least(1),
    "encoder.known_weight": _at_least(0),
    "encoder.dropout": _share(),
    "encoder.generated_share": _share(),
    "encoder.batch_size": _at_least(1),
    "encoder.steps": _at_least(1),
    "encoder.learning_rate": _above(0),
    "encoder.weight_decay": _at_least(0),
    "encoder.steps_per_call": _at_least(0),
    "encoder.log_every": _at_least(1),
    "encoder.save_every": _at_least(1),
    "encoder.max_to_keep": _at_least(1),
    "encoder.validation_images": _at_least(0),
    "search.steps": _at_least(0),
    "search.learning_rate": _above(0),
    "search.spread": _at_least(0),
    "search.starts": _at_least(1),
    "search.encoders": _at_least(0),
    "search.prior_weight": _at_least(0),
    "search.refine_steps": _at_least(0),
    "search.refine_layer": _one_of(1, 2, 3, 4),
    "search.refine_learning_rate": _above(0),
    "search.proximal_weight": _at_least(0),
    "search.detail_gain": _at_least(0),
    "search.batch_size": _at_least(1),
    "search.steps_per_call": _at_least(0),
    "evaluation.images": _at_least(0),
    "evaluation.contact_sheet": _at_least(0),
    "benchmark.images": _at_least(0),
    "benchmark.slow_images": _at_least(0),
    "benchmark.chunk": _at_least(1),
    "benchmark.contact_sheet": _at_least(1),
    "throughput.rounds": _at_least(1),
    "throughput.seconds": _above(0),
    "throughput.peak_size": _at_least(0),
    "samples": _at_least(1),
    "contact_sheet": _at_least(0),
  }
)


def _lookup(config: ConfigDict, field: str) -> Any:
  """Returns the value of a dotted field, or None where there is none."""
  value = config
  for name in field.split("."):
    value = None if value is None else value.get(name)
  return value


def validate(config: ConfigDict) -> None:
  """Refuses values that cannot be meant.

  Args:
    config: a whole config; sections that its job does not use may be missing.

  Raises:
    errors.UserError: names the field, its value and the choices or the range.
  """
  if config.job not in JOBS:
    raise errors.UserError(
      f"config.job={config.job!r}: choose one of {', '.join(JOBS)}"
    )
  for field, choices in _CHOICES.items():
    value = _lookup(config, field)
    if value is not None and value not in choices:
      raise errors.UserError(
        f"config.{field}={value!r}: choose one of "
        f"{', '.join(choice or repr('') for choice in choices)}"
      )
  for field, (holds, text) in _RANGES.items():
    value = _lookup(config, field)
    if value is not None and not holds(value):
      raise errors.UserError(f"config.{field}={value!r}: must be {text}")
  if config.job == "prepare" and config.data.name == "synthetic":
    raise errors.UserError(
      "config.data.name='synthetic': drawn faces need no preparation; choose "
      "celeba or folder"
    )
  if "train" in config:
    losses.get(config.train.loss, "config.train.loss")
