"""A map and a net in one: the map as families/som.py trains it, no leak between the halves, both
targets, and the signal of the twin.
"""

import copy
from typing import Any

import batches
import pytest
import torch
import twins
from conftest import ROOT, load_yaml
from torch.nn import functional as F

from sextant import config, plugins, prepare, saved_model
from sextant.errors import UsageError
from sextant.families.ann import ANN
from sextant.families.som import SOM
from sextant.families.som_ann import OUTLIER_SHARE, SOMANN, permuted
from sextant.kinds.tabular import rows as tabular_rows
from sextant.kinds.tabular.encoder import Batch

# What a model gains at smoke on the twin over the majority, or over the score of a map.
MARGINS = {"hybrid": 0.3, "suspects": 0.02}
ROWS, NUMERIC, LEVELS, CLASSES = 41, 3, (2, 4), 3
MAP: dict[str, Any] = {"rows": 4, "cols": 5, "sigma": 2.0, "sigma_end": 0.5}
ENSEMBLE: dict[str, Any] = {
    "bins": 4,
    "embedding_size": 5,
    "hidden_sizes": [11, 13],
    "dropout": 0.0,
    "bodies": 2,
    "members": 3,
}
NET: dict[str, Any] = {
    "target": "label",
    **MAP,
    "map_epochs": 20,
    "reads": ["place", "distances", "surprise"],
    "injected": 1.0,
    **ENSEMBLE,
}


def make_batch(rows: int = ROWS, seed: int = 1) -> Batch:
    return batches.of_table(rows, NUMERIC, LEVELS, CLASSES, seed=seed, unseen=True)


def make_net(train: Batch | None = None, **net: object) -> SOMANN:
    torch.manual_seed(3)
    made = SOMANN(NUMERIC, LEVELS, CLASSES, **NET | net)
    made.initialise(make_batch() if train is None else train)
    return made.eval()


def steps(net: SOMANN, batch: Batch, count: int = 5) -> None:
    torch.manual_seed(5)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    net.train()
    for _ in range(count):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    net.eval()


# --- the map ------------------------------------------------------------------------------------


def test_the_map_is_the_one_that_the_family_som_trains():
    batch, net = make_batch(), make_net()
    som = SOM(
        NUMERIC,
        LEVELS,
        **MAP,
        grid="rectangular",
        toroidal=False,
        neighborhood="gaussian",
        init="pca",
        update="batch",
    )
    som.initialise(batch)
    for epoch in range(20):
        som.progress = epoch / 20
        som.gradients(batch)
        with torch.no_grad():
            som.codebook -= som.codebook.grad
    outputs, expected = net.predict(make_batch(seed=2)), som.eval().predict(make_batch(seed=2))
    torch.testing.assert_close(net.map.codebook, som.codebook.detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(outputs["unit"], expected["unit"])
    torch.testing.assert_close(outputs["surprise"], expected["surprise"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("target", ["label", "flag"])
def test_a_permuted_label_leaves_the_map_as_it_was(target):
    batch = make_batch()
    other = batch._replace(target=batch.target[torch.randperm(ROWS)])
    assert not torch.equal(batch.target, other.target)
    net, of_other = make_net(batch, target=target), make_net(other, target=target)
    steps(net, batch)
    steps(of_other, other)
    for name, tensor in net.map.state_dict().items():
        assert torch.equal(tensor, of_other.map.state_dict()[name]), name
    same_answers = torch.equal(
        net.predict(batch)[_answer(target)], of_other.predict(batch)[_answer(target)]
    )
    assert same_answers == (target == "flag")  # without a label the net does not read it either


def _answer(target: str) -> str:
    return {"label": "logits", "flag": "outlier"}[target]


def test_training_the_net_leaves_the_map_as_it_was():
    batch, net = make_batch(), make_net()
    assert not list(net.map.parameters())
    before = copy.deepcopy(net.map.state_dict())
    steps(net, batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.map.state_dict().items())


def test_the_facts_of_the_map_are_standardised_by_the_training_rows():
    batch, net = make_batch(), make_net()
    facts = net.map.facts(net.map(batch), ["place", "surprise"])
    assert facts.shape == (ROWS, 3)
    torch.testing.assert_close(facts.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(facts.std(0, correction=0), torch.ones(3))
    assert net.map.facts(net.map(batch), ["distances"]).shape == (ROWS, 20)


# --- the net ------------------------------------------------------------------------------------


def test_a_net_that_reads_nothing_of_the_map_is_an_ann():
    batch, net = make_batch(), make_net(reads=[])
    ann = ANN(NUMERIC, LEVELS, CLASSES, **ENSEMBLE)
    ann.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("map.")})
    ann.eval()
    assert torch.equal(net.loss(batch), ann.loss(batch))
    assert torch.equal(net.predict(batch)["logits"], ann.predict(batch)["logits"])


@pytest.mark.parametrize("fact", ["place", "distances", "surprise"])
def test_the_answer_depends_on_each_fact_that_is_read(fact):
    batch, net = make_batch(), make_net(reads=[fact])
    before = net.predict(batch)["logits"]
    net.map.center += 1.0
    assert not torch.allclose(net.predict(batch)["logits"], before)


def test_the_flag_alone_has_the_loss_of_the_most_surprising_rows():
    batch, net = make_batch(), make_net(target="flag", injected=0.0)
    flagged = net.map(batch).surprise > net.map.threshold
    assert flagged.sum() == 2  # of 41
    with torch.no_grad():
        logits = net._member_outputs(batch, net.map(batch))
        mean = torch.stack(
            [F.binary_cross_entropy_with_logits(logit[0], flagged.float()) for logit in logits]
        ).mean()
        torch.testing.assert_close(net.loss(batch), mean)


def test_permuted_rows_keep_each_column_and_lose_the_rows():
    batch = make_batch(211)
    torch.manual_seed(0)
    synthetic = permuted(batch)
    for columns, shuffled in zip(batch[:2], synthetic[:2], strict=True):
        assert torch.equal(columns.sort(0).values, shuffled.sort(0).values)
    assert (synthetic.numeric == batch.numeric).all(1).sum() < 5
    assert torch.equal(synthetic.target, batch.target)


@pytest.mark.parametrize("injected", [0.0, 1.0])
def test_before_training_every_row_is_an_outlier_with_the_share_of_outliers(injected):
    """With the bias alone, whatever the share of synthetic rows in training."""
    net = make_net(target="flag", injected=injected)
    torch.nn.init.zeros_(net.head)
    probabilities = net.predict(make_batch(seed=2))["outlier"]
    expected = torch.full((ROWS,), OUTLIER_SHARE, dtype=torch.float64)
    torch.testing.assert_close(probabilities, expected, atol=1e-6, rtol=0)


def test_without_a_label_the_net_finds_what_breaks_a_rule_between_columns():
    """Two columns are equal in each row; a row where they differ is an outlier, if no cell is."""
    generator = torch.Generator().manual_seed(0)
    column = torch.randn(300, 1, generator=generator)
    empty = torch.empty(300, 0, dtype=torch.int64)
    batch = Batch(torch.cat([column, column], 1), empty, torch.full((300,), -1))
    torch.manual_seed(0)
    net = SOMANN(2, [], **NET | {"target": "flag"})
    net.initialise(batch)
    steps(net, batch, 60)
    broken = batch._replace(numeric=torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), categories=empty[:2])
    usual = batch._replace(numeric=torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), categories=empty[:2])
    assert net.predict(broken)["outlier"].min() > 3 * net.predict(usual)["outlier"].max()


