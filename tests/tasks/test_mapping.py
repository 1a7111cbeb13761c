"""Task mapping: metrics by hand, injected outliers, baselines, figures, and its data set."""

import functools
import html
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import svgs
import torch
import twins
from builders import MIRROR, hash_split, table_columns
from matplotlib.figure import Figure

from sextant import check, config, drawing, evaluate, plugins, saved_model
from sextant.errors import DataError, UsageError
from sextant.gate import decide
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.columns import Columns
from sextant.kinds.tabular.encoder import Encoder
from sextant.kinds.tabular.twin import write_twin
from sextant.saved_model import SavedModel
from sextant.tasks.mapping import baselines as mapping_baselines
from sextant.tasks.mapping import figures as mapping_figures
from sextant.tasks.mapping import metrics as mapping
from sextant.tracking import packing

COLUMNS = table_columns(target="kind", numeric=["x", "y"], categorical=["colour"])
UNLABELLED = table_columns(target=None, numeric=["x", "y"], categorical=["colour"])
NET = {
    "rows": 3,
    "cols": 4,
    "grid": "rectangular",
    "toroidal": False,
    "neighborhood": "gaussian",
    "sigma": 2.0,
    "sigma_end": 0.5,
    "init": "pca",
    "update": "batch",
}


def table(rows: int = 101, seed: int = 7) -> pd.DataFrame:
    """Three clusters, each with its own colour and kind."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(3, size=rows)
    return pd.DataFrame(
        {
            "x": 10.0 * cluster + rng.normal(size=rows),
            "y": -4.0 * cluster**2 + rng.normal(size=rows),
            "colour": np.array(["red", "green", "blue"])[cluster].astype(object),
            "kind": cluster,
        }
    )


def initial_model(train: pd.DataFrame, columns: Columns = COLUMNS, **net: object) -> SavedModel:
    """A map with its initial prototypes, and the outlier threshold of its training rows."""
    torch.manual_seed(0)
    encoder = Encoder.fit(train, columns)
    batch = encoder.encode(train)
    som = saved_model.build("som", encoder.sizes, NET | net)
    som.initialise(batch)
    calibration = mapping.calibrate(saved_model.outputs(som, batch), None)
    card = {"task": "mapping", "net": NET | net, "calibration": calibration}
    return SavedModel(card, som, encoder)


# --- answers and metrics ------------------------------------------------------------------------


def test_callers_see_four_columns_and_details_add_the_rest():
    model = initial_model(table())
    answers = model.predict(table(13))
    details = model.predict(table(13), {"details": True})
    assert list(answers) == ["row", "col", "outlier_score", "outlier", "warnings"]
    assert [answers[name].dtype.kind for name in mapping.PUBLIC_COLUMNS] == ["i", "i", "f", "b"]
    pd.testing.assert_frame_equal(details[list(answers)], answers)
    prototype_columns = {f"nearest_{name}" for name in model.encoder.scale}
    assert set(details) - set(answers) == {"adjacent", *prototype_columns}


def test_errors_of_a_map_by_hand():
    """Four rows on a line; the units lie at 0 and 10, and one second best unit is not adjacent."""
    rows = pd.DataFrame({"x": [0.0, 1.0, 8.0, 10.0], "y": 0.0, "colour": "red", "kind": 0})
    encoder = Encoder.fit(rows, COLUMNS)
    answers = pd.DataFrame(
        {
            "nearest_x": [0.0, 0.0, 10.0, 10.0],
            "nearest_y": 0.0,
            "nearest_colour=red": 1.0,
            "adjacent": [True, True, True, False],
        }
    )
    assert mapping.score(answers, rows, encoder) == {
        "quantization_error": pytest.approx((0 + 0.1 + 0.2 + 0) / 4),
        "topographic_error": 0.25,
    }


def test_two_categories_are_as_far_apart_as_the_ends_of_a_number():
    rows = pd.DataFrame({"x": [0.0, 10.0], "y": 0.0, "colour": ["red", "blue"], "kind": 0})
    encoder = Encoder.fit(rows, COLUMNS)
    exact = encoder.wide(rows).add_prefix("nearest_")
    all_blue = exact.assign(**{"nearest_colour=red": 0.0, "nearest_colour=blue": 1.0})
    all_ten = exact.assign(nearest_x=[10.0, 10.0])
    for answers in (all_blue, all_ten):
        scores = mapping.score(answers, rows, encoder)
        assert scores["quantization_error"] == pytest.approx(0.5)


def test_a_champion_with_another_scaler_is_scored_on_the_scale_of_the_challenger():
    train, rows = table(), table(31, seed=11)
    challenger = initial_model(train)
    champion = initial_model(train.assign(x=train["x"] * 100, y=train["y"] + 7))
    answers = champion.answer(rows.assign(x=rows["x"] * 100, y=rows["y"] + 7))
    answers["nearest_x"] /= 100
    answers["nearest_y"] -= 7
    expected = challenger.score(challenger.answer(rows), rows)
    assert challenger.score(answers, rows) == pytest.approx(expected, abs=1e-5)


def test_scores_have_the_scale_of_the_net_and_prototypes_are_in_upstream_units():
    train, rows = table(), table(31, seed=11)
    model = initial_model(train)
    batch = model.encoder.encode(rows)
    x = model.net.features(batch).numpy()
    np.testing.assert_allclose(mapping.scaled(rows, model.encoder), x, atol=1e-6)
    answers = model.answer(rows)
    watched = mapping.watch(saved_model.outputs(model.net, batch), None)
    scores = mapping.score(answers, rows, model.encoder)
    assert scores == pytest.approx(watched, abs=1e-6)
    assert answers["nearest_x"].between(train["x"].min() - 5, train["x"].max() + 5).all()


def test_one_val_row_in_twenty_is_an_outlier():
    scores = torch.arange(100.0)
    threshold = mapping.calibrate({"surprise": scores}, None)["threshold"]
    assert (scores > threshold).sum() == 5


def test_a_distant_row_is_an_outlier_and_few_training_rows_are():
    model = initial_model(table())
    with pytest.warns(UserWarning, match="`x` is 500, far from the .* of training"):
        distant = model.predict(table(1).assign(x=500.0))
    usual = model.predict(table())
    assert distant["outlier"].all()
    assert distant["outlier_score"].item() > 10 * usual["outlier_score"].max()
    assert not usual["outlier"].mean() > 0.06


# --- injected outliers --------------------------------------------------------------------------


def test_inputs_are_the_rows_and_twenty_permutations_of_their_columns_always_the_same():
    rows = table(31)
    model = initial_model(table())
    inputs = model.inputs(rows)
    pd.testing.assert_frame_equal(inputs, model.inputs(rows))
    pd.testing.assert_frame_equal(inputs.head(31), rows)
    assert len(inputs) == 31 * 21
    for i in range(1, 21):
        injected = inputs.iloc[31 * i : 31 * (i + 1)]
        for name in COLUMNS.features:
            assert sorted(injected[name]) == sorted(rows[name])
            assert list(injected[name]) != list(rows[name])
    assert list(inputs["x"][31:62]) != list(inputs["x"][62:93])


def test_injections_of_a_large_table_have_a_thousand_rows_with_values_from_all_rows():
    rows = table(1511).sort_values("x", ignore_index=True)
    inputs = mapping.inputs(rows, SimpleNamespace(columns=COLUMNS))
    assert len(inputs) == 1511 + 20 * 1000
    assert inputs["x"][1511:2511].max() > rows["x"][1400]


def test_outlier_auroc_is_the_mean_over_the_injections():
    rows = table(3)
    encoder = Encoder.fit(rows, COLUMNS)
    above_all = [9.0, 9.0, 9.0]
    one_above_two = [0.0, 0.0, 2.5]  # 2 of 9 pairs are in order
    outlier_scores = [1.0, 2.0, 3.0, *above_all * 10, *one_above_two * 10]
    answers = pd.DataFrame({"outlier_score": outlier_scores})
    scores = mapping.score(answers, rows, encoder)
    assert scores == {"outlier_auroc": pytest.approx((1 + 2 / 9) / 2)}


def test_outlier_auroc_of_a_constant_score_is_one_half():
    rows = table(101)
    model = initial_model(rows)
    answers = model.answer(model.inputs(rows))
    assert model.score(answers.assign(outlier_score=1.0), rows)["outlier_auroc"] == 0.5
    assert model.score(answers, rows)["outlier_auroc"] > 0.8


# --- the gate and the registry ------------------------------------------------------------------


def test_guards_read_train_val_and_gate_together_and_not_test():
    parts = {"train": table(31), "val": table(7), "gate": table(5), "test": table(11)}
    assert len(mapping.guard_rows(parts)) == 31 + 7 + 5


def test_the_gate_reads_guards_on_the_guard_rows():
    gate = config.Gate(margin=0.0, guards=["topographic_error <= 0.06"])
    scores = {"quantization_error": 0.4, "topographic_error": 0.0}
    trivial = {"quantization_error": 0.8}
    on_gate_rows = (scores, None, trivial, gate, "quantization_error", "down")
    assert decide(*on_gate_rows)[0] and decide(*on_gate_rows, scores)[0]
    promoted, reason = decide(*on_gate_rows, scores | {"topographic_error": 0.07})
    assert not promoted
    assert "breaks the guard topographic_error <= 0.06: topographic_error is 0.0700" in reason


@pytest.mark.slow
def test_the_registered_interface_gives_the_columns_of_scores_as_details(
    tmp_path, monkeypatch, forked
):
    import mlflow.pyfunc

    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    rows = table(13, seed=11)
    model = initial_model(table())
    card = {**model.card, "family": "som", "kind": "tabular", "columns": COLUMNS.model_dump()}
    saved_model.save(tmp_path / "model", card, model.net, model.encoder)
    outputs = [
        ("row", "long", True),
        ("col", "long", True),
        ("outlier_score", "double", True),
        ("outlier", "boolean", True),
    ]
    options = [("details", "boolean", False)]
    interface = packing.Interface(model.encoder.schema(), outputs, options)
    example = model.encoder.inputs(rows)
    packed = packing.pack(tmp_path / "packed", None, tmp_path / "model", example, interface)
    tabular_rows.write(rows, tmp_path / "rows")
    answers = tmp_path / "answers.parquet"
    assert packing.answers_of(packed, tmp_path / "rows.parquet", answers) is None
    detailed = pd.read_parquet(answers)
    assert (detailed.pop("warnings") == "").all()
    pd.testing.assert_frame_equal(detailed, model.answer(rows))
    served = mlflow.pyfunc.load_model(packed)
    assert list(served.predict(example)) == [*mapping.PUBLIC_COLUMNS, "warnings"]


# --- baselines ----------------------------------------------------------------------------------

BASELINES = plugins.task("mapping").baselines("tabular")


def baseline_answers(name: str, train: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The answers to `rows` of a baseline fitted on `train`."""
    answer = BASELINES[name](train, COLUMNS, Encoder.fit(train, COLUMNS), NET)
    return answer(rows)


