"""A table: its conf and expectations from its columns."""

from collections.abc import Mapping, Sequence

from ..errors import UsageError
from . import confs, expectations, layout, models
from .facts import Facts, counts
from .result import SHOWN, Result, listed_reasons
from .roles import MANY, Roles

SHARES = {"train": 0.6, "val": 0.1, "gate": 0.1, "test": 0.2}
MANY_ALIKE = 20  # columns that differ by a number alone, which a pattern stands for
RARE = 0.2  # the share of the rarer of two classes below which accuracy hardly tells


def table(
    name: str,
    file: str,
    form: Mapping[str, object],
    columns: Sequence[Facts],
    column_roles: Roles,
    pinned: Sequence[confs.Pinned],
    positive: str | None,
    decide: str | None,
    rows: int,
) -> Result:
    """The three confs of a table, and what the summary says of it."""
    by_name = {column.name: column for column in columns}
    target = by_name.get(column_roles.target or "")
    shares: dict[str, float] = {}
    if target is not None and column_roles.task == "classification":
        shares = class_shares(target)
    if positive is None and len(shares) == 2:
        positive = min(shares, key=lambda level: shares[level])
    numbers_as_classes = False
    if target is not None and shares:
        numbers_as_classes = target.is_number and len(shares) > MANY
    family = models.FAMILIES["tabular", column_roles.task]
    summary = f"{name}: {rows:,} rows of {file}, one row per case."
    dataset = [
        *confs.head(name, summary),
        *confs.sources(pinned),
        *_columns(form, column_roles, positive, numbers_as_classes),
        *confs.hash_split(SHARES, 0, "the key" if column_roles.key else "the row"),
        *confs.twin(),
    ]
    metric = None
    if len(shares) == 2 and min(shares.values()) < RARE:
        metric = "auroc"
    doubts = list(column_roles.doubts)
    decision: list[str] = []
    if decide is not None:
        decision = _decide(positive, decide)
    elif positive is not None and shares.get(positive, 1) < RARE:
        decision = _hint(positive)
        doubts.append(
            f"{shares[positive]:.1%} are {positive}, so that it is the most probable class in few"
            " rows (DECIDE=f1 predicts it from the probability with the best F1)"
        )
    spread = 0.0
    if column_roles.task == "regression" and target is not None:
        spread = float(target.values.std())
    size = models.Size(
        round(rows * SHARES["train"]),
        len(column_roles.numeric) + len(column_roles.categorical),
        level=spread,
    )
    question = _question(column_roles)
    return Result(
        kind="tabular",
        family=family,
        task=column_roles.task,
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, suite(columns, column_roles, shares, rows)),
        model=models.text(name, question, family, column_roles.task, size, metric, decision),
        lines=summary_lines(columns, column_roles, shares, positive),
        doubts=doubts,
    )


def _decide(positive: str | None, decide: str) -> list[str]:
    """The line `decide` of the model's schedule."""
    if positive is None:
        raise UsageError(
            "DECIDE is about the probability of one class: name it with POSITIVE=…, since the"
            " target has not two classes"
        )
    note = f"from which probability on {positive} is predicted"
    return [layout.line(2, "decide", f"{{threshold: {decide}}}", note)]


def _hint(positive: str) -> list[str]:
    """The same as a comment: without it the most probable class is predicted, as everywhere."""
    lines = [
        f"In few rows {positive[:30]} is the most probable class. To predict it from a lower",
        "probability on, chosen on val, write decide: {threshold: f1} here, or decide: {cost: 5}",
        "if a row of that class that is missed costs as much as five false alarms.",
    ]
    return [f"  {layout.comment(line)}" for line in lines]


def _question(column_roles: Roles) -> str:
    if column_roles.task == "mapping":
        return "Which rows are alike, and which unlike the rest? A map to look at."
    if column_roles.task == "regression":
        return f"How much is `{column_roles.target}`? An ensemble of perceptrons in one net."
    return f"Which `{column_roles.target}`? An ensemble of perceptrons in one net."


def class_shares(target: Facts) -> dict[str, float]:
    """The share of each class, sorted by its text."""
    counted = target.texts.value_counts()
    total = int(counted.sum())
    return {str(level): int(counted[level]) / total for level in sorted(counted.index)}


# --- the conf of the data set -------------------------------------------------------------------


def _columns(
    form: Mapping[str, object], column_roles: Roles, positive: str | None, numbers_as_classes: bool
) -> list[str]:
    key = layout.scalar(column_roles.key)
    key_note = "identifies a row and determines its part"
    if column_roles.key is None:
        key_note = "null: the whole row determines its part"
    lines = ["columns:", *confs.file_format(form)]
    lines.append(layout.line(2, "key", key, key_note))
    target_note = "what is predicted" if column_roles.task != "mapping" else "shown on the map only"
    if column_roles.target is None:
        target_note = "nothing is predicted"
    lines.append(layout.line(2, "target", layout.scalar(column_roles.target), target_note))
    if column_roles.task == "regression":
        note = "and no class, however few different values it has"
        lines.append(layout.line(2, "target_type", "number", note))
    elif numbers_as_classes:
        note = "and no number, however many different values it has"
        lines.append(layout.line(2, "target_type", "class", note))
    if positive is not None:
        note = "the class whose probability is answered: the rarer one"
        lines.append(layout.line(2, "positive", layout.scalar(positive), note))
    if column_roles.place is not None:
        note = "names a country in each row, for a map of the world"
        lines.append(layout.line(2, "place", layout.scalar(column_roles.place), note))
    lines += layout.with_reasons(2, "ignored", column_roles.ignored)
    lines.append("  # Quantities. Numbers that are only codes belong to `categorical`.")
    for role, names in (
        ("numeric", column_roles.numeric),
        ("categorical", column_roles.categorical),
    ):
        listed = with_patterns(names) if role == "numeric" else names
        lines += layout.wrapped(2, role, listed)
    return lines


