"""The codec endpoint of the Temporal UI: payloads in and out, for people who may see them.

Protocol: https://docs.temporal.io/codec-server : a POST with `{"payloads": [...]}` in protobuf's JSON form.
Summaries and details of workflows are payloads like all others, and pass through here too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fastapi import APIRouter, Request, Response
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from activities.payload_codec import EncryptingCodec, PayloadUndecodable
from api.auth import Admin
from api.bodies import read_document
from api.documentation import NOTHING, documented
from api.problems import ProblemError, ProblemField, RequestProblem
from api.state import AppState, State

router = APIRouter(prefix="/v1/codec", tags=["codec"])

_EXAMPLE: Final = {
    "payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "eyJvcGVyYXRpb25JZCI6Im9wXzAxIn0="}]
}
_BODY: Final = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object", "description": "Payloads in protobuf's JSON form"},
            "examples": {"payload": {"value": _EXAMPLE}},
        }
    },
}
_ANSWER: Final = {"description": "The payloads, in the same order", "content": {"application/json": {}}}


@router.post(
    "/encode",
    response_class=Response,
    summary="Encrypt payloads",
    operation_id="codec_encode",
    **documented(body=_BODY, ok=_ANSWER, audit=NOTHING),
)
async def encode(request: Request, state: State, _: Admin) -> Response:
    """Under the current key; unchanged while encryption is off."""
    return await _converted(request, state, lambda codec: codec.encode)


@router.post(
    "/decode",
    response_class=Response,
    summary="Decrypt payloads",
    operation_id="codec_decode",
    **documented(body=_BODY, ok=_ANSWER, audit=NOTHING),
)
async def decode(request: Request, state: State, _: Admin) -> Response:
    """What is not encrypted comes back as it is."""
    return await _converted(request, state, lambda codec: codec.decode)


Direction = Callable[[EncryptingCodec], Callable[[Sequence[Payload]], Awaitable[list[Payload]]]]


async def _converted(request: Request, state: AppState, direction: Direction) -> Response:
    payloads = await _read(request)
    if state.codec is not None:
        convert = direction(EncryptingCodec(state.codec))
        try:
            payloads = Payloads(payloads=await convert(payloads.payloads))
        except PayloadUndecodable as error:
            raise _invalid(str(error)) from error
    return Response(json_format.MessageToJson(payloads), media_type="application/json")


async def _read(request: Request) -> Payloads:
    body = await read_document(request, allow_yaml=False)
    if not isinstance(body, dict):
        raise _invalid("the body is an object with `payloads`")
    try:
        return json_format.ParseDict(body, Payloads())
    except json_format.ParseError as error:
        raise _invalid("the payloads are not in protobuf's JSON form") from error


def _invalid(message: str) -> ProblemError:
    return ProblemError(
        RequestProblem.VALIDATION_FAILED,
        "The payloads cannot be converted.",
        errors=[ProblemField(path="payloads", message=message)],
    )