def test_the_untrained_map_comes_first_and_each_baseline_has_the_metrics_that_it_can():
    model, rows = initial_model(table()), table(31, seed=11)
    metrics = {}
    for name in BASELINES:
        answers = baseline_answers(name, table(), model.inputs(rows))
        metrics[name] = set(model.score(answers, rows))
    assert list(metrics) == ["untrained_pca", "kmeans", "knn_distance"]
    assert metrics["untrained_pca"] == set(mapping.METRICS)
    assert metrics["kmeans"] == {"quantization_error", "outlier_auroc"}
    assert metrics["knn_distance"] == {"outlier_auroc"}


@pytest.mark.parametrize("name", BASELINES)
def test_permuted_rows_have_permuted_answers_and_the_label_is_not_read(name):
    rows, train = table(31, seed=11), table()
    order = np.random.default_rng(3).permutation(31)
    answers = baseline_answers(name, train, rows)
    permuted = baseline_answers(name, train, rows.iloc[order])
    pd.testing.assert_frame_equal(permuted, answers.iloc[order])
    unlabelled = baseline_answers(name, train, rows.drop(columns="kind"))
    pd.testing.assert_frame_equal(unlabelled, answers)


def test_the_untrained_map_is_close_to_the_initial_prototypes_of_som():
    train, rows = table(), table(31, seed=11)
    model = initial_model(train)
    untrained = model.score(baseline_answers("untrained_pca", train, rows), rows)
    initial = model.score(model.answer(rows), rows)
    # One divides the variance by n - 1, the other by n.
    expected = pytest.approx(initial["quantization_error"], rel=0.02)
    assert untrained["quantization_error"] == expected
    assert untrained["topographic_error"] == 0


