"""The page in a browser: headless Chromium, controlled by Selenium."""

import contextlib
import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import chromium
import image_files
import jax
import numpy as np
from PIL import Image
from PIL import ImageCms
import pytest

pytestmark = [
  pytest.mark.slow,
  # Looked for, not imported: that takes seconds, and every worker collects.
  pytest.mark.skipif(
    not importlib.util.find_spec("gradio"), reason="needs Gradio"
  ),
]

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 180  # The machine may be busy.


@contextlib.contextmanager
def serving(folder, *options):
  """Yields the address of a page that is served by a process, and this."""
  programs = jax.config.jax_compilation_cache_dir
  environment = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "TMPDIR": str(folder),
    **({"JAX_COMPILATION_CACHE_DIR": programs} if programs else {}),
  }
  process = subprocess.Popen(
    [sys.executable, "-m", "dcgan_inpaint", "serve", "--port=0", *options],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=environment,
    cwd=folder,
  )
  try:
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + process.stdout.read()
    yield found[0], process
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
  folder = tmp_path_factory.mktemp("server")
  with serving(folder) as (address, process):
    yield address
    check_end(process, signal.SIGTERM, folder)


def check_end(process, number, folder):
  """Checks that a signal ends the page in a line, and nothing is left."""
  process.send_signal(number)
  rest = process.stdout.read()
  assert process.wait(SECONDS) == 128 + number
  assert rest == f"stopped by {number.name}\n"
  assert [x.name for x in folder.iterdir() if "dcgan" in x.name] == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  with chromium.start(tmp_path_factory.mktemp("chromium")) as browser:
    yield browser


class Visit:
  """The page as a visitor sees it."""

  def __init__(self, browser, address, downloads, *, phone=False):
    self.browser, self.downloads = browser, downloads
    chromium.resize(browser, phone=phone)
    behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    browser.get_log("browser")
    chromium.requests(browser)
    browser.get(address)
    self.wait_for("#photograph input[type=file]")

  def find(self, selector):
    return self.browser.find_element("css selector", selector)

  def is_seen(self, selector):
    script = "return !!document.querySelector(arguments[0])?.offsetParent"
    return self.browser.execute_script(script, selector)

  def wait(self, done, what):
    end = time.monotonic() + SECONDS
    while not done():
      assert time.monotonic() < end, f"{what}; {self.message()!r}"
      time.sleep(0.1)

  def wait_for(self, selector):
    self.wait(
      lambda: self.browser.find_elements("css selector", selector), selector
    )

  def message(self):
    found = self.browser.find_elements("css selector", "#message p")
    return found[0].get_property("textContent") if found else ""

  def wait_for_message(self, part):
    self.wait(lambda: part in self.message(), part)

  def click(self, selector):
    self.browser.execute_script("arguments[0].click()", self.find(selector))

  def load(self, path, width, height):
    self.find("#photograph input[type=file]").send_keys(str(path))
    self.wait_for_message(f"{width} x {height}")
    self.wait(lambda: self.is_seen("#editor canvas"), "the editor")
    time.sleep(1)  # The canvas takes its size from the photograph.

  def paint(self):
    """Draws a line in the middle of the photograph."""
    from selenium.webdriver.common import action_chains

    canvas = self.find("#editor canvas")
    place = "arguments[0].scrollIntoView({block: 'center'})"
    self.browser.execute_script(place, canvas)
    actions = action_chains.ActionChains(self.browser)
    actions.move_to_element_with_offset(canvas, -15, -5).click_and_hold()
    actions.move_by_offset(30, 10).release().perform()
    time.sleep(1)  # What is painted is sent by itself.

  def fill(self):
    self.click("#fill")
    self.wait_for_message("Filled")
    self.wait(lambda: self.is_seen("#slider img"), "the result")

  def slider(self):
    """Returns the addresses of the pictures before and after."""
    found = self.browser.find_elements("css selector", "#slider img")
    return [image.get_attribute("src") for image in found]

  def save(self, selector):
    """Downloads a file; returns its path."""
    before = set(self.downloads.iterdir())
    self.click(selector)
    self.wait(
      lambda: any(
        path.suffix == ".png" for path in set(self.downloads.iterdir()) - before
      ),
      "the download",
    )
    (path,) = set(self.downloads.iterdir()) - before
    return path

  def check(self, address):
    """Checks that it fits, and that nothing is asked for from elsewhere."""
    assert chromium.fits(self.browser)
    asked = chromium.requests(self.browser)
    assert any("/gradio_api/upload" in url for url in asked)
    elsewhere = [
      url for url in asked if not url.startswith((address, "data:", "blob:"))
    ]
    assert not elsewhere
    log = self.browser.get_log("browser")
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []


