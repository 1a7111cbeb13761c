"""Likes and stars: who is answered what, ranks, recall and NDCG by hand, the baselines, the figures."""

import functools
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from sextant import drawing, plugins
from sextant.errors import UsageError
from sextant.families.rbm import RBM
from sextant.families.sae import SAE
from sextant.kinds.ratings import columns as ratings_columns
from sextant.kinds.ratings import encoder as ratings_encoder
from sextant.kinds.ratings import rows as ratings_rows
from sextant.saved_model import SavedModel
from sextant.strict import check
from sextant.tasks.likes import metrics as likes
from sextant.tasks.likes.figures import CHAINS, STEPS, added
from sextant.tasks.recommendation import metrics as recommendation
from sextant.tasks.recommendation.figures import somebody
from sextant.tasks.stars import metrics as stars
from sextant.tasks.stars.figures import at_k, nearest

ROOT = Path(__file__).parents[2]
CONF = yaml.safe_load((ROOT / "conf/dataset/movielens_100k.yaml").read_text())
COLUMNS = check(ratings_columns.Columns, CONF["columns"], "columns")
MIRROR = os.environ.get(
    "SEXTANT_MIRROR"
)  # read here: conftest.py hides the environment from the tests

ITEMS = [1, 2, 3, 5, 8, 13, 21]
ENCODER = ratings_encoder.Encoder(COLUMNS, ITEMS, [f"Film {i}" for i in ITEMS], [1, 2, 3, 4, 5])
NAN = float("nan")


def rows(*lines: tuple) -> pd.DataFrame:
    """(user, item, rating) or (user, item, NaN, target)."""
    frame = pd.DataFrame(
        [(*line, NAN)[:4] for line in lines], columns=["user", "item", "rating", "target"]
    )
    frame["context"] = frame["rating"].notna()
    return frame.astype({"rating": float, "target": float})


SCORES = torch.tensor([[0.5, 4.0, 3.0, 2.0, 5.5, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 4.0]])


# --- one rule for parts and questions ---------------------------------------------------------------------------------


def test_a_row_without_a_rating_is_answered_and_a_user_without_such_rows_is_recommended_to():
    asked = rows((9, 1, 5), (9, 2, NAN), (4, 13, 2), (9, 21, NAN))
    found = stars.answers({"stars": SCORES}, asked, ENCODER, {}, top_k=2)
    assert found[["user", "item", "title", "stars", "rank"]].to_numpy().tolist() == [
        [9, 2, "Film 2", 4.0, 2],  # of the six unseen: 5.5 comes before
        [
            9,
            21,
            "Film 21",
            2.0,
            5,
        ],  # with film 5 at 2.0 it shares the fourth place, and has the last of both
        [4, 8, "Film 8", 5.0, 1],
        [4, 5, "Film 5", 4.0, 2],  # before film 21, which has as many: the catalogue's order
    ]


def test_what_is_rated_is_not_recommended_and_no_more_than_there_is():
    known = rows(*((4, item, 3) for item in ITEMS[:5]))
    found = stars.answers({"stars": SCORES[:1]}, known, ENCODER, {}, top_k=10)
    assert found["item"].tolist() == [21, 13]
    assert stars.answers(
        {"stars": SCORES[:1]}, rows(*((4, i, 3) for i in ITEMS)), ENCODER, {}
    ).empty


def test_stars_are_clipped_and_ranks_are_not():
    high = torch.tensor([[9.0, 8.0, 7.0, -2.0, 1.0, 1.0, 1.0]])
    found = stars.answers({"stars": high}, rows((1, 8, 1)), ENCODER, {}, top_k=7)
    assert found["stars"].tolist() == [5, 5, 5, 1, 1, 1] and found["item"].tolist()[:3] == [1, 2, 3]


def test_ten_are_recommended_unless_asked_otherwise():
    many = ratings_encoder.Encoder(COLUMNS, list(range(1, 30)), ["x"] * 29, [1])
    outputs = {"log_odds": torch.randn(1, 29)}
    calibration = {"slope": 1.0, "offset": 0.0}
    assert (
        len(likes.answers(outputs, rows((1, 3, 4)), many, calibration))
        == likes.OPTIONS["top_k"]
        == 10
    )
    for wrong in (0, -1, 2.5, "3"):
        with pytest.raises(UsageError, match=f"top_k is {wrong}; expected a whole number from 1"):
            likes.answers(outputs, rows((1, 3, 4)), many, calibration, top_k=wrong)


