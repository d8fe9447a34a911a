"""Reading into JSON that another program wrote: whatever stands there, the asked type comes back."""

from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from workflows.domain.json_reading import at, children, instant, mapping, number, strings, text

POD: dict[str, JsonValue] = {
    "metadata": {"name": "web-0", "generation": 0, "finalizers": ["a", 1, "b"], "paused": True},
    "spec": {"containers": [{"name": "web"}, "odd", {"name": "log"}]},
    "status": {
        "startTime": "2026-11-22T10:00:00Z",
        "since": "2026-11-22T10:00:00+02:00",
        "bare": "2026-11-22",
    },
}


def test_paths_lead_through_keys_and_positions() -> None:
    assert text(POD, "spec", "containers", 0, "name") == "web"
    assert text(POD, "spec", "containers", -1, "name") == "log"
    assert mapping(MappingProxyType(POD), "metadata")["name"] == "web-0"
    assert mapping(MappingProxyType(POD)) == POD
    assert [text(item, "name") for item in children(POD, "spec", "containers")] == ["web", "log"]
    assert strings(POD, "metadata", "finalizers") == ("a", "b")


@pytest.mark.parametrize(
    "path",
    [("spec", "containers", 3), ("spec", "containers", "web"), ("metadata", 0), ("no", "such", "path")],
)
def test_a_path_that_breaks_off_leads_to_nothing(path: tuple[str | int, ...]) -> None:
    assert at(POD, *path) is None
    assert (text(POD, *path), number(POD, *path), instant(POD, *path)) == ("", None, None)
    assert (mapping(POD, *path), children(POD, *path), strings(POD, *path)) == ({}, [], ())


def test_a_missing_number_is_not_nought_and_a_boolean_is_none() -> None:
    assert number(POD, "metadata", "generation") == 0
    assert number(POD, "metadata", "paused") is None
    assert number(POD, "metadata", "name") is None


def test_times_are_aware() -> None:
    assert instant(POD, "status", "startTime") == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert instant(POD, "status", "since") == datetime(2026, 11, 22, 10, tzinfo=timezone(timedelta(hours=2)))
    assert instant(POD, "status", "bare") == datetime(2026, 11, 22, tzinfo=UTC)
    assert instant(POD, "metadata", "name") is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
)


@given(_JSON, st.lists(st.sampled_from(["a", "b", 0, -1, 7]), max_size=4))
def test_nothing_raises(document: JsonValue, path: list[str | int]) -> None:
    for read in (at, text, number, mapping, children, strings, instant):
        read(document, *path)
