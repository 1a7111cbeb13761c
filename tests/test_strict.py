"""A block of conf is its constructor's call: what the signature does not allow is refused by name."""

import math
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from sextant.errors import UsageError
from sextant.strict import Strict, advice, check, signature_model


class Map:
    """A net as families write them: sizes before the `*`, conf's keywords after it."""

    def __init__(
        self,
        features: int,
        *,
        rows: Annotated[int, Field(ge=1)],
        sigma: Annotated[float, Field(gt=0)],
        shape: Literal["gaussian", "bubble"],
        sizes: list[int],
        verbose: bool = False,
    ):
        self.features = features


WELL = {"rows": 7, "sigma": 1.5, "shape": "bubble", "sizes": [11, 13]}
BLOCK = signature_model(Map)


class Hump(Strict):
    center: float


class Slope(Strict):
    zero: float


class Term(Strict):
    factors: list[Hump | Slope]


class Draws(Strict):
    columns: dict[str, Term]
    total: float

    @model_validator(mode="after")
    def total_is_positive(self) -> "Draws":
        if self.total <= 0:
            raise ValueError("The total is not positive; expected more than 0")
        return self


def refusal(block: Any, model: Any = BLOCK) -> str:
    with pytest.raises(UsageError) as met:
        check(model, block, "conf/x.yaml net")
    return str(met.value)


def test_a_call_that_fits_passes_unchanged():
    assert check(BLOCK, WELL, "").model_dump() == {**WELL, "verbose": False}


def test_what_comes_from_the_data_is_no_matter_of_conf():
    assert "features" not in BLOCK.model_fields
    assert "unknown key `features`" in refusal({**WELL, "features": 3})


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("rows", 0, "`rows` is 0; input should be greater than or equal to 1"),
        ("rows", 7.0, "`rows` is 7.0; input should be a valid integer"),
        ("rows", "7", "`rows` is '7'; input should be a valid integer"),
        ("rows", True, "`rows` is True; input should be a valid integer"),
        ("rows", None, "`rows` is None; input should be a valid integer"),
        ("sigma", 0.0, "`sigma` is 0.0; input should be greater than 0"),
        ("sigma", "wide", "`sigma` is 'wide'; input should be a valid number"),
        ("sigma", math.nan, "`sigma` is nan; input should be"),
        ("sigma", math.inf, "`sigma` is inf; input should be a finite number"),
        ("shape", "strawberry", "`shape` is 'strawberry'; input should be 'gaussian' or 'bubble'"),
        ("sizes", [11, "13"], "`sizes.1` is '13'; input should be a valid integer"),
        ("verbose", 1, "`verbose` is 1; input should be a valid boolean"),
    ],
)
def test_a_value_that_does_not_fit(key, value, reason):
    assert refusal({**WELL, key: value}).startswith(f"conf/x.yaml net: {reason}")


@pytest.mark.parametrize("key", WELL)
def test_a_missing_key(key):
    block = {name: value for name, value in WELL.items() if name != key}
    assert refusal(block) == f"conf/x.yaml net: key `{key}` is missing; add it"


def test_a_whole_number_is_a_number():
    assert check(BLOCK, {**WELL, "sigma": 2}, "").model_dump()["sigma"] == 2.0


@given(st.text(min_size=1).filter(lambda key: key not in BLOCK.model_fields))
def test_no_other_key_passes(key):
    assert "unknown key" in refusal({**WELL, key: 1})


def test_a_misspelt_key_names_the_near_miss_and_a_strange_one_what_there_is():
    assert refusal({**WELL, "sigmas": 1}).endswith("unknown key `sigmas`; did you mean `sigma`?")
    assert refusal({**WELL, "puppies": 1}).endswith(
        "known here: rows, sigma, shape, sizes, verbose"
    )
    assert advice("puppies", []) == "known here: none"


def test_the_near_miss_is_found_through_mappings_lists_and_unions():
    block = {"columns": {"Age": {"factors": [{"center": 1.0}, {"centre": 2.0}]}}, "total": 1.0}
    assert "unknown key `columns.Age.factors.1.Hump.centre`; did you mean `center`?" in refusal(
        block, Draws
    )
    block = {"columns": {"Age": {"factor": []}}, "total": 1.0}
    assert "unknown key `columns.Age.factor`; did you mean `factors`?" in refusal(block, Draws)


def test_a_rule_of_the_whole_block_speaks_for_itself():
    assert refusal({"columns": {}, "total": 0.0}, Draws) == (
        "conf/x.yaml net: the total is not positive; expected more than 0"
    )


@pytest.mark.parametrize("block", [None, [], ["rows"], "rows", 7])
def test_what_is_no_block_at_all(block):
    assert (
        refusal(block)
        == f"conf/x.yaml net is {block!r}; expected keys with values: {', '.join(BLOCK.model_fields)}"
    )


def test_many_faults_are_three_at_most():
    assert (
        refusal(dict.fromkeys("abcdefg", 1)).count(";") == 5
    )  # three faults, each with its advice, two joints


def test_nothing_is_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        Hump(center=1.0).center = 2.0
