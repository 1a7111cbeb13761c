"""The page: a row and a section per model, nothing from outside, nothing that changes by itself."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import count
from pathlib import Path

import pytest
from test_leaderboard import PARAMS, metrics

from sextant import report
from sextant.errors import SextantError, UsageError

SVG = """<?xml version="1.0"?>
<svg color="#757575" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 3 5"><title>What it shows</title>
<metadata><description>{says}</description></metadata><defs><path id="mark" d="M 0 0 L 3 5"/></defs>
<g id="figure_1"><use href="#mark" stroke="currentColor"/></g>
<g class="told"><title>here &lt;it&gt; is</title></g></svg>
"""
TABLE: dict = {"title": "The worst", "says": "Of all.", "columns": ["row_name", "worth"]}
TABLE |= {"data": [["a <b>", 0.5], [None, 2.25]]}


def expectation(name: str, severity: str, success: bool, why: str) -> dict:
    facts = {
        "expectation": name,
        "kwargs": {"column": "Age"},
        "severity": severity,
        "success": success,
    }
    return facts | {"unexpected": 0 if success else 17, "observed": None, "why": why}


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def fill(folder: Path) -> None:
    """All that the report reads, for two models."""
    write(f"{folder}/params.yaml", PARAMS)
    for model, dataset, direction in (("tall", "loans", "up"), ("wide", "films", "down")):
        write(
            f"{folder}/reports/metrics/{model}.json", json.dumps(metrics(model, dataset, direction))
        )
        write(
            f"{folder}/reports/curves/{model}.csv",
            "epoch,train/loss,val/loss\n1,0.9,0.8\n2,0.71,0.62\n",
        )
        for figure in ("00-curve", "01-map"):
            write(
                f"{folder}/reports/figures/{model}/{figure}.svg",
                SVG.format(says=f"{figure} of {model}"),
            )
        write(f"{folder}/reports/tables/{model}.json", json.dumps({"worst": TABLE}))
        held = expectation("expect_something", "critical", True, "held")
        lacked = expectation("expect_more", "warning", False, "lacked")
        found = {
            "dataset": dataset,
            "source": "embedded",
            "success": True,
            "rows": 101,
            "digest": "ab" * 32,
        }
        found |= {
            "counts": {"passed": 1, "critical": 0, "warning": 1, "info": 0},
            "expectations": [held, lacked],
        }
        write(f"{folder}/reports/validation/{dataset}.json", json.dumps(found))
        rows = {"train": 1061, "val": 7, "gate": 5, "test": 23}
        profile = {
            "dataset": dataset,
            "kind": "tabular",
            "source": "embedded",
            "digest": "ab" * 32,
            "rows": rows,
        }
        write(
            f"{folder}/data/prepared/{dataset}/profile.json",
            json.dumps(profile | {"files": {}, "columns": {}}),
        )


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "report")
    return tmp_path


def page() -> str:
    report.main([])
    return Path("reports/index.html").read_text()


class Elements(HTMLParser):
    """All start tags of a page, and the text of each heading and cell."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append((self.tags[-1][0] if self.tags else "", data))


def test_the_leaderboard_has_a_row_per_model_and_each_has_its_section(workspace):
    text = page()
    board = text.split("<tbody", 1)[1].split("</tbody>", 1)[0]
    assert board.count("<tr") == 2
    for model in ("tall", "wide"):
        assert f'<a href="#{model}">{model}</a>' in board and f'<h2 id="{model}">' in text
        assert f'<span data-decision="{model}">not registered here</span>' in board
    assert board.count("0.8000") == 2 and "0.7000 clever" in board and "twin" in board


def test_a_section_says_what_stands_in_the_files(workspace):
    text = re.sub(r"<wbr>", "", page())
    assert "(guessing on <code>loans</code>)" in text and "ab" * 32 in text
    assert "train 1,061, val 7, gate 5, test 23" in text and "passed: 1 of 2 expectations" in text
    assert "warning: <code>expect_more</code> on <code>Age</code>, 17 rows: lacked" in text
    assert "expect_something" not in text
    assert (
        text.count('<td class="number">0.6200</td>') == 2
        and text.count("01-map of tall</figcaption>") == 1
    )
    assert "of which more is better" in text and "of which less is better" in text


def test_what_a_reader_has_to_know_of_the_data_is_said_where_there_is_something(workspace):
    assert "About them" not in page()
    path = Path("data/prepared/loans/profile.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"about": "A loan <is> no gift."}))
    assert page().count("<dd>A loan &lt;is&gt; no gift.</dd>") == 1


def test_what_prepare_repaired_is_said_where_it_repaired_something(workspace):
    assert "by a half" not in page()
    path = Path("data/prepared/loans/profile.json")
    path.write_text(
        json.dumps(
            json.loads(path.read_text()) | {"repairs": ["`a` <b> was divided", "`c` by a half"]}
        )
    )
    assert page().count("<dd>`a` &lt;b&gt; was divided; `c` by a half</dd>") == 1


def test_what_the_metrics_come_to_is_said_in_the_section_of_a_model_that_says_it(workspace):
    assert "No skill" not in page()
    path = Path("reports/metrics/tall.json")
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"verdict": ["No skill: RMSE 2 & <more>."]})
    )
    text = page()
    assert text.count("<p>No skill: RMSE 2 &amp; &lt;more&gt;.</p>") == 1
    after = text.split('<h2 id="tall">')[1]
    assert "No skill" in after.split('<h2 id="wide">')[0]


