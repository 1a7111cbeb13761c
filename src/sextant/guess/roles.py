"""The role of each column of a table: key, target, feature, or left aside with a reason."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..errors import UsageError
from ..kinds.tabular.rows.countries import countries
from ..strict import advice
from .facts import Facts

MANY = 20  # a target with more different numbers is an amount
FEW_CODES = 5  # whole numbers with at most so many different values are codes
LEAST_LEVELS, MOST_LEVELS = 50, 1000  # different texts of a category
ROWS_PER_LEVEL = 20  # of which a category has at least so many, where it has more than LEAST_LEVELS
TELLS_ALONE = 0.995  # balanced accuracy of a column by itself, from which on it is suspected
MESSAGE = 400  # characters of reasons in a message
SENTINELS = (-9999, -999, -99, 9999, 99999)
LEAST_MARKS = 3  # rows with such a number
LEAK_ROWS = 20_000  # rows that the look for leaks takes
LEAK_BINS = 40
KEY_NAME = re.compile(
    r"(.*[_\W])?(id|ids|key|uuid|guid|code|number|no|nr|num|index|isbn|sku|ean)"
    r"|.*(client|customer|user|order|account|member|person|patient|employee|passenger|loan|policy"
    r"|transaction|case|record|sample|product|item)(id|no|nr|num|number|key)",
    re.IGNORECASE,
)
# A column called like this names countries if so many of its texts do, and so large a share.
PLACE_NAME = re.compile(
    r"(.*[_\W])?(country|countries|nation|economy|territory)([_\W]*name)?", re.IGNORECASE
)
LEAST_COUNTRIES, COUNTRY_SHARE = 10, 0.8
COUNTER_NAME = re.compile(
    r"unnamed(: ?\d+)?|row[ _.-]?(id|no|nr|num|number|index)?|index|#|no\.?|nr\.?|s\.?no\.?|x"
    r"|column_1",
    re.IGNORECASE,
)
TARGET_NAMES = (
    "target", "label", "class", "y", "outcome", "churn", "churned", "exited", "attrition",
    "attrition_flag", "survived", "default", "defaulted", "repaid", "response", "diagnosis",
    "species", "income", "quality", "approved", "fraud", "is_fraud", "result", "price", "saleprice",
)  # fmt: skip


@dataclass
class Roles:
    """`ignored` maps a column that is left aside to the reason; `doubts` say what is unsure.

    `place`: for a map, the column that names countries.
    """

    key: str | None = None
    target: str | None = None
    task: str = "classification"
    place: str | None = None
    numeric: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Chosen:
    """What the caller has decided; None and [] leave it to the data."""

    target: str | None = None
    task: str | None = None
    key: str | None = None
    ignored: Sequence[str] = ()
    numeric: Sequence[str] = ()
    categorical: Sequence[str] = ()


def roles(columns: Sequence[Facts], chosen: Chosen) -> Roles:
    """The role of each column.

    Raises UsageError for a chosen column that the table lacks, and for a table without a feature.
    """
    by_name = {column.name: column for column in columns}
    _check_names(by_name, chosen)
    result = Roles()
    result.target, result.task = _target_and_task(columns, chosen, result.doubts)
    result.key = _key(columns, chosen, result.target, result.doubts)
    if result.task == "mapping":
        _set_place(columns, result)
    for column in columns:
        if column.name not in (result.key, result.target):
            _assign(column, chosen, result)
    if result.target is not None and result.task != "mapping":
        _set_leaks_aside(by_name, by_name[result.target], chosen, result)
    for name in result.numeric:
        mark = sentinel(by_name[name])
        if mark:
            result.doubts.append(f"`{name}` has {mark}, perhaps a mark (UNKNOWN={mark})")
    if not result.numeric and not result.categorical:
        reasons = [f"`{name}`: {reason}" for name, reason in result.ignored.items()]
        raise UsageError(
            "no column is left as a feature beside key and target"
            f" ({'; '.join(reasons)[:MESSAGE] or 'there is no other'}); name some with NUMERIC=… or"
            " CATEGORICAL=…"
        )
    return result


def _check_names(by_name: Mapping[str, Facts], chosen: Chosen) -> None:
    named = {"TARGET": [chosen.target], "KEY": [chosen.key]}
    named |= {"IGNORED": list(chosen.ignored), "NUMERIC": list(chosen.numeric)}
    named |= {"CATEGORICAL": list(chosen.categorical)}
    for option, values in named.items():
        for name in values:
            if name is not None and name not in by_name:
                raise UsageError(f"{option}={name}: no such column; {_advice(name, by_name)}")
    for name in chosen.numeric:
        column = by_name[name]
        if not column.is_number:
            raise UsageError(
                f"NUMERIC={name}: the column has {column.type}, such as"
                f" {', '.join(column.examples)}; expected numbers"
            )


def _advice(name: str, by_name: Mapping[str, Facts]) -> str:
    if all(re.fullmatch(r"column_\d+", column) for column in by_name):
        return (
            "the file is read without a header; write HEADER=yes, and SKIP=<lines above the header>"
            " if it is not the first line"
        )
    return advice(name, by_name)


# --- countries ----------------------------------------------------------------------------------


def _set_place(columns: Sequence[Facts], result: Roles) -> None:
    """Set the first column that names countries as place, and as key if it is the only one."""
    for column in columns:
        if not PLACE_NAME.fullmatch(column.name) or column.type != "texts":
            continue
        names = column.texts.unique()
        recognised = len(names) - len(countries(names).unknown)
        if recognised >= LEAST_COUNTRIES and recognised >= COUNTRY_SHARE * len(names):
            result.place = column.name
            if result.key is None and column.is_unique and column.name != result.target:
                result.key = column.name
            return


# --- target and task ----------------------------------------------------------------------------


def _target_and_task(
    columns: Sequence[Facts], chosen: Chosen, doubts: list[str]
) -> tuple[str | None, str]:
    by_name = {column.name: column for column in columns}
    if chosen.target is None and chosen.task == "mapping":
        return None, "mapping"
    target = by_name[chosen.target] if chosen.target else _guessed_target(columns)
    if target is None:
        doubts.append("no column looks like a target: a map of the rows (TARGET=… to predict one)")
        return None, "mapping"
    if chosen.target is None:
        doubts.append(f"target `{target.name}` (TARGET=… names another column)")
    if chosen.task:
        return target.name, chosen.task
    if target.is_number and not target.is_code and target.distinct > MANY:
        return target.name, "regression"
    if target.is_number and target.distinct > 10:
        doubts.append(
            f"task: `{target.name}` has {target.distinct} different numbers (TASK=regression)"
        )
    return target.name, "classification"


def _guessed_target(columns: Sequence[Facts]) -> Facts | None:
    """A column with a usual name of a target, else the last one, if it has few values and no gaps.

    Without a header it may also be the first one, as in many sets of the UCI repository.
    """
    usable = [column for column in columns if column.distinct > 1 and not column.date]
    for name in TARGET_NAMES:
        for column in usable:
            if column.name.lower() == name and (column.distinct <= MANY or column.is_number):
                return column
    ends = [columns[-1]]
    if columns[0].name == "column_1":
        ends.append(columns[0])
    for column in ends:
        if 2 <= column.distinct <= MANY and not column.missing and not column.date:
            return column
    return None


# --- key ----------------------------------------------------------------------------------------


def _key(
    columns: Sequence[Facts], chosen: Chosen, target: str | None, doubts: list[str]
) -> str | None:
    if chosen.key:
        return chosen.key
    candidates = []
    for position, column in enumerate(columns):
        strength = _key_strength(column)
        if column.name != target and column.name not in chosen.ignored and strength:
            candidates.append((strength, -position, column.name))
    if not candidates:
        return None
    candidates.sort(reverse=True)
    best = candidates[0]
    if len(candidates) > 1 and candidates[1][0] == best[0]:
        doubts.append(f"key `{best[2]}` (KEY={candidates[1][2]} is unique as well)")
    return best[2]


def _key_strength(column: Facts) -> int:
    """How much a column looks like the key of a row; 0: not at all.

    A counter of the rows is none: it changes when the file is sorted in another way.
    """
    if not column.is_unique or column.date or _is_counter(column):
        return 0
    if KEY_NAME.fullmatch(column.name) and (column.is_whole or not column.is_number):
        return 3
    if column.is_whole and _is_consecutive(column):
        return 2
    if not column.is_number and column.longest <= 40:
        return 1
    return 0


def _is_counter(column: Facts) -> bool:
    if not COUNTER_NAME.fullmatch(column.name) or not column.is_whole or not column.is_unique:
        return False
    return bool(column.values.min() in (0, 1)) and _is_consecutive(column)


def _is_consecutive(column: Facts) -> bool:
    span = column.values.max() - column.values.min()
    return bool(span == column.distinct - 1) and column.distinct > 10


# --- features -----------------------------------------------------------------------------------


def _assign(column: Facts, chosen: Chosen, result: Roles) -> None:
    """Add a column to numeric, categorical or ignored."""
    name = column.name
    if name in chosen.ignored:
        result.ignored[name] = "by IGNORED"
    elif name in chosen.numeric:
        result.numeric.append(name)
    elif name in chosen.categorical:
        result.categorical.append(name)
    else:
        reason = reason_to_ignore(column)
        if reason:
            result.ignored[name] = reason
        elif is_numeric(column, result.task):
            result.numeric.append(name)
        else:
            result.categorical.append(name)


def reason_to_ignore(column: Facts) -> str:
    """Why a column is no feature, "" if it can be one."""
    if not len(column.texts):
        return "empty"
    if column.distinct == 1 and column.missing == 0:
        return f"always {column.examples[0][:20]}"
    if column.date:
        return "days"
    if _is_counter(column):
        return "counts the rows"
    is_text = not column.is_number or column.is_code
    looks_like_key = KEY_NAME.fullmatch(column.name) is not None
    nearly_unique = column.distinct > 0.95 * len(column.texts) and len(column.texts) > 20
    if nearly_unique and (is_text or (column.is_whole and looks_like_key)):
        return "identifies a row"
    if is_text and column.distinct > most_levels(column):
        return f"{column.distinct:,} different texts in {column.rows:,} rows"
    return ""


def most_levels(column: Facts) -> int:
    """How many different texts a category may have: its embedding needs rows of each."""
    by_rows = min(column.rows // ROWS_PER_LEVEL, MOST_LEVELS)
    return min(max(LEAST_LEVELS, by_rows), max(column.rows // 3, 2))


def is_numeric(column: Facts, task: str) -> bool:
    """Whether a feature is a quantity; a map reads codes as numbers, as published maps do."""
    if not column.is_number or column.is_code:
        return False
    return not column.is_whole or column.distinct > FEW_CODES or task == "mapping"


def sentinel(column: Facts) -> str:
    """A number such as -999 that seems to mark a missing value, "" if there is none.

    It occurs several times, and far from all other values, which have another sign or fewer digits.
    """
    for mark in SENTINELS:
        count = int((column.values == mark).sum())
        rest = column.values[column.values != mark]
        if count < LEAST_MARKS or rest.empty:
            continue
        if mark < 0 and rest.min() >= 0:
            return str(mark)
        if mark > 0 and rest.max() < mark / 5:
            return str(mark)
    return ""


# --- leaks --------------------------------------------------------------------------------------


def _set_leaks_aside(
    by_name: Mapping[str, Facts], target: Facts, chosen: Chosen, result: Roles
) -> None:
    """Move columns that tell the target alone to `ignored`: they are often written after it."""
    for group in (result.numeric, result.categorical):
        for name in list(group):
            by_hand = name in chosen.numeric or name in chosen.categorical
            if not by_hand and tells_alone(by_name[name], target, result.task):
                result.leaks.append(name)
    features = len(result.numeric) + len(result.categorical)
    if len(result.leaks) == features:  # nothing else is left, so the question is just easy
        result.leaks.clear()
    for name in result.leaks:
        result.doubts.append(
            f"`{name}` tells `{target.name}` alone, perhaps as it was written later: left aside"
        )
        for group in (result.numeric, result.categorical):
            if name in group:
                group.remove(name)
        result.ignored[name] = f"tells `{target.name}` alone; a feature, if known beforehand"


def tells_alone(column: Facts, target: Facts, task: str) -> bool:
    """Whether the target follows from this column alone, but for a few rows."""
    both = pd.DataFrame({"target": target.texts if task != "regression" else target.values})
    both["feature"] = column.values if column.is_number else column.texts
    both = both[both["target"].notna()]
    both = both.iloc[:: max(1, len(both) // LEAK_ROWS)]
    if len(both) < 30:
        return False
    if task == "regression":
        return _correlates(both, column)
    return _balanced_accuracy(both, column) >= TELLS_ALONE


def _correlates(both: pd.DataFrame, column: Facts) -> bool:
    pairs = both.dropna()
    if not column.is_number or len(pairs) < 30 or pairs["feature"].nunique() < 10:
        return False
    ranks = pairs.rank()
    correlation = np.corrcoef(ranks["target"], ranks["feature"])[0, 1]
    return bool(abs(correlation) >= 0.9995)


def _balanced_accuracy(both: pd.DataFrame, column: Facts) -> float:
    """The mean over the classes of the rows that are right, if each level or bin says its own.

    A missing value is a level too. Levels of a few rows say nothing: they may fit by chance.
    """
    feature = both["feature"]
    if column.is_number and column.distinct > LEAK_BINS:
        ranks = feature.rank(method="dense", pct=True)
        candidates = [_best_cut(feature, both["target"])]
        # A bin of a few rows is pure by chance.
        bins = max(2, min(LEAK_BINS, len(both) // ROWS_PER_LEVEL))
        candidates.append((ranks * bins).fillna(-1).astype(int))
    else:
        if feature.nunique() > len(both) / 10:
            return 0.0
        candidates = [feature.astype(object).where(feature.notna(), "missing")]
    return max(_purity(levels, both["target"]) for levels in candidates)


def _best_cut(feature: pd.Series, target: pd.Series) -> pd.Series:
    """Two bins and the missing values, cut between the two classes as their medians suggest."""
    classes = target.value_counts().index[:2]
    if len(classes) < 2:
        return pd.Series(0, index=feature.index)
    first = feature[target == classes[0]]
    second = feature[target == classes[1]]
    if first.median() > second.median():
        first, second = second, first
    cut = (first.quantile(0.999) + second.quantile(0.001)) / 2
    return (feature > cut).astype(int).where(feature.notna(), -1)


def _purity(levels: pd.Series, target: pd.Series) -> float:
    """The mean over the classes of the share that the most frequent class of each level has."""
    level_codes, level_names = pd.factorize(levels)
    class_codes, class_names = pd.factorize(target)
    cells = level_codes * len(class_names) + class_codes
    table = np.bincount(cells, minlength=len(level_names) * len(class_names))
    table = table.reshape(len(level_names), len(class_names))
    is_most = table == table.max(axis=1, keepdims=True)
    right = np.where(is_most, table, 0).sum(axis=0)
    return float((right / table.sum(axis=0)).mean())
