"""The twin of a set of ratings: generated users with tastes, and their ratings.

Its parameters are the block `twin` of conf/dataset/<name>.yaml.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ...strict import Seed, Strict
from .columns import Columns, Table

OCCUPATIONS = [
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
FIRST_SECOND = 874724710  # when the first rating of MovieLens 100K was given, as Unix time
SECONDS = 18_561_928  # from the first rating to the last

Line = Sequence[int | str]


class Twin(Strict):
    """Ratings by users in clusters of taste, which no sum of a user's and a film's bias can follow.

    score = bias of the user + bias of the film + taste[cluster of the user, genre of the film] +
    noise; the scores are cut at quantiles, so that the stars have the `shares`. `bias`, `taste`
    and `noise` are standard deviations. `test` of the `ratings` are the test part, all of the
    first `test_users` users. Every user has `least` ratings or more. Titles are made of `words`;
    the last `repeated_titles` films have the titles of the first, and film `unknown` has no title
    and no genre.
    """

    seed: Seed
    users: Annotated[int, Field(ge=1, le=100_000)]
    items: Annotated[int, Field(ge=1, le=100_000)]
    ratings: Annotated[int, Field(ge=1)]
    test: Annotated[int, Field(ge=0)]
    test_users: Annotated[int, Field(ge=1)]
    least: Annotated[int, Field(ge=1)]
    shares: list[float]
    clusters: Annotated[int, Field(ge=1, le=1000)]
    genres: Annotated[list[str], Field(min_length=1)]
    bias: float
    taste: float
    noise: Annotated[float, Field(gt=0)]
    words: Annotated[list[str], Field(min_length=2)]
    repeated_titles: Annotated[int, Field(ge=0)]
    unknown: Annotated[int, Field(ge=1)]


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin in the upstream format: its delimiters and encodings, and its test file.

    The order of the random draws must not change: it fixes the bytes.
    """
    rng = np.random.default_rng(twin.seed)
    folder.mkdir(parents=True, exist_ok=True)
    genre = rng.integers(len(twin.genres), size=twin.items)
    _write_ratings(twin, genre, columns, folder, rng)

    names = [columns.item, columns.title, "released", "video", "address", *twin.genres]
    films = _films(twin, genre, rng)
    if columns.items_file is not None:
        _write_lines(folder / columns.items_file, columns.items, names, films)

    names = [columns.user, "age", "gender", "occupation", "zip"]
    if columns.users_file is not None:
        _write_lines(folder / columns.users_file, columns.users, names, _users(twin, rng))


def _write_ratings(
    twin: Twin, genre: np.ndarray, columns: Columns, folder: Path, rng: np.random.Generator
) -> None:
    rated = _rated(twin, rng)
    stars = _stars(twin, genre, rated, rng)
    users, items = np.nonzero(rated)
    seconds = FIRST_SECOND + rng.integers(SECONDS, size=len(users))
    rows = np.column_stack([users + 1, items + 1, stars[users, items], seconds])
    eligible = np.flatnonzero(users < twin.test_users)
    is_test = np.zeros(len(rows), bool)
    is_test[rng.choice(eligible, twin.test, replace=False)] = True

    parts = {columns.files[0]: rows}
    if columns.test_files:
        parts = {columns.files[0]: rows[~is_test], columns.test_files[0]: rows[is_test]}
    names = [*columns.needed, "timestamp"]
    for file, part in parts.items():
        _write_lines(folder / file, columns.ratings, names, part.tolist())


def _rated(twin: Twin, rng: np.random.Generator) -> np.ndarray:
    """(users, items) bool: who rated what.

    Few films get most of the ratings, few users give most of them, and every film has a rating.
    """
    popularity = rng.normal(0, 1.7, twin.items)
    activity = np.exp(rng.normal(0, 1.3, twin.users))
    counts = _ratings_per_user(twin, activity)
    # The highest values of log weight + Gumbel noise are a draw without replacement by these
    # weights.
    preference = popularity + rng.gumbel(size=(twin.users, twin.items))
    fallback_user = rng.integers(twin.users, size=twin.items)
    rank = np.argsort(np.argsort(-preference, axis=1), axis=1)
    rated = rank < counts[:, None]
    # A film that no user chose replaces the most popular film of one user.
    for item in np.flatnonzero(~rated.any(axis=0)):
        user = fallback_user[item]
        most_popular = np.where(rated[user], rated.sum(axis=0), 0).argmax()
        rated[user, most_popular] = False
        rated[user, item] = True
    return rated


