"""The pages of a share link: one document each, which loads nothing and runs one script, by its hash."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from api.problems import ProblemError, RequestProblem, traits
from api.shares import picture
from api.shares.schemas import GuestService, ShareViewOut

_DIRECTORY: Final = Path(__file__).parent / "templates"
_STYLE: Final = (_DIRECTORY / "portal.css").read_text()
_SCRIPT: Final = (_DIRECTORY / "portal.js").read_text()


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_hash(_STYLE)}",
        f"script-src {_hash(_SCRIPT)}",
        "img-src data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy of every page: even markup that slipped through could load and run nothing."""

_STATES: Final = {
    "ready": ("good", "ready"),
    "starting": ("busy", "starting"),
    "failing": ("bad", "failing"),
    "absent": ("off", "not running"),
}
_PHASES: Final = {
    "running": ("good", "Everything runs."),
    "degraded": ("bad", "Something is not ready."),
    "error": ("bad", "The last change of this environment failed."),
    "stopped": ("off", "It is stopped."),
    "pending": ("busy", "It is about to be set up."),
    "provisioning": ("busy", "It is being set up."),
    "resuming": ("busy", "It is being started again."),
    "stopping": ("busy", "It is being stopped."),
    "deleting": ("busy", "It is being deleted."),
}
_UNKNOWN: Final = ("off", "unknown")


def _when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


_templates: Final = Environment(
    loader=FileSystemLoader(_DIRECTORY),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# Their hashes stand in the policy: they go out byte by byte.
_templates.globals.update(style=Markup(_STYLE), script=Markup(_SCRIPT))  # noqa: S704 - our own files
_templates.filters["when"] = _when


def entry() -> str:
    """Render the page that asks for a link."""
    return _templates.get_template("entry.html").render(refresh=0)


def pin(token: str, *, wrong: bool) -> str:
    """Render the page that asks for the PIN of a link; `wrong`: one was given."""
    return _templates.get_template("pin.html").render(refresh=0, token=token, wrong=wrong)


def message(error: ProblemError) -> str:
    """Render the page for a link that does not open; one that is dead gives way to another."""
    return _templates.get_template("message.html").render(
        refresh=0,
        title=traits(error.kind).title,
        detail=error.detail,
        another=error.kind is RequestProblem.NOT_FOUND,
    )


def environment(seen: ShareViewOut, refresh_seconds: int) -> str:
    """Render an environment as its guests see it; the page looks again after so many seconds."""
    tone, sentence = _PHASES.get(seen.status.value, _UNKNOWN)
    waits: dict[str, list[str]] = {}
    for edge in seen.topology.edges:
        waits.setdefault(edge.source, []).append(edge.target)
    exposed = {endpoint.service for endpoint in seen.endpoints}
    nodes = [_node(service, exposed) for service in seen.services]
    edges = [(edge.source, edge.target) for edge in seen.topology.edges]
    return _templates.get_template("environment.html").render(
        refresh=refresh_seconds,
        seen=seen,
        tone=tone,
        sentence=sentence,
        services=[(service, *_state(service), waits.get(service.name, [])) for service in seen.services],
        picture=Markup(picture.draw(nodes, edges)),  # noqa: S704 - it escapes every text
    )


def _state(service: GuestService) -> tuple[str, str]:
    return _STATES.get(service.state or "", _UNKNOWN)


def _node(service: GuestService, exposed: set[str]) -> picture.Node:
    tone, word = _state(service)
    count = "" if service.ready is None else f" {service.ready}/{service.replicas}"
    return picture.Node(service.name, tone, f"{word}{count}", exposed=service.name in exposed)
