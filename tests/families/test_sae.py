"""The stacked autoencoder: what is missing counts for nothing, biases by hand, both modes, tied weights, re-feeding."""

import typing
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from sextant.data import ratings

from sextant import config, optimizers, saved_model, strict, train
from sextant.errors import UsageError
from sextant.families.sae import ACTIVATIONS, SAE, Stack
from sextant.kinds.ratings.encoder import Batch
from sextant.tasks import stars

ROOT = Path(__file__).parents[2]
DATA = yaml.safe_load((ROOT / "conf/dataset/movielens_100k.yaml").read_text(encoding="utf-8"))
MODEL = yaml.safe_load((ROOT / "conf/model/sae.yaml").read_text(encoding="utf-8"))
TRAINER = config.Trainer(**yaml.safe_load((ROOT / "conf/trainer.yaml").read_text(encoding="utf-8")))

USERS, ITEMS = 5, 7
CONF = {
    "mode": "user",
    "hidden_sizes": [11, 11],
    "activation": "tanh",
    "dropout": 0.0,
    "tied": False,
    "masks": True,
    "hide": [0.0, 0.0],
    "visible": 1.0,
    "refeed": 0.0,
    "shrinkage": 2.0,
}
KNOWN = [
    [1, 0, 3, 0, 0, 2, 0],
    [0, 2, 2, 0, 1, 0, 0],
    [3, 3, 0, 0, 1, 0, 2],
    [0, 0, 1, 1, 0, 0, 0],
    [2, 0, 0, 3, 0, 3, 1],
]


def batch(known: list = KNOWN, target: list | None = None, users: list[int] | None = None) -> Batch:
    codes, asked = (
        torch.tensor(known, dtype=torch.uint8),
        torch.tensor(target or known, dtype=torch.uint8),
    )
    n = len(codes)
    values, like = torch.tensor([1.0, 2.0, 3.0]).expand(n, -1), torch.full((n,), 2.0)
    return Batch(torch.tensor(users or range(n)), codes, asked, values, like)


def net(**conf: object) -> SAE:
    torch.manual_seed(3)
    found = SAE(USERS, ITEMS, [1.0, 2.0, 3.0], **{**CONF, **conf})
    with torch.no_grad():
        for p in found.parameters():
            p.normal_(std=0.4)
    found.initialise(batch())
    return found


MODES = pytest.mark.parametrize("mode", ["user", "item"])


def test_the_biases_solve_their_equations():
    """Each is the sum of what the other leaves, divided by the count and the shrinkage."""
    found = net()
    stars, mask = batch().known.double(), (batch().known > 0).double()
    mean = stars.sum() / mask.sum()
    torch.testing.assert_close(found.mean.double(), mean, rtol=1e-6, atol=0)
    b_i = found.item_bias.double()
    b_u = ((stars - mean - b_i) * mask).sum(1) / (mask.sum(1) + 2.0)
    again = ((stars - mean - b_u[:, None]) * mask).sum(0) / (mask.sum(0) + 2.0)
    torch.testing.assert_close(again, b_i, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        found.biases(stars.float(), mask.float()).double(), mean + b_i + b_u[:, None]
    )


def test_a_user_of_whom_nothing_is_known_is_answered_by_the_films():
    found = net().eval()
    nobody = batch([[0] * 7], users=[-1])
    torch.testing.assert_close(
        found.biases(found.values[nobody.known.long()], (nobody.known > 0).float())[0],
        found.mean + found.item_bias,
    )
    assert torch.isfinite(found.predict(nobody)["stars"]).all()


@MODES
def test_the_loss_is_the_mean_square_over_what_is_there(mode):
    found = net(mode=mode).eval()
    some = batch(target=[[0, 2, 0, 0, 0, 0, 0], [0] * 7, [0, 0, 1, 3, 0, 0, 0], [0] * 7, [0] * 7])
    stars = found.predict(some)["stars"]
    squared = [(stars[0, 1] - 2) ** 2, (stars[2, 2] - 1) ** 2, (stars[2, 3] - 3) ** 2]
    torch.testing.assert_close(found.loss(some), torch.stack(squared).mean())


@MODES
@pytest.mark.parametrize("tied", [False, True])
def test_what_is_missing_gets_no_gradient_and_gives_none(mode, tied):
    """A film that nobody rated (in mode item: a user who rated none) leaves the weights of all others alone."""
    known = [
        [0 if i == 3 or u == 1 else code for i, code in enumerate(row)]
        for u, row in enumerate(KNOWN)
    ]
    found = net(mode=mode, tied=tied).train()
    found.initialise(batch(known))
    if mode == "item":
        found.ratings.copy_(torch.tensor(known))
    found.loss(batch(known)).backward()
    absent, n = (3, ITEMS) if mode == "user" else (1, USERS)
    others = [i for i in range(n) if i != absent]
    weight = found.stack.encoders[0].weight.grad.T if tied else found.stack.decoders[-1].weight.grad
    assert (weight[absent] == 0).all() and (weight[others].abs().amax(1) > 0).all()
    assert (found.stack.encoders[0].weight.grad[:, absent] == 0).all()
    assert (found.stack.masks.weight.grad[:, absent] == 0).all()
    assert found.stack.decoders[-1].bias.grad[absent] == 0
    if mode == "user":
        assert found.item_bias.grad[3] == 0


