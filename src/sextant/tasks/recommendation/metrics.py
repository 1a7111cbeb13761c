"""Shared by the metrics of likes and stars: which rows are answered, ranks, recommendations.

A row without a rating is a request: it asks about that user and film, and gets one answer, in the
order of the rows. A user whose rows all have ratings is recommended `top_k` films instead; these
answers come after all requests. The prepared parts follow the same rule.

`rank` is a film's place among the films that the user has not rated, 1 for the highest score.
Films with equal scores all get the last place of their group, so that a constant score recommends
no film.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...errors import UsageError
from ...kinds.ratings.rows import TARGET, users_of

if TYPE_CHECKING:
    from ...kinds.ratings.columns import Columns
    from ...kinds.ratings.encoder import Batch
    from ...kinds.ratings.rows import Ids

OPTIONS = {"top_k": 10}
CUT = 10  # the k of recall_at_10 and ndcg_at_10


# --- answers ------------------------------------------------------------------------------------


def output(outputs: Mapping[str, Tensor], name: str) -> Tensor:
    """The tensor that a net predicts under `name`; raises UsageError if it predicts none.

    `make check` refuses such a pair of net and task earlier; this is for callers from Python.
    """
    if name not in outputs:
        raise UsageError(
            f"this net predicts {', '.join(outputs)}, not `{name}`; choose another task for it, or"
            " other `units`"
        )
    return outputs[name]


def requests(rows: pd.DataFrame, columns: "Columns") -> pd.DataFrame:
    """The rows without a rating."""
    return rows[rows[columns.rating].isna()]


def targets(rows: pd.DataFrame, columns: "Columns") -> pd.DataFrame:
    """User, film and true rating (TARGET) of the requests of a prepared part."""
    return requests(rows, columns)[[columns.user, columns.item, TARGET]]


def as_answers(
    scores: np.ndarray,
    rows: pd.DataFrame,
    columns: "Columns",
    items: "Ids",
    titles: list[str],
    name: str,
    transform: Callable[[np.ndarray], np.ndarray],
    top_k: int = 10,
) -> pd.DataFrame:
    """The answers to `rows`: user, film, title, the column `name`, rank.

    `scores` (users, items) has the users in the order in which they first appear in `rows`, and the
    films in the order of `items`, whose titles are `titles`. The column `name` is `transform` of
    the scores, (answers) in float64; ranks are those of the scores. Raises UsageError for a `top_k`
    that is no whole number from 1.
    """
    if not isinstance(top_k, int | np.integer) or top_k < 1:
        raise UsageError(f"top_k is {top_k}; expected a whole number from 1")
    users, user_index = users_of(rows, columns)
    item_index = pd.Index(items).get_indexer(pd.Index(rows[columns.item]))
    is_request = np.isnan(rows[columns.rating].to_numpy(float))
    answer_users, answer_items, ranks = _ranked(scores, user_index, item_index, is_request, top_k)
    answer_scores = scores[answer_users, answer_items].astype(np.float64)
    answer_titles = np.asarray(titles, object)[answer_items]
    return pd.DataFrame(
        {
            columns.user: users[answer_users],
            columns.item: np.asarray(items)[answer_items],
            # The type is set, because an empty column would otherwise not be text.
            columns.title: pd.Series(answer_titles, dtype="str"),
            name: transform(answer_scores),
            "rank": ranks,
        }
    )


def _ranked(
    scores: np.ndarray,
    user_index: np.ndarray,
    item_index: np.ndarray,
    is_request: np.ndarray,
    top_k: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The users, films and ranks of all answers: those to requests, then the recommendations.

    `scores` is (users, items); `user_index` and `item_index`, (rows), are the places of each row's
    user and film in it.
    """
    users, items = scores.shape
    row_ranks = np.zeros(len(user_index), int)
    answer_users = [user_index[is_request]]
    answer_items = [item_index[is_request]]
    recommendation_ranks = []
    for user, user_rows in enumerate(_rows_by_user(user_index, users)):
        request_rows = user_rows[is_request[user_rows]]
        rated_rows = user_rows[~is_request[user_rows]]
        unrated = np.ones(items, bool)
        unrated[item_index[rated_rows]] = False
        if len(request_rows):
            request_scores = scores[user, item_index[request_rows]]
            row_ranks[request_rows] = rank_of(request_scores, scores[user, unrated])
        else:
            recommended = recommend(scores[user], unrated, top_k)
            answer_users.append(np.full(len(recommended), user))
            answer_items.append(recommended)
            recommendation_ranks.append(np.arange(1, len(recommended) + 1))
    ranks = np.concatenate([row_ranks[is_request], *recommendation_ranks])
    return np.concatenate(answer_users), np.concatenate(answer_items), ranks


def _rows_by_user(user_index: np.ndarray, users: int) -> list[np.ndarray]:
    """The places of each user's rows, in their order."""
    order = np.argsort(user_index, kind="stable")
    starts = np.searchsorted(user_index[order], np.arange(1, users))
    return np.split(order, starts)