# --- expectations -------------------------------------------------------------------------------


def suite(
    columns: Sequence[Facts], column_roles: Roles, shares: dict[str, float], rows: int
) -> list[expectations.Section]:
    """The expectations of a table: the critical ones first."""
    by_name = {column.name: column for column in columns}
    used = [*column_roles.numeric, *column_roles.categorical]
    table_entries = [
        expectations.expect(
            "table_columns_to_match_set",
            "critical",
            "a column that is missing or has another name shows another kind of file",
            column_set=[column.name for column in columns],
            exact_match=False,
        ),
        expectations.row_count(rows),
    ]
    sections: list[expectations.Section] = [("the table", table_entries)]
    if column_roles.key is not None:
        sections.append(("the key", key_entries(column_roles.key)))
    if column_roles.target is not None and column_roles.task != "mapping":
        sections.append(("the target", _target_entries(by_name[column_roles.target], shares)))
    features = []
    for name in used:
        column = by_name[name]
        features.append(expectations.presence(column))
        if name in column_roles.numeric:
            features.append(number(column))
            features.append(expectations.range_of(column))
        elif column.distinct <= expectations.MOST_LEVELS:
            features.append(expectations.levels(column, levels_of(column)))
    sections.append(("features", features))
    return sections


def key_entries(key: str) -> list[expectations.Entry]:
    """That a key stands in every row, and in one only."""
    return [
        expectations.expect(
            "column_values_to_not_be_null",
            "critical",
            "the key determines the part of a row",
            column=key,
        ),
        expectations.expect(
            "column_values_to_be_unique",
            "critical",
            "a row that occurs twice counts twice",
            column=key,
        ),
    ]


def number(column: Facts) -> expectations.Entry:
    """That a column of numbers has no text in it."""
    return expectations.expect(
        "column_values_to_be_in_type_list",
        "critical",
        "a text among the numbers turns the whole column into text",
        column=column.name,
        type_list=["int64", "float64"],
    )


def _target_entries(target: Facts, shares: dict[str, float]) -> list[expectations.Entry]:
    present = expectations.expect(
        "column_values_to_not_be_null",
        "critical",
        "a row without a target cannot be used for training",
        column=target.name,
    )
    if shares:
        values = levels_of(target)
        return [present, *expectations.classes(target.name, shares, values)]
    return [present, number(target), expectations.range_of(target)]


def levels_of(column: Facts) -> list[str]:
    """The levels of a category, sorted."""
    return sorted(column.texts.unique())


# --- the summary --------------------------------------------------------------------------------


def summary_lines(
    columns: Sequence[Facts], column_roles: Roles, shares: dict[str, float], positive: str | None
) -> list[str]:
    """What was understood: target, key, features with examples, and what is left aside."""
    by_name = {column.name: column for column in columns}
    lines = []
    if column_roles.target is None:
        lines.append("target: none, a map of the rows")
    elif shares:
        most = sorted(shares.items(), key=lambda item: -item[1])[:6]
        listed = ", ".join(f"{level} {share:.1%}" for level, share in most)
        more = f" and {len(shares) - len(most)} more" if len(shares) > len(most) else ""
        chosen = f"; `positive` is {positive}" if positive is not None else ""
        lines.append(
            f"target: {column_roles.target}, {len(shares)} classes: {listed}{more}{chosen}"
        )
    else:
        target = by_name[column_roles.target]
        reading = "from" if column_roles.task == "regression" else "shown on the map,"
        lines.append(f"target: {column_roles.target}, {reading} {_range_or_levels(target)}")
    if column_roles.place is not None:
        lines.append(f"countries: {column_roles.place}, for a map of the world")
    lines.append(f"key: {column_roles.key or 'none, the whole row decides its part'}")
    for role, names in (
        ("numeric", column_roles.numeric),
        ("categorical", column_roles.categorical),
    ):
        if names:
            lines.append(f"{role} ({len(names)}): {_examples(by_name, names)}")
    if column_roles.ignored:
        lines.append(
            f"left aside ({len(column_roles.ignored)}): {listed_reasons(column_roles.ignored)}"
        )
    missing = [column for column in columns if column.missing]
    listed = ", ".join(f"{column.name} {column.missing:,}" for column in missing[:SHOWN])
    more = f", and {len(missing) - SHOWN} more columns" if len(missing) > SHOWN else ""
    lines.append(f"missing values: {listed or 'none'}{more}")
    return lines


def _range_or_levels(column: Facts) -> str:
    if column.is_number:
        return f"{column.values.min():g} to {column.values.max():g}"
    return ", ".join(level for level, _ in counts(column, 6))


def _examples(by_name: Mapping[str, Facts], names: Sequence[str]) -> str:
    listed = []
    for name in names[:SHOWN]:
        column = by_name[name]
        values = ", ".join(text[:20] for text in column.examples)
        listed.append(f"{name} [{column.type}: {values}]")
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(listed)}{more}"


def with_patterns(names: Sequence[str]) -> list[str]:
    """Names of which many differ by a number alone as a pattern, such as `pixel*`.

    A pattern stands for the columns that have no other role, so it need not fit these alone.
    """
    stems = [name.rstrip("0123456789") for name in names]
    listed: list[str] = []
    for name, stem in zip(names, stems, strict=True):
        is_pattern = bool(stem) and stem != name and stems.count(stem) >= MANY_ALIKE
        entry = f"{stem}*" if is_pattern else name
        if entry not in listed:
            listed.append(entry)
    return listed
