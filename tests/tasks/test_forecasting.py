"""Forecasting: metrics by hand, intervals that hold what they promise, baselines against numpy, verdicts in words."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from builders import MIRROR
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stock import COLUMNS, ROWS, SPLIT, STOCK, WINDOW, days

from sextant import check, config, drawing, saved_model
from sextant.errors import DataError, UsageError
from sextant.kinds.series import rows as series
from sextant.kinds.series.columns import Columns
from sextant.kinds.series.encoder import Batch, Encoder
from sextant.kinds.splits import DateSplit
from sextant.tasks.forecasting import figures
from sextant.tasks.forecasting import metrics as forecasting
from sextant.tasks.forecasting.baselines import BASELINES


@pytest.fixture
def rows() -> pd.DataFrame:
    return series.repair(days(), COLUMNS)


@pytest.fixture
def encoder(rows: pd.DataFrame) -> Encoder:
    return Encoder.fit(rows, COLUMNS)


def arrays(*lists: list[float]) -> list[np.ndarray]:
    return [np.array(one, float) for one in lists]


def outputs(location: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"location": location, "scale": scale}


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_the_metrics_by_hand() -> None:
    truth, base, value, lower, upper = arrays([10, 20], [12, 22], [11, 18], [9, 19], [11, 19.5])
    found = forecasting.scores(truth, base, value, lower, upper)
    assert list(found) == list(forecasting.METRICS)
    assert found["rmse"] == pytest.approx(((1 + 4) / 2) ** 0.5) and found["mae"] == pytest.approx(
        1.5
    )
    # of the lower bound 0.05 * 1 and 0.05 * 1, of the value 0.5 * 1 and 0.5 * 2, of the upper one 0.05 * 1 and 0.95 / 2
    assert found["pinball"] == pytest.approx((0.05 + 0.75 + (0.05 + 0.475) / 2) / 3)
    assert found["coverage_90"] == 0.5  # 20 lies above 19.5
    assert found["skill"] == pytest.approx(1 - 2.5**0.5 / 2)


def test_the_known_price_has_no_skill_and_the_truth_has_all() -> None:
    truth, base = arrays([10, 20, 30], [11, 19, 31])
    assert forecasting.scores(truth, base, base, base, base)["skill"] == 0
    found = forecasting.scores(truth, base, truth, truth, truth)
    assert found == {"rmse": 0, "mae": 0, "pinball": 0, "coverage_90": 1, "skill": 1}


def test_coverage_is_neither_up_nor_down_and_not_monitored(workspace: Path) -> None:
    assert forecasting.METRICS["coverage_90"] == forecasting.COVERAGE
    path = workspace / "conf/model/rnn.yaml"
    path.write_text(path.read_text().replace("monitor: pinball", "monitor: coverage_90"))
    with pytest.raises(
        UsageError,
        match="`coverage_90` cannot pick an epoch; choose from: rmse, mae, pinball, skill",
    ):
        check.check_model(config.model("rnn"))


def test_answers_are_scored_by_their_day_and_one_too_many_is_not(
    rows: pd.DataFrame, encoder: Encoder
) -> None:
    split = DateSplit(
        by="dates", val_from="2014-06-02", gate_from="2014-06-16", test_from="2014-06-30"
    )
    part = series.split(rows, COLUMNS, split)["test"]
    answer = BASELINES["ar5"](rows, COLUMNS)
    scored, asked = answer(part), answer(part[COLUMNS.upstream])
    assert len(asked) == len(scored) + 1 and asked["after"].iloc[-1] == rows["Date"].iloc[-1]
    pd.testing.assert_frame_equal(asked.head(len(scored)), scored)
    found = forecasting.score(scored, part, encoder)
    assert found == forecasting.score(asked.sample(frac=1, random_state=3), part, encoder)
    assert found == forecasting.score(asked, part[COLUMNS.upstream], encoder)
    assert (
        part["Open"][~part["context"]].tolist()
        == forecasting.aligned(scored, part, encoder)[0].tolist()
    )


def test_an_answer_that_is_missing_is_no_score(rows: pd.DataFrame, encoder: Encoder) -> None:
    lost = encoder.forecast_days(rows)["after"][3]
    with pytest.raises(
        DataError,
        match=f"1 of {ROWS - WINDOW} days have no answer, the first the one after {lost};",
    ):
        forecasting.score(BASELINES["ar5"](rows, COLUMNS)(rows).drop(index=3), rows, encoder)


@pytest.mark.parametrize("more", [-2, 0, 7])
def test_a_model_of_a_longer_window_is_not_compared_and_one_of_a_shorter_is(
    rows: pd.DataFrame, encoder: Encoder, more: int
) -> None:
    """As an older champion at the gate, whose own window says which days it answers."""
    gate = series.split(rows, COLUMNS, SPLIT)["gate"]
    theirs = COLUMNS.model_copy(update={"window": WINDOW + more})
    answers = BASELINES["previous_close"](rows, theirs)(gate[COLUMNS.upstream])
    if more <= 0:
        assert forecasting.score(answers, gate, encoder)["skill"] == 0
    else:
        with pytest.raises(
            DataError,
            match=f"{more} of 10 days have no answer.*after {WINDOW} known ones: a model of a",
        ):
            forecasting.score(answers, gate, encoder)


# --- calibration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [19, 37, 101])
def test_conformal_coverage_of_exchangeable_scores(n: int) -> None:
    """A further score lies below the bound in ceil((n + 1) * 0.9) of n + 1 cases, whatever the distribution."""
    rng = np.random.default_rng(5)
    held = [
        score[-1] <= forecasting.conformal(score[:-1]) for score in rng.pareto(1.1, (20_000, n + 1))
    ]
    expected = np.ceil((n + 1) * 0.9) / (n + 1)
    assert expected >= 0.9 and np.mean(held) == pytest.approx(
        expected, abs=4 * (0.09 / len(held)) ** 0.5
    )


def test_a_handful_of_scores_bound_what_they_can() -> None:
    assert forecasting.conformal(np.array([3.0, 1.0, 2.0])) == 3.0


def calibrated(
    location: torch.Tensor, scale: torch.Tensor, target: torch.Tensor
) -> dict[str, float]:
    return forecasting.calibrate(outputs(location, scale), SimpleNamespace(target=target))


def test_the_weight_is_the_share_that_val_bears_out() -> None:
    generator = torch.Generator().manual_seed(3)
    location, noise = (torch.randn(5003, generator=generator) for _ in range(2))
    one = torch.ones_like(location)
    assert calibrated(location, one, location)["weight"] == pytest.approx(1)
    assert calibrated(location, one, location / 2 + noise)["weight"] == pytest.approx(0.5, abs=0.05)
    assert calibrated(location, one, -location)["weight"] == 0
    assert calibrated(location, one, 3 * location)["weight"] == 1
    assert calibrated(0 * location, one, noise)["weight"] == 0


def test_on_val_itself_nine_of_ten_lie_inside(rows: pd.DataFrame, encoder: Encoder) -> None:
    batch = encoder.encode(rows)
    known = Batch(*(x[:-1] for x in batch))
    found = outputs(torch.zeros_like(known.target), 0.003 + known.target.abs() ** 0.5)
    calibration = forecasting.calibrate(found, known)
    held = known.target.abs() <= calibration["width"] * found["scale"]
    assert held.sum() == np.ceil((len(held) + 1) * 0.9)
    # and `watch` scores what `answers` would say
    watched = forecasting.watch(found, known)
    every = outputs(torch.zeros_like(batch.target), torch.cat([found["scale"], torch.ones(1)]))
    answers = forecasting.answers(every, rows, encoder, calibration)
    assert list(answers.columns) == ["after", "next_open", "lower_90", "upper_90"]
    assert watched == pytest.approx(forecasting.score(answers, rows, encoder), rel=1e-4, abs=1e-6)


def test_an_answer_in_prices(rows: pd.DataFrame, encoder: Encoder) -> None:
    n = len(encoder.forecast_days(rows))
    found = outputs(torch.full((n,), 0.02), torch.full((n,), 0.01))
    last = forecasting.answers(found, rows, encoder, {"weight": 0.5, "width": 2.0}).iloc[-1]
    close = rows["Close"].iloc[-1]
    assert last["after"] == rows["Date"].iloc[-1]
    ratios = [last[name] / close for name in ("next_open", "lower_90", "upper_90")]
    assert ratios == pytest.approx([np.exp(0.01), np.exp(-0.01), np.exp(0.03)], rel=1e-6)


# --- in words ---------------------------------------------------------------------------------------------------------


def test_diebold_mariano_by_hand() -> None:
    """Seven gains with one lag of Bartlett's weight 1/2, in steps that paper allows."""
    gains = np.array([1.0, 2.0, 0.0, 1.0, 3.0, -1.0, 1.0])
    from scipy.stats import t

    centred = gains - 1
    variance = (centred @ centred + centred[1:] @ centred[:-1]) / 7
    expected = t.sf(1 / (variance / 6) ** 0.5, 6)
    errors = np.full(7, 2.0)
    assert forecasting.diebold_mariano(errors, (errors**2 + gains) ** 0.5) == pytest.approx(
        expected
    )


