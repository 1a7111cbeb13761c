"""The page: a row and a section per model, no external resources, the same bytes on every run."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import count
from pathlib import Path

import pytest
from test_scoreboard import PARAMS, metrics

from sextant import report
from sextant.errors import SextantError, UsageError

SVG = """<?xml version="1.0"?>
<svg color="#757575" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 3 5">
<title>What it shows</title>
<metadata><description>{says}</description></metadata><defs><path id="mark" d="M 0 0 L 3 5"/></defs>
<g id="figure_1"><use href="#mark" stroke="currentColor"/></g>
<g class="tooltip"><title>here &lt;it&gt; is</title></g></svg>
"""
TABLE: dict = {"title": "The worst", "says": "Of all.", "columns": ["row_name", "worth"]}
TABLE |= {"data": [["a <b>", 0.5], [None, 2.25]]}


def expectation(name: str, severity: str, success: bool, why: str) -> dict:
    return {
        "expectation": name,
        "kwargs": {"column": "Age"},
        "severity": severity,
        "success": success,
        "unexpected": 0 if success else 17,
        "observed": None,
        "why": why,
    }


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def fill(folder: Path) -> None:
    """Write everything that the report reads, for two models."""
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
        passed = expectation("expect_something", "critical", True, "it passed")
        failed = expectation("expect_more", "warning", False, "it failed")
        validation = {
            "dataset": dataset,
            "source": "embedded",
            "success": True,
            "rows": 101,
            "digest": "ab" * 32,
            "counts": {"passed": 1, "critical": 0, "warning": 1, "info": 0},
            "expectations": [passed, failed],
        }
        write(f"{folder}/reports/validation/{dataset}.json", json.dumps(validation))
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
    """All start tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_leaderboard_has_a_row_per_model_and_each_has_its_section(workspace):
    text = page()
    board = text.split("<tbody", 1)[1].split("</tbody>", 1)[0]
    assert board.count("<tr") == 2
    for model in ("tall", "wide"):
        assert f'<a href="#{model}">{model}</a>' in board and f'<h2 id="{model}">' in text
        assert f'<span data-decision="{model}">not registered here</span>' in board
    assert board.count("0.8000") == 2 and "twin" in board
    assert '0.7000 <span class="detail">clever</span>' in board


def test_a_section_shows_what_the_files_contain(workspace):
    text = re.sub(r"<wbr>", "", page())
    assert "(guessing on <code>loans</code>)" in text and "ab" * 32 in text
    assert "train 1,061, val 7, gate 5, test 23" in text and "passed: 1 of 2 expectations" in text
    assert "warning: <code>expect_more</code> on <code>Age</code>, 17 rows: it failed" in text
    assert "expect_something" not in text
    assert (
        text.count('<td class="number">0.6200</td>') == 2
        and text.count("01-map of tall</figcaption>") == 1
    )
    assert "worth (higher is better)" in text and "worth (lower is better)" in text
    assert "clever (best baseline)" in text and "simple (trivial baseline)" in text
    assert "simple (trivial and best baseline)" in text


