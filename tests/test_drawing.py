"""Figures: labelled axes, numbers that agree with the scores, the same bytes on every run."""

import hashlib
import html
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sextant import drawing
from sextant.tasks.classification import figures
from sextant.tasks.classification.metrics import as_answers, score

COLUMNS = SimpleNamespace(target="<kind>")


def drawn(classes: list, rows: int = 193) -> tuple[dict[str, Figure], dict[str, float]]:
    """The figures of a made-up model that is often right, beside one baseline, and the model's scores."""
    rng = np.random.default_rng(5)
    label = np.arange(rows) % len(classes)
    probabilities = rng.dirichlet(np.ones(len(classes)), rows)
    probabilities[np.arange(rows), label] += 0.5
    answers = as_answers(probabilities / probabilities.sum(axis=1, keepdims=True), classes)
    flat = as_answers(np.full((rows, len(classes)), 1 / len(classes)), classes)
    truth = pd.DataFrame({COLUMNS.target: pd.Series([classes[i] for i in label])})
    found = figures.figures(answers, truth, COLUMNS, {"majority": flat})
    return found, score(answers, truth, SimpleNamespace(columns=COLUMNS, classes=classes))


def told(axes: Axes) -> list[str]:
    """What the places of a figure say under the pointer."""
    return [
        str(patch.get_gid()).removeprefix(drawing.TOLD) for patch in axes.patches if patch.get_gid()
    ]


def curves(epochs: int = 17) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    falling = np.exp(-epoch / 5)
    table = {"epoch": epoch, "train/loss": falling, "val/loss": falling + epoch / 100}
    return pd.DataFrame(
        table | {"val/skill": 1 - falling, "val/error": falling, "val/recall": 1 - falling / 2}
    )


def everything() -> dict[str, Figure]:
    groups = {"two": drawn([0, 1])[0], "three": drawn(["ant", "bee", "cow"])[0]}
    found = {
        f"{group}-{name}": figure
        for group, named in groups.items()
        for name, figure in named.items()
    }
    return found | {
        "curve": drawing.learning_curve(curves()),
        "one-epoch": drawing.learning_curve(curves(1)),
    }


def test_every_axis_says_what_it_is():
    for name, figure in everything().items():
        assert figure.axes and figure.get_suptitle() and figure.get_label(), name
        for axes in figure.axes:
            shared = axes.get_shared_x_axes().get_siblings(axes)
            assert axes.get_ylabel() and any(one.get_xlabel() for one in shared), name


@pytest.mark.parametrize("classes", [[0, 1], ["ant", "bee", "cow"]], ids=["two", "three"])
def test_the_numbers_shown_are_the_scores(classes):
    found, scores = drawn(classes)
    assert list(found) == ["roc", "calibration", "confusion"]
    legend = [text.get_text() for text in found["roc"].axes[0].get_legend().get_texts()]
    assert f"model, AUC {scores['auroc']:.4f}" in legend and "majority, AUC 0.5000" in legend
    assert f"model {scores['brier']:.4f}" in found["calibration"].get_label()
    counts = [int(text.get_text().split("\n")[0]) for text in found["confusion"].axes[0].texts]
    assert len(counts) == len(classes) ** 2 and sum(counts) == 193
    assert sum(counts[:: len(classes) + 1]) / 193 == pytest.approx(scores["accuracy"])


def test_of_many_classes_the_confusion_keeps_the_tint_and_drops_the_numbers():
    """What is not written is told under the pointer, of each pair of classes that was met."""
    axes = drawn([f"class {i:02}" for i in range(13)])[0]["confusion"].axes[0]
    tints = [patch for patch in axes.patches if not patch.get_gid()]
    assert len(tints) == len(told(axes)) <= 13**2 and not axes.texts
    counts = [int(words.split(": ")[1].split(" of ")[0]) for words in told(axes)]
    assert min(counts) > 0 and sum(counts) == 193


def test_every_row_is_counted_in_the_bins():
    above, below = drawn([0, 1])[0]["calibration"].axes
    heights = [bar.get_height() for bar in below.containers[0]]
    assert sum(heights) == 193 and len(heights) == 10
    said = [
        re.search(r"^(.*); observed share: model ([\d.]+) of (\d+) rows", words)
        for words in told(above)
    ]
    assert [int(words[3]) for words in said] == [n for n in heights if n] and told(below) == told(
        above
    )
    (line,) = [line for line in above.lines if line.get_label().startswith("model")]
    assert [float(words[2]) for words in said] == pytest.approx(line.get_ydata(), abs=0.0006)


@pytest.mark.parametrize("classes", [[0, 1], ["ant", "bee", "cow"]], ids=["two", "three"])
def test_the_roc_says_its_values_under_the_pointer(classes):
    axes = drawn(classes)[0]["roc"].axes[0]
    said = dict(words.split(": ") for words in told(axes))
    assert len(said) == 41 and "majority 0.250" in said["false positive rate 0.25"]
    (line,) = [line for line in axes.lines if line.get_label().startswith("model, AUC")]
    x, y = (np.asarray(values) for values in line.get_data())
    shown = float(said["false positive rate 0.5"].split(",")[0].split()[1])
    assert y[x <= 0.5].max() - 0.0006 <= shown <= y[x >= 0.5].min() + 0.0006


