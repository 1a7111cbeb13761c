"""Suites are checked without Great Expectations; a damage to the data breaks each expectation."""

import functools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pandas as pd
import pytest
from conftest import dump_yaml, load_yaml
from listed import DATASETS
from twins import raw

from sextant import config, plugins, validate
from sextant.errors import DataError, UsageError
from sextant.files import RECEIPT, folder_digest, write_json
from sextant.validate import Result

ROOT = Path(__file__).parents[1]
SUITES = {
    path.stem: load_yaml(path.read_text())
    for path in sorted((ROOT / "conf/expectations").glob("*.yaml"))
}
LISTED = [name for name in DATASETS if name in SUITES]
# Read at import, because a fixture removes it from the environment of each test.
MIRROR = Path(os.environ.get("SEXTANT_MIRROR") or "/nowhere")

Entry = dict[str, Any]
Frame = Any  # a DataFrame: the stubs of pandas do not accept a variable as the name of a column


# --- one damage for each expectation ------------------------------------------------------------
# Each takes a table that meets an entry of a suite and returns one that just does not.


def _spoil(table: Frame, entry: Entry, value: object, bad: Any, column: str = "column") -> Frame:
    """Put `value` into one row more than `mostly` allows; rows that are already `bad` count."""
    name = entry[column]
    checked = pd.Series(True, table.index)
    if "row_condition" in entry:
        checked = pd.Series(
            table.index.isin(table.query(entry["row_condition"]).index), table.index
        )
    allowed = math.floor((1 - entry.get("mostly", 1)) * checked.sum() + 1e-9)
    spoiled = table.index[checked & ~bad][: allowed + 1 - (checked & bad).sum()]
    return table.assign(**{name: table[name].mask(table.index.isin(spoiled), value)})


def _beyond(entry: Entry) -> Any:
    """A number just outside the bounds."""
    if "max_value" in entry:
        return entry["max_value"] + 1
    return entry["min_value"] - 1


def _fill(table: Frame, entry: Entry, value: object) -> Frame:
    return table.assign(**{entry["column"]: value})


def _fill_beyond(table: Frame, entry: Entry) -> Frame:
    return _fill(table, entry, _beyond(entry))


def _outside(table: Frame, entry: Entry) -> Frame:
    """A value outside the set; if possible one from the column, so that its type stays."""
    x = table[entry["column"]]
    values = entry["value_set"]
    is_outside = x.notna() & ~x.isin(values)
    if is_outside.any():
        value = x[is_outside].iloc[0]
    elif isinstance(values[0], str):
        value = "elsewhere"
    else:
        value = max(values) + 1
    return _spoil(table, entry, value, is_outside)


def _inside(table: Frame, entry: Entry) -> Frame:
    values = entry["value_set"]
    return _spoil(table, entry, values[0], table[entry["column"]].isin(values))


def _without(table: Frame, entry: Entry) -> Frame:
    """Replace the first value of the set by another value everywhere."""
    x = table[entry["column"]]
    removed = entry["value_set"][0]
    return _fill(table, entry, x.mask(x == removed, x[x != removed].iloc[0]))


def _raise_mean(table: Frame, entry: Entry) -> Frame:
    """Set the smallest values to the maximum until the mean is just above its bound.

    Where no value is above it, every row gets one that is.
    """
    checked = table.query(entry["row_condition"]) if "row_condition" in entry else table
    x = checked[entry["column"]].sort_values()
    if x.max() <= entry["max_value"]:
        return _fill_beyond(table, entry)
    allowed = (entry["max_value"] - x.mean()) * len(x)
    count = int(((x.max() - x).cumsum() <= allowed).sum()) + 1
    raised = table.index.isin(x.index[:count])
    return _fill(table, entry, table[entry["column"]].mask(raised, x.max()))


def _raise_maximum(table: Frame, entry: Entry) -> Frame:
    x = table[entry["column"]]
    return _fill(table, entry, x.mask(x == x.max(), _beyond(entry)))


def _other_type(table: Frame, entry: Entry) -> Frame:
    first = entry.get("type_") or entry["type_list"][0]
    other = {"int64": "float64", "float64": "float32", "str": "category"}[first]
    return _fill(table, entry, table[entry["column"]].astype(other))


def _text_that(table: Frame, entry: Entry, matches: bool) -> Frame:
    """Put a text that matches the regular expression, or one that does not."""

    def is_bad(text: str) -> bool:
        return (re.search(entry["regex"], text) is not None) is matches

    candidates = ("?", "!", "x", "0", "-", "é", " ", "", "Ã©")
    text = next(text for text in candidates if is_bad(text))
    return _spoil(table, entry, text, table[entry["column"]].map(is_bad))


