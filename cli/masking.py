"""Rules by which values are replaced while a snapshot's data are loaded, read from a file."""

# ruff: noqa: PLC0415 - files are read by commands that are given one
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import UsageFault

if TYPE_CHECKING:
    from pydantic import JsonValue

_RULES = "It has `services:` at its top; docs/masking.md tells what may be below."


def rules_in(path: Path) -> "dict[str, JsonValue]":
    """Return the rules in a file, `-` for stdin. Raises UsageFault when it has none, and masks nothing."""
    from cli.files import read_mapping

    rules = read_mapping(path, "file of rules", _RULES)
    if not rules.get("services"):
        raise UsageFault("The file of rules names no service: nothing would be masked.", hints=[_RULES])
    return rules
