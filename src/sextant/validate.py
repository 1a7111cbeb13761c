"""Hold the raw data to what their team expects of them, before anything is learnt from them.

conf/expectations/<dataset>.yaml is a list; an entry names an expectation of Great Expectations 1.24, its arguments, a
severity and the reason:

    - expectation: expect_column_values_to_be_between
      column: Age
      min_value: 18
      max_value: 100
      severity: critical        # critical stops the run; warning and info say one line, and the run goes on
      why: customers are of age; a larger number is a typing error

The report, reports/validation/<dataset>.json, is a function of data and suite and is committed: it carries none of the
times and ids of Great Expectations, and no value of a row. Those are for the one who runs the stage: in its messages,
and in the Data Docs below .scratch/.
"""

import ast
import functools
import json
import logging
import math
import re
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, create_model

from . import config, paths, plugins
from .errors import DataError, UsageError, one_line
from .files import RECEIPT, folder_digest, write_json, written_whole
from .strict import Strict, advice, check

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3  # values that a message gives as examples
LISTED = 5  # values of a set that the report lists


# --- the suite, checked without Great Expectations, which takes seconds to import -------------------------------------


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError("expected text or a finite number")
    return value


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"expected a regular expression ({error})") from None
    return text


def _condition(text: str) -> str:
    """Comparisons alone: pandas would also call functions and read variables."""
    parts = ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop
    leaves = ast.Name, ast.Load, ast.Constant, ast.List
    try:
        allowed = all(
            isinstance(node, (*parts, *leaves)) for node in ast.walk(ast.parse(text, mode="eval"))
        )
    except SyntaxError:
        allowed = False
    if not allowed:
        raise ValueError("expected comparisons of columns, such as: Age > 60 and Gender == 'Male'")
    return text


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]

ARGUMENTS: dict[str, Any] = {
    "column": Text,
    "column_A": Text,
    "column_B": Text,
    "column_list": Texts,
    "column_set": Texts,
    "exact_match": bool,
    "max_value": float,
    "min_value": float,
    "mostly": Annotated[float, Field(gt=0, le=1)],  # the share of rows that has to be as expected
    "or_equal": bool,
    "regex": Annotated[Text, AfterValidator(_regex)],
    "row_condition": Annotated[
        Text, AfterValidator(_condition)
    ],  # in the words of pandas: which rows are looked at
    "strict_max": bool,
    "strict_min": bool,
    "strictly": bool,
    "type_": Text,
    "value_set": Annotated[list[Annotated[Any, AfterValidator(_scalar)]], Field(min_length=1)],
}

# `?`: may be left out. A further expectation of Great Expectations is one more line (and its damage in the tests).
EXPECTATIONS: dict[str, str] = {
    "expect_column_distinct_values_to_be_in_set": "column value_set row_condition?",
    "expect_column_distinct_values_to_contain_set": "column value_set row_condition?",
    "expect_column_distinct_values_to_equal_set": "column value_set row_condition?",
    "expect_column_max_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_mean_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_median_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_min_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_pair_values_a_to_be_greater_than_b": "column_A column_B or_equal? mostly? row_condition?",
    "expect_column_stdev_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_unique_value_count_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_value_lengths_to_be_between": "column min_value? max_value? mostly? row_condition?",
    "expect_column_values_to_be_between": (
        "column min_value? max_value? strict_min? strict_max? mostly? row_condition?"
    ),
    "expect_column_values_to_be_in_set": "column value_set mostly? row_condition?",
    "expect_column_values_to_be_increasing": "column strictly? mostly? row_condition?",
    "expect_column_values_to_be_of_type": "column type_",
    "expect_column_values_to_be_unique": "column mostly? row_condition?",
    "expect_column_values_to_match_regex": "column regex mostly? row_condition?",
    "expect_column_values_to_not_be_in_set": "column value_set mostly? row_condition?",
    "expect_column_values_to_not_be_null": "column mostly? row_condition?",
    "expect_column_values_to_not_match_regex": "column regex mostly? row_condition?",
    "expect_compound_columns_to_be_unique": "column_list mostly? row_condition?",
    "expect_table_columns_to_match_ordered_list": "column_list",
    "expect_table_columns_to_match_set": "column_set exact_match?",
    "expect_table_row_count_to_be_between": "min_value? max_value? row_condition?",
}


