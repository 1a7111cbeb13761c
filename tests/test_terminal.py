"""Progress: a line now and then in a log, a bar on a terminal."""

import contextlib
import io
import os
import pty
import termios
from types import SimpleNamespace

import cases
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sextant import terminal
from sextant.terminal import Progress

SECONDS = {"s": 1, "min": 60, "h": 3600}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until a test changes `now`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock.now)
    return clock


def test_without_a_terminal_a_line_now_and_then_estimates_the_remaining_time(clock, capsys):
    with Progress("train ann", 61, "epochs", "at most") as progress:
        for step in range(0, 61 * 4 + 1):
            progress.at(step / 4)
            progress.set_note(f"val/loss {step}")
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


def test_what_an_earlier_run_did_is_not_part_of_the_speed(clock, capsys):
    progress = Progress("train ann", 100, "epochs")
    progress.at(90)
    clock.now += 6
    progress.at(92)
    assert capsys.readouterr().err.splitlines() == [
        "train ann: continues after 90 epochs",
        "train ann: 92 of 100 epochs, about 24 s left",
    ]


def test_without_a_total_no_remaining_time_is_estimated(clock, capsys):
    progress = Progress("films.zip", None, "MB")
    for done in (0, 1234):
        progress.at(done)
        clock.now += 6
    assert capsys.readouterr().err == "films.zip: 1,234 MB\n"


def test_short_work_prints_nothing(clock, capsys):
    for _ in terminal.progress(range(7), "decoding", "pictures"):
        clock.now += 0.7
    assert capsys.readouterr() == ("", "")


def test_items_are_yielded_in_order_and_count_after_they_were_handled(clock, capsys):
    seen = []
    for item in terminal.progress("abc", "decoding", "pictures"):
        seen.append(item)
        clock.now += 8
    assert seen == ["a", "b", "c"]
    assert capsys.readouterr().err == "decoding: 1 of 3 pictures, about 16 s left\n"


def read_terminal(master: int) -> str:
    """Everything written to a pseudo-terminal whose other end is closed."""
    text = ""
    with os.fdopen(master, "rb", buffering=0) as stream:
        with contextlib.suppress(OSError):  # EIO is how Linux ends it
            while block := stream.read(4096):
                text += block.decode()
    return text


@pytest.mark.parametrize("total", [3, None])
def test_on_a_terminal_it_is_a_bar_that_disappears_at_the_end(total, monkeypatch):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    with os.fdopen(slave, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        with Progress("decoding", total, "pictures") as progress:
            progress.at(0)
            progress.bar.delay = progress.bar.mininterval = 0
            progress.set_note("val/loss 0.5")
            progress.step()
            progress.step()
    text = read_terminal(master)
    if total:
        assert "decoding |" in text and "| 2 of 3 pictures, about 00:00 left" in text
    else:
        assert "decoding: 2 pictures, val/loss 0.5" in text
    assert "val/loss 0.5" in text and "\x1b" not in text and "\n" not in text
    assert text.endswith("\r") and text.rsplit("\r", 2)[1].strip() == ""


@given(st.floats(0, 10**6))
def test_a_span_is_close_to_the_seconds(seconds):
    parts = terminal.span(seconds).split()
    total = sum(int(n) * SECONDS[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))
    assert total == pytest.approx(seconds, abs=30 if seconds >= 59.5 else 0.5)


@cases.each(
    ("seconds", "text"),
    [(8.4, "8 s"), (59.9, "60 s"), (90, "2 min"), (3599, "1 h 0 min"), (12000, "3 h 20 min")],
)
def test_a_span_in_words(seconds, text):
    assert terminal.span(seconds) == text


def test_colours_need_a_terminal_and_no_color_unset(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        assert terminal.colored(stream) and not terminal.colored(io.StringIO())
        monkeypatch.setenv("NO_COLOR", "")  # no-color.org: an empty value does not count
        assert terminal.colored(stream)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not terminal.colored(stream)
    os.close(master)