@pytest.mark.parametrize(("n", "lags"), [(124, 4), (125, 5), (126, 5), (343, 7)])
def test_diebold_mariano_has_as_many_lags_as_the_cube_root_says(n: int, lags: int) -> None:
    from scipy.stats import t

    floor, errors = np.random.default_rng(7).normal(size=(2, n)) * [[1.1], [1.0]]
    gain = floor**2 - errors**2
    off = gain - gain.mean()
    between = np.outer(off, off)
    weights = np.clip(
        1 - np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / (lags + 1), 0, None
    )
    expected = t.sf(gain.mean() / ((weights * between).sum() / n / (n - 1)) ** 0.5, n - 1)
    assert forecasting.diebold_mariano(errors, floor) == pytest.approx(expected, rel=1e-9)


def test_diebold_mariano_at_its_ends() -> None:
    rng = np.random.default_rng(3)
    floor = rng.normal(size=503)
    assert forecasting.diebold_mariano(floor, floor) == 1
    assert forecasting.diebold_mariano(0.5 * floor, floor) < 1e-6
    assert forecasting.diebold_mariano(2 * floor, floor) > 1 - 1e-6
    assert 0.001 < forecasting.diebold_mariano(rng.normal(size=503), floor) < 0.999


@pytest.mark.parametrize(
    ("days_known", "said"),
    [
        (
            0,
            r"No skill: RMSE [\d.]+ against [\d.]+ for the previous Close over 86 days; the previous",
        ),
        (
            1,
            r"No significant skill: RMSE .* over 86 days, \d\.\d% lower, Diebold-Mariano p = 0\.",
        ),
        (86, r"Skill: RMSE .* over 86 days, 50\.0% lower, Diebold-Mariano p = "),
    ],
)
def test_the_verdict_says_whether_there_is_skill(
    rows: pd.DataFrame, encoder: Encoder, days_known: int, said: str
) -> None:
    """A forecast that knows half the way from the base price to what came, of so many days."""
    known = encoder.forecast_days(rows)
    step = (known["next"] - known["base"]).fillna(0.0).where(known.index < days_known, 0.0)
    value = (known["base"] + step / 2).to_numpy()
    answers = forecasting.as_answers(known["after"], value, value - 1000, value + 1000, COLUMNS)
    verdict = forecasting.verdict(answers, rows, encoder)
    assert re.match(said, verdict)
    assert verdict.endswith("The 90 % interval contains 86 of 86 values.")


