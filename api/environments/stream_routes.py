"""Streams of one environment: WebSockets, and the log's twin over SSE; that of the events is in `routes`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response, WebSocket

from activities.db.records import Actor
from api.auth import Viewer, ViewerSocket
from api.documentation import documented
from api.environments import log_stream, progress
from api.parameters import Id
from api.problems import ProblemError, ProblemField, RequestProblem
from api.sockets import Messages, read_query, serve
from api.state import AppState, State
from api.streams import answer_stream
from workflows.domain.failures import FailureKind

router = APIRouter(prefix="/v1/environments", tags=["environments"])

LastTimestamp = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=64, description="As `after`; browsers send it by themselves"),
]


@router.websocket("/{id}/progress")
async def follow_progress(socket: WebSocket, least: ViewerSocket, environment_id: Id) -> None:
    """A snapshot, then every event after `?after=`; see docs/streams.md."""

    async def prepare(state: AppState, actor: Actor) -> Messages:
        query = read_query(socket, progress.Progress)
        found = await progress.prepare(state, actor.organization_id, environment_id, query.after)
        return found.texts

    await serve(socket, least, prepare)


@router.websocket("/{id}/logstream")
async def follow_log(socket: WebSocket, least: ViewerSocket, environment_id: Id) -> None:
    """Log lines of all pods as they are written; see docs/streams.md."""

    async def prepare(state: AppState, actor: Actor) -> Messages:
        query = read_query(socket, log_stream.Following)
        found = await log_stream.prepare(state, actor.organization_id, environment_id, query)
        return found.texts

    await serve(socket, least, prepare)


@router.get(
    "/{id}/logs/stream",
    response_class=Response,
    summary="Follow the log lines of an environment's services (SSE)",
    operation_id="environments_log_stream",
    **documented(FailureKind.CLUSTER_UNAVAILABLE, FailureKind.QUOTA_EXCEEDED, stream=True),
)
async def log_lines(
    state: State,
    actor: Viewer,
    environment_id: Id,
    following: Annotated[log_stream.Following, Query()],
    last_event_id: LastTimestamp = None,
) -> Response:
    """Lines of all pods as they are written, those of new and restarted ones too; does not end by itself.

    The id of an event is its line's timestamp, its data has service, pod, container, timestamp and line. A
    resumed stream begins ten seconds before it: drop what pod, container and timestamp show to be known.
    Known secret values are replaced. As a WebSocket: `/v1/environments/{id}/logstream`, see docs/streams.md.
    """
    if last_event_id:
        following = _resumed(following, last_event_id)
    found = await log_stream.prepare(state, actor.organization_id, environment_id, following)
    return answer_stream(state, actor, found.sse)


def _resumed(following: log_stream.Following, last_event_id: str) -> log_stream.Following:
    try:
        return log_stream.Following.model_validate(
            {**following.model_dump(by_alias=True), "after": last_event_id}
        )
    except ValueError as error:
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "Last-Event-ID is the timestamp of a line.",
            errors=[ProblemField(path="header.Last-Event-ID", message="is not a time")],
        ) from error