def test_a_unit_has_the_majority_of_its_training_rows_the_first_of_equals_and_an_empty_one_none():
    units = np.array([0, 0, 0, 2, 2, 3])
    labels = pd.Series(["b", "a", "b", "b", "a", "c"])
    majorities = mapping_baselines.majority_of_units(units, labels, 5)
    assert majorities.tolist() == ["b", None, "a", "c", None]


def test_answers_of_a_baseline_with_units_have_the_majority_of_each_unit():
    rows, train = table(31, seed=11), table()
    for name in ("untrained_pca", "kmeans"):
        # The three clusters are far apart, so that the units of each have one class.
        majorities = baseline_answers(name, train, rows).attrs[mapping_baselines.MAJORITY]
        assert majorities == rows["kind"].tolist()
    encoder = Encoder.fit(train, UNLABELLED)
    assert not BASELINES["kmeans"](train, UNLABELLED, encoder, NET)(rows).attrs
    number = train.assign(kind=train["kind"].astype(float))
    assert not mapping_baselines.has_classes(number, COLUMNS)


def test_kmeans_with_a_center_for_every_row_has_no_error():
    rows = table(11)
    scores = initial_model(table()).score(baseline_answers("kmeans", rows, rows), rows)
    assert scores["quantization_error"] == pytest.approx(0, abs=1e-9)


def test_knn_distance_is_the_distance_to_the_nearest_training_row():
    train, rows = table(), table(31, seed=11)
    encoder = Encoder.fit(train, COLUMNS)
    offsets = mapping.scaled(rows, encoder)[:, None] - mapping.scaled(train, encoder)
    expected = np.sqrt((offsets**2).sum(2)).min(1)
    answers = baseline_answers("knn_distance", train, rows)
    np.testing.assert_allclose(answers["outlier_score"], expected, atol=1e-9)


# --- figures ------------------------------------------------------------------------------------


FIGURES = ("_u_matrix", "_hits", "_components", "_labels", "_names", "_world")


