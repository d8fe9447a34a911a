"""From exceptions to problem answers: the one place that knows both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from activities.db.errors import (
    AlreadyEnded,
    Busy,
    CapExceeded,
    DomainError,
    IdempotencyMismatch,
    IdempotencyUsed,
    InUse,
    InvalidCursor,
    InvalidReferences,
    NameTaken,
    NotApplicable,
    NotFound,
    ReplayInvalid,
    SeedInvalid,
    SnapshotInUse,
    SnapshotUnfit,
    Unauthenticated,
    UpdateRefused,
)
from activities.secrets import SecretsError
from activities.temporal import TemporalError
from api.environments.documents import problem_field
from api.environments.shapes import field_problems
from api.methods import allowed
from api.middleware import BodyTooLarge, too_large, unforeseen
from api.problems import (
    MEDIA_TYPE,
    Extension,
    ExtensionName,
    ProblemError,
    ProblemField,
    ProblemKind,
    RequestProblem,
    not_found,
    problem_body,
)
from clusters.errors import ClusterError, Throttled
from workflows.domain.blueprint import BlueprintInvalid
from workflows.domain.failures import FailureKind

Fault = TypeVar("Fault", bound=Exception)
RETRY_SECONDS = "2"
_UNSTORABLE = frozenset({"22021", "22P05"})
"""SQLSTATEs of Postgres for text that it cannot hold."""

_log = structlog.get_logger("perdure.api")
_BY_STATUS: dict[int, ProblemKind] = {
    401: RequestProblem.UNAUTHENTICATED,
    403: FailureKind.FORBIDDEN,
    404: RequestProblem.NOT_FOUND,
    405: RequestProblem.METHOD_NOT_ALLOWED,
    408: RequestProblem.REQUEST_TIMEOUT,
    413: RequestProblem.CONTENT_TOO_LARGE,
    415: RequestProblem.UNSUPPORTED_MEDIA_TYPE,
    503: RequestProblem.UNAVAILABLE,
}


def install(app: FastAPI) -> None:
    """Register all handlers."""
    _on(app, ProblemError, lambda error, _: error)
    _on(app, DomainError, _domain)
    _on(app, BlueprintInvalid, _blueprint_invalid)
    _on(app, ClusterError, _cluster)
    _on(app, TemporalError, lambda error, _: _unavailable("Temporal does not answer.", error))
    _on(app, RequestValidationError, _request_invalid)
    _on(app, HTTPException, _http)
    _on(app, SecretsError, _unforeseen)
    for kind in (OperationalError, InterfaceError, PoolTimeout):
        _on(app, kind, _database)
    _on(app, DBAPIError, _database_fault)
    _on(app, ConnectionError, lambda error, _: _unavailable("The database does not answer.", error))


def as_problem(error: Exception) -> ProblemError:
    """Say what went wrong where there is no request to answer: on a WebSocket."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, DomainError):
        return _domain(error)
    if isinstance(error, ClusterError):
        return _cluster(error)
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout | ConnectionError):
        return _unavailable("The database does not answer.", error)
    _log.error("socket_failed", exc_info=error)
    return unforeseen()


def answer_problem(request: Request, error: ProblemError) -> Response:
    """Write a problem answer."""
    body = problem_body(error, instance=request.state.path, request_id=request.state.request_id)
    return Response(to_json(body), error.status, error.headers, MEDIA_TYPE)


def _on(app: FastAPI, kind: type[Fault], translate: Callable[[Fault, Request], ProblemError]) -> None:
    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, kind)  # noqa: S101 - Starlette calls a handler for its own kind only
        return answer_problem(request, translate(error, request))

    handler: Callable[[Request, Exception], Awaitable[Response]] = handle
    app.add_exception_handler(kind, handler)


