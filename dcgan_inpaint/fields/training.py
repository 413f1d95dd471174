"""Fields of the networks, their data and their training."""

import dataclasses

from dcgan_inpaint.fields import spec


@dataclasses.dataclass(frozen=True)
class Model:
  """The networks; a checkpoint stores these fields."""

  image_size: int = spec.field(
    64,
    "Side of the images, pixels; 64 is the paper's. All that is done with a "
    "model has its size.",
    spec.one_of(32, 64, 128, 256),
  )
  image_channels: int = spec.field(
    3,
    "3 = colour, the paper's; 1 = grey, to which colours are converted.",
    spec.one_of(1, 3),
  )
  width: float = spec.field(
    1.0, "Multiplies every channel count; 1.0 is the paper's.", spec.above(0)
  )
  latent_size: int = spec.field(100, "Values of z.", spec.at_least(1))
  dtype: str = spec.field(
    "float32",
    "Type the layers compute in. Parameters, statistics and losses stay "
    "float32.",
    spec.DTYPE,
  )
  batch_norm_momentum: float = spec.field(
    0.9,
    "Momentum of BatchNorm's running statistics: the fraction that a step "
    "keeps.",
    spec.SHARE,
  )
  convolution: str = spec.field(
    "auto",
    "Implementation of the 5x5 convolutions: plain, padded, dense, phases, "
    "winograd, native, by_channels, or auto, the fastest on this machine.",
  )


@dataclasses.dataclass(frozen=True)
class Data:
  """Where the images come from."""

  name: str = spec.field(
    "synthetic",
    "celeba reads the set that the job prepare makes; folder reads folders and "
    "zips of image files; synthetic draws cartoon faces.",
    spec.one_of("celeba", "folder", "synthetic"),
  )
  path: spec.OneOrSeveral = spec.field(
    "",
    "celeba: the folder of the prepared set. folder: a folder, a zip or an "
    "image file, or several.",
  )
  validation_path: spec.OneOrSeveral = spec.field(
    "",
    "folder: held-out images for validation, as path; '' holds out a part of "
    "path, by a hash of each file's name.",
  )
  test_path: spec.OneOrSeveral = spec.field(
    "", "folder: held-out images for testing, likewise."
  )
  crop: str = spec.field(
    "auto",
    "folder: what is cut out of an image before it is resized to the model's "
    "size: centre (the centre square), face128 (the face of CelebA's aligned "
    "images of 178x218), none (all of it), or auto: face128 for images of that "
    "size, and else centre.",
    spec.one_of("auto", "centre", "face128", "none"),
  )
  ids: str = spec.field(
    "",
    "celeba and folder: a file that names the images to use, one a line, as in "
    "CelebA's list_eval_partition.txt; pretrained = those that the packaged "
    "model was trained and measured on; '' = all.",
  )
  split: str = spec.field(
    "test",
    "The split that is inpainted; all is everything that path holds.",
    spec.one_of("train", "validation", "test", "all"),
  )
  max_images: int = spec.field(
    0,
    "Use only so many images, the first of the split; 0 = all.",
    spec.at_least(0),
  )
  seed: int = spec.field(0, "Seed of the synthetic faces.", spec.SEED)
  placement: str = spec.field(
    "auto",
    "Training images: device loads them into the devices' memory once, stream "
    "reads them from disk as they are needed (celeba and folder; the extra "
    "stream), in the same order; auto streams what does not fit.",
    spec.one_of("auto", "device", "stream"),
  )
  workers: int = spec.field(
    0,
    "stream: processes that decode; as many as there are cores if reading is "
    "the bottleneck; 0 = threads, which share Python's lock: about 4,000 "
    "images a second in all.",
    spec.at_least(0),
  )


@dataclasses.dataclass(frozen=True)
class PreparedData:
  """What a data set is made from, and where it is written."""

  name: str = spec.field(
    "celeba",
    "celeba, or folder: photographs, whose faces are cropped and aligned.",
    spec.one_of("celeba", "folder"),
  )
  source: spec.OneOrSeveral = spec.field(
    "",
    "celeba: the download: img_align_celeba.zip or the folder it unpacks to, "
    "with list_eval_partition.txt beside it; or a prepared celeb_a of tfds. "
    "folder: a folder, a zip or an image file, or several.",
  )
  path: str = spec.field("", "The folder to write the prepared set to.")
  image_size: int = spec.field(
    64,
    "Side of the faces, pixels: that of the model, or more. CelebA's have 128 "
    "at the most.",
    spec.one_of(32, 64, 128, 256),
  )


