"""Figures: named axes, numbers that equal the scores, tooltips, the same bytes on every run."""

import functools
import hashlib
import html
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from builders import table_columns
from conftest import clone_environment, forked_script
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sextant import drawing
from sextant.tasks.classification import figures
from sextant.tasks.classification.metrics import Label, as_answers, scores

COLUMNS = table_columns(target="<kind>", numeric=["height"])
ROWS = 193


@functools.cache
def classifier(*classes: Label) -> tuple[dict[str, Figure], dict[str, float]]:
    """The figures of random answers that are often right, beside one baseline, and their scores.

    Tests share them and must not change them.
    """
    rng = np.random.default_rng(5)
    label = np.arange(ROWS) % len(classes)
    probs = rng.dirichlet(np.ones(len(classes)), ROWS)
    probs[np.arange(ROWS), label] += 0.5
    answers = as_answers(probs / probs.sum(axis=1, keepdims=True), list(classes))
    uniform = as_answers(np.full((ROWS, len(classes)), 1 / len(classes)), list(classes))
    truth = pd.Series([classes[i] for i in label])
    rows = pd.DataFrame({COLUMNS.target: truth})
    drawn = figures.figures(answers, rows, COLUMNS, {"majority": uniform})
    return drawn, scores(answers, truth, list(classes))


def curves(epochs: int = 17) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    falling = np.exp(-epoch / 5)
    columns = {
        "epoch": epoch,
        "train/loss": falling,
        "val/loss": falling + epoch / 100,
        "val/skill": 1 - falling,
        "val/error": falling,
        "val/recall": 1 - falling / 2,
    }
    return pd.DataFrame(columns)


@functools.cache
def all_figures() -> dict[str, Figure]:
    """Figures of each kind; tests share them and must not change them."""
    drawn = {
        "curve": drawing.learning_curve(curves()),
        "one-epoch": drawing.learning_curve(curves(1)),
    }
    for name, figure in classifier(0, 1)[0].items():
        drawn[f"two-{name}"] = figure
    for name, figure in classifier("ant", "bee", "cow")[0].items():
        drawn[f"three-{name}"] = figure
    return drawn


def tooltips(axes: Axes) -> list[str]:
    """The tooltips of an axes."""
    gids = [patch.get_gid() for patch in axes.patches if patch.get_gid()]
    return [gid.removeprefix(drawing.TOOLTIP) for gid in gids]


def line_of(axes: Axes, beginning: str) -> Line2D:
    """The one line whose label begins so."""
    (line,) = [line for line in axes.lines if line.get_label().startswith(beginning)]
    return line


# --- what is drawn ------------------------------------------------------------------------------


def test_every_figure_has_a_title_and_a_caption_and_every_axis_a_name():
    for name, figure in all_figures().items():
        assert figure.axes, name
        assert figure.get_suptitle(), name
        assert figure.get_label(), name
        for axes in figure.axes:
            siblings = axes.get_shared_x_axes().get_siblings(axes)
            assert axes.get_ylabel(), name
            assert any(sibling.get_xlabel() for sibling in siblings), name


@pytest.mark.parametrize("classes", [[0, 1], ["ant", "bee", "cow"]], ids=["two", "three"])
def test_the_numbers_of_the_figures_are_the_scores(classes):
    drawn, metrics = classifier(*classes)
    assert list(drawn) == ["roc", "calibration", "confusion"]
    legend = [text.get_text() for text in drawn["roc"].axes[0].get_legend().get_texts()]
    assert f"model, AUC {metrics['auroc']:.4f}" in legend
    assert "majority, AUC 0.5000" in legend
    assert f"model {metrics['brier']:.4f}" in drawn["calibration"].get_label()
    counts = [int(text.get_text().split("\n")[0]) for text in drawn["confusion"].axes[0].texts]
    assert len(counts) == len(classes) ** 2
    assert sum(counts) == ROWS
    diagonal = counts[:: len(classes) + 1]
    assert sum(diagonal) / ROWS == pytest.approx(metrics["accuracy"])


