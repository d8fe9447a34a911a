"""WebSockets that only send: who may open one, how it is refused, and how it ends.

A browser cannot set headers on a WebSocket, and an address ends up in logs; so the key may come as one of the
subprotocols, `perdure.bearer.<key>` beside `perdure.v1`, which is the one that is agreed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final, TypeVar, cast

import structlog
from fastapi import WebSocket
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect, WebSocketState

from activities.db.records import Actor
from activities.db.tables import Role
from api.auth import identify, offered_key
from api.leaving import left
from api.open_streams import DONE, FAILED, SLOW, Ending, OpenStream
from api.state import AppState

SUBPROTOCOL: Final = "perdure.v1"
SEND_SECONDS: Final = 10.0
"""A message that a client has not taken after so long, with the socket's buffers full, is its last."""
_CLOSE_SECONDS: Final = 3.0
_LONGEST_REASON: Final = 120
"""Bytes; a close frame has room for 123."""

Messages = Callable[[OpenStream], AsyncIterator[str]]
"""Makes the texts to send; the stream it is given says when to stop."""
Query = TypeVar("Query", bound=BaseModel)

_log = structlog.get_logger("perdure.api.streams")


class _TooSlow(Exception):
    """The client did not take a message in time."""


async def serve(
    socket: WebSocket, least: Role, prepare: Callable[[AppState, Actor], Awaitable[Messages]]
) -> None:
    """Check who asks, let `prepare` find what is wanted, then send it until either side ends it.

    What `prepare` raises is answered before the handshake, as the problem that a request would get.
    """
    state = cast(AppState, socket.state.app)
    try:
        actor = await _actor(socket, least)
        state.streams.admit(actor)
        messages = await prepare(state, actor)
    except Exception as error:  # noqa: BLE001 - raised again unless it is one that has an answer
        await refuse(socket, error)
        return
    with state.streams.open(actor) as stream, state.metrics.streams.track_inprogress():
        await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in _offered(socket) else None)
        ending = await _exchange(socket, stream, messages(stream))
        if ending is not None:
            _log.info("stream_ended", path=socket.state.path, code=ending.code, keyId=actor.key_id)
            await close_with(socket, ending)


def read_query(socket: WebSocket, model: type[Query]) -> Query:
    """Read the query of a WebSocket's address. Raises RequestValidationError, as a route would."""
    try:
        return model.model_validate(dict(socket.query_params))
    except ValidationError as error:
        faults = [{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors(include_context=False)]
        raise RequestValidationError(faults) from error


def _offered(socket: WebSocket) -> list[str]:
    return [str(name) for name in socket.scope.get("subprotocols", ())]


async def _actor(socket: WebSocket, least: Role) -> Actor:
    return await identify(socket, offered_key(socket), socket.headers.get("x-organization-id"), least)


async def refuse(socket: WebSocket, error: Exception) -> None:
    """Answer the handshake with the problem that a request would get. Raises what is none."""
    for kind in type(error).__mro__:
        handler = socket.app.exception_handlers.get(kind)
        if handler is not None:
            response: Response = await handler(socket, error)
            await socket.send_denial_response(response)
            return
    raise error


async def _exchange(socket: WebSocket, stream: OpenStream, messages: AsyncIterator[str]) -> Ending | None:
    """Send until there is an end; return it, or None when the client is gone."""
    sending = asyncio.create_task(_send(socket, messages))
    # What it sends is thrown away: these streams go one way.
    gone = asyncio.create_task(left(socket.receive))
    told = asyncio.create_task(stream.ended())
    tasks = (sending, gone, told)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if stream.ending is not None:
        return stream.ending
    fault = results[0]
    if gone.done() and not gone.cancelled():
        return None
    match fault:
        case None:
            return DONE
        case _TooSlow():
            return SLOW
        case WebSocketDisconnect() | OSError():
            return None
        case _:
            _log.error("stream_failed", exc_info=fault)
            return FAILED


async def _send(socket: WebSocket, messages: AsyncIterator[str]) -> None:
    async with aclosing(cast(AsyncGenerator[str, None], messages)):
        async for message in messages:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_text(message)
            except TimeoutError as error:
                raise _TooSlow from error


async def close_with(socket: WebSocket, ending: Ending) -> None:
    """Close a socket that may be closed already, or whose client takes nothing. Never fails."""
    if socket.application_state is not WebSocketState.CONNECTED:
        return
    # A client that takes nothing cannot be told why either: its connection is cut.
    with suppress(TimeoutError, RuntimeError, WebSocketDisconnect, OSError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await socket.close(ending.code, _fitting(ending.reason))


def _fitting(reason: str) -> str:
    """Cut a reason to the room that a close frame has."""
    return reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