class Entry(Strict):
    """What every entry of a suite says, beside the arguments of its expectation."""

    expectation: str
    severity: Literal["critical", "warning", "info"]
    why: Text


@functools.cache
def _entry_model(expectation: str) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for word in EXPECTATIONS[expectation].split():
        name = word.removesuffix("?")
        fields[name] = (ARGUMENTS[name], None if word.endswith("?") else ...)
    return create_model(expectation, __base__=Entry, **fields)


def check_suite(
    suite: Any, where: str = "the suite", columns: Collection[str] | None = None
) -> None:
    """Raise UsageError for the first fault in a suite, and, where `columns` are given, in what it looks at there."""
    if not isinstance(suite, list) or not all(isinstance(entry, dict) for entry in suite):
        raise UsageError(
            f"{where} is no list of expectations; each begins with `- expectation: expect_…`"
        )
    _check_names(columns or (), where)
    for number, entry in enumerate(suite, start=1):
        _check_entry(entry, f"{where} entry {number}", columns)
    if not any(_asks_for_rows(entry) for entry in suite):
        # Great Expectations finds nothing wrong with the values of a table without rows.
        raise UsageError(
            f"{where} lets an empty table pass; add a critical expect_table_row_count_to_be_between with min_value >= 1"
        )


def _check_names(columns: Collection[str], where: str) -> None:
    """Raise UsageError for two names that differ by case alone: Great Expectations would look at the first for both."""
    first: dict[str, str] = {}
    for name in columns:
        other = first.setdefault(str(name).lower(), name)
        if other != name:
            raise UsageError(
                f"{where}: Great Expectations cannot tell the columns `{other}` and `{name}` apart, whose names differ"
                " by case alone; rename one in the file, and in its conf"
            )


def _check_entry(entry: dict[str, Any], where: str, columns: Collection[str] | None) -> None:
    name = str(entry.get("expectation"))
    if name not in EXPECTATIONS:
        raise UsageError(f"{where}: unknown expectation `{name}`; {advice(name, EXPECTATIONS)}")
    where = f"{where} ({name})"
    check(_entry_model(name), entry, where)
    if "min_value?" in EXPECTATIONS[name].split():
        low, high = entry.get("min_value"), entry.get("max_value")
        if low is None and high is None:
            raise UsageError(
                f"{where}: neither `min_value` nor `max_value` is there; add one or both"
            )
        if low is not None and high is not None and low > high:
            raise UsageError(
                f"{where}: `min_value` {low} is above `max_value` {high}; turn them round"
            )
    if columns is not None:
        for column in _columns(entry):
            if column not in columns:
                raise UsageError(
                    f"{where}: the table has no column `{column}`; {advice(column, columns)}"
                )


def _asks_for_rows(entry: dict[str, Any]) -> bool:
    rows = (
        entry["expectation"] == "expect_table_row_count_to_be_between"
        and entry.get("min_value")
        or 0
    )
    return entry["severity"] == "critical" and rows >= 1


def _columns(entry: dict[str, Any]) -> list[str]:
    """The columns whose values an entry looks at."""
    named = [entry[key] for key in ("column", "column_A", "column_B") if key in entry]
    listed = [] if entry["expectation"].startswith("expect_table") else entry.get("column_list", [])
    condition = ast.walk(ast.parse(entry.get("row_condition", "True"), mode="eval"))
    return [*named, *listed, *(node.id for node in condition if isinstance(node, ast.Name))]


def _arguments(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in Entry.model_fields}


# --- from a table to results ------------------------------------------------------------------------------------------


