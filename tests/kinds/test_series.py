"""Series: a window holds no future days, a day's part depends on its date, bad rows are refused."""

import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
from builders import MIRROR
from conftest import dump_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from stock import COLUMNS, FURTHER, HORIZON, ROWS, SPLIT, STOCK, WINDOW, days

from sextant import config
from sextant.errors import DataError, UsageError
from sextant.kinds.parts import PARTS, scored
from sextant.kinds.series import rows as series
from sextant.kinds.series.columns import Columns
from sextant.kinds.series.encoder import LIMIT, Encoder
from sextant.kinds.series.twin import Twin, write_twin
from sextant.kinds.splits import DateSplit
from sextant.strict import check

Value = int | float | str


@functools.cache
def repaired_days() -> pd.DataFrame:
    """The repaired rows of `days()`; the fixture `rows` copies them."""
    return series.repair(days(), COLUMNS)


@pytest.fixture
def rows() -> pd.DataFrame:
    return repaired_days().copy()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.fit(repaired_days(), COLUMNS)


def changed(frame: pd.DataFrame, row: int, **values: Value) -> pd.DataFrame:
    """`frame` with some values of one row changed."""
    frame = frame.copy()
    for name, value in values.items():
        if isinstance(value, str):
            frame[name] = frame[name].astype(object)
        elif isinstance(value, float):
            frame[name] = frame[name].astype(float)
        frame.loc[frame.index[row], name] = value
    return frame


# --- windows ------------------------------------------------------------------------------------


def test_a_window_matches_its_definition(rows: pd.DataFrame, encoder: Encoder) -> None:
    """Every feature of every step of some windows, computed one by one."""
    batch = encoder.encode(rows)
    assert batch.window.shape == (ROWS - WINDOW + 1, WINDOW - 1, 5)
    for i in (0, 1, 41, ROWS - WINDOW):
        for step in range(WINDOW - 1):
            day = rows.iloc[i + step + 1]
            previous = rows.iloc[i + step]
            expected = []
            for name, (mean, std) in encoder.features.items():
                if name == "Volume":
                    value = np.log((1 + day[name]) / (1 + previous[name]))
                else:
                    value = np.log(day[name] / previous["Close"])
                expected.append((value - mean) / std)
            assert batch.window[i, step].tolist() == pytest.approx(expected, abs=1e-4)
        assert batch.base[i] == pytest.approx(rows["Close"].iloc[i + WINDOW - 1])


def test_features_are_the_prices_and_the_volume(encoder: Encoder) -> None:
    assert list(encoder.features) == ["Open", "High", "Low", "Close", "Volume"]


def test_the_target_is_the_next_open_over_the_last_close(
    rows: pd.DataFrame, encoder: Encoder
) -> None:
    target = encoder.encode(rows).target
    expected = np.log(rows["Open"][WINDOW] / rows["Close"][WINDOW - 1])
    assert target[0].item() == pytest.approx(expected, abs=1e-6)
    assert not target[:-1].isnan().any()
    assert target[-1].isnan()  # the day after the last one is not known


def test_a_window_holds_no_future_days(rows: pd.DataFrame, encoder: Encoder) -> None:
    """A changed day changes no window that ends before it, and the target of the last of these
    only.
    """
    before = encoder.encode(rows)
    for name, row in itertools.product(COLUMNS.numbers, (WINDOW, 53, ROWS - 1)):
        after = encoder.encode(changed(rows, row, **{name: 777.0}))
        first = row - WINDOW + 1  # the first window that holds the row
        case = f"{name} in row {row}"
        assert before.window[:first].equal(after.window[:first]), case
        assert before.base[:first].equal(after.base[:first]), case
        assert before.target[: first - 1].equal(after.target[: first - 1]), case
        assert not before.window[first].equal(after.window[first]), case


def test_a_part_and_input_rows_of_the_same_days_have_the_same_windows(encoder: Encoder) -> None:
    part = series.split(series.repair(days(), COLUMNS), COLUMNS, SPLIT)["gate"]
    of_part = encoder.encode(part)
    of_inputs = encoder.encode(encoder.check(part[COLUMNS.upstream]))
    assert len(of_part.base) == len(scored(part))
    assert len(of_inputs.base) == len(of_part.base) + 1  # and the day after the last
    assert of_inputs.window[:-1].equal(of_part.window)
    assert of_inputs.target[:-1].equal(of_part.target)
    assert encoder.forecast_days(part)["date"].tolist() == scored(part)["Date"].tolist()


def test_with_a_horizon_the_targets_are_those_of_each_following_day(rows: pd.DataFrame) -> None:
    further = Encoder.fit(rows, FURTHER).encode(rows)
    batch = Encoder.fit(rows, COLUMNS).encode(rows)
    assert further.target.shape == (ROWS - WINDOW + 1, HORIZON)
    assert further.window.equal(batch.window) and further.base.equal(batch.base)
    assert further.target[:-1, 0].equal(batch.target[:-1])
    close, opens = rows["Close"], rows["Open"]
    for i, ahead in itertools.product((0, 41), (1, 2, HORIZON)):
        last = i + WINDOW - 1
        expected = np.log(opens[last + ahead] / close[last])
        assert further.target[i, ahead - 1].item() == pytest.approx(expected, abs=1e-6)
    assert further.target.isnan().sum(0).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("part", "following"), [("train", SPLIT.val_from), ("val", SPLIT.gate_from)]
)
def test_no_target_beyond_the_end_of_a_part_is_read(
    rows: pd.DataFrame, part: str, following: str
) -> None:
    """The last days have targets further ahead only as far as the part goes."""
    is_beyond = rows["Date"] >= following
    tripled = rows.copy()
    tripled.loc[is_beyond, COLUMNS.prices] *= 3
    encoder = Encoder.fit(rows, FURTHER)
    part_rows = series.split(rows, FURTHER, SPLIT)[part]
    target = encoder.encode(part_rows).target
    without = encoder.encode(series.split(tripled, FURTHER, SPLIT)[part]).target
    np.testing.assert_array_equal(target.numpy(), without.numpy())
    assert target.isnan().sum(0).tolist() == [0, 1, 2]
    scored_days = scored(part_rows)["Date"].tolist()
    for ahead in range(1, HORIZON + 1):
        dates = encoder.forecast_days(part_rows, ahead)["date"]
        assert dates.dropna().tolist() == scored_days[ahead - 1 :]


