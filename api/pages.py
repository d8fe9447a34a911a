"""One small page for each kind of problem: where `type` of a problem answer leads."""

from __future__ import annotations

from html import escape
from typing import Final

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from api.problems import ProblemError, ProblemKind, RequestProblem, all_kinds, traits

router = APIRouter(prefix="/problems", tags=["problems"], include_in_schema=False)

_KINDS: Final[dict[str, ProblemKind]] = {kind.value: kind for kind in all_kinds()}
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}}</style>
<h1>{title}</h1><p><code>{kind}</code>, HTTP {status}</p><p>{help}</p>
<p><a href="/problems">All kinds</a></p></html>
"""


@router.get("")
async def index() -> HTMLResponse:
    """List all kinds."""
    items = "".join(
        f'<li><a href="/problems/{kind}"><code>{kind}</code></a>: {escape(traits(known).title)}</li>'
        for kind, known in _KINDS.items()
    )
    return HTMLResponse(f"<!doctype html><title>Problems</title><h1>Problems</h1><ul>{items}</ul>")


@router.get("/{kind}")
async def page(kind: str) -> HTMLResponse:
    """Explain one kind."""
    known = _KINDS.get(kind)
    if known is None:
        raise ProblemError(RequestProblem.NOT_FOUND, f"There is no problem kind {kind[:100]!r}.")
    about = traits(known)
    return HTMLResponse(
        _PAGE.format(title=escape(about.title), kind=kind, status=about.status, help=escape(about.help))
    )