def test_the_confusion_matrix_of_many_classes_has_tints_and_no_numbers():
    """The numbers are in the tooltips, of each pair of classes that has rows."""
    axes = classifier(*[f"class {i:02}" for i in range(13)])[0]["confusion"].axes[0]
    tints = [patch for patch in axes.patches if not patch.get_gid()]
    texts = tooltips(axes)
    assert not axes.texts
    assert len(tints) == len(texts) <= 13**2
    counts = [int(text.split(": ")[1].split(" of ")[0]) for text in texts]
    assert min(counts) > 0
    assert sum(counts) == ROWS


def test_the_bins_of_the_calibration_count_every_row():
    above, below = all_figures()["two-calibration"].axes
    heights = [bar.get_height() for bar in below.containers[0]]
    assert len(heights) == 10
    assert sum(heights) == ROWS
    texts = tooltips(above)
    assert tooltips(below) == texts
    shares = []
    counts = []
    for text in texts:
        match = re.search(r"^(.*); observed share: model ([\d.]+) of (\d+) rows", text)
        shares.append(float(match[2]))
        counts.append(int(match[3]))
    assert counts == [height for height in heights if height]
    assert shares == pytest.approx(line_of(above, "model").get_ydata(), abs=0.0006)


@pytest.mark.parametrize("classes", ["two", "three"])
def test_the_tooltips_of_the_roc_curve_are_its_values(classes):
    axes = all_figures()[f"{classes}-roc"].axes[0]
    values = dict(text.split(": ") for text in tooltips(axes))
    assert len(values) == 41
    assert "majority 0.250" in values["false positive rate 0.25"]
    false_positive, true_positive = line_of(axes, "model, AUC").get_data()
    value = float(values["false positive rate 0.5"].split(",")[0].split()[1])
    low = true_positive[false_positive <= 0.5].max()
    high = true_positive[false_positive >= 0.5].min()
    assert low - 0.0006 <= value <= high + 0.0006


def test_the_threshold_of_two_classes_is_a_point_of_the_roc_curve():
    drawn, _ = classifier("no", "yes")
    point = line_of(drawn["roc"].axes[0], "model at threshold 0.5")
    counts = [int(text.get_text().split()[0]) for text in drawn["confusion"].axes[0].texts]
    confusion = np.reshape(counts, (2, 2))
    false_positive, true_positive = confusion[:, 1] / confusion.sum(axis=1)
    marked = [*point.get_xdata(), *point.get_ydata()]
    assert marked == pytest.approx([false_positive, true_positive])


def test_the_caption_of_the_confusion_matrix_says_which_class_is_predicted():
    two = classifier("no", "yes")[0]["confusion"].get_label()
    assert "; <kind> = yes is predicted from a probability of 0.5 on. " in two
    three = classifier("ant", "bee", "cow")[0]["confusion"].get_label()
    assert "; the most probable <kind> is predicted. " in three


def test_no_title_is_wider_than_its_figure():
    for name, figure in all_figures().items():
        title = figure.texts[0]
        assert title.get_text() == figure.get_suptitle()
        assert title.get_window_extent().x1 < figure.bbox.x1, name


def test_the_learning_curve_shows_every_metric_and_names_the_lowest_loss():
    figure = drawing.learning_curve(curves())
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["loss", "val/skill", "val/error", "val/recall"]
    assert figure.get_label().startswith("17 epochs; val/loss is lowest")
    assert "at epoch 15" in figure.get_label()


def test_a_table_is_json_with_null_for_missing_values():
    rows = pd.DataFrame({"name": ["a", None], "count": [1, 2], 3: [0.5, np.nan]})
    record = drawing.Table("Title", "Caption.", rows).record()
    assert record == {
        "title": "Title",
        "says": "Caption.",
        "columns": ["name", "count", "3"],
        "data": [["a", 1, 0.5], [None, 2, None]],
    }


# --- SVG ----------------------------------------------------------------------------------------


NAMES = ("roc", "calibration", "confusion", "curve")


