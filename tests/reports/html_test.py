"""The report in a browser: headless Chromium, controlled by Selenium."""

import json

import chromium
import numpy as np
import pytest

from dcgan_inpaint.reports import html
from dcgan_inpaint.reports import results

METHODS = ("slow_and_good", "quick", "broken")
METRICS = ("mse", "psnr", "ssim", "ssim_gaussian")
# Text that must not be taken for markup.
HOSTILE = "</script><img src=x onerror=alert(1)>"


def region_metrics(mean):
  """Returns means and intervals, of the hole and of the whole image."""
  row = {"n": 2}
  for name in METRICS:
    value = mean if name == "mse" else 100 / mean
    row |= {f"hole_{name}": value, name: value / 4}
    row |= {f"hole_{name}_ci95": value / 10, f"{name}_ci95": value / 40}
  return row


def make_row(method, mask, mean):
  failed = method == "broken"
  return {
    "method": method,
    "family": "test",
    "mask": mask,
    **(
      region_metrics(mean)
      | ({"n": 1, "failures": 1} if failed else {"failures": 0})
    ),
    "seconds_per_image": 0.001 if method == "quick" else 2.0,
    "images_per_second": 1000.0 if method == "quick" else 0.5,
    "fit_seconds": 12.5 if method == "quick" else None,
    "step": 1000,
    "common": region_metrics(mean / 2),
    "by_hole_area": [{"hole_area": "20-30 %", **region_metrics(mean)}],
  }


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  """The report of three methods under two masks, with two images each."""
  means = {
    "centre": {"slow_and_good": 90.0, "quick": 1000.0, "broken": 200.0},
    "half": {"slow_and_good": 300.0, "quick": 95.0, "broken": 2000.0},
  }
  rows = [
    make_row(method, mask, means[mask][method])
    for mask in means
    for method in METHODS
  ]
  rng = np.random.default_rng(0)
  faces = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
  masks = [
    html.Mask(
      name=mask,
      digest="0123456789ab",
      hole_share=0.25,
      masked=faces,
      completed={method: faces for method in METHODS},
      metrics={
        method: {
          region + name: np.array(
            [mean, np.nan if method == "broken" else mean + 1]
          )
          for region in ("hole_", "")
          for name in METRICS
        }
        for method, mean in means[mask].items()
      },
    )
    for mask in means
  ]
  config = {"data": {"name": "synthetic", "split": "test"}}
  path = tmp_path_factory.mktemp("report") / "report.html"
  html.write(
    path,
    results.collect("benchmark", config, rows),
    {method: f"Fills {HOSTILE}." for method in METHODS},
    [HOSTILE, "second.png"],
    faces,
    masks,
  )
  return path


def test_the_file_needs_no_other(path):
  text = path.read_text()
  assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
  assert "https://" not in text
  assert text.count("</script>") == 2
  assert "default-src 'none'" in text
  # Values that are not finite are null: JSON cannot represent them.
  start = text.index('id="data">') + len('id="data">')
  data = json.loads(text[start : text.index("</script>", start)])
  assert data["images"][0]["name"] == HOSTILE
  assert data["masks"][0]["metrics"]["broken"]["mse"] == [200.0, None]
  pictures = data["masks"][1]["completed"]["quick"]
  assert all(x.startswith("data:image/webp;base64,") for x in pictures)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  """A headless Chromium that keeps its log and its requests."""
  with chromium.start(tmp_path_factory.mktemp("chromium")) as browser:
    yield browser


@pytest.fixture(
  params=[pytest.param(x, marks=pytest.mark.slow) for x in ("desktop", "phone")]
)
def page(request, browser, path):
  """The report, freshly opened on a wide and on a narrow screen."""
  chromium.resize(browser, phone=request.param == "phone")
  browser.get_log("performance")
  browser.get(path.as_uri())
  yield browser
  assert browser.get_log("browser") == []
  requests = chromium.requests(browser)
  assert path.as_uri() in requests
  assert all(url.startswith(("file:", "data:")) for url in requests), requests
  assert chromium.fits(browser)


def find(page, selector):
  return page.find_elements("css selector", selector)


def texts(page, selector):
  # `textContent`, as some of it is outside of a narrow screen.
  return [x.get_property("textContent") for x in find(page, selector)]


def click(page, selector, index=0):
  page.execute_script("arguments[0].click()", find(page, selector)[index])


def select(page, name, value):
  (option,) = find(page, f"#{name} option[value='{value}']")
  option.click()


def test_tables_are_sorted_by_their_headings(page):
  first = "#metrics tbody tr > :first-child"
  assert texts(page, first) == ["slow_and_good", "broken", "quick"]
  (heading,) = find(page, "#metrics thead th[aria-sort]")
  assert heading.text.startswith("Hole MSE")
  assert heading.get_attribute("aria-sort") == "ascending"
  click(page, "#metrics .sort", 1)
  assert texts(page, first) == ["quick", "broken", "slow_and_good"]
  (heading,) = find(page, "#metrics thead th[aria-sort]")
  assert heading.get_attribute("aria-sort") == "descending"
  # By name, alphabetically; by time, the fast one first.
  click(page, "#metrics .sort", 0)
  assert texts(page, first) == ["broken", "quick", "slow_and_good"]
  titles = texts(page, "#metrics .sort")
  click(page, "#metrics .sort", titles.index("Time an image"))
  assert texts(page, first)[0] == "quick"
  # A value that is missing comes last, both ways.
  for _ in range(2):
    click(page, "#metrics .sort", titles.index("Fit"))
    assert texts(page, first)[0] == "quick"