def test_what_is_hidden_is_not_looked_at():
    """With everything hidden from the input the answer is that about nobody, whatever was given."""
    found = net(hide=[1.0, 1.0]).train()
    nobody = found.eval().predict(batch([[0] * 7], users=[-1]))["stars"][0]
    found.train()
    some = batch()
    there = some.target > 0
    expected = ((nobody - some.target.float()) ** 2)[there].mean()
    torch.testing.assert_close(found.loss(some), expected)


def test_a_rating_that_was_shown_counts_as_much_as_visible_says():
    """Nothing is hidden here: with visible 0 nothing is left to learn from, with 0.3 the mean is the same as with 1."""
    some = batch()
    assert net(visible=0.0).train().loss(some).item() == 0
    torch.testing.assert_close(
        net(visible=0.3).train().loss(some) / 1, net(visible=1.0).train().loss(some) * 1
    )


def test_hidden_shares_are_drawn_between_the_two():
    found = net(hide=[0.25, 0.75])
    torch.manual_seed(0)
    kept = found._draw_kept(torch.ones(4000, 50)).mean(1)
    assert (
        abs(kept.mean() - 0.5) < 0.02
        and kept.min() > 0.02
        and kept.max() < 0.98
        and kept.std() > 0.12
    )


def test_refeeding_adds_how_much_the_answer_changes_when_it_is_fed_back():
    some = batch()
    plain, fed = net().train(), net(refeed=0.7).train()
    dense = plain(plain.values[some.known.long()], (some.known > 0).float(), some.user).detach()
    again = plain(dense, torch.ones_like(dense), some.user)
    torch.testing.assert_close(
        fed.loss(some), plain.loss(some) + 0.7 * ((again - dense) ** 2).mean()
    )
    torch.testing.assert_close(fed.eval().loss(some), plain.eval().loss(some))


def test_refeeding_is_refused_where_a_row_is_a_film():
    with pytest.raises(UsageError, match="refeed is 0.5, but only mode `user`"):
        net(mode="item", refeed=0.5)
    with pytest.raises(UsageError, match=r"hide is \[0.5, 0.2\]; expected the lower share first"):
        net(hide=[0.5, 0.2])


