"""Secrets taken out of text, and evidence kept within its bounds."""

import base64
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain.evidence import (
    LOG_BYTES,
    LOG_LINES,
    EvidenceEvent,
    bounded_events,
    bounded_log,
    evidence_key,
)
from workflows.domain.redaction import Redactor

SECRET = 's3cret/& +ü"pass'


class TestRedactor:
    @pytest.mark.parametrize(
        "form",
        [
            SECRET,
            quote(SECRET),
            quote(SECRET, safe=""),
            quote_plus(SECRET),
            json.dumps(SECRET),
            json.dumps(SECRET, ensure_ascii=False),
            base64.b64encode(SECRET.encode()).decode(),
            base64.b64encode(SECRET.encode()).decode().rstrip("="),
            base64.urlsafe_b64encode(SECRET.encode()).decode(),
        ],
    )
    def test_finds_every_form(self, form: str) -> None:
        redacted = Redactor([SECRET]).redact(f"before {form} after")
        assert "[redacted]" in redacted
        assert redacted.startswith("before ")
        assert redacted.endswith(" after")
        assert form.strip('"') not in redacted

    @given(st.text(max_size=20), st.text(max_size=20))
    def test_leaves_nothing_of_a_value_inside_a_longer_base64_text(self, before: str, after: str) -> None:
        text = base64.b64encode(f"{before}:{SECRET}:{after}".encode(errors="replace")).decode()
        redacted = Redactor([SECRET]).redact(f"Basic {text}")
        kept = redacted.removeprefix("Basic ").split("[redacted]")
        assert len(kept) == 2
        assert (
            len(kept[0]) + len(kept[1])
            <= (len(before.encode(errors="replace")) + len(after.encode(errors="replace")) + 8) * 4 / 3
        )

    def test_the_longer_of_two_values_wins(self) -> None:
        assert Redactor(["pass", "password"]).redact("my password, my pass") == "my [redacted], my [redacted]"

    def test_overlapping_values_leave_no_rest(self) -> None:
        assert Redactor(["abcdef", "defghi"]).redact("xabcdefghix") == "x[redacted]x"

    def test_lines_of_a_long_value_are_found_by_themselves(self) -> None:
        key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nAA==\n-----END KEY-----\n"
        assert Redactor([key]).redact("a\nMIIEvQIBADANBg\nAA==\n") == "a\n[redacted]\nAA==\n"

    def test_short_values_are_left(self) -> None:
        assert Redactor(["abc", ""]).redact("abc def") == "abc def"

    def test_a_value_like_the_mark_does_no_harm(self) -> None:
        assert Redactor(["redacted", "acte"]).redact("redacted") == "[redacted]"

    @given(st.lists(st.text("abc", min_size=4, max_size=6), max_size=4), st.text("abcd", max_size=60))
    def test_nothing_of_a_value_survives(self, values: list[str], text: str) -> None:
        kept = Redactor(values).redact(text).replace("[redacted]", "\0")
        assert not any(value in kept for value in values)
        assert all(character in text for character in kept if character != "\0")

    def test_is_quick_on_a_whole_log_with_many_secrets(self) -> None:
        redactor = Redactor(f"secret-value-{n:04d}-{'x' * 20}" for n in range(200))
        text = ("an ordinary line of a log, secret-value-0007-" + "x" * 20 + "\n") * 500
        started = datetime.now(UTC)
        assert redactor.redact(text).count("[redacted]") == 500
        assert datetime.now(UTC) - started < timedelta(seconds=5)


class TestBoundedLog:
    def test_keeps_the_last_lines(self) -> None:
        kept = bounded_log("".join(f"line {n}\n" for n in range(1000))).splitlines()
        assert len(kept) == LOG_LINES
        assert kept[-1] == "line 999"

    def test_keeps_whole_lines_within_the_bytes(self) -> None:
        kept = bounded_log(("ä" * 500 + "\n") * 100)
        assert len(kept.encode()) <= LOG_BYTES
        assert set(kept.splitlines()) == {"ä" * 500}

    @given(st.text(max_size=200))
    def test_leaves_short_text_alone(self, text: str) -> None:
        assert bounded_log(text) == text

    def test_cuts_one_endless_line_at_a_character(self) -> None:
        kept = bounded_log("€" * 20_000)
        assert LOG_BYTES - 3 <= len(kept.encode()) <= LOG_BYTES
        assert set(kept) == {"€"}


def test_events_are_the_latest_in_order() -> None:
    start = datetime(2026, 11, 22, tzinfo=UTC)
    events = [
        EvidenceEvent(
            at=start + timedelta(seconds=n),
            type="Warning",
            reason="BackOff",
            object="Pod/a",
            message="m" * 2000,
        )
        for n in range(80)
    ]
    undated = events[0].model_copy(update={"at": None})
    kept = bounded_events((undated, *reversed(events)))
    assert len(kept) == 50
    assert [event.at for event in kept] == [event.at for event in events[30:]]
    assert all(len(event.message) == 1000 for event in kept)


def test_keys_begin_with_the_organisation() -> None:
    assert evidence_key("org_1", "op_1", "service/api", 2) == "evidence/org_1/op_1/service.api/2.json"