# --- baselines --------------------------------------------------------------------------------------------------------


def test_the_trivial_baseline_comes_first() -> None:
    assert list(BASELINES) == ["previous_close", "previous_open", "ar5"]


@pytest.mark.parametrize(
    ("name", "column"), [("previous_close", "Close"), ("previous_open", "Open")]
)
def test_the_last_price_again(rows: pd.DataFrame, name: str, column: str) -> None:
    answers = BASELINES[name](rows, COLUMNS)(rows)
    assert answers["next_open"].tolist() == rows[column][WINDOW - 1 :].tolist()
    assert answers["after"].tolist() == rows["Date"][WINDOW - 1 :].tolist()


def test_ar5_is_least_squares_of_the_log_returns(rows: pd.DataFrame) -> None:
    train, test = rows.head(71), rows
    x = np.log(train["Open"].to_numpy())
    returns = x[1:] - x[:-1]
    design = [[1.0, *(returns[t - lag] for lag in range(1, 6))] for t in range(5, len(returns))]
    coefficients = np.linalg.solve(
        np.transpose(design) @ design, np.transpose(design) @ returns[5:]
    )
    opens = test["Open"].to_numpy()
    now = np.diff(np.log(opens))
    expected = [
        opens[t] * np.exp(coefficients @ [1.0, *(now[t - 1 - lag] for lag in range(5))])
        for t in range(WINDOW - 1, len(opens))
    ]
    assert BASELINES["ar5"](train, COLUMNS)(test)["next_open"].tolist() == pytest.approx(
        expected, rel=1e-9
    )


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("row", [WINDOW, 53, 96])
def test_a_baseline_answers_without_the_future(rows: pd.DataFrame, name: str, row: int) -> None:
    answer = BASELINES[name](rows, COLUMNS)
    later = rows.copy()
    later.loc[row:, COLUMNS.numbers] = 7.0
    pd.testing.assert_frame_equal(
        answer(rows).head(row - WINDOW + 1), answer(later).head(row - WINDOW + 1)
    )