@dataclasses.dataclass(frozen=True)
class Train:
  """Adversarial training: the DCGAN's settings (Radford et al. 2016)."""

  loss: str = spec.field(
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy, softmax_cross_entropy, mean_squared_error, hinge, "
    "minimax, or your own as package.module:function.",
  )
  batch_size: int = spec.field(
    128, "Images per step, over all devices.", spec.at_least(2)
  )
  epochs: float = spec.field(
    20.0,
    "Passes over the training images; the paper has 20.",
    spec.at_least(0),
  )
  steps: int = spec.field(
    0, "Steps; if not 0, used instead of epochs.", spec.at_least(0)
  )
  learning_rate: float = spec.field(
    2e-4, "Learning rate of Adam, for both networks.", spec.above(0)
  )
  beta1: float = spec.field(
    0.5, "Adam's decay of the first moment.", spec.SHARE
  )
  beta2: float = spec.field(
    0.999, "Adam's decay of the second moment.", spec.SHARE
  )
  ema_decay: float = spec.field(
    0.999,
    "Decay per step of the generator's moving average, which inpaints.",
    spec.SHARE,
  )
  roughness_weight: float = spec.field(
    0.0,
    "Weight of a penalty on G's images being rougher than the real ones, which "
    "takes away the grain that a short training leaves; 0 = the paper's.",
    spec.at_least(0),
  )
  flip: bool = spec.field(True, "Mirror images at random.")
  steps_per_call: int = spec.field(
    0,
    "Steps in one compiled call; 0 = 1 on the CPU, where compiled loops are "
    "slow, and 20 elsewhere.",
    spec.at_least(0),
  )
  log_every: int = spec.field(
    50, "Steps between lines of metrics.jsonl.", spec.at_least(1)
  )
  sample_every: int = spec.field(
    1000,
    "Steps between pictures of samples and of inpainted faces; 0 = none.",
    spec.at_least(0),
  )
  save_every: int = spec.field(
    1000,
    "Steps between checkpoints, each with its inversion MSE on held-out "
    "images.",
    spec.at_least(1),
  )
  max_to_keep: int = spec.field(
    2, "Latest checkpoints that are kept, beside the best.", spec.at_least(1)
  )
  validation_images: int = spec.field(
    64,
    "Held-out images for the inversion MSE; 0 = no validation: the last "
    "checkpoint is the best.",
    spec.at_least(0),
  )
  validation_steps: int = spec.field(
    100,
    "Steps of the search that inverts them: one start, Adam with a cosine "
    "schedule from 0.1, no prior.",
    spec.at_least(1),
  )


@dataclasses.dataclass(frozen=True)
class Encoder:
  """The encoder that fidelity and realism start from, and its training."""

  width: float = spec.field(
    1.0, "Multiplies its channel counts.", spec.above(0)
  )
  rank: int = spec.field(
    0,
    "Values in the middle of its dense layers; 0 = the channels of its last "
    "convolution.",
    spec.at_least(0),
  )
  skips: bool = spec.field(
    True,
    "Whether it changes G's second and later activations besides the first.",
  )
  dropout: float = spec.field(
    0.0,
    "Dropout rate in the middle of its dense layers; the packaged model's last "
    "trainings had 0.15 to 0.35.",
    spec.SHARE,
  )
  mirrored: bool = spec.field(
    False,
    "Train the mean of the outputs for an image and its mirror image, which "
    "fidelity and realism use, instead of each alone; a step takes 1.75 times "
    "as long.",
  )
  dtype: str = spec.field("float32", "Type the layers compute in.", spec.DTYPE)
  warm_start: bool = spec.field(
    False,
    "Start from the (first) encoder of checkpoint instead of random weights, "
    "for more steps or other holes. It has this width and this rank or a lower "
    "one, with or without skips.",
  )
  fresh_dense: bool = spec.field(
    False,
    "With warm_start, take only the convolutions and skips and train the dense "
    "layers from scratch: for another encoder, whose errors differ from the "
    "first one's.",
  )
  families: spec.OneOrSeveral = spec.field(
    "centre,centre,centre,centre,half,half,random_pixels,random_pixels,pattern,"
    "pattern,box,strokes,scratches,text,blocks,lines,border,low_resolution",
    "The families of holes it is trained with; one that is listed twice is "
    "drawn twice as often.",
  )
  mask_pool: int = spec.field(
    4096,
    "Number of holes that are drawn before training and then reused.",
    spec.at_least(1),
  )
  known_weight: float = spec.field(
    0.1,
    "Weight of a known pixel's squared error; a pixel in the hole has 1.",
    spec.at_least(0),
  )
  generated_share: float = spec.field(
    0.0,
    "Fraction of a batch that is faces of G instead of real ones.",
    spec.SHARE,
  )
  flip: bool = spec.field(True, "Mirror images at random.")
  batch_size: int = spec.field(
    256, "Images per step, over all devices.", spec.at_least(1)
  )
  steps: int = spec.field(15000, "Steps.", spec.at_least(1))
  learning_rate: float = spec.field(
    1e-3, "Learning rate of AdamW, with a cosine to 0.", spec.above(0)
  )
  weight_decay: float = spec.field(
    1e-3, "Weight decay of AdamW.", spec.at_least(0)
  )
  steps_per_call: int = spec.field(
    0,
    "Steps in one compiled call; 0 = 1 on the CPU and 20 elsewhere.",
    spec.at_least(0),
  )
  log_every: int = spec.field(
    50, "Steps between lines of metrics.jsonl.", spec.at_least(1)
  )
  save_every: int = spec.field(
    1000,
    "Steps between checkpoints, each with its error on held-out images.",
    spec.at_least(1),
  )
  max_to_keep: int = spec.field(
    2, "Latest checkpoints that are kept, beside the best.", spec.at_least(1)
  )
  validation_images: int = spec.field(
    256, "Held-out images, with the holes of masks.", spec.at_least(0)
  )
