"""Where output goes: results to stdout in the form asked for, everything else to stderr."""

# ruff: noqa: PLC0415 - yaml and pydantic are loaded when they are needed, so that --help is quick
import json
import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue


class OutputFormat(StrEnum):
    """How a result is printed. json and yaml are the API's own fields and stay stable."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def emit(output: OutputFormat, raw: "JsonValue", lines: Iterable[str]) -> None:
    """Print a result to stdout: `raw` as JSON or YAML, `lines` as table."""
    if output is OutputFormat.JSON:
        text = json.dumps(raw, indent=2, ensure_ascii=False)
    elif output is OutputFormat.YAML:
        text = to_yaml(raw).rstrip("\n")
    else:
        text = "\n".join(lines)
    if text:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def emit_again(output: OutputFormat, raw: "JsonValue", lines: Sequence[str], *, again: bool) -> None:
    """Print one of several results of a command that watches: JSON one per line, YAML as documents."""
    if output is OutputFormat.JSON:
        text = [json.dumps(raw, ensure_ascii=False)]
    elif output is OutputFormat.YAML:
        text = ["---", to_yaml(raw).rstrip("\n")]
    else:
        text = [*([""] if again else []), *lines]
    emit(OutputFormat.TABLE, raw, text)


def to_yaml(raw: "JsonValue") -> str:
    """Return a JSON value as YAML, keys in the order of the API."""
    import yaml

    text: str = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=110)
    return text


def live_terminal() -> bool:
    """Return whether stderr is a terminal on which something can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}


def tell(*lines: str) -> None:
    """Print lines to stderr."""
    for line in lines:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def tell_error(message: str, details: Sequence[str], hints: Sequence[str]) -> None:
    """Print an error: the message, what is known more, and ways out."""
    tell(f"Error: {message}", *(f"  {line}" for line in details), *hints)
