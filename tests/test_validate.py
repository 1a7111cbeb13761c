"""Expectations: suites checked without Great Expectations, every expectation broken by an injected damage."""

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

import numpy as np
import pandas as pd
import pytest
import yaml
from twins import raw

from sextant import config, plugins, validate
from sextant.errors import DataError, UsageError
from sextant.files import RECEIPT, folder_digest, write_json

ROOT = Path(__file__).parents[1]
SUITES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "conf/expectations").glob("*.yaml"))
}
LISTED = [
    name
    for name in yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"]
    if name in SUITES
]
KINDS = [
    (name, kind)
    for name in LISTED
    for kind in sorted({entry["expectation"] for entry in SUITES[name]})
]

MIRROR = Path(
    os.environ.get("SEXTANT_MIRROR") or "/nowhere"
)  # before the tests take it from the environment

Entry = dict[str, Any]
Frame = Any  # a DataFrame, whose stubs know no column by a name that is a variable


# --- one damage for each expectation ----------------------------------------------------------------------------------
# Each takes a table that is as expected and an entry of a suite, and gives a table that just is not.


def _spoil(table: Frame, entry: Entry, value: Any, bad: Any, column: str = "column") -> Frame:
    """Put `value` into as many rows as `mostly` allows and one more; rows that are `bad` already count."""
    name = entry[column]
    asked = (
        table.index.isin(table.query(entry["row_condition"]).index)
        if "row_condition" in entry
        else True
    )
    allowed = math.floor((1 - entry.get("mostly", 1)) * pd.Series(asked, table.index).sum() + 1e-9)
    free = table.index[asked & ~bad][: allowed + 1 - (asked & bad).sum()]
    return table.assign(**{name: table[name].mask(table.index.isin(free), value)})


def _beyond(entry: Entry) -> Any:
    return entry["max_value"] + 1 if "max_value" in entry else entry["min_value"] - 1


def _every(table: Frame, entry: Entry, value: Any) -> Frame:
    return table.assign(**{entry["column"]: value})


def _outside(table: Frame, entry: Entry) -> Frame:
    """A value that is not in the set: one that the column knows where there is one, so that no type changes."""
    x, values = table[entry["column"]], entry["value_set"]
    strange = "elsewhere" if isinstance(values[0], str) else max(values) + 1
    known = x[~x.isin(values)]
    return _spoil(table, entry, strange if known.empty else known.iloc[0], ~x.isin(values))


def _inside(table: Frame, entry: Entry) -> Frame:
    return _spoil(
        table, entry, entry["value_set"][0], table[entry["column"]].isin(entry["value_set"])
    )


def _without(table: Frame, entry: Entry) -> Frame:
    x, gone = table[entry["column"]], entry["value_set"][0]
    return table.assign(**{entry["column"]: x.mask(x == gone, x[x != gone].iloc[0])})


def _mean(table: Frame, entry: Entry) -> Frame:
    """Lift the least rows to the greatest value of the column until the mean is just above what is allowed."""
    x = (table.query(entry["row_condition"]) if "row_condition" in entry else table)[
        entry["column"]
    ].sort_values()
    lifts = int(((x.max() - x).cumsum() <= (entry["max_value"] - x.mean()) * len(x)).sum()) + 1
    lifted = table.index.isin(x.index[:lifts])
    return table.assign(**{entry["column"]: table[entry["column"]].mask(lifted, x.max())})


def _greatest(table: Frame, entry: Entry) -> Frame:
    x = table[entry["column"]]
    return table.assign(**{entry["column"]: x.mask(x == x.max(), _beyond(entry))})


def _other_type(table: Frame, entry: Entry) -> Frame:
    other = {"int64": "float64", "float64": "float32", "str": "category"}[entry["type_"]]
    return table.assign(**{entry["column"]: table[entry["column"]].astype(other)})