# --- arguments and data -------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["label", "flag"])
def test_the_outputs_follow_from_the_target(target):
    net = make_net(target=target)
    declared = plugins.outputs(SOMANN, NET | {"target": target})
    assert set(net.predict(make_batch())) == set(declared)
    assert declared[0] == _answer(target)


def test_without_a_label_there_is_a_flag_to_predict_and_no_class():
    sizes = {"numeric": NUMERIC, "cardinalities": list(LEVELS)}
    assert saved_model.build("som_ann", sizes, NET | {"target": "flag"})
    with pytest.raises(UsageError, match="these data have none; set `target: flag`"):
        saved_model.build("som_ann", sizes, NET)
    with pytest.raises(UsageError, match="needs the size `classes`, which these data do not have"):
        saved_model.build("ann", sizes, ENSEMBLE)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("{rows: 1, cols: 1}", "two units or more"),
        ("{sigma: 1.0, sigma_end: 2.0}", "`sigma_end` 2.0 is above `sigma` 1.0; swap the two"),
        ("{reads: [place, surprise, place]}", "names a fact twice: place, surprise, place"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(net, message):
    with pytest.raises(UsageError, match=message):
        SOMANN.check(NET | load_yaml(net))


def test_columns_with_one_value_and_categories_that_training_did_not_have():
    batch = make_batch()
    constant = batch._replace(
        numeric=torch.zeros_like(batch.numeric), categories=torch.zeros_like(batch.categories)
    )
    net = make_net(constant)
    for rows in (batch, constant):
        assert torch.isfinite(net.loss(rows)) and torch.isfinite(net.predict(rows)["logits"]).all()


# --- the twin -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's
@pytest.mark.parametrize(
    ("name", "metric", "rival"),
    [("hybrid", "auroc", "majority"), ("suspects", "outlier_auroc", "som")],
)
def test_on_the_twin_the_net_finds_the_signal_at_smoke(
    name, metric, rival, tmp_path, tmp_path_factory, monkeypatch
):
    from sextant import train

    monkeypatch.chdir(ROOT)
    data = twins.conf_of("credit_applications")
    raw = twins.raw("credit_applications", tmp_path_factory)
    parts = prepare.prepare(tabular_rows.read(raw, data.columns), data)
    profile = prepare.profile(parts, data, {"source": "embedded", "digest": ""})
    train.quieten()
    conf = config.model(name, ["budget=smoke"], shelf=True)
    model, _ = train.learn(conf, parts, profile, tmp_path, lambda row: None)
    inputs = model.inputs(parts["test"])
    score = model.score(model.answer(inputs), parts["test"])[metric]
    baseline = model.fit_baseline(model.task.baselines("tabular")[rival], parts)
    assert score > model.score(baseline(inputs), parts["test"])[metric] + MARGINS[name]