@pytest.mark.parametrize("name", BASELINES)
def test_the_bounds_hold_nine_of_ten_days_of_train(
    rows: pd.DataFrame, encoder: Encoder, name: str
) -> None:
    found = forecasting.score(BASELINES[name](rows, COLUMNS)(rows), rows, encoder)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.03)


@pytest.mark.skipif(MIRROR is None, reason="needs the real files under SEXTANT_MIRROR")
def test_on_january_2017_the_baselines_are_no_weaker_than_reported(tmp_path: Path) -> None:
    """RMSE and MAE in USD: previous Close 3.52 and 2.61, previous Open 8.42 and 5.94, AR(5) 8.24 and 5.79."""
    columns = Columns(**STOCK["columns"])
    for entry in STOCK["sources"]["mirror"]:
        (tmp_path / entry["file"]).symlink_to(Path(str(MIRROR)) / entry["path"])
    rows = series.repair(series.read(tmp_path, columns), columns)
    train, test = (
        rows[rows["Date"] < "2017"],
        rows.iloc[-20 - columns.window :].reset_index(drop=True),
    )
    encoder = Encoder.fit(train, columns)
    found = {
        name: forecasting.score(fit(train, columns)(test), test, encoder)
        for name, fit in BASELINES.items()
    }
    reported = {"previous_close": (3.52, 2.61), "previous_open": (8.42, 5.94), "ar5": (8.24, 5.79)}
    for name, (rmse, mae) in reported.items():
        assert (found[name]["rmse"], found[name]["mae"]) == pytest.approx((rmse, mae), abs=0.0051)


# --- figures ----------------------------------------------------------------------------------------------------------


SPLIT_AT = DateSplit(
    by="dates", val_from="2014-04-28", gate_from="2014-06-09", test_from="2014-06-23"
)


@pytest.fixture(scope="module")
def shown() -> SimpleNamespace:
    """The figures of an untrained net, its parts and its scores."""
    rows = series.repair(days(), COLUMNS)
    parts = series.split(rows, COLUMNS, SPLIT_AT)
    encoder = Encoder.fit(parts["train"], COLUMNS)
    torch.manual_seed(5)
    net = saved_model.build("rnn", encoder.sizes, {"hidden_size": 7, "layers": 1, "dropout": 0.0})
    net.initialise(encoder.encode(parts["train"]))
    card = {"task": "forecasting", "calibration": {"weight": 1.0, "width": 1.3}}
    model = saved_model.SavedModel(card, net, encoder)
    answers = {name: fit(parts["train"], COLUMNS) for name, fit in BASELINES.items()}
    asked = {"model": model.answer, **answers}
    scores = {
        (who, part): model.score(asked[who](parts[part]), parts[part])
        for who in asked
        for part in parts
    }

    def draw() -> dict[str, Figure]:
        on_test = {name: answer(parts["test"]) for name, answer in answers.items()}
        rest = (model, parts["train"], parts["val"])
        return figures.figures(model.answer(parts["test"]), parts["test"], COLUMNS, on_test, *rest)

    own = {name: part[~part["context"]] for name, part in parts.items()}
    return SimpleNamespace(draw=draw, found=draw(), own=own, scores=scores)


def told(axes: Axes) -> list[str]:
    """What the places of an axes say under the pointer."""
    gids = [artist.get_gid() or "" for artist in axes.get_children()]
    return [gid.removeprefix(drawing.TOLD) for gid in gids if gid.startswith(drawing.TOLD)]


def numbers(words: list[str], name: str) -> np.ndarray:
    """The number that follows `name` in each."""
    return np.array([float(re.search(rf"[:,] {name} (-?[\d.]+)", one)[1]) for one in words])  # type: ignore[index]