def _matching(table: Frame, entry: Entry, wanted: bool) -> Frame:
    found = re.compile(entry["regex"]).search
    word = next(
        word
        for word in ("?", "!", "x", "0", "-", "é", " ", "", "Ã©")
        if bool(found(word)) is wanted
    )
    return _spoil(
        table, entry, word, table[entry["column"]].map(lambda text: bool(found(text)) is wanted)
    )


def _repeat(table: Frame, entry: Entry) -> Frame:
    """The second row says what the first one says."""
    names = entry.get("column_list") or [entry["column"]]
    second = table.index == table.index[1]
    return table.assign(**{name: table[name].mask(second, table[name].iloc[0]) for name in names})


def _row_count(table: Frame, entry: Entry) -> Frame:
    """Too few rows, from all over the table, so that its shares stay as they are."""
    asked = table.query(entry["row_condition"]) if "row_condition" in entry else table
    kept = asked.index[np.linspace(0, len(asked) - 1, entry["min_value"] - 1).round().astype(int)]
    return table.drop(asked.index.difference(kept))


def _between(table: Frame, entry: Entry) -> Frame:
    x, low, high = (
        table[entry["column"]],
        entry.get("min_value", -math.inf),
        entry.get("max_value", math.inf),
    )
    return _spoil(table, entry, _beyond(entry), ~x.between(low, high) & x.notna())


def _lengths(table: Frame, entry: Entry) -> Frame:
    return _spoil(table, entry, "x" * _beyond(entry), pd.Series(False, table.index))


def _not_greater(table: Frame, entry: Entry) -> Frame:
    a, b = table[entry["column_A"]], table[entry["column_B"]]
    return _spoil(table, entry, b.min() - 1, a < b, "column_A")


def _step_back(table: Frame, entry: Entry) -> Frame:
    x = table[entry["column"]]
    return table.assign(**{entry["column"]: x.mask(table.index == table.index[-1], x.iloc[0] - 1)})


DAMAGE: dict[str, Callable[[Frame, Entry], Frame]] = {
    "expect_column_distinct_values_to_be_in_set": _outside,
    "expect_column_distinct_values_to_contain_set": _without,
    "expect_column_distinct_values_to_equal_set": _outside,
    "expect_column_max_to_be_between": _greatest,
    "expect_column_mean_to_be_between": _mean,
    "expect_column_median_to_be_between": lambda table, entry: _every(table, entry, _beyond(entry)),
    "expect_column_min_to_be_between": lambda table, entry: _every(table, entry, _beyond(entry)),
    "expect_column_pair_values_a_to_be_greater_than_b": _not_greater,
    "expect_column_stdev_to_be_between": lambda table, entry: _every(table, entry, 0),
    "expect_column_unique_value_count_to_be_between": lambda table, entry: _every(table, entry, 0),
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _outside,
    "expect_column_values_to_be_increasing": _step_back,
    "expect_column_values_to_be_of_type": _other_type,
    "expect_column_values_to_be_unique": _repeat,
    "expect_column_values_to_match_regex": lambda table, entry: _matching(table, entry, False),
    "expect_column_values_to_not_be_in_set": _inside,
    "expect_column_values_to_not_be_null": lambda t, entry: _spoil(
        t, entry, math.nan, t[entry["column"]].isna()
    ),
    "expect_column_values_to_not_match_regex": lambda table, entry: _matching(table, entry, True),
    "expect_compound_columns_to_be_unique": _repeat,
    "expect_table_columns_to_match_ordered_list": lambda table, entry: table[table.columns[::-1]],
    "expect_table_columns_to_match_set": lambda table, entry: table.assign(surplus=0),
    "expect_table_row_count_to_be_between": _row_count,
}

