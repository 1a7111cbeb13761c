"""The feed-forward net: its code of numbers on paper, its members each on their own."""

import math

import pytest
import torch
from torch.nn import functional as F

from sextant.families.ann import ANN, PiecewiseLinear
from sextant.kinds.tabular.encoder import UNSEEN, Batch

ROWS, NUMERIC, LEVELS, CLASSES, BODIES, MEMBERS = 31, 2, (3, 5), 3, 2, 7


def batch_of(rows: int = ROWS, seed: int = 1) -> Batch:
    torch.manual_seed(seed)
    codes = [torch.randint(1, n + 1, (rows,)) for n in LEVELS]
    return Batch(torch.randn(rows, NUMERIC), torch.stack(codes, 1), torch.arange(rows) % CLASSES)


def net_of(numeric: int = NUMERIC, levels: tuple[int, ...] = LEVELS, dropout: float = 0.0) -> ANN:
    torch.manual_seed(3)
    sizes = {
        "bins": 4,
        "embedding_size": 5,
        "hidden_sizes": [11, 13],
        "bodies": BODIES,
        "members": MEMBERS,
    }
    return ANN(numeric, levels, CLASSES, dropout=dropout, **sizes)


def numbers(edges: list[float]) -> PiecewiseLinear:
    """An embedding of one number with the given edges."""
    found = PiecewiseLinear(1, len(edges) - 1, 1)
    found.edges.copy_(torch.tensor([edges]))
    return found


# --- the code of a number ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (0.0, [0.0, 0.0, 0.0]),
        (0.5, [0.5, 0.0, 0.0]),
        (1.0, [1.0, 0.0, 0.0]),
        (2.0, [1.0, 0.5, 0.0]),
        (3.0, [1.0, 1.0, 0.0]),
        (5.0, [1.0, 1.0, 0.5]),
        (7.0, [1.0, 1.0, 1.0]),
        (-2.0, [-2.0, 0.0, 0.0]),
        (9.0, [1.0, 1.0, 3.0]),
    ],
)
def test_the_code_on_paper(x, code):
    """Edges 0, 1, 3, 7: how far x has come through each bin, and beyond the edges by x itself."""
    assert numbers([0.0, 1.0, 3.0, 7.0]).encode(torch.tensor([[x]])).flatten().tolist() == code


def test_the_embedding_on_paper():
    """relu(0.5 * 3 + 1 * 5 - 1) for the first of two outputs, relu(-...) = 0 for the second."""
    found = PiecewiseLinear(1, 2, 2)
    found.edges.copy_(torch.tensor([[0.0, 1.0, 2.0]]))
    with torch.no_grad():
        found.weight.copy_(torch.tensor([[[3.0, -3.0], [5.0, -5.0]]]))
        found.bias.copy_(torch.tensor([[-1.0, 1.0]]))
    assert found(torch.tensor([[1.5]])).tolist() == [[3 + 2.5 - 1, 0.0]]


def test_a_larger_number_never_has_a_smaller_code():
    x = torch.linspace(-5, 12, 211)[:, None]
    assert (numbers([0.0, 1.0, 3.0, 7.0]).encode(x)[:, 0].diff(dim=0) >= 0).all()


def test_edges_are_quantiles():
    found = PiecewiseLinear(2, 4, 3)
    found.initialise(
        torch.stack([torch.arange(13.0), torch.arange(13.0) ** 2], 1)[torch.randperm(13)]
    )
    assert found.edges.tolist() == [[0, 3, 6, 9, 12], [0, 9, 36, 81, 144]]