def test_an_extreme_value_is_clipped(rows: pd.DataFrame, encoder: Encoder) -> None:
    assert encoder.encode(changed(rows, 53, Volume=0.0)).window.abs().max() == LIMIT


def test_the_state_is_json_and_restores_the_encoder(rows: pd.DataFrame, encoder: Encoder) -> None:
    state = json.loads(json.dumps(encoder.state()))
    batch = encoder.encode(rows)
    restored = Encoder.from_state(state, COLUMNS).encode(rows)
    assert restored.window.equal(batch.window)
    assert restored.base.equal(batch.base)


def test_the_example_gives_two_forecasts(encoder: Encoder) -> None:
    example = encoder.example()
    assert [name for name, _, _ in encoder.schema()] == list(example.columns) == COLUMNS.upstream
    assert len(encoder.encode(encoder.check(example)).base) == 2


# --- the split ----------------------------------------------------------------------------------


def test_each_day_is_scored_in_one_part_after_a_window_of_history(rows: pd.DataFrame) -> None:
    parts = series.split(rows, COLUMNS, SPLIT)
    assert list(parts) == list(PARTS)
    scored_days = [day for part in parts.values() for day in scored(part)["Date"]]
    assert scored_days == rows["Date"][WINDOW:].tolist()
    starts = {
        "train": "",
        "val": SPLIT.val_from,
        "gate": SPLIT.gate_from,
        "test": SPLIT.test_from,
    }
    ends = [*list(starts.values())[1:], "9"]
    for (name, part), start, end in zip(parts.items(), starts.values(), ends, strict=True):
        is_history = part["context"].to_numpy()
        assert is_history[:WINDOW].all(), name
        assert not is_history[WINDOW:].any(), name
        part_days = scored(part)["Date"]
        assert part_days.between(start, end, inclusive="left").all()
        first = rows.index[rows["Date"] == part_days.iloc[0]][0]
        assert part["Date"][:WINDOW].tolist() == rows["Date"][first - WINDOW : first].tolist()
    series.check_parts(parts, COLUMNS)


def test_the_part_of_a_day_never_changes_as_the_series_grows() -> None:
    longer = series.repair(days(ROWS + 31), COLUMNS)
    parts_of_longer = series.split(longer, COLUMNS, SPLIT)
    for name, part in series.split(longer.head(ROWS), COLUMNS, SPLIT).items():
        pd.testing.assert_frame_equal(part, parts_of_longer[name].head(len(part)))
        assert name == "test" or len(part) == len(parts_of_longer[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"val_from": "2014-03-10"},
            "part train has 0 days to score after 5 days of history; expected 1 or more after 11",
        ),
        (
            {"test_from": "2014-06-16"},
            "part gate has 0 days to score after 11 days of history",
        ),
        (
            {"test_from": "2020-01-01"},
            "part test has 0 days to score",
        ),
    ],
)
def test_a_part_without_days_is_refused(
    rows: pd.DataFrame, change: dict[str, str], message: str
) -> None:
    split = DateSplit(**SPLIT.model_dump() | change)
    with pytest.raises(DataError, match=message):
        series.check_parts(series.split(rows, COLUMNS, split), COLUMNS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"gate_from": "2014-05-01"},
            "val, gate and test begin on 2014-06-02, 2014-05-01, 2014-06-30; expected them in",
        ),
        (
            {"val_from": "2014-02-30"},
            "`val_from` is '2014-02-30'; .*day.*range",
        ),
        (
            {"val_from": "June"},
            "`val_from` is 'June'; .*isoformat",
        ),
    ],
)
def test_dates_out_of_order_in_the_conf_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(DateSplit, SPLIT.model_dump() | change, "split")


def test_a_series_is_not_split_by_hash(workspace: Path) -> None:
    path = workspace / "conf/dataset/google_stock.yaml"
    shares = {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.2}
    path.write_text(dump_yaml(STOCK | {"split": {"by": "hash", "salt": 0, "shares": shares}}))
    message = "google_stock.yaml split: `by` is hash; data of kind series are split by dates"
    with pytest.raises(UsageError, match=message):
        config.dataset("google_stock")


def test_a_part_is_read_as_it_was_written(rows: pd.DataFrame, tmp_path: Path) -> None:
    part = series.split(rows, COLUMNS, SPLIT)["val"]
    series.write(part, tmp_path / "val")
    pd.testing.assert_frame_equal(series.load(tmp_path / "val"), part)


def test_the_profile_is_json_and_lists_the_repairs(rows: pd.DataFrame) -> None:
    parts = series.split(rows, COLUMNS, SPLIT)
    profile = json.loads(json.dumps(series.profile(parts, COLUMNS), allow_nan=False))
    assert profile["repairs"] == [
        "`Close` of 18 days before 2014-03-27 was not adjusted for the split: divided by 2.002,"
        " an approximation"
    ]
    assert profile["days"]["val"] == ["2014-06-02", "2014-06-13"]
    assert profile["columns"]["Open"]["min"] > 0


# --- reading ------------------------------------------------------------------------------------

UPSTREAM = (
    "Date,Open,High,Low,Close,Volume\r\n"
    '3/26/2014,578.84,583.6,563.64,"1,128.87","5,179,200"\r\n'
    '3/27/2014,566.44,566.44,551.41,556.93,"13,100"'
)
LATER = 'Date,Open,High,Low,Close,Volume\r\n3/28/2014,559.66,564.88,557.14,558.46,"41,200"'


def test_files_are_read_in_the_order_of_their_days(tmp_path: Path) -> None:
    (tmp_path / "z.csv").write_bytes(UPSTREAM.encode())
    (tmp_path / "a.csv").write_bytes(LATER.encode())
    (tmp_path / "source.json").write_text("{}")
    raw = series.read(tmp_path, COLUMNS)
    assert raw["Date"].tolist() == ["3/26/2014", "3/27/2014", "3/28/2014"]
    table = series.table(raw, COLUMNS)
    assert table["Close"].tolist() == [1128.87, 556.93, 558.46]
    assert table["Volume"].tolist() == [5179200, 13100, 41200]
    assert set(table.columns) == set(COLUMNS.all)
    assert table["day_number"].tolist() == [16155, 16156, 16157]
    assert table["gap"].tolist()[1:] == [1, 1]
    assert table["weekday"].tolist() == [2, 3, 4]


