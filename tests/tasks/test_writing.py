"""Writing: metrics by hand, n-grams that sum to one, a fact that no n-gram sees, and prompts."""

import itertools
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sextant import drawing, evaluate, plugins, saved_model
from sextant.errors import UsageError
from sextant.families.char_rnn import CharRNN
from sextant.kinds.text import rows as text
from sextant.kinds.text.columns import Columns
from sextant.kinds.text.encoder import Encoder
from sextant.saved_model import SavedModel
from sextant.tasks.writing import baselines
from sextant.tasks.writing import metrics as writing
from sextant.tasks.writing.figures import by_place

COLUMNS = Columns(chunk=120)
NET: dict[str, Any] = {
    "cell": "lstm",
    "hidden_size": 48,
    "layers": 1,
    "embedding": 8,
    "dropout": 0.0,
    "tied": False,
    "window": 30,
}
# Between the fact and where it is recalled: as many characters as the longest n-gram has, so that
# its context, which is one shorter, ends before the fact. They differ: n-grams know the place.
GAP = "(+-*=:;)"


def recalled(scenes: int, seed: int) -> str:
    """Lines `x(+-*=:;)x`, x drawn from four: nothing but the first x tells the second.

    In three of four a part of the gap is left out, since a net learns from near to far.
    """
    rng = np.random.default_rng(seed)
    written = []
    for number, name in enumerate(rng.choice(list("abcd"), scenes)):
        gap = GAP if number % 4 == 0 else GAP[rng.integers(1, len(GAP)) :]
        written.append(f"{name}{gap}{name}\n")
    return "".join(written)


def rows_of(content: str) -> pd.DataFrame:
    return text.repair({"a.txt": content}, COLUMNS)


def fitted(train: pd.DataFrame, steps: int) -> SavedModel:
    """A net after some steps on the rows, as the learner takes them."""
    encoder = Encoder.fit(train, COLUMNS)
    torch.manual_seed(0)
    net = saved_model.build("char_rnn", encoder.sizes, NET)
    assert isinstance(net, CharRNN)
    streams = net.prepare(encoder.encode(train))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.03)
    generator = torch.Generator().manual_seed(1)
    done = 0
    while done < steps:
        index = torch.randint(len(train), (2, 6), generator=generator)
        for window in plugins.steps(plugins.take(streams, index)):
            optimizer.zero_grad()
            net.loss(window).backward()
            optimizer.step()
            done += 1
    card = {
        **{"task": "writing", "family": "char_rnn", "kind": "text", "net": NET},
        **{"columns": COLUMNS.model_dump(), "calibration": {}, "model": "scenes", "epoch": 1},
        **{"dataset": "scenes", "source": "local", "seed": 1, "budget": "smoke"},
    }
    return SavedModel(card, net.eval(), encoder)


@pytest.fixture(scope="module")
def parts() -> dict[str, pd.DataFrame]:
    parts = {"train": rows_of(recalled(600, 1)), "val": rows_of(recalled(40, 2))}
    return {**parts, "test": rows_of(recalled(60, 3))}


@pytest.fixture(scope="module")
def model(parts: dict[str, pd.DataFrame]) -> SavedModel:
    return fitted(parts["train"], 320)


# --- metrics ------------------------------------------------------------------------------------


def test_metrics_by_hand_and_the_sample_draws_rows(model: SavedModel) -> None:
    rows = pd.DataFrame({"text": ["ab", "c"], "file": "a", "start": [0, 2]})
    nats = np.array([[1.0, 2.0], [0.5, 0.0]])
    answers = writing.as_answers(rows, ["", ""], nats, np.array([[True, False], [True, False]]))
    scores = writing.score(answers, rows, model.encoder)
    assert list(scores) == list(writing.METRICS)
    assert scores["nats"] == pytest.approx(3.5 / 3)
    assert scores["bits"] == pytest.approx(3.5 / 3 / math.log(2))
    assert scores["accuracy"] == pytest.approx(2 / 3)
    for metric in writing.METRICS:
        sample = writing.contributions(answers, rows, model.encoder, metric=metric)
        assert sample.observed == pytest.approx(scores[metric])
    sample = writing.contributions(answers, rows, model.encoder)
    assert sample.score(np.array([1.0, 3.0])) == pytest.approx((3.0 + 1.5) / 5)
    assert list(writing.public(answers)) == ["prompt", "text"]