def _repeat(table: Frame, entry: Entry) -> Frame:
    """Copy the first row's values to the second row."""
    names = entry.get("column_list") or [entry["column"]]
    second = table.index == table.index[1]
    return table.assign(**{name: table[name].mask(second, table[name].iloc[0]) for name in names})


def _row_count(table: Frame, entry: Entry) -> Frame:
    """Keep too few rows, evenly spaced, so that shares of values stay as they are."""
    checked = table.query(entry["row_condition"]) if "row_condition" in entry else table
    places = np.linspace(0, len(checked) - 1, entry["min_value"] - 1).round().astype(int)
    return table.drop(checked.index.difference(checked.index[places]))


def _between(table: Frame, entry: Entry) -> Frame:
    x = table[entry["column"]]
    low = entry.get("min_value", -math.inf)
    high = entry.get("max_value", math.inf)
    return _spoil(table, entry, _beyond(entry), ~x.between(low, high) & x.notna())


def _length(table: Frame, entry: Entry) -> Frame:
    return _spoil(table, entry, "x" * _beyond(entry), pd.Series(False, table.index))


def _missing(table: Frame, entry: Entry) -> Frame:
    return _spoil(table, entry, math.nan, table[entry["column"]].isna())


def _not_greater(table: Frame, entry: Entry) -> Frame:
    a = table[entry["column_A"]]
    b = table[entry["column_B"]]
    return _spoil(table, entry, b.min() - 1, a < b, "column_A")


def _last_below_first(table: Frame, entry: Entry) -> Frame:
    x = table[entry["column"]]
    return _fill(table, entry, x.mask(table.index == table.index[-1], x.iloc[0] - 1))


DAMAGE: dict[str, Callable[[Frame, Entry], Frame]] = {
    "expect_column_distinct_values_to_be_in_set": _outside,
    "expect_column_distinct_values_to_contain_set": _without,
    "expect_column_distinct_values_to_equal_set": _outside,
    "expect_column_max_to_be_between": _raise_maximum,
    "expect_column_mean_to_be_between": _raise_mean,
    "expect_column_median_to_be_between": _fill_beyond,
    "expect_column_min_to_be_between": _fill_beyond,
    "expect_column_pair_values_a_to_be_greater_than_b": _not_greater,
    "expect_column_stdev_to_be_between": lambda table, entry: _fill(table, entry, 0),
    "expect_column_unique_value_count_to_be_between": lambda table, entry: _fill(table, entry, 0),
    "expect_column_value_lengths_to_be_between": _length,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _outside,
    "expect_column_values_to_be_in_type_list": _other_type,
    "expect_column_values_to_be_increasing": _last_below_first,
    "expect_column_values_to_be_of_type": _other_type,
    "expect_column_values_to_be_unique": _repeat,
    "expect_column_values_to_match_regex": lambda table, entry: _text_that(table, entry, False),
    "expect_column_values_to_not_be_in_set": _inside,
    "expect_column_values_to_not_be_null": _missing,
    "expect_column_values_to_not_match_regex": lambda table, entry: _text_that(table, entry, True),
    "expect_compound_columns_to_be_unique": _repeat,
    "expect_table_columns_to_match_ordered_list": lambda table, entry: table[table.columns[::-1]],
    "expect_table_columns_to_match_set": lambda table, entry: table.assign(surplus=0),
    "expect_table_row_count_to_be_between": _row_count,
}

