"""Series: a window holds no future; a day's part is a matter of its date; quirks are repaired, the rest is refused."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sextant import config
from sextant.errors import DataError, UsageError
from sextant.kinds.parts import PARTS, scored
from sextant.kinds.series import rows as series
from sextant.kinds.series.columns import Columns
from sextant.kinds.series.encoder import LIMIT, Encoder
from sextant.kinds.series.twin import Twin, write_twin
from sextant.kinds.splits import DateSplit
from sextant.strict import check

ROOT = Path(__file__).parents[2]
MIRROR = os.environ.get("SEXTANT_MIRROR")  # read before the tests' environment is cleared of it
CONFS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "conf/dataset").glob("*.yaml"))
}
STOCK = CONFS["google_stock"]

WINDOW = 11
COLUMNS = Columns(**STOCK["columns"] | {"window": WINDOW})
ROWS = 97
SPLIT = DateSplit(by="dates", val_from="2014-06-02", gate_from="2014-06-16", test_from="2014-06-30")


def days(rows: int = ROWS, first: str = "2014-03-03", seed: int = 7) -> pd.DataFrame:
    """Weekdays from `first` on, in upstream columns, with prices as they come; Close is doubled before the split."""
    rng = np.random.default_rng(seed)
    close = 300 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    opens = close * np.exp(rng.normal(0, 0.01, rows))
    dates = pd.bdate_range(first, periods=rows)
    frame = pd.DataFrame(
        {
            "Date": [f"{d.month}/{d.day}/{d.year}" for d in dates],
            "Open": opens.round(2),
            "High": (np.maximum(opens, close) * 1.01).round(2),
            "Low": (np.minimum(opens, close) * 0.99).round(2),
            "Close": close.round(2),
            "Volume": rng.integers(1_000_000, 9_000_000, rows),
        }
    )
    early = dates < COLUMNS.unadjusted.before
    frame["Close"] = frame["Close"].mask(
        early, (frame["Close"] * COLUMNS.unadjusted.factor).round(2)
    )
    return frame


@pytest.fixture
def rows() -> pd.DataFrame:
    return series.repair(days(), COLUMNS)


@pytest.fixture
def encoder(rows: pd.DataFrame) -> Encoder:
    return Encoder.fit(rows, COLUMNS)


def changed(frame: pd.DataFrame, row: int, **values: Any) -> pd.DataFrame:
    """`frame` with some values of one row changed."""
    frame = frame.copy()
    for name, value in values.items():
        if not isinstance(value, int | float):
            frame[name] = frame[name].astype(object)
        elif isinstance(value, float):
            frame[name] = frame[name].astype(float)
        frame.loc[frame.index[row], name] = value
    return frame


# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_is_what_the_definition_says(rows: pd.DataFrame, encoder: Encoder) -> None:
    """Every feature of every step of every window, computed one by one."""
    batch = encoder.encode(rows)
    assert batch.window.shape == (ROWS - WINDOW + 1, WINDOW - 1, 5)
    for i in (0, 1, 41, ROWS - WINDOW):
        for step in range(WINDOW - 1):
            day, before = rows.iloc[i + step + 1], rows.iloc[i + step]
            raw = [np.log(day[name] / before["Close"]) for name in ("Open", "High", "Low", "Close")]
            raw.append(np.log((1 + day["Volume"]) / (1 + before["Volume"])))
            moments = encoder.features.values()
            expected = [(x - mean) / std for x, (mean, std) in zip(raw, moments, strict=True)]
            assert batch.window[i, step].tolist() == pytest.approx(expected, abs=1e-4)
        assert batch.base[i] == pytest.approx(rows["Close"].iloc[i + WINDOW - 1])


def test_the_target_is_the_next_open_over_the_last_close(
    rows: pd.DataFrame, encoder: Encoder
) -> None:
    target = encoder.encode(rows).target
    assert target[0].item() == pytest.approx(
        np.log(rows["Open"][WINDOW] / rows["Close"][WINDOW - 1]), abs=1e-6
    )
    assert (
        not target[:-1].isnan().any() and target[-1].isnan()
    )  # the day after the last one is yet to come


@pytest.mark.parametrize("name", COLUMNS.numbers)
@pytest.mark.parametrize("row", [WINDOW, 53, ROWS - 1])
def test_a_window_holds_no_future(
    rows: pd.DataFrame, encoder: Encoder, name: str, row: int
) -> None:
    """A changed day changes no window that ends before it, nor its base; it is the target of the last of these."""
    before, after = encoder.encode(rows), encoder.encode(changed(rows, row, **{name: 777.0}))
    end = row - WINDOW + 1  # the first window that holds the row
    assert before.window[:end].equal(after.window[:end]) and before.base[:end].equal(
        after.base[:end]
    )
    assert before.target[: end - 1].equal(after.target[: end - 1])
    assert not before.window[end].equal(after.window[end])


def test_a_question_and_the_part_of_the_same_days_have_the_same_windows(
    encoder: Encoder,
) -> None:
    part = series.split(series.repair(days(), COLUMNS), COLUMNS, SPLIT)["gate"]
    of_part = encoder.encode(part)
    of_inputs = encoder.encode(encoder.check(part[COLUMNS.upstream]))
    assert len(of_inputs.base) == len(of_part.base) + 1 == len(scored(part)) + 1
    assert of_inputs.window[:-1].equal(of_part.window)
    assert of_inputs.target[:-1].equal(of_part.target)
    assert encoder.known(part)["date"].tolist() == part["Date"][~part["context"]].tolist()


def test_one_wild_day_is_cut(rows: pd.DataFrame, encoder: Encoder) -> None:
    assert encoder.encode(changed(rows, 53, Volume=0.0)).window.abs().max() == LIMIT


def test_what_was_learnt_travels_as_json(rows: pd.DataFrame, encoder: Encoder) -> None:
    again = Encoder.from_state(json.loads(json.dumps(encoder.state())), COLUMNS)
    for ours, theirs in zip(encoder.encode(rows)[:2], again.encode(rows)[:2], strict=True):
        assert ours.equal(theirs)


def test_the_example_is_a_question_for_two_answers(encoder: Encoder) -> None:
    example = encoder.example()
    assert [name for name, _, _ in encoder.schema()] == list(example.columns) == COLUMNS.upstream
    assert len(encoder.encode(encoder.check(example)).base) == 2


# --- the split --------------------------------------------------------------------------------------------------------


def test_each_day_is_scored_in_one_part_after_a_window_of_context(rows: pd.DataFrame) -> None:
    parts = series.split(rows, COLUMNS, SPLIT)
    own = {name: part["Date"][~part["context"]] for name, part in parts.items()}
    assert list(parts) == list(PARTS)
    assert [day for part in own.values() for day in part] == rows["Date"][WINDOW:].tolist()
    bounds = ["", SPLIT.val_from, SPLIT.gate_from, SPLIT.test_from, "9"]
    for (name, part), low, high in zip(parts.items(), bounds, bounds[1:], strict=False):
        context = part["context"].to_numpy()
        assert context[:WINDOW].all() and not context[WINDOW:].any(), name
        assert own[name].between(low, high, inclusive="left").all()
        first = rows.index[rows["Date"] == own[name].iloc[0]][0]
        assert part["Date"][:WINDOW].tolist() == rows["Date"][first - WINDOW : first].tolist()
    series.check_parts(parts, COLUMNS)


def test_no_day_changes_sides_as_the_series_grows() -> None:
    grown = series.split(series.repair(days(ROWS + 31), COLUMNS), COLUMNS, SPLIT)
    for name, part in series.split(
        series.repair(days(ROWS + 31), COLUMNS).head(ROWS), COLUMNS, SPLIT
    ).items():
        pd.testing.assert_frame_equal(part, grown[name].head(len(part)))
        assert name == "test" or len(part) == len(grown[name])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"val_from": "2014-03-10"},
            r"part train has 0 days to score after 5 days of context; expected 1 or more after",
        ),
        ({"test_from": "2014-06-16"}, r"part gate has 0 days to score after 11 days of context"),
        ({"test_from": "2020-01-01"}, r"part test has 0 days to score"),
    ],
)
def test_a_part_without_days_is_refused(
    rows: pd.DataFrame, change: dict[str, str], said: str
) -> None:
    split = DateSplit(**SPLIT.model_dump() | change)
    with pytest.raises(DataError, match=said):
        series.check_parts(series.split(rows, COLUMNS, split), COLUMNS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"gate_from": "2014-05-01"},
            "val, gate and test begin on 2014-06-02, 2014-05-01, 2014-06-30; expected them in ascending",
        ),
        ({"val_from": "2014-02-30"}, r"`val_from` is '2014-02-30'; .*day.*range"),
        ({"val_from": "June"}, "`val_from` is 'June'; .*isoformat"),
    ],
)
def test_dates_out_of_order_in_the_conf_are_refused(change: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(DateSplit, SPLIT.model_dump() | change, "split")


def test_a_series_is_not_split_by_hash(workspace: Path) -> None:
    path = workspace / "conf/dataset/google_stock.yaml"
    shares = {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.2}
    path.write_text(yaml.safe_dump(STOCK | {"split": {"by": "hash", "salt": 0, "shares": shares}}))
    with pytest.raises(
        UsageError,
        match="google_stock.yaml split: `by` is hash; data of kind series are split by dates",
    ):
        config.dataset("google_stock")


def test_a_part_is_written_and_read_again(rows: pd.DataFrame, tmp_path: Path) -> None:
    part = series.split(rows, COLUMNS, SPLIT)["val"]
    series.write(part, tmp_path / "val")
    pd.testing.assert_frame_equal(series.load(tmp_path / "val"), part)


def test_the_profile_says_what_was_repaired_and_is_json(rows: pd.DataFrame) -> None:
    found = json.loads(
        json.dumps(series.profile(series.split(rows, COLUMNS, SPLIT), COLUMNS), allow_nan=False)
    )
    assert found["repairs"] == [
        "`Close` of 18 days before 2014-03-27 was not adjusted for the split: divided by 2.002, an approximation"
    ]
    assert (
        found["days"]["val"] == ["2014-06-02", "2014-06-13"] and found["columns"]["Open"]["min"] > 0
    )


# --- reading and repairing --------------------------------------------------------------------------------------------

UPSTREAM = (
    "Date,Open,High,Low,Close,Volume\r\n"
    '3/26/2014,578.84,583.6,563.64,"1,128.87","5,179,200"\r\n'
    '3/27/2014,566.44,566.44,551.41,556.93,"13,100"'
)
LATER = 'Date,Open,High,Low,Close,Volume\r\n3/28/2014,559.66,564.88,557.14,558.46,"41,200"'


def test_quoted_thousands_and_files_in_the_order_of_their_days(tmp_path: Path) -> None:
    (tmp_path / "z.csv").write_bytes(UPSTREAM.encode())
    (tmp_path / "a.csv").write_bytes(LATER.encode())
    (tmp_path / "source.json").write_text("{}")
    raw = series.read(tmp_path, COLUMNS)
    assert raw["Date"].tolist() == ["3/26/2014", "3/27/2014", "3/28/2014"]
    assert raw["Close"].tolist() == [1128.87, 556.93, 558.46] and raw["Volume"].tolist() == [
        5179200,
        13100,
        41200,
    ]
    seen = series.table(raw, COLUMNS)
    assert set(seen.columns) == set(COLUMNS.all)
    assert seen["day_number"].tolist() == [16155, 16156, 16157] and seen["gap"].tolist()[1:] == [
        1,
        1,
    ]
    assert seen["weekday"].tolist() == [2, 3, 4]


def test_a_date_column_may_be_called_day_whatever_is_derived_from_it() -> None:
    columns = COLUMNS.model_copy(update={"date": "Day"})
    seen = series.table(days().rename(columns={"Date": "Day"}), columns)
    assert set(seen.columns) == set(columns.all) and len({name.lower() for name in seen}) == len(
        seen.columns
    )


@pytest.mark.parametrize("number", ["563,64", "1,12", "11,1288", "1,128.8,7", ",563"])
def test_a_comma_that_parts_no_thousands_is_not_dropped_in_a_file(
    tmp_path: Path, number: str
) -> None:
    """The column stays text, which the expectations refuse, and so does `repair`."""
    (tmp_path / "t.csv").write_text(UPSTREAM.replace("563.64", f'"{number}"'))
    raw = series.read(tmp_path, COLUMNS)
    assert raw["Low"].tolist() == [number, "551.41"]
    assert [raw[name].dtype.kind for name in ("Open", "High", "Close", "Volume")] == [
        "f",
        "f",
        "f",
        "i",
    ]
    with pytest.raises(
        DataError, match=f"row 1 has '{number}' in `Low`; expected a number with a decimal point"
    ):
        series.repair(raw, COLUMNS)


@given(st.integers(0, 10**9), st.integers(0, 2), st.sampled_from([",", "'", " "]))
def test_a_number_is_read_as_it_was_written_with_any_mark(
    whole: int, digits: int, mark: str
) -> None:
    columns = COLUMNS.model_copy(update={"thousands": mark})
    number = whole / 10**digits
    text = f"{number:,.{digits}f}".replace(",", mark)
    assert series.to_numbers(pd.Series([text]), columns).tolist() == [number]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.csv is empty; expected a table with Date, Open"),
        (
            UPSTREAM.replace("Close", "close"),
            "t.csv lacks column Close; found Date, Open, High, Low, close, Volume",
        ),
        (
            UPSTREAM.replace('"', ""),
            "t.csv has rows of more fields than its header; a number with a thousands mark",
        ),
        (UPSTREAM.replace(",", ";"), "t.csv lacks column Date"),
    ],
)
def test_a_file_that_is_no_series_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        series.read(tmp_path, COLUMNS)


def test_a_folder_without_files_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file; `make pull` brings them"):
        series.read(tmp_path, COLUMNS)
    with pytest.raises(DataError, match="is not there; name a file of days"):
        series.read_rows(tmp_path / "no.csv", COLUMNS)


def test_the_close_before_the_split_is_divided_and_marked_once(rows: pd.DataFrame) -> None:
    raw = days()
    early = rows["Date"] < "2014-03-27"
    assert early.sum() == 18 and rows["repaired"].equals(early)
    assert np.allclose(rows["Close"][early], raw["Close"][early] / 2.002, atol=0.006)
    assert rows["Close"][~early].equals(raw["Close"][~early])
    again = series.repair(rows, COLUMNS)
    assert again["Close"].equals(rows["Close"]) and not again["repaired"].any()


def test_a_series_without_a_split_is_left_alone() -> None:
    columns = COLUMNS.model_copy(update={"unadjusted": None})
    later = days(first="2015-03-02")
    rows = series.repair(later, columns)
    assert rows["Close"].equals(later["Close"]) and not rows["repaired"].any()
    with pytest.raises(DataError, match="row 1 has 600.6 in `Close`, above its `High`"):
        series.repair(days(), columns)


REFUSED = [
    (
        {"Date": "4/2/2014"},
        r"row 30 has '2014-04-02' in `Date` after a later day; expected the oldest day first",
    ),
    (
        {"Date": "4/10/2014"},
        r"row 30 has '2014-04-10' in `Date` for a second time; expected each day once",
    ),
    ({"Date": "11.4.2014"}, r"row 30 has '11.4.2014' in `Date`; expected a day as %m/%d/%Y"),
    ({"Date": "2/30/2014"}, r"row 30 has '2/30/2014' in `Date`; expected a day"),
    ({"Open": -1.0}, r"row 30 has -1.0 in `Open`; expected a price above 0"),
    ({"Close": 0.0}, r"row 30 has 0.0 in `Close`; expected a price above 0"),
    ({"Volume": -1.0}, r"row 30 has -1.0 in `Volume`; expected a volume of 0 or more"),
    ({"High": 1.0}, r"row 30 has 1.0 in `High`, below its `Low`"),
    ({"Open": 777.0}, r"row 30 has 777.0 in `Open`, above its `High`"),
    ({"Close": 1.0}, r"row 30 has 1.0 in `Close`, below its `Low`"),
    ({"Open": float("nan")}, r"row 30 has nan in `Open`; expected a number"),
    ({"Low": float("inf")}, r"row 30 has inf in `Low`; expected a number"),
    ({"Open": "cheap"}, r"row 30 has 'cheap' in `Open`; expected a number"),
    ({"Open": "767,25"}, r"row 30 has '767,25' in `Open`; expected a number with a decimal point"),
    ({"Volume": "1,2345,678"}, r"row 30 has '1,2345,678' in `Volume`; expected a number"),
    ({"Volume": "1234,567"}, r"row 30 has '1234,567' in `Volume`; expected a number"),
    ({"Close": "1,128.8,7"}, r"row 30 has '1,128.8,7' in `Close`; expected a number"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_row_that_cannot_be_is_refused_in_the_file_and_in_a_question(
    encoder: Encoder, change: dict[str, Any], said: str
) -> None:
    bad = changed(days(), 29, **change)
    with pytest.raises(DataError, match=said):
        series.repair(bad, COLUMNS)
    with pytest.raises(DataError, match=said):
        encoder.check(bad)


# --- questions --------------------------------------------------------------------------------------------------------


def test_too_few_days_are_refused(encoder: Encoder) -> None:
    assert len(encoder.check(days(WINDOW))) == WINDOW
    with pytest.raises(
        DataError, match="10 days; expected the 11 most recent days or more, the oldest first"
    ):
        encoder.check(days(WINDOW - 1))
    with pytest.raises(DataError, match="0 days; expected the 11 most recent"):
        encoder.check(days().head(0))


def test_other_columns_are_refused(encoder: Encoder) -> None:
    with pytest.raises(
        DataError, match="missing column Volume; surplus column volume; expected Date, Open"
    ):
        encoder.check(days().rename(columns={"Volume": "volume"}))


def test_a_long_gap_is_warned_about(encoder: Encoder) -> None:
    with pytest.warns(UserWarning, match="no rows for 10 days, up to 2014-04-10"):
        encoder.check(days().drop(range(21, 28)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.check(days())


@pytest.mark.parametrize(("beyond", "refused"), [(0.01, False), (0.04, True)])
def test_a_price_may_lie_a_rounding_beyond_its_bounds_and_no_more(
    encoder: Encoder, beyond: float, refused: bool
) -> None:
    row = 11  # before the split: the Close that is looked at is the repaired one
    close = round((days()["High"][row] + beyond) * COLUMNS.unadjusted.factor, 2)
    asked = changed(days(), row, Close=close)
    if not refused:
        assert encoder.check(asked)["Close"][row] == pytest.approx(
            days()["High"][row] + beyond, abs=0.006
        )
    else:
        with pytest.raises(DataError, match=r"row 12 has [0-9.]+ in `Close`, above its `High`"):
            encoder.check(asked)


def test_a_row_of_a_weekend_is_warned_about_where_training_had_none(
    encoder: Encoder,
) -> None:
    friday = int(
        np.flatnonzero(pd.to_datetime(days()["Date"], format="%m/%d/%Y").dt.day_of_week == 4)[3]
    )
    assert encoder.weekdays == [0, 1, 2, 3, 4]
    day = pd.Timestamp(days()["Date"][friday]) + pd.Timedelta(days=1)
    asked = changed(days(), friday, Date=f"{day:%m/%d/%Y}")
    with pytest.warns(
        UserWarning, match=f"1 rows of a weekday that training did not meet, such as {day:%Y-%m-%d}"
    ):
        checked = encoder.check(asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Encoder.fit(checked, COLUMNS).check(asked)


def test_text_numbers_and_days_mean_the_same_however_they_are_written(
    encoder: Encoder,
) -> None:
    frame, rows = days(), encoder.check(days())
    text = frame.assign(**{name: [f"{x:,}" for x in frame[name]] for name in COLUMNS.numbers})
    pd.testing.assert_frame_equal(encoder.check(text), rows)
    stamps = pd.to_datetime(rows["Date"])
    for dates in (
        rows["Date"],
        stamps,
        stamps.astype(object),
        stamps.dt.date,
        stamps + pd.Timedelta(hours=16),
    ):
        pd.testing.assert_frame_equal(encoder.check(frame.assign(Date=dates)), rows)
    pd.testing.assert_frame_equal(encoder.check(encoder.inputs(text)), rows)


def test_questions_are_read_from_csv_json_and_parquet(encoder: Encoder, tmp_path: Path) -> None:
    rows = encoder.check(days())
    days().to_csv(tmp_path / "q.csv", index=False)
    days().to_json(tmp_path / "q.json", orient="records")
    days().to_parquet(tmp_path / "q.parquet")
    for path in tmp_path.iterdir():
        pd.testing.assert_frame_equal(encoder.check(series.read_rows(path, COLUMNS)), rows)


@pytest.mark.parametrize("place", ["target", "base", "high", "low"])
def test_a_name_that_is_no_price_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match="`Opne` is none of `prices`: Open, High, Low, Close"):
        check(Columns, STOCK["columns"] | {place: "Opne"}, "columns")


def test_a_series_of_one_price_and_nothing_else_will_do() -> None:
    """A target that is its own base: the increment over the last value."""
    alone = {"target": "Open", "base": "Open", "prices": ["Open"], "high": None, "low": None}
    columns = Columns(
        **STOCK["columns"] | alone | {"volume": None, "unadjusted": None, "window": WINDOW}
    )
    rows = series.repair(days()[["Date", "Open"]], columns)
    encoder = Encoder.fit(rows, columns)
    batch = encoder.encode(encoder.check(days()[["Date", "Open"]]))
    assert batch.window.shape[2] == encoder.sizes["features"] == 1
    assert len(encoder.encode(encoder.check(encoder.example())).base) == 2
    assert batch.target[0].item() == pytest.approx(
        np.log(rows["Open"][WINDOW] / rows["Open"][WINDOW - 1]), abs=1e-6
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"first": "2012-01-02"},
            "`first` is 2012-01-02; expected it between the first of `eras` .2012-01-03. and",
        ),
        ({"first": "2016-12-31"}, "`first` is 2016-12-31; .* first of `files` .2016-12-30."),
        (
            {"files": STOCK["twin"]["files"][::-1]},
            "`files` lie at 2017-01-31, 2016-12-30; expected the oldest first",
        ),
        (
            {"eras": STOCK["twin"]["eras"][::-1]},
            "`eras` lie at 2014-04-03, .*; expected the oldest first, each day once",
        ),
        (
            {"files": STOCK["twin"]["files"][:1] * 2},
            "`files` lie at 2016-12-30, 2016-12-30; expected",
        ),
    ],
)
def test_a_twin_whose_days_do_not_follow_each_other_is_refused(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        check(Twin, STOCK["twin"] | change, "twin")


# --- the twins, and the real files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twin")
    write_twin(Twin(**STOCK["twin"]), Columns(**STOCK["columns"]), folder)
    return folder


def quirks(folder: Path) -> dict[str, Any]:
    """What the real files are known for."""
    columns = Columns(**STOCK["columns"])
    raw = series.table(series.read(folder, columns), columns)
    rows = series.repair(raw, columns)
    parts = series.split(rows, columns, DateSplit(**STOCK["split"]))
    ratio = raw["Close"] / raw["Open"]
    return {
        "rows": [
            len(series.read_rows(folder / f"Google_Stock_Price_{name}.csv", columns))
            for name in ("Train", "Test")
        ],
        "own": {name: len(scored(part)) for name, part in parts.items()},
        "days": raw["Date"].tolist(),
        "longest gap": raw["gap"].max(),
        "close above high": int((raw["Close"] > raw["High"]).sum()),
        "close by open before the split": round(float(ratio[raw["day_number"] < 16156].mean()), 2),
        "repaired": int(rows["repaired"].sum()),
        "close outside after repair": int(
            ((rows["Close"] > rows["High"] + 0.011) | (rows["Close"] < rows["Low"] - 0.011)).sum()
        ),
        "volume below 100,000": int((raw["Volume"] < 100_000).sum()),
        "line ends": [path.read_bytes().count(b"\r\n") for path in sorted(folder.glob("*.csv"))],
        "last byte": {path.read_bytes()[-1:] for path in folder.glob("*.csv")},
        "quoted": all(
            '"' in line
            for path in folder.glob("*.csv")
            for line in path.read_text().splitlines()[1:]
        ),
    }


QUIRKS = {
    "rows": [1258, 20],
    "own": {"train": 966, "val": 125, "gate": 127, "test": 20},
    "longest gap": 5,
    "close above high": 560,
    "close by open before the split": 2.0,
    "repaired": 560,
    "close outside after repair": 0,
    "volume below 100,000": 4,
    "line ends": [20, 1258],
    "last byte": {b'"'},
    "quoted": True,
}


def test_the_twin_has_the_quirks_of_the_real_files(twin: Path) -> None:
    found = quirks(twin)
    assert {name: found[name] for name in QUIRKS} == QUIRKS


def test_the_twin_is_the_same_bytes_each_time(twin: Path, tmp_path: Path) -> None:
    write_twin(Twin(**STOCK["twin"]), Columns(**STOCK["columns"]), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [file["file"] for file in reversed(STOCK["twin"]["files"])]
    assert all((tmp_path / name).read_bytes() == (twin / name).read_bytes() for name in names)


def test_the_close_in_thousands_is_quoted_in_the_twin(twin: Path) -> None:
    lines = (twin / "Google_Stock_Price_Train.csv").read_text().splitlines()
    assert sum(line.count('"') == 4 for line in lines) > 20


@pytest.mark.skipif(MIRROR is None, reason="needs the real files under SEXTANT_MIRROR")
def test_the_real_files_have_their_quirks_and_the_twin_their_days(
    twin: Path, tmp_path: Path
) -> None:
    for entry in STOCK["sources"]["mirror"]:
        (tmp_path / entry["file"]).symlink_to(Path(str(MIRROR)) / entry["path"])
    found = quirks(tmp_path)
    assert {name: found[name] for name in QUIRKS} == QUIRKS
    assert found["days"] == quirks(twin)["days"]
    lines = (tmp_path / "Google_Stock_Price_Train.csv").read_text().splitlines()
    assert (
        sum(line.count('"') == 4 for line in lines) == 109
    )  # Close in thousands, quoted as the volume is