def test_notes_on_the_data_are_shown_if_there_are_any(workspace):
    assert "Notes" not in page()
    path = Path("data/prepared/loans/profile.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"about": "A loan <is> not a gift."}))
    assert page().count("<dd>A loan &lt;is&gt; not a gift.</dd>") == 1


def test_repairs_are_shown_if_there_were_any(workspace):
    assert "by a half" not in page()
    path = Path("data/prepared/loans/profile.json")
    repairs = ["`a` <b> was divided", "`c` by a half"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repairs": repairs}))
    assert page().count("<dd>`a` &lt;b&gt; was divided; `c` by a half</dd>") == 1


def test_a_verdict_is_shown_in_the_section_of_its_model(workspace):
    assert "No skill" not in page()
    path = Path("reports/metrics/tall.json")
    verdict = ["No skill: RMSE 2 & <more>."]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verdict": verdict}))
    text = page()
    assert text.count("<p>No skill: RMSE 2 &amp; &lt;more&gt;.</p>") == 1
    after = text.split('<h2 id="tall">')[1]
    assert "No skill" in after.split('<h2 id="wide">')[0]


def test_a_missing_metric_of_a_baseline_is_a_dash_and_explained(workspace):
    assert "cannot be the best baseline" not in page()
    path = Path("reports/metrics/tall.json")
    record = json.loads(path.read_text())
    record["baselines"]["wild"] = {"other": 1.0}
    path.write_text(json.dumps(record))
    text = page()
    assert '<th scope="row">wild</th><td class="number">–</td>' in text
    assert text.count("A baseline without all metrics cannot be the best baseline") == 1


def test_decisions_js_is_the_only_external_resource(workspace):
    text = page()
    links = set()
    for _, attrs in Elements(text).tags:
        links |= {attrs[key] for key in ("src", "href") if key in attrs}
    assert {link for link in links if not link.startswith("#")} == {"decisions.js"}
    assert not re.search(r"(?<!http:)//\w|url\([^#]|@import|https:", text)
    # The name of a namespace, which no browser loads.
    assert set(re.findall(r"http://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}


def test_figures_have_alternative_text_and_ids_that_do_not_clash(workspace):
    tags = Elements(page()).tags
    figures = [attrs for tag, attrs in tags if tag == "svg"]
    assert len(figures) == 4
    for svg in figures:
        assert (svg["role"], svg["aria-label"]) == ("img", "What it shows") and "color" not in svg
    ids = [attrs["id"] for tag, attrs in tags if tag == "path"]
    references = [attrs["href"] for tag, attrs in tags if tag == "use"]
    assert len(set(ids)) == 4 and references == [f"#{name}" for name in ids]
    assert "figure_1" not in page() and page().count("<title>here &lt;it&gt; is</title>") == 4


def test_a_long_table_scrolls(workspace):
    rows = [[f"row {number}", number] for number in range(41)]
    for model, data in (("tall", rows), ("wide", rows[:40])):
        write(f"reports/tables/{model}.json", json.dumps({"all": TABLE | {"data": data}}))
    text = page()
    assert 'class="scroll long" role="region" aria-label="The worst (tall)"' in text
    assert 'class="scroll" role="region" aria-label="The worst (wide)"' in text


def test_tables_are_formatted_by_column(workspace):
    text = page()
    assert text.count("<h3>The worst</h3>") == 2 and '<th scope="col">row_<wbr>name</th>' in text
    assert text.count('<tr><td>a &lt;b&gt;</td><td class="number">0.50</td></tr>') == 2
    assert text.count('<tr><td>–</td><td class="number">2.25</td></tr>') == 2


def test_the_page_does_not_depend_on_place_and_time(workspace, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(workspace, elsewhere, dirs_exist_ok=True)
    first = page()
    monkeypatch.chdir(elsewhere)
    assert page() == first and str(workspace) not in first


def test_the_markup_serves_screen_readers(workspace):
    tags = Elements(page()).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert ("html", {"lang": "en"}) in tags
    assert all(attrs.get("aria-label") for tag, attrs in tags if tag == "svg")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in tags if tag == "th")
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def contrast(ink: str, paper: str) -> float:
    """The contrast ratio of two colours, from their relative luminances (WCAG 2.2)."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(ink), luminance(paper)))
    return (light + 0.05) / (dark + 0.05)


def test_text_has_enough_contrast_in_light_and_dark(workspace):
    schemes = re.findall(r":root \{(.*?)\}", page())
    assert len(schemes) == 2
    for scheme in schemes:
        colors = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for paper in ("paper", "band"):
            for ink in ("ink", "soft", "link"):
                assert contrast(colors[ink], colors[paper]) >= 4.5, (ink, paper)


def test_names_and_reasons_are_escaped(workspace):
    script = "<script>alert('x')</script>"
    section = report.section("tall", metrics("tall", "loans"), count())
    for entry in section.validation["expectations"]:
        entry["why"] = entry["expectation"] = script
    picture = report.picture(SVG.format(says="&lt;script&gt;alert('x')&lt;/script&gt;"), 7)
    section = dataclasses.replace(
        section,
        row=report.scoreboard.rows([metrics(script, script)], {})[0],
        metrics=section.metrics | {"task": script},
        curve=picture,
        pictures=[picture],
    )
    text = report.render([section], "decisions.js")
    assert "<script>alert" not in text and text.count("&lt;script&gt;alert") >= 6
    # The contents of decisions.js are inserted as text as well.
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
def test_a_missing_file_is_named_with_the_command_that_creates_it(workspace, missing):
    Path(missing).unlink()
    with pytest.raises(SextantError, match=f"^{missing} is missing.*`wide`.*`make repro`"):
        report.main([])
    assert not Path("reports/index.html").exists()


def test_unlisted_models_are_ignored(workspace):
    write("reports/metrics/old.json", "not JSON")
    write("reports/figures/old/00-curve.svg", "not SVG")
    assert "old" not in {attrs.get("id") for _, attrs in Elements(page()).tags}


def test_started_by_hand_it_does_not_touch_the_page_of_the_stage(workspace, monkeypatch):
    staged = page()
    monkeypatch.delenv("DVC_STAGE")
    report.main([])
    assert Path("reports/index.html").read_text() == staged
    assert 'src="../reports/decisions.js"' in Path(".scratch/index.html").read_text()


def test_it_takes_no_arguments(workspace):
    with pytest.raises(UsageError, match="`model=tall` is not understood"):
        report.main(["model=tall"])
