"""Pictures of a classifier of pictures: the right ones, in the right place, small, and the same on every run."""

import base64
import functools
import io
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from sextant import drawing, saved_model
from sextant.kinds.images.columns import Columns, Folders
from sextant.kinds.images.encoder import Encoder
from sextant.tasks.classification import figures
from sextant.tasks.classification.figures import SIDE
from sextant.tasks.classification.metrics import as_answers

CLASSES = ["ant", "bee", "cow"]
NET = {
    "widths": [3, 5], "stride": 1, "mirror": True, "zoom": 1.5, "rotation": 15.0,
    "light": 0.2, "colour": 0.1, "hole": 0.3, "label_smoothing": 0.0,
}  # fmt: skip
COLUMNS = Columns(
    files=Folders(format="folders", train=["."], test=[], index=None),
    target="kind", channels=3, size=16, flat=4, smallest=8,
)  # fmt: skip


def pictures(
    classes: Sequence[Any], rows: int = 17, size: tuple[int, ...] = (16, 16, 3)
) -> pd.DataFrame:
    """Each picture is a plain grey of ten times its row's number."""
    images = pd.Series([np.full(size, 10 * row, np.uint8) for row in range(rows)])
    labels = [classes[i % len(classes)] for i in range(rows)]
    return pd.DataFrame(
        {"kind": labels, "image": images, "path": [f"somewhere/{row}.png" for row in range(rows)]}
    )


def answers(classes: Sequence[Any], rows: int = 17, right: float = 0.9) -> pd.DataFrame:
    """Rows 3 and 5 are mistaken, 5 more surely; of the right ones the later are the surer."""
    label = np.arange(rows) % len(classes)
    own = right + 0.001 * np.arange(rows)
    own[[3, 5]] = 0.2, 0.1
    probabilities = np.repeat((1 - own[:, None]) / (len(classes) - 1), len(classes), 1)
    probabilities[np.arange(rows), label] = own
    return as_answers(probabilities, list(classes))


def net(classes: Sequence[Any], rows: pd.DataFrame) -> saved_model.SavedModel:
    """An untrained net with an encoder of these rows."""
    encoder = Encoder.fit(rows, COLUMNS)
    torch.manual_seed(0)
    return saved_model.SavedModel(
        {"task": "classification"}, saved_model.build("cnn", encoder.sizes, NET).eval(), encoder
    )


@functools.cache
def drawn(*classes: Any) -> dict[str, Figure]:
    """All figures of an untrained net, which is said to have given these answers."""
    rows = pictures(classes)
    model = net(classes, rows)
    return figures.figures(answers(classes), rows, COLUMNS, {}, model=model, train=rows)


def shown(figure: Figure) -> list[tuple[str, np.ndarray]]:
    """Words and picture of each place that has one."""
    return [
        (axes.get_title(), np.asarray(axes.images[0].get_array()))
        for axes in figure.axes
        if axes.images
    ]


@pytest.mark.parametrize("size", [(5, 7, 3), (5, 7, 1), (300, 200, 3)], ids=str)
@pytest.mark.parametrize("classes", [[0, 1], CLASSES], ids=len)
def test_the_worst_pictures_are_those_whose_truth_was_least_likely(classes, size):
    rows = pictures(classes, size=size)
    found = figures.figures(answers(classes), rows, SimpleNamespace(target="kind"), {})["worst"]
    seen = shown(found)
    assert [int(image[0, 0, 0]) for _, image in seen][:3] == [50, 30, 0] and len(seen) == 12
    assert seen[0][0] == f"5\n{classes[5 % len(classes)]}: 10.0%"
    assert {max(image.shape) for _, image in seen} == {SIDE} and seen[0][1].shape[2] == 3
    assert str(found.get_label()).startswith("2 of 17 pictures are predicted wrongly.")