TABLE = pd.DataFrame(
    {"key": range(13), "share": [n / 13 for n in range(13)], "word": list("abcdefghijkaa")}
)
COUNT: Entry = {"expectation": "expect_table_row_count_to_be_between", "min_value": 13}
# One example of each expectation that `TABLE` meets: the arguments, in words of YAML.
EXAMPLES: dict[str, str] = {
    "expect_column_distinct_values_to_be_in_set": "{column: word, value_set: [a, b, c, d, e, f, g, h, i, j, k, l]}",
    "expect_column_distinct_values_to_contain_set": "{column: word, value_set: [a, b]}",
    "expect_column_distinct_values_to_equal_set": "{column: word, value_set: [a, b, c, d, e, f, g, h, i, j, k]}",
    "expect_column_max_to_be_between": "{column: key, min_value: 12, max_value: 12}",
    "expect_column_mean_to_be_between": "{column: key, min_value: 5, max_value: 7}",
    "expect_column_median_to_be_between": "{column: key, min_value: 6}",
    "expect_column_min_to_be_between": "{column: key, max_value: 0}",
    "expect_column_pair_values_a_to_be_greater_than_b": "{column_A: key, column_B: share, or_equal: true}",
    "expect_column_stdev_to_be_between": "{column: share, min_value: 0.1, max_value: 1}",
    "expect_column_unique_value_count_to_be_between": "{column: key, min_value: 2}",
    "expect_column_value_lengths_to_be_between": "{column: word, min_value: 1, max_value: 1}",
    "expect_column_values_to_be_between": "{column: share, min_value: 0, max_value: 1, strict_max: true}",
    "expect_column_values_to_be_in_set": "{column: word, value_set: [a], mostly: 0.2}",
    "expect_column_values_to_be_increasing": "{column: key, strictly: true}",
    "expect_column_values_to_be_of_type": "{column: word, type_: str}",
    "expect_column_values_to_be_unique": "{column: key}",
    "expect_column_values_to_match_regex": "{column: word, regex: '^[a-k]$'}",
    "expect_column_values_to_not_be_in_set": "{column: word, value_set: [a], row_condition: key > 0 and key < 11}",
    "expect_column_values_to_not_be_null": "{column: share, mostly: 0.9}",
    "expect_column_values_to_not_match_regex": "{column: word, regex: '[?]'}",
    "expect_compound_columns_to_be_unique": "{column_list: [key, word]}",
    "expect_table_columns_to_match_ordered_list": "{column_list: [key, share, word]}",
    "expect_table_columns_to_match_set": "{column_set: [word, key, share], exact_match: true}",
    "expect_table_row_count_to_be_between": "{min_value: 13, max_value: 13}",
}


def _suite(*entries: Entry) -> list[Entry]:
    """`entries` with what they all need, and a row count before them."""
    return [{"severity": "critical", "why": "a test", **entry} for entry in (COUNT, *entries)]


def _example(kind: str) -> Entry:
    return {"expectation": kind, **yaml.safe_load(EXAMPLES[kind])}


def _failed(results: list[dict[str, Any]]) -> list[int]:
    return [number for number, result in enumerate(results) if not result["success"]]


def test_suites_are_discovered() -> None:
    assert SUITES and LISTED and KINDS


def test_every_expectation_of_every_suite_has_a_damage() -> None:
    used = {entry["expectation"] for suite in SUITES.values() for entry in suite}
    assert used and used <= set(DAMAGE)


