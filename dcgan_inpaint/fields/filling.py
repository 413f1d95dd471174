"""Fields of what fills holes with a trained model, and of what measures it."""

import dataclasses

from dcgan_inpaint.fields import spec


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """Which trained model is used."""

  path: str = spec.field(
    "",
    "The workdir of a training run, the folder of an exported model, or "
    "pretrained: the one that comes with the package.",
  )
  step: str = spec.field(
    "best", "best (by inversion MSE on held-out images), latest, or a step."
  )
  loss: str = spec.field(
    "",
    "The loss that it was trained with, where that is a user's own: its code "
    "runs by this name, and not by the word of a file.",
  )
  encoder: spec.OneOrSeveral = spec.field(
    "",
    "The workdir of the training of an encoder for it, or an exported model "
    "that has one for it; '' = what was exported with it, if anything. In a "
    "tuple stand several encoders, and a tuple in their place is the mean of "
    "the weights of several: (('A', 'B'), 'C'), or A,B+C as text.",
  )


@dataclasses.dataclass(frozen=True)
class Mask:
  """How the holes are drawn; docs/masks.md shows every family."""

  size: float = spec.field(
    0.0,
    "In pixels from 1 on, and below 1 a share of the shorter side; 0 = the "
    "family's usual. centre, box: side of the square. pattern: of the blobs. "
    "strokes: width of the brush. scratches: of the cracks. text: height of "
    "the letters. blocks: side of a block. lines: rows lost together. border: "
    "width of the rim. low_resolution: distance of the known pixels.",
  )
  position: str = spec.field(
    "",
    "box: 'y,x' of its top left corner; '' = a random place for each image.",
  )
  side: str = spec.field(
    "left", "half: the side that is missing: left, right, top or bottom."
  )
  share: float = spec.field(
    0.0,
    "random_pixels, pattern, strokes, scratches, text, blocks, lines: the "
    "share of pixels that is missing; 0 = the family's usual.",
  )
  path: str = spec.field("", "file: an image file, one mask for all.")
  file_polarity: str = spec.field(
    "white_is_hole", "Mask files: white_is_hole or white_is_known."
  )
  seed: int = spec.field(
    0, "Draws the random families, image by image.", spec.SEED
  )


