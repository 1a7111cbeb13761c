"""The page in a real browser: layout at two widths, no network requests, accessibility (axe-core).

The tests need Chromium (Debian, Ubuntu: `apt install chromium`). Without it they are skipped, or
fail if SEXTANT_BROWSER=needed.
"""

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from conftest import Clone

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = (1280, 390)
TIMEOUT = 180_000  # ms; a browser is slow while another test worker trains
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM and os.environ.get("SEXTANT_BROWSER") != "needed",
        reason="no chromium, chromium-browser or google-chrome on PATH (apt install chromium)",
    ),
]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "SEXTANT_BROWSER=needed, but no chromium is on PATH: apt install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def models(whole_pipeline: Clone) -> list[str]:
    return list(yaml.safe_load((whole_pipeline.path / "params.yaml").read_text())["models"])


# For each <image> inside a figure, whether the browser can decode it.
IMAGES_DECODE = """
Promise.all([...document.querySelectorAll("figure image")].map(image => new Promise(resolve => {
  const copy = new Image();
  copy.onload = () => resolve(copy.naturalWidth > 0);
  copy.onerror = () => resolve(false);
  copy.src = image.href.baseVal;
})))
"""

# Texts of a figure that leave its frame by more than 2 pixels, and pairs of texts that overlap by
# more than 3 x 4 pixels (less is a matter of fonts). Slanted texts are not compared: their bounding
# boxes overlap even if the texts do not.
TEXT_FAULTS = """
[...document.querySelectorAll("figure svg")].flatMap(svg => {
  const frame = svg.getBoundingClientRect(), label = svg.getAttribute("aria-label");
  const nodes = [...svg.querySelectorAll("text")].filter(node => node.textContent.trim());
  const texts = nodes.map(node => ({
    content: node.textContent,
    box: node.getBoundingClientRect(),
    slanted: (node.getAttribute("transform") || "").match(/rotate\\((-?[0-9.]+)/)?.[1] % 90,
  }));
  const outside = ({box}) => box.left < frame.left - 2 || box.right > frame.right + 2
    || box.top < frame.top - 2 || box.bottom > frame.bottom + 2;
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
  const faults = texts.filter(outside).map(text => `${label}: ${text.content} is cut off`);
  const upright = texts.filter(text => !text.slanted);
  upright.forEach((a, i) => {
    for (const b of upright.slice(i + 1)) {
      if (overlap(a.box, b.box)) faults.push(`${label}: ${a.content} overlaps ${b.content}`);
    }
  });
  return faults;
})
"""


class Opened:
    """A page with the messages on its console and the addresses that it requested."""

    def __init__(self, page: "Page", address: str):
        self.page = page
        self.console: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.set_default_timeout(TIMEOUT)
        page.goto(address)


@pytest.fixture(scope="module", params=WIDTHS)
def opened(
    browser: "Browser", whole_pipeline: Clone, request: pytest.FixtureRequest
) -> Iterator[Opened]:
    """The page opened from disk, as wide as a laptop and as a phone."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    yield Opened(page, (whole_pipeline.path / "reports/index.html").as_uri())
    page.close()


def test_it_loads_only_its_two_files_and_logs_nothing(
    opened: Opened, whole_pipeline: Clone
) -> None:
    folder = (whole_pipeline.path / "reports").as_uri()
    assert opened.console == []
    assert sorted(opened.requests) == [f"{folder}/decisions.js", f"{folder}/index.html"]


def test_the_page_is_not_wider_than_the_screen(opened: Opened) -> None:
    content, screen = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert content <= screen


def test_the_leaderboard_has_a_row_per_model_with_its_decision(
    opened: Opened, models: list[str]
) -> None:
    rows = opened.page.locator(".board tbody tr")
    assert rows.locator("th").all_inner_texts() == models
    decisions = rows.locator("td:last-child").all_inner_texts()
    for model, decision in zip(models, decisions, strict=True):
        assert decision not in ("", "not registered here"), model


def test_links_lead_to_their_sections(opened: Opened, models: list[str]) -> None:
    links = opened.page.locator('a[href^="#"]')
    assert {link.get_attribute("href") for link in links.all()} == {f"#{model}" for model in models}
    for link in links.all():
        link.click()
        target = opened.page.locator(link.get_attribute("href") or "")
        assert target.is_visible() and abs(target.bounding_box()["y"]) < 900  # type: ignore[index]
    opened.page.evaluate("scrollTo(0, 0)")


def test_figures_are_drawn_and_have_captions(opened: Opened, models: list[str]) -> None:
    figures = opened.page.locator("figure")
    assert figures.count() >= 3 * len(models)
    for figure in figures.all():
        svg = figure.locator("svg")
        box: Any = svg.bounding_box()
        assert box["width"] > 200 and box["height"] > 100 and svg.get_attribute("aria-label")
        assert len(figure.locator("figcaption").inner_text()) > 20
    decoded = opened.page.evaluate(IMAGES_DECODE)
    assert decoded and all(decoded), "an image inside a figure cannot be decoded"


def test_texts_of_a_figure_are_not_cut_off_and_do_not_overlap(opened: Opened) -> None:
    assert opened.page.evaluate(TEXT_FAULTS) == []


def test_pointing_at_a_mark_shows_its_values(opened: Opened) -> None:
    tip = opened.page.locator("#tip")
    assert tip.is_hidden()
    mark = opened.page.locator(".tooltip").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    assert tip.is_visible() and tip.inner_text().startswith("epoch 1: train/loss ")
    opened.page.locator("h1").hover()
    assert tip.is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Opened, scheme: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened.page.emulate_media(color_scheme=scheme)
    serious = []
    # Listing every element that passes a rule takes three quarters of the time.
    options = {"resultTypes": ["violations"]}
    for violation in Axe().run(opened.page, options=options).response["violations"]:
        if violation["impact"] in ("serious", "critical"):
            serious.append((violation["id"], violation["nodes"][0]["html"]))
    assert serious == []


def test_the_dark_theme_is_for_the_screen_and_not_for_print(opened: Opened) -> None:
    def paper() -> str:
        return str(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    opened.page.emulate_media(color_scheme="dark")
    assert paper() == "rgb(18, 20, 23)"
    opened.page.emulate_media(color_scheme="dark", media="print")
    assert paper() == "rgb(255, 255, 255)"
    opened.page.emulate_media(color_scheme="light", media="screen")
    assert paper() == "rgb(255, 255, 255)"


def test_without_decisions_js_only_its_failed_request_is_logged(
    browser: "Browser", whole_pipeline: Clone, tmp_path: Path, models: list[str]
) -> None:
    shutil.copy(whole_pipeline.path / "reports/index.html", tmp_path)
    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        opened = Opened(page, f"http://127.0.0.1:{server.server_port}/index.html")
        server.shutdown()
    assert len(opened.console) == 1 and "404" in opened.console[0]
    decisions = page.locator(".board td:last-child").all_inner_texts()
    assert decisions == ["not registered here"] * len(models)
    page.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve a folder without logging. Browsers request a favicon, which is not part of the page."""

    def do_GET(self) -> None:
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_the_page_is_small_enough_to_send(whole_pipeline: Clone) -> None:
    assert (whole_pipeline.path / "reports/index.html").stat().st_size <= 5 * 2**20