def test_a_date_column_may_be_called_day() -> None:
    """No derived column has the same name without case, by which Great Expectations finds
    columns.
    """
    columns = COLUMNS.model_copy(update={"date": "Day"})
    table = series.table(days().rename(columns={"Date": "Day"}), columns)
    assert set(table.columns) == set(columns.all)
    assert len({name.lower() for name in table}) == len(table.columns)


def test_a_comma_that_separates_no_thousands_is_not_dropped(tmp_path: Path) -> None:
    """The column stays text, which the expectations refuse, and so does `repair`."""
    for number in ("563,64", "1,12", "11,1288", "1,128.8,7", ",563"):
        (tmp_path / "t.csv").write_text(UPSTREAM.replace("563.64", f'"{number}"'))
        raw = series.read(tmp_path, COLUMNS)
        assert raw["Low"].tolist() == [number, "551.41"]
        message = f"t.csv line 2 has '{number}' in `Low`; expected a number with a decimal point"
        with pytest.raises(DataError, match=message):
            series.repair(raw, COLUMNS)
    table = series.table(raw, COLUMNS)
    assert table["Low"].tolist() == [number, "551.41"]
    dtypes = [table[name].dtype.kind for name in ("Open", "High", "Close", "Volume")]
    assert dtypes == ["f", "f", "f", "i"]


@given(st.integers(0, 10**9), st.integers(0, 2), st.sampled_from([",", "'", " "]))
@settings(max_examples=30)
def test_a_number_is_read_with_any_thousands_separator(
    digits: int, decimals: int, separator: str
) -> None:
    columns = COLUMNS.model_copy(update={"thousands": separator})
    number = digits / 10**decimals
    text = f"{number:,.{decimals}f}".replace(",", separator)
    assert series.to_numbers(pd.Series([text]), columns).tolist() == [number]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "t.csv is empty; expected a table with Date, Open",
        ),
        (
            UPSTREAM.replace("Close", "close"),
            "t.csv lacks column Close; found Date, Open, High, Low, close, Volume",
        ),
        (
            UPSTREAM.replace('"', ""),
            "t.csv line 2 has 9 cells, and the header has 6 names",
        ),
        (
            UPSTREAM.replace(",", ";"),
            "t.csv lacks column Date",
        ),
    ],
)
def test_a_file_that_is_no_series_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        series.read(tmp_path, COLUMNS)


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no files; run `make pull`"):
        series.read(tmp_path, COLUMNS)
    with pytest.raises(DataError, match="no.csv does not exist; name a file of rows"):
        series.read_rows(tmp_path / "no.csv", COLUMNS)


# --- repair -------------------------------------------------------------------------------------


def test_the_close_before_the_split_is_divided_and_marked_once(rows: pd.DataFrame) -> None:
    raw = days()
    early = rows["Date"] < "2014-03-27"
    assert early.sum() == 18
    assert rows["repaired"].equals(early)
    assert np.allclose(rows["Close"][early], raw["Close"][early] / 2.002, atol=0.006)
    assert rows["Close"][~early].equals(raw["Close"][~early])
    repaired_twice = series.repair(rows, COLUMNS)
    assert repaired_twice["Close"].equals(rows["Close"])
    assert not repaired_twice["repaired"].any()


def test_without_unadjusted_in_the_conf_no_price_is_divided() -> None:
    columns = COLUMNS.model_copy(update={"unadjusted": None})
    later = days(first="2015-03-02")
    rows = series.repair(later, columns)
    assert rows["Close"].equals(later["Close"])
    assert not rows["repaired"].any()
    with pytest.raises(DataError, match="row 1 has 600.6 in `Close`, above its `High`"):
        series.repair(days(), columns)


REFUSED: list[tuple[dict[str, Value], str]] = [
    (
        {"Date": "4/10/2014"},
        "row 30 has '2014-04-10' in `Date` for a second time; expected each day once",
    ),
    ({"Date": "11.4.2014"}, "row 30 has '11.4.2014' in `Date`; expected a day as %m/%d/%Y"),
    ({"Date": "2/30/2014"}, "row 30 has '2/30/2014' in `Date`; expected a day"),
    ({"Open": -1.0}, "row 30 has -1.0 in `Open`; expected a price above 0"),
    ({"Close": 0.0}, "row 30 has 0.0 in `Close`; expected a price above 0"),
    ({"Volume": -1.0}, "row 30 has -1.0 in `Volume`; expected a volume of 0 or more"),
    ({"High": 1.0}, "row 30 has 1.0 in `High`, below its `Low`"),
    ({"Open": 777.0}, "row 30 has 777.0 in `Open`, above its `High`"),
    ({"Close": 1.0}, "row 30 has 1.0 in `Close`, below its `Low`"),
    ({"Open": float("nan")}, "row 30 has no `Open`; expected a number"),
    ({"Low": float("inf")}, "row 30 has inf in `Low`; expected a number"),
    ({"Open": "cheap"}, "row 30 has 'cheap' in `Open`; expected a number"),
    ({"Open": "767,25"}, "row 30 has '767,25' in `Open`; expected a number with a decimal point"),
    ({"Volume": "1,2345,678"}, "row 30 has '1,2345,678' in `Volume`; expected a number"),
    ({"Volume": "1234,567"}, "row 30 has '1234,567' in `Volume`; expected a number"),
    ({"Close": "1,128.8,7"}, "row 30 has '1,128.8,7' in `Close`; expected a number"),
]


def test_an_impossible_row_is_refused_in_a_file_and_in_input_rows(encoder: Encoder) -> None:
    for change, message in REFUSED:
        bad = changed(days(), 29, **change)
        with pytest.raises(DataError, match=message):
            series.repair(bad, COLUMNS)
        with pytest.raises(DataError, match=message):
            encoder.check(bad)


def test_rows_that_were_not_arranged_are_refused_if_a_later_day_stands_first() -> None:
    message = "row 2 has '2014-03-03' in `Date` after a later day; expected the oldest day first"
    with pytest.raises(DataError, match=message):
        series.repair(days().iloc[[1, 0, 2]], COLUMNS)


# --- input rows ---------------------------------------------------------------------------------


def test_a_list_in_place_of_a_day_is_refused(encoder: Encoder) -> None:
    """JSON may have one, and pandas cannot look for others that are equal."""
    rows = days()
    cells = [["3/3/2014"], *rows["Date"][1:]]
    with pytest.raises(DataError, match="row 1 has .*'3/3/2014'.* in `Date`; expected a day as"):
        encoder.check(rows.assign(Date=pd.Series(cells, dtype=object)))


