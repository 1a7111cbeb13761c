"""Check the raw data against the expectations of their team, before anything is trained on them.

conf/expectations/<dataset>.yaml is a list of expectations of Great Expectations 1.24. Each entry
gives the name of one, its arguments, a severity and a reason:

    - expectation: expect_column_values_to_be_between
      column: Age
      min_value: 18
      max_value: 100
      severity: critical        # critical stops the run; warning and info print one line each
      why: customers are of age; a larger number is a typing error

The report, reports/validation/<dataset>.json, is committed and depends on the data and the suite
alone: it has none of the times and ids of Great Expectations, and no value of a row. Values of rows
are only in what the stage prints and in Great Expectations' Data Docs, its HTML pages, below
.scratch/.
"""

import ast
import functools
import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, get_type_hints

import numpy as np
from pydantic import AfterValidator, BaseModel, Field, create_model

from . import config, paths, plugins
from .errors import DataError, UsageError, one_line
from .files import RECEIPT, folder_digest, read_json, write_json, written_whole
from .kinds.formats import fits_pattern, place
from .kinds.numbers import PLAIN
from .strict import Strict, advice, check

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import (
        EphemeralDataContext,
    )

    from .kinds.tables import Finding

EXAMPLES = 3  # values in a message
LISTED = 5  # values of a set in the report
PLACES = 10  # rows that a message names for a critical expectation; for others EXAMPLES
WIDEST = 60  # characters of a value in a message

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Severity = Literal["critical", "warning", "info"]


# --- the suite ----------------------------------------------------------------------------------
# Checked without Great Expectations, which takes seconds to import: `make check` reads every suite.


def _scalar(value: object) -> object:
    is_scalar = isinstance(value, str | int | float)
    if not is_scalar or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("expected text or a finite number")
    return value


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"expected a regular expression ({error})") from None
    return text


ALLOWED_IN_CONDITION = (
    *(ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop),
    *(ast.Name, ast.Load, ast.Constant, ast.List),
)


