"""The confs are YAML that says what was meant, in lines of at most 100 characters."""

import pytest
from conftest import load_yaml
from hypothesis import given
from hypothesis import strategies as st

from sextant.errors import UsageError
from sextant.guess import confs, layout, models

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=23
)
VALUE = st.none() | st.booleans() | st.integers() | TEXT
VALUE |= st.floats(allow_nan=False, allow_infinity=False)
PARAMS = """\
seed: 42
datasets:             # name: kind
  churn: tabular
models:
  ann: {family: ann, task: classification, dataset: churn, kind: tabular}
"""


@given(value=VALUE)
def test_a_value_is_read_as_it_was(value: object) -> None:
    assert load_yaml(layout.scalar(value)) == value
    assert load_yaml(f"a: {layout.scalar(value)}") == {"a": value}


@given(values=st.lists(VALUE, max_size=31))
def test_a_list_is_read_as_it_was_and_wraps(values: list[object]) -> None:
    assert load_yaml(layout.flow(values)) == values
    lines = layout.wrapped(2, "key", values)
    assert load_yaml("\n".join(lines)) == {"key": values}
    assert all(len(line) <= 100 for line in lines)


@given(reasons=st.dictionaries(TEXT, TEXT, max_size=5))
def test_a_list_with_reasons_is_read_without_them(reasons: dict[str, str]) -> None:
    lines = layout.with_reasons(2, "ignored", reasons)
    assert load_yaml("\n".join(lines)) == {"ignored": list(reasons)}


def test_characters_that_yaml_does_not_allow_are_escaped() -> None:
    odd = "a\x7f\ufffeb"
    assert load_yaml(layout.scalar(odd)) == odd
    text = "\n".join(
        [layout.line(0, "a", "1", f"{odd}\nb\u2028c"), *layout.with_reasons(0, "b", {"x": odd})]
    )
    assert load_yaml(text) == {"a": 1, "b": ["x"]}


def test_plain_words_are_not_quoted() -> None:
    plain = ["Age", "Monthly Charges", "a_b", "x%"]
    assert [layout.scalar(word) for word in plain] == plain
    for word in ("yes", "null", "1", "a: b", "#", "[", "", " a", "1e5", "~"):
        assert layout.scalar(word).startswith('"')


@pytest.mark.parametrize("end", ["", "\n", "  # the first\n"])
def test_the_lines_of_params_yaml_are_added_and_nothing_else_changes(end: str) -> None:
    text = PARAMS.rstrip("\n") + end
    changed = confs.with_lines(text, "loans", "tabular", "ann", "classification")
    added = [line for line in changed.splitlines() if line not in text.splitlines()]
    assert [line.split(":")[0] for line in added] == ["  loans", "  loans"]
    content = load_yaml(changed)
    assert content["datasets"] == {"churn": "tabular", "loans": "tabular"}
    assert content["models"]["loans"]["dataset"] == "loans"
    assert list(content["models"]) == ["ann", "loans"]


def test_lists_in_one_line_are_refused() -> None:
    with pytest.raises(UsageError, match="`datasets` is no block of lines; add `loans: tabular`"):
        confs.with_lines("datasets: {churn: tabular}\n", "loans", "tabular", "ann", "mapping")


def test_the_size_of_a_model_follows_the_size_of_its_data() -> None:
    assert [models.side_of_map(rows) for rows in (10, 414, 6000, 10**6)] == [4, 10, 20, 30]
    assert [models.decay(count) for count in (10_000, 100_000, 1_000_000)] == [5, 3, 0.5]
    assert models.margin("rnn", models.Size(100, level=780)) == 0.008