def test_answers_do_not_depend_on_who_else_asks_or_in_which_order():
    rng = np.random.default_rng(3)
    pairs = [
        (user, int(item)) for user in (9, 4, 7) for item in rng.choice(ITEMS, 5, replace=False)
    ]
    asked = rows(*((*pair, NAN if rng.random() < 0.4 else 3.0) for pair in pairs))
    users, _ = ratings_rows.users_of(asked, COLUMNS)
    scores = {user: torch.randn(1, 7) for user in users}

    def answer(frame: pd.DataFrame) -> pd.DataFrame:
        order, _ = ratings_rows.users_of(frame, COLUMNS)
        return stars.answers(
            {"stars": torch.cat([scores[user] for user in order])}, frame, ENCODER, {}
        )

    whole = answer(asked)
    shuffled = answer(asked.sample(frac=1, random_state=1).reset_index(drop=True))
    alone = pd.concat(
        [answer(asked[asked["user"] == user].reset_index(drop=True)) for user in users]
    )
    for other in (shuffled, alone):
        pd.testing.assert_frame_equal(
            *(f.sort_values(["user", "item"]).reset_index(drop=True) for f in (whole, other))
        )


@pytest.mark.parametrize("task, other", [(likes, "stars"), (stars, "log_odds")])
def test_a_net_that_answers_something_else_is_refused(task, other):
    with pytest.raises(UsageError, match=f"this net answers {other}, not `"):
        task.answers({other: SCORES}, rows((1, 2, NAN)), ENCODER, {})


# --- metrics by hand --------------------------------------------------------------------------------------------------


def test_recall_and_ndcg_by_hand():
    """User 1 liked three, at ranks 1, 4 and 30; user 2 one, at rank 11; user 3 none and does not count."""
    user = np.array([1, 1, 1, 2, 3])
    rank, liked = np.array([1, 30, 4, 11, 1]), np.array([True, True, True, True, False])
    found = recommendation.retrieval(user, rank, liked)
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["recall_at_10"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["ndcg_at_10"] == pytest.approx(((1 + 1 / np.log2(5)) / ideal + 0) / 2)


def test_of_more_than_ten_liked_films_ten_make_a_perfect_ndcg():
    found = recommendation.retrieval(np.ones(12, int), np.arange(1, 13), np.ones(12, bool))
    assert found == {"recall_at_10": pytest.approx(10 / 12), "ndcg_at_10": pytest.approx(1)}


def test_nobody_who_liked_anything_has_no_recall():
    found = recommendation.retrieval(np.array([1]), np.array([1]), np.array([False]))
    assert all(np.isnan(value) for value in found.values())


def test_stars_are_scored_by_hand():
    part = rows((1, 1, 5), (1, 2, NAN, 4), (2, 3, NAN, 1), (1, 8, NAN, 2))
    found = stars.answers({"stars": SCORES}, part, ENCODER, {})
    scores = stars.score(found, part, ENCODER)
    errors = np.array([4.0 - 4, 3.0 - 1, 5.0 - 2])
    assert scores["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert scores["mae"] == pytest.approx(np.abs(errors).mean())
    assert scores["recall_at_10"] == 1 and scores["ndcg_at_10"] == pytest.approx(1 / np.log2(3))
    assert list(scores) == list(stars.METRICS)


def test_likes_are_scored_by_hand():
    part = rows((1, 1, 5), (1, 2, NAN, 4), (2, 3, NAN, 1), (1, 8, NAN, 3))
    answers = pd.DataFrame({"probability": [0.8, 0.6, 0.5]})
    scores = likes.score(answers, part, ENCODER)
    assert scores["auroc"] == pytest.approx(0.5) and scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.5]).mean())
    assert list(scores) == list(likes.METRICS)


def made_up_part(users: int = 23) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    lines = [
        (
            u,
            int(i),
            NAN if rng.random() < 0.4 else float(rng.integers(1, 6)),
            float(rng.integers(1, 6)),
        )
        for u in range(1, users + 1)
        for i in rng.choice(ITEMS, 5, replace=False)
    ]
    part = rows(*lines)
    part.loc[part["context"], "target"] = NAN
    return part[part["user"].isin(part.loc[~part["context"], "user"])].reset_index(drop=True)