def _condition(text: str) -> str:
    """Allow comparisons only: pandas would also call functions and read variables."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except SyntaxError:
        nodes = []
    if not nodes or not all(isinstance(node, ALLOWED_IN_CONDITION) for node in nodes):
        raise ValueError("expected comparisons of columns, such as: Age > 60 and Gender == 'Male'")
    return text


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Scalar = Annotated[Any, AfterValidator(_scalar)]


class SuiteEntry(TypedDict, total=False):
    """An entry of a suite: what all entries have, and every argument that an expectation may take.

    `mostly` is the share of the rows that must be as expected. `row_condition` chooses the rows to
    look at, in the syntax of pandas.
    """

    expectation: str
    severity: Severity
    why: Text
    column: Text
    column_A: Text
    column_B: Text
    column_list: Texts
    column_set: Texts
    exact_match: bool
    max_value: float
    min_value: float
    mostly: Annotated[float, Field(gt=0, le=1)]
    or_equal: bool
    regex: Annotated[Text, AfterValidator(_regex)]
    row_condition: Annotated[Text, AfterValidator(_condition)]
    strict_max: bool
    strict_min: bool
    strictly: bool
    type_: Text
    type_list: Texts
    value_set: Annotated[list[Scalar], Field(min_length=1)]


FIELDS = get_type_hints(SuiteEntry, include_extras=True)
REQUIRED = ("expectation", "severity", "why")  # of every entry; all other keys are arguments

# The arguments of each expectation; `?` marks an optional one. A further expectation of Great
# Expectations needs one more line here, and an example and a damage in the tests.
EXPECTATIONS: dict[str, str] = {
    "expect_column_distinct_values_to_be_in_set": "column value_set row_condition?",
    "expect_column_distinct_values_to_contain_set": "column value_set row_condition?",
    "expect_column_distinct_values_to_equal_set": "column value_set row_condition?",
    "expect_column_max_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_mean_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_median_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_min_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_pair_values_a_to_be_greater_than_b": (
        "column_A column_B or_equal? mostly? row_condition?"
    ),
    "expect_column_stdev_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_unique_value_count_to_be_between": "column min_value? max_value? row_condition?",
    "expect_column_value_lengths_to_be_between": (
        "column min_value? max_value? mostly? row_condition?"
    ),
    "expect_column_values_to_be_between": (
        "column min_value? max_value? strict_min? strict_max? mostly? row_condition?"
    ),
    "expect_column_values_to_be_in_set": "column value_set mostly? row_condition?",
    "expect_column_values_to_be_in_type_list": "column type_list",
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


@functools.cache
def _entry_model(expectation: str) -> type[BaseModel]:
    """Return the strict model of the entries of one expectation."""
    fields: dict[str, Any] = {name: (FIELDS[name], ...) for name in REQUIRED}
    for argument in EXPECTATIONS[expectation].split():
        name = argument.removesuffix("?")
        fields[name] = (FIELDS[name], None if argument.endswith("?") else ...)
    return create_model(expectation, __base__=Strict, **fields)


def check_suite(
    suite: object, where: str = "the suite", columns: Collection[str] | None = None
) -> None:
    """Raise UsageError for the first fault in a suite, which messages call `where`.

    With `columns`, those of the table, the columns that the suite names must be among them.
    """
    if not isinstance(suite, list) or not all(isinstance(entry, dict) for entry in suite):
        raise UsageError(
            f"{where} is not a list of expectations; begin each with `- expectation: expect_…`"
        )
    _check_names(columns or (), where)
    for number, entry in enumerate(suite, start=1):
        _check_entry(entry, f"{where} entry {number}", columns)
    if not any(_requires_rows(entry) for entry in suite):
        # Great Expectations passes every expectation about values if the table has no rows.
        raise UsageError(
            f"{where} accepts an empty table; add a critical expect_table_row_count_to_be_between"
            " with min_value >= 1"
        )


def _check_names(columns: Collection[str], where: str) -> None:
    """Raise UsageError for two names that differ only by case.

    Great Expectations 1.24 ignores case and would look at the first column for both.
    """
    first: dict[str, str] = {}
    for name in columns:
        other = first.setdefault(str(name).lower(), name)
        if other != name:
            raise UsageError(
                f"{where}: Great Expectations cannot distinguish the columns `{other}` and"
                f" `{name}`, whose names differ only by case; rename one in the file and its conf"
            )


def _check_entry(entry: SuiteEntry, where: str, columns: Collection[str] | None) -> None:
    name = str(entry.get("expectation"))
    if name not in EXPECTATIONS:
        raise UsageError(f"{where}: unknown expectation `{name}`; {advice(name, EXPECTATIONS)}")
    where = f"{where} ({name})"
    check(_entry_model(name), entry, where)
    if "min_value?" in EXPECTATIONS[name].split():
        _check_bounds(entry, where)
    if name == "expect_compound_columns_to_be_unique" and len(set(entry["column_list"])) < 2:
        raise UsageError(f"{where}: `column_list` has one column; expected two or more")
    if columns is None:
        return
    for column in _columns(entry):
        if not any(column == name or fits_pattern(column, name) for name in columns):
            raise UsageError(
                f"{where}: the table has no column `{column}`; {advice(column, columns)}"
            )


def _check_bounds(entry: SuiteEntry, where: str) -> None:
    low = entry.get("min_value")
    high = entry.get("max_value")
    if low is None and high is None:
        raise UsageError(f"{where}: `min_value` and `max_value` are missing; add one or both")
    if low is not None and high is not None and low > high:
        raise UsageError(f"{where}: `min_value` {low} is above `max_value` {high}; swap them")


def _requires_rows(entry: SuiteEntry) -> bool:
    """Return whether an entry refuses an empty table."""
    if entry["expectation"] != "expect_table_row_count_to_be_between":
        return False
    return entry["severity"] == "critical" and (entry.get("min_value") or 0) >= 1


def _columns(entry: SuiteEntry) -> list[str]:
    """Return the columns whose values an entry looks at."""
    arguments = _arguments(entry)
    names = [str(arguments[key]) for key in ("column", "column_A", "column_B") if key in arguments]
    # An expectation about the table lists the columns that there should be, not those it looks at.
    if not entry["expectation"].startswith("expect_table"):
        names += entry.get("column_list", [])
    condition = ast.parse(entry.get("row_condition", "True"), mode="eval")
    names += [node.id for node in ast.walk(condition) if isinstance(node, ast.Name)]
    return names


def _arguments(entry: SuiteEntry) -> dict[str, object]:
    return {key: value for key, value in entry.items() if key not in REQUIRED}


# --- text columns as an expectation reads them --------------------------------------------------

# Expectations that compute with the values of a column. The others that take `min_value` count
# characters, distinct values or rows.
OF_NUMBERS = (
    "expect_column_max_to_be_between",
    "expect_column_mean_to_be_between",
    "expect_column_median_to_be_between",
    "expect_column_min_to_be_between",
    "expect_column_pair_values_a_to_be_greater_than_b",
    "expect_column_stdev_to_be_between",
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_increasing",
)


def as_asked(
    table: "pd.DataFrame", suite: Sequence[SuiteEntry]
) -> tuple["pd.DataFrame", list[SuiteEntry]]:
    """Return table and suite with the same types.

    Keys, categories and labels are text as it is written. Such a column becomes numbers if an entry
    computes with it and all its values are numbers. Otherwise the numbers and truth values that a
    `value_set` has for it become the text that means them.
    """
    import pandas as pd

    from .kinds.levels import Matcher

    numeric: set[str] = set()
    for entry in suite:
        numeric |= _numbers_asked(entry)
    typed = table.copy(deep=False)
    for name in table:
        is_text = isinstance(table[name].dtype, pd.StringDtype)
        if is_text and name in numeric and table[name].dropna().str.fullmatch(PLAIN).all():
            typed[name] = pd.to_numeric(table[name].astype(object))
    matched = []
    for entry in suite:
        name = entry.get("column")
        if name is not None and "value_set" in entry:
            values = entry["value_set"]
            if isinstance(typed[name].dtype, pd.StringDtype):
                matcher = Matcher(typed[name].dropna().unique())
                values = [matcher.match(value) for value in values]
            elif name in numeric:
                values = [_as_number(value) for value in values]
            entry = {**entry, "value_set": values}
        matched.append(entry)
    return typed, matched


def _as_number(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(PLAIN, value):
        return float(value)
    return value


def _numbers_asked(entry: SuiteEntry) -> set[str]:
    """Return the columns that an entry reads as numbers."""
    names: set[str] = set()
    if entry["expectation"] in OF_NUMBERS or entry.get("type_", "").startswith(("int", "float")):
        arguments = _arguments(entry)
        for key in ("column", "column_A", "column_B"):
            if key in arguments:
                names.add(str(arguments[key]))
    for node in ast.walk(ast.parse(entry.get("row_condition", "True"), mode="eval")):
        if not isinstance(node, ast.Compare):
            continue
        parts = list(ast.walk(node))
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        if any(isinstance(value, int | float) for value in values):
            names |= {part.id for part in parts if isinstance(part, ast.Name)}
    return names


# --- from a table to results --------------------------------------------------------------------


class Result(TypedDict):
    """One expectation and what was observed; the report has everything but `message`.

    `unexpected` counts rows, or members of a set, that are not as expected; None for a single
    value. `observed` is the share of rows that are as expected; or the value, where the expectation
    is about a single one; or the unexpected and the missing members of a set. `message` describes
    the observation and may show values of rows.
    """

    expectation: str
    kwargs: dict[str, object]
    severity: Severity
    success: bool
    unexpected: int | None
    observed: Json
    why: str
    message: str


def validate(
    table: "pd.DataFrame", suite: list[SuiteEntry], named_by: str | None = None
) -> list[Result]:
    """Check a table against a suite; return one result per entry, in the order of the suite.

    Messages name rows by the column `named_by`, or by their place. Raises UsageError for a fault in
    the suite.
    """
    check_suite(suite, columns=list(table.columns))
    table, typed_suite = as_asked(table, suite)
    _, validated = _run_suite(table, typed_suite)
    return _results(table, suite, validated, named_by)


def _run_suite(
    table: "pd.DataFrame", suite: list[SuiteEntry]
) -> tuple["EphemeralDataContext", list["ExpectationValidationResult"]]:
    """Return Great Expectations' context and its results, in the order of the checked suite."""
    with _silent():
        import great_expectations as gx
        from great_expectations import expectations as gx_expectations
        from great_expectations.data_context.types.base import ProgressBarsConfig

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("raw").add_dataframe_asset("table")
        expectations = []
        for number, entry in enumerate(suite):
            expectation_class = vars(gx_expectations)[class_name(entry["expectation"])]
            expectation = expectation_class(
                **_arguments(entry),
                severity=entry["severity"],
                notes=entry["why"],
                meta={"entry": number},
            )
            expectations.append(expectation)
        definition = gx.ValidationDefinition(
            name="raw",
            data=asset.add_batch_definition_whole_dataframe("whole"),
            suite=context.suites.add(gx.ExpectationSuite(name="suite", expectations=expectations)),
        )
        validated = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table},
            result_format={"result_format": "BASIC", "partial_unexpected_count": 20},
        )
    # Great Expectations groups its results by cost, those that could not be computed first.
    return context, sorted(validated.results, key=_entry_number)


