"""Stage report: one static page of all models that params.yaml lists, from what the other stages wrote.

The page is a function of params.yaml and of reports/ and data/prepared/: no time, path or run id, and no request to
anywhere. Decisions are state of one registry, so the page shows them by including decisions.js, which lies beside it.
"""

import base64
import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import config, leaderboard
from .errors import UsageError, run
from .files import written_whole
from .leaderboard import read, read_json

PAGE = Path("reports/index.html")
INKS = ("#1c2024", "#e6e8ea")  # of text and figures, in light and in dark: 16 : 1 and 15 : 1 on their papers
SOURCES = {
    "embedded": "the twin: made up by this repository in the form of the real data, none of whose rows it holds",
    "mirror": "the real data, from a mirror, pinned by digest",
    "canonical": "the real data, from the public address, pinned by digest",
}


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it: alternative text, caption, and the SVG as a data URI."""

    title: str
    says: str
    uri: str


@dataclass(frozen=True)
class Section:
    """All that the page says of one model."""

    row: leaderboard.Row
    metrics: dict[str, Any]
    validation: dict[str, Any]
    profile: dict[str, Any]
    curve: Picture
    epochs: list[list[str]]
    pictures: list[Picture]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The expectations that did not hold."""
        return [found for found in self.validation["expectations"] if not found["success"]]


def picture(svg: str) -> Picture:
    """A figure that figures.save wrote; its ink follows the page's light or dark."""
    words = {element.tag.split("}")[-1]: element.text or "" for element in ElementTree.fromstring(svg).iter()}
    light, dark = (f"svg{{color:{ink}}}" for ink in INKS)
    style = f"<style>{light}@media screen and (prefers-color-scheme:dark){{{dark}}}</style>"
    inked = re.sub(r"<svg\b[^>]*>", lambda tag: tag[0] + style, svg, count=1)
    uri = "data:image/svg+xml;base64," + base64.b64encode(inked.encode()).decode()
    return Picture(words["title"], words["description"], uri)


def section(model: str, metrics: dict[str, Any]) -> Section:
    """Read what the stages wrote of a model and its data; raises SextantError for what is not there."""
    dataset, drawn = metrics["dataset"], Path("reports/figures", model)
    pictures = {path.stem: picture(read(path, model)) for path in sorted(drawn.glob("*.svg"))}
    curve = drawn / "curve.svg"
    return Section(
        row=leaderboard.rows([metrics], {})[0],
        metrics=metrics,
        validation=read_json(Path("reports/validation", f"{dataset}.json"), model),
        profile=read_json(Path("data/prepared", dataset, "profile.json"), model),
        curve=pictures.pop("curve") if "curve" in pictures else picture(read(curve, model)),
        epochs=list(csv.reader(read(Path("reports/curves", f"{model}.csv"), model).splitlines())),
        pictures=list(pictures.values()),
    )


def render(sections: Sequence[Section], decisions: str) -> str:
    """The page; `decisions` is where the script with the registry's decisions lies, seen from the page."""
    house = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = {name: getattr(leaderboard, name) for name in ("HEADINGS", "KINDS", "UNDECIDED", "CHAMPION")}
    page = house.get_template("report.html.j2")
    return page.render(sections=sections, decisions=decisions, INKS=INKS, SOURCES=SOURCES, **words) + "\n"


def main(argv: list[str]) -> None:
    """Write reports/index.html as DVC's stage, .scratch/index.html by hand."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; the report takes no arguments")
    models = list(config.params().models)
    sections = [section(*pair) for pair in zip(models, leaderboard.read_metrics(models), strict=True)]
    page = PAGE if "DVC_STAGE" in os.environ else Path(".scratch", PAGE.name)
    decisions = os.path.relpath(PAGE.with_name("decisions.js"), page.parent)
    with written_whole(page) as beside:
        beside.write_text(render(sections, decisions), encoding="utf-8")
    print(f"{page}: {len(sections)} model{'s' * (len(sections) > 1)}")


if __name__ == "__main__":
    run(main)