def _ratings_per_user(twin: Twin, activity: np.ndarray) -> np.ndarray:
    """(users,) int: `least`, and the rest in proportion to activity, up to 0.4 of all films."""
    remaining = twin.ratings - twin.least * twin.users
    limit = int(0.4 * twin.items)
    share = remaining / activity.sum()
    # What the limit takes from the most active users goes to the other users. 50 rounds are more
    # than it takes to converge.
    for _ in range(50):
        share *= remaining / np.minimum(share * activity, limit).sum()
    extra = np.minimum(np.floor(share * activity), limit).astype(int)
    counts: np.ndarray = twin.least + extra
    # Rounding down leaves some ratings, one each for the least active users.
    left_over = twin.ratings - counts.sum()
    counts[np.argsort(activity, kind="stable")[:left_over]] += 1
    return counts


def _stars(
    twin: Twin, genre: np.ndarray, rated: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(users, items) int: stars from 1, cut so that the rated ones have the shares of the twin."""
    cluster = rng.integers(twin.clusters, size=twin.users)
    taste = rng.normal(size=(twin.clusters, len(twin.genres)))
    taste = (taste - taste.mean(axis=0)) / taste.std(axis=0) * twin.taste
    user_bias = rng.normal(0, twin.bias, (twin.users, 1))
    item_bias = rng.normal(0, twin.bias, twin.items)
    noise = rng.normal(0, twin.noise, rated.shape)
    score = user_bias + item_bias + taste[cluster][:, genre] + noise
    cuts = np.quantile(score[rated], np.cumsum(twin.shares)[:-1] / sum(twin.shares))
    return np.searchsorted(cuts, score) + 1


def _films(twin: Twin, genre: np.ndarray, rng: np.random.Generator) -> list[Line]:
    """The lines of the film file: id, title, dates, address, and a flag per genre."""
    titles: list[str] = []
    for film in range(1, twin.items + 1):
        first, second = rng.integers(len(twin.words), size=2)
        year = 1922 + int(76 * rng.random() ** 0.15)  # most films are recent
        titles.append(f"{twin.words[first]} {twin.words[second]} {film} ({year})")
    for index in range(twin.repeated_titles):
        titles[-1 - index] = titles[index]
    lines: list[Line] = []
    for film, title in enumerate(titles, start=1):
        flags = [int(index == genre[film - 1]) for index in range(len(twin.genres))]
        if film == twin.unknown:
            lines.append([film, "unknown", "", "", "", *flags])
        else:
            address = f"http://films.example/title-exact?{film}"
            lines.append([film, title, f"01-Jan-{title[-5:-1]}", "", address, *flags])
    return lines


def _users(twin: Twin, rng: np.random.Generator) -> list[Line]:
    """The lines of the user file: id, age, gender, occupation, zip code."""
    ages = rng.integers(7, 74, twin.users)
    is_male = rng.random(twin.users) < 0.71
    occupations = rng.integers(len(OCCUPATIONS), size=twin.users)
    zips = rng.integers(1000, 99999, twin.users)
    lines: list[Line] = []
    for index in range(twin.users):
        gender = "M" if is_male[index] else "F"
        # Upstream has some Canadian codes, which contain letters.
        zip_code = f"{zips[index]:05}" if index % 52 else "V3N4P"
        occupation = OCCUPATIONS[occupations[index]]
        lines.append([index + 1, int(ages[index]), gender, occupation, zip_code])
    return lines


def _write_lines(path: Path, table: Table, names: list[str], lines: Sequence[Line]) -> None:
    """Write lines in the format of `table`; `names` are the header, if the file has one."""
    text = ""
    if table.names is None:
        text = table.delimiter.join(names) + "\n"
    text += "".join(table.delimiter.join(map(str, line)) + "\n" for line in lines)
    path.write_bytes(text.encode(table.encoding))