def test_a_look_at_val_counts_no_padding(model: SavedModel) -> None:
    batch = model.encoder.encode(rows_of(recalled(12, 5)))
    outputs = saved_model.outputs(model.net, batch)
    lengths = (batch.text[:, 1:] >= 0).sum(1)
    kept = [row[:length] for row, length in zip(outputs["nats"], lengths, strict=True)]
    watched = writing.watch(outputs, batch)
    assert watched["nats"] == pytest.approx(float(torch.cat(kept).mean()), rel=1e-5)
    assert list(watched) == list(writing.METRICS)


# --- n-grams ------------------------------------------------------------------------------------


def brute_force(content: str, context: str, code: str, order: int, codes: str) -> float:
    """Interpolated Kneser-Ney by its definition, with counts from a loop over the text."""

    def occurrences(size: int) -> list[str]:
        return [content[i : i + size] for i in range(len(content) - size + 1)]

    def count(gram: str, size: int) -> int:
        if size == order:
            return occurrences(size).count(gram)
        before = {longer[0] for longer in occurrences(size + 1) if longer[1:] == gram}
        return max(len(before), int(gram in occurrences(size)))

    probability = 1 / len(codes)
    for size in range(1, order + 1):
        history = context[len(context) - size + 1 :]
        grams = sorted(set(occurrences(size)))
        all_counts = np.array([count(gram, size) for gram in grams])
        discount = [0.0, *baselines.discounts(all_counts)]
        counts = {c: count(history + c, size) for c in codes}
        total = sum(counts.values())
        if not total:
            continue
        removed = sum(discount[min(number, 3)] for number in counts.values())
        own = counts[code] - discount[min(counts[code], 3)]
        probability = own / total + removed / total * probability
    return probability


def test_n_grams_are_distributions_and_those_of_the_definition() -> None:
    content = "abracadabra abba cab\nabracad\n"
    train = text.repair({"a.txt": content}, Columns(chunk=16))
    encoder = Encoder.fit(train, COLUMNS)
    codes = encoder.sizes["characters"]
    corpus = baselines.corpus_of(train, encoder)
    assert corpus.places.tolist() == list(range(len(content))), "rows are read as one text"
    levels = baselines.levels_of(corpus, codes, 4)
    asked = baselines.corpus_of(text.repair({"b.txt": "cabbra~ ab"}, COLUMNS), encoder)
    contexts = baselines.contexts_of(asked, levels, codes)
    by_order = baselines.distributions(contexts, levels, codes)
    assert len(by_order) == 4
    for probs in by_order:
        np.testing.assert_allclose(probs.sum(1), 1)
        assert (probs > 0).all()
    characters = ["~", *encoder.characters]  # the unknown one has the first code
    for order, place in itertools.product((2, 3), (1, 4, 9)):
        known = baselines.distributions(
            [ids[place : place + 1] for ids in contexts[:order]], levels[:order], codes
        )[-1][0]
        for code in (1, 3, 5):
            context = "cabbra~ ab"[max(0, place - order + 1) : place]
            of_code = characters[code]
            expected = brute_force(content, context, of_code, order, "".join(characters))
            assert known[code] == pytest.approx(expected), (order, place, of_code)


def test_a_text_that_is_shorter_than_the_longest_n_gram_has_fewer_orders() -> None:
    train = rows_of("abc")
    encoder = Encoder.fit(train, COLUMNS)
    answer = baselines.kneser_ney(train, COLUMNS, encoder, train)(rows_of("cab?"))
    assert np.isfinite(answer["nats"].iloc[0]).all() and len(answer["nats"].iloc[0]) == 4


# --- what an n-gram cannot see ------------------------------------------------------------------