def _entry_number(result: "ExpectationValidationResult") -> int:
    assert result.expectation_config is not None and result.expectation_config.meta is not None
    return int(result.expectation_config.meta["entry"])


def class_name(expectation: str) -> str:
    """Return `ExpectColumnMaxToBeBetween` for `expect_column_max_to_be_between`."""
    return "".join(part.capitalize() for part in expectation.split("_"))


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress logs and warnings of Great Expectations; the results have what matters of them."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _results(
    table: "pd.DataFrame",
    suite: list[SuiteEntry],
    validated: list["ExpectationValidationResult"],
    named_by: str | None,
) -> list[Result]:
    results = []
    for entry, result in zip(suite, validated, strict=True):
        unexpected, observed, message = _observation(result)
        if not result.success:
            message += _places(table, entry, result.result, named_by)
        results.append(
            Result(
                expectation=entry["expectation"],
                kwargs=_arguments(entry),
                severity=entry["severity"],
                success=bool(result.success),
                unexpected=unexpected,
                observed=observed,
                why=entry["why"],
                message=message,
            )
        )
    return results


def kind_results(findings: Iterable["Finding"]) -> list[Result]:
    """Return the results of the expectations that every data set of a kind has to meet."""
    results = []
    for finding in findings:
        share = 1 - finding.unexpected / finding.checked if finding.checked else 1.0
        message = f"{finding.unexpected:,} of {finding.checked:,} {finding.unit} are unexpected"
        if finding.examples:
            message += f", such as {', '.join(finding.examples[:EXAMPLES])}"
        results.append(
            Result(
                expectation=finding.expectation,
                kwargs=finding.kwargs,
                severity=finding.severity,
                success=finding.unexpected == 0,
                unexpected=finding.unexpected,
                observed=_json(share),
                why=finding.why,
                message=message,
            )
        )
    return results