def test_a_value_that_many_rows_share_is_a_step():
    found = PiecewiseLinear(1, 4, 3)
    found.initialise(torch.tensor([[0.0]] * 6 + [[4.0], [8.0], [12.0]]))
    assert found.edges.tolist() == [[0, 0, 0, 4, 12]]
    codes = found.encode(torch.tensor([[0.0], [1.0], [12.0]]))[:, 0]
    assert codes.tolist() == [[0, 0, 0, 0], [1, 1, 0.25, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("x", [[0.0] * 7 + [1.0], [0.0] * 8, [-1.0] + [0.0] * 7])
def test_a_number_beyond_a_value_that_many_rows_share_does_not_explode(x):
    """The bins there are no wider than nothing; the code beyond them still grows as the number does."""
    found = PiecewiseLinear(1, 4, 3)
    found.initialise(torch.tensor(x)[:, None])
    code = found.encode(torch.tensor([[-11.0], [13.0]]))
    assert torch.isfinite(code).all() and code.abs().max() <= 14


# --- the members ------------------------------------------------------------------------------------------------------


def test_members_are_independent():
    """What member j gets wrong moves its own adapter, head and base and its body, and none of another's."""
    net, batch = net_of(), batch_of()
    for j in range(BODIES * MEMBERS):
        net.zero_grad()
        F.cross_entropy(net(batch)[:, j], batch.target).backward()
        for own in (net.adapter, net.head, net.base):
            assert own.grad is not None
            moved = [bool(grad.any()) for grad in own.grad.flatten(0, 1)]
            assert moved == [i == j for i in range(BODIES * MEMBERS)]
        for shared in (parameter for layer in net.body for parameter in layer[0].parameters()):
            assert shared.grad is not None
            assert [bool(grad.any()) for grad in shared.grad] == [
                i == j // MEMBERS for i in range(BODIES)
            ]


def test_the_loss_is_the_mean_of_the_members_losses():
    net, batch = net_of(), batch_of()
    logits = net(batch)
    assert logits.shape == (ROWS, BODIES * MEMBERS, CLASSES)
    each = [F.cross_entropy(logits[:, j], batch.target) for j in range(BODIES * MEMBERS)]
    torch.testing.assert_close(net.loss(batch), torch.stack(each).mean())


def test_the_answer_is_the_mean_of_the_members_probabilities():
    net, batch = net_of(), batch_of()
    probabilities = net.predict(batch)["logits"].exp()
    torch.testing.assert_close(probabilities, net(batch).softmax(-1).mean(1))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(ROWS))


def test_members_differ_from_the_start():
    logits = net_of()(batch_of())
    assert (logits[:, 1:] - logits[:, :1]).abs().amax((0, 2)).min() > 1e-3


def test_one_member_is_a_plain_perceptron():
    """By hand: head(MLP(r * x)) + base."""
    torch.manual_seed(3)
    net, batch = (
        ANN(
            NUMERIC,
            LEVELS,
            CLASSES,
            bins=4,
            embedding_size=5,
            hidden_sizes=[11],
            dropout=0.0,
            bodies=1,
            members=1,
        ),
        batch_of(),
    )
    x = torch.cat(
        [
            net.numbers(batch.numeric),
            *(e(batch.categories[:, i]) for i, e in enumerate(net.categories)),
        ],
        1,
    )
    layer = net.body[0][0]
    h = F.relu(x * net.adapter[0, 0] @ layer.weight[0] + layer.bias[0, 0])
    torch.testing.assert_close(net(batch)[:, 0], h @ net.head[0, 0] + net.base[0, 0])


# --- categories and base rates ----------------------------------------------------------------------------------------


def test_an_unseen_category_adds_nothing():
    """Its embedding is zero, before training and after."""
    net, batch = net_of(), batch_of()
    batch = batch._replace(
        categories=torch.where(torch.rand(ROWS, 2) < 0.3, UNSEEN, batch.categories)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        net.loss(batch).backward()
        for embedding in net.categories:
            assert (
                not embedding.weight.grad[UNSEEN].any()
                and embedding.weight.grad[UNSEEN + 1 :].any()
            )
        optimizer.step()
    assert all(not embedding.weight[UNSEEN].any() for embedding in net.categories)


def test_the_net_begins_with_the_base_rates():
    """Without a word from the hidden layers every member answers with the shares of the training rows."""
    net, batch = net_of(), batch_of()
    target = torch.tensor([0] * 19 + [1] * 11 + [2] * 1)
    net.initialise(batch._replace(target=target))
    with torch.no_grad():
        net.head.zero_()
    probabilities = net.predict(batch)["logits"].exp()
    torch.testing.assert_close(probabilities, (torch.tensor([19.0, 11, 1]) / ROWS).expand(ROWS, -1))


def test_a_class_without_a_row_begins_as_rare_and_not_as_impossible():
    net, batch = net_of(), batch_of()
    net.initialise(batch._replace(target=torch.zeros(ROWS, dtype=torch.int64)))
    assert torch.isfinite(net.base).all() and math.isfinite(net.loss(batch).item())


@pytest.mark.parametrize(("numeric", "levels"), [(0, LEVELS), (NUMERIC, ()), (1, (2,))])
def test_numbers_alone_and_categories_alone(numeric, levels):
    whole = batch_of()
    batch = whole._replace(
        numeric=whole.numeric[:, :numeric],
        categories=whole.categories[:, : len(levels)].clamp(max=2),
    )
    net = net_of(numeric, levels)
    net.initialise(batch)
    net.loss(batch).backward()
    assert net.predict(batch)["logits"].shape == (ROWS, CLASSES)


def test_dropout_is_for_training_alone():
    net, batch = net_of(dropout=0.5), batch_of()
    assert not torch.equal(net(batch), net(batch))
    net.eval()
    assert torch.equal(net(batch), net(batch))
