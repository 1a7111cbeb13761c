"""Figures of a classifier of pictures: which pictures, where, how large; the same on every run."""

import base64
import functools
import io
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from sextant import drawing, saved_model
from sextant.kinds.images.columns import Columns, Folders
from sextant.kinds.images.encoder import Encoder
from sextant.probability_figures import label_probability
from sextant.tasks.classification import figures
from sextant.tasks.classification.figures import SIDE
from sextant.tasks.classification.metrics import Label, as_answers

CLASSES = ["ant", "bee", "cow"]
NET = {
    "widths": [3, 5],
    "stride": 1,
    "mirror": True,
    "zoom": 1.5,
    "rotation": 15.0,
    "light": 0.2,
    "colour": 0.1,
    "hole": 0.3,
    "label_smoothing": 0.0,
}
COLUMNS = Columns(
    files=Folders(format="folders", train=["."], test=[], index=None),
    target="kind",
    channels=3,
    size=16,
    flat=4,
    smallest=8,
)


def pictures(
    classes: Sequence[Label], rows: int = 17, size: tuple[int, ...] = (16, 16, 3)
) -> pd.DataFrame:
    """Plain grey pictures; the grey value of each is ten times its row number."""
    images = pd.Series([np.full(size, 10 * row, np.uint8) for row in range(rows)])
    labels = [classes[i % len(classes)] for i in range(rows)]
    paths = [f"folder/{row}.png" for row in range(rows)]
    return pd.DataFrame({"kind": labels, "image": images, "path": paths})


def answers(classes: Sequence[Label], rows: int = 17) -> pd.DataFrame:
    """Rows 3 and 5 are wrong, 5 more confidently; of the right ones, later are more confident."""
    label = np.arange(rows) % len(classes)
    truth_probs = 0.9 + 0.001 * np.arange(rows)
    truth_probs[[3, 5]] = 0.2, 0.1
    rest = (1 - truth_probs) / (len(classes) - 1)
    probs = np.repeat(rest[:, None], len(classes), 1)
    probs[np.arange(rows), label] = truth_probs
    return as_answers(probs, list(classes))


def untrained(rows: pd.DataFrame) -> saved_model.SavedModel:
    """An untrained net with an encoder of these rows."""
    encoder = Encoder.fit(rows, COLUMNS)
    torch.manual_seed(0)
    net = saved_model.build("cnn", encoder.sizes, NET).eval()
    return saved_model.SavedModel({"task": "classification"}, net, encoder)


@functools.cache
def all_figures(*classes: Label) -> dict[str, Figure]:
    """All figures of an untrained net with the answers above."""
    rows = pictures(classes)
    model = untrained(rows)
    return figures.figures(answers(classes), rows, COLUMNS, {}, model=model, train=rows)


def sheet(figure: Figure) -> list[tuple[str, np.ndarray]]:
    """Title and picture of each place that has a picture."""
    (axes,) = figure.axes
    places = []
    for image, title in zip(axes.images, axes.texts, strict=True):
        places.append((title.get_text(), np.asarray(image.get_array())))
    return places


def worst(rows: pd.DataFrame, classes: Sequence[Label]) -> Figure:
    """The figure of the worst answers to these rows."""
    given = answers(classes)
    return figures.worst(rows, given, label_probability(given, rows["kind"], classes), "kind")


def grad_cam(
    model: saved_model.SavedModel, rows: pd.DataFrame, given: pd.DataFrame, classes: Sequence[Label]
) -> Figure:
    """The figure of the evidence for these answers."""
    truth_probs = label_probability(given, rows["kind"], classes)
    return figures.grad_cam(model.net.grad_cam, model.encoder, rows, given, truth_probs, "kind")


@pytest.mark.parametrize(
    ("size", "classes"),
    [((5, 7, 3), [0, 1]), ((5, 7, 1), CLASSES), ((300, 200, 3), CLASSES)],
    ids=["small", "grey", "large"],
)
def test_the_worst_pictures_are_those_whose_true_class_is_least_probable(classes, size):
    rows = pictures(classes, size=size)
    figure = worst(rows, classes)
    places = sheet(figure)
    assert len(places) == 12
    assert [int(image[0, 0, 0]) for _, image in places[:3]] == [50, 30, 0]
    title, image = places[0]
    assert title == f"5\n{classes[5 % len(classes)]}: 10.0%"
    assert image.shape[2] == 3
    assert {max(image.shape) for _, image in places} == {SIDE}
    assert str(figure.get_label()).startswith("2 of 17 pictures are predicted wrongly.")