@pytest.fixture
def visit(browser, address, tmp_path):
  folder = tmp_path / "downloads"
  folder.mkdir()
  return Visit(browser, address, folder)


def noise(height, width, channels=3, seed=0):
  shape = (height, width, channels)
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def check_known(before, after, mask):
  """Checks that a hole is not empty, and all else is the photograph's."""
  assert mask.shape == before.shape[:2] and set(np.unique(mask)) == {0, 255}
  known = mask == 0
  np.testing.assert_array_equal(after[known], before[known])
  assert 0.002 < 1 - known.mean() < 0.2
  assert np.mean(after[~known] != before[~known]) > 0.5


@pytest.mark.parametrize("phone", [False, True])
def test_a_photograph_is_loaded_painted_filled_and_saved(
  browser, address, tmp_path, phone
):
  """At its full size, of which the browser shows a part; with its metadata."""
  height, width = (240, 1500) if phone else (150, 200)
  image = noise(height, width)
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
  exif = Image.Exif()
  exif[0x010E] = "a description"
  path = tmp_path / "My photo, 1.png"
  options = {"icc_profile": profile, "exif": exif, "dpi": (300, 300)}
  path.write_bytes(image_files.encode(image, **options))
  downloads = tmp_path / "downloads"
  downloads.mkdir()
  visit = Visit(browser, address, downloads, phone=phone)
  visit.load(path, width, height)
  visit.paint()
  visit.fill()
  picture, mask = visit.save("#picture"), visit.save("#hole")
  with Image.open(picture) as saved:
    check_known(image, np.asarray(saved), np.asarray(Image.open(mask)))
    assert saved.mode == "RGB" and saved.info["icc_profile"] == profile
    assert saved.getexif()[0x010E] == "a description"
    assert round(saved.info["dpi"][0]) == 300
  # What was painted is around the middle.
  rows, columns = np.nonzero(np.asarray(Image.open(mask)))
  assert abs(rows.mean() / height - 0.5) < 0.1
  assert abs(columns.mean() / width - 0.5) < 0.1
  visit.check(address)


def test_one_of_several_completions_is_chosen(visit, address):
  visit.click("#examples button")  # A portrait, with its mask.
  visit.wait_for_message("512 x 512")
  script = """
    arguments[0].value = 2;
    arguments[0].dispatchEvent(new Event("input", {bubbles: true}));
  """
  visit.browser.execute_script(script, visit.find("#samples input[type=range]"))
  visit.fill()
  first = visit.save("#picture")
  before, after = visit.slider()
  thumbnails = visit.browser.find_elements("css selector", "#completions img")
  assert len(thumbnails) == 2
  visit.browser.execute_script(
    "arguments[0].closest('button').click()", thumbnails[1]
  )
  visit.wait(lambda: visit.slider()[1] != after, "the second")
  assert visit.slider()[0] == before
  second = visit.save("#picture")
  assert first.name.endswith("_1.png") and second.name.endswith("_2.png")
  first, second = (np.asarray(Image.open(x)) for x in (first, second))
  mask = np.asarray(Image.open(visit.save("#hole")))
  assert first.shape == second.shape == (512, 512, 3)
  assert np.any(first != second)
  np.testing.assert_array_equal(first[mask == 0], second[mask == 0])
  visit.check(address)


def test_transparent_pixels_and_a_mask_file_are_the_hole(visit, tmp_path):
  image = noise(120, 160, 4)
  image[..., 3] = 255
  image[10:20, 10:30, 3] = 0
  (tmp_path / "a.png").write_bytes(image_files.encode(image))
  drawn = np.zeros((120, 160), np.uint8)
  drawn[80:90, 100:120] = 255
  (tmp_path / "m.png").write_bytes(image_files.encode(255 - drawn))
  visit.load(tmp_path / "a.png", 160, 120)
  assert visit.find("#alpha input").is_selected()
  visit.click("#more button")
  visit.wait_for("#mask input[type=file]")
  visit.find("#mask input[type=file]").send_keys(str(tmp_path / "m.png"))
  visit.wait_for_message("Black is the hole")  # 99 % of it are white.
  visit.click("#black input")
  visit.wait(lambda: not visit.message(), "the mask turned round")
  visit.fill()
  mask = np.asarray(Image.open(visit.save("#hole")))
  expected = drawn.copy()
  expected[10:20, 10:30] = 255
  np.testing.assert_array_equal(mask, expected)
  after = np.asarray(Image.open(visit.save("#picture")))
  assert after.shape == (120, 160, 4) and (after[..., 3] == 255).all()
  check_known(image[..., :3], after[..., :3], mask)


