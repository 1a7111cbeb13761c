"""The twin of a set of ratings: users with tastes, and what they rate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from ...strict import Strict

if TYPE_CHECKING:
    pass
from .columns import Columns, Table

# --- the twin ---------------------------------------------------------------------------------------------------------


class Twin(Strict):
    """The stand-in: tastes that come in clusters, which no sum of a user's and a film's bias can follow.

    stars = bias of the user + bias of the film + taste[cluster of the user, genre of the film] + noise, cut into the
    `shares` of the ratings. `bias`, `taste` and `noise` are standard deviations.
    """

    seed: int
    users: Annotated[int, Field(ge=1)]
    items: Annotated[int, Field(ge=1)]
    ratings: Annotated[int, Field(ge=1)]
    test: Annotated[int, Field(ge=0)]
    test_users: Annotated[int, Field(ge=1)]
    least: Annotated[int, Field(ge=1)]
    shares: list[float]
    clusters: Annotated[int, Field(ge=1)]
    genres: Annotated[list[str], Field(min_length=1)]
    bias: float
    taste: float
    noise: Annotated[float, Field(gt=0)]
    words: Annotated[list[str], Field(min_length=2)]
    repeated_titles: Annotated[int, Field(ge=0)]
    unknown: Annotated[int, Field(ge=1)]


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder` in the upstream format: delimiters, encodings, a test file of its own."""
    rng = np.random.default_rng(twin.seed)
    genre = rng.integers(len(twin.genres), size=twin.items)
    rated = _rated(twin, rng)
    stars = _stars(twin, genre, rated, rng)
    users, items = np.nonzero(rated)
    seconds = 874724710 + rng.integers(18_561_928, size=len(users))
    rows = np.column_stack([users + 1, items + 1, stars[users, items], seconds])
    eligible = np.flatnonzero(users < twin.test_users)
    test = np.zeros(len(rows), bool)
    test[rng.choice(eligible, twin.test, replace=False)] = True
    folder.mkdir(parents=True, exist_ok=True)
    kept = [rows[~test], rows[test]] if columns.test_files else [rows]
    for file, part in zip([columns.files[0], *columns.test_files[:1]], kept, strict=True):
        _write(
            folder / file,
            columns.ratings,
            [columns.user, columns.item, columns.rating, "timestamp"],
            part.tolist(),
        )
    heading = [columns.item, columns.title, "released", "video", "address", *twin.genres]
    _write(folder / columns.items_file, columns.items, heading, _films(twin, genre, rng))
    people = zip(rng.integers(7, 74, twin.users), rng.random(twin.users) < 0.71, strict=True)
    jobs, zips = rng.integers(len(JOBS), size=twin.users), rng.integers(1000, 99999, twin.users)
    lines = [
        [i + 1, age, "M" if man else "F", JOBS[jobs[i]], f"{zips[i]:05}" if i % 52 else "V3N4P"]
        for i, (age, man) in enumerate(people)
    ]
    _write(
        folder / columns.users_file,
        columns.users,
        [columns.user, "age", "gender", "occupation", "zip"],
        lines,
    )


JOBS = [
    "administrator",
    "artist",
    "educator",
    "engineer",
    "librarian",
    "other",
    "programmer",
    "student",
    "writer",
]


def _rated(twin: Twin, rng: np.random.Generator) -> np.ndarray:
    """(users, items): who rated what. Few films get most ratings, few users give most, each film has one."""
    popular = rng.normal(0, 1.7, twin.items)
    counts = _counts(twin, np.exp(rng.normal(0, 1.3, twin.users)))
    wish = popular + rng.gumbel(size=(twin.users, twin.items))
    alone = rng.integers(twin.users, size=twin.items)
    place = np.argsort(np.argsort(-wish, axis=1), axis=1)
    rated = place < counts[:, None]
    for item in np.flatnonzero(
        ~rated.any(axis=0)
    ):  # a film that nobody chose takes the place of a popular one
        user = alone[item]
        most = np.where(rated[user], rated.sum(axis=0), 0).argmax()
        rated[user, most], rated[user, item] = False, True
    return rated


def _counts(twin: Twin, eager: np.ndarray) -> np.ndarray:
    """How many films each user rates: `least`, and the rest by how eager they are, at most 0.4 of all films."""
    left, most = twin.ratings - twin.least * twin.users, int(0.4 * twin.items)
    share = left / eager.sum()
    for _ in range(50):  # what is cut from the most eager goes to the others
        share *= left / np.minimum(share * eager, most).sum()
    counts: np.ndarray = twin.least + np.minimum(np.floor(share * eager), most).astype(int)
    rest = twin.ratings - counts.sum()
    counts[np.argsort(eager, kind="stable")[:rest]] += 1
    return counts


def _stars(
    twin: Twin, genre: np.ndarray, rated: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(users, items): the planted stars, cut so that the rated ones have the twin's shares."""
    cluster = rng.integers(twin.clusters, size=twin.users)
    taste = rng.normal(size=(twin.clusters, len(twin.genres)))
    taste = (taste - taste.mean(axis=0)) / taste.std(axis=0) * twin.taste
    score = (
        rng.normal(0, twin.bias, (twin.users, 1))
        + rng.normal(0, twin.bias, twin.items)
        + taste[cluster][:, genre]
        + rng.normal(0, twin.noise, rated.shape)
    )
    cuts = np.quantile(score[rated], np.cumsum(twin.shares)[:-1] / sum(twin.shares))
    return np.searchsorted(cuts, score) + 1


def _films(twin: Twin, genre: np.ndarray, rng: np.random.Generator) -> list[list[Any]]:
    """The rows of the film file: id, title, dates, address, one flag a genre; some titles twice, one film unknown."""
    titles: list[str] = []
    for n in range(twin.items):
        first, second = rng.integers(len(twin.words), size=2)
        titles.append(
            f"{twin.words[first]} {twin.words[second]} {n + 1} ({1922 + int(76 * rng.random() ** 0.15)})"
        )
    for n in range(twin.repeated_titles):
        titles[-1 - n] = titles[n]
    lines = []
    for n, title in enumerate(titles):
        flags = [int(g == genre[n]) for g in range(len(twin.genres))]
        year = title[-5:-1]
        line = [
            n + 1,
            title,
            f"01-Jan-{year}",
            "",
            f"http://films.example/title-exact?{n + 1}",
            *flags,
        ]
        lines.append(line if n + 1 != twin.unknown else [n + 1, "unknown", "", "", "", *flags])
    return lines


def _write(path: Path, table: Table, heading: list[str], rows: list[list[Any]]) -> None:
    lines = [*([] if table.names else [heading]), *rows]
    text = "".join(table.delimiter.join(map(str, line)) + "\n" for line in lines)
    path.write_bytes(text.encode(table.encoding))