@dataclasses.dataclass(frozen=True)
class Search:
  """The latent search: the paper's equations 1 to 3, and on from there.

  A field that is open is as the mode sets it.
  """

  mode: str = spec.field(
    "paper",
    "paper: the plain search in z. fidelity: the lowest error, a mean of what "
    "could be there. realism: that mean with the details of a single face. The "
    "last two start from an encoder.",
    spec.one_of("paper", "fidelity", "realism"),
  )
  start: str | None = spec.field(
    None,
    "What a search starts from: random latents, or the encoder's.",
    spec.one_of("random", "encoder"),
  )
  spread: float = spec.field(
    0.5,
    "encoder: how far the starts after the first lie around its face; 1 = as "
    "far as G's own faces lie around their mean. Samples after the first, too.",
    spec.at_least(0),
  )
  starts: int | None = spec.field(None, "Starts of an image.", spec.at_least(1))
  reduce: str | None = spec.field(
    None,
    "What becomes of the starts: best (the lowest loss) or mean.",
    spec.one_of("best", "mean"),
  )
  mirrored: bool | None = spec.field(
    None,
    "Complete the mirror image too, and take the mean with that mirrored back; "
    "of an image's first sample only.",
  )
  encoders: int = spec.field(
    0,
    "Of how many of the model's encoders the mean is taken, of an image's "
    "first sample; 0 = all. The time goes with their number.",
    spec.at_least(0),
  )
  steps: int | None = spec.field(
    None,
    'Steps of gradient descent on z; the paper\'s "after many iterations".',
    spec.at_least(0),
  )
  learning_rate: float | None = spec.field(
    None, "The learning rate of the first of them.", spec.above(0)
  )
  schedule: str = spec.field(
    "cosine",
    "How the learning rate goes on: by a cosine to 0, or constant.",
    spec.one_of("cosine", "constant"),
  )
  optimizer: str = spec.field(
    "adam",
    "Any optimiser of optax (or optax.contrib) that takes a learning rate.",
  )
  importance: bool = spec.field(
    False,
    "Weigh the known pixels by how near they are to the hole (Yeh et al. "
    "2017), 1 in the mean; the paper weighs all alike.",
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
    "How G(z) fills the hole: paste (the paper's); poisson, which keeps its "
    "gradients and takes the values on the rim from the image; screened, which "
    "does so near the rim.",
  )
  refine_steps: int | None = spec.field(
    None, "Steps on activations inside G, after those on z.", spec.at_least(0)
  )
  refine_layer: int | None = spec.field(
    None,
    "Which activations, by the deconvolution that gets them (1: 4x4, 2: 8x8, "
    "3: 16x16, 4: 32x32). For an encoder without skips, 3 is better than the 4 "
    "of the modes.",
    spec.one_of(1, 2, 3, 4),
  )
  refine_learning_rate: float | None = spec.field(
    None, "The learning rate of those steps.", spec.above(0)
  )
  proximal_weight: float | None = spec.field(
    None,
    "The weight of the activations' squared distance to where they set out.",
    spec.at_least(0),
  )
  detail_gain: float | None = spec.field(
    None,
    "What multiplies the details of what was found, in the depth of a hole; "
    "above 1 where it is a mean, which is smoother than a face.",
    spec.at_least(0),
  )
  dtype: str = spec.field("float32", "What the layers compute in.", spec.DTYPE)
  batch_size: int = spec.field(
    64, "Images searched at a time, over all devices.", spec.at_least(1)
  )
  steps_per_call: int = spec.field(
    0,
    "Steps in one compiled call; 0 = 1 on the CPU and 50 elsewhere.",
    spec.at_least(0),
  )
  seed: int = spec.field(0, "Draws the starts, image by image.", spec.SEED)


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What is inpainted and scored, after training or on its own."""

  methods: spec.OneOrSeveral = spec.field(
    "mean_image,biharmonic,dcgan",
    "Methods, by their names in dcgan_inpaint.methods.",
  )
  features: spec.OneOrSeveral = spec.field(
    "auto",
    "What realism is measured on (docs/metrics.md): dlib (aligned faces; the "
    "extra faces), inception (needs inception), raw; '' = nothing; auto = dlib "
    "for data.name=celeba where the extra is installed.",
  )
  inception: str = spec.field(
    "", "The file of the Inception network's weights, .npz."
  )
  samples: int = spec.field(
    0,
    "Samples of the generator that are scored by these features, too; 0 = "
    "none, and 10,000 or more for KID, 50,000 is the field's number for the "
    "Fréchet distance.",
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
    "colons, such as centre,random_pixels:share=0.5:seed=3. Where a value has "
    'a comma, the set stands in double quotes: "box:position=8,8",half. What a '
    "set leaves out is taken from mask.",
  )
  features: spec.OneOrSeveral = spec.field(
    "auto",
    "What realism is measured on (docs/metrics.md): dlib (aligned faces; the "
    "extra faces), inception (needs inception), raw; '' = nothing; auto = dlib "
    "for data.name=celeba where the extra is installed.",
  )
  inception: str = spec.field(
    "", "The file of the Inception network's weights, .npz."
  )
  images: int = spec.field(0, "Images of the split; 0 = all.", spec.at_least(0))
  slow_images: int = spec.field(
    512,
    "How many of them the slow methods get (methods.Spec.slow); 0 = all.",
    spec.at_least(0),
  )
  chunk: int = spec.field(
    64,
    "Images that a method gets at a time; what a run that is cut loses.",
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
    "Loss variants, as train.loss: the paper's three, and two beside them.",
  )
  seeds: spec.OneOrSeveral = spec.field(
    "0,1,2", "Seeds that each is trained from."
  )


@dataclasses.dataclass(frozen=True)
class Throughput:
  """What is measured beside the one training and search of the config.

  Each list varies one thing; '' varies nothing. What it does not vary is as
  model, train and search say.
  """

  what: spec.OneOrSeveral = spec.field(
    "train,search", "What is measured: train, search or both."
  )
  implementations: spec.OneOrSeveral = spec.field(
    "",
    "Implementations of the convolutions, as model.convolution. Each is "
    "measured at every batch, since they decide which one is the fastest.",
  )
  train_batches: spec.OneOrSeveral = spec.field(
    "", "Images a step of training."
  )
  search_batches: spec.OneOrSeveral = spec.field(
    "", "Images searched at a time."
  )
  devices: spec.OneOrSeveral = spec.field(
    "", "Numbers of devices, of which the first serves all else; '' = all."
  )
  widths: spec.OneOrSeveral = spec.field("", "Widths of the networks.")
  starts: spec.OneOrSeveral = spec.field("", "Starts of an image.")
  steps: spec.OneOrSeveral = spec.field("", "Steps of a search.")
  rounds: int = spec.field(
    5, "Rounds, of which the median counts.", spec.at_least(1)
  )
  seconds: float = spec.field(
    1.0, "Seconds that a round lasts at the least.", spec.above(0)
  )
  peak_size: int = spec.field(
    0,
    "The side of the square matrices whose product is taken for the peak; 0 = "
    "2048 on the CPU and 8192 elsewhere.",
    spec.at_least(0),
  )
  compile_anew: bool = spec.field(
    True,
    "Compile everything anew, whatever the cache of compiled programs holds, "
    "so that compilation is timed as a first run sees it.",
  )