def _domain(error: DomainError, _: Request | None = None) -> ProblemError:
    detail = f"{str(error)[:1].upper()}{str(error)[1:]}."
    kind: ProblemKind = error.kind
    status: int | None = error.http_status
    errors: list[ProblemField] = []
    match error:
        case NotFound(resource="organization"):
            # The only organisation that a request names is that of its key, in X-Organization-ID.
            return ProblemError(
                RequestProblem.NOT_FOUND, f"The API key has no organisation {error.identifier[:100]!r}."
            )
        case NotFound(resource="service" | "revision" | "checkpoint"):
            return not_found(error.resource, error.identifier, "in this environment")
        case NotFound():
            return not_found(error.resource, error.identifier)
        case Unauthenticated():
            kind = RequestProblem.UNAUTHENTICATED
        case InvalidReferences():
            detail, errors = "The Blueprint refers to what is not there.", field_problems(error.errors)
        case UpdateRefused():
            detail, errors = "The update would lose data.", field_problems(error.errors)
        case SeedInvalid():
            kind = RequestProblem.VALIDATION_FAILED
            detail, errors = "The seed cannot be run as it is.", field_problems(error.errors)
        case SnapshotUnfit():
            kind = RequestProblem.VALIDATION_FAILED
            detail, errors = "The snapshot cannot be restored so.", field_problems(error.errors)
        case ReplayInvalid():
            kind = RequestProblem.VALIDATION_FAILED
            detail, errors = "The replay cannot be run as it is asked for.", field_problems(error.errors)
        case InvalidCursor():
            kind = RequestProblem.VALIDATION_FAILED
            what = "belongs to another order or other filters" if error.foreign else "is not one"
            same = "use meta.nextCursor of the page before, with the same sort and filters"
            errors = [ProblemField(path="query.cursor", message=what, suggestion=same)]
        case IdempotencyMismatch():
            kind = RequestProblem.IDEMPOTENCY_MISMATCH
        case IdempotencyUsed():
            kind = RequestProblem.IDEMPOTENCY_USED
    return ProblemError(kind, detail, errors=errors, extensions=_extensions(error), status=status)


def _extensions(error: DomainError) -> dict[ExtensionName, Extension]:
    members: dict[ExtensionName, Extension] = {}
    match error:
        case NotApplicable():
            members = {"phase": error.phase.value}
        case Busy():
            members = {"operationId": error.operation_id, "operationKind": error.operation_kind.value}
        case AlreadyEnded():
            members = {"operationId": error.operation_id, "state": error.state.value}
        case SnapshotInUse():
            members = {"operationId": error.operation_id}
        case InUse():
            members = {"environments": list(error.users)}
        case NameTaken():
            members = {"existingId": error.existing_id}
        case CapExceeded():
            members = {"cap": error.cap, "limit": error.limit, "used": error.used, "asked": error.asked}
    return members


def _blueprint_invalid(error: BlueprintInvalid, _: Request) -> ProblemError:
    return ProblemError(
        FailureKind.BLUEPRINT_INVALID, "The Blueprint is not valid.", errors=field_problems(error.errors)
    )


def _cluster(error: ClusterError, _: Request | None = None) -> ProblemError:
    seconds = str(max(1, round(error.retry_after))) if isinstance(error, Throttled) else RETRY_SECONDS
    kind = error.kind
    if kind is FailureKind.INTERNAL:
        _log.error("cluster_fault", exc_info=error)
        return unforeseen()
    headers = {"Retry-After": seconds} if kind is FailureKind.CLUSTER_UNAVAILABLE else {}
    return ProblemError(kind, f"The cluster: {error}", headers=headers)


def _unavailable(detail: str, error: Exception) -> ProblemError:
    _log.warning("part_unavailable", detail=detail, error=type(error).__name__)
    return ProblemError(RequestProblem.UNAVAILABLE, detail, headers={"Retry-After": RETRY_SECONDS})


def _database(error: Exception, _: Request) -> ProblemError:
    return _unavailable("The database does not answer.", error)


def _database_fault(error: DBAPIError, request: Request) -> ProblemError:
    if error.connection_invalidated:
        return _database(error, request)
    if getattr(error.orig, "sqlstate", None) in _UNSTORABLE:
        return ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The request holds a character that cannot be stored, such as U+0000.",
        )
    return _unforeseen(error, request)


def _unforeseen(error: Exception, request: Request) -> ProblemError:
    _log.error("request_failed", requestId=request.state.request_id, exc_info=error)
    return unforeseen()


def _request_invalid(error: RequestValidationError, _: Request) -> ProblemError:
    errors = [problem_field(detail) for detail in error.errors()]
    return ProblemError(RequestProblem.VALIDATION_FAILED, "The request is not valid.", errors=errors)


def _http(error: HTTPException, request: Request) -> ProblemError:
    if isinstance(error, BodyTooLarge):
        return too_large(error.limit)
    kind = _BY_STATUS.get(error.status_code, RequestProblem.BAD_REQUEST)
    headers: dict[str, Any] = dict(error.headers or {})
    detail = str(error.detail)
    if kind is RequestProblem.NOT_FOUND:
        detail = f"There is nothing at {request.state.path[:200]}."
    elif kind is RequestProblem.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not possible here."
        headers["Allow"] = allowed(request)
    return ProblemError(kind, detail, headers=headers, status=error.status_code)
