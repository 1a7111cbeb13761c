"""Task forecasting: metrics by hand, interval coverage, baselines against numpy, figures."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cases
import numpy as np
import pandas as pd
import pytest
import svgs
import torch
from builders import MIRROR
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stock import COLUMNS, FURTHER, HORIZON, ROWS, SPLIT, STOCK, WINDOW, days
from torch import Tensor

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


def outputs(location: Tensor, scale: Tensor) -> dict[str, Tensor]:
    return {"location": location, "scale": scale}


# --- metrics ------------------------------------------------------------------------------------


def test_the_metrics_by_hand() -> None:
    scores = forecasting.scores(
        truth=np.array([10.0, 20.0]),
        base=np.array([12.0, 22.0]),
        value=np.array([11.0, 18.0]),
        lower=np.array([9.0, 19.0]),
        upper=np.array([11.0, 19.5]),
    )
    assert list(scores) == list(forecasting.METRICS)
    assert scores["rmse"] == pytest.approx(((1 + 4) / 2) ** 0.5)
    assert scores["mae"] == pytest.approx(1.5)
    lower_loss = (0.05 * 1 + 0.05 * 1) / 2
    value_loss = (0.5 * 1 + 0.5 * 2) / 2
    upper_loss = (0.05 * 1 + 0.95 / 2) / 2
    assert scores["pinball"] == pytest.approx((lower_loss + value_loss + upper_loss) / 3)
    assert scores["coverage_90"] == 0.5  # 20 lies above 19.5
    assert scores["skill"] == pytest.approx(1 - 2.5**0.5 / 2)


def test_the_base_has_skill_0_and_the_truth_skill_1() -> None:
    truth, base = np.array([10.0, 20.0, 30.0]), np.array([11.0, 19.0, 31.0])
    assert forecasting.scores(truth, base, base, base, base)["skill"] == 0
    scores = forecasting.scores(truth, base, truth, truth, truth)
    assert scores == {"rmse": 0, "mae": 0, "pinball": 0, "coverage_90": 1, "skill": 1}


def test_coverage_has_a_target_value_and_cannot_pick_an_epoch(workspace: Path) -> None:
    assert forecasting.METRICS["coverage_90"] == forecasting.COVERAGE
    path = workspace / "conf/model/rnn.yaml"
    path.write_text(path.read_text().replace("monitor: pinball", "monitor: coverage_90"))
    with pytest.raises(
        UsageError,
        match="`coverage_90` cannot choose an epoch; choose from: rmse, mae, pinball, skill",
    ):
        check.check_model(config.model("rnn"))


def test_answers_are_matched_by_day_and_one_without_a_truth_is_left_out(
    rows: pd.DataFrame, encoder: Encoder
) -> None:
    part = series.split(rows, COLUMNS, SPLIT)["test"]
    inputs = part[COLUMNS.upstream]
    answer = BASELINES["ar5"](rows, COLUMNS)
    of_part, of_inputs = answer(part), answer(inputs)
    assert len(of_inputs) == len(of_part) + 1
    assert of_inputs["after"].iloc[-1] == rows["Date"].iloc[-1]
    pd.testing.assert_frame_equal(of_inputs.head(len(of_part)), of_part)
    scores = forecasting.score(of_part, part, encoder)
    shuffled = of_inputs.sample(frac=1, random_state=3)
    assert forecasting.score(shuffled, part, encoder) == scores
    assert forecasting.score(of_inputs, inputs, encoder) == scores
    truth = forecasting.aligned(of_part, part, encoder).truth
    assert truth.tolist() == part["Open"][~part["context"]].tolist()


def test_a_missing_answer_is_refused(rows: pd.DataFrame, encoder: Encoder) -> None:
    answers = BASELINES["ar5"](rows, COLUMNS)(rows)
    missing = encoder.forecast_days(rows)["after"][3]
    with pytest.raises(
        DataError,
        match=f"1 of {ROWS - WINDOW} days have no answer, the first is the day after {missing};",
    ):
        forecasting.score(answers.drop(index=3), rows, encoder)


@pytest.mark.parametrize("more", [-2, 0, 7])
def test_a_model_of_a_longer_window_cannot_be_compared(
    rows: pd.DataFrame, encoder: Encoder, more: int
) -> None:
    """At the gate, a champion may have a window of another length, which decides its days."""
    gate = series.split(rows, COLUMNS, SPLIT)["gate"]
    champion_columns = COLUMNS.model_copy(update={"window": WINDOW + more})
    answers = BASELINES["previous_close"](rows, champion_columns)(gate[COLUMNS.upstream])
    if more <= 0:
        assert forecasting.score(answers, gate, encoder)["skill"] == 0
    else:
        with pytest.raises(
            DataError,
            match=f"{more} of 10 days have no answer.* that {WINDOW} days precede: a model with",
        ):
            forecasting.score(answers, gate, encoder)


# --- a horizon above 1 --------------------------------------------------------------------------


@pytest.fixture
def further(rows: pd.DataFrame) -> Encoder:
    """The encoder of a net with a horizon."""
    return Encoder.fit(rows, FURTHER)


def further_tensors(n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    location = 0.01 * torch.randn(n, HORIZON, generator=generator)
    return outputs(location, torch.full((n, HORIZON), 0.01))


ANSWER = ["after"]
for day in range(1, HORIZON + 1):
    ANSWER += [f"open_{day}", f"lower_90_{day}", f"upper_90_{day}"]


def test_the_horizon_is_that_of_the_net_and_no_key_of_the_data_set() -> None:
    assert forecasting.roles(COLUMNS, pd.DataFrame(), {}) is COLUMNS
    assert forecasting.roles(COLUMNS, pd.DataFrame(), {"horizon": 1}) is COLUMNS
    changed = forecasting.roles(COLUMNS, pd.DataFrame(), {"horizon": HORIZON})
    assert changed == FURTHER
    assert changed.model_dump(exclude_unset=True)["horizon"] == HORIZON
    with pytest.raises(UsageError, match="`horizon` is no key of `columns`; set it in `net`"):
        forecasting.roles(FURTHER, pd.DataFrame(), {"horizon": HORIZON})


def test_a_horizon_longer_than_a_part_is_refused(further: Encoder) -> None:
    forecasting.check(further, {"train": 50, "test": HORIZON})
    message = "`horizon` of the net is 3, and part test has 2 days, .*; expected at most 2, or"
    with pytest.raises(UsageError, match=message):
        forecasting.check(further, {"train": 50, "test": 2})


@pytest.mark.parametrize("horizon", ["0", "1.5", "week"])
def test_a_horizon_is_a_whole_number_of_days(workspace: Path, horizon: str) -> None:
    path = workspace / "conf/model/rnn.yaml"
    path.write_text(path.read_text().replace("dropout: 0.1", f"dropout: 0.1\n  horizon: {horizon}"))
    with pytest.raises(UsageError, match="conf/model/rnn.yaml net: `horizon` is .*; input should"):
        check.check_model(config.model("rnn"))


def test_each_day_ahead_is_calibrated_and_answered_for_itself(
    rows: pd.DataFrame, further: Encoder
) -> None:
    """As a model of that day alone would be; the days without a truth are left out."""
    batch = further.encode(rows)
    tensors = further_tensors(len(batch.base))
    calibration = forecasting.calibrate(tensors, batch)
    answers = forecasting.answers(tensors, rows, further, calibration)
    assert list(answers) == ANSWER and answers.notna().all(axis=None)
    for ahead in range(1, HORIZON + 1):
        known = slice(len(batch.base) - ahead)
        of_day = {name: tensor[:, ahead - 1] for name, tensor in tensors.items()}
        known_day = {name: tensor[known] for name, tensor in of_day.items()}
        target = Batch(batch.window, batch.base, batch.target[known, ahead - 1])
        alone = forecasting.calibrate(known_day, target)
        both = {name: calibration[f"{name}_{ahead}"] for name in alone}
        assert both == alone
        plain = forecasting.answers(of_day, rows, Encoder.fit(rows, COLUMNS), alone)
        names = forecasting.answer_columns(FURTHER, ahead)
        for name, plain_name in zip(names, ("next_open", "lower_90", "upper_90"), strict=True):
            assert answers[name].tolist() == pytest.approx(plain[plain_name].tolist())
    assert len(calibration) == 2 * HORIZON
    watched = forecasting.watch(tensors, batch)
    scores = forecasting.score(answers, rows, further)
    assert list(watched) == list(forecasting.METRICS)
    # A day that is exactly on the bound lies within it or not, as float32 is rounded.
    assert watched.pop("coverage_90") == pytest.approx(scores["coverage_90"], abs=0.012)
    assert watched == pytest.approx({name: scores[name] for name in watched}, rel=1e-4, abs=1e-6)


def test_a_metric_is_the_mean_over_the_days_ahead(rows: pd.DataFrame, further: Encoder) -> None:
    part = series.split(rows, FURTHER, SPLIT)["gate"]
    answers = BASELINES["ar5"](rows, FURTHER)(part)
    scores = forecasting.score(answers, part, further)
    opens = part["Open"].to_numpy()
    squares = []
    for ahead in range(1, HORIZON + 1):
        truth = opens[WINDOW + ahead - 1 :]
        value = answers[f"open_{ahead}"].to_numpy()[: len(truth)]
        squares.append(np.mean((truth - value) ** 2))
        assert scores[f"rmse_{ahead}"] == pytest.approx(squares[-1] ** 0.5)
    assert scores["rmse"] == pytest.approx(np.mean(np.sqrt(squares)))
    by_day = forecasting.scores_by_day(answers, part, further)
    for name in forecasting.METRICS:
        assert scores[name] == pytest.approx(np.mean([of_day[name] for of_day in by_day]))
    assert [scores[f"coverage_90_{day}"] for day in (1, 2, 3)] == [
        of_day["coverage_90"] for of_day in by_day
    ]
    sample = forecasting.contributions(answers, part, further)
    assert sample.observed == pytest.approx(scores["rmse"])
    first_week = (sample.groups == 0).astype(float)
    assert 0 < sample.score(first_week) != sample.observed


def test_answers_of_another_horizon_are_refused(
    rows: pd.DataFrame, encoder: Encoder, further: Encoder
) -> None:
    """At the gate, a champion may have another one."""
    one_day = BASELINES["previous_close"](rows, COLUMNS)(rows)
    three_days = BASELINES["previous_close"](rows, FURTHER)(rows)
    with pytest.raises(DataError, match="no column `open_1`, but after, next_open, .* 1 to 3 days"):
        forecasting.score(one_day, rows, further)
    with pytest.raises(
        DataError, match="no column `next_open`, .*: a model with another `horizon`"
    ):
        forecasting.score(three_days, rows, encoder)


def test_the_verdict_of_a_horizon_is_on_the_mean(rows: pd.DataFrame, further: Encoder) -> None:
    held = BASELINES["previous_close"](rows, FURTHER)(rows)
    verdict = forecasting.verdict(held, rows, further)
    assert re.match(
        r"No skill: mean RMSE [\d.]+ against [\d.]+ for the previous Close, 1 to 3", verdict
    )
    assert re.search(
        r"contains 0\.\d\d, 0\.\d\d, 0\.\d\d of the values, 1 to 3 days ahead\.$", verdict
    )
    for ahead in range(1, HORIZON + 1):
        days_ahead = further.forecast_days(rows, ahead)
        truth = days_ahead["next"].fillna(days_ahead["base"])
        held[f"open_{ahead}"] = (truth + days_ahead["base"]) / 2
    verdict = forecasting.verdict(held, rows, further)
    assert re.match(r"Skill: mean RMSE .* 50\.0% lower in the mean, Diebold-Mariano p = ", verdict)


def test_errors_that_overlap_have_more_lags() -> None:
    base_errors, errors = np.random.default_rng(7).normal(size=(2, 53)) * [[1.1], [1.0]]
    three_lags = forecasting.diebold_mariano(errors, base_errors)
    assert forecasting.diebold_mariano(errors, base_errors, 4) == three_lags
    assert forecasting.diebold_mariano(errors, base_errors, 9) != three_lags
    assert forecasting.diebold_mariano(errors[:1], base_errors[:1], 9) == 1


# --- calibration --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [19, 37, 101])
def test_the_coverage_of_conformal_prediction(n: int) -> None:
    """A further score lies below the bound in ceil((n + 1) * 0.9) of n + 1 cases, for any law."""
    rng = np.random.default_rng(5)
    covered = []
    for scores in rng.pareto(1.1, (20_000, n + 1)):
        covered.append(scores[-1] <= forecasting.conformal(scores[:-1]))
    expected = np.ceil((n + 1) * 0.9) / (n + 1)
    assert expected >= 0.9
    assert np.mean(covered) == pytest.approx(expected, abs=4 * (0.09 / len(covered)) ** 0.5)


def test_of_few_scores_the_bound_is_the_largest() -> None:
    assert forecasting.conformal(np.array([3.0, 1.0, 2.0])) == 3.0


def weight(location: Tensor, target: Tensor) -> float:
    batch = Batch(window=torch.empty(0), base=torch.empty(0), target=target)
    calibration = forecasting.calibrate(outputs(location, torch.ones_like(location)), batch)
    return calibration["weight"]


def test_the_weight_is_the_slope_within_0_and_1() -> None:
    generator = torch.Generator().manual_seed(3)
    location = torch.randn(5003, generator=generator)
    noise = torch.randn(5003, generator=generator)
    assert weight(location, location) == pytest.approx(1)
    assert weight(location, location / 2 + noise) == pytest.approx(0.5, abs=0.05)
    assert weight(location, -location) == 0
    assert weight(location, 3 * location) == 1
    assert weight(0 * location, noise) == 0


def test_calibrated_on_val_the_interval_contains_90_percent_of_val(
    rows: pd.DataFrame, encoder: Encoder
) -> None:
    batch = encoder.encode(rows)
    val = Batch(*(tensor[:-1] for tensor in batch))  # the last target is not known
    tensors = outputs(torch.zeros_like(val.target), 0.003 + val.target.abs() ** 0.5)
    calibration = forecasting.calibrate(tensors, val)
    covered = val.target.abs() <= calibration["width"] * tensors["scale"]
    assert covered.sum() == np.ceil((len(covered) + 1) * 0.9)
    # `watch` scores what `answers` would give.
    watched = forecasting.watch(tensors, val)
    all_scales = torch.cat([tensors["scale"], torch.ones(1)])
    all_days = outputs(torch.zeros_like(batch.target), all_scales)
    answers = forecasting.answers(all_days, rows, encoder, calibration)
    assert list(answers.columns) == ["after", "next_open", "lower_90", "upper_90"]
    assert watched == pytest.approx(forecasting.score(answers, rows, encoder), rel=1e-4, abs=1e-6)


def test_an_answer_is_in_prices(rows: pd.DataFrame, encoder: Encoder) -> None:
    n = len(encoder.forecast_days(rows))
    tensors = outputs(torch.full((n,), 0.02), torch.full((n,), 0.01))
    answers = forecasting.answers(tensors, rows, encoder, {"weight": 0.5, "width": 2.0})
    last = answers.iloc[-1]
    assert last["after"] == rows["Date"].iloc[-1]
    ratios = []
    for name in ("next_open", "lower_90", "upper_90"):
        ratios.append(last[name] / rows["Close"].iloc[-1])
    assert ratios == pytest.approx([np.exp(0.01), np.exp(-0.01), np.exp(0.03)], rel=1e-6)


# --- the verdict --------------------------------------------------------------------------------


def test_diebold_mariano_by_hand() -> None:
    """Seven gains with one lag, of Bartlett weight 1/2."""
    from scipy.stats import t as student_t

    gains = np.array([1.0, 2.0, 0.0, 1.0, 3.0, -1.0, 1.0])
    centred = gains - 1
    variance = (centred @ centred + centred[1:] @ centred[:-1]) / 7
    expected = student_t.sf(1 / (variance / 6) ** 0.5, 6)
    errors = np.full(7, 2.0)
    base_errors = (errors**2 + gains) ** 0.5
    assert forecasting.diebold_mariano(errors, base_errors) == pytest.approx(expected)


@cases.each(("n", "lags"), [(124, 4), (125, 5), (126, 5), (343, 7)])
def test_diebold_mariano_has_as_many_lags_as_the_cube_root(n: int, lags: int) -> None:
    from scipy.stats import t as student_t

    base_errors, errors = np.random.default_rng(7).normal(size=(2, n)) * [[1.1], [1.0]]
    gain = base_errors**2 - errors**2
    centred = gain - gain.mean()
    products = np.outer(centred, centred)
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    bartlett = np.clip(1 - distance / (lags + 1), 0, None)
    variance = (bartlett * products).sum() / n / (n - 1)
    expected = student_t.sf(gain.mean() / variance**0.5, n - 1)
    assert forecasting.diebold_mariano(errors, base_errors) == pytest.approx(expected, rel=1e-9)


def test_diebold_mariano_in_limiting_cases() -> None:
    rng = np.random.default_rng(3)
    base_errors = rng.normal(size=503)
    assert forecasting.diebold_mariano(base_errors, base_errors) == 1
    assert forecasting.diebold_mariano(0.5 * base_errors, base_errors) < 1e-6
    assert forecasting.diebold_mariano(2 * base_errors, base_errors) > 1 - 1e-6
    assert 0.001 < forecasting.diebold_mariano(rng.normal(size=503), base_errors) < 0.999


@pytest.mark.parametrize(
    ("days_with_skill", "sentence"),
    [
        (
            0,
            r"No skill: RMSE [\d.]+ against [\d.]+ for the previous Close over 86 days; the"
            r" previous Close is at least as good a forecast\.",
        ),
        (
            1,
            r"No significant skill: RMSE .* over 86 days, \d\.\d% lower, Diebold-Mariano p = 0\.",
        ),
        (86, r"Skill: RMSE .* over 86 days, 50\.0% lower, Diebold-Mariano p = "),
    ],
)
def test_the_verdict_says_whether_there_is_skill(
    rows: pd.DataFrame, encoder: Encoder, days_with_skill: int, sentence: str
) -> None:
    """The forecast is half-way between the base and the truth on the days with skill."""
    forecasts = encoder.forecast_days(rows)
    step = (forecasts["next"] - forecasts["base"]).fillna(0.0)
    step = step.where(forecasts.index < days_with_skill, 0.0)
    value = (forecasts["base"] + step / 2).to_numpy()
    answers = forecasting.as_answers(forecasts["after"], value, value - 1000, value + 1000, COLUMNS)
    verdict = forecasting.verdict(answers, rows, encoder)
    assert re.match(sentence, verdict)
    assert verdict.endswith("The 90 % interval contains 86 of 86 values.")


# --- baselines ----------------------------------------------------------------------------------


def test_the_trivial_baseline_comes_first() -> None:
    assert list(BASELINES) == ["previous_close", "previous_open", "ar5"]


@pytest.mark.parametrize(
    ("name", "column"), [("previous_close", "Close"), ("previous_open", "Open")]
)
def test_the_previous_price_is_repeated(rows: pd.DataFrame, name: str, column: str) -> None:
    answers = BASELINES[name](rows, COLUMNS)(rows)
    assert answers["next_open"].tolist() == rows[column][WINDOW - 1 :].tolist()
    assert answers["after"].tolist() == rows["Date"][WINDOW - 1 :].tolist()


def test_ar5_is_least_squares_of_the_log_returns(rows: pd.DataFrame) -> None:
    train = rows.head(71)
    returns = np.diff(np.log(train["Open"].to_numpy()))
    design = [[1.0, *returns[day - 5 : day][::-1]] for day in range(5, len(returns))]
    transposed = np.transpose(design)
    coefficients = np.linalg.solve(transposed @ design, transposed @ returns[5:])

    opens = rows["Open"].to_numpy()
    returns = np.diff(np.log(opens))
    expected = []
    for day in range(WINDOW - 1, len(opens)):
        lagged = [1.0, *returns[day - 5 : day][::-1]]
        expected.append(opens[day] * np.exp(coefficients @ lagged))
    answers = BASELINES["ar5"](train, COLUMNS)(rows)
    assert answers["next_open"].tolist() == pytest.approx(expected, rel=1e-9)


def test_further_ahead_ar5_regresses_the_return_over_all_days(rows: pd.DataFrame) -> None:
    train = rows.head(71)
    logs = np.log(rows["Open"].to_numpy())
    returns = np.diff(logs)
    design, target = [], []
    for day in range(5, len(train) - HORIZON):
        design.append([1.0, *returns[day - 5 : day][::-1]])
        target.append(logs[day + HORIZON] - logs[day])
    transposed = np.transpose(design)
    coefficients = np.linalg.solve(transposed @ design, transposed @ target)
    answers = BASELINES["ar5"](train, FURTHER)(rows)
    last = len(rows) - 1
    expected = np.exp(logs[last] + coefficients @ [1.0, *returns[last - 5 : last][::-1]])
    assert answers[f"open_{HORIZON}"].iloc[-1] == pytest.approx(expected, rel=1e-9)
    one_day = BASELINES["ar5"](train, COLUMNS)(rows)
    for name, further_name in (("next_open", "open_1"), ("lower_90", "lower_90_1")):
        assert answers[further_name].tolist() == one_day[name].tolist()


@cases.each("name", BASELINES)
@cases.each("columns", [COLUMNS, FURTHER], ids=["tomorrow", "further"])
@cases.each("row", [WINDOW, 53, 96])
def test_a_baseline_does_not_read_later_days(
    rows: pd.DataFrame, name: str, columns: Columns, row: int
) -> None:
    answer = BASELINES[name](rows, columns)
    changed = rows.copy()
    changed.loc[row:, COLUMNS.numbers] = 7.0
    n = row - WINDOW + 1
    pd.testing.assert_frame_equal(answer(rows).head(n), answer(changed).head(n))


@pytest.mark.parametrize("name", BASELINES)
def test_the_interval_of_a_baseline_contains_90_percent_of_train(
    rows: pd.DataFrame, encoder: Encoder, name: str
) -> None:
    scores = forecasting.score(BASELINES[name](rows, COLUMNS)(rows), rows, encoder)
    assert scores["coverage_90"] == pytest.approx(0.9, abs=0.03)
    further = Encoder.fit(rows, FURTHER)
    for scores in forecasting.scores_by_day(BASELINES[name](rows, FURTHER)(rows), rows, further):
        assert scores["coverage_90"] == pytest.approx(0.9, abs=0.03)


@pytest.mark.skipif(MIRROR is None, reason="needs the real files under SEXTANT_MIRROR")
def test_on_january_2017_the_baselines_reach_the_reported_numbers(tmp_path: Path) -> None:
    """RMSE and MAE in USD."""
    columns = Columns(**STOCK["columns"])
    for entry in STOCK["sources"]["mirror"]:
        (tmp_path / entry["file"]).symlink_to(Path(str(MIRROR)) / entry["path"])
    rows = series.repair(series.read(tmp_path, columns), columns)
    train = rows[rows["Date"] < "2017"]
    test = rows.iloc[-20 - columns.window :].reset_index(drop=True)
    encoder = Encoder.fit(train, columns)
    reported = {"previous_close": (3.52, 2.61), "previous_open": (8.42, 5.94), "ar5": (8.24, 5.79)}
    for name, (rmse, mae) in reported.items():
        scores = forecasting.score(BASELINES[name](train, columns)(test), test, encoder)
        assert (scores["rmse"], scores["mae"]) == pytest.approx((rmse, mae), abs=0.0051)


# --- figures ------------------------------------------------------------------------------------


FIGURE_SPLIT = DateSplit(
    by="dates", val_from="2014-04-28", gate_from="2014-06-09", test_from="2014-06-23"
)


class Drawn(NamedTuple):
    """The figures of an untrained net, and what they have to agree with."""

    figures: dict[str, Figure]
    draw: Callable[[], dict[str, Figure]]  # draws them again
    days: dict[str, pd.DataFrame]  # the days of each part that are scored
    scores: dict[tuple[str, str], dict[str, float]]  # by author (model or baseline) and part


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return drawn_with(COLUMNS)


@pytest.fixture(scope="module")
def drawn_further() -> Drawn:
    return drawn_with(FURTHER)


def drawn_with(columns: Columns) -> Drawn:
    rows = series.repair(days(), columns)
    parts = series.split(rows, columns, FIGURE_SPLIT)
    encoder = Encoder.fit(parts["train"], columns)
    torch.manual_seed(5)
    arguments = {"hidden_size": 7, "layers": 1, "dropout": 0.0, "horizon": columns.horizon}
    net = saved_model.build("rnn", encoder.sizes, arguments)
    net.initialise(encoder.encode(parts["train"]))
    calibration = {"weight": 1.0, "width": 1.3}
    for ahead in range(1, columns.horizon + 1):
        calibration |= {f"weight_{ahead}": 1.0, f"width_{ahead}": 1.3}
    card = {"task": "forecasting", "calibration": calibration}
    model = saved_model.SavedModel(card, net, encoder)
    baselines = {name: fit(parts["train"], columns) for name, fit in BASELINES.items()}
    scores = {}
    for author, answer in {"model": model.answer, **baselines}.items():
        for part, part_rows in parts.items():
            scores[author, part] = model.score(answer(part_rows), part_rows)

    def draw() -> dict[str, Figure]:
        baseline_answers = {}
        for name, answer in baselines.items():
            baseline_answers[name] = answer(parts["test"])
        return figures.figures(
            model.answer(parts["test"]),
            parts["test"],
            columns,
            baseline_answers,
            model,
            parts["train"],
            parts["val"],
        )

    scored_days = {name: part[~part["context"]] for name, part in parts.items()}
    return Drawn(draw(), draw, scored_days, scores)


def tooltips(axes: Axes) -> list[str]:
    """The tooltips of an axes."""
    texts = []
    for artist in axes.get_children():
        gid = artist.get_gid() or ""
        if gid.startswith(drawing.TOOLTIP):
            texts.append(gid.removeprefix(drawing.TOOLTIP))
    return texts


def headings(texts: list[str]) -> list[str]:
    """What is before the colon of each."""
    return [text.split(":")[0] for text in texts]


def numbers(texts: list[str], name: str) -> np.ndarray:
    """The number that follows `name` in each."""
    values = []
    for text in texts:
        values.append(float(re.search(rf"[:,] {name} (-?[\d.]+)", text)[1]))
    return np.array(values)


def test_the_figures_have_titles_captions_and_named_axes(drawn: Drawn) -> None:
    assert list(drawn.figures) == ["prices", "errors", "coverage"]
    for name, figure in drawn.figures.items():
        assert figure.get_suptitle()
        assert figure.get_label()
        for axes in figure.axes:
            below = axes.get_shared_x_axes().get_siblings(axes)
            beside = axes.get_shared_y_axes().get_siblings(axes)
            assert any(sibling.get_xlabel() for sibling in below), name
            assert any(sibling.get_ylabel() for sibling in beside), name


def test_the_figure_of_prices_has_its_unit_and_the_trivial_baseline(drawn: Drawn) -> None:
    axes = drawn.figures["prices"].axes[0]
    assert axes.get_ylabel() == "Open (USD)"
    labels = {text.get_text() for text in axes.get_legend().get_texts()}
    assert labels == {"90 % interval", "Open, observed", "model", "previous_close"}


@pytest.mark.slow
def test_the_bytes_are_the_same_on_a_second_drawing(
    drawn: Drawn, drawn_further: Drawn, tmp_path: Path
) -> None:
    svgs.check_same(drawn.figures, drawn.draw(), drawn.figures, tmp_path)
    svgs.check_same(drawn_further.figures, drawn_further.draw(), ["fan", "days-ahead"], tmp_path)


def test_the_tooltip_of_a_day_has_price_forecast_and_trivial_baseline(drawn: Drawn) -> None:
    figure, test = drawn.figures["prices"], drawn.days["test"]
    texts = tooltips(figure.axes[0])
    assert headings(texts) == [f"day {day}" for day in test["Date"]]
    truth, value = numbers(texts, "Open"), numbers(texts, "model")
    assert truth == pytest.approx(test["Open"].to_numpy())
    assert (numbers(texts, "lower") < value).all()
    assert (value < numbers(texts, "upper")).all()
    naive = numbers(texts, "previous_close")
    for forecast, author in ((value, "model"), (naive, "previous_close")):
        rmse = drawn.scores[author, "test"]["rmse"]
        assert np.sqrt(np.mean((truth - forecast) ** 2)) == pytest.approx(rmse, abs=0.01)
        assert f"{author} {rmse:.2f}" in figure.get_label()


@pytest.mark.parametrize(("column", "part"), [(0, "val"), (1, "test")])
def test_the_errors_are_those_of_val_and_test(drawn: Drawn, column: int, part: str) -> None:
    figure = drawn.figures["errors"]
    above, below = figure.axes[column], figure.axes[2 + column]
    assert above.get_title() == part
    part_days = drawn.days[part]["Date"].tolist()
    for axes in (above, below):
        assert headings(tooltips(axes)) == [f"{part}, day {day}" for day in part_days]
    n = len(part_days)
    rmse = drawn.scores["model", part]["rmse"]
    naive_rmse = drawn.scores["previous_close", part]["rmse"]
    gain = numbers(tooltips(below), "cumulative gain")[-1]
    assert gain == pytest.approx(naive_rmse**2 * n - rmse**2 * n, abs=0.01)
    errors = numbers(tooltips(above), "model")
    assert np.sum(errors**2) == pytest.approx(rmse**2 * n, rel=0.01)
    assert f"RMSE {rmse:.2f} against" in figure.get_label()


def test_the_caption_of_the_errors_says_that_val_is_optimistic(drawn: Drawn) -> None:
    figure = drawn.figures["errors"]
    assert len(figure.axes) == 4
    assert "previous_close" in figure.get_suptitle()
    reason = "the epoch was chosen and the interval calibrated"
    assert f"On val, {reason}, so that its numbers are optimistic." in figure.get_label()


def test_the_coverage_of_the_months_adds_up_to_that_of_the_part(drawn: Drawn) -> None:
    figure = drawn.figures["coverage"]
    texts = tooltips(figure.axes[0])
    total = 0
    for part in ("val", "test"):
        part_texts = [text for text in texts if text.startswith(f"{part}, ")]
        total += len(part_texts)
        months = drawn.days[part]["Date"].str[:7]
        assert headings(part_texts) == [f"{part}, {month}" for month in months.unique()]
        n = []
        for text in part_texts:
            n.append(int(re.search(r"of (\d+) days, within the interval:", text)[1]))
        assert n == months.value_counts(sort=False).tolist()
        for author in ("model", *BASELINES):
            covered = 0
            for text in part_texts:
                covered += int(re.search(rf" {author} (\d+)", text)[1])
            coverage = drawn.scores[author, part]["coverage_90"]
            assert covered / sum(n) == pytest.approx(coverage), (part, author)
            sentence = f"Of {sum(n)} days of {part}, within the interval:"
            assert re.search(rf"{sentence} [^.]*\b{author} {covered}\b", figure.get_label())
    assert len(texts) == total


def test_a_horizon_has_a_fan_and_scores_by_days_ahead(drawn_further: Drawn) -> None:
    drawings = drawn_further.figures
    assert list(drawings) == ["fan", "days-ahead", "prices", "errors", "coverage"]
    fan = drawings["fan"]
    texts = tooltips(fan.axes[0])
    test_days = drawn_further.days["test"]
    n = len(texts)
    assert n % HORIZON == 0 and headings(texts) == [f"day {day}" for day in test_days["Date"][-n:]]
    assert numbers(texts, "Open") == pytest.approx(test_days["Open"].to_numpy()[-n:])
    widths = numbers(texts, "upper") - numbers(texts, "lower")
    assert (widths[::HORIZON] < widths[HORIZON - 1 :: HORIZON]).all()
    assert len(set(numbers(texts, "previous_close")[:HORIZON])) == 1
    by_days = drawings["days-ahead"]
    for axes, part, metric in zip(
        by_days.axes,
        ("val", "test") * 2,
        ("rmse", "rmse", "coverage_90", "coverage_90"),
        strict=True,
    ):
        texts = tooltips(axes)
        expected = [f"{part}, {metric}, days ahead {day}" for day in range(1, HORIZON + 1)]
        assert headings(texts) == expected
        for author in ("model", *BASELINES):
            scores = drawn_further.scores[author, part]
            values = [scores[f"{metric}_{day}"] for day in range(1, HORIZON + 1)]
            assert numbers(texts, author) == pytest.approx(values, abs=0.006)
    for figure in (fan, by_days):
        assert figure.get_suptitle() and figure.get_label()
    for name in ("errors", "coverage"):
        assert drawings[name].get_label().startswith("One day ahead. ")