@pytest.mark.parametrize("task, output", [(likes, "log_odds"), (stars, "stars")])
def test_what_is_watched_in_training_is_what_is_scored(task, output):
    part = made_up_part()
    batch = ENCODER.encode(part)
    outputs = {output: torch.randn(len(batch.user), 7) + (3 if output == "stars" else 0)}
    plain = {"slope": 1.0, "offset": 0.0} if task is likes else {}
    scores = task.score(task.answers(outputs, part, ENCODER, plain), part, ENCODER)
    watched = task.watch(outputs, batch)
    assert list(watched) == list(task.METRICS) == list(scores)
    assert watched == pytest.approx(scores, abs=1e-6)


def test_calibration_takes_back_what_was_done_to_the_log_odds():
    torch.manual_seed(0)
    true = torch.randn(400, 7, dtype=torch.float64)
    liked = torch.bernoulli(true.sigmoid())
    target = torch.where(liked > 0, 4, 2).to(torch.uint8)
    values, like = torch.tensor([1.0, 2, 3, 4, 5]).expand(400, -1), torch.full((400,), 3.0)
    batch = ratings_encoder.Batch(torch.arange(400), torch.zeros_like(target), target, values, like)
    found = likes.calibrate({"log_odds": true}, batch)
    warped = likes.calibrate({"log_odds": (true - 0.7) / 3}, batch)
    assert warped["slope"] == pytest.approx(3 * found["slope"], rel=1e-6)
    assert warped["offset"] == pytest.approx(found["offset"] + 0.7 * found["slope"], abs=1e-6)
    assert found["slope"] == pytest.approx(1, abs=0.15) and abs(found["offset"]) < 0.15


def test_a_ranking_that_val_does_not_bear_out_is_left_as_it_is():
    target = torch.tensor([[4, 4, 4, 1, 1, 2, 2]], dtype=torch.uint8)
    batch = ratings_encoder.Batch(
        torch.zeros(1),
        torch.zeros_like(target),
        target,
        torch.tensor([[1.0, 2, 3, 4, 5]]),
        torch.full((1,), 3.0),
    )
    wrong = {"log_odds": torch.tensor([[-1.0, 0.1, -2, 2, 1, 0.0, 3]])}
    assert likes.calibrate(wrong, batch) == {"slope": 1.0, "offset": 0.0}


# --- baselines --------------------------------------------------------------------------------------------------------


def train_rows() -> pd.DataFrame:
    train = rows((1, 1, 5), (1, 2, 3), (2, 1, 4), (2, 3, 1), (3, 2, 2))
    train = train.assign(target=train["rating"], context=False)
    train.attrs[ratings_rows.CATALOGUE] = (
        '{"items": [1, 2, 3, 5], "titles": ["a", "b", "c", "d"], "users": [1, 2, 3, 4]}'
    )
    return train


QUESTIONS = rows((1, 3, NAN, 4), (4, 1, NAN, 2), (3, 5, NAN, 3), (77, 2, NAN, 1))


def test_the_global_mean_answers_the_mean_and_recommends_nothing():
    answer = plugins.task("stars").baselines("ratings")["global_mean"](train_rows(), COLUMNS)
    assert (
        answer(QUESTIONS)["stars"].tolist() == [3.0] * 4 and (answer(QUESTIONS)["rank"] == 4).all()
    )
    assert answer(rows((1, 1, 5), (1, 3, NAN)))["rank"].item() == 3


def test_the_biases_solve_the_ridge_regression():
    """(X'X + 5) b = X'(r - mean), with X one-hot of users and films: five ratings, seven biases."""
    train = train_rows()
    x = np.zeros((5, 8))
    for row, (user, item) in enumerate(train[["user", "item"]].to_numpy()):
        x[row, user - 1] = x[row, 4 + [1, 2, 3, 5].index(item)] = 1
    b = np.linalg.solve(x.T @ x + 5 * np.eye(8), x.T @ (train["rating"].to_numpy() - 3.0))
    found = plugins.task("stars").baselines("ratings")["user_item_bias"](train, COLUMNS)(QUESTIONS)
    expected = [3 + b[0] + b[6], 3 + b[4], 3 + b[2], 3 + b[5]]
    assert found["stars"].to_numpy() == pytest.approx(expected, abs=1e-9)