def validate(table: "pd.DataFrame", suite: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run a suite; one result per entry, in its order, as the report holds it, and `said`: the observation in words.

    `unexpected` counts rows (or members of a set) that are not as expected, `observed` is the share of rows that are,
    the value itself where the expectation asks for one, or what is unexpected and missing in a set.
    """
    check_suite(suite, columns=list(table.columns))
    return _results(suite, _run(table, suite)[1])


def _run(table: "pd.DataFrame", suite: list[dict[str, Any]]) -> tuple[Any, list[Any]]:
    """Great Expectations' own context and results, these in the order of the suite, which is checked already."""
    with _quiet():
        import great_expectations as gx
        from great_expectations import expectations as classes
        from great_expectations.data_context.types.base import ProgressBarsConfig

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("raw").add_dataframe_asset("table")
        expectations = []
        for number, entry in enumerate(suite):
            about = {
                "severity": entry["severity"],
                "notes": entry["why"],
                "meta": {"entry": number},
            }
            expectation = getattr(classes, class_name(entry["expectation"]))
            expectations.append(expectation(**_arguments(entry), **about))
        definition = gx.ValidationDefinition(
            name="raw",
            data=asset.add_batch_definition_whole_dataframe("whole"),
            suite=context.suites.add(gx.ExpectationSuite(name="suite", expectations=expectations)),
        )
        found = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table},
            result_format={"result_format": "BASIC", "partial_unexpected_count": 20},
        )
    # They come back in groups of one cost, failures to compute first.
    return context, sorted(
        found.results, key=lambda result: result.expectation_config.meta["entry"]
    )


