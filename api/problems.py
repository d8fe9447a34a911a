"""Problem details (RFC 9457): every answer that is not a success has this one shape.

`code` is what callers branch on: a failure kind of `workflows.domain.failures`, or a kind of this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from workflows.domain.failures import FAILURES, FailureKind

MEDIA_TYPE: Final = "application/problem+json"


class RequestProblem(StrEnum):
    """What can be wrong with a request, beside the failure kinds."""

    MALFORMED_BODY = "malformed_body"
    VALIDATION_FAILED = "validation_failed"
    UNAUTHENTICATED = "unauthenticated"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONTENT_TOO_LARGE = "content_too_large"
    HEAD_TOO_LARGE = "head_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    PRECONDITION_FAILED = "precondition_failed"
    RATE_LIMITED = "rate_limited"
    REQUEST_TIMEOUT = "request_timeout"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_USED = "idempotency_used"
    NOT_SUPPORTED = "not_supported"
    UNAVAILABLE = "unavailable"
    BAD_REQUEST = "bad_request"
    PREFLIGHT_REFUSED = "preflight_refused"
    PIN_REQUIRED = "pin_required"
    PIN_LOCKED = "pin_locked"
    SERVICE_NOT_READY = "service_not_ready"
    WAKING = "waking"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_TIMEOUT = "upstream_timeout"


ProblemKind = RequestProblem | FailureKind
Extension = str | int | list[str]
"""What a further member of a problem holds."""
ExtensionName = Literal[
    "asked",
    "cap",
    "column",
    "environments",
    "existingId",
    "limit",
    "line",
    "operationId",
    "operationKind",
    "phase",
    "reason",
    "requiredRole",
    "state",
    "used",
    "version",
]


@dataclass(frozen=True, slots=True)
class ProblemTraits:
    """What a kind means: status of the answer, its title, and what the caller can do."""

    status: int
    title: str
    help: str


EXTENSIONS: Final[Mapping[ExtensionName, str]] = {
    "asked": "How much was asked for, of what has a cap",
    "cap": "Which cap is in the way",
    "column": "Where a document cannot be read",
    "environments": "Ids of the environments that use it",
    "existingId": "What has the name already",
    "limit": "How much the cap allows",
    "line": "Where a document cannot be read",
    "operationId": "The operation that is in the way, or is waited for",
    "operationKind": "Its kind",
    "phase": "The environment's, in which this cannot be done",
    "reason": "Why the service is not ready",
    "requiredRole": "The least role that may do this",
    "state": "How the operation ended",
    "used": "How much of the cap is used",
    "version": "The environment's version as it is now",
}
"""Further members of problems; none is called like a member that all have, which would hide it."""
_NUMBERS: Final[tuple[ExtensionName, ...]] = ("asked", "column", "limit", "line", "used", "version")

_REQUEST_PROBLEMS: Final[Mapping[RequestProblem, ProblemTraits]] = {
    RequestProblem.MALFORMED_BODY: ProblemTraits(
        400, "The body cannot be read", "`detail` names line and column. Correct the document's syntax."
    ),
    RequestProblem.VALIDATION_FAILED: ProblemTraits(
        422, "The request is not valid", "`errors` lists every field that has to change."
    ),
    RequestProblem.UNAUTHENTICATED: ProblemTraits(
        401, "No valid API key", "Send `Authorization: Bearer pdr_...` with a key that is not revoked."
    ),
    RequestProblem.NOT_FOUND: ProblemTraits(
        404, "Not found", "There is no such thing, or it belongs to another organisation."
    ),
    RequestProblem.METHOD_NOT_ALLOWED: ProblemTraits(
        405, "Method not allowed", "`Allow` names the methods of this address."
    ),
    RequestProblem.CONTENT_TOO_LARGE: ProblemTraits(
        413,
        "The body is too large",
        "Send less: bodies are limited to 4 MiB unless the operator chose otherwise.",
    ),
    RequestProblem.HEAD_TOO_LARGE: ProblemTraits(
        431,
        "The head of the request is too large",
        "Send less in its headers and its address: 64 KiB at most.",
    ),
    RequestProblem.UNSUPPORTED_MEDIA_TYPE: ProblemTraits(
        415,
        "Unsupported media type",
        "Send JSON (`application/json`) or, for Blueprints, `application/yaml`.",
    ),
    RequestProblem.PRECONDITION_FAILED: ProblemTraits(
        412, "Changed since it was read", "Read it again and repeat the change on what it is now."
    ),
    RequestProblem.RATE_LIMITED: ProblemTraits(
        429, "Too many requests", "Wait for the seconds in `Retry-After`; `RateLimit` says what is left."
    ),
    RequestProblem.REQUEST_TIMEOUT: ProblemTraits(
        408, "The request did not come in time", "Send the request again, faster; nothing was done."
    ),
    RequestProblem.IDEMPOTENCY_MISMATCH: ProblemTraits(
        422,
        "The idempotency key was used for another request",
        "Use a new `Idempotency-Key` for a new request.",
    ),
    RequestProblem.IDEMPOTENCY_USED: ProblemTraits(
        409,
        "The same request was done before",
        "Its answer held a secret, which is told once and not kept. If that answer was lost, revoke what the "
        "request made (the list shows it) and ask anew with a new `Idempotency-Key`.",
    ),
    RequestProblem.NOT_SUPPORTED: ProblemTraits(422, "Not available in this version", "Leave the field out."),
    RequestProblem.UNAVAILABLE: ProblemTraits(
        503, "A part of Perdure does not answer", "Try again after the seconds in `Retry-After`."
    ),
    RequestProblem.BAD_REQUEST: ProblemTraits(
        400, "Bad request", "The request is not valid HTTP for this address."
    ),
    RequestProblem.PREFLIGHT_REFUSED: ProblemTraits(
        400,
        "A page of this origin may not send such a request",
        "The operator names the origins in `PERDURE_CORS_ORIGINS`; `Access-Control-Allow-Methods` and "
        "`Access-Control-Allow-Headers` of this answer say what pages of these may send.",
    ),
    RequestProblem.PIN_REQUIRED: ProblemTraits(
        401, "The link takes a PIN", "Send the PIN that came with the link, in the header `X-Share-PIN`."
    ),
    RequestProblem.PIN_LOCKED: ProblemTraits(
        429,
        "Too many wrong PINs",
        "None is taken until the seconds in `Retry-After` are over. Whoever made the link can make another.",
    ),
    RequestProblem.SERVICE_NOT_READY: ProblemTraits(
        503,
        "No pod of the service is ready",
        "`perdure env status` shows what its pods wait for; the request did not reach the application.",
    ),
    RequestProblem.WAKING: ProblemTraits(
        503,
        "The environment is waking up",
        "It was asleep, as nobody used it. Repeat the request after the seconds in `Retry-After`; "
        "`operationId` is the operation that it waits for.",
    ),
    RequestProblem.UPSTREAM_FAILED: ProblemTraits(
        502,
        "The application broke the connection off",
        "It refused the connection, closed it before an answer, or answered what is no HTTP. See its log.",
    ),
    RequestProblem.UPSTREAM_TIMEOUT: ProblemTraits(
        504,
        "The application does not answer",
        "No answer began in time. The application may still be working on the request.",
    ),
}


def traits(kind: ProblemKind) -> ProblemTraits:
    """What a kind means; failure kinds take status and help from the one table of failures."""
    if isinstance(kind, RequestProblem):
        return _REQUEST_PROBLEMS[kind]
    failure = FAILURES[kind]
    return ProblemTraits(failure.http_status, kind.value.replace("_", " ").capitalize(), failure.help)


def all_kinds() -> tuple[ProblemKind, ...]:
    """Every kind that an answer can bear, for the pages that explain them."""
    return (*RequestProblem, *FailureKind)


def _extensions() -> dict[str, JsonValue]:
    """The schema of what a problem may have beside its own members."""
    types: dict[ExtensionName, dict[str, JsonValue]] = {
        "environments": {"type": "array", "items": {"type": "string"}}
    }
    for name in _NUMBERS:
        types[name] = {"type": "integer"}
    return {
        name: {"description": text, **types.get(name, {"type": "string"})}
        for name, text in EXTENSIONS.items()
    }


class _Wire(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, frozen=True
    )


class ProblemField(_Wire):
    """One fault of a request: its place, what is wrong, and what to write instead when that is known."""

    path: str = Field(description="Place in the document or request; empty: the document itself")
    message: str
    suggestion: str | None = None
    code: str | None = None


class Problem(_Wire):
    """RFC 9457 problem details, with further members by kind of problem."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema["properties"].update(_extensions()))

    type: str = Field(
        description="Address of a page about this kind, relative to the API", examples=["/problems/not_found"]
    )
    title: str
    status: int
    detail: str
    instance: str = Field(description="Path of the request")
    code: str = Field(description="What to branch on", examples=["not_found"])
    request_id: str
    errors: tuple[ProblemField, ...] = ()


