"""The facts of each picture for the expectations, and expectations of every set of pictures."""

import hashlib

import numpy as np
import pandas as pd
from PIL import Image

from ....terminal import progress
from ... import pixels
from ...tables import Finding
from ..columns import Columns
from .pictures import Content, Raw

# Two pictures look alike if their 64-bit fingerprints differ in at most so many bits. Of the 10,000
# real pets, 3 gives seven pairs, all of them true; 4 adds false ones.
MAX_DIFFERENT_BITS = 3
PAIRS_AT_ONCE = 2**20  # fingerprints are compared in chunks, which bounds the memory
# A picture is plain if no two of its pixels differ by more levels: those of noise and of JPEG.
PLAIN_LEVELS = 16
# A set in which a larger share of the pictures is plain, or alike, cannot be learnt from.
MOST = 0.9


def table(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Return the facts of each picture: size, whether it decodes, digest, and fingerprint.

    `dhash` is a 64-bit fingerprint (Krawetz 2013): whether each of 8 x 8 grey pixels is darker than
    its right neighbour, as hexadecimal. `lookalike`: whether another picture's fingerprint differs
    in at most MAX_DIFFERENT_BITS bits; `alike`: the share of the other pictures whose does.
    `plain`: whether the picture is of one colour, up to PLAIN_LEVELS of 255 levels.
    """
    pictures = raw.pictures
    contents = progress(pictures["raw"].tolist(), "checking", "pictures")
    facts = pd.DataFrame([_facts(content, columns) for content in contents], index=pictures.index)
    similar = _similar_pictures(facts["dhash"])
    facts["lookalike"] = similar > 0
    number_of_others = max(1, int(facts["dhash"].notna().sum()) - 1)
    facts["alike"] = np.where(facts["dhash"].notna(), similar / number_of_others, np.nan)
    return pd.concat([pictures.drop(columns="raw"), facts], axis=1)[columns.all]


def findings(raw: Raw, columns: Columns, table: pd.DataFrame) -> list[Finding]:
    """Expectations of every set: not all pictures are of one colour, and not all are alike."""
    return [
        _finding(
            table,
            table["plain"].eq(True),
            "expect_pictures_to_show_something",
            "nearly all pictures are of one colour: they were written or converted wrongly, or"
            " `white` in the conf is not the value that is white",
        ),
        _finding(
            table,
            table["alike"] > MOST,
            "expect_pictures_to_differ",
            "nearly all pictures are alike: they are copies of one, or empty",
        ),
    ]


def _finding(table: pd.DataFrame, is_unusual: pd.Series, expectation: str, why: str) -> Finding:
    """The expectation that at most the share MOST of the pictures is unusual."""
    is_met = is_unusual.mean() <= MOST
    return Finding(
        expectation=expectation,
        kwargs={"mostly": round(1 - MOST, 6)},
        severity="critical",
        unit="pictures",
        checked=len(table),
        unexpected=0 if is_met else int(is_unusual.sum()),
        examples=table["path"][is_unusual].tolist(),
        why=why,
    )


def _facts(raw: Content, columns: Columns) -> dict[str, bool | int | str | None]:
    content = raw.tobytes() if isinstance(raw, np.ndarray) else raw
    facts: dict[str, bool | int | str | None] = {
        "width": None,
        "height": None,
        "channels": None,
        "decodable": False,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "dhash": None,
        "plain": None,
    }
    try:
        image, bands = pixels.decoded(raw, columns.channels, columns.ground, columns.white)
    except ValueError:
        return facts
    facts["width"], facts["height"] = image.size
    facts["channels"] = bands
    facts["decodable"] = True
    facts["dhash"] = _dhash(image)
    facts["plain"] = _is_plain(image)
    return facts


def _dhash(image: Image.Image) -> str:
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), int)
    is_brighter = grey[:, 1:] > grey[:, :-1]
    return np.packbits(is_brighter).tobytes().hex()


def _is_plain(image: Image.Image) -> bool:
    extremes = np.array(image.getextrema()).reshape(-1, 2)  # the lowest and highest by channel
    return bool((extremes[:, 1] - extremes[:, 0] <= PLAIN_LEVELS).all())


def _similar_pictures(dhash: pd.Series) -> np.ndarray:
    """The number of other fingerprints that are near, shape (rows,) int; 0 if there is none."""
    is_present = dhash.notna().to_numpy()
    fingerprints = np.array([int(digits, 16) for digits in dhash[is_present]], np.uint64)
    number_of_chunks = max(1, len(fingerprints) ** 2 // PAIRS_AT_ONCE)
    near = []
    for chunk in np.array_split(fingerprints, number_of_chunks):
        different_bits = np.bitwise_count(chunk[:, None] ^ fingerprints)
        # Each fingerprint is near itself.
        near.append((different_bits <= MAX_DIFFERENT_BITS).sum(1) - 1)
    similar = np.zeros(len(dhash), np.int64)
    similar[is_present] = np.concatenate(near)
    return similar
