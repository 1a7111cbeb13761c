"""Four parts of ratings: split by hash, checked, written and summed up."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ....errors import DataError
from ...parts import CONTEXT, PARTS, scored
from ...splits import SEPARATOR, HashSplit, parts_by_hash
from ..columns import Columns
from .catalogues import UNLISTED, catalogue
from .identifiers import Ids

TARGET = "target"  # the column of the stars to predict


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Four parts by a salted hash of the pair (user, item); rows of `test_files` are the test part.

    Every part but train begins with all ratings that its users have in train, marked as context.
    """
    # Joined by a separator, so that user 1, item 23 and user 12, item 3 have different keys.
    keys = rows[columns.user].astype(str) + SEPARATOR + rows[columns.item].astype(str)
    part_index = np.where(rows["test"], PARTS.index("test"), parts_by_hash(keys, split))
    own_rows = {}
    for index, name in enumerate(PARTS):
        own_rows[name] = rows[part_index == index].drop(columns="test")
    train = own_rows["train"]
    train = train.assign(**{TARGET: train[columns.rating], CONTEXT: False})
    parts = {"train": train.reset_index(drop=True)}
    for name in PARTS[1:]:
        to_score = own_rows[name]
        history = train[train[columns.user].isin(to_score[columns.user])]
        history = history.assign(**{TARGET: np.nan, CONTEXT: True})
        hidden = {TARGET: to_score[columns.rating], CONTEXT: False, columns.rating: np.nan}
        parts[name] = pd.concat([history, to_score.assign(**hidden)], ignore_index=True)
        parts[name].attrs = rows.attrs
    return parts


def check_parts(parts: Mapping[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a pair is in two parts, or a part has no likes or no dislikes."""
    pair = [columns.user, columns.item]
    pairs = pd.concat([scored(rows)[pair].assign(part=name) for name, rows in parts.items()])
    repeated = pairs[pairs.duplicated(pair, keep=False)]
    if len(repeated):
        user, item = repeated[pair].iloc[0]
        places = repeated[(repeated[pair] == [user, item]).all(axis=1)]["part"]
        raise DataError(
            f"{columns.user} {user}, {columns.item} {item} lies in {' and in '.join(places)}; keep"
            " one row"
        )
    for name, rows in parts.items():
        liked = scored(rows)[TARGET] >= columns.like
        if liked.nunique() < 2:
            raise DataError(
                f"part {name} ({len(liked)} ratings) lacks likes or dislikes; add ratings, or"
                " change `split` in the conf"
            )


def monitored(parts: Mapping[str, pd.DataFrame], columns: Columns) -> dict[str, pd.Series]:
    """Return stars, films, and the ratings of each user and film that has any."""
    train = parts["train"]
    rated = train[train[columns.rating].notna()]
    return {
        columns.rating: rated[columns.rating],
        columns.item: rated[columns.item].astype("str"),
        f"ratings of a {columns.user}": rated[columns.user].value_counts(),
        f"ratings of a {columns.item}": rated[columns.item].value_counts(),
    }


def profile(parts: Mapping[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Training ratings by stars, and per user and per film."""
    train = parts["train"]
    lists = catalogue(train)
    stars = {}
    for value in columns.values:
        stars[f"{value:g}"] = int((train[columns.rating] == value).sum())
    items = _counts(train[columns.item], lists["items"])
    if UNLISTED in train.attrs:
        items["unlisted"] = train.attrs[UNLISTED]
    profiles = {
        columns.rating: stars,
        columns.user: _counts(train[columns.user], lists["users"]),
        columns.item: items,
    }
    return {"columns": profiles}


def _counts(column: pd.Series, listed: Ids) -> dict[str, float]:
    """How many ids are listed, how many of them have no rating, and the ratings of each."""
    ratings = column.value_counts().reindex(listed, fill_value=0)
    return {
        "count": len(listed),
        "without": int((ratings == 0).sum()),
        "ratings_min": float(ratings.min()),
        "ratings_median": float(ratings.median()),
        "ratings_max": float(ratings.max()),
    }
