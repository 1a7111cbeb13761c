"""Plugin lookup: by name, with the defaults of optional members."""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Protocol

import pytest
import torch
from torch import Tensor

from sextant import plugins
from sextant.errors import UsageError


def test_every_plugin_is_listed_and_no_shared_module() -> None:
    assert {"images", "ratings", "series", "tabular"} <= set(plugins.names("kinds"))
    assert {"ann", "som"} <= set(plugins.names("families"))
    assert {"classification", "stars"} <= set(plugins.names("tasks"))
    assert "blocks" not in plugins.names("families")
    assert "recommendation" not in plugins.names("tasks")


@pytest.mark.parametrize("group", ["kinds", "families", "tasks"])
def test_an_unknown_name_is_refused_with_the_names(group: str) -> None:
    message = f"unknown {plugins.SINGULAR[group]} `strawberry`; src/sextant/{group}/ has: "
    with pytest.raises(UsageError, match=message) as raised:
        plugins.load(group, "strawberry")
    for name in plugins.names(group):
        assert name in str(raised.value)


@pytest.mark.parametrize("group", ["kinds", "families", "tasks"])
def test_every_plugin_loads(group: str) -> None:
    lookups: dict[str, Any] = {
        "kinds": lambda name: plugins.kind(name).encoder.Encoder,
        "families": plugins.family,
        "tasks": lambda name: plugins.task(name).primary,
    }
    for name in plugins.names(group):
        assert lookups[group](name)


def test_a_function_is_called_with_the_keywords_that_it_names() -> None:
    def fit(train: int, columns: int, net: int) -> tuple[int, int, int]:
        return train, columns, net

    assert plugins.call(fit, 1, 2, net=3, encoder=4) == (1, 2, 3)
    assert plugins.call(lambda train, columns: train + columns, 1, 2, net=3) == 3
    assert plugins.takes(fit, "net") and not plugins.takes(fit, "gate")


def test_an_optional_member_has_a_default() -> None:
    class WithOptions:
        OPTIONS: ClassVar = {"top_k": 5}

    assert plugins.optional(WithOptions, "OPTIONS", {}) == {"top_k": 5}
    assert plugins.optional(object, "OPTIONS", {}) == {}


# --- families -----------------------------------------------------------------------------------


class Constant:
    OUTPUTS: ClassVar = ("logits",)


class ByArguments:
    @staticmethod
    def outputs(net: dict[str, object]) -> tuple[str, ...]:
        return ("logits", "hidden") if net["hidden"] else ("logits",)


def test_outputs_may_depend_on_the_arguments() -> None:
    lookup: Any = plugins
    assert lookup.outputs(Constant, {}) == ("logits",)
    assert lookup.outputs(ByArguments, {"hidden": True}) == ("logits", "hidden")
    assert lookup.outputs(ByArguments, {"hidden": False}) == ("logits",)


def test_missing_members_of_a_family_are_named() -> None:
    class Drawn(Protocol):
        codebook: Tensor

        def neighbours(self) -> Tensor: ...

    class Annotated:
        codebook: Tensor

    class Whole(Annotated):
        def neighbours(self) -> Tensor:
            return self.codebook

    assert plugins.lacking(Whole, plugins.members(Drawn)) == []
    assert plugins.lacking(Annotated, plugins.members(Drawn)) == ["neighbours"]
    assert plugins.lacking(object, plugins.members(Drawn)) == ["codebook", "neighbours"]


# --- batches ------------------------------------------------------------------------------------


class Dense(NamedTuple):
    x: Tensor
    target: Tensor


class Ragged(NamedTuple):
    """A batch of its own form: `starts` are the offsets of the rows in `values`."""

    values: Tensor
    starts: Tensor

    def take(self, index: Tensor | slice) -> "Ragged":
        return Ragged(self.values, self.starts[index])

    def steps(self) -> Iterator["Ragged"]:
        for starts in self.starts:
            yield Ragged(self.values, starts)


def test_rows_of_a_batch_are_taken_from_each_tensor() -> None:
    batch = Dense(torch.arange(6).reshape(3, 2), torch.arange(3))
    taken = plugins.take(batch, torch.tensor([2, 0]))
    assert taken.x.tolist() == [[4, 5], [0, 1]] and taken.target.tolist() == [2, 0]


def test_steps_are_batches_of_one_type() -> None:
    batch = Dense(torch.arange(12).reshape(2, 3, 2), torch.arange(6).reshape(2, 3))
    first, second = plugins.steps(batch)
    assert isinstance(first, Dense) and first.x.shape == (3, 2)
    assert second.target.tolist() == [3, 4, 5]


def test_a_batch_may_define_how_it_is_cut() -> None:
    batch = Ragged(torch.arange(9), torch.tensor([[0, 2], [5, 7]]))
    assert plugins.take(batch, slice(1, 2)).starts.tolist() == [[5, 7]]
    assert [step.starts.tolist() for step in plugins.steps(batch)] == [[0, 2], [5, 7]]


# --- tasks --------------------------------------------------------------------------------------


def test_the_first_metric_is_the_primary_one() -> None:
    metrics = plugins.task("classification").metrics.METRICS
    name, direction = plugins.task("classification").primary
    assert name == next(iter(metrics)) and direction in ("up", "down")


def test_monitors_have_a_direction() -> None:
    for name in plugins.names("tasks"):
        task = plugins.task(name)
        assert task.monitors
        for monitor in task.monitors:
            assert task.metrics.METRICS[monitor] in ("up", "down")


def fit_stub(
    train: object, columns: object, encoder: object = None, *, neighbours: int = 5
) -> tuple[object, object, object, int]:
    return train, columns, encoder, neighbours


@pytest.fixture
def further(monkeypatch: pytest.MonkeyPatch) -> plugins.Task:
    """A task with a further baseline `knn`, which fits tables alone."""
    module = plugins.load("tasks", "classification", "baselines")
    monkeypatch.setattr(module, "FURTHER", {"knn": fit_stub}, raising=False)
    monkeypatch.setattr(module, "KINDS", {"knn": ("tabular",)}, raising=False)
    return plugins.task("classification")


def test_further_baselines_come_after_those_of_every_model(further: plugins.Task) -> None:
    always = list(further.baselines("tabular"))
    assert "knn" not in always
    assert list(further.baselines("tabular", ["knn"])) == [*always, "knn"]


def test_a_further_baseline_takes_settings(further: plugins.Task) -> None:
    fit = further.baselines("tabular", [{"knn": {"neighbours": 3}}])["knn"]
    assert fit(1, 2) == (1, 2, None, 3)


@pytest.mark.parametrize(
    ("kind", "entry", "message"),
    [
        ("tabular", "forest", "no further baseline `forest`; it has: knn"),
        ("images", "knn", "baseline `knn` does not fit kind images; it fits tabular"),
        ("tabular", {"knn": {"depth": 3}}, "baseline `knn` has no setting `depth`"),
        ("tabular", {"knn": {"encoder": 3}}, "baseline `knn` has no setting `encoder`"),
    ],
)
def test_a_wrong_further_baseline_is_refused(
    further: plugins.Task, kind: str, entry: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        further.baselines(kind, [entry])