def test_too_few_days_are_refused(encoder: Encoder) -> None:
    assert len(encoder.check(days(WINDOW))) == WINDOW
    message = "10 days; expected the 11 most recent days or more"
    with pytest.raises(DataError, match=message):
        encoder.check(days(WINDOW - 1))
    with pytest.raises(DataError, match="0 days; expected the 11 most recent"):
        encoder.check(days().head(0))


def test_missing_and_surplus_columns_are_refused(encoder: Encoder) -> None:
    message = "missing column Volume; surplus column volume; expected Date, Open"
    with pytest.raises(DataError, match=message):
        encoder.check(days().rename(columns={"Volume": "volume"}))


def remarks(encoder: Encoder, frame: pd.DataFrame) -> list[str]:
    """What is unusual in the window of each answer, in the order of the days."""
    rows = encoder.check(frame)
    return encoder.remarks(rows, encoder.forecast_days(rows))


def window_of(texts: Sequence[str], text: str) -> tuple[int, int]:
    """The first and the last answer, counted from 0, whose remarks are this text."""
    answers = [number for number, remark in enumerate(texts) if remark == text]
    assert set(texts) == {"", text}
    assert answers == list(range(answers[0], answers[-1] + 1))
    return answers[0], answers[-1]


def test_a_long_gap_is_remarked_on_in_each_window_that_has_both_of_its_days(
    encoder: Encoder,
) -> None:
    texts = remarks(encoder, days().drop(range(21, 28)))
    text = "no rows for 10 days, up to 2014-04-10: consecutive rows are taken for consecutive"
    # Answer n has the rows n to n + WINDOW - 1; the gap is between rows 20 and 21.
    first, last = window_of(texts, f"{text} trading days")
    assert (first, last) == (max(0, 22 - COLUMNS.window), 20)
    assert set(remarks(encoder, days())) == {""}


@pytest.mark.parametrize(("beyond", "refused"), [(0.01, False), (0.04, True)])
def test_a_price_may_exceed_its_bounds_by_rounding_only(
    encoder: Encoder, beyond: float, refused: bool
) -> None:
    row = 11  # before the split, so the repaired Close is compared
    price = days()["High"][row] + beyond
    frame = changed(days(), row, Close=round(price * COLUMNS.unadjusted.factor, 2))
    if refused:
        with pytest.raises(DataError, match=r"row 12 has [0-9.]+ in `Close`, above its `High`"):
            encoder.check(frame)
    else:
        assert encoder.check(frame)["Close"][row] == pytest.approx(price, abs=0.006)


def test_a_weekday_that_training_lacks_is_remarked_on_in_each_window(encoder: Encoder) -> None:
    assert encoder.weekdays == [0, 1, 2, 3, 4]
    dates = pd.to_datetime(days()["Date"], format="%m/%d/%Y")
    friday = int(np.flatnonzero(dates.dt.day_of_week == 4)[3])
    saturday = dates[friday] + pd.Timedelta(days=1)
    frame = changed(days(), friday, Date=f"{saturday:%m/%d/%Y}")
    texts = remarks(encoder, frame)
    text = f"{saturday:%Y-%m-%d} is on a weekday that the training rows lack"
    assert window_of(texts, text) == (max(0, friday - COLUMNS.window + 1), friday)
    assert set(remarks(Encoder.fit(encoder.check(frame), COLUMNS), frame)) == {""}


def test_a_change_that_is_clipped_is_remarked_on(encoder: Encoder) -> None:
    row = 25
    frame = days()
    frame["Volume"] = frame["Volume"].where(frame.index < row, 10**15)
    day = encoder.check(frame)["Date"].iloc[row]
    text = f"the change of `Volume` on {day} is clipped: it is over 8 standard deviations of"
    span = window_of(remarks(encoder, frame), f"{text} training")
    assert span == (max(0, row - COLUMNS.window + 1), row - 1)


def test_text_numbers_and_dates_are_read_in_every_form(encoder: Encoder) -> None:
    frame = days()
    rows = encoder.check(frame)
    text = frame.copy()
    for name in COLUMNS.numbers:
        text[name] = [f"{value:,}" for value in frame[name]]
    pd.testing.assert_frame_equal(encoder.check(text), rows)
    stamps = pd.to_datetime(rows["Date"])
    forms = [
        rows["Date"],
        stamps,
        stamps.astype(object),
        stamps.dt.date,
        stamps + pd.Timedelta(hours=16),
    ]
    for dates in forms:
        pd.testing.assert_frame_equal(encoder.check(frame.assign(Date=dates)), rows)
    pd.testing.assert_frame_equal(encoder.check(encoder.inputs(text)), rows)


def test_input_rows_are_read_from_csv_json_and_parquet(encoder: Encoder, tmp_path: Path) -> None:
    rows = encoder.check(days())
    days().to_csv(tmp_path / "q.csv", index=False)
    days().to_json(tmp_path / "q.json", orient="records")
    days().to_parquet(tmp_path / "q.parquet")
    for path in tmp_path.iterdir():
        pd.testing.assert_frame_equal(encoder.check(series.read_rows(path, COLUMNS)), rows)


# --- conf ---------------------------------------------------------------------------------------


@cases.each("role", ["target", "base", "high", "low"])
def test_a_role_that_names_no_price_is_refused(role: str) -> None:
    message = f"`{role}` is `Opne`; expected one of `prices`: Open, High, Low, Close"
    with pytest.raises(UsageError, match=message):
        check(Columns, STOCK["columns"] | {role: "Opne"}, "columns")


def test_an_unadjusted_column_that_is_no_price_is_refused() -> None:
    unadjusted = STOCK["columns"]["unadjusted"] | {"column": "Volume"}
    message = "`unadjusted.column` is `Volume`; expected one of `prices`: Open"
    with pytest.raises(UsageError, match=message):
        check(Columns, STOCK["columns"] | {"unadjusted": unadjusted}, "columns")


def test_a_series_may_have_a_single_price_column() -> None:
    """The target is then its own base, and the forecast a log return over its last value."""
    single = {"target": "Open", "base": "Open", "prices": ["Open"], "high": None, "low": None}
    single |= {"volume": None, "unadjusted": None, "window": WINDOW}
    columns = Columns(**STOCK["columns"] | single)
    frame = days()[["Date", "Open"]]
    rows = series.repair(frame, columns)
    encoder = Encoder.fit(rows, columns)
    batch = encoder.encode(encoder.check(frame))
    assert batch.window.shape[2] == encoder.sizes["features"] == 1
    assert len(encoder.encode(encoder.check(encoder.example())).base) == 2
    expected = np.log(rows["Open"][WINDOW] / rows["Open"][WINDOW - 1])
    assert batch.target[0].item() == pytest.approx(expected, abs=1e-6)


