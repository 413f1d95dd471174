"""Fields of inpainting with a trained model, and of its evaluation."""

import dataclasses

from dcgan_inpaint.fields import spec


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """The trained model that is used."""

  path: str = spec.field(
    "",
    "The workdir of a training run, the folder of an exported model, or "
    "pretrained, the packaged model.",
  )
  step: str = spec.field(
    "best", "best (by inversion MSE on held-out images), latest, or a step."
  )
  loss: str = spec.field(
    "",
    "The loss that the model was trained with, if it is your own: code is only "
    "imported by this name, never by a name in a file.",
  )
  encoder: spec.OneOrSeveral = spec.field(
    "",
    "The workdir of an encoder's training for this model, or an exported model "
    "with an encoder for it; '' = the encoder exported with the model, if any. "
    "A tuple names several encoders, and a tuple inside it stands for the mean "
    "of their weights: (('A', 'B'), 'C'), or A,B+C as text.",
  )


@dataclasses.dataclass(frozen=True)
class Mask:
  """How the holes are drawn; docs/masks.md shows every family."""

  size: float = spec.field(
    0.0,
    "In pixels if at least 1, else a fraction of the shorter side; 0 = the "
    "family's default, which scales with the image. centre, box: side of the "
    "square. pattern: size of the blobs. strokes: width of the brush. "
    "scratches: width of the cracks. text: height of the letters. blocks: side "
    "of a block. lines: rows lost together. border: width of the rim. "
    "low_resolution: distance of the known pixels.",
  )
  position: str = spec.field(
    "",
    "box: 'y,x' of the top left corner; '' = a random position for each image.",
  )
  side: str = spec.field(
    "left", "half: the side that is missing: left, right, top or bottom."
  )
  share: float = spec.field(
    0.0,
    "random_pixels, pattern, strokes, scratches, text, blocks, lines: the "
    "fraction of pixels that is missing; 0 = the family's default.",
  )
  path: str = spec.field("", "file: an image file, one mask for all.")
  file_polarity: str = spec.field(
    "white_is_hole",
    "Mask files: white_is_hole (all but black) or white_is_known.",
  )
  seed: int = spec.field(
    0, "Seed of the random families, image by image.", spec.SEED
  )


@dataclasses.dataclass(frozen=True)
class Search:
  """The latent search: the paper's equations 1 to 3, and its extensions.

  An open field has the value that the mode sets.
  """

  mode: str = spec.field(
    "paper",
    "paper: the plain search in z. fidelity: the lowest error, a mean of the "
    "possible faces. realism: that mean with the details of a single face. The "
    "last two start from an encoder.",
    spec.one_of("paper", "fidelity", "realism"),
  )
  start: str | None = spec.field(
    None,
    "What a search starts from: random latents, or the encoder's output.",
    spec.one_of("random", "encoder"),
  )
  spread: float = spec.field(
    0.5,
    "encoder: the standard deviation of the starts after the first around the "
    "encoder's face; 1 = that of G's faces around their mean. The same for the "
    "samples after the first.",
    spec.at_least(0),
  )
  starts: int | None = spec.field(
    None, "Starts for each image.", spec.at_least(1)
  )
  reduce: str | None = spec.field(
    None,
    "How the starts are combined: best (the lowest loss) or mean.",
    spec.one_of("best", "mean"),
  )
  mirrored: bool | None = spec.field(
    None,
    "Complete the mirror image too, mirror the result back, and take the mean; "
    "for an image's first sample only.",
  )
  encoders: int = spec.field(
    0,
    "How many of the model's encoders the mean is taken over, for an image's "
    "first sample; 0 = all. The time is proportional to their number.",
    spec.at_least(0),
  )
  steps: int | None = spec.field(
    None,
    'Steps of gradient descent on z; the paper\'s "after many iterations".',
    spec.at_least(0),
  )
  learning_rate: float | None = spec.field(
    None, "The initial learning rate of these steps.", spec.above(0)
  )
  schedule: str = spec.field(
    "cosine",
    "Schedule of the learning rates: a cosine to 0, or constant.",
    spec.one_of("cosine", "constant"),
  )
  optimizer: str = spec.field(
    "adam",
    "Any optimiser of optax (or optax.contrib) that takes a learning rate.",
  )
  importance: bool = spec.field(
    False,
    "Weight known pixels by how much of their neighbourhood is missing (Yeh et "
    "al. 2017), normalised to a mean of 1; the paper weights all alike.",
  )
  prior_weight: float | None = spec.field(
    None,
    "Lambda, the weight of the prior beside the sum over known pixels.",
    spec.at_least(0),
  )
  loss: str = spec.field(
    "",
    "The prior's loss variant, as train.loss; '' = the one that the checkpoint "
    "was trained with.",
  )
  blending: str | None = spec.field(
    None,
    "How G(z) is put into the hole: paste (the paper's); poisson, which keeps "
    "its gradients and takes the values on the rim from the image; screened, "
    "which does so only near the rim; spline, which also continues slopes.",
  )
  refine_steps: int | None = spec.field(
    None,
    "Steps of gradient descent on activations inside G, after those on z.",
    spec.at_least(0),
  )
  refine_layer: int | None = spec.field(
    None,
    "Which activations, by the deconvolution whose input they are (1: 4x4, 2: "
    "8x8, 3: 16x16 and so on; 0 = the last, half as wide as the image). For an "
    "encoder without skips, 3 is better than the modes' 0.",
    spec.one_of(0, 1, 2, 3, 4, 5, 6),
  )
  refine_learning_rate: float | None = spec.field(
    None, "The initial learning rate of those steps.", spec.above(0)
  )
  proximal_weight: float | None = spec.field(
    None,
    "The weight of the activations' squared distance to their initial values.",
    spec.at_least(0),
  )
  detail_gain: float | None = spec.field(
    None,
    "Factor on the details of the result, deep in a hole; above 1 to sharpen a "
    "mean, which is smoother than a face.",
    spec.at_least(0),
  )
  dtype: str = spec.field("float32", "Type the layers compute in.", spec.DTYPE)
  batch_size: int = spec.field(
    64, "Images searched at a time, over all devices.", spec.at_least(1)
  )
  steps_per_call: int = spec.field(
    0,
    "Steps in one compiled call; 0 = 1 on the CPU and 50 elsewhere.",
    spec.at_least(0),
  )
  seed: int = spec.field(0, "Seed of the starts, image by image.", spec.SEED)


