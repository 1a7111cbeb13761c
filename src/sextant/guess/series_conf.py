"""The confs of a series."""

from collections.abc import Mapping, Sequence

from . import confs, expectations, layout, models
from .dates import day_part
from .facts import Facts
from .result import Result, listed_reasons
from .series import Series

ISO = "%Y-%m-%d"  # for the days of a workbook, which are typed


def result(
    name: str,
    file: str,
    form: Mapping[str, object],
    columns: Sequence[Facts],
    guess: Series,
    pinned: Sequence[confs.Pinned],
    unit: str,
) -> Result:
    """The three confs of a series, and what the summary says of it."""
    by_name = {column.name: column for column in columns}
    day = by_name[guess.date]
    date_format = ISO if day.date == "typed" else day_part(str(day.date))
    summary = f"{name}: {guess.days:,} days of {file}, one row per day."
    dataset = [
        *confs.head(name, summary),
        *confs.sources(pinned),
        *_columns(form, guess, date_format, unit),
        *confs.date_split(*guess.starts),
        *confs.twin(),
    ]
    bounds = [bound for bound in (guess.high, guess.low) if bound is not None]
    suite = expectations.series(guess.date, guess.prices, bounds, guess.days)
    size = models.Size(round(guess.days * 0.7), level=guess.level)
    question = f"What is `{guess.target}` on the next day? A stacked LSTM on windows of days."
    examples = ", ".join(day.examples)
    lines = [
        f"days: {guess.date} [{date_format}: {examples}], {guess.days:,} different ones",
        f"target: {guess.target} of the next day, as a change from {guess.base}",
        f"prices: {', '.join(guess.prices)}; volume: {guess.volume or 'none'}",
        f"parts: val from {guess.starts[0]}, gate from {guess.starts[1]}, test from"
        f" {guess.starts[2]}; {guess.window} days for a forecast",
    ]
    if guess.ignored:
        lines.append(f"not read: {listed_reasons(guess.ignored)}")
    return Result(
        kind="series",
        family="rnn",
        task="forecasting",
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, suite),
        model=models.text(name, question, "rnn", "forecasting", size),
        lines=lines,
        doubts=list(guess.doubts),
    )


def _columns(form: Mapping[str, object], guess: Series, date_format: str, unit: str) -> list[str]:
    lines = ["columns:", *confs.file_format(form)]
    lines.append(f"  date: {layout.scalar(guess.date)}")
    note = "of Python's strptime; a time may follow the day"
    lines.append(layout.line(2, "date_format", layout.scalar(date_format), note))
    if guess.only:
        note = "one of the series in the file"
        lines.append(layout.line(2, "only", layout.flow_map(guess.only), note))
    if guess.repeated:
        note = "row of a day that stands twice; or first, or refuse"
        lines.append(layout.line(2, "repeated", guess.repeated, note))
    if guess.zeros:
        lines.append(layout.line(2, "zeros", guess.zeros, "days with a price of 0; or refuse"))
    lines.append(layout.line(2, "target", layout.scalar(guess.target), "forecast for the next day"))
    note = "the latest price known then; the forecast is a change from it"
    lines.append(layout.line(2, "base", layout.scalar(guess.base), note))
    lines += layout.wrapped(2, "prices", guess.prices)
    lines.append(layout.line(2, "unit", layout.scalar(unit), "of the prices; the figures show it"))
    lines.append(layout.line(2, "high", layout.scalar(guess.high), "bounds of a day's prices"))
    lines.append(f"  low: {layout.scalar(guess.low)}")
    lines.append(f"  volume: {layout.scalar(guess.volume)}")
    if guess.unadjusted is None:
        note = "a price that is not adjusted for a split: {column, before, factor}"
        lines.append(layout.line(2, "unadjusted", "null", note))
    else:
        column, before, factor = guess.unadjusted
        lines.append("  # Before this day the price is so many times the others: a stock split.")
        block = f'{{column: {layout.scalar(column)}, before: "{before}", factor: {factor:g}}}'
        lines.append(f"  unadjusted: {block}")
    lines.append(layout.line(2, "window", str(guess.window), "days of input for a forecast"))
    return lines