def test_an_image_is_pasted(visit, tmp_path):
  script = """
    const canvas = document.createElement("canvas");
    canvas.width = 90, canvas.height = 70;
    canvas.toBlob((blob) => {
      const files = new DataTransfer();
      files.items.add(new File([blob], "image.png", {type: "image/png"}));
      document.dispatchEvent(new ClipboardEvent("paste", {
        clipboardData: files, bubbles: true, cancelable: true,
      }));
    });
  """
  visit.browser.execute_script(script)
  visit.wait_for_message("90 x 70")


@pytest.mark.parametrize(
  "content, named",
  [
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "broken.png"),
    (b"P5 9000 8000 255\n", "64 megapixels"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
  ],
  ids=["damaged", "large", "PostScript"],
)
def test_a_broken_upload_is_one_line_on_the_page(
  visit, address, tmp_path, content, named
):
  path = tmp_path / "<b>broken.png"
  path.write_bytes(content)
  visit.find("#photograph input[type=file]").send_keys(str(path))
  visit.wait_for_message(named)
  assert visit.find("#message .wrong").is_displayed()
  assert "\n" not in visit.message()
  # Another photograph can be loaded at once.
  path = tmp_path / "whole.png"
  path.write_bytes(image_files.encode(noise(40, 60)))
  visit.load(path, 60, 40)
  visit.click("#fill")
  visit.wait_for_message("no hole")
  visit.check(address)


def test_two_visitors_at_once_get_their_own(
  visit, browser, address, tmp_path, tmp_path_factory
):
  with chromium.start(tmp_path_factory.mktemp("chromium")) as other_browser:
    folder = tmp_path / "other"
    folder.mkdir()
    visits = [visit, Visit(other_browser, address, folder)]
    images = [noise(120, 160 + 40 * i, seed=i) for i in range(2)]
    for i, (one, image) in enumerate(zip(visits, images, strict=True)):
      path = tmp_path / f"photo{i}.png"
      path.write_bytes(image_files.encode(image))
      one.load(path, *image.shape[1::-1])
    for one in visits:
      one.paint()
    for one in visits:
      one.click("#fill")
    for one, image in zip(visits, images, strict=True):
      one.wait_for_message("Filled")
      one.wait(lambda one=one: one.is_seen("#picture"), "the result")
      after = np.asarray(Image.open(one.save("#picture")))
      mask = np.asarray(Image.open(one.save("#hole")))
      check_known(image, after, mask)


def test_gradio_opens_no_file_of_a_visitor(tmp_path):
  import gradio
  from gradio import data_classes
  from gradio.components import image_editor

  from dcgan_inpaint.web import page

  page.build(lambda request, tell: None, tmp_path, [])
  path = tmp_path / "page.eps"
  path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
  layer = data_classes.FileData(path=str(path))
  editor = gradio.ImageEditor(render=False)
  for given, paths in (
    (image_editor.EditorData(background=layer, layers=[layer]), [str(path)]),
    (image_editor.EditorData(id="of blobs"), []),
    (None, []),
  ):
    assert editor.preprocess(given) == paths


def test_a_public_page_wants_a_token_and_ctrl_c_ends_it_in_a_line(tmp_path):
  with serving(tmp_path, "--host=0.0.0.0") as (address, process):
    bare, _, token = address.partition("?token=")
    port = bare.rstrip("/").rpartition(":")[2]
    assert len(token) >= 32
    local = f"http://127.0.0.1:{port}/"
    for wrong in (local, f"{local}?token={token[:-1]}", f"{local}config"):
      with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(wrong)
      assert refused.value.code == 403
    cookies = urllib.request.HTTPCookieProcessor()
    opener = urllib.request.build_opener(cookies)
    with opener.open(f"{local}?token={token}") as answer:
      assert answer.status == 200 and b"gradio" in answer.read()
      assert "token" not in answer.url
    check_end(process, signal.SIGINT, tmp_path)