def _observation(result: "ExpectationValidationResult") -> tuple[int | None, Json, str]:
    """Return `unexpected`, `observed` and `message` of a Result."""
    fault = _fault(result.exception_info)
    if fault:
        return None, f"cannot be computed: {fault}", f"cannot be computed ({fault})"
    details = result.result
    if "element_count" in details:
        return _observed_rows(details)
    differences = _differences(details)
    if differences is not None:
        return _observed_set(differences)
    observed = _json(details["observed_value"])
    return None, observed, f"observed {_quoted(observed)}"


def _fault(info: Mapping[str, Any]) -> str:
    """Return the first line of the exception behind a result, "" if there is none.

    Of several, one for each metric that could not be computed, it is the first in alphabetical
    order: their own order may differ between runs, and the report must not.
    """
    infos = [info] if "raised_exception" in info else list(info.values())
    first_lines = []
    for exception in infos:
        if exception["raised_exception"]:
            lines = str(exception["exception_message"]).strip().splitlines()
            first_lines.append(lines[0] if lines else "no reason given")
    return min(first_lines, default="")


def _observed_rows(details: Mapping[str, Any]) -> tuple[int, Json, str]:
    """Return the observation of an expectation that is checked row by row."""
    unexpected = int(details["unexpected_count"])
    rows = int(details["element_count"]) - int(details.get("missing_count") or 0)
    share = 1 - unexpected / rows if rows else 1.0
    message = f"{unexpected:,} of {rows:,} rows are unexpected"
    values = [_quoted(v) for v in details["partial_unexpected_list"] if not _is_missing(v)]
    if values:
        examples = list(dict.fromkeys(values))[:EXAMPLES]
        message += f", such as {', '.join(examples)}"
    return unexpected, _json(share), message