def test_biases_are_clipped_to_the_scale():
    lines = [
        (1, 1, 5),
        (1, 3, 5),
        (2, 1, 5),
        (2, 3, 1),
        (3, 3, 1),
    ] * 40  # user 1 likes what nobody else does
    train = rows(*lines).assign(context=False)
    train.attrs = train_rows().attrs
    found = plugins.task("stars").baselines("ratings")["user_item_bias"](train, COLUMNS)(
        rows((1, 1, NAN), (3, 3, NAN), (2, 2, NAN))
    )
    assert found["stars"][0] == 5.0 and found["stars"][1] < 1.2 and 1 < found["stars"][2] < 5


def test_always_like_gives_the_share_of_liked():
    found = plugins.task("likes").baselines("ratings")["always_like"](train_rows(), COLUMNS)(
        QUESTIONS
    )
    assert found["probability"].tolist() == [0.6] * 4
    assert likes.score(found, QUESTIONS, ENCODER) == pytest.approx(
        {"auroc": 0.5, "accuracy": 0.5, "log_loss": -(2 * np.log(0.6) + 2 * np.log(0.4)) / 4}
    )


def test_the_bias_logistic_stands_where_its_loss_has_no_slope():
    """The gradient of log loss + |b|^2 / 2 by each bias is nought, and that of the intercept without the penalty."""
    train = train_rows()
    answer = plugins.task("likes").baselines("ratings")["bias_logistic"](train, COLUMNS)
    asked = train.assign(rating=NAN)
    error = answer(asked)["probability"].to_numpy() - (train["rating"] >= 3).to_numpy()
    odds = lambda *pair: (lambda p: np.log(p / (1 - p)))(
        answer(rows((*pair, NAN)))["probability"].item()
    )  # noqa: E731
    b_user = {u: odds(u, 1) - odds(4, 1) for u in (1, 2, 3)}  # user 4 rated nothing in train
    for user, bias in b_user.items():
        assert error[(train["user"] == user).to_numpy()].sum() + bias == pytest.approx(0, abs=1e-3)
    assert error.sum() == pytest.approx(0, abs=1e-3)
    assert odds(77, 2) == pytest.approx(odds(4, 2))


@pytest.mark.parametrize("task", ["likes", "stars"])
def test_the_first_baseline_is_the_trivial_one_and_knows_no_answer(task):
    found = plugins.task(task).baselines("ratings")
    assert (
        list(found)
        == {"likes": ["always_like", "bias_logistic"], "stars": ["global_mean", "user_item_bias"]}[
            task
        ]
    )
    for fit in found.values():
        answer = fit(train_rows(), COLUMNS)
        pd.testing.assert_frame_equal(answer(QUESTIONS), answer(QUESTIONS.assign(target=1.0)))


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="needs the real ratings under SEXTANT_MIRROR")
def test_on_u1_the_baselines_are_no_weaker_than_reported():
    """Fitted on all of u1.base: global mean 1.154; biases RMSE .9547, MAE .755; logistic AUC .804, accuracy .846."""
    found = ratings_rows.repair(
        ratings_rows.read(Path(str(MIRROR), "ratings/ml-100k"), COLUMNS), COLUMNS
    )
    everything = SimpleNamespace(
        salt=0, shares=SimpleNamespace(train=1.0, val=0.0, gate=0.0, test=0.0)
    )
    parts = ratings_rows.split(found, COLUMNS, everything)
    train, test = parts["train"], parts["test"]
    encoder = ratings_encoder.Encoder.fit(train, COLUMNS)
    assert (len(train), (~test["context"]).sum()) == (80_000, 20_000)
    scores = {
        name: task.score(fit(train, COLUMNS)(test), test, encoder)
        for task, room in ((stars, "stars"), (likes, "likes"))
        for name, fit in plugins.task(room).baselines("ratings").items()
    }
    assert scores["global_mean"]["rmse"] == pytest.approx(1.1537, abs=1e-4)
    assert scores["user_item_bias"]["rmse"] <= 0.9548 and scores["user_item_bias"]["mae"] <= 0.7555
    assert scores["always_like"]["accuracy"] == pytest.approx(0.8208, abs=1e-4)
    assert (
        scores["bias_logistic"]["auroc"] >= 0.8035 and scores["bias_logistic"]["accuracy"] >= 0.845
    )


# --- figures ----------------------------------------------------------------------------------------------------------


