"""Stage report: one static page of all models that params.yaml lists, from what the other stages wrote.

The page is a function of params.yaml and of reports/ and data/prepared/: no time, path or run id, and no request to
anywhere. Decisions are state of one registry, so the page shows them by including decisions.js, which lies beside it.
"""

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import config, paths, scoreboard
from .errors import UsageError
from .files import written_whole
from .scoreboard import read, read_json

PAGE = Path("reports/index.html")
CURVE = "00-curve.svg"  # the first of a model's figures
ASKED = {  # in a task's own words; a further task stands under its name alone
    "classification": "Which class?",
    "forecasting": "What comes next?",
    "mapping": "Where on a map, and how unlike the rest?",
    "likes": "Will this user like this film?",
    "stars": "How many stars will this user give this film?",
}
SOURCES = {
    "embedded": "the twin: made up by this repository in the form of the real data, none of whose rows it holds",
    "mirror": "the real data, from a mirror, pinned by digest",
    "canonical": "the real data, from the public address, pinned by digest",
}


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it: alternative text, caption, and the SVG, which stands in the page itself."""

    title: str
    says: str
    svg: str


@dataclass(frozen=True)
class Table:
    """What evaluate wrote to be read: cells as text, and for each column whether it holds numbers."""

    title: str
    says: str
    columns: list[str]
    data: list[list[str]]
    numeric: list[bool]


@dataclass(frozen=True)
class Section:
    """All that the page says of one model."""

    row: scoreboard.Row
    metrics: dict[str, Any]
    validation: dict[str, Any]
    profile: dict[str, Any]
    curve: Picture
    epochs: list[list[str]]
    pictures: list[Picture]
    tables: list[Table]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The expectations that did not hold."""
        return [found for found in self.validation["expectations"] if not found["success"]]


def picture(svg: str, number: int) -> Picture:
    """A figure that figures.save wrote, made to stand in a page beside others: `number` keeps its ids its own."""
    root = ElementTree.fromstring(svg)
    title, says = (
        root.findtext(f".//{{*}}{name}") or "" for name in ("title", "description")
    )  # the first of each
    drawn = svg[svg.index("<svg") :]
    drawn = re.sub(
        r"<metadata>.*?</metadata>",
        "",
        re.sub(r"<title>.*?</title>", "", drawn, count=1),
        flags=re.DOTALL,
    )
    label = f'<svg role="img" aria-label="{escape(title, quote=True)}"'
    return Picture(
        title, says, _with_own_ids(re.sub(r'<svg color="[^"]*"', label, drawn, count=1), number)
    )


def _with_own_ids(svg: str, number: int) -> str:
    """Only ids that something refers to stay, each under a name that no other figure has; lines lose their indent."""
    used = sorted(set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)))
    names = {name: f"s{number}-{i}" for i, name in enumerate(used)}
    svg = re.sub(
        r' id="([^"]*)"', lambda found: f' id="{names[found[1]]}"' if found[1] in names else "", svg
    )
    svg = re.sub(r'(href="#|url\(#)([^")]+)', lambda found: found[1] + names[found[2]], svg)
    return re.sub(r"\n\s*", "\n", svg)


def table(found: Mapping[str, Any]) -> Table:
    """A table as figures.Table.record has it."""
    columns = list(zip(*found["data"], strict=True)) or [()] * len(found["columns"])
    numeric = [all(isinstance(cell, int | float | None) for cell in column) for column in columns]
    data = [list(row) for row in zip(*map(_cells, columns), strict=True)]
    return Table(found["title"], found["says"], found["columns"], data, numeric)


def _cells(column: Sequence[Any]) -> list[str]:
    """As they are read: all fractions of a column with as many digits behind the point, four at most."""
    fractions = [
        f"{cell:.4f}".rstrip("0").partition(".")[2] for cell in column if isinstance(cell, float)
    ]
    digits = max(map(len, fractions), default=0)
    return [
        "–" if cell is None else f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)
        for cell in column
    ]


def section(model: str, metrics: dict[str, Any], numbers: Iterator[int]) -> Section:
    """Read what the stages wrote of a model and its data; raises SextantError for what is not there.

    `numbers` tells the figures of the page apart.
    """
    dataset, drawn = metrics["dataset"], Path("reports/figures", model)
    read(drawn / CURVE, model)
    curve, *pictures = (
        picture(read(path, model), next(numbers)) for path in sorted(drawn.glob("*.svg"))
    )
    return Section(
        row=scoreboard.rows([metrics], {})[0],
        metrics=metrics,
        validation=read_json(Path("reports/validation", f"{dataset}.json"), model),
        profile=read_json(Path("data/prepared", dataset, "profile.json"), model),
        curve=curve,
        epochs=list(csv.reader(read(Path("reports/curves", f"{model}.csv"), model).splitlines())),
        pictures=pictures,
        tables=list(map(table, read_json(Path("reports/tables", f"{model}.json"), model).values())),
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
    words = {
        name: getattr(scoreboard, name) for name in ("HEADINGS", "KINDS", "UNDECIDED", "CHAMPION")
    }
    page = house.get_template("report.html.j2")
    return (
        page.render(sections=sections, decisions=decisions, ASKED=ASKED, SOURCES=SOURCES, **words)
        + "\n"
    )


def main(argv: list[str]) -> None:
    """Write reports/index.html as DVC's stage, .scratch/index.html by hand."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; the report takes no arguments")
    models = list(config.params().models)
    numbers = count()
    sections = [
        section(*pair, numbers)
        for pair in zip(models, scoreboard.read_metrics(models), strict=True)
    ]
    page = PAGE if paths.run_by_dvc() else Path(".scratch", PAGE.name)
    decisions = os.path.relpath(PAGE.with_name("decisions.js"), page.parent)
    with written_whole(page) as beside:
        beside.write_text(render(sections, decisions), encoding="utf-8")
    print(f"{page}: {len(sections)} model{'s' * (len(sections) > 1)}")
