"""Reading long lists in pages."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from clusters.answers import Answer
from clusters.connection import JSON, Call
from clusters.errors import Gone
from clusters.objects import Manifest, selector
from workflows.domain.json_reading import children, text

_PAGE: Final = 500


async def read_pages(
    send: Callable[[Call], Awaitable[Answer]],
    path: str,
    labels: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
    limit: int | None = None,
    *,
    accept: str = JSON,
) -> tuple[list[Manifest], str]:
    """Return all items of a collection, or the first `limit`, and the collection's resourceVersion.

    When a page has expired before it was asked for, everything is read again in one piece.
    """
    selectors = {"labelSelector": selector(labels), "fieldSelector": selector(fields)}
    params = {name: value for name, value in selectors.items() if value}
    items: list[Manifest] = []
    page = {"limit": str(min(limit or _PAGE, _PAGE))}
    while True:
        try:
            body = (await send(Call("GET", path, {**params, **page}, accept=accept, idempotent=True))).body
        except Gone:
            if not page:
                raise
            items, page = [], {}
            continue
        items += children(body, "items")
        following = text(body, "metadata", "continue")
        if not following or (limit is not None and len(items) >= limit):
            return items[:limit], text(body, "metadata", "resourceVersion")
        page = {**page, "continue": following}