def test_a_fact_beyond_the_window_of_any_n_gram_is_used(
    model: SavedModel, parts: dict[str, pd.DataFrame]
) -> None:
    assert len(GAP) >= baselines.ORDERS
    val = model.score(model.answer(parts["val"]), parts["val"])
    named = plugins.task("writing").baselines("text")
    whole = SavedModel({**model.card, "val": val}, model.net, model.encoder)
    metrics, answers = evaluate.evaluate(whole, parts, named)
    assert metrics["trivial"] == "unigram" and metrics["best"] == "kneser_ney"
    assert metrics["better"][1] > 0
    content = "".join(parts["test"]["text"])
    is_recall = [match.end() for match in re.finditer(re.escape(GAP), content)]
    assert len(is_recall) == 15
    at_recall = {}
    for name, table in answers.items():
        assert list(table) == list(answers["model"])
        at_recall[name] = float(np.concatenate(list(table["nats"]))[is_recall].mean())
    # Four names are equally likely for whoever has not seen the first one.
    assert at_recall["kneser_ney"] > math.log(4) - 0.1
    assert at_recall["model"] < 0.3 * at_recall["kneser_ney"]
    drawn = plugins.task("writing").figures.figures(
        answers["model"],
        parts["test"],
        COLUMNS,
        {name: answers[name] for name in named},
        model=whole,
    )
    assert list(drawn) == ["context", "samples", "surprising", "characters"]
    samples = drawn["samples"]
    assert isinstance(samples, drawing.Table) and len(samples.rows) == 6
    surprising = drawn["surprising"]
    assert isinstance(surprising, drawing.Table)
    for passage in surprising.rows["passage"]:
        assert passage in content


def test_places_double_and_padding_counts_nowhere() -> None:
    nats = np.array([[8.0, 1, 1, 5, 5], [8, 3, 0, 0, 0]])
    places = by_place(nats, np.array([5, 2]))
    assert places.first.tolist() == [1, 2, 4]
    np.testing.assert_allclose(places.nats, [8, 5 / 3, 5])


# --- prompts ------------------------------------------------------------------------------------


def test_prompts_are_continued_and_chunks_are_only_scored(
    model: SavedModel, parts: dict[str, pd.DataFrame]
) -> None:
    prompts = pd.DataFrame({"prompt": [f"c{GAP}", f"a{GAP}"]})
    answers = model.predict(prompts, {"length": 11, "temperature": 0})
    assert list(answers) == ["prompt", "text", "warnings"]
    assert answers["prompt"].tolist() == prompts["prompt"].tolist()
    assert [continued[0] for continued in answers["text"]] == ["c", "a"]
    assert answers["text"].str.len().tolist() == [11, 11]
    details = model.predict(model.encoder.inputs(parts["test"]), {"details": True})
    assert (details["text"] == "").all()
    assert writing.score(details, parts["test"], model.encoder) == model.score(
        model.answer(parts["test"]), parts["test"]
    )


def test_the_same_seed_writes_the_same_and_a_prompt_does_not_depend_on_others(
    model: SavedModel,
) -> None:
    prompts = pd.DataFrame({"prompt": ["a", "b(+", "a"]})
    options = {"length": 30, "temperature": 1.2, "top_k": 5, "seed": 3}
    first = model.predict(prompts, options)
    pd.testing.assert_frame_equal(model.predict(prompts, options), first)
    assert model.predict(prompts.head(1), options)["text"][0] == first["text"][0]
    other = model.predict(prompts, {**options, "seed": 4})
    assert (other["text"] != first["text"]).any()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("length", 0, "length is 0; expected a whole number from 1 to 100,000"),
        ("length", 2.5, "length is 2.5; expected a whole number"),
        ("top_k", -1, "top_k is -1; expected a whole number from 0"),
        ("seed", "x", "seed is x; expected a whole number from 0"),
        ("temperature", -0.1, "temperature is -0.1; expected a number from 0 to 10"),
        ("temperature", math.nan, "temperature is nan; expected a number from 0 to 10"),
        ("temperature", True, "temperature is True; expected a number from 0 to 10"),
    ],
)
def test_options_out_of_range_are_refused(
    model: SavedModel, option: str, value: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        model.predict(pd.DataFrame({"prompt": ["a"]}), {option: value})
