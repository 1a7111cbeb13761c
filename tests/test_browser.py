"""The page in a real browser: it renders at both widths, asks nobody for anything, and a reader of screens can use it.

They need Chromium (Debian, Ubuntu: `apt install chromium`) and skip without it, or fail: SEXTANT_BROWSER=needed.
"""

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from conftest import Clone
from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS = (1280, 390)
PATIENCE = 180_000  # ms: beside another worker's training a browser may take long
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM and os.environ.get("SEXTANT_BROWSER") != "needed",
        reason="no chromium, chromium-browser or google-chrome on PATH (Debian, Ubuntu: apt install chromium)",
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "SEXTANT_BROWSER=needed, and no chromium is on PATH: apt install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def models(whole_chain: Clone) -> list[str]:
    return list(yaml.safe_load((whole_chain.path / "params.yaml").read_text())["models"])


class Opened:
    """A page, what its console said and what it asked for."""

    def __init__(self, page: Page, address: str):
        self.page, self.told, self.asked = page, [], []
        page.on("console", lambda message: self.told.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.told.append(f"error: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.set_default_timeout(PATIENCE)
        page.goto(address)


@pytest.fixture(scope="module", params=WIDTHS)
def opened(
    browser: Browser, whole_chain: Clone, request: pytest.FixtureRequest
) -> Iterator[Opened]:
    """The page as a reader opens it from disk, on a laptop and on a phone."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    yield Opened(page, (whole_chain.path / "reports/index.html").as_uri())
    page.close()


def test_it_renders_without_a_word_in_the_console_or_a_request_to_anywhere(
    opened: Opened, whole_chain: Clone
) -> None:
    here = (whole_chain.path / "reports").as_uri()
    assert opened.told == []
    assert sorted(opened.asked) == [f"{here}/decisions.js", f"{here}/index.html"]


def test_nothing_is_wider_than_the_screen(opened: Opened) -> None:
    inside, screen = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert inside <= screen


def test_the_leaderboard_has_a_row_per_model_with_its_decision(
    opened: Opened, models: list[str]
) -> None:
    rows = opened.page.locator(".board tbody tr")
    assert rows.locator("th").all_inner_texts() == models
    for model, said in zip(models, rows.locator("td:last-child").all_inner_texts(), strict=True):
        assert said not in ("", "not registered here"), model


def test_every_anchor_leads_to_its_section(opened: Opened, models: list[str]) -> None:
    links = opened.page.locator('a[href^="#"]')
    assert {link.get_attribute("href") for link in links.all()} == {f"#{model}" for model in models}
    for link in links.all():
        link.click()
        target = opened.page.locator(link.get_attribute("href") or "")
        assert target.is_visible() and abs(target.bounding_box()["y"]) < 900  # type: ignore[index]
    opened.page.evaluate("scrollTo(0, 0)")


def test_every_figure_is_drawn_and_has_words(opened: Opened, models: list[str]) -> None:
    figures = opened.page.locator("figure")
    assert figures.count() >= 3 * len(models)
    for figure in figures.all():
        svg = figure.locator("svg")
        box: Any = svg.bounding_box()
        assert box["width"] > 200 and box["height"] > 100 and svg.get_attribute("aria-label")
        assert len(figure.locator("figcaption").inner_text()) > 20
    loaded = opened.page.evaluate(
        """Promise.all([...document.querySelectorAll("figure image")].map(image => new Promise(done => {
             const shown = new Image();
             shown.onload = () => done(shown.naturalWidth > 0); shown.onerror = () => done(false);
             shown.src = image.href.baseVal; })))"""
    )
    assert loaded and all(loaded), "a picture inside a figure does not decode"


def test_no_letter_of_a_figure_is_cut_off_or_lies_on_another(opened: Opened) -> None:
    """Texts of one figure keep apart, and inside; a hair of overlap is a matter of fonts.

    Slanted ones are left out of the first: the boxes around them overlap where they do not.
    """
    found = opened.page.evaluate(
        """[...document.querySelectorAll("figure svg")].flatMap(svg => {
             const frame = svg.getBoundingClientRect(), label = svg.getAttribute("aria-label");
             const texts = [...svg.querySelectorAll("text")].filter(t => t.textContent.trim())
               .map(t => [t.textContent, t.getBoundingClientRect(), t]);
             const out = texts.filter(([, b]) => b.left < frame.left - 2 || b.right > frame.right + 2
               || b.top < frame.top - 2 || b.bottom > frame.bottom + 2).map(([t]) => `${label}: ${t} is cut off`);
             const slanted = t => (t.getAttribute("transform") || "").match(/rotate\\((-?[0-9.]+)/)?.[1] % 90;
             const upright = texts.filter(([, , t]) => !slanted(t));
             const over = upright.flatMap(([t, a], i) => upright.slice(i + 1).filter(([, b]) =>
                 Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3
                 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
               .map(([u]) => `${label}: ${t} lies on ${u}`));
             return [...out, ...over]; })"""
    )
    assert found == []


def test_pointing_at_a_place_says_what_stands_there(opened: Opened) -> None:
    tip = opened.page.locator("#tip")
    assert tip.is_hidden()
    place = opened.page.locator(".told").first
    place.scroll_into_view_if_needed()
    place.hover(force=True)
    assert tip.is_visible() and tip.inner_text().startswith("epoch 1: train/loss ")
    opened.page.locator("h1").hover()
    assert tip.is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Opened, scheme: Any) -> None:
    opened.page.emulate_media(color_scheme=scheme)
    found = Axe().run(opened.page).response["violations"]
    serious = [
        (one["id"], one["nodes"][0]["html"])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_ink_and_paper_change_places_in_the_dark_and_not_on_paper(opened: Opened) -> None:
    def paper() -> str:
        return str(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    opened.page.emulate_media(color_scheme="dark")
    assert paper() == "rgb(18, 20, 23)"
    opened.page.emulate_media(color_scheme="dark", media="print")
    assert paper() == "rgb(255, 255, 255)"
    opened.page.emulate_media(color_scheme="light", media="screen")
    assert paper() == "rgb(255, 255, 255)"


def test_without_decisions_that_one_failed_load_is_all_that_the_console_says(
    browser: Browser, whole_chain: Clone, tmp_path: Path, models: list[str]
) -> None:
    shutil.copy(whole_chain.path / "reports/index.html", tmp_path)
    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        opened = Opened(page, f"http://127.0.0.1:{server.server_port}/index.html")
        server.shutdown()
    assert [line for line in opened.told if "404" not in line] == [] and len(opened.told) == 1
    assert page.locator(".board td:last-child").all_inner_texts() == ["not registered here"] * len(
        models
    )
    page.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; says nothing. A browser asks each server for a favicon, which is no request of the page."""

    def do_GET(self) -> None:
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_the_page_is_small_enough_to_send(whole_chain: Clone) -> None:
    assert (whole_chain.path / "reports/index.html").stat().st_size <= 5 * 2**20
