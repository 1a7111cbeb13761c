"""In which encoding the bytes of a text are."""

import codecs
import re
from typing import NamedTuple

BOMS = {
    codecs.BOM_UTF8: "utf-8",  # the reader takes the mark for no part of the text
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Each accepts bytes that the ones before it refuse, the last one all bytes.
WESTERN = ("cp1252", "latin-1")
# Where most letters are beyond ASCII, in the order in which they are tried.
OTHERS = ("shift_jis", "gb18030", "euc_kr")
CYRILLIC = re.compile(rb"[\x00-\x7f\xc0-\xff\xa8\xb8\xab\xbb\x96\x97]*")
WORD = re.compile(rb"[A-Za-z\x80-\xff]{2,}")
SAMPLE_WORDS = 500


class Encoding(NamedTuple):
    """An encoding, and a doubt about it with an example, "" for none."""

    name: str
    doubt: str


def encoding(content: bytes) -> Encoding:
    """The encoding of a text; the doubt names a word as it reads in it."""
    for mark, name in BOMS.items():
        if content.startswith(mark):
            return Encoding(name, "")
    without_mark = _utf_16_without_mark(content)
    if without_mark:
        return Encoding(without_mark, "")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        # A sample may end within a character.
        if len(content) - error.start >= 4:
            return _not_utf_8(content)
    return Encoding("utf-8", "")


def is_text(content: bytes) -> bool:
    """Whether bytes are a text, and not a picture or an archive."""
    head = content[:8000]
    if head.startswith(tuple(BOMS)) or _utf_16_without_mark(head):
        return True
    return b"\0" not in head


def _utf_16_without_mark(content: bytes) -> str:
    """The name of UTF-16 in one order of bytes, if nearly every second byte is 0; else ""."""
    head = content[:2000]
    if len(head) < 4:
        return ""
    even = head[::2].count(0) / len(head[::2])
    odd = head[1::2].count(0) / len(head[1::2])
    if odd > 0.7 and even < 0.1:
        return "utf-16-le"
    if even > 0.7 and odd < 0.1:
        return "utf-16-be"
    return ""


def _not_utf_8(content: bytes) -> Encoding:
    foreign = [match for match in WORD.findall(content) if not match.isascii()]
    sample = foreign[:SAMPLE_WORDS]
    letters = b"".join(sample)
    beyond = sum(byte > 127 for byte in letters)
    candidates = list(WESTERN)
    if beyond > 0.6 * len(letters):
        is_cyrillic = CYRILLIC.fullmatch(content) is not None
        candidates = ["cp1251", *WESTERN] if is_cyrillic else [*OTHERS, *WESTERN]
    for name in candidates:
        try:
            content.decode(name)
        except UnicodeDecodeError as error:
            if len(content) - error.start >= 4:
                continue
        example = max(sample, key=len, default=b"").decode(name, errors="replace")
        return Encoding(name, f"encoding {name}, in which a word reads `{example[:20]}`")
    raise AssertionError("latin-1 has every byte")
