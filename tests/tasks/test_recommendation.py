"""Tasks likes and stars: answers, ranks, metrics computed by hand, baselines, figures."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import svgs
import torch
from builders import MIRROR
from movielens import COLUMNS
from torch import Tensor, nn

from sextant import drawing, plugins
from sextant.errors import UsageError
from sextant.families.rbm import RBM
from sextant.families.sae import SAE
from sextant.kinds.ratings import rows as ratings_rows
from sextant.kinds.ratings.encoder import Batch, Encoder
from sextant.kinds.splits import HashSplit, Shares
from sextant.saved_model import SavedModel
from sextant.tasks.likes import metrics as likes
from sextant.tasks.likes.figures import CHAINS, STEPS, free_energy_gains
from sextant.tasks.recommendation import metrics as recommendation
from sextant.tasks.recommendation.figures import example_user
from sextant.tasks.stars import metrics as stars
from sextant.tasks.stars.figures import most_similar

ITEMS = [1, 2, 3, 5, 8, 13, 21]
ENCODER = Encoder(COLUMNS, ITEMS, [f"Film {i}" for i in ITEMS], [1, 2, 3, 4, 5])
NAN = float("nan")
SCORES = torch.tensor([[0.5, 4.0, 3.0, 2.0, 5.5, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 4.0]])
IDENTITY = {"slope": 1.0, "offset": 0.0}  # a calibration that changes nothing


def rows(*lines: tuple[float, ...]) -> pd.DataFrame:
    """Rows of ratings; each line is (user, item, rating) or (user, item, NaN, target)."""
    padded = [(*line, NAN)[:4] for line in lines]
    frame = pd.DataFrame(padded, columns=["user", "item", "rating", "target"])
    frame["context"] = frame["rating"].notna()
    return frame.astype({"rating": float, "target": float})


def random_part(users: int = 23) -> pd.DataFrame:
    """A part with five random films a user, each with a rating or a target; users without a target
    are left out."""
    rng = np.random.default_rng(5)
    lines = []
    for user in range(1, users + 1):
        for item in rng.choice(ITEMS, 5, replace=False):
            rating = NAN if rng.random() < 0.4 else float(rng.integers(1, 6))
            lines.append((user, int(item), rating, float(rng.integers(1, 6))))
    part = rows(*lines)
    part.loc[part["context"], "target"] = NAN
    has_target = part["user"].isin(part.loc[~part["context"], "user"])
    return part[has_target].reset_index(drop=True)


# --- answers ------------------------------------------------------------------------------------


def test_requests_are_answered_and_users_without_requests_get_recommendations():
    part = rows((9, 1, 5), (9, 2, NAN), (4, 13, 2), (9, 21, NAN))
    answers = stars.answers({"stars": SCORES}, part, ENCODER, {}, top_k=2)
    assert answers[["user", "item", "title", "stars", "rank"]].to_numpy().tolist() == [
        [9, 2, "Film 2", 4.0, 2],  # among six unrated films; the one with 5.5 ranks first
        [9, 21, "Film 21", 2.0, 5],  # films 5 and 21 have 2.0: both get the last of their places
        [4, 8, "Film 8", 5.0, 1],
        [4, 5, "Film 5", 4.0, 2],  # before film 21, which has 4.0 too: catalogue order
    ]


def test_rated_films_are_not_recommended():
    rated_five = rows(*[(4, item, 3) for item in ITEMS[:5]])
    answers = stars.answers({"stars": SCORES[:1]}, rated_five, ENCODER, {}, top_k=10)
    assert answers["item"].tolist() == [21, 13]
    rated_all = rows(*[(4, item, 3) for item in ITEMS])
    assert stars.answers({"stars": SCORES[:1]}, rated_all, ENCODER, {}).empty


def test_stars_are_clipped_and_ranks_are_not():
    high = torch.tensor([[9.0, 8.0, 7.0, -2.0, 1.0, 1.0, 1.0]])
    answers = stars.answers({"stars": high}, rows((1, 8, 1)), ENCODER, {}, top_k=7)
    assert answers["stars"].tolist() == [5, 5, 5, 1, 1, 1]
    assert answers["item"].tolist()[:3] == [1, 2, 3]


def test_top_k_is_ten_by_default_and_must_be_a_whole_number_from_1():
    encoder = Encoder(COLUMNS, list(range(1, 30)), ["x"] * 29, [1])
    outputs = {"log_odds": torch.randn(1, 29)}
    answers = likes.answers(outputs, rows((1, 3, 4)), encoder, IDENTITY)
    assert len(answers) == likes.OPTIONS["top_k"] == 10
    for wrong in (0, -1, 2.5, "3"):
        with pytest.raises(UsageError, match=f"top_k is {wrong}; expected a whole number from 1"):
            likes.answers(outputs, rows((1, 3, 4)), encoder, IDENTITY, top_k=wrong)


def test_answers_depend_neither_on_other_users_nor_on_the_order_of_rows():
    rng = np.random.default_rng(3)
    lines = []
    for user in (9, 4, 7):
        for item in rng.choice(ITEMS, 5, replace=False):
            lines.append((user, int(item)))
    part = rows(*[(*line, NAN if rng.random() < 0.4 else 3.0) for line in lines])
    users, _ = ratings_rows.users_of(part, COLUMNS)
    scores = {user: torch.randn(1, 7) for user in users}

    def answer(frame: pd.DataFrame) -> pd.DataFrame:
        order, _ = ratings_rows.users_of(frame, COLUMNS)
        outputs = {"stars": torch.cat([scores[user] for user in order])}
        return stars.answers(outputs, frame, ENCODER, {})

    def by_pair(answers: pd.DataFrame) -> pd.DataFrame:
        return answers.sort_values(["user", "item"]).reset_index(drop=True)

    expected = by_pair(answer(part))
    shuffled = part.sample(frac=1, random_state=1).reset_index(drop=True)
    pd.testing.assert_frame_equal(by_pair(answer(shuffled)), expected)
    separate = []
    for user in users:
        separate.append(answer(part[part["user"] == user].reset_index(drop=True)))
    pd.testing.assert_frame_equal(by_pair(pd.concat(separate)), expected)


@pytest.mark.parametrize("task, other", [(likes, "stars"), (stars, "log_odds")])
def test_a_net_with_other_outputs_is_refused(task, other):
    with pytest.raises(UsageError, match=f"this net predicts {other}, not `"):
        task.answers({other: SCORES}, rows((1, 2, NAN)), ENCODER, {})


# --- metrics, computed by hand ------------------------------------------------------------------


def test_recall_and_ndcg():
    """User 1 liked three films, at ranks 1, 4 and 30; user 2 one, at rank 11; user 3 none."""
    user = np.array([1, 1, 1, 2, 3])
    rank = np.array([1, 30, 4, 11, 1])
    liked = np.array([True, True, True, True, False])
    scores = recommendation.retrieval(user, rank, liked)
    best_gain = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert scores["recall_at_10"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["ndcg_at_10"] == pytest.approx(((1 + 1 / np.log2(5)) / best_gain + 0) / 2)


def test_ndcg_is_1_if_the_first_ten_of_more_than_ten_liked_films_are_recommended():
    scores = recommendation.retrieval(np.ones(12, int), np.arange(1, 13), np.ones(12, bool))
    assert scores == {"recall_at_10": pytest.approx(10 / 12), "ndcg_at_10": pytest.approx(1)}


def test_recall_and_ndcg_are_nan_if_no_user_liked_a_film():
    scores = recommendation.retrieval(np.array([1]), np.array([1]), np.array([False]))
    assert list(scores) == ["recall_at_10", "ndcg_at_10"]
    assert all(np.isnan(value) for value in scores.values())


def test_recall_and_ndcg_at_the_cut_are_the_metrics():
    rng = np.random.default_rng(2)
    user, rank = np.sort(rng.integers(5, size=83)), rng.integers(1, 40, size=83)
    scores = recommendation.retrieval(user, rank, np.ones(83, bool))
    at_cut = recommendation.retrieval_at(recommendation.CUT, user, rank)
    assert at_cut == pytest.approx((scores["recall_at_10"], scores["ndcg_at_10"]))


def test_metrics_of_stars():
    part = rows((1, 1, 5), (1, 2, NAN, 4), (2, 3, NAN, 1), (1, 8, NAN, 2))
    answers = stars.answers({"stars": SCORES}, part, ENCODER, {})
    scores = stars.score(answers, part, ENCODER)
    errors = np.array([4.0 - 4, 3.0 - 1, 5.0 - 2])
    assert scores["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert scores["mae"] == pytest.approx(np.abs(errors).mean())
    assert scores["recall_at_10"] == 1
    assert scores["ndcg_at_10"] == pytest.approx(1 / np.log2(3))
    assert list(scores) == list(stars.METRICS)


def test_metrics_of_likes():
    part = rows((1, 1, 5), (1, 2, NAN, 4), (2, 3, NAN, 1), (1, 8, NAN, 3))
    answers = pd.DataFrame({"probability": [0.8, 0.6, 0.5]})
    scores = likes.score(answers, part, ENCODER)
    assert scores["auroc"] == pytest.approx(0.5)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.5]).mean())
    assert list(scores) == list(likes.METRICS)


@pytest.mark.parametrize("task, output", [(likes, "log_odds"), (stars, "stars")])
def test_watch_gives_the_scores_of_the_answers(task, output):
    part = random_part()
    batch = ENCODER.encode(part)
    outputs = {output: torch.randn(len(batch.user), 7) + (3 if output == "stars" else 0)}
    answers = task.answers(outputs, part, ENCODER, task.calibrate(outputs, batch))
    scores = task.score(answers, part, ENCODER)
    watched = task.watch(outputs, batch)
    assert list(watched) == list(task.METRICS) == list(scores)
    assert watched == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("k", [3, 10])
def test_ranks_in_the_top_are_the_ranks_of_the_answers(k):
    """Scores are whole numbers, so that many are equal."""
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 6, (29, 8)).astype(np.float32)
    unrated = rng.random((29, 8)) < 0.7
    user, item = np.nonzero(unrated & (rng.random((29, 8)) < 0.4))
    ranks = []
    for u, i in zip(user, item, strict=True):
        ranks.append(recommendation.rank_of(scores[u, i], scores[u, unrated[u]]))
    in_top = recommendation.ranks_in_top(k, scores, unrated, user, item)
    assert in_top.tolist() == np.minimum(ranks, k + 1).tolist()


# --- calibration of likes -----------------------------------------------------------------------


def batch_of(target: Tensor) -> Batch:
    """A batch of targets alone, (users, items) uint8 codes."""
    users = len(target)
    values = torch.tensor([1.0, 2, 3, 4, 5]).expand(users, -1)
    like = torch.full((users,), 3.0)
    return Batch(torch.arange(users), torch.zeros_like(target), target, values, like)


def test_calibration_undoes_a_shift_and_a_scale_of_the_log_odds():
    torch.manual_seed(0)
    log_odds = torch.randn(400, 7, dtype=torch.float64)
    liked = torch.bernoulli(log_odds.sigmoid())
    batch = batch_of(torch.where(liked > 0, 4, 2).to(torch.uint8))
    fitted = likes.calibrate({"log_odds": log_odds}, batch)
    warped = likes.calibrate({"log_odds": (log_odds - 0.7) / 3}, batch)
    assert warped["slope"] == pytest.approx(3 * fitted["slope"], rel=1e-6)
    assert warped["offset"] == pytest.approx(fitted["offset"] + 0.7 * fitted["slope"], abs=1e-6)
    assert fitted["slope"] == pytest.approx(1, abs=0.15) and abs(fitted["offset"]) < 0.15


def test_calibration_changes_nothing_if_val_contradicts_the_ranking():
    batch = batch_of(torch.tensor([[4, 4, 4, 1, 1, 2, 2]], dtype=torch.uint8))
    reversed_odds = {"log_odds": torch.tensor([[-1.0, 0.1, -2, 2, 1, 0.0, 3]])}
    assert likes.calibrate(reversed_odds, batch) == IDENTITY


# --- baselines ----------------------------------------------------------------------------------

BASELINES = {task: plugins.task(task).baselines("ratings") for task in ("likes", "stars")}
REQUESTS = rows((1, 3, NAN, 4), (4, 1, NAN, 2), (3, 5, NAN, 3), (77, 2, NAN, 1))


def train_rows() -> pd.DataFrame:
    """Five ratings with a mean of 3; user 4 and film 5 have none."""
    train = rows((1, 1, 5), (1, 2, 3), (2, 1, 4), (2, 3, 1), (3, 2, 2))
    train = train.assign(target=train["rating"], context=False)
    train.attrs[ratings_rows.CATALOGUE] = (
        '{"items": [1, 2, 3, 5], "titles": ["a", "b", "c", "d"], "users": [1, 2, 3, 4]}'
    )
    return train


@pytest.mark.parametrize(
    "task, names",
    [("likes", ["always_like", "bias_logistic"]), ("stars", ["global_mean", "user_item_bias"])],
)
def test_the_trivial_baseline_comes_first_and_no_baseline_reads_the_target(task, names):
    assert list(BASELINES[task]) == names
    for fit in BASELINES[task].values():
        answer = fit(train_rows(), COLUMNS)
        pd.testing.assert_frame_equal(answer(REQUESTS), answer(REQUESTS.assign(target=1.0)))


def test_global_mean_predicts_the_mean_and_ranks_all_films_last():
    answer = BASELINES["stars"]["global_mean"](train_rows(), COLUMNS)
    assert answer(REQUESTS)["stars"].tolist() == [3.0] * 4
    assert (answer(REQUESTS)["rank"] == 4).all()
    assert answer(rows((1, 1, 5), (1, 3, NAN)))["rank"].item() == 3


def test_user_item_bias_solves_the_ridge_regression():
    """(X'X + 5) b = X'(r - mean), with one-hot users and films in X: 5 ratings, 8 biases."""
    train = train_rows()
    x = np.zeros((5, 8))
    for row, (user, item) in enumerate(train[["user", "item"]].to_numpy()):
        x[row, user - 1] = 1
        x[row, 4 + [1, 2, 3, 5].index(item)] = 1
    b = np.linalg.solve(x.T @ x + 5 * np.eye(8), x.T @ (train["rating"].to_numpy() - 3.0))
    answers = BASELINES["stars"]["user_item_bias"](train, COLUMNS)(REQUESTS)
    expected = [3 + b[0] + b[6], 3 + b[4], 3 + b[2], 3 + b[5]]
    assert answers["stars"].to_numpy() == pytest.approx(expected, abs=1e-9)


def test_user_item_bias_is_clipped_to_the_scale():
    # User 1 gives 5 stars to the film that all others give 1 star.
    lines = [(1, 1, 5), (1, 3, 5), (2, 1, 5), (2, 3, 1), (3, 3, 1)] * 40
    train = rows(*lines).assign(context=False)
    train.attrs = train_rows().attrs
    answer = BASELINES["stars"]["user_item_bias"](train, COLUMNS)
    first, second, third = answer(rows((1, 1, NAN), (3, 3, NAN), (2, 2, NAN)))["stars"]
    assert first == 5.0 and second < 1.2 and 1 < third < 5


def test_always_like_predicts_the_share_of_liked_films():
    answers = BASELINES["likes"]["always_like"](train_rows(), COLUMNS)(REQUESTS)
    assert answers["probability"].tolist() == [0.6] * 4
    log_loss = -(2 * np.log(0.6) + 2 * np.log(0.4)) / 4
    expected = {"auroc": 0.5, "accuracy": 0.5, "log_loss": log_loss}
    assert likes.score(answers, REQUESTS, ENCODER) == pytest.approx(expected)


def test_bias_logistic_is_at_the_minimum_of_its_loss():
    """The gradient of log loss + |b|^2 / 2 is 0; the intercept has no penalty."""
    train = train_rows()
    answer = BASELINES["likes"]["bias_logistic"](train, COLUMNS)
    probs = answer(train.assign(rating=NAN))["probability"].to_numpy()
    errors = probs - (train["rating"] >= 3).to_numpy()

    def log_odds(user: int, item: int) -> float:
        p = answer(rows((user, item, NAN)))["probability"].item()
        return np.log(p / (1 - p))

    for user in (1, 2, 3):
        bias = log_odds(user, 1) - log_odds(4, 1)  # user 4 has no training rating: bias 0
        gradient = errors[(train["user"] == user).to_numpy()].sum() + bias
        assert gradient == pytest.approx(0, abs=1e-3)
    assert errors.sum() == pytest.approx(0, abs=1e-3)
    assert log_odds(77, 2) == pytest.approx(log_odds(4, 2))


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="needs the real ratings under SEXTANT_MIRROR")
def test_on_the_real_u1_split_the_baselines_reach_their_published_scores():
    """Fitted on all of u1.base: global mean RMSE 1.154; biases RMSE .9547, MAE .755; logistic
    AUC .804, accuracy .846."""
    raw = ratings_rows.read(Path(str(MIRROR), "ratings/ml-100k"), COLUMNS)
    shares = Shares.model_construct(train=1.0, val=0.0, gate=0.0, test=0.0)
    split = HashSplit.model_construct(by="hash", salt=0, shares=shares)
    parts = ratings_rows.split(ratings_rows.repair(raw, COLUMNS), COLUMNS, split)
    train, test = parts["train"], parts["test"]
    encoder = Encoder.fit(train, COLUMNS)
    assert (len(train), (~test["context"]).sum()) == (80_000, 20_000)
    scores = {}
    for name, task in (("stars", stars), ("likes", likes)):
        for baseline, fit in BASELINES[name].items():
            scores[baseline] = task.score(fit(train, COLUMNS)(test), test, encoder)
    assert scores["global_mean"]["rmse"] == pytest.approx(1.1537, abs=1e-4)
    assert scores["user_item_bias"]["rmse"] <= 0.9548
    assert scores["user_item_bias"]["mae"] <= 0.7555
    assert scores["always_like"]["accuracy"] == pytest.approx(0.8208, abs=1e-4)
    assert scores["bias_logistic"]["auroc"] >= 0.8035
    assert scores["bias_logistic"]["accuracy"] >= 0.845


# --- figures ------------------------------------------------------------------------------------

RBM_NET = {
    "hidden": 3,
    "chain": "cd",
    "k": 1,
    "clamped": 0.0,
    "conditional": True,
    "shrinkage": 2.0,
    "init": 0.7,
}
SAE_NET = {
    "mode": "user",
    "hidden_sizes": [11],
    "activation": "tanh",
    "dropout": 0.0,
    "tied": False,
    "masks": True,
    "hide": [0.0, 0.0],
    "visible": 1.0,
    "refeed": 0.0,
    "shrinkage": 2.0,
}


def model(task: str, units: str = "bernoulli", source: str = "embedded") -> SavedModel:
    """An untrained model of a task, with random weights in place of the initial ones."""
    torch.manual_seed(3)
    sizes = ENCODER.sizes
    if task == "likes":
        net = RBM(**sizes, units=units, **RBM_NET)
        calibration = IDENTITY
    else:
        net = SAE(sizes["users"], sizes["items"], sizes["values"], **SAE_NET)
        calibration = {}
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    card = {"task": task, "calibration": calibration, "source": source}
    return SavedModel(card, net.eval(), ENCODER)


def draw(
    task: str, saved_model: SavedModel, answers: pd.DataFrame, baselines: dict[str, pd.DataFrame]
) -> dict:
    """The figures and tables of a model's answers to `random_part(61)`."""
    part = random_part(61)
    return plugins.call(
        plugins.task(task).figures.figures,
        answers,
        part,
        COLUMNS,
        baselines,
        model=saved_model,
        train=part[part["context"]],
        val=part,
    )


@functools.cache
def drawn(task: str, source: str = "embedded") -> dict:
    """The figures and tables of `model(task)`, with a baseline of constant answers."""
    saved_model = model(task, source=source)
    answers = saved_model.answer(random_part(61))
    value = {"likes": {"probability": 0.5}, "stars": {"stars": 3.0}}[task]
    return draw(task, saved_model, answers, {"flat": answers.assign(**value, rank=7)})


@pytest.mark.slow
@pytest.mark.parametrize(
    "task, names",
    [
        ("likes", ["known", "units", "free_energy", "completion"]),
        ("stars", ["stars", "known", "retrieval", "reconstruction", "units", "recommended"]),
    ],
)
def test_figures_have_titles_captions_and_labels_and_are_drawn_to_the_same_bytes(
    task, names, tmp_path
):
    first = drawn(task)
    # The figures before these are the classifier's, which have their own tests.
    assert list(first)[-len(names) :] == names
    figures = names[:-1]  # the last is a table
    for name in figures:
        figure = first[name]
        assert figure.axes and figure.get_suptitle() and figure.get_label(), name
        for axes in figure.axes:
            shared = axes.get_shared_x_axes().get_siblings(axes)
            assert axes.get_ylabel() and any(other.get_xlabel() for other in shared), name
    svgs.check_same(first, drawn.__wrapped__(task), figures, tmp_path)


def test_the_films_with_the_largest_weights_are_drawn_of_a_unit():
    axes = drawn("stars")["units"].axes[0]
    unit = int(axes.get_ylabel().removeprefix("unit "))
    weights = model("stars").net.units()[unit]
    largest = weights.abs().argsort(descending=True)[:3].flip(0).tolist()
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [f"Film {ITEMS[i]}" for i in largest]
    tooltips = [patch.get_gid() for patch in axes.patches if patch.get_gid()]
    expected = [f"unit {unit}, Film {ITEMS[i]}: {weights[i]:+.3f}" for i in largest]
    assert [tooltip.removeprefix(drawing.TOOLTIP) for tooltip in tooltips] == expected


class Constant(nn.Module):
    """A net without the members that some figures read."""

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        constant = torch.full(batch.observed.shape, 3.0)
        return {"stars": constant, "log_odds": constant}


@pytest.mark.parametrize("task", ["likes", "stars"])
def test_a_net_without_units_and_energies_goes_without_their_figures(task):
    constant = SavedModel(model(task).card, Constant(), ENCODER)
    figures = draw(task, constant, constant.answer(random_part(61)), {})
    assert not {"units", "free_energy", "completion", "recommended"} & set(figures)
    assert "known" in figures
    assert not any(isinstance(figure, drawing.Table) for figure in figures.values())


@pytest.mark.parametrize("task, metrics", [("likes", ["auroc", "log_loss"]), ("stars", ["rmse"])])
def test_if_all_users_are_in_one_band_its_point_is_the_score(task, metrics):
    part, saved_model = random_part(61), model(task)
    scores = saved_model.score(saved_model.answer(part), part)
    points = []
    for axes in drawn(task)["known"].axes:
        (value,) = axes.lines[0].get_ydata()
        points.append(value)
    assert points == pytest.approx([scores[name] for name in metrics])


# --- one user -----------------------------------------------------------------------------------


def test_the_example_user_has_the_median_number_of_known_ratings():
    history_lengths = {7: 3, 2: 1, 9: 2, 4: 2, 5: 5}
    lines = []
    for user, length in history_lengths.items():
        lines += [(user, item, 3) for item in ITEMS[:length]]
        lines.append((user, 21, NAN, 4))
    history, test_rows = example_user(rows(*lines), COLUMNS)
    assert history["user"].tolist() == [9, 9] and test_rows["user"].tolist() == [9]


@pytest.mark.parametrize("task, table", [("likes", "completion"), ("stars", "recommended")])
def test_tables_recommend_no_film_that_the_user_has_rated(task, table):
    history, _ = example_user(random_part(61), COLUMNS)
    rated = {f"Film {i}" for i in history["item"]}
    listed = drawn(task)[table].rows
    if task == "likes":
        listed = listed.dropna()  # the rows of clamped ratings have no answer
    assert len(listed) == len(ITEMS) - len(rated) and not rated & set(listed["film"])


@pytest.mark.parametrize("units", ["bernoulli", "softmax", "ordinal"])
def test_completion_is_the_ratio_of_exp_of_minus_the_free_energies_and_sampling_agrees(units):
    net = model("likes", units).net
    codes, items = torch.tensor([5, 0, 1, 0, 3, 0, 0], dtype=torch.uint8), torch.tensor([1, 6])
    odds = net.exact_log_odds(codes, items)
    for item, value in zip(items, odds, strict=True):
        masses = []
        for code in range(1, 6):
            completed = codes.clone()
            completed[item] = code
            masses.append((-net.free_energy_of(completed[None])).exp().item())
        if units == "bernoulli":  # the unit is on or off, whatever the exact rating
            disliked, liked = masses[:1], masses[-1:]
        else:
            disliked, liked = masses[:2], masses[2:]
        assert value.item() == pytest.approx(np.log(sum(liked) / sum(disliked)), abs=1e-4)
    state = torch.get_rng_state()
    sampled = net.gibbs_log_odds(codes, items, CHAINS, STEPS)
    assert sampled.sigmoid().numpy() == pytest.approx(odds.sigmoid().numpy(), abs=0.03)
    assert torch.equal(torch.get_rng_state(), state)


def test_free_energy_gains_of_train_and_val_are_over_the_same_other_ratings():
    """One of user 1's three known films is taken out; user 2 has too few and is left out."""
    net = model("likes").net
    user_1 = [(1, 1, 5), (1, 2, 1), (1, 8, 3), (1, 21, NAN, 4)]
    user_2 = [(2, 3, 2), (2, 5, NAN, 1)]
    batch = ENCODER.encode(rows(*user_1, *user_2))

    def free_energy(code_of_film: dict[int, int]) -> float:
        codes = torch.zeros(1, len(ITEMS), dtype=torch.uint8)
        for film, code in code_of_film.items():
            codes[0, ITEMS.index(film)] = code
        return net.free_energy_of(codes).item()

    history = {1: 5, 2: 1, 8: 3}
    train, val = free_energy_gains(net, batch)
    assert train.shape == val.shape == (1,)
    errors = []
    for removed in history:
        rest = {film: code for film, code in history.items() if film != removed}
        train_gain = free_energy(history) - free_energy(rest)
        val_gain = free_energy({**rest, 21: 4}) - free_energy(rest)
        errors.append(max(abs(train.item() - train_gain), abs(val.item() - val_gain)))
    assert min(errors) < 1e-5


def test_the_most_similar_films_are_those_with_the_highest_cosine():
    vectors = np.random.default_rng(4).normal(size=(13, 5))
    vectors[7], vectors[3] = 2 * vectors[11], -vectors[11]
    similar = most_similar(vectors, 11, np.array([3, 5, 7, 2]))
    assert similar[0] == 7 and similar[-1] == 3 and sorted(similar) == [2, 3, 5, 7]


@pytest.mark.parametrize("task", ["likes", "stars"])
def test_tables_of_real_ratings_warn_against_sharing(task, monkeypatch):
    for name in (
        *("_classifier_figures", "by_history", "units_figure", "_free_energy"),
        *("_stars", "_retrieval", "_reconstruction"),
    ):  # these draw figures, which takes half a second
        figures = plugins.task(task).figures
        monkeypatch.setattr(figures, name, lambda *arguments: {}, raising=False)
    for source, real in (("embedded", False), ("mirror", True)):
        items = drawn.__wrapped__(task, source).values()
        (table,) = [item for item in items if isinstance(item, drawing.Table)]
        assert ("real person" in table.caption) == real
        assert ("share this page only with people who may have the data" in table.caption) == real
