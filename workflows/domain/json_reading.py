"""Reading into Kubernetes objects as plain JSON: what is there in the type that is asked for, or none of it.

Another program wrote them, so that nothing here raises.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

JsonObject = Mapping[str, JsonValue]
"""One object, read only."""


def at(value: JsonObject | JsonValue, *path: str | int) -> JsonValue:
    """What stands at a path of keys and positions; None when something on the way is missing."""
    found: JsonObject | JsonValue = value
    for part in path:
        if isinstance(part, str) and isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(part, int) and isinstance(found, list) and -len(found) <= part < len(found):
            found = found[part]
        else:
            return None
    return dict(found) if isinstance(found, Mapping) and not isinstance(found, dict) else found


def text(value: JsonObject | JsonValue, *path: str | int) -> str:
    """The text at a path; empty when there is none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def number(value: JsonObject | JsonValue, *path: str | int) -> int | None:
    """The whole number at a path; None when there is none: whether that means 0 is the caller's to say."""
    found = at(value, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def mapping(value: JsonObject | JsonValue, *path: str | int) -> dict[str, JsonValue]:
    """The mapping at a path; empty when there is none."""
    found = at(value, *path)
    return found if isinstance(found, dict) else {}


def children(value: JsonObject | JsonValue, *path: str | int) -> list[dict[str, JsonValue]]:
    """The mappings in the list at a path, without whatever else is in it; none when there is no list."""
    found = at(value, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def strings(value: JsonObject | JsonValue, *path: str | int) -> tuple[str, ...]:
    """The texts in the list at a path; none when there is no list."""
    found = at(value, *path)
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def instant(value: JsonObject | JsonValue, *path: str | int) -> datetime | None:
    """The RFC 3339 time at a path, aware; None when there is none."""
    written = text(value, *path)
    if not written:
        return None
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
