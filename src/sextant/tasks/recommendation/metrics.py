"""What likes and stars share: which pairs are asked, the place of a film among the unseen ones, the films to recommend.

One rule for parts and questions: a row without a rating asks for that film and gets one answer, in the rows' order;
a user who has rows with ratings alone is recommended `top_k` films, after those. `rank` is the place of a film among
all films of which no rating of that user is given, 1 the first; films of equal score all have the last place of theirs,
so that an answer that is the same for all films recommends none.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ...errors import UsageError
from ...kinds.ratings.rows import TARGET, users_of

OPTIONS = {"top_k": 10}
CUT = 10  # of recall_at_10 and ndcg_at_10


def output(outputs: Mapping[str, Tensor], name: str) -> Tensor:
    """What a net says under the name that the task asks for; raises UsageError where it says nothing of that kind."""
    if name not in outputs:
        raise UsageError(
            f"this net answers {', '.join(outputs)}, not `{name}`; give its model another task or units"
        )
    return outputs[name]


def asked(rows: pd.DataFrame, columns: Any) -> pd.DataFrame:
    """The rows that ask: those without a rating."""
    return rows[rows[columns.rating].isna()]


def as_answers(
    scores: np.ndarray,
    rows: pd.DataFrame,
    columns: Any,
    items: list[int],
    titles: list[str],
    answer: dict[str, Callable[[np.ndarray], np.ndarray]],
    top_k: int = 10,
) -> pd.DataFrame:
    """Answers from `scores` (users, items), the users in the order in which `rows` first names them.

    `answer` is the column that the task answers with, and how it follows from a score.
    """
    if not isinstance(top_k, int | np.integer) or top_k < 1:
        raise UsageError(f"top_k is {top_k}; expected a whole number from 1")
    users, at = users_of(rows, columns)
    index, rating = pd.Index(items), rows[columns.rating].to_numpy(float)
    item, asks = index.get_indexer(rows[columns.item]), np.isnan(rating)
    pairs, ranks = [np.column_stack([at, item])[asks]], [np.zeros(int(asks.sum()), int)]
    place = np.cumsum(asks) - 1  # of an asking row among those that ask
    order = np.argsort(at, kind="stable")
    for user, own in enumerate(
        np.split(order, np.searchsorted(at[order], np.arange(1, len(users))))
    ):
        unseen = np.ones(len(items), bool)
        unseen[item[own][~asks[own]]] = False
        wanted = own[asks[own]]
        if len(wanted):
            ranks[0][place[wanted]] = rank_of(scores[user, item[wanted]], scores[user, unseen])
        else:
            first = recommended(
                np.where(unseen, scores[user], -np.inf), min(top_k, int(unseen.sum()))
            )
            pairs.append(np.column_stack([np.full(len(first), user), first]))
            ranks.append(np.arange(1, len(first) + 1))
    whole, (name, of) = np.concatenate(pairs), next(iter(answer.items()))
    return pd.DataFrame(
        {
            columns.user: users[whole[:, 0]],
            columns.item: np.asarray(items)[whole[:, 1]],
            columns.title: pd.Series(np.asarray(titles, object)[whole[:, 1]], dtype="str"),
            name: of(scores[whole[:, 0], whole[:, 1]].astype(np.float64)),
            "rank": np.concatenate(ranks),
        }
    )


def rank_of(scores: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """The place of each of `scores` among `unseen`, which holds them too."""
    return len(unseen) - np.searchsorted(np.sort(unseen), scores, side="left")


def recommended(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest; of equals the first in the catalogue."""
    return np.argsort(-scores, kind="stable")[:count]


def truth(rows: pd.DataFrame, columns: Any) -> pd.DataFrame:
    """The rows that ask, where it is known what the user gave."""
    return asked(rows, columns)[[columns.user, columns.item, TARGET]]


def retrieval(user: np.ndarray, rank: np.ndarray, liked: np.ndarray) -> dict[str, float]:
    """recall_at_10 and ndcg_at_10, the mean over the users who liked one of the films asked for.

    recall: the share of a user's liked films that are among the first ten; ndcg: sum of 1 / log2(1 + rank) over those,
    divided by the same sum had they come first (Järvelin and Kekäläinen 2002, gains 0 and 1). NaN: nobody liked any.
    """
    at, _ = pd.factorize(user[liked])
    first = rank[liked] <= CUT
    total = np.bincount(at)
    gains = np.bincount(at, first / np.log2(1 + rank[liked].astype(np.float64)))
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1.0, CUT + 1)))
    best = ideal[np.minimum(total, CUT) - 1]
    if not len(total):
        return {"recall_at_10": float("nan"), "ndcg_at_10": float("nan")}
    return {
        "recall_at_10": float((np.bincount(at, first) / total).mean()),
        "ndcg_at_10": float((gains / best).mean()),
    }