def test_of_two_classes_the_threshold_is_said_and_is_a_point_of_the_roc():
    found, _ = drawn(["no", "yes"])
    (point,) = [
        line for line in found["roc"].axes[0].lines if line.get_label().endswith("threshold 0.5")
    ]
    counts = np.reshape(
        [int(text.get_text().split()[0]) for text in found["confusion"].axes[0].texts], (2, 2)
    )
    false, true = counts[:, 1] / counts.sum(axis=1)
    assert [*point.get_xdata(), *point.get_ydata()] == pytest.approx([false, true])
    assert (
        "; <kind> = yes is predicted from a probability of 0.5 on. "
        in found["confusion"].get_label()
    )
    three = drawn(["ant", "bee", "cow"])[0]["confusion"].get_label()
    assert "; the most probable <kind> is predicted. " in three


def test_no_title_is_wider_than_its_figure():
    for name, figure in everything().items():
        title = figure.texts[0]
        assert title.get_text() == figure.get_suptitle()
        assert title.get_window_extent().x1 < figure.bbox.x1, name


def test_the_learning_curve_shows_every_metric_and_names_the_lowest_loss():
    figure = drawing.learning_curve(curves())
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "loss",
        "val/skill",
        "val/error",
        "val/recall",
    ]
    assert (
        figure.get_label().startswith("17 epochs; val/loss is lowest")
        and "at epoch 15" in figure.get_label()
    )


def saved(folder: Path) -> dict[str, str]:
    """The digests of all figures of a two-class model, written to `folder`."""
    for name, figure in {
        **drawn(["<no>", "yes"])[0],
        "curve": drawing.learning_curve(curves()),
    }.items():
        drawing.save(figure, folder / f"{name}.svg")
    return {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.svg"))
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the figures as SVG."""
    folder = tmp_path_factory.mktemp("figures")
    saved(folder)
    return folder


def test_the_bytes_are_the_same_on_a_second_drawing(folder, tmp_path):
    first = {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.svg"))
    }
    assert len(first) == 4 and saved(tmp_path) == first


@pytest.mark.slow
def test_the_bytes_are_the_same_in_another_process(tmp_path):
    code = "import pathlib, sys, test_drawing; print(test_drawing.saved(pathlib.Path(sys.argv[1])))"
    places = f"{Path(__file__).parent}{os.pathsep}{Path(drawing.__file__).parents[1]}"
    command = [sys.executable, "-c", code, tmp_path / "b"]
    there = os.environ | {"PYTHONPATH": places}
    told = subprocess.run(command, env=there, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(saved(tmp_path / "a"))


def test_an_svg_has_no_date_no_picture_of_dots_and_carries_its_words(folder):
    shown = {"roc": "AUC", "calibration": "Brier", "confusion": "&lt;no&gt;", "curve": "epochs"}
    for name, said in shown.items():
        text = (folder / f"{name}.svg").read_text()
        words = {
            element.tag.split("}")[-1]: element.text
            for element in ElementTree.fromstring(text).iter()
        }
        assert not {"date", "creator", "image", "script", "no"} & set(words), name
        assert words["title"] and html.unescape(said) in words["description"] and said in text
        assert text.count(drawing.INK) == 1 and "currentColor" in text, name


def test_a_place_tells_its_words_also_where_letters_lie_over_it(folder):
    """Nothing else takes the pointer: what is drawn over a place would hide what it says."""
    root = ElementTree.fromstring((folder / "curve.svg").read_text())
    places = [element for element in root.iter() if element.get("class") == "told"]
    assert root.get("pointer-events") == "none" and {
        place.get("pointer-events") for place in places
    } == {"all"}
    said = [place[0].text.split(":")[0] for place in places]
    assert all(place[0].tag.endswith("title") for place in places)
    assert said == 4 * [f"epoch {epoch}" for epoch in range(1, 18)]


def test_the_style_leaves_the_process_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    drawing.save(drawing.learning_curve(curves()), tmp_path / "curve.svg")
    assert dict(matplotlib.rcParams) == before


def test_the_name_of_an_axis_stays_inside_where_longer_numbers_stand_beside_it(tmp_path):
    """Over ranges that a Boltzmann machine left: a narrower margin led to longer numbers, which pushed `loss` out."""
    ranges = {
        "train/loss": (-0.0178, -0.0797), "val/loss": (-0.0104, 0.0155), "val/auroc": (0.7924, 0.8148),
        "val/accuracy": (0.8383, 0.8474), "val/log_loss": (0.3774, 0.3633),
    }  # fmt: skip
    curves = pd.DataFrame(
        {"epoch": range(1, 41)} | {name: np.linspace(*ends, 40) for name, ends in ranges.items()}
    )
    drawing.save(drawing.learning_curve(curves), tmp_path / "curve.svg")
    baseline = re.search(
        r"rotate\(-90 ([-\d.]+) [-\d.]+\)\">loss</text>", (tmp_path / "curve.svg").read_text()
    )
    assert float(baseline[1]) > 9  # points from the left edge, in letters of 10
