"""What a browser shows while an environment wakes up: a page that loads nothing and looks again by itself."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from fastapi import Request, Response
from markupsafe import escape

from api.access.headers import ANSWERED_BY
from api.problems import ProblemError, traits

_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;margin:20vh auto;max-width:32rem;padding:0 1rem}"
    "code{font-size:.85rem}"
)
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "img-src data:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Instead of the sandbox of applications, in which a page could not refresh itself. It runs no scripts."""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex, nofollow">
<meta http-equiv="refresh" content="{seconds}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>Nobody used it, so it went to sleep. This page looks again every {seconds} seconds.</p>
<p><code>{operation}</code></p>
</body>
</html>
"""


def wanted(request: Request) -> bool:
    """Whether the client is one that shows pages: a GET that takes HTML. Only a GET may be repeated."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "").lower()


def page(error: ProblemError) -> Response:
    """Answer the problem `waking` as a page."""
    seconds = error.headers["Retry-After"]
    content = _PAGE.format(
        title=escape(traits(error.kind).title),
        seconds=escape(seconds),
        style=_STYLE,
        operation=escape(str(error.extensions["operationId"])),
    )
    headers = {
        "Retry-After": seconds,
        "Cache-Control": "no-store",
        "Content-Security-Policy": POLICY,
        ANSWERED_BY.decode(): "perdure",
    }
    return Response(content, error.status, headers, "text/html; charset=utf-8")
