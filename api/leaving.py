"""Clients that leave before their answer is there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from starlette.types import Receive

Result = TypeVar("Result")

_LEAVING: Final = frozenset({"http.disconnect", "websocket.disconnect"})


class ClientGone(Exception):
    """The client hung up: nobody waits for the answer any more."""


async def left(receive: Receive) -> None:
    """Return once the client has left. What it sends until then is thrown away."""
    while (await receive())["type"] not in _LEAVING:
        pass


async def unless_left(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of some work, which is cancelled when the client hangs up. Raises ClientGone then."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