def test_the_figures_have_axes_that_say_what_they_are_and_the_naive_line(
    shown: SimpleNamespace, tmp_path: Path
) -> None:
    assert list(shown.found) == ["prices", "errors", "coverage"]
    for name, figure in shown.found.items():
        assert figure.get_suptitle() and figure.get_label()
        for axes in figure.axes:
            below, beside = (
                shared.get_siblings(axes)
                for shared in (axes.get_shared_x_axes(), axes.get_shared_y_axes())
            )
            assert any(one.get_xlabel() for one in below) and any(
                one.get_ylabel() for one in beside
            ), name
    assert (
        "(USD)"
        in shown.found["prices"].axes[0].get_ylabel() + shown.found["errors"].axes[0].get_ylabel()
    )
    labels = [text.get_text() for text in shown.found["prices"].axes[0].get_legend().get_texts()]
    assert {"90 % interval", "model", "previous_close"} <= set(labels)
    for folder, found in (("a", shown.found), ("b", shown.draw())):
        for name, figure in found.items():
            drawing.save(figure, tmp_path / folder / f"{name}.svg")
    for name in shown.found:
        assert (tmp_path / "a" / f"{name}.svg").read_bytes() == (
            tmp_path / "b" / f"{name}.svg"
        ).read_bytes()


def test_each_day_tells_its_price_its_forecast_and_the_naive_one(shown: SimpleNamespace) -> None:
    words, test = told(shown.found["prices"].axes[0]), shown.own["test"]
    assert [one.split(":")[0] for one in words] == [f"day {day}" for day in test["Date"]]
    truth, value, low, high, naive = (
        numbers(words, name) for name in ("Open", "model", "lower", "upper", "previous_close")
    )
    assert (
        truth == pytest.approx(test["Open"].to_numpy())
        and (low < value).all()
        and (value < high).all()
    )
    for given, who in ((value, "model"), (naive, "previous_close")):
        rmse = float(np.sqrt(np.mean((truth - given) ** 2)))
        assert rmse == pytest.approx(shown.scores[who, "test"]["rmse"], abs=0.01)
        assert f"{who} {shown.scores[who, 'test']['rmse']:.2f}" in shown.found["prices"].get_label()


def test_the_errors_are_of_val_and_test_and_of_no_day_of_the_gate(shown: SimpleNamespace) -> None:
    figure, days_of = (
        shown.found["errors"],
        {part: rows["Date"].tolist() for part, rows in shown.own.items()},
    )
    above, below = figure.axes[:2], figure.axes[2:]
    for part, first, second in zip(("val", "test"), above, below, strict=True):
        assert first.get_title() == part
        for axes in (first, second):
            assert [one.split(":")[0] for one in told(axes)] == [
                f"{part}, day {day}" for day in days_of[part]
            ]
        n, saved_last = len(days_of[part]), numbers(told(second), "cumulative gain")[-1]
        ours, naive = (
            shown.scores[who, part]["rmse"] ** 2 * n for who in ("model", "previous_close")
        )
        assert saved_last == pytest.approx(naive - ours, abs=0.01)
        squares = np.sum(numbers(told(first), "model") ** 2)
        assert squares == pytest.approx(ours, rel=0.01)
    assert "previous_close" in figure.get_suptitle()
    for part in ("val", "test"):
        rmse = shown.scores["model", part]["rmse"]
        assert f"RMSE {rmse:.2f} against" in figure.get_label(), part
    assert (
        "On val, the epoch was chosen and the interval calibrated, so that its numbers are"
        " optimistic." in figure.get_label()
    )


def test_coverage_by_month_adds_up_to_that_of_val_and_test(shown: SimpleNamespace) -> None:
    figure = shown.found["coverage"]
    words = told(figure.axes[0])
    for part in ("val", "test"):
        own = [one for one in words if one.startswith(f"{part}, ")]
        months = shown.own[part]["Date"].str[:7]
        assert [one.split(":")[0] for one in own] == [
            f"{part}, {month}" for month in months.unique()
        ]
        n = np.array(
            [int(re.search(r"of (\d+) days, within the interval:", one)[1]) for one in own]
        )  # type: ignore[index]
        assert n.tolist() == months.value_counts(sort=False).tolist()
        for who in ("model", *BASELINES):
            held = np.sum([int(re.search(rf" {who} (\d+)", one)[1]) for one in own])  # type: ignore[index]
            assert held / n.sum() == pytest.approx(shown.scores[who, part]["coverage_90"]), (
                part,
                who,
            )
            assert re.search(
                rf"Of {n.sum()} days of {part}, within the interval: [^.]*\b{who} {held}\b",
                figure.get_label(),
            )
    assert len(words) == sum(
        len(shown.own[part]["Date"].str[:7].unique()) for part in ("val", "test")
    )