def test_tied_layers_share_their_weights_and_a_decoder_has_a_bias_of_its_own():
    stack = Stack([7, 5, 3], "tanh", 0.0, tied=True, masks=False)
    names = {name: tuple(p.shape) for name, p in stack.named_parameters()}
    assert names == {
        "encoders.0.weight": (5, 7), "encoders.0.bias": (5,), "encoders.1.weight": (3, 5), "encoders.1.bias": (3,),
        "decoders.0.bias": (5,), "decoders.1.bias": (7,),
    }  # fmt: skip
    x = torch.randn(2, 7)
    first, second = stack.encoders
    code = torch.tanh(torch.tanh(x @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    torch.testing.assert_close(stack.encode(x, torch.ones_like(x)), code)
    out = (
        torch.tanh(code @ second.weight + stack.decoders[0].bias) @ first.weight
        + stack.decoders[1].bias
    )
    torch.testing.assert_close(stack.decode(code), out)
    torch.testing.assert_close(stack.decode(code, torch.tensor([4, 1])), out[:, [4, 1]])


def test_a_layer_between_equal_sizes_adds_to_its_input():
    stack = Stack([7, 5, 5], "tanh", 0.0, tied=False, masks=False)
    x = torch.randn(2, 7)
    one = torch.tanh(stack.encoders[0](x))
    layer = stack.encoders[1]
    expected = one + torch.tanh(one @ layer.weight.T / 5 + layer.bias)
    torch.testing.assert_close(stack.encode(x, torch.ones_like(x)), expected)


def test_in_mode_item_a_row_is_a_film_and_a_new_user_has_the_biases_alone():
    found = net(mode="item").eval()
    some = batch()
    assert found.stack.encoders[0].in_features == USERS and torch.equal(found.ratings, some.known)
    new = found.predict(batch(users=[-1] * 5))["stars"]
    torch.testing.assert_close(new, found.biases(some.known.float(), (some.known > 0).float()))
    assert (found.predict(some)["stars"] - new).abs().min() > 0


def test_in_mode_item_new_ratings_of_a_known_user_move_their_bias_alone():
    """The answer less the biases stays, and in mode user it does not."""
    changed = [[3, 0, 1, 2, 0, 2, 0], *KNOWN[1:]]
    for mode in ("item", "user"):
        found, left = net(mode=mode).eval(), []
        for some in (batch(), batch(changed)):
            stars, mask = found.values[some.known.long()], (some.known > 0).float()
            left.append(found.predict(some)["stars"] - found.biases(stars, mask))
        assert torch.allclose(left[0], left[1], atol=1e-5) is (mode == "item")


def test_in_mode_item_the_answer_for_a_user_is_that_output_of_each_film():
    found = net(mode="item").eval()
    stars, mask = batch().known.float(), (batch().known > 0).float()
    biases = found.biases(stars, mask)
    x, there = ((stars - biases) * mask).T, mask.T
    scale = (there.sum(1, keepdim=True) + 2.0).rsqrt()
    code = found.stack.encode(x * scale, there * scale)  # a row a film
    out = found.stack.decode(code)  # (items, users)
    torch.testing.assert_close(found.predict(batch())["stars"], biases + out.T)


@MODES
def test_many_users_are_answered_as_one_by_one(mode):
    found, some = net(mode=mode).eval(), batch()
    whole = found.predict(some)["stars"]
    for i in range(USERS):
        torch.testing.assert_close(
            found.predict(Batch(*(t[i : i + 1] for t in some)))["stars"][0], whole[i]
        )


@MODES
def test_every_parameter_learns(mode):
    found = net(mode=mode, hide=[0.3, 0.6], dropout=0.2).train()
    found.loss(batch()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in found.parameters())


@MODES
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_learns_five_users_by_heart(mode, activation):
    torch.manual_seed(0)
    conf = {**CONF, "mode": mode, "hidden_sizes": [32], "activation": activation}
    found = SAE(USERS, ITEMS, [1.0, 2.0, 3.0], **conf)
    found.initialise(batch())
    optimizer = torch.optim.AdamW(found.param_groups(), lr=0.02, weight_decay=0.0)
    for _ in range(300):
        optimizer.zero_grad()
        loss = found.loss(batch())
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


def test_the_conf_may_name_every_activation():
    choices = typing.get_type_hints(SAE.__init__)["activation"]
    assert set(typing.get_args(choices)) == set(ACTIVATIONS)


@MODES
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.filterwarnings("ignore:nothing is known of user")
def test_it_is_trained_saved_and_loaded_and_the_same_seed_gives_the_same_bytes(
    mode, tied, tmp_path
):
    """As the train stage does it, on a few users; in mode item what it keeps of their ratings is saved with it."""
    columns = strict.check(ratings.Columns, DATA["columns"], "columns")
    small = {
        "users": 31,
        "items": 37,
        "ratings": 421,
        "least": 7,
        "test": 83,
        "test_users": 13,
        "unknown": 5,
    }
    twin = strict.check(ratings.Twin, {**DATA["twin"], **small, "repeated_titles": 3}, "twin")
    ratings.write_twin(twin, columns, tmp_path / "raw")
    rows = ratings.repair(ratings.read(tmp_path / "raw", columns), columns)
    shares = SimpleNamespace(train=0.6, val=0.2, gate=0.2, test=0.0)
    parts = ratings.split(rows, columns, SimpleNamespace(salt=0, shares=shares))
    encoder = ratings.Encoder.fit(parts["train"], columns)
    known, asked = encoder.encode(parts["train"]), encoder.encode(parts["val"])
    net_conf = {**CONF, "mode": mode, "tied": tied, "hide": [0.2, 0.6], "dropout": 0.2}
    schedule = optimizers.Schedule(**{**MODEL["schedule"], "max_epochs": 3, "batch_size": 7})

    def trained(seed: int, name: str) -> bytes:
        torch.manual_seed(seed)
        found = saved_model.build("sae", encoder.sizes, net_conf)
        found.initialise(known)
        learner = train.Learner(
            found, known, asked, stars, MODEL["optimizer"], schedule, seed, lambda row: None
        )
        train.fit(learner, tmp_path / f"checkpoints {name}", TRAINER, "min")
        card = {
            "family": "sae",
            "kind": "ratings",
            "task": "stars",
            "net": net_conf,
            "columns": DATA["columns"],
        }
        saved_model.save(tmp_path / name, {**card, "calibration": {}}, learner.kept, encoder)
        question = encoder.question(parts["val"])
        expected = saved_model.SavedModel(
            {**card, "calibration": {}}, learner.kept, encoder
        ).predict(question)
        pd.testing.assert_frame_equal(saved_model.load(tmp_path / name).predict(question), expected)
        return (tmp_path / name / saved_model.WEIGHTS).read_bytes()

    train.quieten()
    assert trained(3, "one") == trained(3, "same") != trained(5, "other")


@MODES
def test_units_are_of_films(mode):
    assert net(mode=mode).units().shape == (11, ITEMS)