FILES, ERAS = STOCK["twin"]["files"], STOCK["twin"]["eras"]


@cases.each(
    ("change", "message"),
    [
        (
            {"first": "2012-01-02"},
            r"`first` is 2012-01-02; expected a day from 2012-01-03 \(the first of `eras`\)",
        ),
        (
            {"first": "2016-12-31"},
            r"`first` is 2016-12-31; .* to 2016-12-30 \(the end of the first of `files`\)",
        ),
        (
            {"files": FILES[::-1]},
            "days of `files` are 2017-01-31, 2016-12-30; expected the oldest first, each day once",
        ),
        (
            {"eras": ERAS[::-1]},
            "days of `eras` are 2014-04-03, .*; expected the oldest first, each day once",
        ),
        (
            {"files": FILES[:1] * 2},
            "days of `files` are 2016-12-30, 2016-12-30; expected",
        ),
    ],
)
def test_a_twin_whose_days_do_not_ascend_is_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check(Twin, STOCK["twin"] | change, "twin")


# --- the twin and the real files ----------------------------------------------------------------


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twin")
    write_twin(Twin(**STOCK["twin"]), Columns(**STOCK["columns"]), folder)
    return folder


def quirks(folder: Path) -> dict[str, object]:
    """The peculiarities of the real files, as the files in `folder` have them."""
    columns = Columns(**STOCK["columns"])
    raw = series.table(series.read(folder, columns), columns)
    rows = series.repair(raw, columns)
    parts = series.split(rows, columns, DateSplit(**STOCK["split"]))
    train = series.read_rows(folder / "Google_Stock_Price_Train.csv", columns)
    test = series.read_rows(folder / "Google_Stock_Price_Test.csv", columns)
    ratio = (raw["Close"] / raw["Open"])[raw["day_number"] < 16156]
    outside = (rows["Close"] > rows["High"] + 0.011) | (rows["Close"] < rows["Low"] - 0.011)
    paths = sorted(folder.glob("*.csv"))
    lines = [line for path in paths for line in path.read_text().splitlines()[1:]]
    return {
        "rows": [len(train), len(test)],
        "scored": {name: len(scored(part)) for name, part in parts.items()},
        "days": raw["Date"].tolist(),
        "longest gap": raw["gap"].max(),
        "close above high": int((raw["Close"] > raw["High"]).sum()),
        "close by open before the split": round(float(ratio.mean()), 2),
        "repaired": int(rows["repaired"].sum()),
        "close outside after repair": int(outside.sum()),
        "volume below 100,000": int((raw["Volume"] < 100_000).sum()),
        "line ends": [path.read_bytes().count(b"\r\n") for path in paths],
        "last byte": {path.read_bytes()[-1:] for path in paths},
        "quoted": all('"' in line for line in lines),
    }


