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
    found: Ratings,
    task: str,
    pinned: Sequence[confs.Pinned],
) -> Result:
    """The three confs of ratings, and what the summary says of them."""
    by_name = {column.name: column for column in found.ratings.columns}
    users = by_name[found.roles.user].distinct
    items = by_name[found.roles.item].distinct
    count = by_name[found.roles.rating].rows
    family = models.FAMILIES["ratings", task]
    summary = f"{name}: {count:,} ratings of {items:,} items by {users:,} users, from {file}."
    dataset = [
        *confs.head(name, summary),
        *confs.sources(pinned),
        *_columns(found),
        *confs.hash_split(SHARES, 0, "the pair of user and item"),
        *confs.twin(),
    ]
    columns = [found.roles.user, found.roles.item, found.roles.rating, found.title or "title"]
    suite = expectations.ratings(columns, found.values, count, found.items is not None)
    size = models.Size(count, users=users)
    question = "Will this user like this item? A restricted Boltzmann machine."
    if task == "stars":
        question = "How will this user rate this item? A stacked autoencoder."
    scale = ", ".join(f"{value:g}" for value in found.values[:12])
    more = ", …" if len(found.values) > 12 else ""
    lines = [
        f"ratings: {count:,} by {users:,} users ({found.roles.user}) of {items:,} items"
        f" ({found.roles.item}), {count / max(users * items, 1):.1%} of all pairs",
        f"scale: {found.roles.rating} {scale}{more}; a like from {found.like:g} on",
        f"titles: {_list_of(found.items, found.title)}; users: {_list_of(found.users, None)}",
    ]
    return Result(
        kind="ratings",
        family=family,
        task=task,
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, suite),
        model=models.text(name, question, family, task, size),
        lines=lines,
        doubts=list(found.doubts),
    )


def _list_of(reading: Reading | None, column: str | None) -> str:
    if reading is None:
        return "those of the ratings"
    return f"`{column}` of {reading.file}" if column else reading.file


def _columns(found: Ratings) -> list[str]:
    roles = found.roles
    lines = [
        "columns:",
        f"  user: {layout.scalar(roles.user)}",
        f"  item: {layout.scalar(roles.item)}",
        f"  rating: {layout.scalar(roles.rating)}",
        f"  title: {layout.scalar(found.title or 'title')}",
        _values(found.values),
        layout.line(2, "like", layout.scalar(found.like), "a rating of at least this is a like"),
    ]
    if found.unrated is not None:
        note = "a rating that means that there is none"
        lines.append(layout.line(2, "unrated", layout.flow([found.unrated]), note))
    if found.repeated:
        lines.append(
            layout.line(2, "repeated", "last", "of a pair rated twice; or mean, or refuse")
        )
        if roles.time:
            lines.append(layout.line(2, "time", layout.scalar(roles.time), "which tells the last"))
    lines.append(f"  ratings: {_format(found.ratings.form)}")
    lines.append(f"  files: {layout.flow([found.ratings.file])}")
    lines.append(layout.line(2, "test_files", "[]", "files that are reserved for testing"))
    for key, reading, note in (
        ("items", found.items, "null: the ids are the titles"),
        ("users", found.users, "null: the users are those of the ratings"),
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
