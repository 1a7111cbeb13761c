"""The confs of ratings."""

from collections.abc import Mapping, Sequence

from . import confs, expectations, layout, models
from .ratings import SHARES, Ratings
from .reading import Reading
from .result import Result

FEW_VALUES = 21  # a longer scale is written as a range


def result(
    name: str,
    file: str,
    guess: Ratings,
    task: str,
    pinned: Sequence[confs.Pinned],
) -> Result:
    """The three confs of ratings, and what the summary says of them."""
    by_name = {column.name: column for column in guess.ratings.columns}
    users = by_name[guess.roles.user].distinct
    items = by_name[guess.roles.item].distinct
    count = by_name[guess.roles.rating].rows
    family = models.FAMILIES["ratings", task]
    summary = f"{name}: {count:,} ratings of {items:,} items by {users:,} users, from {file}."
    dataset = [
        *confs.head(name, summary),
        *confs.sources(pinned),
        *_columns(guess),
        *confs.hash_split(SHARES, 0, "the pair of user and item"),
        *confs.twin(),
    ]
    columns = [guess.roles.user, guess.roles.item, guess.roles.rating, guess.title or "title"]
    suite = expectations.ratings(columns, guess.values, count, guess.items is not None)
    size = models.Size(count, users=users)
    question = "Will this user like this item? A restricted Boltzmann machine."
    if task == "stars":
        question = "How will this user rate this item? A stacked autoencoder."
    scale = ", ".join(f"{value:g}" for value in guess.values[:12])
    more = ", …" if len(guess.values) > 12 else ""
    lines = [
        f"ratings: {count:,} by {users:,} users ({guess.roles.user}) of {items:,} items"
        f" ({guess.roles.item}), {count / max(users * items, 1):.1%} of all pairs",
        f"scale: {guess.roles.rating} {scale}{more}; a like from {guess.like:g} on",
        f"titles: {_list_of(guess.items, guess.title)}; users: {_list_of(guess.users, None)}",
    ]
    return Result(
        kind="ratings",
        family=family,
        task=task,
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, suite),
        model=models.text(name, question, family, task, size),
        lines=lines,
        doubts=list(guess.doubts),
    )


def _list_of(reading: Reading | None, column: str | None) -> str:
    if reading is None:
        return "those of the ratings"
    return f"`{column}` of {reading.file}" if column else reading.file


def _columns(guess: Ratings) -> list[str]:
    roles = guess.roles
    lines = [
        "columns:",
        f"  user: {layout.scalar(roles.user)}",
        f"  item: {layout.scalar(roles.item)}",
        f"  rating: {layout.scalar(roles.rating)}",
        f"  title: {layout.scalar(guess.title or 'title')}",
        _values(guess.values),
        layout.line(2, "like", layout.scalar(guess.like), "a rating of at least this is a like"),
    ]
    if guess.unrated is not None:
        note = "a rating that means that there is none"
        lines.append(layout.line(2, "unrated", layout.flow([guess.unrated]), note))
    if guess.repeated:
        lines.append(
            layout.line(2, "repeated", "last", "of a pair rated twice; or mean, or refuse")
        )
        if roles.time:
            lines.append(layout.line(2, "time", layout.scalar(roles.time), "which tells the last"))
    lines.append(f"  ratings: {_format(guess.ratings.form)}")
    lines.append(f"  files: {layout.flow([guess.ratings.file])}")
    lines.append(layout.line(2, "test_files", "[]", "files that are reserved for testing"))
    for key, reading, note in (
        ("items", guess.items, "null: the ids are the titles"),
        ("users", guess.users, "null: the users are those of the ratings"),
    ):
        if reading is None:
            lines.append(layout.line(2, f"{key}_file", "null", note))
        else:
            lines.append(f"  {key}: {_format(reading.form)}")
            lines.append(f"  {key}_file: {layout.scalar(reading.file)}")
    return lines


def _values(values: Sequence[float]) -> str:
    if len(values) <= FEW_VALUES:
        return f"  values: {layout.flow(values)}"
    step = round(values[1] - values[0], 6)
    scale = {"lowest": values[0], "highest": values[-1], "step": step}
    return f"  values: {layout.flow_map(scale)}"


def _format(form: Mapping[str, object]) -> str:
    return layout.flow_map(form) if form else "{}"