def test_a_baseline_without_a_metric_has_a_dash_there(workspace):
    path = Path("reports/metrics/tall.json")
    found = json.loads(path.read_text())
    found["baselines"]["wild"] = {"other": 1.0}
    path.write_text(json.dumps(found))
    assert '<th scope="row">wild</th><td class="number">–</td>' in page()


def test_nothing_comes_from_outside(workspace):
    text = page()
    links = [
        attrs[key] for _, attrs in Elements(text).tags for key in ("src", "href") if key in attrs
    ]
    assert {link for link in links if not link.startswith("#")} == {"decisions.js"}
    assert not re.search(r"(?<!http:)//\w|url\([^#]|@import|https:", text)
    assert set(re.findall(r"http://[^\"]*", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, no address


def test_each_figure_says_what_it_shows_and_points_at_its_own_marks(workspace):
    found = Elements(page()).tags
    drawn = [attrs for tag, attrs in found if tag == "svg"]
    assert len(drawn) == 4
    assert all(
        (svg["role"], svg["aria-label"]) == ("img", "What it shows") and "color" not in svg
        for svg in drawn
    )
    marks = [attrs["id"] for tag, attrs in found if tag == "path"]
    assert len(set(marks)) == 4 and [attrs["href"] for tag, attrs in found if tag == "use"] == [
        f"#{m}" for m in marks
    ]
    assert "figure_1" not in page() and page().count("<title>here &lt;it&gt; is</title>") == 4


def test_a_table_stands_as_it_was_written(workspace):
    text = page()
    assert text.count("<h3>The worst</h3>") == 2 and '<th scope="col">row_<wbr>name</th>' in text
    assert text.count('<tr><td>a &lt;b&gt;</td><td class="number">0.50</td></tr>') == 2
    assert text.count('<tr><td>–</td><td class="number">2.25</td></tr>') == 2


def test_the_page_is_the_same_at_another_place_and_time(workspace, tmp_path_factory, monkeypatch):
    there = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(workspace, there, dirs_exist_ok=True)
    first = page()
    monkeypatch.chdir(there)
    assert page() == first and str(workspace) not in first


def test_a_reader_of_screens_finds_the_way(workspace):
    found = Elements(page())
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert ("html", {"lang": "en"}) in found.tags
    assert all(attrs.get("aria-label") for tag, attrs in found.tags if tag == "svg")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in found.tags if tag == "th")
    identifiers = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: ratio of the relative luminances of two colours."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_letters_stand_out_from_the_paper_in_light_and_in_dark(workspace):
    schemes = re.findall(r":root \{(.*?)\}", page())
    assert len(schemes) == 2
    for scheme in schemes:
        colors = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for paper in ("paper", "band"):
            for ink in ("ink", "soft", "link"):
                assert contrast(colors[ink], colors[paper]) >= 4.5, (ink, paper)


def test_names_and_reasons_are_text_and_never_markup(workspace):
    nasty = "<script>alert('x')</script>"
    found = report.section("tall", metrics("tall", "loans"), count())
    for entry in found.validation["expectations"]:
        entry["why"] = entry["expectation"] = nasty
    row = report.leaderboard.rows([metrics(nasty, nasty)], {})[0]
    drawn = report.picture(SVG.format(says="&lt;script&gt;alert('x')&lt;/script&gt;"), 7)
    asked = found.metrics | {"task": nasty}
    bad = dataclasses.replace(found, row=row, metrics=asked, curve=drawn, pictures=[drawn])
    text = report.render([bad], "decisions.js")
    assert "<script>alert" not in text and text.count("&lt;script&gt;alert") >= 6
    # What decisions.js says is put in as text, too.
    assert "textContent" in text and "innerHTML" not in text


@pytest.mark.parametrize(
    "missing",
    [
        "reports/metrics/wide.json",
        "reports/validation/films.json",
        "reports/curves/wide.csv",
        "reports/figures/wide/00-curve.svg",
        "reports/tables/wide.json",
        "data/prepared/films/profile.json",
    ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(workspace, missing):
    Path(missing).unlink()
    with pytest.raises(SextantError, match=f"^{missing} is missing.*`wide`.*`make repro`"):
        report.main([])
    assert not Path("reports/index.html").exists()


def test_what_is_not_listed_is_not_shown(workspace):
    write("reports/metrics/old.json", "no JSON at all")
    write("reports/figures/old/00-curve.svg", "no SVG at all")
    assert "old" not in {attrs.get("id") for _, attrs in Elements(page()).tags}


def test_by_hand_it_leaves_the_stages_page_alone(workspace, monkeypatch):
    staged = page()
    monkeypatch.delenv("DVC_STAGE")
    report.main([])
    assert Path("reports/index.html").read_text() == staged
    assert 'src="../reports/decisions.js"' in Path(".scratch/index.html").read_text()


def test_it_takes_no_arguments(workspace):
    with pytest.raises(UsageError, match="`model=tall` is not understood"):
        report.main(["model=tall"])
