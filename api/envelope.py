"""The shape of every success: `{"data": ..., "meta": {...}}`, written once and not validated twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

Content = TypeVar("Content")
_JSON: Final = "application/json"


class ApiModel(BaseModel):
    """Base of what the API answers: camelCase, optional fields left out when they are None."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, frozen=True
    )


class ApiInput(BaseModel):
    """Base of what the API is sent: camelCase, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")


class Meta(ApiModel):
    """About the answer itself."""

    request_id: str = Field(examples=["req_01JZX5Q0V6H2M9K4T7B3C8D1EF"])
    timestamp: datetime
    signature_verified: bool = Field(description="Whether the request bore a signature that was checked")


class ListMeta(Meta):
    """About a page of a list."""

    next_cursor: str | None = Field(
        default=None, description="Give it as `cursor` for the next page; absent on the last"
    )


class Envelope(ApiModel, Generic[Content]):
    """A success."""

    data: Content
    meta: Meta


class ListEnvelope(ApiModel, Generic[Content]):
    """A page of a list."""

    data: list[Content]
    meta: ListMeta


def request_id(request: Request) -> str:
    """The id under which this request is logged."""
    identifier: str = request.state.request_id
    return identifier


def _meta(request: Request, extra: str = "") -> str:
    # Ids are made or checked by us, so that they need no escaping.
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f'{{"requestId":"{request_id(request)}","timestamp":"{now}","signatureVerified":false{extra}}}'


def enveloped(request: Request, data: BaseModel) -> bytes:
    """Write a success as JSON."""
    return f'{{"data":{data.model_dump_json(exclude_none=True)},"meta":{_meta(request)}}}'.encode()


def answer(
    request: Request, data: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with one thing."""
    return Response(enveloped(request, data), status, headers, _JSON)


def answer_stored(
    request: Request, data: Mapping[str, JsonValue], *, status: int, headers: Mapping[str, str]
) -> Response:
    """Give a first answer again, under this request's id."""
    body = b'{"data":%b,"meta":%b}' % (to_json(data), _meta(request).encode())
    return Response(body, status, {**headers, "Idempotency-Replayed": "true"}, _JSON)


def answer_list(request: Request, items: Sequence[BaseModel], next_cursor: str | None = None) -> Response:
    """Answer with a page of a list."""
    data = ",".join(item.model_dump_json(exclude_none=True) for item in items)
    extra = "" if next_cursor is None else f',"nextCursor":{to_json(next_cursor).decode()}'
    return Response(f'{{"data":[{data}],"meta":{_meta(request, extra)}}}', 200, None, _JSON)