RBM_CONF = {
    "hidden": 3,
    "chain": "cd",
    "k": 1,
    "clamped": 0.0,
    "conditional": True,
    "shrinkage": 2.0,
    "init": 0.7,
}
SAE_CONF = {
    "mode": "user",
    "hidden_sizes": [11],
    "activation": "tanh",
    "dropout": 0.0,
    "tied": False,
    "masks": True,
}
SAE_LOSS = {"hide": [0.0, 0.0], "visible": 1.0, "refeed": 0.0, "shrinkage": 2.0}


def a_model(task: str, units: str = "bernoulli", source: str = "embedded") -> SavedModel:
    """An untrained net of each task whose weights are nobody's default."""
    torch.manual_seed(3)
    sizes = ENCODER.sizes
    net = (
        RBM(**sizes, units=units, **RBM_CONF)
        if task == "likes"
        else SAE(*list(sizes.values())[:3], **SAE_CONF, **SAE_LOSS)
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.6)
    calibration = {"slope": 1.0, "offset": 0.0} if task == "likes" else {}
    return SavedModel(
        {"task": task, "calibration": calibration, "source": source}, net.eval(), ENCODER
    )


@functools.cache
def drawn(task: str, source: str = "embedded") -> dict:
    part = made_up_part(61)
    model = a_model(task, source=source)
    answers = model.answer(part)
    baseline = answers.assign(**{answers.columns[3]: 0.5 if task == "likes" else 3.0}, rank=7)
    asked = {"model": model, "train": part[part["context"]], "val": part}
    return plugins.call(
        plugins.task(task).figures.figures, answers, part, COLUMNS, {"flat": baseline}, **asked
    )


@pytest.mark.parametrize(
    "task, names",
    [
        ("likes", ["known", "units", "free_energy", "completion"]),
        ("stars", ["stars", "known", "retrieval", "reconstruction", "units", "recommended"]),
    ],
)
def test_every_figure_says_what_it_shows(task, names, tmp_path):
    found = drawn(task)
    assert (
        list(found)[-len(names) :] == names
    )  # what comes before is drawn by classification, which has its tests
    for name in names[:-1]:  # the last is a table
        figure = found[name]
        assert figure.axes and figure.get_suptitle() and figure.get_label(), name
        for axes in figure.axes:
            shared = axes.get_shared_x_axes().get_siblings(axes)
            assert axes.get_ylabel() and any(one.get_xlabel() for one in shared), name
        drawing.save(figure, tmp_path / f"{name}.svg")
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = drawn.__wrapped__(task)
    for name in names[:-1]:
        drawing.save(again[name], tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.svg").read_bytes() == first[f"{name}.svg"], name


def test_the_films_shown_of_a_unit_are_those_that_weigh_most():
    axes = drawn("stars")["units"].axes[0]
    unit = int(axes.get_ylabel().removeprefix("unit "))
    weights = a_model("stars").net.units()[unit]
    shown = weights.abs().argsort(descending=True)[:3].flip(0).tolist()
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        f"Film {ITEMS[i]}" for i in shown
    ]
    told = [bar.get_gid().removeprefix(drawing.TOLD) for bar in axes.patches if bar.get_gid()]
    assert told == [f"unit {unit}, Film {ITEMS[i]}: {weights[i]:+.3f}" for i in shown]


def test_a_net_without_units_has_no_such_figure_and_no_model_no_table():
    part = made_up_part(61)
    answers = pd.DataFrame({"stars": 3.0, "rank": 1}, index=range(int((~part["context"]).sum())))
    assert "units" not in plugins.task("stars").figures.figures(answers, part, COLUMNS, {})
    for task in ("likes", "stars"):
        found = plugins.call(
            plugins.task(task).figures.figures, answers.assign(probability=0.5), part, COLUMNS, {}
        )
        assert not any(isinstance(each, drawing.Table) for each in found.values())


@pytest.mark.parametrize("task, metrics", [("likes", ["auroc", "log_loss"]), ("stars", ["rmse"])])
def test_of_users_in_one_band_the_point_is_the_score(task, metrics):
    part, model = made_up_part(61), a_model(task)
    scores = model.score(model.answer(part), part)
    shown = [axes.lines[0].get_ydata() for axes in drawn(task)["known"].axes]
    assert [len(values) for values in shown] == [1] * len(metrics)
    assert [values[0] for values in shown] == pytest.approx([scores[name] for name in metrics])


def test_recall_and_ndcg_at_ten_are_the_scores():
    rng = np.random.default_rng(2)
    user, rank = np.sort(rng.integers(5, size=83)), rng.integers(1, 40, size=83)
    found = recommendation.retrieval(user, rank, np.ones(83, bool))
    assert at_k(user, rank, recommendation.CUT) == pytest.approx(
        (found["recall_at_10"], found["ndcg_at_10"])
    )


