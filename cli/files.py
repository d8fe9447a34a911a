"""Reading and writing the files that a command names; faults are faults of usage."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import UsageFault

if TYPE_CHECKING:
    from pydantic import JsonValue

_RULES = "It has `services:` at its top; docs/masking.md tells what may be below."


def document_name(text: str) -> str:
    """Return the name that a Blueprint gives itself. Raises UsageFault."""
    import yaml  # noqa: PLC0415 - only some commands look into a document

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageFault(f"The Blueprint is not YAML: {error}") from error
    name = document.get("name") if isinstance(document, dict) else None
    if not isinstance(name, str) or not name:
        raise UsageFault("The Blueprint has no name.", hints=["Write `name:` into it, or give --name."])
    return name


def read_mapping(path: Path, what: str, hint: str) -> "dict[str, JsonValue]":
    """Return the mapping that a file holds as YAML or JSON. `what` it is, and what is in one, for faults.

    Raises UsageFault.
    """
    import yaml  # noqa: PLC0415 - only some commands look into a document

    try:
        document = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UsageFault(f"The {what} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise UsageFault(f"The {what} is no mapping.", hints=[hint])
    return document


def read_masking(path: Path) -> "dict[str, JsonValue]":
    """Return the rules by which a restore hides values. Raises UsageFault."""
    rules = read_mapping(path, "file of rules", _RULES)
    if not rules.get("services"):
        raise UsageFault("The file of rules names no service: nothing would be masked.", hints=[_RULES])
    return rules


def read_text(path: Path) -> str:
    """Return a file's text, or standard input's for `-`. Raises UsageFault."""
    if str(path) == "-" and sys.stdin.isatty():
        raise UsageFault(
            "Standard input is a terminal.", hints=["Pipe the document in, or name a file with -f."]
        )
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path} is not UTF-8 text: byte {error.start} cannot be read.") from error


def write_json(path: Path, document: "JsonValue") -> None:
    """Write a document in the place of whatever the file held. Raises UsageFault."""
    try:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageFault(f"{path} cannot be written: {error.strerror}.") from error