def class_name(expectation: str) -> str:
    """expect_column_max_to_be_between: ExpectColumnMaxToBeBetween."""
    return "".join(word.capitalize() for word in expectation.split("_"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of Great Expectations' own logs and warnings; what matters of them is in the results."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _results(suite: list[dict[str, Any]], found: list[Any]) -> list[dict[str, Any]]:
    results = []
    for entry, result in zip(suite, found, strict=True):
        unexpected, observed, said = _observation(result)
        results.append(
            {
                "expectation": entry["expectation"],
                "kwargs": _arguments(entry),
                "severity": entry["severity"],
                "success": bool(result.success),
                "unexpected": unexpected,
                "observed": observed,
                "why": entry["why"],
                "said": said,
            }
        )
    return results


def _observation(found: Any) -> tuple[int | None, Any, str]:
    """What was unexpected (how many), what was observed, and both in words."""
    fault, result = _fault(found.exception_info), found.result
    if fault:
        return None, f"cannot be computed: {fault}", f"it cannot be computed ({fault})"
    if "element_count" in result:
        wrong, looked_at = int(result["unexpected_count"]), int(result["element_count"])
        rows = looked_at - int(result.get("missing_count") or 0)
        examples = list(
            dict.fromkeys(_word(v) for v in result["partial_unexpected_list"] if not _missing(v))
        )
        such_as = f", such as {', '.join(examples[:SHOWN])}" if examples else ""
        return (
            wrong,
            _plain(1 - wrong / rows if rows else 1.0),
            f"{wrong:,} of {rows:,} rows are otherwise{such_as}",
        )
    sets = _sets(result)
    if sets is not None:
        said = "; ".join(
            f"{name} {', '.join(map(_word, values))}" for name, values in sets.items() if values
        )
        listed = {name: _plain(values[:LISTED]) for name, values in sets.items()}
        return sum(map(len, sets.values())), listed, said or "nothing amiss"
    observed = _plain(result["observed_value"])
    return None, observed, f"observed {_word(observed)}"


def _fault(info: dict[str, Any]) -> str:
    """The first exception behind a result, its first line; empty where there was none."""
    each = [info] if "raised_exception" in info else list(info.values())
    faults = [
        str(one["exception_message"]).strip().splitlines()
        for one in each
        if one["raised_exception"]
    ]
    return min((lines[0] if lines else "no reason given" for lines in faults), default="")


def _sets(result: dict[str, Any]) -> dict[str, list[Any]] | None:
    """What of a set of columns or of distinct values is surplus and what is missing; None for other results."""
    if "partial_unexpected_list" in result or "partial_missing_list" in result:
        surplus, missing = (
            result.get("partial_unexpected_list", []),
            result.get("partial_missing_list", []),
        )
    elif "mismatched" in result.get("details", {}) and isinstance(
        result["details"]["mismatched"], dict
    ):
        mismatched = result["details"]["mismatched"]
        surplus, missing = mismatched.get("unexpected", []), mismatched.get("missing", [])
    else:
        return None
    return {"unexpected": sorted(surplus, key=str), "missing": sorted(missing, key=str)}


def _missing(value: Any) -> bool:
    return value is None or value != value


def _word(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(_plain(value)) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(value: Any) -> Any:
    """A value as JSON holds it: numbers of Python with 9 digits, lists, text; None for what is no number."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)


# --- from results to a report and a refusal ---------------------------------------------------------------------------


def summary(
    dataset: str, source: str, rows: int, digest: str, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """The report; `success` says that no critical expectation failed, `counts` how many of each severity did."""
    failed = {name: len(_failed(results, name)) for name in ("critical", "warning", "info")}
    return {
        "dataset": dataset,
        "source": source,
        "success": failed["critical"] == 0,
        "rows": rows,
        "digest": digest,
        "counts": {"passed": len(results) - sum(failed.values()), **failed},
        "expectations": [
            {key: value for key, value in result.items() if key != "said"} for result in results
        ],
    }


def _failed(results: list[dict[str, Any]], severity: str) -> list[dict[str, Any]]:
    return [
        result for result in results if result["severity"] == severity and not result["success"]
    ]


def _sentence(result: dict[str, Any]) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in result["kwargs"].items())
    return f"{result['expectation']}({arguments}): {result['said']} ({result['why']})"


def refusal(dataset: str, results: list[dict[str, Any]]) -> str | None:
    """Why the data are refused and what to do; None where every critical expectation holds."""
    failed = _failed(results, "critical")
    if not failed:
        return None
    critical = sum(result["severity"] == "critical" for result in results)
    return (
        f"{dataset}: {len(failed)} of {critical} critical expectations failed, first {_sentence(failed[0])};"
        f" correct the file where it comes from, or pull it again (`make pull DATASET={dataset}`),"
        f" or change conf/expectations/{dataset}.yaml"
    )


def remarks(dataset: str, results: list[dict[str, Any]]) -> list[str]:
    """One line for each warning and info that failed."""
    return [
        f"{dataset} {severity}: {_sentence(result)}"
        for severity in ("warning", "info")
        for result in _failed(results, severity)
    ]


# --- the stage --------------------------------------------------------------------------------------------------------


def _source(folder: Path, dataset: str) -> str:
    try:
        return str(json.loads((folder / RECEIPT).read_text(encoding="utf-8"))["source"])
    except FileNotFoundError:
        raise DataError(
            f"{folder} has no {RECEIPT}; `make pull DATASET={dataset}` brings the data"
        ) from None


def write_data_docs(context: Any, folder: Path) -> None:
    """The page of the last run in place of the one before."""
    with written_whole(folder) as beside, _quiet():
        store = {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(beside.resolve()),
        }
        site = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": store}
        context.add_data_docs_site(
            "local", site | {"site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}}
        )
        context.build_data_docs(site_names=["local"])


def main(argv: list[str]) -> None:
    """`sextant validate dataset=<name>`: data/raw/<name>/ to reports/validation/<name>.json.

    By hand, and where the data are refused, the report goes below .scratch/: the committed one is of accepted data.
    """
    name, overrides = config.named(argv, "dataset")
    conf = config.dataset(name, overrides)
    folder, scratch = Path("data/raw") / name, paths.state_root() / ".scratch"
    source, rows = _source(folder, name), plugins.kind(conf.kind).rows
    table = rows.table(rows.read(folder, conf.columns), conf.columns)
    check_suite(conf.expectations, f"conf/expectations/{name}.yaml", list(table.columns))
    context, found = _run(table, conf.expectations)
    results = _results(conf.expectations, found)
    try:
        write_data_docs(context, scratch / "data_docs" / name)
    except Exception as error:  # an extra, made of templates that are not ours
        print(f"{name}: no Data Docs this time: {one_line(error)}", file=sys.stderr)
    for line in remarks(name, results):
        print(line, file=sys.stderr)
    refused = refusal(name, results)
    accepted = refused is None and paths.run_by_dvc()
    report = (Path("reports/validation") if accepted else scratch / "validation") / f"{name}.json"
    write_json(
        report, summary(name, source, len(table), folder_digest(folder, without=RECEIPT), results)
    )
    if refused:
        raise DataError(f"{refused}; {report} has them all")
    print(
        f"{name}: {sum(result['success'] for result in results)} of {len(results)} expectations hold ({report})"
    )
