import numpy as np
from PIL import Image
import pytest
from skimage import data as skimage_data

from dcgan_inpaint.data import folder
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.jobs import prepare
from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import detection
from dcgan_inpaint.photographs import dlib_faces
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors


@pytest.fixture
def source(tmp_path):
  """A photograph of several finds, one of none, a face and a broken file."""
  root = tmp_path / "photos"
  pictures.save_png(root / "on board" / "Å.png", skimage_data.astronaut())
  pictures.save_png(root / "wall.png", np.stack([skimage_data.brick()] * 3, -1))
  pictures.save_png(root / "face.png", synthetic.load("test", 1)[0])
  (root / "torn.png").write_bytes(b"\x89PNG")
  return root


def names(root):
  return sorted(x.relative_to(root).as_posix() for x in root.rglob("*.png"))


def test_faces_become_a_data_set(source, tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(dlib_faces, "is_installed", lambda: False)
  output = tmp_path / "faces"
  counts = prepare.cut_faces(str(source), str(output), "auto", 64)
  # The cascade's second find is a false alarm, of 61 pixels.
  assert counts == {
    "photographs": 3,
    "faces": 2,
    "skipped": 0,
    "without_face": 1,
    "failed": 1,
  }
  assert names(output) == ["face.png", "on board/Å.png"]
  for name in ("torn.png", "wall.png"):
    assert any(name in message for message in caplog.messages)
  loaded = folder.load(str(output), "all", 64)
  np.testing.assert_array_equal(loaded.images[0], synthetic.load("test", 1)[0])
  # What inpainting would see of the astronaut.
  detect = detection.create("cascade")
  (face, *_) = detect(skimage_data.astronaut(), np.zeros((512, 512), bool))
  np.testing.assert_array_equal(
    loaded.images[1], alignment.crop(skimage_data.astronaut(), face.matrix)
  )


def test_several_faces_are_numbered_and_a_second_run_continues(
  source, tmp_path, monkeypatch
):
  two = [
    detection.Face(alignment.upright(10, 20, 100), "box"),
    detection.Face(alignment.upright(50, 20, 64), "box"),
  ]
  too_small = detection.Face(alignment.upright(50, 20, 60), "box")
  monkeypatch.setattr(
    detection, "create", lambda name, size: lambda *_: [*two, too_small]
  )
  output = tmp_path / "faces"
  counts = prepare.cut_faces(str(source / "wall.png"), str(output), "auto", 64)
  assert counts["faces"] == 2
  assert names(output) == ["wall_1.png", "wall_2.png"]
  made = np.asarray(Image.open(output / "wall_2.png"))
  np.testing.assert_array_equal(
    made[..., 0], skimage_data.brick()[20:84, 50:114]
  )
  # As if interrupted between the two: the first is written last.
  (output / "wall_1.png").unlink()
  for faces_made, skipped in ((2, 0), (0, 1)):
    again = prepare.cut_faces(str(source / "wall.png"), str(output), "auto", 64)
    assert (again["faces"], again["skipped"]) == (faces_made, skipped)


def test_faces_of_128_pixels_are_cut_where_there_are_as_many(
  source, tmp_path, monkeypatch
):
  found = [
    detection.Face(alignment.upright(10, 20, side), "box") for side in (128, 90)
  ]
  monkeypatch.setattr(detection, "create", lambda name, size: lambda *_: found)
  output = str(tmp_path / "faces")
  counts = prepare.cut_faces(str(source / "wall.png"), output, "auto", 128)
  assert counts["faces"] == 1
  made = np.asarray(Image.open(tmp_path / "faces" / "wall.png"))
  np.testing.assert_array_equal(
    made[..., 0], skimage_data.brick()[20:148, 10:138]
  )


def test_paths_that_cannot_be_used_are_refused(source, tmp_path):
  with pytest.raises(errors.UserError, match=r"config\.data\.path"):
    prepare.cut_faces(str(source), "", "whole", 64)
  inside = str(source / "in")
  with pytest.raises(
    errors.UserError, match=r"config\.data\.path=.*config\.data\.source="
  ):
    prepare.cut_faces(str(source), inside, "whole", 64)
  with pytest.raises(
    errors.UserError, match=r"config\.data\.source=.*config\.faces=whole"
  ):
    prepare.cut_faces(
      str(source / "wall.png"), str(tmp_path / "faces"), "cascade", 64
    )
