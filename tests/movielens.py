"""A small synthetic set of ratings in the upstream format of movielens_100k.

The tests of the kind `ratings`, of its families and of its tasks share it.
"""

from conftest import ROOT, load_yaml

from sextant.kinds.ratings.columns import Columns
from sextant.kinds.ratings.twin import Twin
from sextant.kinds.splits import HashSplit, Shares
from sextant.strict import check

CONF = load_yaml((ROOT / "conf/dataset/movielens_100k.yaml").read_text(encoding="utf-8"))
COLUMNS = check(Columns, CONF["columns"], "columns")
TWIN = check(Twin, CONF["twin"], "twin")
SPLIT = HashSplit(by="hash", salt=0, shares=Shares(train=0.6, val=0.2, gate=0.2, test=0.0))
# Prime numbers, so that a mistaken axis does not fit by chance.
USERS, ITEMS, RATINGS = 31, 37, 421


def small_twin() -> Twin:
    """The twin with few users, films and ratings."""
    sizes = {
        "users": USERS,
        "items": ITEMS,
        "ratings": RATINGS,
        "least": 7,
        "test": 83,
        "test_users": 13,
        "unknown": 5,
        "repeated_titles": 3,
        "clusters": 3,
    }
    return TWIN.model_copy(update=sizes)


def columns_with(**changes: object) -> Columns:
    """The block `columns` of the conf with some keys changed."""
    return check(Columns, {**CONF["columns"], **changes}, "columns")
