"""Durations, columns and safe text."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.models import Operation
from cli.progress import visible_steps
from cli.text import binary, columns, duration, pairs, plain, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("45s", 45), ("10m", 600), ("1h30m", 5400), ("0.5s", 0.5), ("2d", 172800)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10x", "-5s", "m10", "1h 30m", "inf", "nan", "1e3"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.96, "10.0s"),
        (59.9, "59s"),
        (185, "3m05s"),
        (7800, "2h10m"),
        (400000, "4d"),
        (-1, "0.0s"),
    ],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text())
def test_plain_text_moves_no_cursor(text: str) -> None:
    kept = plain(text)
    assert not any((ord(char) < 32 and char not in "\t\n") or 127 <= ord(char) < 160 for char in kept)


@pytest.mark.parametrize(
    "text", ["a\x1b[31mb\x1b[0mc", "a\x1b]0;title\x07bc", "a\rb\x08c", "a\x1b]8;;x\x1b\\bc"]
)
def test_escape_sequences_go_as_a_whole(text: str) -> None:
    assert plain(text) == "abc"


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=5))
def test_every_row_is_one_line(rows: list[list[str]]) -> None:
    assert all("\n" not in line for line in columns(["A", "B"], rows))
    assert len(columns(["A", "B"], rows)) == len(rows) + 1


def test_pairs_leave_out_what_is_empty() -> None:
    assert pairs([("Name", "x"), ("Plan", None), ("Reason", "")]) == ["Name:  x"]


@pytest.mark.parametrize("room", [1, 3, 50])
def test_a_short_terminal_shows_what_matters(room: int, make_operation: Callable[[], Operation]) -> None:
    shown = [step.name for step in visible_steps(make_operation(), room)]
    assert len(shown) == min(room, 12)
    assert "bad" in shown
    assert shown == sorted(shown, key=[step.name for step in make_operation().steps].index)


@pytest.fixture
def make_operation() -> Callable[[], Operation]:
    steps = [{"name": f"s{index}", "state": "succeeded"} for index in range(9)]
    steps += [{"name": "waits"}, {"name": "runs", "state": "running"}, {"name": "bad", "state": "failed"}]
    return lambda: Operation.model_validate({"id": "op_1", "state": "running", "steps": steps})


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (None, ""),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536 * 1024**2, "1.5 GiB"),
        (157_300_000, "150 MiB"),
        (-2048, "-2 KiB"),
        (3 * 1024**6, "3072 PiB"),
    ],
)
def test_bytes_are_written_in_the_largest_unit_that_fits(count: int | None, written: str) -> None:
    assert binary(count) == written