TABLE = pd.DataFrame(
    {"key": range(13), "share": [n / 13 for n in range(13)], "word": list("abcdefghijkaa")}
)
COUNT: Entry = {"expectation": "expect_table_row_count_to_be_between", "min_value": 13}
# One example of each expectation that TABLE meets: its arguments, as YAML.
EXAMPLES: dict[str, str] = {
    "expect_column_distinct_values_to_be_in_set": (
        "{column: word, value_set: [a, b, c, d, e, f, g, h, i, j, k, l]}"
    ),
    "expect_column_distinct_values_to_contain_set": "{column: word, value_set: [a, b]}",
    "expect_column_distinct_values_to_equal_set": (
        "{column: word, value_set: [a, b, c, d, e, f, g, h, i, j, k]}"
    ),
    "expect_column_max_to_be_between": "{column: key, min_value: 12, max_value: 12}",
    "expect_column_mean_to_be_between": "{column: key, min_value: 5, max_value: 7}",
    "expect_column_median_to_be_between": "{column: key, min_value: 6}",
    "expect_column_min_to_be_between": "{column: key, max_value: 0}",
    "expect_column_pair_values_a_to_be_greater_than_b": (
        "{column_A: key, column_B: share, or_equal: true}"
    ),
    "expect_column_stdev_to_be_between": "{column: share, min_value: 0.1, max_value: 1}",
    "expect_column_unique_value_count_to_be_between": "{column: key, min_value: 2}",
    "expect_column_value_lengths_to_be_between": "{column: word, min_value: 1, max_value: 1}",
    "expect_column_values_to_be_between": (
        "{column: share, min_value: 0, max_value: 1, strict_max: true}"
    ),
    "expect_column_values_to_be_in_set": "{column: word, value_set: [a], mostly: 0.2}",
    "expect_column_values_to_be_in_type_list": "{column: key, type_list: [int64, int32]}",
    "expect_column_values_to_be_increasing": "{column: key, strictly: true}",
    "expect_column_values_to_be_of_type": "{column: word, type_: str}",
    "expect_column_values_to_be_unique": "{column: key}",
    "expect_column_values_to_match_regex": "{column: word, regex: '^[a-k]$'}",
    "expect_column_values_to_not_be_in_set": (
        "{column: word, value_set: [a], row_condition: key > 0 and key < 11}"
    ),
    "expect_column_values_to_not_be_null": "{column: share, mostly: 0.9}",
    "expect_column_values_to_not_match_regex": "{column: word, regex: '[?]'}",
    "expect_compound_columns_to_be_unique": "{column_list: [key, word]}",
    "expect_table_columns_to_match_ordered_list": "{column_list: [key, share, word]}",
    "expect_table_columns_to_match_set": "{column_set: [word, key, share], exact_match: true}",
    "expect_table_row_count_to_be_between": "{min_value: 13, max_value: 13}",
}


def _suite(*entries: Entry) -> list[Any]:
    """A row count and `entries`, each with a severity and a reason."""
    return [{"severity": "critical", "why": "a test", **entry} for entry in (COUNT, *entries)]


def _example(kind: str) -> Entry:
    return {"expectation": kind, **load_yaml(EXAMPLES[kind])}


def _failed(results: list[Result]) -> list[int]:
    return [number for number, result in enumerate(results) if not result["success"]]


def test_suites_are_discovered() -> None:
    assert SUITES and LISTED


def test_every_expectation_of_every_suite_has_a_damage() -> None:
    used = {entry["expectation"] for suite in SUITES.values() for entry in suite}
    assert used and used <= set(DAMAGE)


def test_every_supported_expectation_has_a_damage_and_an_example() -> None:
    assert set(validate.EXPECTATIONS) == set(DAMAGE) == set(EXAMPLES)


@pytest.mark.slow
@cases.each("kind", validate.EXPECTATIONS)
def test_the_arguments_are_those_of_great_expectations(kind: str) -> None:
    from great_expectations import expectations

    fields = vars(expectations)[validate.class_name(kind)].__fields__
    arguments = validate.EXPECTATIONS[kind].split()
    required = {argument for argument in arguments if not argument.endswith("?")}
    assert {argument.removesuffix("?") for argument in arguments} <= set(fields)
    assert {name for name, field in fields.items() if field.required} <= required


@pytest.mark.slow
def test_an_expectation_passes_and_fails_after_its_damage() -> None:
    """Great Expectations takes a third of a second for a suite, so that suites are few."""
    suite = _suite(*map(_example, EXAMPLES))
    assert _failed(validate.validate(TABLE, suite)) == []
    for batch in _batches(suite):
        broken = _failed(validate.validate(_damaged(TABLE, suite, batch), suite))
        assert set(batch) <= set(broken), [suite[number] for number in batch]