def _places(
    table: "pd.DataFrame", entry: SuiteEntry, details: Mapping[str, Any], named_by: str | None
) -> str:
    """Return where the unexpected values of a column are, for a message; "" if that is unknown."""
    values = details.get("partial_unexpected_list") or []
    column = entry.get("column")
    if "element_count" not in details or column is None or not values:
        return ""
    rows = table.query(entry["row_condition"]) if "row_condition" in entry else table
    missing = [value for value in values if _is_missing(value)]
    unexpected = rows[column].isin([value for value in values if not _is_missing(value)])
    if missing:
        unexpected |= rows[column].isna()
    limit = PLACES if entry["severity"] == "critical" else EXAMPLES
    names = []
    for position in np.flatnonzero(unexpected)[:limit]:
        names.append(str(rows[named_by].iloc[position]) if named_by else place(rows, position))
    further = ", …" if unexpected.sum() > limit else ""
    return f" ({', '.join(names)}{further})" if names else ""


def _observed_set(differences: Mapping[str, list[object]]) -> tuple[int, Json, str]:
    """Return the observation of an expectation about a set."""
    parts = []
    listed: dict[str, Json] = {}
    for name, values in differences.items():
        listed[name] = _json(values[:LISTED])
        if values:
            parts.append(f"{name} {', '.join(map(_quoted, values))}")
    count = sum(len(values) for values in differences.values())
    return count, listed, "; ".join(parts) or "no differences"


def _differences(details: Mapping[str, Any]) -> dict[str, list[object]] | None:
    """Return the unexpected and the missing members of a set of columns or distinct values.

    None for the details of an expectation that is not about a set.
    """
    mismatched = details.get("details", {}).get("mismatched")
    if "partial_unexpected_list" in details or "partial_missing_list" in details:
        unexpected = details.get("partial_unexpected_list", [])
        missing = details.get("partial_missing_list", [])
    elif isinstance(mismatched, dict):
        unexpected = mismatched.get("unexpected", [])
        missing = mismatched.get("missing", [])
    else:
        return None
    return {"unexpected": sorted(unexpected, key=str), "missing": sorted(missing, key=str)}


def _is_missing(value: object) -> bool:
    return value is None or value != value  # NaN does not equal itself


def _quoted(value: object) -> str:
    """Return a value for a message: text in quotes, cut at WIDEST characters."""
    text = repr(value if isinstance(value, str) else _json(value))
    if len(text) > WIDEST:
        return f"{text[: WIDEST - 3]}..."
    return text


def _json(value: object) -> Json:
    """Return a value for JSON: floats with 9 digits, None for NaN and infinity, text for the rest.

    More digits would differ between processors, which add up a mean in different orders.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json(member) for member in value]
    if isinstance(value, dict):
        return {str(key): _json(member) for key, member in value.items()}
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


# --- from results to a report and messages ------------------------------------------------------


def summary(
    dataset: str,
    source: str,
    rows: int,
    digest: str,
    results: Sequence[Result],
    passed_over: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Return the report; `digest` is that of the raw files.

    `success`: no critical expectation failed. `counts`: how many passed, and failed by severity.
    `passed_over`: what reading passed over, or a rule of conf left out, if anything.
    """
    failed = {name: len(_failed(results, name)) for name in ("critical", "warning", "info")}
    expectations = []
    for result in results:
        expectations.append({key: value for key, value in result.items() if key != "message"})
    return {
        "dataset": dataset,
        "source": source,
        "success": failed["critical"] == 0,
        "rows": rows,
        **({"passed_over": passed_over} if passed_over else {}),
        "digest": digest,
        "counts": {"passed": len(results) - sum(failed.values()), **failed},
        "expectations": expectations,
    }


def _failed(results: Iterable[Result], severity: str) -> list[Result]:
    return [
        result for result in results if result["severity"] == severity and not result["success"]
    ]


def _sentence(result: Result) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in result["kwargs"].items())
    return f"{result['expectation']}({arguments}): {result['message']} ({result['why']})"


