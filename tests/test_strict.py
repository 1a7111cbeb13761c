"""A block of conf is checked against a constructor's signature; what does not fit is named."""

import math
from typing import Annotated, Literal

import cases
import pytest
from pydantic import BaseModel, Field, model_validator

from sextant.errors import UsageError
from sextant.strict import Strict, advice, check, signature_model


class Map:
    """A net as a family has it: sizes of the data before the `*`, keys of conf after it."""

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


VALID = {"rows": 7, "sigma": 1.5, "shape": "bubble", "sizes": [11, 13]}
BLOCK = signature_model(Map)


class Peak(Strict):
    center: float


class Slope(Strict):
    zero: float


class Term(Strict):
    factors: list[Peak | Slope]


class Mixture(Strict):
    columns: dict[str, Term]
    total: float

    @model_validator(mode="after")
    def total_is_positive(self) -> "Mixture":
        if self.total <= 0:
            raise ValueError("The total is not positive; expected more than 0")
        return self


def refusal(block: object, model: type[BaseModel] = BLOCK) -> str:
    with pytest.raises(UsageError) as raised:
        check(model, block, "conf/x.yaml net")
    return str(raised.value)


def test_a_valid_block_passes_unchanged():
    assert check(BLOCK, VALID, "").model_dump() == {**VALID, "verbose": False}


def test_an_argument_that_depends_on_the_data_is_no_key_of_conf():
    assert "features" not in BLOCK.model_fields
    assert "unknown key `features`" in refusal({**VALID, "features": 3})


@cases.each(
    ("key", "value", "reason"),
    [
        ("rows", 0, "`rows` is 0; input should be greater than or equal to 1"),
        ("rows", 7.0, "`rows` is 7.0; input should be a valid integer"),
        ("rows", "7", "`rows` is '7'; input should be a valid integer"),
        ("rows", True, "`rows` is True; input should be a valid integer"),
        ("rows", None, "`rows` is None; input should be a valid integer"),
        ("sigma", 0.0, "`sigma` is 0.0; input should be greater than 0"),
        ("sigma", "wide", "`sigma` is 'wide'; input should be a valid number"),
        ("sigma", "1e-5", "`sigma` is '1e-5'; YAML takes this for text; write it with a point"),
        ("rows", "1e3", "`rows` is '1e3'; YAML takes this for text"),
        ("sigma", math.nan, "`sigma` is nan; input should be"),
        ("sigma", math.inf, "`sigma` is inf; input should be a finite number"),
        ("shape", "strawberry", "`shape` is 'strawberry'; input should be 'gaussian' or 'bubble'"),
        ("sizes", [11, "13"], "`sizes.1` is '13'; input should be a valid integer"),
        ("verbose", 1, "`verbose` is 1; input should be a valid boolean"),
    ],
)
def test_a_value_that_does_not_fit(key, value, reason):
    assert refusal({**VALID, key: value}).startswith(f"conf/x.yaml net: {reason}")


@cases.each("key", VALID)
def test_a_missing_key(key):
    block = {name: value for name, value in VALID.items() if name != key}
    assert refusal(block) == f"conf/x.yaml net: key `{key}` is missing; add it"


def test_an_integer_is_accepted_for_a_float():
    assert check(BLOCK, {**VALID, "sigma": 2}, "").model_dump()["sigma"] == 2.0


def test_an_unknown_key_is_refused():
    for key in ("", " ", "rows ", "Rows", "rowss", "row", "0", "é", "a.b", "a`b", "\n", "x" * 300):
        assert "unknown key" in refusal({**VALID, key: 1}), key


def test_a_misspelt_key_gets_a_similar_one_and_a_strange_one_the_list():
    assert refusal({**VALID, "sigmas": 1}).endswith("unknown key `sigmas`; did you mean `sigma`?")
    message = refusal({**VALID, "puppies": 1})
    assert message.endswith("expected one of: rows, sigma, shape, sizes, verbose")
    assert advice("puppies", []) == "none is allowed here"


def test_a_similar_key_is_suggested_inside_mappings_lists_and_unions():
    block = {"columns": {"Age": {"factors": [{"center": 1.0}, {"centre": 2.0}]}}, "total": 1.0}
    message = refusal(block, Mixture)
    assert "unknown key `columns.Age.factors.1.Peak.centre`; did you mean `center`?" in message
    block = {"columns": {"Age": {"factor": []}}, "total": 1.0}
    message = refusal(block, Mixture)
    assert "unknown key `columns.Age.factor`; did you mean `factors`?" in message


def test_a_rule_of_the_whole_block_names_no_key():
    assert refusal({"columns": {}, "total": 0.0}, Mixture) == (
        "conf/x.yaml net: the total is not positive; expected more than 0"
    )


@cases.each("block", [None, [], ["rows"], "rows", 7])
def test_a_value_that_is_no_mapping_is_refused(block):
    keys = ", ".join(BLOCK.model_fields)
    assert refusal(block) == f"conf/x.yaml net is {block!r}; expected keys with values: {keys}"


def test_a_message_lists_three_faults_at_most():
    # One semicolon before the advice of each of the three, and two between them.
    assert refusal(dict.fromkeys("abcdefg", 1)).count(";") == 5


def test_a_checked_block_is_immutable():
    with pytest.raises(ValueError, match="frozen"):
        Peak(center=1.0).center = 2.0


@cases.each(
    ("block", "message"),
    [
        (
            {"columns": {"a": 7}, "total": 1.0},
            "`columns.a` is 7; expected keys with values: factors",
        ),
        ({"columns": [], "total": 1.0}, "`columns` is []; expected keys with values"),
        ({"columns": {1: {"factors": []}}, "total": 1.0}, "expected text as the name of a key"),
        ({"columns": {}, "total": 1.0, 2: 1}, "`2` is 2; expected text as the name of a key"),
    ],
)
def test_a_refusal_names_no_type_of_python(block: object, message: str) -> None:
    line = refusal(block, Mixture)
    assert message in line
    assert "instance" not in line
    assert "dictionary" not in line
