"""Mapping: its metrics on maps drawn by hand, injected rows, baselines and figures, the real and the twin table."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sextant import check, config, drawing, plugins, saved_model
from sextant.drawing import save
from sextant.errors import DataError, UsageError
from sextant.gate import decide
from sextant.kinds.splits import HashSplit, Shares
from sextant.kinds.tabular import columns as tabular_columns
from sextant.kinds.tabular import encoder as tabular_encoder
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular import twin as tabular_twin
from sextant.tasks.mapping import figures as mapping_figures
from sextant.tasks.mapping import metrics as mapping
from sextant.tracking import packing

MIRROR = os.environ.get(
    "SEXTANT_MIRROR"
)  # read here: conftest.py hides the environment from the tests
COLUMNS = tabular_columns.Columns(
    names=None, delimiter=",", unknown=None, key=None, target="kind", ignored=[], numeric=["x", "y"],
    categorical=["colour"],
)  # fmt: skip
SHARES = Shares(train=0.6, val=0.1, gate=0.1, test=0.2)
NET = {
    "rows": 3, "cols": 4, "grid": "rectangular", "toroidal": False, "neighborhood": "gaussian", "sigma": 2.0,
    "sigma_end": 0.5, "init": "pca", "update": "batch",
}  # fmt: skip


def table(rows: int = 101, seed: int = 7) -> pd.DataFrame:
    """Three clouds, each of a colour and a kind of its own."""
    rng = np.random.default_rng(seed)
    cloud = rng.integers(3, size=rows)
    frame = {
        "x": 10.0 * cloud + rng.normal(size=rows),
        "y": -4.0 * cloud**2 + rng.normal(size=rows),
    }
    colour = np.array(["red", "green", "blue"])[cloud]
    return pd.DataFrame(frame | {"colour": colour.astype(object), "kind": cloud})


def drawn(
    train: pd.DataFrame, columns: tabular_columns.Columns = COLUMNS, **net
) -> saved_model.SavedModel:
    """A map on its first plane, with the threshold of its training rows."""
    torch.manual_seed(0)
    encoder = tabular_encoder.Encoder.fit(train, columns)
    found = saved_model.build("som", encoder.sizes, NET | net)
    found.initialise(encoder.encode(train))
    outputs = saved_model.outputs(found, encoder.encode(train))
    card = {"task": "mapping", "net": NET | net, "calibration": mapping.calibrate(outputs, None)}
    return saved_model.SavedModel(card, found, encoder)


# --- answers and metrics ----------------------------------------------------------------------------------------------


def test_people_are_shown_four_columns_and_scores_get_the_rest():
    model = drawn(table())
    shown, whole = model.predict(table(13)), model.predict(table(13), {"details": True})
    assert list(shown) == ["row", "col", "outlier_score", "outlier"]
    assert [shown[name].dtype.kind for name in shown] == ["i", "i", "f", "b"]
    pd.testing.assert_frame_equal(whole[mapping.PUBLIC_COLUMNS], shown)
    assert set(whole) - set(shown) == {
        "adjacent",
        *(f"nearest_{name}" for name in model.encoder.scale),
    }


def test_errors_of_a_map_drawn_by_hand():
    """Four rows on a line; the map has a unit at 0 and one at 10, and puts the second best of one row far away."""
    rows = pd.DataFrame({"x": [0.0, 1.0, 8.0, 10.0], "y": 0.0, "colour": "red", "kind": 0})
    encoder = tabular_encoder.Encoder.fit(rows, COLUMNS)
    answers = pd.DataFrame(
        {"nearest_x": [0.0, 0.0, 10.0, 10.0], "nearest_y": 0.0, "nearest_colour=red": 1.0}
    )
    answers["adjacent"] = [True, True, True, False]
    found = mapping.score(answers, rows, encoder)
    assert found == {
        "quantization_error": pytest.approx((0 + 0.1 + 0.2 + 0) / 4),
        "topographic_error": 0.25,
    }


def test_another_category_is_as_far_as_the_other_end_of_a_number():
    rows = pd.DataFrame({"x": [0.0, 10.0], "y": 0.0, "colour": ["red", "blue"], "kind": 0})
    encoder = tabular_encoder.Encoder.fit(rows, COLUMNS)
    at = encoder.wide(rows).add_prefix("nearest_")
    one = mapping.score(
        at.assign(**{"nearest_colour=red": 0.0, "nearest_colour=blue": 1.0}), rows, encoder
    )
    other = mapping.score(at.assign(nearest_x=[10.0, 10.0]), rows, encoder)
    assert one["quantization_error"] == pytest.approx(0.5) == other["quantization_error"]


def test_a_champion_with_another_scaler_is_measured_by_the_same_yardstick():
    train, rows = table(), table(31, seed=11)
    ours, theirs = drawn(train), drawn(train.assign(x=train["x"] * 100, y=train["y"] + 7))
    answers = theirs.answer(rows.assign(x=rows["x"] * 100, y=rows["y"] + 7))
    answers["nearest_x"], answers["nearest_y"] = (
        answers["nearest_x"] / 100,
        answers["nearest_y"] - 7,
    )
    assert ours.score(answers, rows) == pytest.approx(ours.score(ours.answer(rows), rows), abs=1e-5)


def test_the_scale_of_scores_is_the_one_of_the_net_and_prototypes_are_in_upstream_units():
    train, rows = table(), table(31, seed=11)
    model = drawn(train)
    x = model.net.features(model.encoder.encode(rows)).numpy()
    np.testing.assert_allclose(mapping.scaled(rows, model.encoder), x, atol=1e-6)
    answers, outputs = (
        model.answer(rows),
        saved_model.outputs(model.net, model.encoder.encode(rows)),
    )
    assert mapping.score(answers, rows, model.encoder) == pytest.approx(
        mapping.watch(outputs, None), abs=1e-6
    )
    assert answers["nearest_x"].between(train["x"].min() - 5, train["x"].max() + 5).all()


def test_one_row_in_twenty_of_val_is_an_outlier():
    scores = torch.arange(100.0)
    threshold = mapping.calibrate({"surprise": scores}, None)["threshold"]
    assert (scores > threshold).sum() == 5


def test_a_row_far_off_is_an_outlier_and_one_in_the_middle_is_not():
    model = drawn(table())
    strange = table(1).assign(x=500.0)
    assert model.predict(strange)["outlier"].all()
    assert (
        model.predict(strange)["outlier_score"].item()
        > 10 * model.predict(table())["outlier_score"].max()
    )
    assert not model.predict(table())["outlier"].mean() > 0.06


# --- injected rows ----------------------------------------------------------------------------------------------------


def test_questions_are_the_rows_and_twenty_times_their_columns_permuted_the_same_on_every_call():
    rows = table(31)
    model = drawn(table())
    asked = model.inputs(rows)
    pd.testing.assert_frame_equal(asked, model.inputs(rows))
    pd.testing.assert_frame_equal(asked.head(31), rows)
    assert len(asked) == 31 * 21
    for i in range(1, 21):
        injected = asked.iloc[31 * i : 31 * (i + 1)]
        for name in COLUMNS.features:
            assert sorted(injected[name]) == sorted(rows[name]) and list(injected[name]) != list(
                rows[name]
            )
    assert list(asked["x"][31:62]) != list(asked["x"][62:93])


def test_a_large_table_has_a_thousand_rows_injected_at_a_time_of_all_its_values():
    rows = table(1511).sort_values("x", ignore_index=True)
    asked = mapping.inputs(rows, SimpleNamespace(columns=COLUMNS))
    assert len(asked) == 1511 + 20 * 1000
    assert asked["x"][1511:2511].max() > rows["x"][1400]


def test_outlier_auroc_is_the_mean_over_the_injections():
    rows = table(3)
    encoder = tabular_encoder.Encoder.fit(rows, COLUMNS)
    injections = [[9.0, 9.0, 9.0]] * 10 + [
        [0.0, 0.0, 2.5]
    ] * 10  # all above the rows, and one above two of three
    answers = pd.DataFrame({"outlier_score": np.concatenate([[1.0, 2.0, 3.0], *injections])})
    assert mapping.score(answers, rows, encoder) == {
        "outlier_auroc": pytest.approx((1 + 2 / 9) / 2)
    }


def test_a_score_that_knows_nothing_ranks_by_chance():
    rows = table(101)
    model = drawn(rows)
    answers = model.answer(model.inputs(rows)).assign(outlier_score=1.0)
    assert model.score(answers, rows)["outlier_auroc"] == 0.5
    assert model.score(model.answer(model.inputs(rows)), rows)["outlier_auroc"] > 0.8


def test_guards_read_train_val_and_gate_together_and_not_test():
    parts = {name: table(n) for name, n in (("train", 31), ("val", 7), ("gate", 5), ("test", 11))}
    assert len(mapping.guard_rows(parts)) == 31 + 7 + 5


def test_a_guard_reads_the_rows_that_a_task_has_it_read():
    gate = config.Gate(margin=0.0, guards=["topographic_error <= 0.06"])
    ours = {"quantization_error": 0.4, "topographic_error": 0.0}
    on_gate = ours, None, {"quantization_error": 0.8}, gate, "quantization_error", "down"
    assert decide(*on_gate)[0] and decide(*on_gate, ours)[0]
    promoted, why = decide(*on_gate, ours | {"topographic_error": 0.07})
    assert (
        not promoted
        and "breaks the guard topographic_error <= 0.06: topographic_error is 0.0700" in why
    )


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:Operation with range is deprecated"
)  # in MLflow 3.17, with pandas 3.1
def test_the_registered_interface_gives_the_columns_for_scores_when_asked_for_details(
    tmp_path, monkeypatch
):
    import mlflow.pyfunc

    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    train, rows = table(), table(13, seed=11)
    model = drawn(train)
    card = {**model.card, "family": "som", "kind": "tabular", "columns": COLUMNS.model_dump()}
    saved_model.save(tmp_path / "model", card, model.net, model.encoder)
    outputs = [("row", "long", True), ("col", "long", True), ("outlier_score", "double", True)]
    schema = (
        model.encoder.schema(),
        [*outputs, ("outlier", "boolean", True)],
        [("details", "boolean", False)],
    )
    packed = packing.pack(
        tmp_path / "packed", None, tmp_path / "model", model.encoder.inputs(rows), schema
    )
    tabular_rows.write(rows, tmp_path / "rows")
    assert (
        packing.answers_of(packed, tmp_path / "rows.parquet", tmp_path / "answers.parquet") is None
    )
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "answers.parquet"), model.answer(rows))
    served = mlflow.pyfunc.load_model(packed)
    assert list(served.predict(model.encoder.inputs(rows))) == mapping.PUBLIC_COLUMNS


# --- baselines --------------------------------------------------------------------------------------------------------

BASELINES = plugins.task("mapping").baselines("tabular")


def answered(name: str, train: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return BASELINES[name](train, COLUMNS, tabular_encoder.Encoder.fit(train, COLUMNS), NET)(rows)


def test_the_untrained_grid_comes_first_and_each_baseline_says_what_it_knows():
    model, rows = drawn(table()), table(31, seed=11)
    known = {
        name: set(model.score(answered(name, table(), model.inputs(rows)), rows))
        for name in BASELINES
    }
    assert list(known) == ["untrained_pca", "kmeans", "knn_distance"]
    assert known["untrained_pca"] == set(mapping.METRICS)
    assert known["kmeans"] == {"quantization_error", "outlier_auroc"} and known["knn_distance"] == {
        "outlier_auroc"
    }


@pytest.mark.parametrize("name", BASELINES)
def test_permuted_rows_have_permuted_answers_and_the_label_is_not_read(name):
    rows, train = table(31, seed=11), table()
    order = np.random.default_rng(3).permutation(31)
    found = answered(name, train, rows)
    pd.testing.assert_frame_equal(answered(name, train, rows.iloc[order]), found.iloc[order])
    pd.testing.assert_frame_equal(answered(name, train, rows.drop(columns="kind")), found)


def test_the_untrained_grid_is_the_maps_own_first_plane():
    train, rows = table(), table(31, seed=11)
    model = drawn(train)
    ours, theirs = model.answer(rows), answered("untrained_pca", train, rows)
    scores = [model.score(answers, rows)["quantization_error"] for answers in (ours, theirs)]
    assert scores[0] == pytest.approx(scores[1], rel=0.02)  # n and n - 1 rows in the deviation
    assert model.score(theirs, rows)["topographic_error"] == 0


def test_kmeans_with_a_centre_for_every_row_is_at_no_distance():
    rows = table(11)
    model = drawn(table())
    assert model.score(answered("kmeans", rows, rows), rows)["quantization_error"] == pytest.approx(
        0, abs=1e-9
    )


def test_knn_distance_is_the_distance_to_the_nearest_training_row():
    train, rows = table(), table(31, seed=11)
    encoder = tabular_encoder.Encoder.fit(train, COLUMNS)
    apart = mapping.scaled(rows, encoder)[:, None] - mapping.scaled(train, encoder)
    expected = np.sqrt((apart**2).sum(2)).min(1)
    np.testing.assert_allclose(
        answered("knn_distance", train, rows)["outlier_score"], expected, atol=1e-9
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def figures_of(columns: tabular_columns.Columns = COLUMNS, **net) -> dict:
    """Without the table, which has tests of its own."""
    train, rows = table(), table(31, seed=11)
    model = drawn(train, columns, **net)
    found = mapping_figures.figures(
        model.answer(model.inputs(rows)), rows, columns, {}, model, train
    )
    return {name: figure for name, figure in found.items() if name != "outliers"}


@pytest.mark.parametrize("grid", ["rectangular", "hexagonal"])
def test_figures_say_what_they_are_and_are_the_same_bytes_on_a_second_drawing(grid, tmp_path):
    for folder in ("a", "b"):
        found = figures_of(grid=grid)
        for name, figure in found.items():
            assert figure.get_suptitle() and figure.get_label(), name
            save(figure, tmp_path / folder / f"{name}.svg")
    assert list(found) == ["u_matrix", "hits", "components", "labels"]
    for name in found:
        first, second = ((tmp_path / folder / f"{name}.svg").read_bytes() for folder in ("a", "b"))
        assert first == second and b"<image" not in first, name


def test_figures_have_the_numbers_of_the_answers():
    found, model = figures_of(), drawn(table())
    known = model.answer(table())
    counts = known.groupby(["row", "col"]).size()
    written = [int(text.get_text()) for text in found["hits"].axes[0].texts if text.get_text()]
    assert (
        sorted(written) == sorted(counts)
        and f"the fullest has {counts.max()}" in found["hits"].get_label()
    )
    strange = int(model.answer(table(31, seed=11))["outlier"].sum())
    assert f"Crosses: the {strange} of 31 test rows" in found["u_matrix"].get_label()
    assert [axes.get_title().split("\n")[0] for axes in found["components"].axes] == list(
        model.encoder.scale
    )
    assert "kind is no feature" in found["labels"].get_label()


def told(figure) -> list[str]:
    """What the cells of a figure say under the pointer, axes by axes."""
    cells = [cell for axes in figure.axes for cell in axes.patches]
    return [cell.get_gid().removeprefix(drawing.TOLD) for cell in cells]


@pytest.mark.parametrize("grid", ["rectangular", "hexagonal"])
def test_each_unit_tells_its_own_rows_and_their_label_and_all_tell_all(grid):
    found, model = figures_of(grid=grid), drawn(table(), grid=grid)
    known = model.answer(table())
    kinds = pd.crosstab([known["row"], known["col"]], table()["kind"])
    form = r"row (\d+), column (\d+): .*?(\d+) training rows?(?:, (\d+) of them kind = (\d))?; typical here "
    for name in ("u_matrix", "hits", "labels"):
        said = [
            tuple(int(x or 0) for x in re.match(form, words).groups())
            for words in told(found[name])
        ]
        assert len(said) == 12 and sum(hits for _, _, hits, *_ in said) == 101
        for row, col, hits, most, kind in said:
            assert hits == kinds.sum(axis=1).get((row, col), 0)
            assert not hits or most == kinds.loc[row, col].max() == kinds.loc[row, col][kind]


def test_a_unit_names_its_typical_values_the_most_unlike_the_average_first():
    model, train = drawn(table()), table()
    codebook = mapping.nearest(model.net.codebook.detach().double().numpy(), model.encoder)
    average, span = (
        model.encoder.wide(train).mean(),
        {name: span for name, (_, span) in model.encoder.scale.items()},
    )
    for unit, words in enumerate(told(figures_of()["hits"])):
        typical = re.findall(r"([\w=]+) (-?[\d.]+) \(average (-?[\d.]+)\)", words)
        unlike = [
            abs(codebook[f"nearest_{name}"][unit] - average[name]) / span[name]
            for name, *_ in typical
        ]
        assert len(typical) == 4 and unlike == sorted(unlike, reverse=True)
        for name, value, mean in typical:
            near = pytest.approx(
                [codebook[f"nearest_{name}"][unit], average[name]], abs=span[name] / 100
            )
            assert [float(value), float(mean)] == near


def test_planes_tell_what_stands_at_each_unit_and_are_no_more_than_a_page_can_bear(monkeypatch):
    model = drawn(table())
    codebook = mapping.nearest(model.net.codebook.detach().double().numpy(), model.encoder)
    said = [
        re.fullmatch(r"row \d, column \d: (\S+) (\S+)", words).groups()
        for words in told(figures_of()["components"])
    ]
    assert [name for name, _ in said] == [name for name in model.encoder.scale for _ in range(12)]
    for i, (name, value) in enumerate(said):
        near = pytest.approx(
            codebook[f"nearest_{name}"][i % 12], abs=model.encoder.scale[name][1] / 100
        )
        assert float(value) == near
    monkeypatch.setattr(mapping_figures, "CELLS", 48)
    fewer = figures_of()["components"]
    assert len(fewer.axes) == 4 and fewer.get_label().endswith("The 4 of 5 that vary most.")


@pytest.mark.parametrize("key", ["id", None])
def test_the_outliers_are_listed_by_score_with_what_makes_them_so(key):
    columns = COLUMNS.model_copy(update={"key": key})
    rows = table(31, seed=11).assign(id=np.arange(31) + 700)
    rows.loc[17, "x"] = 500.0
    model = drawn(table().assign(id=np.arange(101)), columns)
    answers = model.answer(model.inputs(rows))
    listed = mapping_figures.figures(answers, rows, columns, {}, model, table())["outliers"]
    expected = answers.head(31).sort_values("outlier_score", ascending=False).head(10)
    assert list(listed.rows) == [
        *filter(None, [key]),
        *mapping.PUBLIC_COLUMNS,
        "furthest from its unit",
    ]
    assert listed.rows["outlier_score"].tolist() == expected["outlier_score"].round(3).tolist()
    assert (
        listed.rows[["row", "col"]].to_numpy().tolist()
        == expected[["row", "col"]].to_numpy().tolist()
    )
    assert [said == "yes" for said in listed.rows["outlier"]] == expected["outlier"].tolist()
    assert key is None or listed.rows["id"].tolist() == (expected.index + 700).tolist()
    at = expected["nearest_x"].iloc[0]
    assert re.match(r"x 500 \(unit [\d.]+\), ", listed.rows["furthest from its unit"][0])
    assert float(
        re.search(r"unit ([\d.]+)", listed.rows["furthest from its unit"][0])[1]
    ) == pytest.approx(at, abs=0.1)
    assert (
        f"above {model.card['calibration']['threshold']:.3f}" in listed.says
        and "10 of 31 test rows" in listed.says
    )


def test_a_table_without_labels_has_no_labels_map():
    columns = COLUMNS.model_copy(update={"target": None})
    assert list(figures_of(columns)) == ["u_matrix", "hits", "components"]


# --- the data sets ----------------------------------------------------------------------------------------------------


@pytest.fixture
def twin(workspace: Path) -> tuple[pd.DataFrame, config.DatasetConf]:
    conf = config.dataset("credit_applications")
    tabular_twin.write_twin(config.twin(conf), conf.columns, workspace / "raw")
    return tabular_rows.read(workspace / "raw", conf.columns), conf


def test_the_twin_is_written_as_upstream_and_twice_the_same(twin, tmp_path):
    rows, conf = twin
    text = (tmp_path / "raw" / "Credit_Card_Applications.csv").read_bytes()
    assert text.count(b"\r\n") == 690 and not text.endswith(b"\n")
    assert text.startswith(b"CustomerID,A1,A2,A3,A4,A5,A6,A7,A8,A9,A10,A11,A12,A13,A14,Class\r\n")
    tabular_twin.write_twin(config.twin(conf), conf.columns, tmp_path / "again")
    assert (tmp_path / "again" / "Credit_Card_Applications.csv").read_bytes() == text


def test_the_twin_has_the_marginals_and_quirks_of_the_real_table(twin):
    rows, _ = twin
    assert len(rows) == 690 and rows["CustomerID"].is_unique and not rows.isna().any().any()
    assert int(rows["Class"].sum()) == 307
    assert (rows["A10"][rows["A9"] == 0] == 0).all() and (rows["A10"][rows["A9"] == 1] > 0).all()
    assert (
        rows["A14"].min() == 1
        and 0.3 < (rows["A14"] == 1).mean() < 0.6
        and rows["A14"].max() > 10_000
    )
    assert set(rows["A5"]) <= set(range(1, 15)) and rows["A8"].mean() == pytest.approx(
        361 / 690, abs=0.06
    )
    assert rows.drop(columns="CustomerID").duplicated().sum() == 0
    assert 0.6 < rows["A8"].corr(rows["Class"]) < 0.85


def test_key_and_class_are_no_features_and_the_reader_is_told_what_class_is(twin):
    rows, conf = twin
    columns, repaired = conf.columns, tabular_rows.repair(rows, conf.columns)
    assert columns.features == [f"A{i}" for i in range(1, 15)]
    assert (columns.key, columns.target) == ("CustomerID", "Class")
    other = repaired.assign(
        CustomerID=repaired["CustomerID"][::-1].to_numpy(), Class=1 - repaired["Class"]
    )
    ours, theirs = (
        tabular_encoder.Encoder.fit(one, columns).encode(one) for one in (repaired, other)
    )
    assert ours.numeric.shape == (690, 14) and torch.equal(ours.numeric, theirs.numeric)
    assert torch.equal(ours.categories, theirs.categories)
    for said in (
        "Class says whether the application was approved",
        "no fraud label",
        "CustomerID are not features",
    ):
        assert said in conf.about


def test_groups_change_no_marginal(twin):
    rows, conf = twin
    twin_conf = config.twin(conf)
    loose = twin_conf.model_copy(
        update={"groups": twin_conf.groups.model_copy(update={"share": 0.0})}
    )
    tabular_twin.write_twin(loose, conf.columns, Path("loose"))
    other = tabular_rows.read(Path("loose"), conf.columns)
    for name in (
        "A1",
        "A2",
        "A3",
    ):  # what is drawn after the first zeros is drawn from elsewhere in the stream
        assert sorted(other[name]) == sorted(rows[name]) and list(other[name]) != list(rows[name])


def trained(
    parts: dict[str, pd.DataFrame], columns: tabular_columns.Columns, net: dict, epochs: int = 100
) -> saved_model.SavedModel:
    """The batch rule by hand, as conf/model/som.yaml has it."""
    model = drawn(parts["train"], columns, **net)
    batch = model.encoder.encode(parts["train"])
    optimizer = torch.optim.SGD(model.net.parameters(), lr=1.0)
    torch.set_num_threads(1)
    model.net.train()
    for epoch in range(epochs):
        model.net.progress = epoch / epochs
        optimizer.zero_grad()
        model.net.loss(batch).backward()
        optimizer.step()
    return model


def compared(rows: pd.DataFrame, conf: config.DatasetConf) -> dict[str, dict[str, float]]:
    """The scores on test of the map of conf and of its baselines."""
    net = config.model("som").net
    parts = tabular_rows.split(tabular_rows.repair(rows, conf.columns), conf.columns, conf.split)
    tabular_rows.check_parts(parts, conf.columns)
    model = trained(parts, conf.columns, net)
    asked = model.inputs(parts["test"])
    found = {"model": model.score(model.answer(asked), parts["test"])}
    for name, fit in BASELINES.items():
        answer = fit(parts["train"], conf.columns, model.encoder, net)
        found[name] = model.score(answer(asked), parts["test"])
    return found


@pytest.mark.slow
def test_on_the_twin_a_trained_map_beats_the_untrained_one_by_a_margin(twin):
    found = compared(*twin)
    assert found["model"]["quantization_error"] < 0.8 * found["untrained_pca"]["quantization_error"]
    assert found["model"]["topographic_error"] < 0.06
    assert found["model"]["outlier_auroc"] > found["knn_distance"]["outlier_auroc"]


@pytest.mark.skipif(MIRROR is None, reason="needs the real table under SEXTANT_MIRROR")
def test_on_the_real_table_the_map_reaches_its_figures_and_the_file_its_quirks(workspace):
    conf = config.dataset("credit_applications")
    entry = conf.sources["mirror"][0]
    text = Path(str(MIRROR), entry["path"]).read_bytes()
    assert len(text) == entry["bytes"] and text.count(b"\r\n") == 690 and not text.endswith(b"\n")
    Path("raw").mkdir()
    Path("raw", entry["file"]).write_bytes(text)
    rows = tabular_rows.read(Path("raw"), conf.columns)
    assert rows["Class"].sum() == 307 and rows["A14"].max() == 100_001
    found = compared(rows, conf)
    assert (
        found["model"]["quantization_error"] < 0.46 and found["model"]["topographic_error"] < 0.06
    )
    assert 0.7 < found["untrained_pca"]["quantization_error"]
    assert found["model"]["outlier_auroc"] >= found["knn_distance"]["outlier_auroc"] - 0.01


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_row_that_cannot_be_answered_is_refused_in_one_line():
    model = drawn(table())
    with pytest.raises(DataError, match="missing column y; expected x, y, colour"):
        model.predict(table(3).drop(columns="y"))
    with pytest.raises(DataError, match="surplus column z"):
        model.predict(table(3).assign(z=1))
    with pytest.raises(DataError, match="no rows to answer"):
        model.predict(table(3).head(0))
    with pytest.raises(DataError, match="in `x`; expected a .*number"):
        model.predict(table(3).astype({"x": object}).assign(x="many"))
    with pytest.warns(UserWarning, match="`colour` has mauve, which training did not have"):
        assert len(model.predict(table(3).assign(colour="mauve"))) == 3


def test_a_table_without_labels_is_mapped_and_not_classified():
    columns = COLUMNS.model_copy(update={"target": None})
    rows = table().drop(columns="kind")
    parts = tabular_rows.split(
        tabular_rows.repair(rows, columns),
        columns,
        HashSplit(by="hash", salt=0, shares=SHARES),
    )
    tabular_rows.check_parts(parts, columns)
    assert tabular_rows.profile(parts, columns)["classes"] == []
    model = drawn(parts["train"], columns)
    assert list(model.predict(parts["test"])) == mapping.PUBLIC_COLUMNS
    with pytest.raises(
        UsageError, match="family `ann` needs the size `classes`, which these data do not have"
    ):
        saved_model.build("ann", model.encoder.sizes, {})


def test_a_part_without_rows_is_refused_where_no_class_would_be_missed():
    columns = COLUMNS.model_copy(update={"target": None})
    with pytest.raises(DataError, match="part gate has no row; add rows"):
        tabular_rows.check_parts({"train": table(), "gate": table().head(0)}, columns)


def test_what_is_wrong_in_the_conf_is_refused_before_anything_runs(workspace):
    for word, says in (
        (
            "model.net.neighborhood=mexican_hat",
            "conf/model/som.yaml net: neighborhood `mexican_hat` trains online only",
        ),
        (
            "model.net.update=online",
            "conf/model/som.yaml net: `update: online` takes a step for each row, but `schedule.batch_size` is 1000000",
        ),
        ("model.net.neighborhood=strawberry", "`neighborhood` is 'strawberry'"),
        ("model.net.rows=0", "`rows` is 0"),
        ("model.net.sigma=-1", "`sigma` is -1"),
        (
            "model.schedule.monitor=outlier_auroc",
            "`outlier_auroc` cannot pick an epoch; choose from: quantization",
        ),
        ("model.gate.guards=['puppies <= 1']", "`puppies` is no metric of mapping"),
    ):
        with pytest.raises(UsageError, match=says):
            check.check_model(config.model("som", [word]))