QUIRKS = {
    "rows": [1258, 20],
    "scored": {"train": 966, "val": 125, "gate": 127, "test": 20},
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
    of_twin = quirks(twin)
    assert {name: of_twin[name] for name in QUIRKS} == QUIRKS


def test_the_twin_has_the_same_bytes_each_time(twin: Path, tmp_path: Path) -> None:
    write_twin(Twin(**STOCK["twin"]), Columns(**STOCK["columns"]), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [file["file"] for file in reversed(FILES)]
    for name in names:
        assert (tmp_path / name).read_bytes() == (twin / name).read_bytes()


def test_the_twin_quotes_a_close_in_thousands(twin: Path) -> None:
    lines = (twin / "Google_Stock_Price_Train.csv").read_text().splitlines()
    assert sum(line.count('"') == 4 for line in lines) > 20


@pytest.mark.skipif(MIRROR is None, reason="needs the real files under SEXTANT_MIRROR")
def test_the_real_files_have_these_quirks_and_the_days_of_the_twin(
    twin: Path, tmp_path: Path
) -> None:
    for entry in STOCK["sources"]["mirror"]:
        (tmp_path / entry["file"]).symlink_to(Path(str(MIRROR)) / entry["path"])
    of_files = quirks(tmp_path)
    assert {name: of_files[name] for name in QUIRKS} == QUIRKS
    assert of_files["days"] == quirks(twin)["days"]
    lines = (tmp_path / "Google_Stock_Price_Train.csv").read_text().splitlines()
    # Close in thousands is quoted, as the volume is.
    assert sum(line.count('"') == 4 for line in lines) == 109


# --- files as people have them ------------------------------------------------------------------

PRICES = ["Open", "High", "Low", "Close"]
PLAIN = {"unadjusted": None, "thousands": None, "date_format": "%Y-%m-%d", "volume": "Volume"}


def plain_columns(**changes: object) -> Columns:
    """The columns of a series that needs no repair, in a file with commas and ISO days."""
    return check(Columns, STOCK["columns"] | {"window": WINDOW} | PLAIN | changes, "columns")


def plain_days() -> pd.DataFrame:
    """40 weekdays with text cells, as a file has them."""
    return _plain_days().copy()


@functools.cache
def _plain_days() -> pd.DataFrame:
    frame = days(40, first="2015-03-02")
    dates = pd.to_datetime(frame["Date"], format="%m/%d/%Y").dt.strftime("%Y-%m-%d")
    return frame.assign(Date=dates).astype(str)


def written(folder: Path, frame: pd.DataFrame, name: str = "t.csv") -> Path:
    frame.to_csv(folder / name, index=False)
    return folder


def prepared(folder: Path, columns: Columns) -> pd.DataFrame:
    """The repaired rows of a folder."""
    return series.repair(series.read(folder, columns), columns).reset_index(drop=True)


@functools.cache
def expected_rows(dropped: int | None = None) -> pd.DataFrame:
    """The repaired rows of `plain_days`, without one of them; tests must not change them."""
    frame = plain_days()
    if dropped is not None:
        frame = frame.drop(dropped)
    return series.repair(frame, plain_columns()).reset_index(drop=True)


def test_the_newest_day_may_stand_first(tmp_path: Path) -> None:
    columns = plain_columns()
    folder = written(tmp_path, plain_days().iloc[::-1])
    pd.testing.assert_frame_equal(prepared(folder, columns), expected_rows())
    raw = series.read(folder, columns)
    assert series.table(raw, columns)["day_number"].is_monotonic_increasing
    assert [finding.unexpected for finding in series.findings(raw, columns)] == [0, 0]


def test_days_in_no_order_are_sorted_with_a_failed_expectation(tmp_path: Path) -> None:
    columns = plain_columns()
    frame = plain_days()
    folder = written(tmp_path, pd.concat([frame[20:], frame[:20]]))
    pd.testing.assert_frame_equal(prepared(folder, columns), expected_rows())
    finding = series.findings(series.read(folder, columns), columns)[1]
    assert (finding.severity, finding.unexpected, finding.examples) == ("warning", 1, ["t.csv"])


def test_years_of_two_digits_are_read_unless_their_century_is_in_doubt(tmp_path: Path) -> None:
    columns = plain_columns(date_format="%d.%m.%y")
    frame = plain_days()
    short = pd.to_datetime(frame["Date"]).dt.strftime("%d.%m.%y")
    folder = written(tmp_path, frame.assign(Date=short))
    pd.testing.assert_frame_equal(prepared(folder, columns), expected_rows())
    old = short.replace({short[0]: "31.12.68", short[1]: "31.12.69"})
    written(folder, frame.assign(Date=old))
    with pytest.raises(DataError, match=r"t.csv has days that go up and down, with years of two"):
        series.read(folder, columns)


def test_a_day_twice_is_refused_or_decided_by_the_conf(tmp_path: Path) -> None:
    frame = plain_days()
    second = frame.iloc[[5]].assign(Volume="1")
    folder = written(tmp_path, pd.concat([frame, second]))
    message = (
        r"t.csv line 42 has '2015-03-09' in `Date` for a second time; .*`repeated` in the conf"
    )
    with pytest.raises(DataError, match=message):
        prepared(folder, plain_columns())
    first = prepared(folder, plain_columns(repeated="first"))
    pd.testing.assert_frame_equal(first, expected_rows())
    last = prepared(folder, plain_columns(repeated="last"))
    assert last["Volume"].tolist()[4:7] == [
        float(frame["Volume"][4]),
        1.0,
        float(frame["Volume"][6]),
    ]
    raw = series.read(folder, plain_columns(repeated="last"))
    assert series.passed_over(raw) == {"rows of a day that has another": 1}


def test_a_day_without_prices_is_left_out_and_counted(tmp_path: Path) -> None:
    frame = plain_days()
    columns = plain_columns(unknown=["null", "NaN"])
    for mark, volume in (("null", "null"), ("", "0"), ("NaN", "null"), ("null", "0")):
        frame.loc[7, PRICES] = mark
        frame.loc[7, "Volume"] = volume
        raw = series.read(written(tmp_path, frame), columns)
        assert series.passed_over(raw) == {"days without prices": 1}, (mark, volume)
        assert len(series.table(raw, columns)) == 39
        rows = series.repair(raw, columns).reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, expected_rows(7))


def test_a_day_with_some_of_its_prices_is_refused_by_its_line(tmp_path: Path) -> None:
    frame = plain_days()
    frame.loc[7, "Open"] = "null"
    folder = written(tmp_path, frame)
    with pytest.raises(DataError, match=r"t.csv line 9 has no `Open`; expected a number"):
        prepared(folder, plain_columns(unknown="null"))
    with pytest.raises(DataError, match=r"t.csv line 9 has 'null' in `Open`; expected a number"):
        prepared(folder, plain_columns())


def test_days_of_zeros_are_refused_or_left_out_by_the_conf(tmp_path: Path) -> None:
    frame = plain_days()
    frame.loc[7, PRICES] = "0.0"
    folder = written(tmp_path, frame)
    with pytest.raises(DataError, match=r"line 9 has 0.0 in `Open`; .*`zeros: leave_out`"):
        prepared(folder, plain_columns())
    columns = plain_columns(zeros="leave_out")
    pd.testing.assert_frame_equal(prepared(folder, columns), expected_rows(7))
    assert series.passed_over(series.read(folder, columns)) == {"days with a price of 0": 1}


def test_the_three_header_rows_of_yfinance_are_passed_over(tmp_path: Path) -> None:
    frame = plain_days().rename(columns={"Date": "Price"})
    lines = frame.to_csv(index=False).splitlines(keepends=True)
    header = [lines[0], "Ticker,XYZ,XYZ,XYZ,XYZ,XYZ\n", "Date,,,,,\n"]
    (tmp_path / "t.csv").write_text("".join([*header, *lines[1:]]))
    message = r"t.csv line 2 has 'Ticker' in `Price`; .*first 2 rows .*`skip_after: 2` in the conf"
    with pytest.raises(DataError, match=message):
        series.read(tmp_path, plain_columns(date="Price"))
    rows = prepared(tmp_path, plain_columns(date="Price", skip_after=2))
    pd.testing.assert_frame_equal(rows.rename(columns={"Price": "Date"}), expected_rows())


ZONED = {
    "west": "{day} 00:00:00-05:00",
    "east": "{day} 00:00:00+09:00",
    "late and west": "{day} 23:30:00-05:00",
    "early and east": "{day} 00:30:00+05:30",
    "UTC": "{day} 00:00:00+00:00",
}


def test_the_day_is_the_one_that_is_written_in_any_time_zone(tmp_path: Path) -> None:
    frame = plain_days()
    formats = ("%Y-%m-%d %H:%M:%S%z", "%Y-%m-%d")
    encoders = [Encoder.fit(expected_rows(), plain_columns(date_format=form)) for form in formats]
    for zone in ZONED.values():
        dates = [zone.format(day=day) for day in frame["Date"]]
        # The clock changes: the offset of later days differs.
        dates[20:] = [day.replace("-05:00", "-04:00") for day in dates[20:]]
        folder = written(tmp_path, frame.assign(Date=dates))
        for encoder in encoders:
            columns = encoder.columns
            pd.testing.assert_frame_equal(prepared(folder, columns), expected_rows(), obj=zone)
        rows = encoder.check(series.read_rows(folder / "t.csv", columns))
        pd.testing.assert_frame_equal(rows, expected_rows(), obj=zone)


def test_the_day_of_a_timestamp_is_that_of_its_own_time_zone() -> None:
    frame = plain_days()
    encoder = Encoder.fit(expected_rows(), plain_columns())
    for zone in ("America/New_York", "Asia/Tokyo", "UTC"):
        stamps = pd.to_datetime(frame["Date"]).dt.tz_localize(zone) + pd.Timedelta(hours=1)
        for dates in (stamps, stamps.astype(object)):
            rows = encoder.check(frame.assign(Date=dates))
            pd.testing.assert_frame_equal(rows, expected_rows(), obj=zone)


@cases.each(
    ("text", "date_format"),
    [
        ("2022-01-03T00:00:00Z", "%Y-%m-%d"),
        ("2022-01-03 16:00", "%Y-%m-%d"),
        ("2022-01-03T09:30:00.000+09:00", "%Y-%m-%d"),
        ("1/3/2022 16:00:00", "%m/%d/%Y"),
        ("1/3/2022 16:00:00", "%m/%d/%Y %H:%M:%S"),
        ("1/3/2022 4:00:00 PM", "%m/%d/%Y"),
        ("1/3/2022, 4:00 PM EST", "%m/%d/%Y"),
        ("2022-01-03 00:00:00-0500", "%Y-%m-%d %H:%M:%S%z"),
        ("2022-01-03 00:00:00 EST", "%Y-%m-%d %H:%M:%S %Z"),
        ("2022-01-03 00:00:00-05:00", "%Y-%m-%d %H:%M:%S"),
        ("2022-01-03+01:00", "%Y-%m-%d"),
        ("3/1/2022", "%d/%m/%Y"),
        ("03.01.22", "%d.%m.%y"),
        ("Jan 03, 2022", "%b %d, %Y"),
        ("20220103", "%Y%m%d"),
        ("1641168000", "unix"),
        ("1641168000.0", "unix"),
        ("1641254399", "unix"),
        ("1641168000000", "unix_ms"),
    ],
)
def test_a_day_is_read_as_it_is_written(text: str, date_format: str) -> None:
    columns = plain_columns(date_format=date_format)
    column = pd.Series([text], name="Date")
    assert series.checked_days(column, columns, iso=False).tolist() == ["2022-01-03"]


@cases.each(
    ("text", "date_format"),
    [
        ("13/1/2022", "%m/%d/%Y"),
        ("2022-01-03", "%m/%d/%Y"),
        ("2022-01-03", "%Y-%m"),
        ("2022-01", "%Y-%m-%d"),
        ("2022-02-30", "%Y-%m-%d"),
        ("1641168000000", "unix"),
        ("1641168000", "unix_ms"),
        ("2022-01-03", "unix"),
        ("0014-03-06", "%Y-%m-%d"),
    ],
)
def test_a_day_in_another_format_is_refused(text: str, date_format: str) -> None:
    columns = plain_columns(date_format=date_format)
    with pytest.raises(DataError, match=f"row 1 has '{text}' in `Date`; expected a day as"):
        series.checked_days(pd.Series([text], name="Date"), columns, iso=False)


@cases.each(
    ("date_format", "message"),
    [
        ("%s", "no directive %s"),
        ("YYYY-MM-DD", "it has no directive"),
        ("%-d/%m/%Y", "no directive %-"),
        ("%d/%m", "it has no year"),
        ("%d/%d/%Y", "it has %d twice"),
        ("%Y-%m-%", "no directive %"),
        ("", "it has no directive"),
    ],
)
def test_a_date_format_that_does_not_exist_is_refused(date_format: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"`date_format` is '{date_format}'; .*{message}"):
        plain_columns(date_format=date_format)


def test_a_month_that_the_conf_takes_for_a_day_is_named(tmp_path: Path) -> None:
    frame = plain_days()
    dates = pd.to_datetime(frame["Date"]).dt.strftime("%d/%m/%Y")
    folder = written(tmp_path, frame.assign(Date=dates))
    message = r"t.csv line 11 has '13/03/2015' in `Date`; .*all rows have a day as %d/%m/%Y"
    with pytest.raises(DataError, match=message):
        series.read(folder, plain_columns(date_format="%m/%d/%Y"))
    pd.testing.assert_frame_equal(
        prepared(folder, plain_columns(date_format="%d/%m/%Y")), expected_rows()
    )


def test_a_row_without_its_day_is_refused_and_an_empty_row_is_counted(tmp_path: Path) -> None:
    lines = plain_days().to_csv(index=False).splitlines()
    lines[5:5] = [",,,,,", " , ,,,,"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n\n")
    columns = plain_columns()
    pd.testing.assert_frame_equal(prepared(tmp_path, columns), expected_rows())
    assert series.passed_over(series.read(tmp_path, columns))["empty rows"] >= 2
    lines[9] = "," + lines[9].partition(",")[2]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"t.csv line 10 has no `Date`; expected a day in each row"):
        series.read(tmp_path, columns)


def several() -> pd.DataFrame:
    """Two series in one table, day by day."""
    frame = plain_days()
    other = frame.assign(Name="MSFT", Close=frame["Open"])
    both = pd.concat([frame.assign(Name="AAPL"), other])
    return both.sort_values("Date", kind="stable")


def test_one_of_several_series_is_chosen_by_the_conf(tmp_path: Path) -> None:
    folder = written(tmp_path, several())
    columns = plain_columns(only={"Name": "AAPL"})
    pd.testing.assert_frame_equal(prepared(folder, columns), expected_rows())
    raw = series.read(folder, columns)
    assert series.passed_over(raw) == {"rows of another `Name`": 40}
    encoder = Encoder.fit(expected_rows(), columns)
    with pytest.warns(UserWarning, match="left out 40 rows of another `Name`"):
        rows = encoder.check(series.read_rows(folder / "t.csv", columns))
    pd.testing.assert_frame_equal(rows, expected_rows())


def test_several_series_are_refused_by_name_and_not_as_days_twice(tmp_path: Path) -> None:
    folder = written(tmp_path, several())
    message = r"2 series in one: `Name` is AAPL, MSFT; choose one .* `only: \{Name: AAPL\}`"
    for repeated in ("refuse", "first"):
        with pytest.raises(DataError, match=message):
            series.read(folder, plain_columns(repeated=repeated))


def test_a_row_without_the_name_of_its_series_is_refused(tmp_path: Path) -> None:
    frame = several()
    frame.iloc[7, frame.columns.get_loc("Name")] = ""
    with pytest.raises(DataError, match="t.csv line 9 has no `Name`; expected the name of a"):
        series.read(written(tmp_path, frame), plain_columns(only={"Name": "AAPL"}))


def test_a_series_that_the_file_lacks_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, several())
    with pytest.raises(DataError, match="no row has `Name` AAPLE.*did you mean `AAPL`"):
        series.read(folder, plain_columns(only={"Name": "AAPLE"}))
    with pytest.raises(DataError, match="t.csv lacks column Ticker"):
        series.read(folder, plain_columns(only={"Ticker": "AAPL"}))