# --- the suites of conf/, on the twins ----------------------------------------------------------


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Frame]:
    """The table of every listed twin, as its expectations read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        confs = {name: config.dataset(name, shelf=True) for name in LISTED}
    tables = {}
    for name, conf in confs.items():
        if conf.twin:
            table = _table(conf, raw(name, tmp_path_factory))
            tables[name], _ = validate.as_asked(table, SUITES[name])
    return tables


def _table(conf: config.DatasetConf, folder: Path) -> Frame:
    rows = plugins.kind(conf.kind).rows
    return rows.table(rows.read(folder, conf.columns), conf.columns)


@pytest.fixture(scope="module")
def results(twins: dict[str, Frame]) -> Callable[[str], list[Result]]:
    """What the suite of a twin finds in it; two tests share it."""
    return functools.cache(lambda name: validate.validate(twins[name], SUITES[name]))


@pytest.fixture(scope="module")
def relaxed(
    twins: dict[str, Frame], results: Callable[[str], list[Result]]
) -> Callable[[str], list[Entry]]:
    """The suite of a twin, relaxed where it fails, so that a damage has something left to break."""

    def make(name: str) -> list[Entry]:
        _, suite = validate.as_asked(twins[name], SUITES[name])
        return _relaxed(suite, twins[name], results(name))

    return make


def _relaxed(suite: list[Any], table: Frame, results: list[Result]) -> list[Entry]:
    entries = []
    for entry, result in zip(suite, results, strict=True):
        if result["success"]:
            entries.append(entry)
        else:
            assert isinstance(result["observed"], float)
            entries.append(entry | {"mostly": result["observed"] - 1.5 / len(table)})
    return entries


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_a_twin_is_accepted(
    name: str, twins: dict[str, Frame], results: Callable[[str], list[Result]]
) -> None:
    if name not in twins:
        pytest.skip(f"{name} has no twin")
    assert validate.refusal(name, results(name)) is None


def _batches(suite: list[Any]) -> list[list[int]]:
    """The entries of a suite, by their numbers, in batches without a column in common.

    An entry about the whole table is alone in its batch.
    """
    batches: list[list[int]] = []
    columns: list[set[str]] = []  # of each batch
    for number, entry in enumerate(suite):
        own = set(validate._columns(entry))
        for batch, taken in zip(batches, columns, strict=True):
            if own and taken and not own & taken:
                batch.append(number)
                taken |= own
                break
        else:
            batches.append([number])
            columns.append(own)
    return batches


def _damaged(table: Frame, suite: list[Any], batch: list[int]) -> Frame:
    """The table with the damages of these entries, one after the other."""
    for number in batch:
        table = DAMAGE[suite[number]["expectation"]](table, suite[number])
    return table


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_a_damage_breaks_its_expectation_and_none_of_another_column(
    name: str, twins: dict[str, Frame], relaxed: Callable[[str], list[Any]]
) -> None:
    """Every entry breaks; of each kind, at least one of them breaks nothing of another kind."""
    if name not in twins:
        pytest.skip(f"{name} has no twin")
    suite = relaxed(name)
    kinds = {entry["expectation"] for entry in suite}
    broke_only_their_kind = set()
    for batch in _batches(suite):
        table = _damaged(twins[name], suite, batch)
        broken = set(_failed(validate.validate(table, suite)))
        explained = set()
        for number in batch:
            entry = suite[number]
            assert number in broken, entry
            columns = set(validate._columns(entry))
            near = {n for n in broken if columns & set(validate._columns(suite[n]))} | {number}
            if {suite[n]["expectation"] for n in near} == {entry["expectation"]}:
                broke_only_their_kind.add(entry["expectation"])
            explained |= near
        assert broken == explained, [suite[number] for number in broken - explained]
    assert broke_only_their_kind == kinds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["churn", "cats_dogs", "google_stock", "movielens_100k"])
def test_an_empty_table_is_refused(name: str, twins: dict[str, Frame]) -> None:
    """One data set of each kind; `check_suite` refuses a suite that accepts an empty table."""
    reason = validate.refusal(name, validate.validate(twins[name].head(0), SUITES[name]))
    assert reason and "expect_table_row_count_to_be_between" in reason and "observed 0" in reason


# What the real files are known to fail: severity, column, rows.
QUIRKS = {
    "cats_dogs": {("warning", "sha256", 2), ("warning", "lookalike", 14)},
    "churn": {("warning", "EstimatedSalary", 59), ("info", "Surname", 92)},
    "google_stock": {("warning", "High", 560), ("warning", "Volume", 4), ("info", "gap", 1)},
    "credit_applications": set(),
    "movielens_100k": {("info", "title", 9)},
    "galaxies": {("info", "r-i", 1), ("info", "i-z", 1)},
    "plant": {("info", "AT", 82)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_the_real_table_is_accepted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not MIRROR.is_dir():
        pytest.skip("SEXTANT_MIRROR names no folder with the real data")
    monkeypatch.chdir(ROOT)
    conf = config.dataset(name, shelf=True)
    for entry in conf.sources.get("mirror", []):
        (tmp_path / entry["file"]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / entry["file"]).symlink_to(MIRROR / entry["path"])
    results = validate.validate(_table(conf, tmp_path), SUITES[name])
    assert validate.refusal(name, results) is None
    failed = set()
    for entry, result in zip(SUITES[name], results, strict=True):
        if not result["success"]:
            failed.add((result["severity"], validate._columns(entry)[0], result["unexpected"]))
    if name in QUIRKS:
        assert failed == QUIRKS[name]


# --- what a result says -------------------------------------------------------------------------


@pytest.mark.slow
def test_results_are_in_the_order_of_the_suite_with_what_was_observed() -> None:
    """Great Expectations returns them in another order, those that it cannot compute first."""
    share_below_half: Entry = {
        "expectation": "expect_column_values_to_be_between",
        "column": "share",
        "max_value": 0.5,
    }
    mean: Entry = {
        "expectation": "expect_column_mean_to_be_between",
        "column": "share",
        "min_value": 1,
    }
    not_a_number: Entry = {
        "expectation": "expect_column_values_to_be_between",
        "column": "word",
        "min_value": 1,
    }
    keys: Entry = {
        "expectation": "expect_column_distinct_values_to_equal_set",
        "column": "key",
        "value_set": [*range(12), 99],
    }
    columns: Entry = {
        "expectation": "expect_table_columns_to_match_set",
        "column_set": ["key", "share", "wort"],
    }
    no_row: Entry = {
        "expectation": "expect_column_values_to_be_in_set",
        "column": "key",
        "value_set": [1],
        "row_condition": "key > 99",
    }
    entries = [share_below_half, mean, not_a_number, keys, columns, no_row]
    results = validate.validate(TABLE, _suite(*entries))[1:]
    assert [r["expectation"] for r in results] == [entry["expectation"] for entry in entries]
    assert [result["success"] for result in results] == [False, False, False, False, False, True]
    assert [result["unexpected"] for result in results] == [6, None, None, 2, 2, 0]
    observed = [result["observed"] for result in results]
    assert observed[0] == 0.538461538  # 7 of 13, with 9 digits
    assert observed[1] == 0.461538462
    assert str(observed[2]).startswith("cannot be computed: ")
    assert observed[3] == {"unexpected": [12], "missing": [99]}
    assert observed[4] == {"unexpected": ["word"], "missing": ["wort"]}
    assert observed[5] == 1.0
    assert results[0]["message"].startswith("6 of 13 rows are unexpected, such as 0.538461538, ")
    assert results[3]["message"] == "unexpected 12; missing 99"


@pytest.mark.slow
def test_text_in_a_column_of_numbers_is_named_by_its_type() -> None:
    table = TABLE.assign(key=TABLE["key"].astype(str).mask(TABLE["key"] == 7, "seven"))
    suite = _suite(
        {"expectation": "expect_column_values_to_be_of_type", "column": "key", "type_": "int64"},
        {"expectation": "expect_column_values_to_be_between", "column": "key", "min_value": 0},
    )
    reason = validate.refusal("numbers", validate.validate(table, suite))
    assert reason is not None
    expected = "2 of 3 critical expectations failed, first expect_column_values_to_be_of_type"
    assert expected in reason
    assert "type_='int64'): observed 'str'" in reason


@pytest.mark.slow
def test_a_column_that_the_table_lacks_is_refused() -> None:
    suite = _suite({"expectation": "expect_column_values_to_be_unique", "column": "kay"})
    with pytest.raises(UsageError, match=r"entry 2 .*no column `kay`; did you mean `key`\?"):
        validate.validate(TABLE, suite)


def _result(severity: validate.Severity, success: bool) -> Result:
    return {
        "expectation": "expect_column_values_to_be_unique",
        "kwargs": {"column": "key"},
        "severity": severity,
        "success": success,
        "unexpected": 2,
        "observed": 0.8,
        "why": "once each",
        "message": "2 of 10 rows are unexpected, such as 7",
    }


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_a_warning_does_not_stop_the_run(severity: validate.Severity) -> None:
    results = [_result("critical", True), _result(severity, False)]
    assert validate.refusal("keys", results) is None
    assert validate.summary("keys", "mirror", 10, "0", results)["success"] is True
    (line,) = validate.remarks("keys", results)
    expected = f"keys {severity}: expect_column_values_to_be_unique(column='key'): 2 of 10 rows"
    assert line.startswith(expected)


def test_a_critical_failure_stops_the_run_and_says_what_to_do() -> None:
    results = [_result("warning", False), _result("critical", True), _result("critical", False)]
    reason = validate.refusal("keys", results)
    assert reason is not None and "\n" not in reason
    expected = "keys: 1 of 2 critical expectations failed, first expect_column_values_to_be_unique("
    assert reason.startswith(expected)
    for part in ("such as 7", "make pull DATASET=keys", "conf/expectations/keys.yaml"):
        assert part in reason


def test_the_summary_counts_and_has_no_value_of_a_row() -> None:
    results = [
        _result("critical", True),
        _result("critical", False),
        _result("warning", False),
        _result("info", True),
    ]
    report = validate.summary("keys", "mirror", 10, "0", results)
    assert report["success"] is False
    assert report["counts"] == {"passed": 2, "critical": 1, "warning": 1, "info": 0}
    assert "such as" not in json.dumps(report)


# --- faults in a suite --------------------------------------------------------------------------

UNIQUE: Entry = {"expectation": "expect_column_values_to_be_unique", "column": "key"}
BETWEEN: Entry = {"expectation": "expect_column_values_to_be_between", "column": "key"}
IN_SET: Entry = {"expectation": "expect_column_values_to_be_in_set", "column": "key"}

FAULTS: list[tuple[dict[Any, Any], str]] = [
    (
        UNIQUE | {"expectation": "expect_column_values_to_be_unik"},
        "did you mean `expect_column_values_to_be_unique`",
    ),
    (
        UNIQUE | {"expectation": "strawberry"},
        "unknown expectation `strawberry`; expected one of: expect_column",
    ),
    (UNIQUE | {"expectation": ["list"]}, "unknown expectation"),
    ({"column": "key"}, "unknown expectation `None`"),
    (UNIQUE | {"colum": "key"}, "unknown key `colum`; did you mean `column`"),
    (
        UNIQUE | {"value_set": [1]},
        "unknown key `value_set`; expected one of: .*severity, why, column, mostly",
    ),
    (UNIQUE | {7: "x"}, "7"),
    (UNIQUE | {"id": "x"}, "unknown key `id`"),
    (UNIQUE | {"severity": "fatal"}, "`severity` is 'fatal'; .*'critical', 'warning' or 'info'"),
    (UNIQUE | {"why": ""}, "`why` is ''"),
    (UNIQUE | {"column": 3}, "`column` is 3; .*string"),
    (UNIQUE | {"mostly": 1.2}, "`mostly` is 1.2; .*less than or equal to 1"),
    (UNIQUE | {"mostly": 0}, "`mostly` is 0; .*greater than 0"),
    (UNIQUE | {"row_condition": "key >"}, "`row_condition` .*expected comparisons"),
    (UNIQUE | {"row_condition": "key.sum() > 1"}, "`row_condition` .*expected comparisons"),
    (UNIQUE | {"row_condition": "@secret == 1"}, "`row_condition` .*expected comparisons"),
    (UNIQUE | {"row_condition": "kay > 1"}, "no column `kay`; did you mean `key`"),
    (COUNT | {"row_condition": "kay > 1"}, "no column `kay`; did you mean `key`"),
    (UNIQUE | {"column": "cats"}, "no column `cats`; expected one of: key, share, word"),
    (BETWEEN, "`min_value` and `max_value` are missing; add one or both"),
    (BETWEEN | {"min_value": 2, "max_value": 1}, "`min_value` 2 is above `max_value` 1; swap them"),
    (BETWEEN | {"min_value": "two"}, "`min_value` is 'two'; .*number"),
    (BETWEEN | {"min_value": math.nan}, "`min_value` is nan; .*finite"),
    (BETWEEN | {"min_value": True}, "`min_value` is True"),
    (IN_SET, "key `value_set` is missing"),
    (IN_SET | {"value_set": []}, "`value_set` is .*1 or more entries"),
    (IN_SET | {"value_set": [None]}, "`value_set.0` is None; .*text or a finite number"),
    (IN_SET | {"value_set": "abc"}, "`value_set` is 'abc'; .*list"),
    (
        {"expectation": "expect_compound_columns_to_be_unique", "column_list": ["key", "key"]},
        "`column_list` has one column; expected two or more",
    ),
    (
        {"expectation": "expect_column_values_to_match_regex", "column": "word", "regex": "("},
        "regular expression",
    ),
]


@cases.each(("entry", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_fault_in_a_suite_is_named(entry: Entry, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        validate.check_suite(_suite(entry), "conf/expectations/keys.yaml", TABLE.columns.tolist())
    assert "conf/expectations/keys.yaml entry 2" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_columns_whose_names_differ_only_by_case_are_refused() -> None:
    suite = _suite({"expectation": "expect_column_values_to_not_be_null", "column": "age"})
    validate.check_suite(suite, "conf/expectations/people.yaml", ["age", "ages"])
    with pytest.raises(
        UsageError, match="cannot distinguish the columns `Age` and `age`.* rename one in the file"
    ):
        validate.check_suite(suite, "conf/expectations/people.yaml", ["Age", "name", "age"])


@pytest.mark.parametrize("lacking", ["why", "severity"])
def test_an_entry_needs_a_reason_and_a_severity(lacking: str) -> None:
    suite = _suite(UNIQUE)
    del suite[1][lacking]
    with pytest.raises(UsageError, match=f"key `{lacking}` is missing"):
        validate.check_suite(suite)


@cases.each(
    "suite", [None, {}, "text", ["expect_column_values_to_be_unique"], {"expectation": "x"}]
)
def test_a_suite_is_a_list(suite: object) -> None:
    with pytest.raises(UsageError, match="is not a list of expectations"):
        validate.check_suite(suite)


@pytest.mark.parametrize("change", [{"min_value": 0}, {"severity": "warning"}, None])
def test_a_suite_that_accepts_an_empty_table_is_refused(change: Entry | None) -> None:
    suite = _suite(UNIQUE)
    count = [] if change is None else [suite[0] | change]
    with pytest.raises(UsageError, match="accepts an empty table; add a critical expect_table_row"):
        validate.check_suite([*count, suite[1]])


@cases.each("name", SUITES)
def test_the_suites_of_conf_pass_the_check(name: str) -> None:
    validate.check_suite(SUITES[name], name)


def test_a_suite_is_checked_without_great_expectations() -> None:
    code = (
        "import json, sys; from sextant import validate;"
        " validate.check_suite(json.load(sys.stdin));"
        " sys.exit('great_expectations' in sys.modules)"
    )
    text = json.dumps(next(iter(SUITES.values())))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True, env=environment)


# --- the stage ----------------------------------------------------------------------------------

NAME = LISTED[0]


@pytest.fixture
def pulled(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the twin of the first data set, as pull writes it."""
    folder = workspace / "data/raw" / NAME
    shutil.copytree(raw(NAME, tmp_path_factory), folder)
    write_json(folder / "source.json", {"source": "embedded", "files": {}})
    return workspace


