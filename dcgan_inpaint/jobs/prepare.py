"""The job `prepare`: a data set of CelebA, or of faces cut out of photographs.

`data.celeba` prepares CelebA. In a folder of photographs every face is found
and cropped as for inpainting (`photographs`), and written as a square PNG;
`config.data.name='folder'` reads the result.
"""

import collections
import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from dcgan_inpaint import data
from dcgan_inpaint.data import decoding
from dcgan_inpaint.data import file_names
from dcgan_inpaint.data import folder
from dcgan_inpaint.jobs import prepared
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import image_files
from dcgan_inpaint.photographs import picture as picture_lib
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import progress
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import files
from dcgan_inpaint.runtime import lists
from dcgan_inpaint.runtime import lock


def run(
  config: ml_collections.ConfigDict, workdir: str, mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """Prepares `config.data`.

  Args:
    config: the whole config.
    workdir: not used; the data set goes to `config.data.path`.
    mesh: not used.

  Returns:
    One row, for results.json: the counts, and the data's digest.

  Raises:
    errors.UserError: of `celeba.prepare` or `cut_faces`.
  """
  del workdir, mesh
  if config.data.name == "folder":
    row = cut_faces(
      config.data.source,
      config.data.path,
      config.faces,
      config.data.image_size,
      config.max_megapixels,
    )
  else:
    # It imports tfds, which faces out of photographs do not need.
    from dcgan_inpaint.data import celeba

    source = lists.one_path(config.data.source, "config.data.source")
    row = celeba.prepare(source, config.data.path, config.data.image_size)
  return [{**row, "data_digest": data.digest_files(config.data.path)}]


def cut_faces(
  source: str | tuple[str, ...],
  output: str,
  detector: str,
  size: int,
  max_megapixels: float = decoding.MAX_MEGAPIXELS,
) -> dict[str, int]:
  """Cuts the faces out of photographs.

  The face of NAME.jpg becomes NAME.png, with its subfolders; several faces
  become NAME_1.png, NAME_2.png and so on, the most certain first. Where such a
  name is taken, the photograph's own suffix is put into it (NAME.jpg_1.png), or
  a number. Faces of fewer pixels a side than `size` are left out: enlarged,
  they would teach blur. A photograph that is done already is skipped; the
  output keeps a record of these (`prepared`).

  Args:
    source: folders, zips and image files, as `folder.list_files` takes them.
    output: folder for the faces.
    detector: one of `detection.DETECTORS`.
    size: side of the faces, pixels.
    max_megapixels: millions of pixels above which a photograph is left out.

  Returns:
    `photographs` were read in this run and `faces` written; `skipped` were done
    already; photographs `without_face`, and files that cannot be read
    (`failed`), were named and left out.

  Raises:
    errors.UserError: a path is missing or holds no image; the output lies in
      the source; or there is no face at all.
  """
  if not output:
    raise errors.UserError(
      "config.data.path is empty: name the folder for the faces"
    )
  files.check_local(output, "config.data.path")
  root = pathlib.Path(output).expanduser()
  file_names.check_apart(
    output, "config.data.path", source, "config.data.source"
  )
  sources = folder.list_files(source, "config.data.source")
  detect = detection.create(detector, size=size)
  files.make_folder(root, "config.data.path")
  counts = collections.Counter(
    photographs=0, faces=0, skipped=0, without_face=0, failed=0
  )
  with (
    lock.hold(root, "config.data.path"),
    progress.Progress(
      len(sources), unit="photographs", description="prepare"
    ) as bar,
  ):
    # Not before: another run may have been at it.
    record = prepared.Record(root)
    for file in sources:
      try:
        encoded = file.read()
        faces, names = [], []
        done = record.is_done(file, encoded)
        if not done:
          faces = _cut(encoded, detect, size, max_megapixels)
          names = record.propose(file, encoded, len(faces))
          for name in names:
            files.check_name(root / name)
      except Exception as error:  # noqa: BLE001 (Pillow raises many kinds.)
        logging.warning("left out %s: %s", file.name, error)
        counts["failed"] += 1
      else:
        counts["skipped" if done else "photographs"] += 1
        counts["faces"] += len(faces)
        if faces:
          # A disk that fails is no photograph's fault.
          record.claim(file, encoded, names)
        elif not done:
          logging.warning("%s: no face of %s pixels or more", file.name, size)
          counts["without_face"] += 1
        for name, face in zip(names, faces, strict=True):
          pictures.save_png(root / name, face)
      bar.update(1)
  if counts["skipped"]:
    logging.info(
      "the faces of %s of %s photographs are in %s already",
      f"{counts['skipped']:,}", f"{len(sources):,}", root,
    )  # fmt: skip
  if not counts["faces"] + counts["skipped"]:
    raise errors.UserError(
      f"no face was found in config.data.source={source!r}; "
      "--config.faces=whole takes each image for one face"
    )
  return dict(counts)


def _cut(
  encoded: bytes,
  detect: detection.Detector,
  size: int,
  max_megapixels: float,
) -> list[np.ndarray]:
  """Returns the faces of one photograph, uint8 [size, size, 3] each."""
  try:
    picture = image_files.read(encoded, max_megapixels=max_megapixels)
    image = picture_lib.rgb(picture)
    no_hole = np.zeros(image.shape[:2], bool)
    return [
      alignment.crop(image, face.matrix, size)
      for face in detect(image, no_hole)
      if alignment.side(face.matrix) >= size
    ]
  except MemoryError:
    raise decoding.out_of_memory(encoded, max_megapixels) from None
