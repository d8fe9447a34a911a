"""Event streams over HTTP (SSE): where they begin, and how they go out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import Header, Query, Response
from starlette.responses import StreamingResponse

from activities.db.records import Actor, EventRecord
from api.events import stream
from api.open_streams import OpenStream
from api.problems import ProblemError, ProblemField, RequestProblem
from api.state import AppState

LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Number of the last event that was received")
]
After = Annotated[
    int | None, Query(ge=0, le=2**53 - 1, description="The same, for clients that cannot set headers")
]


def start_after(last_event_id: str | None, after: int | None) -> int:
    """The number to go on from; the header wins: browsers set it as they reconnect. Raises ProblemError."""
    if last_event_id is None or last_event_id == "":
        return after or 0
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16:
        return int(last_event_id)
    raise ProblemError(
        RequestProblem.VALIDATION_FAILED,
        "Last-Event-ID is the number of an event.",
        errors=[ProblemField(path="header.Last-Event-ID", message="is not a number")],
    )


def event_stream(
    state: AppState,
    actor: Actor,
    environment_id: str,
    after: int,
    *,
    wanted: Callable[[EventRecord], bool],
    last: Callable[[EventRecord], bool],
    known: int,
    ends_there: bool = False,
) -> Response:
    """Answer with an environment's events, from those that `wanted` picks to the one that `last` picks.

    `known`: number of the environment's last event. `ends_there`: there is nothing to come after it, so that
    a reader which has it gets the end at once.
    """

    def body(opened: OpenStream) -> AsyncIterator[bytes]:
        return stream(
            state.tail,
            actor.organization_id,
            environment_id,
            after,
            open_stream=opened,
            wanted=wanted,
            last=last,
            known=known,
            ends_there=ends_there,
        )

    return answer_stream(state, actor, body)


def answer_stream(
    state: AppState, actor: Actor, body: Callable[[OpenStream], AsyncIterator[bytes]]
) -> Response:
    """Answer with a stream, counted among those of the actor's key. Raises ProblemError at its limit."""
    state.streams.admit(actor)
    return StreamingResponse(
        _counted(state, actor, body),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _counted(
    state: AppState, actor: Actor, body: Callable[[OpenStream], AsyncIterator[bytes]]
) -> AsyncIterator[bytes]:
    with state.streams.open(actor) as opened, state.metrics.streams.track_inprogress():
        async for part in body(opened):
            yield part