# --- one user ---------------------------------------------------------------------------------------------------------


def test_the_one_shown_is_the_median_user_by_what_is_known():
    sizes = {7: 3, 2: 1, 9: 2, 4: 2, 5: 5}
    part = rows(
        *[(user, ITEMS[i], 3) for user, n in sizes.items() for i in range(n)],
        *[(u, 21, NAN, 4) for u in sizes],
    )
    known, asked = somebody(part, COLUMNS)
    assert known["user"].tolist() == [9, 9] and asked["user"].tolist() == [9]


@pytest.mark.parametrize("task, table", [("likes", "completion"), ("stars", "recommended")])
def test_no_film_that_the_user_rated_is_recommended(task, table):
    known, _ = somebody(made_up_part(61), COLUMNS)
    rated = {f"Film {i}" for i in known["item"]}
    found = drawn(task)[table].rows
    fresh = found.dropna() if task == "likes" else found
    assert len(fresh) == len(ITEMS) - len(rated) and not rated & set(fresh["film"])


@pytest.mark.parametrize("units", ["bernoulli", "softmax", "ordinal"])
def test_a_completion_is_the_ratio_of_exp_minus_f_and_the_chain_finds_it(units):
    net = a_model("likes", units).net
    codes, items = torch.tensor([5, 0, 1, 0, 3, 0, 0], dtype=torch.uint8), torch.tensor([1, 6])
    odds = net.exact_log_odds(codes, items)
    for item, value in zip(items, odds, strict=True):
        masses = []
        for code in range(1, 6):
            whole = codes.clone()
            whole[item] = code
            masses.append((-net.free_energy_of(whole[None])).exp().item())
        no, yes = (masses[:2], masses[2:]) if units != "bernoulli" else (masses[:1], masses[-1:])
        assert value.item() == pytest.approx(np.log(sum(yes) / sum(no)), abs=1e-4)
    state = torch.get_rng_state()
    chain = net.gibbs_log_odds(codes, items, CHAINS, STEPS)
    assert chain.sigmoid().numpy() == pytest.approx(odds.sigmoid().numpy(), abs=0.03)
    again = net.gibbs_log_odds(codes, items, CHAINS, STEPS)
    assert torch.equal(again, chain) and torch.equal(torch.get_rng_state(), state)


def test_what_a_rating_adds_to_the_free_energy_is_by_train_and_by_val_added_to_the_same_others():
    """Of user 1 one of three known films is set aside; user 2, of whom too little is known, is not looked at."""
    net = a_model("likes").net
    batch = ENCODER.encode(
        rows((1, 1, 5), (1, 2, 1), (1, 8, 3), (1, 21, NAN, 4), (2, 3, 2), (2, 5, NAN, 1))
    )

    def f(**given: int) -> float:
        codes = torch.zeros(1, len(ITEMS), dtype=torch.uint8)
        for item, code in given.items():
            codes[0, ITEMS.index(int(item[1:]))] = code
        return net.free_energy_of(codes).item()

    known = {"f1": 5, "f2": 1, "f8": 3}
    others = [{film: code for film, code in known.items() if film != gone} for gone in known]
    possible = [(f(**known) - f(**rest), f(**rest, f21=4) - f(**rest)) for rest in others]
    found = tuple(values.item() for values in added(net, batch))
    assert min(np.abs(np.subtract(found, pair)).max() for pair in possible) < 1e-5


def test_the_nearest_films_are_those_whose_vectors_point_the_same_way():
    vectors = np.random.default_rng(4).normal(size=(13, 5))
    vectors[7], vectors[3] = 2 * vectors[11], -vectors[11]
    found = nearest(vectors, 11, np.array([3, 5, 7, 2]))
    assert found[0] == 7 and found[-1] == 3 and sorted(found) == [2, 3, 5, 7]


@pytest.mark.parametrize(
    "source, said", [("embedded", ""), ("mirror", "no further than the data may go")]
)
def test_where_ratings_are_real_the_page_says_that_it_may_not_be_passed_on(source, said):
    for task in ("likes", "stars"):
        (table,) = (
            found for found in drawn(task, source).values() if isinstance(found, drawing.Table)
        )
        assert ("real person" in table.says) == bool(said) and said in table.says