# Explanations of fields that evaluation and benchmark have alike.
_FEATURES = (
  "What realism is measured on (docs/metrics.md): dlib (aligned faces; the "
  "extra faces), inception (needs inception), raw; '' = nothing; auto = dlib "
  "for data.name=celeba where the extra is installed."
)
_INCEPTION = "The file of the Inception network's weights, .npz."


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What is inpainted and scored, after training or on its own."""

  methods: spec.OneOrSeveral = spec.field(
    "mean_image,biharmonic,dcgan",
    "Methods, by their names in dcgan_inpaint.methods.",
  )
  features: spec.OneOrSeveral = spec.field("auto", _FEATURES)
  inception: str = spec.field("", _INCEPTION)
  samples: int = spec.field(
    0,
    "Samples of the generator that are also scored on these features; 0 = "
    "none. Use 10,000 or more for KID, and the field's number of 50,000 for "
    "the Fréchet distance.",
    spec.at_least(0),
  )
  images: int = spec.field(0, "Images of the split; 0 = all.", spec.at_least(0))
  contact_sheet: int = spec.field(
    12, "Columns of contact_sheet.png; 0 = none.", spec.at_least(0)
  )


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """Methods x masks, and how many images each method gets."""

  methods: spec.OneOrSeveral = spec.field(
    "all",
    "Methods, by their names in dcgan_inpaint.methods; all = all whose "
    "libraries are installed.",
  )
  masks: spec.OneOrSeveral = spec.field(
    "centre,half,random_pixels,pattern,strokes,text",
    "Several sets of holes: families, each with fields of its own after "
    "colons, such as centre,random_pixels:share=0.5:seed=3. A set whose value "
    'has a comma is put in double quotes: "box:position=8,8",half. Fields that '
    "a set does not set come from mask.",
  )
  features: spec.OneOrSeveral = spec.field("auto", _FEATURES)
  inception: str = spec.field("", _INCEPTION)
  images: int = spec.field(0, "Images of the split; 0 = all.", spec.at_least(0))
  slow_images: int = spec.field(
    512,
    "How many of them the slow methods get (methods.Spec.slow); 0 = all.",
    spec.at_least(0),
  )
  chunk: int = spec.field(
    64,
    "Images that a method gets at a time; an interrupted run loses at most "
    "these.",
    spec.at_least(1),
  )
  contact_sheet: int = spec.field(
    8,
    "Images of each mask that the contact sheets and the report show.",
    spec.at_least(1),
  )


@dataclasses.dataclass(frozen=True)
class Compare:
  """The losses that are compared, and how often each is trained."""

  losses: spec.OneOrSeveral = spec.field(
    "mean_squared_error,softmax_cross_entropy,sigmoid_cross_entropy,hinge,"
    "minimax",
    "Loss variants, as train.loss: the paper's three, and two others.",
  )
  seeds: spec.OneOrSeveral = spec.field(
    "0,1,2", "Seeds that each is trained with."
  )


@dataclasses.dataclass(frozen=True)
class Throughput:
  """What is measured in addition to the config's own training and search.

  Each list varies one thing; '' varies nothing. All else has the values of
  model, train and search.
  """

  what: spec.OneOrSeveral = spec.field(
    "train,search", "What is measured: train, search or both."
  )
  implementations: spec.OneOrSeveral = spec.field(
    "",
    "Implementations of the convolutions, as model.convolution. Each is "
    "measured at every batch size, which decides which one is the fastest.",
  )
  train_batches: spec.OneOrSeveral = spec.field(
    "", "Images per step of training."
  )
  search_batches: spec.OneOrSeveral = spec.field(
    "", "Images searched at a time."
  )
  devices: spec.OneOrSeveral = spec.field(
    "",
    "Numbers of devices; the first is used for everything else; '' = all.",
  )
  widths: spec.OneOrSeveral = spec.field("", "Widths of the networks.")
  starts: spec.OneOrSeveral = spec.field("", "Starts for each image.")
  steps: spec.OneOrSeveral = spec.field("", "Steps of a search.")
  rounds: int = spec.field(
    5, "Rounds, whose median is reported.", spec.at_least(1)
  )
  seconds: float = spec.field(
    1.0, "The shortest duration of a round, in seconds.", spec.above(0)
  )
  peak_size: int = spec.field(
    0,
    "The side of the square matrices whose product measures the peak; 0 = 2048 "
    "on the CPU and 8192 elsewhere.",
    spec.at_least(0),
  )
  recompile: bool = spec.field(
    True,
    "Compile without the cache of compiled programs, so that compilation is "
    "timed as in a first run.",
  )