def _expect_more_rows(pulled: Path, severity: str) -> None:
    """Add a row count that no twin has to the suite."""
    path = pulled / f"conf/expectations/{NAME}.yaml"
    count = COUNT | {"min_value": 10**9, "severity": severity, "why": "a test"}
    path.write_text(dump_yaml([*load_yaml(path.read_text()), count]))


@pytest.mark.slow
def test_by_hand_it_writes_only_below_scratch(
    pulled: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(pulled.iterdir())
    validate.main([f"dataset={NAME}"])
    assert set(pulled.iterdir()) - before == {pulled / ".scratch"}
    report = json.loads((pulled / f".scratch/validation/{NAME}.json").read_text())
    assert list(report) == "dataset source success rows digest counts expectations".split()
    assert report["success"] and report["source"] == "embedded" and len(report["digest"]) == 64
    keys = "expectation kwargs severity success unexpected observed why".split()
    assert list(report["expectations"][0]) == keys
    assert (pulled / f".scratch/data_docs/{NAME}/index.html").is_file()
    out, err = capfd.readouterr()
    failed = report["counts"]["warning"] + report["counts"]["info"]
    assert out.count("\n") == 1 and err.count("\n") == failed


@pytest.mark.slow
def test_the_report_is_the_same_bytes_in_two_processes(
    pulled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with another order of sets, and with a home folder that does not exist."""
    path = pulled / f"reports/validation/{NAME}.json"
    monkeypatch.setenv("DVC_STAGE", "validate")
    validate.main([f"dataset={NAME}"])
    report = path.read_bytes()
    path.unlink()
    seed = {"PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HOME": "/nowhere"} | seed
    command = [sys.executable, "-m", "sextant", "validate", f"dataset={NAME}"]
    subprocess.run(command, check=True, env=environment, cwd=pulled)
    assert path.read_bytes() == report
    assert str(pulled).encode() not in report


@pytest.mark.slow
def test_a_refusal_leaves_the_last_report_as_it_was(
    pulled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "validate")
    monkeypatch.setenv("DVC_ROOT", str(pulled / "root"))
    validate.main([f"dataset={NAME}"])
    accepted = (pulled / f"reports/validation/{NAME}.json").read_bytes()
    _expect_more_rows(pulled, "critical")
    message = (
        rf"{NAME}: 1 of .*observed .*all results are in .*root/.scratch/validation/{NAME}.json"
    )
    with pytest.raises(DataError, match=message):
        validate.main([f"dataset={NAME}"])
    assert (pulled / f"reports/validation/{NAME}.json").read_bytes() == accepted
    refused = json.loads((pulled / f"root/.scratch/validation/{NAME}.json").read_text())
    assert refused["success"] is False and refused["counts"]["critical"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("severity", ["warning", "info"])
def test_the_stage_continues_after_a_warning(
    pulled: Path, severity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _expect_more_rows(pulled, severity)
    validate.main([f"dataset={NAME}"])
    expected = f"{NAME} {severity}: expect_table_row_count_to_be_between(min_value=1000000000): "
    assert expected in capsys.readouterr().err


@pytest.mark.slow
def test_a_failure_of_data_docs_is_one_line(
    pulled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pulled / ".scratch").mkdir()
    (pulled / ".scratch/data_docs").write_text("in the way")
    validate.main([f"dataset={NAME}"])
    assert f"{NAME}: Data Docs were not written: " in capsys.readouterr().err
    assert (pulled / f".scratch/validation/{NAME}.json").is_file()


def test_data_that_were_not_pulled_are_refused(workspace: Path) -> None:
    with pytest.raises(
        DataError, match=rf"data/raw/{NAME} has no source.json; `make pull DATASET={NAME}`"
    ):
        validate.main([f"dataset={NAME}"])


def test_the_digest_depends_on_names_and_bytes_and_not_on_the_source(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    digests = [folder_digest(tmp_path, without=RECEIPT)]
    write_json(tmp_path / "source.json", {"source": "mirror"})
    digests.append(folder_digest(tmp_path, without=RECEIPT))
    (tmp_path / "rows.csv").write_text("a,c\n")
    digests.append(folder_digest(tmp_path, without=RECEIPT))
    (tmp_path / "rows.csv").rename(tmp_path / "lines.csv")
    digests.append(folder_digest(tmp_path, without=RECEIPT))
    assert digests[0] == digests[1] and len(set(digests)) == 3


# --- text columns as an expectation reads them --------------------------------------------------


def entry_of(expectation: str, **arguments: object) -> Any:
    return {"expectation": expectation, "severity": "critical", "why": "a test", **arguments}


ROWS = entry_of("expect_table_row_count_to_be_between", min_value=1)


# In one suite: none of these entries changes how another one reads its column.
COMPARED = [
    (entry_of("expect_column_values_to_be_in_set", column="code", value_set=[1, 2]), True),
    (entry_of("expect_column_values_to_be_in_set", column="code", value_set=["01", "2"]), True),
    (entry_of("expect_column_values_to_be_in_set", column="code", value_set=["1", "2"]), False),
    (entry_of("expect_column_values_to_be_in_set", column="flag", value_set=[True]), True),
    (entry_of("expect_column_values_to_match_regex", column="code", regex="^0?[12]$"), True),
    (entry_of("expect_column_mean_to_be_between", column="label", min_value=0.5), True),
    (entry_of("expect_column_values_to_be_of_type", column="label", type_="int64"), True),
    (entry_of("expect_column_values_to_be_between", column="word", min_value=0), False),
    (
        entry_of(
            "expect_column_values_to_be_in_set",
            column="code", value_set=["2"], row_condition="label == 0",
        ),
        True,
    ),
]  # fmt: skip
AS_TEXT = [(entry_of("expect_column_values_to_be_of_type", column="label", type_="str"), True)]


TEXTS = pd.DataFrame(
    {
        "code": ["01", "01", "2"],
        "flag": ["TRUE", "TRUE", None],
        "label": ["1", "1", "0"],
        "word": ["a", "1", "2"],
    },
    dtype="str",
)


def test_table_and_suite_get_the_same_types() -> None:
    table, suite = validate.as_asked(TEXTS, [entry for entry, _ in COMPARED])
    values = [entry["value_set"] for entry in suite if "value_set" in entry]
    assert values == [["01", "2"], ["01", "2"], ["1", "2"], ["TRUE"], ["2"]]
    assert table["label"].tolist() == [1, 1, 0]
    for name in ("code", "flag", "word"):
        pd.testing.assert_series_equal(table[name], TEXTS[name])
    table, _ = validate.as_asked(TEXTS, [entry for entry, _ in AS_TEXT])
    pd.testing.assert_frame_equal(table, TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("compared", [COMPARED, AS_TEXT], ids=["numbers", "text"])
def test_text_is_compared_with_what_the_suite_has(compared: list[tuple[Any, bool]]) -> None:
    results = validate.validate(TEXTS, [ROWS, *(entry for entry, _ in compared)])
    for result, (entry, success) in zip(results[1:], compared, strict=True):
        assert result["success"] == success, entry
        assert result["kwargs"] == validate._arguments(entry)