def save_all(folder: Path, names: Sequence[str] = NAMES) -> dict[str, str]:
    """Write figures of a model of two classes to `folder`; return their digests."""
    drawn = classifier.__wrapped__("<no>", "yes")[0]
    drawn["curve"] = drawing.learning_curve(curves())
    assert set(drawn) == set(NAMES)
    digests = {}
    for name in names:
        path = folder / f"{name}.svg"
        drawing.save(drawn[name], path)
        digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder with the figures as SVG, and their digests."""
    folder = tmp_path_factory.mktemp("figures")
    return folder, save_all(folder)


def test_the_bytes_are_the_same_on_a_second_drawing(saved, tmp_path):
    """The others: test_the_bytes_are_the_same_in_another_process."""
    _, digests = saved
    names = ("calibration",)
    assert save_all(tmp_path, names) == {name: digests[name] for name in names}


@pytest.mark.slow
def test_the_bytes_are_the_same_in_another_process(saved, tmp_path):
    _, digests = saved
    code = "import pathlib, test_drawing as t; print(t.save_all(pathlib.Path.cwd()))"
    folders = [str(Path(__file__).parent), str(Path(drawing.__file__).parents[1])]
    environment = clone_environment() | {"PYTHONPATH": os.pathsep.join(folders)}
    process = subprocess.run(
        forked_script(code),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == str(digests)


def test_an_svg_has_no_date_and_no_bitmap_and_brings_title_and_caption(saved):
    folder, _ = saved
    excerpts = {"roc": "AUC", "calibration": "Brier", "confusion": "&lt;no&gt;", "curve": "epochs"}
    for name, excerpt in excerpts.items():
        svg = (folder / f"{name}.svg").read_text()
        texts = {}
        for element in ElementTree.fromstring(svg).iter():
            texts[element.tag.split("}")[-1]] = element.text
        assert not {"date", "creator", "image", "script", "no"} & set(texts), name
        assert texts["title"], name
        assert html.unescape(excerpt) in texts["description"], name
        assert excerpt in svg, name
        assert svg.count(drawing.INK) == 1, name
        assert "currentColor" in svg, name


def test_a_tooltip_also_shows_where_text_or_a_line_is_above_it(saved):
    """Nothing else takes the pointer."""
    folder, _ = saved
    root = ElementTree.fromstring((folder / "curve.svg").read_text())
    assert root.get("pointer-events") == "none"
    areas = [element for element in root.iter() if element.get("class") == "tooltip"]
    assert {area.get("pointer-events") for area in areas} == {"all"}
    assert all(area[0].tag.endswith("title") for area in areas)
    headings = [area[0].text.split(":")[0] for area in areas]
    assert headings == 4 * [f"epoch {epoch}" for epoch in range(1, 18)]


def test_drawing_and_saving_leave_the_settings_of_matplotlib_unchanged(tmp_path):
    before = dict(matplotlib.rcParams)
    drawing.save(drawing.learning_curve(curves()), tmp_path / "curve.svg")
    assert dict(matplotlib.rcParams) == before


def test_the_name_of_an_axis_is_not_cut_off_beside_long_tick_labels(tmp_path):
    """The ranges are those of a Boltzmann machine.

    Without fixed ticks, a narrower margin led to longer tick labels, which pushed `loss` out.
    """
    ranges = {
        "train/loss": (-0.0178, -0.0797),
        "val/loss": (-0.0104, 0.0155),
        "val/auroc": (0.7924, 0.8148),
        "val/accuracy": (0.8383, 0.8474),
        "val/log_loss": (0.3774, 0.3633),
    }
    table = pd.DataFrame({"epoch": range(1, 41)})
    for name, (first, last) in ranges.items():
        table[name] = np.linspace(first, last, 40)
    drawing.save(drawing.learning_curve(table), tmp_path / "curve.svg")
    svg = (tmp_path / "curve.svg").read_text()
    baseline = re.search(r"rotate\(-90 ([-\d.]+) [-\d.]+\)\">loss</text>", svg)
    assert float(baseline[1]) > 9  # points from the left edge, with letters 10 points high