def test_every_expectation_of_the_table_has_a_damage_and_an_example() -> None:
    assert set(validate.EXPECTATIONS) == set(DAMAGE) == set(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", validate.EXPECTATIONS)
def test_the_table_agrees_with_great_expectations(kind: str) -> None:
    from great_expectations import expectations

    fields = getattr(expectations, validate.class_name(kind)).__fields__
    asked = validate.EXPECTATIONS[kind].split()
    must = {word for word in asked if not word.endswith("?")}
    assert {word.removesuffix("?") for word in asked} <= set(fields)
    assert {name for name, field in fields.items() if field.required} <= must


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_expectation_holds_and_after_its_damage_does_not(kind: str) -> None:
    suite = _suite(_example(kind))
    assert _failed(validate.validate(TABLE, suite)) == []
    assert 1 in _failed(validate.validate(DAMAGE[kind](TABLE, suite[1]), suite))


# --- the suites of conf/, on the twins --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Frame]:
    """The table of every listed twin, as the stage reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        confs = {name: conf for name in LISTED if (conf := config.dataset(name)).twin}
    return {name: _table(conf, raw(name, tmp_path_factory)) for name, conf in confs.items()}


def _table(conf: config.DatasetConf, folder: Path) -> Frame:
    kind = plugins.module("data", conf.kind)
    return kind.table(kind.read(folder, conf.columns), conf.columns)


@pytest.fixture(scope="module")
def relaxed(twins: dict[str, Frame]) -> Callable[[str], list[Entry]]:
    """The suite of a twin, with what fails already allowed once more than that: so a damage has something to break."""
    return functools.cache(lambda name: _relaxed(SUITES[name], twins[name]))


def _relaxed(suite: list[Entry], table: Frame) -> list[Entry]:
    return [
        entry if result["success"] else entry | {"mostly": result["observed"] - 1.5 / len(table)}
        for entry, result in zip(suite, validate.validate(table, suite), strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_a_twin_is_accepted(name: str, twins: dict[str, Frame]) -> None:
    if name not in twins:
        pytest.skip(f"{name} has no twin")
    assert validate.refusal(name, validate.validate(twins[name], SUITES[name])) is None


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_damage_breaks_the_expectation_and_no_other(
    name: str, kind: str, twins: dict[str, Frame], relaxed: Callable[[str], list[Entry]]
) -> None:
    """Every entry of the kind breaks, and nothing that looks at another column; one breaks alone or with its like."""
    if name not in twins:
        pytest.skip(f"{name} has no twin")
    table = twins[name]
    suite, alone = relaxed(name), []
    for number in (n for n, entry in enumerate(suite) if entry["expectation"] == kind):
        broken = _failed(validate.validate(DAMAGE[kind](table, suite[number]), suite))
        others = [suite[n] for n in broken if n != number]
        columns = set(validate._columns(suite[number]))
        assert number in broken, suite[number]
        assert all(columns & set(validate._columns(other)) for other in others), (
            suite[number],
            others,
        )
        alone.append(all(other["expectation"] == kind for other in others))
    assert any(alone)


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_an_empty_table_fails(name: str, twins: dict[str, Frame]) -> None:
    if name not in twins:
        pytest.skip(f"{name} has no twin")
    refused = validate.refusal(name, validate.validate(twins[name].head(0), SUITES[name]))
    assert refused and "expect_table_row_count_to_be_between" in refused and "observed 0" in refused


# The quirks that the real files are known for: what fails there, and may.
QUIRKS = {
    "cats_dogs": {("warning", "sha256", 2), ("warning", "lookalike", 14)},
    "churn": {("warning", "EstimatedSalary", 59), ("info", "Surname", 92)},
    "google_stock": {("warning", "High", 560), ("warning", "Volume", 4), ("info", "gap", 1)},
    "credit_applications": set(),
    "movielens_100k": {("info", "title", 9)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_the_real_table_is_accepted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not MIRROR.is_dir():
        pytest.skip("SEXTANT_MIRROR names no folder with the real data")
    monkeypatch.chdir(ROOT)
    conf = config.dataset(name)
    for entry in conf.sources.get("mirror", []):
        (tmp_path / entry["file"]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / entry["file"]).symlink_to(MIRROR / entry["path"])
    results = validate.validate(_table(conf, tmp_path), SUITES[name])
    assert validate.refusal(name, results) is None
    wrong = [result for result in results if not result["success"]]
    failed = {
        (r["severity"], validate._columns(r | r["kwargs"])[0], r["unexpected"]) for r in wrong
    }
    if name in QUIRKS:
        assert failed == QUIRKS[name]


# --- what a result says -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_results_keep_the_order_of_the_suite_and_say_what_was_observed() -> None:
    """Great Expectations gives them back in another order, the ones it cannot compute first."""
    entries: list[Entry] = [
        {"expectation": "expect_column_values_to_be_between", "column": "share", "max_value": 0.5},
        {"expectation": "expect_column_mean_to_be_between", "column": "share", "min_value": 1},
        {"expectation": "expect_column_values_to_be_between", "column": "word", "min_value": 1},
        {
            "expectation": "expect_column_distinct_values_to_equal_set",
            "column": "key",
            "value_set": [*range(12), 99],
        },
        {
            "expectation": "expect_table_columns_to_match_set",
            "column_set": ["key", "share", "wort"],
        },
        {
            "expectation": "expect_column_values_to_be_in_set",
            "column": "key",
            "value_set": [1],
            "row_condition": "key > 99",
        },
    ]
    results = validate.validate(TABLE, _suite(*entries))[1:]
    assert [result["expectation"] for result in results] == [
        entry["expectation"] for entry in entries
    ]
    assert [result["success"] for result in results] == [False, False, False, False, False, True]
    assert [result["unexpected"] for result in results] == [6, None, None, 2, 2, 0]
    assert results[0]["observed"] == 0.538461538  # 7 of 13, and 9 digits
    assert results[1]["observed"] == 0.461538462
    assert "cannot be computed: " in results[2]["observed"]
    assert results[3]["observed"] == {"unexpected": [12], "missing": [99]}
    assert results[4]["observed"] == {"unexpected": ["word"], "missing": ["wort"]}
    assert results[5]["observed"] == 1.0  # no row was looked at
    assert results[0]["said"].startswith("6 of 13 rows are otherwise, such as 0.538461538, ")
    assert results[3]["said"] == "unexpected 12; missing 99"


@pytest.mark.slow
def test_letters_in_a_number_are_named_by_the_type() -> None:
    table = TABLE.assign(key=TABLE["key"].astype(str).mask(TABLE["key"] == 7, "seven"))
    suite = _suite(
        {"expectation": "expect_column_values_to_be_of_type", "column": "key", "type_": "int64"},
        {"expectation": "expect_column_values_to_be_between", "column": "key", "min_value": 0},
    )
    refused = validate.refusal("numbers", validate.validate(table, suite))
    assert (
        refused
        and "2 of 3 critical expectations failed, first expect_column_values_to_be_of_type"
        in refused
    )
    assert "type_='int64'): observed 'str'" in refused


@pytest.mark.slow
def test_a_column_that_the_table_lacks_is_refused() -> None:
    suite = _suite({"expectation": "expect_column_values_to_be_unique", "column": "kay"})
    with pytest.raises(UsageError, match=r"entry 2 .*no column `kay`; did you mean `key`\?"):
        validate.validate(TABLE, suite)


def _result(severity: str, success: bool) -> dict[str, Any]:
    return {
        "expectation": "expect_column_values_to_be_unique",
        "kwargs": {"column": "key"},
        "severity": severity,
        "success": success,
        "unexpected": 2,
        "observed": 0.8,
        "why": "once each",
        "said": "2 of 10 rows are otherwise, such as 7",
    }


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_a_warning_does_not_stop(severity: str) -> None:
    results = [_result("critical", True), _result(severity, False)]
    assert validate.refusal("keys", results) is None
    assert validate.summary("keys", "mirror", 10, "0", results)["success"] is True
    (line,) = validate.remarks("keys", results)
    assert line.startswith(
        f"keys {severity}: expect_column_values_to_be_unique(column='key'): 2 of 10 rows"
    )


def test_a_critical_one_stops_and_says_what_to_do() -> None:
    results = [_result("warning", False), _result("critical", True), _result("critical", False)]
    refused = validate.refusal("keys", results)
    assert refused is not None
    assert refused.startswith(
        "keys: 1 of 2 critical expectations failed, first expect_column_values_to_be_unique("
    )
    assert (
        "such as 7" in refused
        and "make pull DATASET=keys" in refused
        and "conf/expectations/keys.yaml" in refused
    )
    assert "\n" not in refused


def test_the_summary_counts_and_holds_no_value_of_a_row() -> None:
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


# --- faults in a suite ------------------------------------------------------------------------------------------------

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
    (BETWEEN, "neither `min_value` nor `max_value`"),
    (BETWEEN | {"min_value": 2, "max_value": 1}, "`min_value` 2 is above `max_value` 1"),
    (BETWEEN | {"min_value": "two"}, "`min_value` is 'two'; .*number"),
    (BETWEEN | {"min_value": math.nan}, "`min_value` is nan; .*finite"),
    (BETWEEN | {"min_value": True}, "`min_value` is True"),
    (IN_SET, "key `value_set` is missing"),
    (IN_SET | {"value_set": []}, "`value_set` is .*at least 1"),
    (IN_SET | {"value_set": [None]}, "`value_set.0` is None; .*text or a finite number"),
    (IN_SET | {"value_set": "abc"}, "`value_set` is 'abc'; .*list"),
    (
        {"expectation": "expect_column_values_to_match_regex", "column": "word", "regex": "("},
        "regular expression",
    ),
]


@pytest.mark.parametrize(("entry", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_fault_in_a_suite_is_named(entry: Entry, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        validate.check_suite(_suite(entry), "conf/expectations/keys.yaml", TABLE.columns.tolist())
    assert "conf/expectations/keys.yaml entry 2" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_columns_whose_names_differ_by_case_alone_are_refused() -> None:
    suite = _suite({"expectation": "expect_column_values_to_not_be_null", "column": "age"})
    validate.check_suite(suite, "conf/expectations/people.yaml", ["age", "ages"])
    with pytest.raises(
        UsageError, match="cannot tell the columns `Age` and `age` apart.* rename one in the file"
    ):
        validate.check_suite(suite, "conf/expectations/people.yaml", ["Age", "name", "age"])


@pytest.mark.parametrize("lacking", ["why", "severity"])
def test_an_entry_says_why_and_how_severe(lacking: str) -> None:
    suite = _suite(UNIQUE)
    del suite[1][lacking]
    with pytest.raises(UsageError, match=f"key `{lacking}` is missing"):
        validate.check_suite(suite)


@pytest.mark.parametrize(
    "suite", [None, {}, "text", ["expect_column_values_to_be_unique"], {"expectation": "x"}]
)
def test_a_suite_is_a_list(suite: Any) -> None:
    with pytest.raises(UsageError, match="no list of expectations"):
        validate.check_suite(suite)


@pytest.mark.parametrize("change", [{"min_value": 0}, {"severity": "warning"}, None])
def test_a_suite_that_lets_an_empty_table_pass_is_refused(change: Entry | None) -> None:
    suite = _suite(UNIQUE)
    with pytest.raises(
        UsageError, match="lets an empty table pass; add a critical expect_table_row_count"
    ):
        validate.check_suite(suite[1:] if change is None else [suite[0] | change, suite[1]])


@pytest.mark.parametrize("name", SUITES)
def test_the_suites_of_conf_are_without_fault(name: str) -> None:
    validate.check_suite(SUITES[name], name)


def test_a_suite_is_checked_without_great_expectations() -> None:
    code = "import sys; from sextant import validate; validate.check_suite(__import__('yaml').safe_load(sys.stdin)); "
    code += "sys.exit('great_expectations' in sys.modules)"
    text = yaml.safe_dump(next(iter(SUITES.values())))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True, env=environment)


# --- the stage --------------------------------------------------------------------------------------------------------

NAME = LISTED[0]


@pytest.fixture
def pulled(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the twin of the first data set as pull leaves it."""
    folder = workspace / "data/raw" / NAME
    shutil.copytree(raw(NAME, tmp_path_factory), folder)
    write_json(folder / "source.json", {"source": "embedded", "files": {}})
    return workspace


def _suite_of(pulled: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    path = pulled / f"conf/expectations/{NAME}.yaml"
    path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))


