import numpy as np
import pytest
import skimage.data

from dcgan_inpaint import pixels
from dcgan_inpaint.methods import criminisi


@pytest.mark.slow
def test_priorities_are_those_worked_out_by_hand():
  # A black half next to a white one, and a hole of 3x3 over the edge.
  levels = np.zeros((9, 9, 3), np.float32)
  levels[:, 4:] = 255
  filled = np.ones((9, 9), bool)
  filled[3:6, 3:6] = False
  priorities, confidence = criminisi.priorities(
    levels, filled, np.float32(filled), size=5
  )
  # All 9 pixels of the hole are in the patch of 25 around each of them.
  np.testing.assert_allclose(confidence[3:6, 3:6], 16 / 25, rtol=1e-6)
  assert confidence[0, 0] == 1
  # In the patches around the hole's upper and lower row, the steepest gradient
  # is half a step from black to white, across. Where the rim runs across, its
  # normal is along the edge; at the corners it is at 45 degrees to it; to the
  # left and right all measured pixels are flat. The middle is not on the rim.
  half, slanted, flat = 0.5, 0.5 / np.sqrt(2), 0
  data = np.array(
    [[slanted, half, slanted], [flat, -np.inf, flat], [slanted, half, slanted]]
  )
  expected = np.maximum(16 / 25 * (data + 0.001), -1)
  np.testing.assert_allclose(priorities[3:6, 3:6], expected, rtol=1e-5)
  assert (np.asarray(priorities)[filled] == -1).all()


def _reference(image, known, size):
  """Fills one image by loops over its pixels, in the order of the paper."""
  height, width = known.shape
  radius = size // 2
  levels = np.round(image * 127.5 - 0.5).astype(np.float64)
  filled, result = known.copy(), image.copy()
  confidence = known.astype(np.float64)

  def patch(y, x):
    return [
      (v, u)
      for v in range(y - radius, y + radius + 1)
      for u in range(x - radius, x + radius + 1)
      if 0 <= v < height and 0 <= u < width
    ]

  def slope(values, y, x):
    """Central differences; outside, the border's own value is repeated."""
    up, down = values[max(y - 1, 0), x], values[min(y + 1, height - 1), x]
    left, right = values[y, max(x - 1, 0)], values[y, min(x + 1, width - 1)]
    return np.array([down - up, right - left]) / 2

  def beside(y, x):
    return [
      0 <= v < height and 0 <= u < width and filled[v, u]
      for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
    ]

  stock = [
    (y, x)
    for y in range(radius, height - radius)
    for x in range(radius, width - radius)
    if all(known[place] for place in patch(y, x))
  ]
  order = []
  while not filled.all():
    grey = levels.mean(-1) / 255
    hole = (~filled).astype(np.float64)
    best = (-1, None, None)
    for y, x in np.argwhere(~filled):
      if not any(beside(y, x)):
        continue
      own = np.mean([confidence[place] for place in patch(y, x)])
      gradients = [
        slope(grey, *place)
        for place in patch(y, x)
        if filled[place] and all(beside(*place))
      ]
      steepest = max(gradients, key=np.linalg.norm, default=np.zeros(2))
      normal = slope(hole, y, x)
      normal /= np.linalg.norm(normal) or 1
      isophote = np.array([-steepest[1], steepest[0]])
      priority = own * (abs(isophote @ normal) + 0.001)
      if priority > best[0] * (1 + 1e-6):
        best = (priority, (y, x), own)
    _, (y, x), own = best
    order.append((y, x))

    def distance(source, y=y, x=x):
      dy, dx = source[0] - y, source[1] - x
      return sum(
        ((levels[v, u] - levels[v + dy, u + dx]) ** 2).sum()
        for v, u in patch(y, x)
        if filled[v, u]
      )

    source = min(stock, key=distance)
    for v, u in [place for place in patch(y, x) if not filled[place]]:
      from_ = v + source[0] - y, u + source[1] - x
      levels[v, u], result[v, u] = levels[from_], image[from_]
      confidence[v, u], filled[v, u] = own, True
  return result, order


@pytest.mark.parametrize("corner", [(60, 200), (150, 180), (300, 100)])
def test_it_fills_as_a_plain_loop_over_the_paper_s_steps_does(corner):
  y, x = corner
  astronaut = pixels.to_float(skimage.data.astronaut()[::2, ::2])
  image = astronaut[y // 2 :, x // 2 :][:22, :19]
  known = np.ones((22, 19), bool)
  known[8:14, 7:13] = False
  known[10:12, 4:7] = False
  known[16:19, 15:] = False  # At the border.
  expected, order = _reference(image, known, 5)
  completed = criminisi.complete(
    image[None], np.float32(known)[None, ..., None], patch_size=5
  )
  assert len(order) > 5
  np.testing.assert_array_equal(completed[0], expected)
