"""How far a piece of work is: a line now and then, or a bar on a terminal."""

import contextlib
import io
import os
import pty
import termios
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sextant import terminal
from sextant.terminal import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands until `now` is set."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock.now)
    return clock


def test_where_no_one_watches_a_line_now_and_then_says_what_is_left(clock, capsys):
    with Progress("train ann", 61, "epochs", "at most") as progress:
        for step in range(0, 61 * 4 + 1):
            progress.at(step / 4)
            progress.say(f"val/loss {step}")
            clock.now += 0.25
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train ann: 5 of 61 epochs, at most 56 s left, val/loss 19",
        "train ann: 15 of 61 epochs, at most 46 s left, val/loss 59",
        "train ann: 25 of 61 epochs, at most 36 s left, val/loss 99",
        "train ann: 35 of 61 epochs, at most 26 s left, val/loss 139",
        "train ann: 45 of 61 epochs, at most 16 s left, val/loss 179",
        "train ann: 55 of 61 epochs, at most 6 s left, val/loss 219",
    ]


def test_what_was_done_before_says_nothing_about_the_speed(clock, capsys):
    progress = Progress("train ann", 100, "epochs")
    progress.at(90)
    clock.now += 6
    progress.at(92)
    said = ["train ann: goes on after 90 epochs", "train ann: 92 of 100 epochs, about 24 s left"]
    assert capsys.readouterr().err.splitlines() == said


def test_where_nobody_knows_the_end_nothing_is_said_of_it(clock, capsys):
    progress = Progress("films.zip", None, "MB")
    for done in (0, 1234):
        progress.at(done)
        clock.now += 6
    assert capsys.readouterr().err == "films.zip: 1,234 MB\n"


def test_what_is_soon_done_is_not_spoken_of(clock, capsys):
    for _ in terminal.progress(range(7), "decoding", "pictures"):
        clock.now += 0.7
    assert capsys.readouterr() == ("", "")


def test_items_come_as_they_are_and_count_when_they_are_dealt_with(clock, capsys):
    seen = []
    for item in terminal.progress("abc", "decoding", "pictures"):
        seen.append(item)
        clock.now += 8
    assert seen == ["a", "b", "c"]
    assert capsys.readouterr().err == "decoding: 1 of 3 pictures, about 16 s left\n"


@pytest.mark.parametrize("total", [3, None])
def test_on_a_terminal_it_is_a_bar_that_goes_when_all_is_done(total, monkeypatch):
    there, here = pty.openpty()
    termios.tcsetwinsize(here, (24, 80))
    with os.fdopen(here, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        with Progress("decoding", total, "pictures") as progress:
            progress.at(0)
            progress.bar.delay = progress.bar.mininterval = 0
            progress.say("val/loss 0.5")
            progress.step()
            progress.step()
    said = ""
    with (
        os.fdopen(there, "rb", buffering=0) as master,
        contextlib.suppress(OSError),
    ):  # which is how a terminal ends
        while block := master.read(4096):
            said += block.decode()
    assert ("decoding |" in said and "| 2 of 3 pictures, about 00:00 left" in said) or not total
    assert total or "decoding: 2 pictures, val/loss 0.5" in said
    assert "val/loss 0.5" in said and "\x1b" not in said and "\n" not in said
    assert said.endswith("\r") and said.rsplit("\r", 2)[1].strip() == ""


@given(st.floats(0, 10**6))
def test_a_span_is_near_the_seconds_that_it_says(seconds):
    numbers = [int(word) for word in terminal.span(seconds).split()[::2]]
    units = [{"s": 1, "min": 60, "h": 3600}[word] for word in terminal.span(seconds).split()[1::2]]
    assert sum(map(int.__mul__, numbers, units)) == pytest.approx(
        seconds, abs=30 if seconds >= 59.5 else 0.5
    )


def test_a_span_in_words():
    assert [terminal.span(s) for s in (8.4, 59.9, 90, 3599, 12000)] == [
        "8 s",
        "60 s",
        "2 min",
        "1 h 0 min",
        "3 h 20 min",
    ]


def test_colours_need_a_terminal_and_nobody_who_forbids_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    there, here = pty.openpty()
    with os.fdopen(here, "w") as stream:
        assert terminal.colored(stream) and not terminal.colored(io.StringIO())
        monkeypatch.setenv("NO_COLOR", "")  # no-color.org: present and not empty
        assert terminal.colored(stream)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not terminal.colored(stream)
    os.close(there)