def test_a_download_that_overlaps_is_not_taken_for_another_series(tmp_path: Path) -> None:
    frame = plain_days().assign(Dividends="0.0", Adjusted=lambda f: f["Close"])
    written(tmp_path, frame)
    written(tmp_path, frame[30:], "u.csv")
    with pytest.raises(DataError, match="u.csv line 2 has .* for a second time"):
        prepared(tmp_path, plain_columns())
    assert len(prepared(tmp_path, plain_columns(repeated="first"))) == 40


@pytest.mark.parametrize("factor", [7.0, 1 / 2])
def test_a_split_that_is_not_adjusted_for_is_a_failed_expectation(
    factor: float, tmp_path: Path
) -> None:
    frame = plain_days()
    for name in PRICES:
        changed_prices = (frame[name].astype(float)[20:] / factor).round(4).astype(str)
        frame[name] = pd.concat([frame[name][:20], changed_prices])
    columns = plain_columns()
    finding = series.findings(series.read(written(tmp_path, frame), columns), columns)[0]
    assert finding.severity == "warning"
    assert finding.unexpected == 1
    assert "on 2015-03-30" in finding.examples[0]
    assert "not adjusted for a stock split" in finding.why


def test_a_price_that_the_conf_repairs_is_no_failed_expectation(tmp_path: Path) -> None:
    written(tmp_path, days())
    columns = COLUMNS.model_copy(update={"thousands": None})
    raw = series.read(tmp_path, columns)
    assert series.findings(raw, columns)[0].unexpected == 0
    unnamed = columns.model_copy(update={"unadjusted": None})
    assert series.findings(raw, unnamed)[0].unexpected == 1