@pytest.mark.parametrize("classes", [[0, 1], CLASSES], ids=len)
def test_grad_cam_is_of_the_surest_of_each_class_and_of_the_worst_mistakes(classes):
    seen = shown(drawn(*classes)["grad_cam"])
    plain = [int(image[0, 0, 0]) // 10 for _, image in seen[::2]]
    assert plain == [16, 15, 14, 13, 5, 3, 0, 1] and len(seen) == 16
    assert seen[8][0] == f"{classes[5 % len(classes)]}: 10.0%"
    taken = answers(classes)["prediction"][5]
    assert seen[9][0] == f"for {taken}" and taken != classes[5 % len(classes)]


def test_a_class_that_is_surer_does_not_fill_all_places():
    rows = pictures(["ant", "bee"])
    sure = pd.DataFrame(
        {"prediction": rows["kind"], "probability": np.where(rows["kind"] == "bee", 0.99, 0.3)}
    )
    model = net(["ant", "bee"], rows)
    found = figures.figures(sure, rows, COLUMNS, {}, model=model, train=rows)["grad_cam"]
    assert [words.split(":")[0] for words, _ in shown(found)[:8:2]] == ["bee", "ant", "bee", "ant"]


def test_what_is_tinted_is_where_the_evidence_lies():
    rows = pictures(CLASSES)
    rows["image"] = [
        np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8) for i in range(17)
    ]
    model = net(CLASSES, rows)
    found = figures.figures(answers(CLASSES), rows, COLUMNS, {}, model=model, train=rows)[
        "grad_cam"
    ]
    maps = model.net.grad_cam(model.encoder.encode(rows.iloc[[5]]))[0]
    heat = maps[CLASSES.index(answers(CLASSES)["prediction"][5])].numpy()
    image = shown(found)[9][1].astype(int)
    tint = (
        (image[..., 0] - image[..., 2]).reshape(8, 16, 8, 16).mean((1, 3))
    )  # orange is red without blue
    assert heat.max() > 0 and heat.shape == tint.shape
    assert np.corrcoef(heat.ravel(), tint.ravel())[0, 1] > 0.95


def test_the_contact_sheet_shows_training_pictures_and_ways_to_meet_them():
    rows = pictures(CLASSES)
    model, state = net(CLASSES, rows), torch.get_rng_state()
    first, again = (
        shown(figures.augmentation(model.net.augment, model.encoder, rows, "kind"))
        for _ in range(2)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert len(first) == 24 and [words for words, _ in first[::6]] == ["ant", "bee", "cow", "ant"]
    assert [int(image[0, 0, 0]) for _, image in first[::6]] == [0, 10, 20, 30]
    assert len({image.tobytes() for _, image in first}) == 24
    assert all((one == other).all() for (_, one), (_, other) in zip(first, again, strict=True))


def test_a_model_that_offers_no_maps_is_shown_without_them():
    rows = pictures(CLASSES)
    other = saved_model.SavedModel({}, torch.nn.Identity(), None)
    found = figures.figures(answers(CLASSES), rows, COLUMNS, {}, model=other, train=rows)
    assert list(found) == ["roc", "calibration", "confusion", "worst"]


def test_titles_fit_and_every_figure_has_its_words():
    found = drawn(*CLASSES)
    assert list(found) == ["roc", "calibration", "confusion", "worst", "grad_cam", "augmentation"]
    for name, figure in found.items():
        assert figure.texts[0].get_window_extent().x1 < figure.bbox.x1 and figure.get_label(), name


def test_photographs_are_jpeg_of_the_size_shown_and_come_out_alike(tmp_path):
    rows = pictures(CLASSES)
    ramp = np.linspace(0, 255, 16).astype(np.uint8)
    rows["image"] = [np.stack([np.tile(np.roll(ramp, i), (16, 1))] * 3, 2) for i in range(17)]
    for name in ("a", "b"):
        figure = figures.figures(answers(CLASSES), rows, SimpleNamespace(target="kind"), {})[
            "worst"
        ]
        drawing.save(figure, tmp_path / name)
    text = (tmp_path / "a").read_text()
    assert text == (tmp_path / "b").read_text() and "image/png" not in text
    found = [
        Image.open(io.BytesIO(base64.b64decode(one)))
        for one in re.findall(r"image/jpeg;base64,([^\"]+)", text)
    ]
    assert [image.size for image in found] == [(SIDE, SIDE)] * 12
    for image, (_, drawn) in zip(found, shown(figure), strict=True):
        assert np.abs(np.asarray(image).astype(int) - drawn).mean() < 2


def test_a_picture_that_is_seen_through_stays_as_it_is(tmp_path):
    figure = drawing.canvas("seen through")
    glass = np.zeros((8, 8, 4), np.uint8)
    glass[..., 3] = 100
    figure.add_subplot().imshow(glass, interpolation="none")
    drawing.save(figure, tmp_path / "glass.svg")
    assert "image/png" in (tmp_path / "glass.svg").read_text()