def refusal(
    dataset: str, results: Sequence[Result], advice: Mapping[str, str] | None = None
) -> str | None:
    """Return why the data are refused and what to do; None if every critical expectation passed.

    `advice` has further repairs by the column of an expectation.
    """
    failed = _failed(results, "critical")
    if not failed:
        return None
    critical = sum(result["severity"] == "critical" for result in results)
    repair = (advice or {}).get(str(failed[0]["kwargs"].get("column")))
    further = f", or {repair}" if repair else ""
    return (
        f"{dataset}: {len(failed)} of {critical} critical expectations failed, first"
        f" {_sentence(failed[0])}; correct the file at its source, or pull it again"
        f" (`make pull DATASET={dataset}`), or change {paths.expectations(dataset)}{further}"
    )


def remarks(dataset: str, results: Sequence[Result]) -> list[str]:
    """Return a line for each expectation of severity warning or info that failed."""
    lines = []
    for severity in ("warning", "info"):
        for result in _failed(results, severity):
            lines.append(f"{dataset} {severity}: {_sentence(result)}")
    return lines


# --- the stage ----------------------------------------------------------------------------------


def _source(folder: Path, dataset: str) -> str:
    try:
        receipt = read_json(folder / RECEIPT)
    except FileNotFoundError:
        raise DataError(
            f"{folder} has no {RECEIPT}; `make pull DATASET={dataset}` fetches the data"
        ) from None
    return str(receipt["source"])


def _described(passed_over: object) -> str:
    """Return what reading passed over for a line of output: a number, numbers by sort, or names."""
    if isinstance(passed_over, Mapping):
        return ", ".join(f"{count:,} {sort}" for sort, count in passed_over.items())
    if isinstance(passed_over, list):
        further = ", …" if len(passed_over) > PLACES else ""
        return f"{len(passed_over):,} ({', '.join(passed_over[:PLACES])}{further})"
    return f"{passed_over:,}"


def write_data_docs(context: "EphemeralDataContext", folder: Path) -> None:
    """Write the Data Docs of the last run to `folder`, in place of those of an earlier one."""
    with written_whole(folder) as beside, _silent():
        context.add_data_docs_site(
            "local",
            {  # type: ignore[typeddict-unknown-key]  # its type lacks show_how_to_buttons
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(beside.resolve()),
                },
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            },
        )
        context.build_data_docs(site_names=["local"])


def main(argv: list[str]) -> None:
    """`sextant validate dataset=<name>`: check data/raw/<name>/ and write the report.

    The reports in reports/validation/ are committed, so they are written only by DVC and only for
    accepted data. By hand, and for refused data, the report goes to .scratch/validation/.
    """
    name, overrides = config.named(argv, "dataset")
    conf = config.dataset(name, overrides)
    folder = paths.raw(name)
    scratch = paths.state_root() / paths.SCRATCH
    source = _source(folder, name)
    rows = plugins.kind(conf.kind).rows
    raw = rows.read(folder, conf.columns)
    count: Callable[[object], Mapping[str, object]] = plugins.optional(
        rows, "passed_over", lambda raw: {}
    )
    passed_over = count(raw)
    find: Callable[..., list[Finding]] = plugins.optional(rows, "findings", lambda raw, columns: [])
    table = rows.table(raw, conf.columns)
    findings = plugins.call(find, raw, conf.columns, table=table)
    check_suite(conf.expectations, str(paths.expectations(name)), list(table.columns))
    table, typed_suite = as_asked(table, conf.expectations)
    context, validated = _run_suite(table, typed_suite)
    named_by = plugins.optional(rows, "NAMED_BY", None)
    results = _results(table, conf.expectations, validated, named_by)
    results += kind_results(findings)
    try:
        write_data_docs(context, scratch / "data_docs" / name)
    except Exception as error:  # not worth failing the stage: Data Docs are an extra
        print(f"{name}: Data Docs were not written: {one_line(error)}", file=sys.stderr)
    for line in remarks(name, results):
        print(line, file=sys.stderr)
    reason = refusal(name, results, plugins.optional(rows, "ADVICE", {}))
    accepted = reason is None and paths.run_by_dvc()
    report = paths.validation(name) if accepted else scratch / "validation" / f"{name}.json"
    digest = folder_digest(folder, without=RECEIPT)
    write_json(report, summary(name, source, len(table), digest, results, passed_over))
    if reason:
        raise DataError(f"{reason}; all results are in {report}")
    for rule, left_out in passed_over.items():
        print(f"{name}: {rule}: {_described(left_out)}")
    passed = sum(result["success"] for result in results)
    print(f"{name}: {passed} of {len(results)} expectations passed ({report})")
