"""One set of holes: its family, and the family's settings."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class MaskSettings:
  """The settings of the masks of a set of images.

  The other fields are described at the families that read them (`families`),
  and briefly at `config.mask`.

  Attributes:
    family: one of `mask_sets.FAMILIES`.
    seed: of the random families, image by image; an int >= 0.
  """

  family: str = "centre"
  size: float = 0.0
  position: str = ""
  side: str = "left"
  share: float = 0.0
  path: str = ""
  file_polarity: str = "white_is_hole"
  seed: int = 0
