import numpy as np

from dcgan_inpaint.photographs import cascade


def test_a_face_is_found_in_the_mirror_too(monkeypatch):
  image = np.zeros((100, 200, 3), np.uint8)
  image[:, :100] = 255

  def boxes(image):
    if image[0, 0].all():
      return [(20, 20, 60, 60), (90, 1, 130, 41)]
    return [(140, 20, 180, 60)]  # The first, mirrored.

  monkeypatch.setattr(cascade, "_boxes", boxes)
  assert cascade.run(image) == [(20, 20, 60, 60)]


def test_a_box_in_a_larger_one_is_the_same_face(monkeypatch):
  both = [(60, 20, 100, 60), (50, 10, 150, 110)]
  image = np.zeros((120, 200, 3), np.uint8)
  monkeypatch.setattr(cascade, "_boxes", lambda image: both)
  assert cascade.run(image) == [(50, 10, 150, 110)]


def test_a_tiny_image_has_no_face():
  assert cascade.run(np.zeros((10, 20, 3), np.uint8)) == []