def test_the_matrix_ranks_methods_over_all_masks(page):
  assert texts(page, "#matrix thead th") == [
    "Method",
    "Mean rank",
    "centre",
    "half",
  ]
  rows = [row.text.split() for row in find(page, "#matrix tbody tr")]
  assert rows == [
    ["slow_and_good", "1.5", "90.0", "300"],
    ["quick", "2.0", "1,000", "95.0"],
    ["broken", "2.5", "200", "2,000"],
  ]
  assert texts(page, "#matrix td.best") == ["1.5", "90.0", "95.0"]


def test_metrics_follow_what_is_chosen(page):
  select(page, "region", "")
  assert "MSE of the whole image" in texts(page, "#bars-title")[0]
  assert texts(page, "#bars .value") == ["22.5 ± 2.3", "50.0 ± 5.0", "250 ± 25"]
  select(page, "metric", "psnr")
  select(page, "images", "common")
  select(page, "region", "hole_")
  # Higher is better, and the means are those over the common images.
  assert texts(page, "#bars .value") == [
    "2.22 ± 0.22",
    "1.00 ± 0.10",
    "0.20 ± 0.02",
  ]
  click(page, "#chips button", 1)
  assert texts(page, "#bars .label") == ["quick", "slow_and_good", "broken"]
  (pressed,) = find(page, "#chips [aria-pressed='true']")
  assert pressed.get_property("textContent") == "half"
  # Both masks have holes of that area: (100 / 90 + 100 / 300) / 2.
  assert texts(page, "#areas td") == ["0.72", "0.58", "0.28"]


def test_bars_and_whiskers_are_to_scale(page):
  scale = """
    const track = document.querySelector(".track").getBoundingClientRect();
    return [...document.querySelectorAll("#bars " + arguments[0])].map((x) => {
      const box = x.getBoundingClientRect();
      return [box.left - track.left, box.right - track.left].map(
        (x) => 1100 * x / track.width);
    });
  """
  bars = page.execute_script(scale, ".bar")
  # The longest whisker, of 1000 ± 100, ends where the track does.
  for (left, right), mean in zip(bars, (90, 200, 1000), strict=True):
    assert left == pytest.approx(0, abs=1)
    assert right == pytest.approx(mean, abs=15)
  whiskers = page.execute_script(scale, ".whisker")
  np.testing.assert_allclose(
    whiskers, [[81, 99], [180, 220], [900, 1100]], atol=20
  )


def test_the_scatter_has_every_method_at_its_time_and_error(page):
  points = find(page, "#scatter .point")
  assert [point.get_attribute("aria-label") for point in points] == [
    "slow_and_good: 90.0, 2 s",
    "broken: 200, 2 s",
    "quick: 1,000, 1 ms",
  ]
  centres = [
    [float(circle.get_attribute(x)) for x in ("cx", "cy")]
    for circle in find(page, "#scatter .point circle:not(.hit)")
  ]
  (good, broken, quick) = centres
  assert quick[0] < good[0] == broken[0]
  assert quick[1] < broken[1] < good[1]
  # The front runs from the fast one to the good one.
  front = find(page, "#scatter .front")[0].get_attribute("d")
  assert front.count("L") == 1 and front.startswith("M")


def test_a_picture_shows_its_own_metrics(page):
  assert texts(page, "#sheet thead th")[:3] == [
    "original",
    "masked",
    "slow_and_good",
  ]
  popup = find(page, "#popup")[0]
  assert not popup.is_displayed()
  # The second image of the second best, which failed there.
  click(page, "#sheet tbody tr:nth-child(2) td:nth-child(4) button")
  assert popup.is_displayed()
  assert "broken" in popup.text and "failed" in popup.text
  click(page, "#sheet tbody tr:nth-child(1) td:nth-child(3) button")
  assert "place 1 of 3" in popup.text and HOSTILE in popup.text
  cells = texts(page, "#popup td")
  assert cells[:4] == ["hole", "whole", "90.0", "90.0"]
  box = popup.rect
  width = page.execute_script("return innerWidth")
  assert box["x"] >= 0 and box["x"] + box["width"] <= width
  page.execute_script("document.body.click()")
  assert not popup.is_displayed()


def test_pictures_and_charts_have_words(page):
  alternatives = [x.get_attribute("alt") for x in find(page, "#sheet img")]
  assert len(alternatives) == 2 * (2 + 3) and all(alternatives)
  assert "second.png, broken: failed" in alternatives
  assert all(x.get_attribute("aria-label") for x in find(page, "svg"))
  for table in find(page, "main table"):
    page.execute_script("arguments[0].closest('details')?.toggleAttribute("
                        "'open', true)", table)  # fmt: skip
    assert table.find_elements("css selector", "caption")


def test_dark_and_light(page):
  def background():
    return page.execute_script(
      "return getComputedStyle(document.body).backgroundColor"
    )

  seen = []
  for scheme in ("light", "dark"):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    seen.append(background())
  assert seen == ["rgb(246, 246, 244)", "rgb(19, 20, 22)"]
  click(page, "#theme")
  assert background() == seen[0]
  click(page, "#theme")
  assert background() == seen[1]
  page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
