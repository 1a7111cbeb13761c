"""The stacked autoencoder: missing ratings, biases by hand, both modes, tied layers, re-feeding."""

import typing
from typing import Any

import batches
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT

from sextant import config, optimizers, plugins, saved_model, strict
from sextant.errors import UsageError
from sextant.families.sae import ACTIVATIONS, SAE, Stack
from sextant.kinds.ratings import rows as rating_rows
from sextant.kinds.ratings.columns import Columns
from sextant.kinds.ratings.encoder import Batch, Encoder
from sextant.kinds.ratings.twin import Twin, write_twin
from sextant.kinds.splits import HashSplit, Shares


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


DATASET = read_yaml("conf/dataset/movielens_100k.yaml")
MODEL = read_yaml("conf/model/sae.yaml")
TRAINER = config.Trainer(**read_yaml("conf/trainer.yaml"))

USERS, ITEMS = 5, 7
NET: dict[str, Any] = {
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
MODES = pytest.mark.parametrize("mode", ["user", "item"])


def make_batch(users: list[int] | None = None) -> Batch:
    return batches.of_ratings(KNOWN, users=users)


def make_net(**net: object) -> SAE:
    """Random weights, with biases and stored ratings of `make_batch`."""
    torch.manual_seed(3)
    sae = SAE(USERS, ITEMS, batches.STARS, **NET | net)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.normal_(std=0.4)
    sae.initialise(make_batch())
    return sae


def known_stars(net: SAE, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The known stars and their mask, (users, items)."""
    return net.values[batch.observed.long()], (batch.observed > 0).float()


# --- biases -------------------------------------------------------------------------------------


def test_the_biases_solve_their_equations():
    """Each is the sum of what the other leaves, divided by the count plus the shrinkage."""
    net = make_net()
    stars, mask = known_stars(net, make_batch())
    stars, mask = stars.double(), mask.double()
    mean = stars.sum() / mask.sum()
    torch.testing.assert_close(net.mean.double(), mean, rtol=1e-6, atol=0)
    b_i = net.item_bias.double()
    b_u = ((stars - mean - b_i) * mask).sum(1) / (mask.sum(1) + 2.0)
    solved = ((stars - mean - b_u[:, None]) * mask).sum(0) / (mask.sum(0) + 2.0)
    torch.testing.assert_close(solved, b_i, rtol=0, atol=1e-5)
    biases = net.biases(stars.float(), mask.float()).double()
    torch.testing.assert_close(biases, mean + b_i + b_u[:, None])


def test_a_user_without_known_ratings_gets_the_biases_of_the_films():
    net = make_net().eval()
    batch = batches.of_ratings([[0] * 7], users=[-1])
    biases = net.biases(*known_stars(net, batch))
    torch.testing.assert_close(biases[0], net.mean + net.item_bias)
    assert torch.isfinite(net.predict(batch)["stars"]).all()


# --- loss ---------------------------------------------------------------------------------------


@MODES
def test_the_loss_is_the_mean_square_over_the_ratings_of_the_target(mode):
    net = make_net(mode=mode).eval()
    target = [[0, 2, 0, 0, 0, 0, 0], [0] * 7, [0, 0, 1, 3, 0, 0, 0], [0] * 7, [0] * 7]
    batch = batches.of_ratings(KNOWN, target)
    stars = net.predict(batch)["stars"]
    squares = [(stars[0, 1] - 2) ** 2, (stars[2, 2] - 1) ** 2, (stars[2, 3] - 3) ** 2]
    torch.testing.assert_close(net.loss(batch), torch.stack(squares).mean())


@MODES
@pytest.mark.parametrize("tied", [False, True])
def test_a_missing_rating_gets_no_gradient_and_gives_none(mode, tied):
    """A film without ratings (mode item: a user without) leaves all other weights alone."""
    known = torch.tensor(KNOWN)
    known[:, 3] = 0
    known[1] = 0
    batch = batches.of_ratings(known.tolist())
    net = make_net(mode=mode, tied=tied).train()
    net.initialise(batch)
    if mode == "item":
        net.ratings.copy_(known)
    net.loss(batch).backward()
    absent, inputs = (3, ITEMS) if mode == "user" else (1, USERS)
    present = [i for i in range(inputs) if i != absent]
    first, last = net.stack.encoders[0], net.stack.decoders[-1]
    output_grad = first.weight.grad.T if tied else last.weight.grad
    assert (output_grad[absent] == 0).all()
    assert (output_grad[present].abs().amax(1) > 0).all()
    assert (first.weight.grad[:, absent] == 0).all()
    assert (net.stack.masks.weight.grad[:, absent] == 0).all()
    assert last.bias.grad[absent] == 0
    if mode == "user":
        assert net.item_bias.grad[3] == 0


def test_a_hidden_rating_is_not_read():
    """With every input hidden the answer is that for a user without known ratings."""
    net = make_net(hide=[1.0, 1.0])
    without = batches.of_ratings([[0] * 7], users=[-1])
    stars = net.eval().predict(without)["stars"][0]
    batch = make_batch()
    rated = batch.target > 0
    expected = ((stars - batch.target.float()) ** 2)[rated].mean()
    torch.testing.assert_close(net.train().loss(batch), expected)


def test_a_rating_in_the_input_weighs_visible():
    """Nothing is hidden here: with visible 0 no loss is left, with 0.3 the mean is that of 1."""
    batch = make_batch()
    assert make_net(visible=0.0).train().loss(batch).item() == 0
    expected = make_net(visible=1.0).train().loss(batch)
    torch.testing.assert_close(make_net(visible=0.3).train().loss(batch), expected)


def test_the_hidden_share_is_drawn_between_the_two():
    net = make_net(hide=[0.25, 0.75])
    torch.manual_seed(0)
    kept = net._draw_kept(torch.ones(4000, 50)).mean(1)
    assert abs(kept.mean() - 0.5) < 0.02 and kept.std() > 0.12
    assert kept.min() > 0.02 and kept.max() < 0.98


def test_refeeding_adds_the_change_of_an_answer_that_is_fed_back():
    batch = make_batch()
    plain, refed = make_net().train(), make_net(refeed=0.7).train()
    dense = plain(*known_stars(plain, batch), batch.user).detach()
    fed_back = plain(dense, torch.ones_like(dense), batch.user)
    expected = plain.loss(batch) + 0.7 * ((fed_back - dense) ** 2).mean()
    torch.testing.assert_close(refed.loss(batch), expected)
    torch.testing.assert_close(refed.eval().loss(batch), plain.eval().loss(batch))


def test_arguments_that_do_not_go_together_are_refused():
    with pytest.raises(UsageError, match="refeed is 0.5, but only mode `user`"):
        make_net(mode="item", refeed=0.5)
    with pytest.raises(UsageError, match=r"hide is \[0.5, 0.2\]; expected the lower share first"):
        make_net(hide=[0.5, 0.2])


# --- layers -------------------------------------------------------------------------------------


def test_tied_layers_share_weights_and_a_decoder_has_its_own_bias():
    stack = Stack([7, 5, 3], "tanh", 0.0, tied=True, masks=False)
    shapes = {name: tuple(p.shape) for name, p in stack.named_parameters()}
    assert shapes == {
        "encoders.0.weight": (5, 7),
        "encoders.0.bias": (5,),
        "encoders.1.weight": (3, 5),
        "encoders.1.bias": (3,),
        "decoders.0.bias": (5,),
        "decoders.1.bias": (7,),
    }
    x, scale = torch.randn(2, 7), torch.rand(2, 1)
    first, second = stack.encoders
    hidden = torch.tanh((x * scale) @ first.weight.T + first.bias)
    code = torch.tanh(hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(stack.encode(x, torch.ones_like(x), scale), code)
    hidden = torch.tanh(code @ second.weight + stack.decoders[0].bias)
    out = hidden @ first.weight + stack.decoders[1].bias
    torch.testing.assert_close(stack.decode(code), out)
    torch.testing.assert_close(stack.decode(code, torch.tensor([4, 1])), out[:, [4, 1]])


def test_a_layer_between_equal_sizes_is_residual():
    stack = Stack([7, 5, 5], "tanh", 0.0, tied=False, masks=False)
    x = torch.randn(2, 7)
    scale = torch.ones(2, 1)
    hidden = torch.tanh(stack.encoders[0](x))
    layer = stack.encoders[1]
    expected = hidden + torch.tanh(hidden @ layer.weight.T / 5 + layer.bias)
    torch.testing.assert_close(stack.encode(x, torch.ones_like(x), scale), expected)


# --- mode item ----------------------------------------------------------------------------------


def test_in_mode_item_a_new_user_gets_the_biases_alone():
    net = make_net(mode="item").eval()
    batch = make_batch()
    assert net.stack.encoders[0].in_features == USERS and torch.equal(net.ratings, batch.observed)
    new = net.predict(make_batch(users=[-1] * 5))["stars"]
    torch.testing.assert_close(new, net.biases(*known_stars(net, batch)))
    assert (net.predict(batch)["stars"] - new).abs().min() > 0


@MODES
def test_new_ratings_of_a_training_user_move_more_than_the_bias_in_mode_user_only(mode):
    net = make_net(mode=mode).eval()
    changed = batches.of_ratings([[3, 0, 1, 2, 0, 2, 0], *KNOWN[1:]])
    residuals = []
    for batch in (make_batch(), changed):
        biases = net.biases(*known_stars(net, batch))
        residuals.append(net.predict(batch)["stars"] - biases)
    assert torch.allclose(*residuals, atol=1e-5) == (mode == "item")


def test_in_mode_item_the_answers_for_a_user_are_one_output_of_each_film():
    net = make_net(mode="item").eval()
    stars, mask = known_stars(net, make_batch())
    biases = net.biases(stars, mask)
    x, present = ((stars - biases) * mask).T, mask.T
    scale = (present.sum(1, keepdim=True) + 2.0).rsqrt()
    code = net.stack.encode(x, present, scale)  # one row per film
    outputs = net.stack.decode(code)  # (items, users)
    torch.testing.assert_close(net.predict(make_batch())["stars"], biases + outputs.T)


# --- predictions and training -------------------------------------------------------------------


@MODES
def test_a_batch_is_predicted_like_its_users_one_by_one(mode):
    net, batch = make_net(mode=mode).eval(), make_batch()
    together = net.predict(batch)["stars"]
    for i in range(USERS):
        alone = net.predict(plugins.take(batch, slice(i, i + 1)))["stars"]
        torch.testing.assert_close(alone[0], together[i])


@MODES
def test_every_parameter_has_a_gradient(mode):
    net = make_net(mode=mode, hide=[0.3, 0.6], dropout=0.2).train()
    net.loss(make_batch()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_net_overfits_five_users(mode, activation):
    torch.manual_seed(0)
    arguments = NET | {"mode": mode, "hidden_sizes": [32], "activation": activation}
    net = SAE(USERS, ITEMS, batches.STARS, **arguments)
    net.initialise(make_batch())
    optimizer = torch.optim.AdamW(net.param_groups(), lr=0.02, weight_decay=0.0)
    for _ in range(300):
        optimizer.zero_grad()
        loss = net.loss(make_batch())
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


def test_the_conf_can_choose_every_activation():
    choices = typing.get_type_hints(SAE.__init__)["activation"]
    assert set(typing.get_args(choices)) == set(ACTIVATIONS)


@MODES
def test_units_are_weights_of_films(mode):
    assert make_net(mode=mode).units().shape == (11, ITEMS)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The parts of a small twin of MovieLens."""
    folder = tmp_path_factory.mktemp("movielens")
    columns = strict.check(Columns, DATASET["columns"], "columns")
    small = {
        "users": 31,
        "items": 37,
        "ratings": 421,
        "least": 7,
        "test": 83,
        "test_users": 13,
        "unknown": 5,
        "repeated_titles": 3,
    }
    write_twin(strict.check(Twin, DATASET["twin"] | small, "twin"), columns, folder)
    rows = rating_rows.repair(rating_rows.read(folder, columns), columns)
    shares = Shares(train=0.6, val=0.2, gate=0.2, test=0.0)
    return rating_rows.split(rows, columns, HashSplit(by="hash", salt=0, shares=shares))


@pytest.mark.parametrize(("mode", "tied"), [("user", True), ("item", False)])
@pytest.mark.filterwarnings("ignore:no rating is known of user")
def test_a_trained_net_is_restored_from_its_file_and_the_same_seed_gives_the_same_bytes(
    mode, tied, parts, tmp_path
):
    """As the train stage does it. In mode item the file includes the ratings of training."""
    from sextant import learner, train

    columns = strict.check(Columns, DATASET["columns"], "columns")
    encoder = Encoder.fit(parts["train"], columns)
    train_batch, val_batch = encoder.encode(parts["train"]), encoder.encode(parts["val"])
    net_conf = NET | {"mode": mode, "tied": tied, "hide": [0.2, 0.6], "dropout": 0.2}
    schedule = optimizers.Schedule(**MODEL["schedule"] | {"max_epochs": 3, "batch_size": 7})
    card = {
        "family": "sae",
        "kind": "ratings",
        "task": "stars",
        "net": net_conf,
        "columns": DATASET["columns"],
        "calibration": {},
    }

    def trained_bytes(seed: int, name: str) -> bytes:
        torch.manual_seed(seed)
        net = saved_model.build("sae", encoder.sizes, net_conf)
        net.initialise(train_batch)
        learning = learner.Learner(
            net,
            train_batch,
            val_batch,
            plugins.task("stars"),
            MODEL["optimizer"],
            schedule,
            seed,
            lambda row: None,
        )
        best, _ = train.fit(learning, tmp_path / f"checkpoints {name}", TRAINER)
        saved_model.save(tmp_path / name, card, best, encoder)
        inputs = encoder.inputs(parts["val"])
        expected = saved_model.SavedModel(card, best, encoder).predict(inputs)
        loaded = saved_model.load(tmp_path / name)
        pd.testing.assert_frame_equal(loaded.predict(inputs), expected)
        return (tmp_path / name / saved_model.WEIGHTS).read_bytes()

    train.quieten()
    first = trained_bytes(3, "first")
    assert trained_bytes(3, "same seed") == first
    assert trained_bytes(5, "other seed") != first