def draw_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the other figures be None, since all together take a third of a second."""
    for name in FIGURES:
        if name not in names:
            monkeypatch.setattr(mapping_figures, name, lambda *arguments: None)


def draw(columns: Columns = COLUMNS, **net: object) -> dict[str, Figure]:
    """The figures of `initial_model(table())`, without the tables."""
    model = initial_model(table(), columns, **net)
    drawn_items = drawn_of(model, parts())
    return {name: item for name, item in drawn_items.items() if isinstance(item, Figure)}


def parts(key: str | None = None, first: int = 700) -> dict[str, pd.DataFrame]:
    """The parts of a table; with a key, it counts the rows of all parts."""
    sizes = {"train": (101, 7), "val": (13, 12), "gate": (17, 13), "test": (31, 11)}
    tables = {}
    for part, (rows, seed) in sizes.items():
        tables[part] = table(rows, seed)
        if key:
            tables[part][key] = np.arange(first, first + rows)
        first += rows
    return tables


def drawn_of(
    model: SavedModel, rows: dict[str, pd.DataFrame], baselines: tuple[str, ...] = ()
) -> dict[str, Figure | drawing.Table]:
    """The figures and tables of a model on these parts, as evaluate draws them."""
    inputs = model.inputs(rows["test"])
    answers = {"model": model.answer(inputs)}
    for name in baselines:
        answers[name] = baseline_answers(name, rows["train"], inputs)
    curves = pd.DataFrame({"epoch": [1, 2], "train/loss": [2.0, 1.0], "val/loss": [2.0, 1.0]})
    figures, tables = evaluate.draw(model, rows, answers, curves)
    del figures["curve"]
    return figures | tables


@functools.cache
def drawn(grid: str = "rectangular") -> dict[str, Figure]:
    """The figures of a map with this grid; tests share them and must not change them."""
    return draw(grid=grid)


def unit_tooltips(figure: Figure) -> list[str]:
    """The tooltips of the cells of a figure, axes by axes."""
    cells = [cell for axes in figure.axes for cell in axes.patches]
    return [cell.get_gid().removeprefix(drawing.TOOLTIP) for cell in cells]


def prototypes(model: SavedModel) -> pd.DataFrame:
    """The prototypes of a map in upstream units."""
    return mapping.upstream(model.net.codebook.detach().double().numpy(), model.encoder)


@pytest.mark.slow
@pytest.mark.parametrize("grid", ["rectangular", "hexagonal"])
def test_figures_have_titles_and_captions_and_are_drawn_to_the_same_bytes(grid, tmp_path):
    first, second = drawn(grid), draw(grid=grid)
    assert list(first) == list(second) == ["u_matrix", "hits", "components", "labels"]
    for name in first:
        assert first[name].get_suptitle() and first[name].get_label(), name
        svg = svgs.svg(first[name], tmp_path)
        assert svg == svgs.svg(second[name], tmp_path), name
        assert b"<image" not in svg, name


def test_figures_have_the_numbers_of_the_answers():
    figures, model = drawn(), initial_model(table())
    counts = model.answer(table()).groupby(["row", "col"]).size()
    texts = [text.get_text() for text in figures["hits"].axes[0].texts]
    assert sorted(int(text) for text in texts if text) == sorted(counts)
    assert f"the fullest has {counts.max()}" in figures["hits"].get_label()
    outliers = int(model.answer(table(31, seed=11))["outlier"].sum())
    assert f"Crosses: the {outliers} of 31 test rows" in figures["u_matrix"].get_label()
    planes = [axes.get_title().split("\n")[0] for axes in figures["components"].axes]
    assert planes == list(model.encoder.scale)
    assert "kind is not a feature" in figures["labels"].get_label()


@pytest.mark.parametrize("grid", ["rectangular", "hexagonal"])
def test_the_tooltip_of_a_unit_has_its_training_rows_and_their_most_frequent_label(
    grid, monkeypatch
):
    names = ["u_matrix", "hits", "labels"]
    if grid == "hexagonal":
        names = ["hits"]  # the order of the units is the same in all
        draw_only(monkeypatch, "_hits")
    figures = drawn() if grid == "rectangular" else draw(grid=grid)
    model = initial_model(table(), grid=grid)
    answers = model.answer(table())
    kinds = pd.crosstab([answers["row"], answers["col"]], table()["kind"])
    pattern = (
        r"row (\d+), column (\d+): .*?(\d+) training rows?(?:, (\d+) of them kind = (\d))?;"
        r" typical values: "
    )
    for name in names:
        units = []
        for text in unit_tooltips(figures[name]):
            units.append([int(number or 0) for number in re.match(pattern, text).groups()])
        assert len(units) == 12 and sum(hits for _, _, hits, _, _ in units) == 101
        for row, col, hits, most, kind in units:
            assert hits == kinds.sum(axis=1).get((row, col), 0)
            if hits:
                assert most == kinds.loc[row, col].max() == kinds.loc[row, col][kind]


def test_the_tooltip_of_a_unit_has_the_features_furthest_from_the_average_first():
    model = initial_model(table())
    codebook = prototypes(model)
    average = model.encoder.wide(table()).mean()
    spans = {name: span for name, (_, span) in model.encoder.scale.items()}
    for unit, text in enumerate(unit_tooltips(drawn()["hits"])):
        features = re.findall(r"([\w=]+) (-?[\d.]+) \(average (-?[\d.]+)\)", text)
        assert len(features) == 4
        deviations = []
        for name, value, mean in features:
            exact = codebook[f"nearest_{name}"][unit]
            deviations.append(abs(exact - average[name]) / spans[name])
            assert float(value) == pytest.approx(exact, abs=spans[name] / 100)
            assert float(mean) == pytest.approx(average[name], abs=spans[name] / 100)
        assert deviations == sorted(deviations, reverse=True)


def test_component_planes_have_the_values_of_the_units():
    model = initial_model(table())
    codebook = prototypes(model)
    tooltips = []
    for text in unit_tooltips(drawn()["components"]):
        tooltips.append(re.fullmatch(r"row \d, column \d: (\S+) (\S+)", text).groups())
    assert [name for name, _ in tooltips] == np.repeat(list(model.encoder.scale), 12).tolist()
    for i, (name, value) in enumerate(tooltips):
        _, span = model.encoder.scale[name]
        assert float(value) == pytest.approx(codebook[f"nearest_{name}"][i % 12], abs=span / 100)


def test_of_many_features_the_component_planes_that_vary_most_are_drawn(monkeypatch):
    monkeypatch.setattr(mapping_figures, "CELLS", 48)
    draw_only(monkeypatch, "_components")
    figure = draw()["components"]
    assert len(figure.axes) == 4
    assert figure.get_label().endswith("The 4 of 5 features that vary most.")


@pytest.mark.parametrize("key", ["id", None])
def test_the_table_of_outliers_has_the_highest_scores_and_what_contributes_to_them(
    key, monkeypatch
):
    draw_only(monkeypatch)
    columns = COLUMNS.model_copy(update={"key": key})
    of_parts = parts(key)
    rows = of_parts["test"]
    rows.loc[17, "x"] = 500.0
    model = initial_model(of_parts["train"], columns)
    answers = model.answer(model.inputs(rows))
    outliers = drawn_of(model, of_parts)["outliers"]
    expected = answers.head(31).sort_values("outlier_score", ascending=False).head(10)
    cells = outliers.rows
    names = [*mapping.PUBLIC_COLUMNS, "furthest from its unit"]
    assert list(cells) == ([key, *names] if key else names)
    if key:
        assert cells["id"].tolist() == rows["id"][expected.index].tolist()
    assert cells["outlier_score"].tolist() == expected["outlier_score"].round(3).tolist()
    places = expected[["row", "col"]].to_numpy().tolist()
    assert cells[["row", "col"]].to_numpy().tolist() == places
    assert (cells["outlier"] == "yes").tolist() == expected["outlier"].tolist()
    furthest = re.match(r"x 500 \(unit ([\d.]+)\), ", cells["furthest from its unit"][0])
    assert float(furthest[1]) == pytest.approx(expected["nearest_x"].iloc[0], abs=0.1)
    assert f"above {model.card['calibration']['threshold']:.3f}" in outliers.caption
    assert "10 of 31 test rows" in outliers.caption


def test_a_table_without_labels_has_no_figure_of_labels(monkeypatch):
    draw_only(monkeypatch)
    drawn_items = drawn_of(initial_model(table(), UNLABELLED), parts())
    assert list(drawn_items) == ["u_matrix", "hits", "components", "outliers"]


# --- who lies where -----------------------------------------------------------------------------


def named(
    names: dict[int, object] | None = None, key: str = "land", **net: object
) -> tuple[SavedModel, pd.DataFrame, dict[str, Figure | drawing.Table]]:
    """A map of rows with a key, the rows of all parts, and what is drawn; `names` renames keys."""
    columns = COLUMNS.model_copy(update={"key": key})
    of_parts = parts(key)
    if names:
        for rows in of_parts.values():
            rows[key] = [names.get(value, f"land {value}") for value in rows[key]]
    model = initial_model(of_parts["train"], columns, **net)
    return model, pd.concat(of_parts.values(), ignore_index=True), drawn_of(model, of_parts)


@functools.cache
def named_by_text(
    grid: str = "rectangular",
) -> tuple[SavedModel, pd.DataFrame, dict[str, Figure | drawing.Table]]:
    """`named`, where each key is a text; tests share it and must not change it."""
    return named({0: ""}, grid=grid)


GRIDS = ["rectangular", pytest.param("hexagonal", marks=pytest.mark.slow)]


@pytest.mark.parametrize("grid", GRIDS)
def test_a_table_says_where_each_row_of_all_parts_lies_and_nothing_of_scores(grid):
    model, rows, drawn_items = named_by_text(grid)
    places = drawn_items["places"]
    answers = model.answer(rows)
    assert list(places.rows) == ["land", "row", "col"]
    expected = [f"land {key}" for key in range(700, 700 + 162)]
    assert places.rows["land"].tolist() == expected == rows["land"].tolist()
    assert places.rows[["row", "col"]].to_numpy().tolist() == (
        answers[["row", "col"]].to_numpy().tolist()
    )
    assert "162 rows of all parts, by land" in places.caption


@pytest.mark.parametrize("grid", GRIDS)
def test_a_figure_has_the_names_in_the_cells_and_all_of_them_in_their_tooltips(grid):
    model, rows, drawn_items = named_by_text(grid)
    figure = drawn_items["names"]
    answers = model.answer(rows)
    expected = rows["land"].groupby((answers["row"] * 4 + answers["col"]).to_numpy()).apply(sorted)
    tooltips = unit_tooltips(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(tooltips) == len(texts) == 12
    for unit, (tooltip, text) in enumerate(zip(tooltips, texts, strict=True)):
        names = expected.get(unit, [])
        row, col = divmod(unit, 4)
        plural = "" if len(names) == 1 else "s"
        line = f"row {row}, column {col}: {len(names)} row{plural} {', '.join(names)}"
        assert tooltip == line.rstrip()
        lines = text.split("\n") if text else []
        shown = [name for name in lines if not name.startswith("+")]
        assert shown == names[: len(shown)]
        more = [int(name) for name in lines if name.startswith("+")]
        assert len(shown) + sum(more) == len(names)
    assert sum(len(text.split("\n")) > 1 for text in texts) >= 3


def test_a_name_is_plain_text_in_the_figure_and_one_that_a_font_lacks_raises_no_warning(
    tmp_path, recwarn, monkeypatch
):
    draw_only(monkeypatch, "_names")
    names = {700: "a $ and $x^2$", 701: 'Côte d\'Ivoire <&> "x"', 702: "line\nend\x00 of \t it"}
    _, _, drawn_items = named(names | {703: "日本", 704: "대한민국"})
    drawing.save(drawn_items["names"], tmp_path / "names.svg")
    svg = (tmp_path / "names.svg").read_text()
    titles = [html.unescape(title) for title in re.findall("<title>(.*?)</title>", svg)]
    for name in ("a $ and $x^2$", 'Côte d\'Ivoire <&> "x"', "line end of it", "日本"):
        assert any(name in title for title in titles), name
    ElementTree.fromstring(svg)
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []


def test_a_long_name_and_further_names_are_cut_to_the_room_of_a_cell():
    assert mapping_figures.fitted(["Chile", "Peru"], 30) == "Chile\nPeru"
    assert mapping_figures.fitted(["Saint Vincent"], 30) == "Saint V…"
    assert mapping_figures.fitted(list("abcdef"), 30) == "a\nb\nc\n+3"
    assert mapping_figures.fitted(list("abc"), 7) == "+3"
    assert mapping_figures.fitted([], 30) == ""


def test_a_key_that_is_called_as_an_answer_has_a_heading_of_its_own(monkeypatch):
    draw_only(monkeypatch)
    _, _, drawn_items = named(key="row")
    assert list(drawn_items["places"].rows) == ["key_row", "row", "col"]
    assert next(iter(drawn_items["outliers"].rows)) == "key_row"


def test_the_purity_of_units_is_the_share_of_test_rows_with_the_majority_of_their_unit(monkeypatch):
    draw_only(monkeypatch)
    by_hand = mapping_figures._share(np.array(["a", None, "b"], object), np.array(list("aab")))
    assert by_hand == pytest.approx(2 / 3, abs=1e-4)
    # The kind of one test row in 31 is that of another cluster.
    tables = parts()
    tables["test"].loc[0, "kind"] = (tables["test"].loc[0, "kind"] + 1) % 3
    model = initial_model(tables["train"])
    purity = drawn_of(model, tables, tuple(BASELINES))["purity"]
    shares = dict(zip(purity.rows["units of"], purity.rows["purity"], strict=True))
    assert list(shares) == ["map", "untrained_pca", "kmeans", "all rows as one unit"]
    assert shares["kmeans"] == pytest.approx(30 / 31, abs=1e-4)
    assert shares["all rows as one unit"] < 0.6 < shares["map"] <= shares["kmeans"]
    assert "100.0%" in purity.caption and "31 test rows" in purity.caption


def test_a_large_table_and_one_without_a_key_are_drawn_as_before(monkeypatch):
    figures = ["u_matrix", "hits", "components", "labels"]
    assert list(named_by_text()[2]) == [*figures, "names", "purity", "places", "outliers"]
    monkeypatch.setattr(mapping_figures, "NAMED_ROWS", 161)
    draw_only(monkeypatch)
    assert list(named()[2]) == [*figures, "purity", "outliers"]


def test_a_large_map_has_names_in_its_tooltips_only(monkeypatch):
    monkeypatch.setattr(mapping_figures, "LETTERED_SIDE", 3)
    draw_only(monkeypatch, "_names")
    _, rows, drawn_items = named()
    figure = drawn_items["names"]
    assert not figure.axes[0].texts and "700" in "".join(unit_tooltips(figure))
    # Keys of whole numbers.
    places = drawn_items["places"].rows
    assert places["land"].tolist() == list(range(700, 700 + 162)) == rows["land"].tolist()


# --- countries ----------------------------------------------------------------------------------

LANDS = ["Chile", "Peru", "Mali", "Chad", "Togo", "Iran", "Oman", "Laos", "Cuba", "Malta", "Thule"]


@functools.cache
def placed(
    lands: tuple[str, ...] = tuple(LANDS),
) -> tuple[SavedModel, pd.DataFrame, dict[str, Figure | drawing.Table]]:
    """A map of rows with a country, the rows of all parts, and what is drawn; lands take turns."""
    columns = COLUMNS.model_copy(update={"key": None, "place": "land"})
    of_parts = parts("land")
    for rows in of_parts.values():
        rows["land"] = [lands[number % len(lands)] for number in rows["land"]]
    model = initial_model(of_parts["train"], columns)
    return model, pd.concat(of_parts.values(), ignore_index=True), drawn_of(model, of_parts)


def test_the_world_has_each_country_in_the_colour_of_the_unit_of_most_of_its_rows():
    model, rows, drawn_items = placed()
    world_axes, legend = drawn_items["world"].axes
    tooltips = {patch.get_gid(): patch for patch in world_axes.patches}
    answers = model.answer(rows)
    units = (answers["row"] * 4 + answers["col"]).groupby(rows["land"])
    assert len(legend.patches) == 12
    for land in LANDS[:9]:
        unit = int(units.get_group(land).mode().iloc[0])
        count = len(units.get_group(land))
        place = f"{land}: most of {count} rows in row {unit // 4}, column {unit % 4}"
        color = tooltips[f"tooltip:{place}"].get_facecolor()
        assert color == legend.patches[unit].get_facecolor()
    assert "tooltip:France: no row" in tooltips
    caption = drawn_items["world"].get_label()
    assert "The 10 countries of the table" in caption
    assert "Without an outline, as most small ones: Malta." in caption
    assert "No country's name: Thule." in caption


def test_countries_are_named_on_the_map_without_a_key_and_in_a_table():
    _, rows, drawn_items = placed()
    assert "land" in drawn_items["names"].get_suptitle()
    assert any("Chile" in tooltip for tooltip in unit_tooltips(drawn_items["names"]))
    assert drawn_items["places"].rows["land"].tolist() == sorted(rows["land"])


def test_a_large_table_names_each_country_once(monkeypatch):
    monkeypatch.setattr(mapping_figures, "NAMED_ROWS", 161)
    draw_only(monkeypatch)
    model, rows, drawn_items = placed.__wrapped__()
    places = drawn_items["places"].rows
    assert places["land"].tolist() == sorted(LANDS[:10])
    answers = model.answer(rows[rows["land"] == "Mali"])
    most = (answers["row"] * 4 + answers["col"]).mode().iloc[0]
    mali = places[places["land"] == "Mali"].iloc[0]
    assert mali["row"] * 4 + mali["col"] == most


def test_on_the_twin_of_countries_a_trained_map_beats_the_plane_and_no_name_is_unknown(tmp_path):
    conf = twins.conf_of("countries")
    assert conf.columns.place_column == "country" and conf.chosen_source == "embedded"
    write_twin(config.twin(conf), conf.columns, tmp_path)
    rows = tabular_rows.repair(tabular_rows.read(tmp_path, conf.columns), conf.columns)
    parts = tabular_rows.split(rows, conf.columns, conf.split)
    assert tabular_rows.remarks(parts, conf.columns) == []
    net = NET | {"rows": 6, "cols": 6, "sigma": 3.0}  # as in conf/model/countries.yaml
    model = train_by_batch_rule(parts["train"], conf.columns, net, epochs=30)
    test = parts["test"]
    plane = BASELINES["untrained_pca"](parts["train"], conf.columns, model.encoder, net)
    scores = model.score(model.answer(test), test)
    untrained = model.score(plane(test), test)["quantization_error"]
    assert scores["quantization_error"] < 0.8 * untrained
    assert scores["topographic_error"] < 0.1


# --- the data set -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> tuple[pd.DataFrame, config.DatasetConf]:
    conf = twins.conf_of("credit_applications")
    folder = twins.raw("credit_applications", tmp_path_factory)
    return tabular_rows.read(folder, conf.columns), conf


def test_the_twin_has_the_upstream_format_and_the_same_bytes_each_time(tmp_path, tmp_path_factory):
    conf = twins.conf_of("credit_applications")
    folder = twins.raw("credit_applications", tmp_path_factory)
    raw = (folder / "Credit_Card_Applications.csv").read_bytes()
    assert raw.count(b"\r\n") == 690 and not raw.endswith(b"\n")
    assert raw.startswith(b"CustomerID,A1,A2,A3,A4,A5,A6,A7,A8,A9,A10,A11,A12,A13,A14,Class\r\n")
    write_twin(config.twin(conf), conf.columns, tmp_path / "again")
    assert (tmp_path / "again" / "Credit_Card_Applications.csv").read_bytes() == raw


def test_the_twin_has_the_marginals_and_quirks_of_the_real_table(twin):
    raw, conf = twin
    rows = tabular_rows.table(raw, conf.columns)
    rows["Class"] = rows["Class"].astype(int)
    assert len(rows) == 690 and rows["CustomerID"].is_unique and not rows.isna().any().any()
    assert int(rows["Class"].sum()) == 307
    assert (rows["A10"][rows["A9"] == 0] == 0).all()
    assert (rows["A10"][rows["A9"] == 1] > 0).all()
    assert rows["A14"].min() == 1 and rows["A14"].max() > 10_000
    assert 0.3 < (rows["A14"] == 1).mean() < 0.6
    assert set(rows["A5"]) <= set(range(1, 15))
    assert rows["A8"].mean() == pytest.approx(361 / 690, abs=0.06)
    assert rows.drop(columns="CustomerID").duplicated().sum() == 0
    assert 0.6 < rows["A8"].corr(rows["Class"]) < 0.85


def test_key_and_class_are_not_features_and_the_conf_says_what_class_is(twin):
    rows, conf = twin
    columns, repaired = conf.columns, tabular_rows.repair(rows, conf.columns)
    assert columns.features == [f"A{i}" for i in range(1, 15)]
    assert (columns.key, columns.target) == ("CustomerID", "Class")
    reversed_keys = repaired["CustomerID"][::-1].to_numpy()
    other_class = repaired["Class"].map({"0": "1", "1": "0"})
    changed = repaired.assign(CustomerID=reversed_keys, Class=other_class)
    batch = Encoder.fit(repaired, columns).encode(repaired)
    changed_batch = Encoder.fit(changed, columns).encode(changed)
    assert batch.numeric.shape == (690, 14)
    assert torch.equal(batch.numeric, changed_batch.numeric)
    assert torch.equal(batch.categories, changed_batch.categories)
    assert "Class says whether the application was approved" in conf.about
    assert "no fraud label" in conf.about
    assert "CustomerID are not features" in conf.about


def test_groups_of_the_twin_change_no_marginal(twin, tmp_path):
    rows, conf = twin
    block = config.twin(conf)
    independent = block.groups.model_copy(update={"share": 0.0})
    write_twin(block.model_copy(update={"groups": independent}), conf.columns, tmp_path)
    other = tabular_rows.read(tmp_path, conf.columns)
    # Columns after the first with zeros take their random numbers from another place in the stream.
    for name in ("A1", "A2", "A3"):
        assert sorted(other[name]) == sorted(rows[name])
        assert list(other[name]) != list(rows[name])


def train_by_batch_rule(
    train: pd.DataFrame, columns: Columns, net: dict[str, object], epochs: int = 100
) -> SavedModel:
    """A map trained by a plain loop, as conf/model/som.yaml configures it."""
    model = initial_model(train, columns, **net)
    batch = model.encoder.encode(train)
    optimizer = torch.optim.SGD(model.net.parameters(), lr=1.0)
    torch.set_num_threads(1)
    model.net.train()
    for epoch in range(epochs):
        model.net.progress = epoch / epochs
        optimizer.zero_grad()
        model.net.loss(batch).backward()
        optimizer.step()
    return model


def scores_on_test(rows: pd.DataFrame, conf: config.DatasetConf) -> dict[str, dict[str, float]]:
    """The scores of the map of conf and of its baselines on the test part."""
    net = config.model("som").net
    parts = tabular_rows.split(tabular_rows.repair(rows, conf.columns), conf.columns, conf.split)
    tabular_rows.check_parts(parts, conf.columns)
    train, test = parts["train"], parts["test"]
    model = train_by_batch_rule(train, conf.columns, net)
    inputs = model.inputs(test)
    scores = {"model": model.score(model.answer(inputs), test)}
    for name, fit in BASELINES.items():
        answer = fit(train, conf.columns, model.encoder, net)
        scores[name] = model.score(answer(inputs), test)
    return scores


@pytest.mark.slow
def test_on_the_twin_a_trained_map_beats_the_untrained_one_by_a_margin(workspace, twin):
    scores = scores_on_test(*twin)
    untrained = scores["untrained_pca"]["quantization_error"]
    assert scores["model"]["quantization_error"] < 0.8 * untrained
    assert scores["model"]["topographic_error"] < 0.06
    assert scores["model"]["outlier_auroc"] > scores["knn_distance"]["outlier_auroc"]


@pytest.mark.skipif(MIRROR is None, reason="needs the real table under SEXTANT_MIRROR")
def test_on_the_real_table_the_map_reaches_its_published_scores(workspace):
    conf = config.dataset("credit_applications")
    entry = conf.sources["mirror"][0]
    raw = Path(str(MIRROR), entry["path"]).read_bytes()
    assert len(raw) == entry["bytes"] and raw.count(b"\r\n") == 690 and not raw.endswith(b"\n")
    Path("raw").mkdir()
    Path("raw", entry["file"]).write_bytes(raw)
    rows = tabular_rows.read(Path("raw"), conf.columns)
    assert (rows["Class"] == "1").sum() == 307 and rows["A14"].astype(int).max() == 100_001
    scores = scores_on_test(rows, conf)
    assert scores["model"]["quantization_error"] < 0.46
    assert scores["model"]["topographic_error"] < 0.06
    assert scores["untrained_pca"]["quantization_error"] > 0.7
    assert scores["model"]["outlier_auroc"] >= scores["knn_distance"]["outlier_auroc"] - 0.01


# --- bad input ----------------------------------------------------------------------------------


def test_a_row_that_cannot_be_answered_is_refused_in_one_line():
    model = initial_model(table())
    with pytest.raises(DataError, match="missing column y; expected x, y, colour"):
        model.predict(table(3).drop(columns="y"))
    with pytest.warns(UserWarning, match="model does not know are passed over: z"):
        assert len(model.predict(table(3).assign(z=1))) == 3
    with pytest.raises(DataError, match="no rows to answer"):
        model.predict(table(3).head(0))
    with pytest.raises(DataError, match="in `x`; expected a .*number"):
        model.predict(table(3).astype({"x": object}).assign(x="many"))
    with pytest.warns(UserWarning, match="`colour` has mauve, which training did not have"):
        assert len(model.predict(table(3).assign(colour="mauve"))) == 3


def test_a_table_without_labels_is_mapped_and_not_classified():
    rows = tabular_rows.repair(table().drop(columns="kind"), UNLABELLED)
    parts = tabular_rows.split(rows, UNLABELLED, hash_split(0.6, 0.1, 0.1, 0.2))
    tabular_rows.check_parts(parts, UNLABELLED)
    assert tabular_rows.profile(parts, UNLABELLED)["classes"] == []
    model = initial_model(parts["train"], UNLABELLED)
    assert list(model.predict(parts["test"])) == [*mapping.PUBLIC_COLUMNS, "warnings"]
    message = "family `ann` needs the size `classes`, which these data do not have"
    with pytest.raises(UsageError, match=message):
        saved_model.build("ann", model.encoder.sizes, {})


def test_an_empty_part_is_refused_without_labels_too():
    with pytest.raises(DataError, match="part gate has no row; add rows"):
        tabular_rows.check_parts({"train": table(), "gate": table().head(0)}, UNLABELLED)


@pytest.mark.parametrize(
    "block, key, value, message",
    [
        (
            *("net", "neighborhood", "mexican_hat"),
            "conf/model/som.yaml net: neighborhood `mexican_hat` trains online only",
        ),
        (
            *("net", "update", "online"),
            "conf/model/som.yaml net: `update: online` takes a step for each row, but"
            " `schedule.batch_size` is 1000000",
        ),
        ("net", "neighborhood", "strawberry", "`neighborhood` is 'strawberry'"),
        ("net", "rows", 0, "`rows` is 0"),
        ("net", "sigma", -1, "`sigma` is -1"),
        (
            *("schedule", "monitor", "outlier_auroc"),
            "`outlier_auroc` cannot choose an epoch; choose from: quantization",
        ),
        ("gate", "guards", ["puppies <= 1"], "`puppies` is not a metric of mapping"),
    ],
)
def test_a_wrong_conf_is_refused_before_anything_runs(workspace, block, key, value, message):
    conf = config.model("som").model_dump()
    conf[block][key] = value
    with pytest.raises(UsageError, match=message):
        check.check_model(config.ModelConf(**conf))
