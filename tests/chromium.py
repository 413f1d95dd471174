"""Headless Chromium, controlled by Selenium, for tests of pages."""

import contextlib
import json
import shutil

import pytest


@contextlib.contextmanager
def start(folder):
  """Yields a browser that keeps its log and its requests.

  Where there is none, the test is skipped.

  Args:
    folder: of its profile.
  """
  webdriver = pytest.importorskip("selenium.webdriver")
  binary = shutil.which("chromium") or shutil.which("google-chrome")
  driver = shutil.which("chromedriver")
  if not binary or not driver:
    pytest.skip("needs Chromium and chromedriver (Debian: chromium-driver)")
  options = webdriver.ChromeOptions()
  options.binary_location = binary
  for argument in (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    f"user-data-dir={folder}",
  ):
    options.add_argument(f"--{argument}")
  logs = {"browser": "ALL", "performance": "ALL"}
  options.set_capability("goog:loggingPrefs", logs)
  browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
  browser.get("about:blank")  # Chromium's new tab page makes requests.
  try:
    yield browser
  finally:
    browser.quit()


def resize(browser, *, phone):
  """Gives the page the size of a phone's screen, or of a desktop's."""
  metrics = {"width": 375 if phone else 1280, "height": 800, "mobile": phone}
  browser.execute_cdp_cmd(
    "Emulation.setDeviceMetricsOverride", {**metrics, "deviceScaleFactor": 1}
  )


def requests(browser):
  """Returns the URLs that were asked for since the last call."""
  messages = [
    json.loads(entry["message"])["message"]
    for entry in browser.get_log("performance")
  ]
  return [
    message["params"]["request"]["url"]
    for message in messages
    if message["method"] == "Network.requestWillBeSent"
  ]


def fits(browser):
  """Tells whether no part of the page is wider than the screen."""
  # Not innerWidth, which on a phone grows with what is too wide.
  return browser.execute_script("""
    const page = document.documentElement;
    return page.scrollWidth <= page.clientWidth;
  """)