@pytest.mark.parametrize("classes", [[0, 1], CLASSES], ids=len)
def test_grad_cam_has_the_surest_of_each_class_and_the_worst_mistakes(classes):
    places = sheet(all_figures(*classes)["grad_cam"])
    assert len(places) == 16
    plain = [int(image[0, 0, 0]) // 10 for _, image in places[::2]]
    assert plain == [16, 15, 14, 13, 5, 3, 0, 1]
    assert places[8][0] == f"{classes[5 % len(classes)]}: 10.0%"
    predicted = answers(classes)["prediction"][5]
    assert places[9][0] == f"for {predicted}"
    assert predicted != classes[5 % len(classes)]


def test_an_easy_class_does_not_fill_all_places():
    rows = pictures(["ant", "bee"])
    probability = np.where(rows["kind"] == "bee", 0.99, 0.3)
    easy = pd.DataFrame({"prediction": rows["kind"], "probability": probability})
    model = untrained(rows)
    figure = grad_cam(model, rows, easy, ["ant", "bee"])
    classes = [title.split(":")[0] for title, _ in sheet(figure)[:8:2]]
    assert classes == ["bee", "ant", "bee", "ant"]


def test_the_tint_is_where_the_evidence_is():
    rows = pictures(CLASSES)
    noise = []
    for seed in range(17):
        rng = np.random.default_rng(seed)
        noise.append(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    rows["image"] = noise
    model = untrained(rows)
    figure = grad_cam(model, rows, answers(CLASSES), CLASSES)
    maps = model.net.grad_cam(model.encoder.encode(rows.iloc[[5]]))[0]
    heat = maps[CLASSES.index(answers(CLASSES)["prediction"][5])].numpy()
    image = sheet(figure)[9][1].astype(int)
    # Orange is red without blue, so their difference is the tint; averaged to the 8 x 8 of the map.
    tint = (image[..., 0] - image[..., 2]).reshape(8, 16, 8, 16).mean((1, 3))
    assert heat.max() > 0
    assert heat.shape == tint.shape
    assert np.corrcoef(heat.ravel(), tint.ravel())[0, 1] > 0.95


def test_the_sheet_of_augmentations_is_repeatable_and_spares_the_generator():
    rows = pictures(CLASSES)
    model, state = untrained(rows), torch.get_rng_state()
    first = sheet(figures.augmentation(model.net.augment, model.encoder, rows, "kind"))
    second = sheet(figures.augmentation(model.net.augment, model.encoder, rows, "kind"))
    assert torch.equal(state, torch.get_rng_state())
    assert len(first) == 24
    originals = first[::6]
    assert [title for title, _ in originals] == ["ant", "bee", "cow", "ant"]
    assert [int(image[0, 0, 0]) for _, image in originals] == [0, 10, 20, 30]
    assert len({image.tobytes() for _, image in first}) == 24
    for (_, image), (_, again) in zip(first, second, strict=True):
        assert (image == again).all()


def test_a_net_without_maps_and_augmentation_has_the_other_figures():
    rows = pictures(CLASSES)
    model = saved_model.SavedModel({}, torch.nn.Identity(), None)
    drawn = figures.figures(answers(CLASSES), rows, COLUMNS, {}, model=model, train=rows)
    assert list(drawn) == ["roc", "calibration", "confusion", "worst"]


def test_titles_fit_and_every_figure_has_a_caption():
    drawn = all_figures(*CLASSES)
    assert list(drawn) == ["roc", "calibration", "confusion", "worst", "grad_cam", "augmentation"]
    for name, figure in drawn.items():
        assert figure.texts[0].get_window_extent().x1 < figure.bbox.x1, name
        assert figure.get_label(), name


@pytest.mark.parametrize("name", ["worst", "grad_cam", "augmentation"])
def test_pictures_and_their_titles_do_not_overlap_or_leave_the_sheet(name):
    figure = all_figures(*CLASSES)[name]
    renderer = FigureCanvasAgg(figure).get_renderer()
    (axes,) = figure.axes
    figure.draw(renderer)
    boxes = [figure.texts[0].get_window_extent(renderer)]
    for artist in [*axes.images, *axes.texts]:
        box = artist.get_window_extent(renderer)
        if box.width > 0:  # a picture may have no title
            boxes.append(box)
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
        for other in boxes[:i]:
            assert not box.overlaps(other)


def test_pictures_are_jpeg_of_the_size_drawn_and_the_same_on_every_run(tmp_path):
    rows = pictures(CLASSES)
    ramp = np.linspace(0, 255, 16).astype(np.uint8)
    rows["image"] = [np.stack([np.tile(np.roll(ramp, i), (16, 1))] * 3, 2) for i in range(17)]
    for name in ("a", "b"):
        figure = worst(rows, CLASSES)
        drawing.save(figure, tmp_path / name)
    svg = (tmp_path / "a").read_text()
    assert svg == (tmp_path / "b").read_text()
    assert "image/png" not in svg
    images = []
    for encoded in re.findall(r"image/jpeg;base64,([^\"]+)", svg):
        images.append(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert [image.size for image in images] == [(SIDE, SIDE)] * 12
    for image, (_, pixels) in zip(images, sheet(figure), strict=True):
        assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 2


def test_a_transparent_picture_stays_png(tmp_path):
    figure = drawing.canvas("transparent")
    glass = np.zeros((8, 8, 4), np.uint8)
    glass[..., 3] = 100
    figure.add_subplot().imshow(glass, interpolation="none")
    drawing.save(figure, tmp_path / "glass.svg")
    assert "image/png" in (tmp_path / "glass.svg").read_text()