class ProblemError(Exception):
    """Ends a request with a problem answer.

    `extensions` are further members (the id of the operation that is in the way); `headers` go out with it.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        errors: Sequence[ProblemField] = (),
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[ExtensionName, Extension] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})
        self.status = status if status is not None else traits(kind).status


def problem_body(error: ProblemError, *, instance: str, request_id: str) -> dict[str, Any]:
    """The JSON members of a problem answer; `errors` is left out when there are none."""
    problem = Problem(
        type=f"/problems/{error.kind.value}",
        title=traits(error.kind).title,
        status=error.status,
        detail=error.detail,
        instance=instance,
        code=error.kind.value,
        request_id=request_id,
        errors=error.errors,
    )
    body: dict[str, Any] = {str(name): value for name, value in error.extensions.items()}
    body |= problem.model_dump(exclude_none=True)
    if not error.errors:
        del body["errors"]
    return body


def not_found(what: str, identifier: str, where: str = "in this organisation") -> ProblemError:
    """The one answer for ids that do not exist and ids of other organisations."""
    return ProblemError(RequestProblem.NOT_FOUND, f"There is no {what} {identifier[:100]!r} {where}.")


def responses(*kinds: ProblemKind) -> dict[int | str, dict[str, Any]]:
    """Declare a route's problem answers for OpenAPI, one entry per status."""
    by_status: dict[int, list[ProblemKind]] = {}
    for kind in kinds:
        by_status.setdefault(traits(kind).status, []).append(kind)
    return {
        status: {
            "description": "; ".join(f"`{kind.value}`: {traits(kind).title}" for kind in entry),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": _example(entry[0]),
                }
            },
        }
        for status, entry in sorted(by_status.items())
    }


def _example(kind: ProblemKind) -> dict[str, Any]:
    error = ProblemError(kind, traits(kind).help)
    return problem_body(error, instance="/v1/environments", request_id="req_01JZX5Q0V6H2M9K4T7B3C8D1EF")


def reason(status: int) -> str:
    """The reason phrase of a status; a word for those that have none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
