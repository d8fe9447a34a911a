"""Faults of a document that a user handed in: each with its place, its reason and a way out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

PathPart = str | int
Path = tuple[PathPart, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def render_path(path: Iterable[PathPart]) -> str:
    """The path as a user writes it: `services[0].ports[1].containerPort`; unusual keys are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            quoted = part.replace("\\", "\\\\").replace('"', '\\"')
            text += f'["{quoted}"]'
    return text


class FieldError(BaseModel):
    """One fault of a document.

    `path` names the place from the root (empty: the document itself), `message` says what is wrong and why,
    `suggestion` what to write instead when that is known, `code` the quality-gate code when there is one.
    """

    model_config = ConfigDict(frozen=True)

    path: tuple[str | int, ...]
    message: str
    suggestion: str | None = None
    code: str | None = None

    @property
    def field(self) -> str:
        """The path in its written form; empty for the document itself."""
        return render_path(self.path)

    def __str__(self) -> str:
        place = self.field or "document"
        tail = f" ({self.suggestion})" if self.suggestion else ""
        return f"{place}: {self.message}{tail}"


class BlueprintInvalid(Exception):
    """A document is not a valid Blueprint; `errors` holds every fault, in the order of the document."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors: tuple[FieldError, ...] = tuple(errors)
        super().__init__("; ".join(str(error) for error in self.errors[:5]))