def rank_of(scores: np.ndarray, unrated: np.ndarray) -> np.ndarray:
    """The rank of each of `scores` among `unrated`, the scores of all unrated films of the user.

    `unrated` includes `scores`.
    """
    # `left` counts the lower scores, so that equal scores share the last of their places.
    return len(unrated) - np.searchsorted(np.sort(unrated), scores, side="left")


def ranks_in_top(
    k: int, scores: np.ndarray, unrated: np.ndarray, user: np.ndarray, item: np.ndarray
) -> np.ndarray:
    """The rank of each request, (requests): that of `rank_of` if it is at most k, otherwise k + 1.

    `scores` and `unrated` (bool) are (users, items); `user` and `item`, (requests), are the places
    of each request in them. The k + 1 highest scores of a user are enough for this, and finding
    them takes a tenth of the time that sorting all takes.
    """
    count = min(k + 1, scores.shape[1])
    top = np.partition(np.where(unrated, scores, -np.inf), -count, axis=1)[:, -count:]
    return count - (top[user] < scores[user, item][:, None]).sum(1)


def recommend(scores: np.ndarray, unrated: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` unrated films with the highest scores, or of all if fewer.

    `scores` and `unrated` (bool) are (items). Films with equal scores come in catalogue order.
    """
    candidates = np.where(unrated, scores, -np.inf)
    # A stable sort, because the answers to the same rows have to be the same on every machine.
    order = np.argsort(-candidates, kind="stable")
    return order[: min(count, int(unrated.sum()))]


# --- the requests of val during training --------------------------------------------------------


class Requests(NamedTuple):
    """The ratings in the target of a batch, user by user, (requests) each.

    `user` and `item` are their places in the batch; `stars` is float64, `liked` bool.
    """

    user: np.ndarray
    item: np.ndarray
    stars: np.ndarray
    liked: np.ndarray


def requests_of(batch: "Batch") -> Requests:
    """The requests of a batch."""
    codes = batch.target.numpy()
    # NumPy finds the few places that are not 0 six times as fast as torch.
    places = np.flatnonzero(codes != 0)
    user, item = np.divmod(places, codes.shape[1])
    stars = batch.values[0].double().numpy()[codes[user, item] - 1]
    return Requests(user, item, stars, stars >= batch.like[0].item())


# --- retrieval metrics --------------------------------------------------------------------------


def retrieval(user: np.ndarray, rank: np.ndarray, liked: np.ndarray) -> dict[str, float]:
    """recall_at_10 and ndcg_at_10, means over the users who liked one of the requested films.

    `user`, `rank` and `liked` (bool) are (requests). NaN if no user liked any.
    """
    user_index, _ = pd.factorize(user[liked])
    if not len(user_index):
        return {"recall_at_10": float("nan"), "ndcg_at_10": float("nan")}
    recall, ndcg = retrieval_at(CUT, user_index, rank[liked])
    return {"recall_at_10": recall, "ndcg_at_10": ndcg}


def retrieval_at(k: int, user_index: np.ndarray, rank: np.ndarray) -> tuple[float, float]:
    """Recall and NDCG at k of liked films, means over the users.

    `user_index` (liked films) numbers the users from 0; `rank` (liked films) is each film's rank.
    Recall is the share of a user's liked films with a rank of at most k. NDCG is the sum of
    1 / log2(1 + rank) over those, divided by the same sum for the best possible ranks (Järvelin and
    Kekäläinen 2002, with gains 0 and 1).
    """
    recall, ndcg = retrieval_of_users(k, user_index, rank)
    return float(recall.mean()), float(ndcg.mean())


def retrieval_of_users(
    k: int, user_index: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Recall and NDCG at k of each user, (users) float64 each; see `retrieval_at`."""
    hits = rank <= k
    liked_films = np.bincount(user_index)
    gains = np.bincount(user_index, hits / np.log2(1 + rank.astype(np.float64)))
    ideal_gains = np.cumsum(1 / np.log2(1 + np.arange(1.0, k + 1)))
    best_gains = ideal_gains[np.minimum(liked_films, k) - 1]
    return np.bincount(user_index, hits) / liked_films, gains / best_gains


def retrieval_sample(
    metric: str, user: np.ndarray, rank: np.ndarray, liked: np.ndarray
) -> intervals.Sample:
    """The Sample of recall_at_10 or ndcg_at_10; the arguments are those of `retrieval`.

    A bootstrap draws users, of whom those count that liked one of the requested films.
    """
    user_index, _ = pd.factorize(user)
    liking_index, places = np.unique(user_index[liked], return_inverse=True)
    recall, ndcg = retrieval_of_users(CUT, places, rank[liked])
    values = recall if metric == "recall_at_10" else ndcg
    # The first request of each of these users has the weight of the user.
    first_request = np.unique(user_index, return_index=True)[1][liking_index]

    def mean(weights: np.ndarray) -> float:
        drawn = weights[first_request]
        total = float(drawn.sum())
        return float(drawn @ values) / total if total else float("nan")

    return intervals.Sample(mean, user_index)
