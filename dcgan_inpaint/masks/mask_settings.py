"""One set of holes: its family, and how that is drawn."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class MaskSettings:
  """What the masks of a set of images follow from.

  The other fields are described at the family that reads them (`families`),
  and in one line each at `config.mask`.

  Attributes:
    family: one of `mask_sets.FAMILIES`.
    seed: draws the random families, image by image; an int >= 0.
  """

  family: str = "centre"
  size: float = 0.0
  position: str = ""
  side: str = "left"
  share: float = 0.0
  path: str = ""
  file_polarity: str = "white_is_hole"
  seed: int = 0
