"""The confs of a series."""

from collections.abc import Mapping, Sequence

from . import confs, expectations, layout, models
from .dates import day_part
from .facts import Facts
from .result import Result, listed_reasons
from .series import Series


def result(
    name: str,
    file: str,
    form: Mapping[str, object],
    columns: Sequence[Facts],
    found: Series,
    pinned: Sequence[confs.Pinned],
    unit: str,
) -> Result:
    """The three confs of a series, and what the summary says of it."""
    by_name = {column.name: column for column in columns}
    day = by_name[found.date]
    date_format = "%Y-%m-%d" if day.date == "typed" else day_part(str(day.date))
    summary = f"{name}: {found.days:,} days of {file}, one row per day."
    dataset = [
        *confs.head(name, summary),
        *confs.sources(pinned),
        *_columns(form, found, date_format, unit),
        *confs.date_split(*found.starts),
        *confs.twin(),
    ]
    bounds = [bound for bound in (found.high, found.low) if bound is not None]
    suite = expectations.series(found.date, found.prices, bounds, found.days)
    size = models.Size(round(found.days * 0.7), level=found.level)
    question = f"What is `{found.target}` on the next day? A stacked LSTM on windows of days."
    shown = ", ".join(day.examples)
    lines = [
        f"days: {found.date} [{date_format}: {shown}], {found.days:,} different ones",
        f"target: {found.target} of the next day, as a change from {found.base}",
        f"prices: {', '.join(found.prices)}; volume: {found.volume or 'none'}",
        f"parts: val from {found.starts[0]}, gate from {found.starts[1]}, test from"
        f" {found.starts[2]}; {found.window} days for a forecast",
    ]
    if found.ignored:
        lines.append(f"not read: {listed_reasons(found.ignored)}")
    return Result(
        kind="series",
        family="rnn",
        task="forecasting",
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, suite),
        model=models.text(name, question, "rnn", "forecasting", size),
        lines=lines,
        doubts=list(found.doubts),
    )


def _columns(form: Mapping[str, object], found: Series, date_format: str, unit: str) -> list[str]:
    lines = ["columns:", *confs.file_format(form)]
    lines.append(f"  date: {layout.scalar(found.date)}")
    note = "of Python's strptime; a time may follow the day"
    lines.append(layout.line(2, "date_format", layout.scalar(date_format), note))
    if found.only:
        note = "one of the series in the file"
        lines.append(layout.line(2, "only", layout.flow_map(found.only), note))
    if found.repeated:
        note = "row of a day that stands twice; or first, or refuse"
        lines.append(layout.line(2, "repeated", found.repeated, note))
    if found.zeros:
        lines.append(layout.line(2, "zeros", found.zeros, "days with a price of 0; or refuse"))
    lines.append(layout.line(2, "target", layout.scalar(found.target), "forecast for the next day"))
    note = "the latest price known then; the forecast is a change from it"
    lines.append(layout.line(2, "base", layout.scalar(found.base), note))
    lines += layout.wrapped(2, "prices", found.prices)
    lines.append(layout.line(2, "unit", layout.scalar(unit), "of the prices; the figures show it"))
    lines.append(layout.line(2, "high", layout.scalar(found.high), "bounds of a day's prices"))
    lines.append(f"  low: {layout.scalar(found.low)}")
    lines.append(f"  volume: {layout.scalar(found.volume)}")
    if found.unadjusted is None:
        note = "a price that is not adjusted for a split: {column, before, factor}"
        lines.append(layout.line(2, "unadjusted", "null", note))
    else:
        column, before, factor = found.unadjusted
        lines.append("  # Before this day the price is so many times the others: a stock split.")
        block = f'{{column: {layout.scalar(column)}, before: "{before}", factor: {factor:g}}}'
        lines.append(f"  unadjusted: {block}")
    lines.append(layout.line(2, "window", str(found.window), "days of input for a forecast"))
    return lines
