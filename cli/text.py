"""Small pieces of text: ages, durations, columns, and what a terminal may safely be shown."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def seconds_of(text: str) -> float:
    """Read a duration such as `90`, `45s`, `10m` or `1h30m` as seconds. Raises ValueError."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise ValueError("write a duration as 45s, 10m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def duration(seconds: float) -> str:
    """Write seconds as people say them: `0.4s`, `12s`, `3m05s`, `2h10m`, `4d`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d"


def elapsed(started: datetime | None, finished: datetime | None, now: datetime | None = None) -> str:
    """Return the time between two moments, up to now while there is no end; empty before the start."""
    if started is None:
        return ""
    return duration(((finished or now or datetime.now(UTC)) - started).total_seconds())


def binary(count: int | None) -> str:
    """Write bytes as people read them: `0 B`, `512 KiB`, `1.5 GiB`; empty when the number is not known."""
    if count is None:
        return ""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(amount) < 1024:
            break
        amount, unit = amount / 1024, larger
    whole = amount == int(amount) or abs(amount) >= 100
    return f"{amount:.0f} {unit}" if whole else f"{amount:.1f} {unit}"


def age(moment: datetime | None) -> str:
    """Return how long ago a moment was, in the coarse manner of a list."""
    text = elapsed(moment, None)
    return re.sub(r"\.\ds$", "s", text)


def plain(text: str) -> str:
    """Return text without escape sequences and control characters, as it may come from containers."""
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines below a header; made to be read and to be piped, so nothing is cut."""
    table = [header, *[[plain(cell).replace("\n", " ") for cell in row] for row in rows]]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def pairs(values: Sequence[tuple[str, str | None]]) -> list[str]:
    """Return `Name:  value` lines, aligned; those without a value are left out."""
    present = [(f"{name}:", value) for name, value in values if value]
    width = max((len(name) for name, _ in present), default=0)
    return [f"{name.ljust(width)}  {plain(value)}" for name, value in present]


def typed_values(types: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, str | int | bool]:
    """Read each value in the type of its parameter; what does not fit is left for the API to refuse."""
    return {name: _typed(types.get(name, "string"), text) for name, text in texts.items()}


def _typed(kind: str, text: str) -> str | int | bool:
    digits = text.removeprefix("-")
    if kind == "integer" and digits.isascii() and digits.isdecimal() and len(digits) < 19:
        return int(text)
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    return text