def test_an_empty_cell_in_a_column_with_thousands_marks_is_refused_by_its_line(
    tmp_path: Path,
) -> None:
    frame = plain_days()
    frame["Volume"] = [f"{int(volume):,}" for volume in frame["Volume"]]
    columns = plain_columns(thousands=",")
    pd.testing.assert_frame_equal(prepared(written(tmp_path, frame), columns), expected_rows())
    frame.loc[7, "Volume"] = ""
    raw = series.read(written(tmp_path, frame), columns)
    assert series.table(raw, columns)["Volume"].isna().sum() == 1
    with pytest.raises(DataError, match=r"t.csv line 9 has no `Volume`; expected a number; "):
        series.repair(raw, columns)


def test_a_volume_may_have_magnitudes(tmp_path: Path) -> None:
    frame = plain_days()
    volumes = ["955.50K", "1.69M", "0.02B", "984,800", "1,484,800"]
    frame.loc[:4, "Volume"] = volumes
    rows = prepared(written(tmp_path, frame), plain_columns(thousands=","))
    assert rows["Volume"].tolist()[:5] == [955_500, 1_690_000, 20_000_000, 984_800, 1_484_800]


def test_surplus_columns_are_passed_over_in_questions_as_in_training(tmp_path: Path) -> None:
    columns = plain_columns()
    frame = plain_days().assign(Dividends="0.0")
    frame["Unnamed: 7"] = ""
    encoder = Encoder.fit(expected_rows(), columns)
    with pytest.warns(UserWarning, match="passed over: Dividends"):
        rows = encoder.check(series.read_rows(written(tmp_path, frame) / "t.csv", columns))
    pd.testing.assert_frame_equal(rows, expected_rows())


def test_input_rows_are_arranged_as_those_of_training() -> None:
    """Numbers of rows are those that the caller sent."""
    frame = plain_days()
    encoder = Encoder.fit(expected_rows(), plain_columns(unknown="null", repeated="last"))
    frame.loc[3, [*PRICES, "Volume"]] = "null"
    twice = pd.concat([frame, frame.tail(1)]).iloc[::-1]
    with pytest.warns(UserWarning, match="left out 1 (days without prices|rows of a day)"):
        rows = encoder.check(twice)
    pd.testing.assert_frame_equal(rows, expected_rows(3))
    bad = frame.drop(3).iloc[::-1].reset_index(drop=True)
    bad.loc[4, "Open"] = "-1"
    with pytest.raises(DataError, match="row 5 has -1.0 in `Open`"):
        encoder.check(bad)


def test_an_empty_input_row_is_passed_over() -> None:
    encoder = Encoder.fit(expected_rows(), plain_columns())
    empty = pd.DataFrame([[None] * 6], columns=COLUMNS.upstream)
    frame = pd.concat([plain_days().astype(object), empty], ignore_index=True)
    with pytest.warns(UserWarning, match="left out 1 empty rows"):
        pd.testing.assert_frame_equal(encoder.check(frame), expected_rows())
    frame.loc[40, "Open"] = "3"
    with pytest.raises(DataError, match="row 41 has no `Date`"):
        encoder.check(frame)


def test_a_workbook_is_read_like_text(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    frame = plain_days()
    typed = frame.assign(Date=pd.to_datetime(frame["Date"]))
    for name in COLUMNS.numbers:
        typed[name] = typed[name].astype(float)
    typed.to_excel(tmp_path / "t.xlsx", index=False, sheet_name="Prices")
    pd.testing.assert_frame_equal(prepared(tmp_path, plain_columns()), expected_rows())


def test_what_has_one_sensible_default_may_be_left_out() -> None:
    block = {"date": "Day", "target": "Price", "base": "Price", "prices": ["Price"]}
    columns = check(Columns, block | {"unit": "GBP", "window": 20}, "columns")
    assert (columns.delimiter, columns.date_format, columns.high) == (",", "%Y-%m-%d", None)
    assert columns.model_dump(exclude_unset=True) == block | {"unit": "GBP", "window": 20}


def test_the_bounds_of_decimal_commas_are_numbers_too(tmp_path: Path) -> None:
    frame = plain_days()
    for name in PRICES:
        frame[name] = [price.replace(".", ",") for price in frame[name]]
    frame.to_csv(tmp_path / "t.csv", index=False, sep=";")
    rows = prepared(tmp_path, plain_columns(delimiter=";", decimal=","))
    pd.testing.assert_frame_equal(rows, expected_rows())