def _more_rows(suite: list[Entry], severity: str) -> list[Entry]:
    """The suite, and a row count that no twin has."""
    return [*suite, COUNT | {"min_value": 10**9, "severity": severity, "why": "a test"}]


@pytest.mark.slow
def test_by_hand_it_writes_below_scratch_and_nothing_else(
    pulled: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(pulled.iterdir())
    validate.main([f"dataset={NAME}"])
    assert set(pulled.iterdir()) - before == {pulled / ".scratch"}
    report = json.loads((pulled / f".scratch/validation/{NAME}.json").read_text())
    assert list(report) == [
        "dataset",
        "source",
        "success",
        "rows",
        "digest",
        "counts",
        "expectations",
    ]
    assert report["success"] and report["source"] == "embedded" and len(report["digest"]) == 64
    assert (
        list(report["expectations"][0])
        == "expectation kwargs severity success unexpected observed why".split()
    )
    assert (pulled / f".scratch/data_docs/{NAME}/index.html").is_file()
    out, err = capfd.readouterr()
    failed = report["counts"]["warning"] + report["counts"]["info"]
    assert out.count("\n") == 1 and err.count("\n") == failed


@pytest.mark.slow
def test_the_report_is_the_same_bytes_in_two_processes(pulled: Path) -> None:
    """Whatever the order of sets, and with a home that cannot be written to."""
    reports = []
    for seed in ("1", "2"):
        environment = os.environ | {
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONHASHSEED": seed,
            "DVC_STAGE": "validate",
        }
        command = [sys.executable, "-m", "sextant.validate", f"dataset={NAME}"]
        subprocess.run(command, check=True, env=environment | {"HOME": "/nowhere"}, cwd=pulled)
        reports.append((pulled / f"reports/validation/{NAME}.json").read_bytes())
    assert reports[0] == reports[1]
    assert str(pulled).encode() not in reports[0]


@pytest.mark.slow
def test_a_refusal_leaves_the_last_report_as_it_was(
    pulled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "validate")
    monkeypatch.setenv("DVC_ROOT", str(pulled / "root"))
    validate.main([f"dataset={NAME}"])
    accepted = (pulled / f"reports/validation/{NAME}.json").read_bytes()
    _suite_of(pulled, lambda suite: _more_rows(suite, "critical"))
    with pytest.raises(
        DataError,
        match=rf"{NAME}: 1 of .*observed .*root/.scratch/validation/{NAME}.json has them all",
    ):
        validate.main([f"dataset={NAME}"])
    assert (pulled / f"reports/validation/{NAME}.json").read_bytes() == accepted
    refused = json.loads((pulled / f"root/.scratch/validation/{NAME}.json").read_text())
    assert refused["success"] is False and refused["counts"]["critical"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("severity", ["warning", "info"])
def test_the_stage_goes_on_after_a_warning(
    pulled: Path, severity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _suite_of(pulled, lambda suite: _more_rows(suite, severity))
    validate.main([f"dataset={NAME}"])
    assert (
        f"{NAME} {severity}: expect_table_row_count_to_be_between(min_value=1000000000): "
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_failure_of_data_docs_is_one_line(
    pulled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pulled / ".scratch").mkdir()
    (pulled / ".scratch/data_docs").write_text("in the way")
    validate.main([f"dataset={NAME}"])
    assert f"{NAME}: no Data Docs this time: " in capsys.readouterr().err
    assert (pulled / f".scratch/validation/{NAME}.json").is_file()


def test_data_that_were_not_pulled_are_named(workspace: Path) -> None:
    with pytest.raises(
        DataError, match=rf"data/raw/{NAME} has no source.json; `make pull DATASET={NAME}`"
    ):
        validate.main([f"dataset={NAME}"])


def test_the_digest_is_of_names_and_bytes_and_not_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    digests = [folder_digest(tmp_path, without=RECEIPT)]
    write_json(tmp_path / "source.json", {"source": "mirror"})
    digests.append(folder_digest(tmp_path, without=RECEIPT))
    (tmp_path / "rows.csv").write_text("a,c\n")
    digests.append(folder_digest(tmp_path, without=RECEIPT))
    (tmp_path / "rows.csv").rename(tmp_path / "lines.csv")
    digests.append(folder_digest(tmp_path, without=RECEIPT))
    assert digests[0] == digests[1] and len(set(digests)) == 3
