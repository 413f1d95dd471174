import numpy as np
import pytest
from skimage import transform

from dcgan_inpaint.photographs import alignment
from dcgan_inpaint.photographs import dlib_faces
from dcgan_inpaint.photographs import face_shape
from dcgan_inpaint.photographs import second_look

# Smooth enough to be resized without loss.
_Y, _X = np.mgrid[:64, :64] / 63
MEAN = np.uint8(
  np.stack([60 + 120 * _X * _Y, 90 + 80 * _Y, 70 + 100 * _X**2], axis=-1)
)
PIXELS, LOW = second_look._PIXELS, second_look._LOW


def window_hole(left, upper, right, lower):
  """Returns a hole in the window, given in units of the crop."""
  step = PIXELS / second_look._SIDE
  columns, rows = (
    slice(*(round((x - LOW) * step) for x in edges))
    for edges in ((left, right), (upper, lower))
  )
  hole = np.zeros((PIXELS, PIXELS), bool)
  hole[rows, columns] = True
  return hole


@pytest.mark.parametrize("contrast, light", [(1, 0), (0.6, 70), (1.2, -30)])
def test_the_mean_face_comes_in_the_light_of_the_known_pixels(contrast, light):
  hole = window_hole(10, 20, 40, 50)
  nothing = np.zeros_like(hole)
  nothing[0, 0] = True
  everything = second_look._with_mean(
    np.zeros((PIXELS, PIXELS, 3), np.uint8), ~nothing, MEAN
  )
  assert everything.shape == (PIXELS, PIXELS, 3)
  side = round(64 * PIXELS / second_look._SIDE)
  margin = (PIXELS - side) // 2
  face = transform.resize(MEAN / 255, (side, side), order=3) * 255
  face = np.pad(face, [(margin, margin)] * 2 + [(0, 0)], mode="edge")
  image = np.uint8(np.round(contrast * face + light))
  damaged = np.where(hole[..., None], 0, image)
  completed = second_look._with_mean(np.uint8(damaged), hole, MEAN)
  np.testing.assert_array_equal(completed[~hole], image[~hole])
  assert np.abs(np.float32(completed) - image)[hole].max() < 12


def test_a_grey_mean_serves_too():
  hole = window_hole(10, 20, 40, 50)
  image = np.full((PIXELS, PIXELS, 3), 128, np.uint8)
  completed = second_look._with_mean(image, hole, MEAN[..., :1])
  assert completed.shape == image.shape
  np.testing.assert_array_equal(completed[~hole], image[~hole])


def found(points, score=1.0):
  low, high = points.min(axis=0), points.max(axis=0)
  return dlib_faces.Found(score, (*low, *high), points)


@pytest.mark.parametrize(
  "hole, expected",
  [
    ((0, 0, 0, 0), 0),
    ((0, 0, 34, 68), 34),  # A column of landmarks each.
    ((0, 0, 68, 68), 68),
    ((20, 0, 21, 68), 0),  # A scratch hides none.
  ],
)
def test_a_landmark_is_hidden_if_most_of_its_neighbourhood_is(hole, expected):
  places = np.arange(68) + 0.5
  left, upper, right, lower = hole
  lost = np.zeros((68, 68), bool)
  lost[upper:lower, left:right] = True
  hidden = second_look.hidden(
    found(np.stack([places, places[::-1]], axis=1)), lost
  )
  assert hidden.sum() == pytest.approx(expected, abs=2)


def test_what_lies_beyond_the_image_is_hidden():
  points = np.full((68, 2), 20.0)
  points[:10, 0] = 300
  points[0, 0] += 100
  hidden = second_look.hidden(found(points), np.zeros((64, 64), bool))
  assert hidden[:10].all() and not hidden[10:].any()


@pytest.mark.parametrize("where", ["at its place", "elsewhere"])
def test_a_second_look_corrects_the_transform(where):
  mean = face_shape.statistics()[0]
  points = np.zeros((68, 2))
  for part, place in zip(
    face_shape.PARTS.values(), mean[:-3].reshape(-1, 2), strict=True
  ):
    points[list(part)] = place
  x, y, width = mean[-3:]
  box = np.array([x - width / 2, y - width / 2, x + width / 2, y + width / 2])
  # The face stands 4 units to the right of where it was thought to be.
  shift = np.array([4 if where == "at its place" else 40, 0])
  step = PIXELS / second_look._SIDE
  one = dlib_faces.Found(
    0.7, tuple((box + [*shift, *shift] - LOW) * step),
    (points + shift - LOW) * step,
  )  # fmt: skip
  matrix = alignment.upright(50, 40, 96)  # 1.5 pixels a unit.
  look = second_look.again(
    lambda image, least, doublings: [one],
    np.zeros((200, 200, 3), np.uint8),
    np.zeros((200, 200), bool),
    matrix,
    MEAN,
    0.25,
  )
  if where == "elsewhere":
    assert look is None
    return
  assert look is not None and look.score == 0.7
  expected = alignment.upright(56, 40, 96)
  np.testing.assert_allclose(look.matrix, expected, atol=1e-2)
