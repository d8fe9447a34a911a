"""Seeds of type `http`: one request to a service, what values become in it, and what its answer means.

A value never becomes code: in the path it is percent-encoded, in a header it is a part of the header's value,
and in the body it is put into the document's strings before that is written as JSON.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote, unquote

from pydantic import JsonValue

from workflows.domain.blueprint_models import Port, Protocol, Service
from workflows.domain.errors import FieldError, Path
from workflows.domain.failures import WireModel
from workflows.domain.templates import REFERENCE, ParameterValue, filled, value_text

MOST_HEADERS: Final = 50
LONGEST_HEADER: Final = 8_192
"""Characters of a header's value, and of a path, with the values in place."""
LONGEST_BODY: Final = 256 * 1024
"""UTF-8 bytes of a body as it is written, before values are put in."""
LONGEST_SENT: Final = 1024 * 1024
"""Characters of a request with its values in place, about."""
LONGEST_ANSWER_SECONDS: Final = 120
IDEMPOTENCY_KEY: Final = "Idempotency-Key"

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_TARGET: Final = re.compile(r"/[\x21\x22\x24-\x7e]*")
"""A path with its query: printable ASCII from the root on, without a fragment."""
_MOST_BITS: Final = 4_096
"""Of a whole number: one of many thousand digits takes its time to be written, or is refused."""
_PORT_NAME: Final = re.compile(r"[a-z0-9-]{1,15}")
_OURS: Final = frozenset(
    {
        *("host", "content-length", "connection", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect", "idempotency-key"),
    }
)
"""Headers that a seed does not set: they belong to the connection, or are said by us."""


class HttpMethod(StrEnum):
    """What a seed may ask for: something that changes data."""

    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class HttpRequest(WireModel):
    """The request of a seed. It goes to the service itself: it names no host, and follows no redirect."""

    method: HttpMethod = HttpMethod.POST
    path: str
    """With its query."""
    port: int | str | None = None
    """Number or name of a declared TCP port; None: the exposed one, else the first."""
    headers: dict[str, str] = {}
    body: JsonValue = None
    """A document, sent as JSON; None: none."""
    text: str | None = None
    """A body that is sent as it is written, in UTF-8; no parameters are looked for in it."""
    expect: tuple[int, ...] = ()
    """Status codes of success; empty: every 2xx."""
    idempotent: bool | None = None
    """Whether the request twice is as good as once: the endpoint knows an Idempotency-Key again, or does what
    it did before. None: as HTTP says of the method, which is yes of PUT and DELETE."""
    timeout_seconds: int = 30
    """For the whole answer to one delivery."""

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when it is not known what became of it."""
        if self.idempotent is not None:
            return self.idempotent
        return self.method in (HttpMethod.PUT, HttpMethod.DELETE)


class Meaning(StrEnum):
    """What an answer says about the request."""

    DONE = "done"
    REFUSED = "refused"
    """It was not done, and nothing of it was done before."""
    AGAIN = "again"
    """It is not known, and the request may be sent again."""
    UNKNOWN = "unknown"
    """It may have been done, and nothing says that it may be sent again."""


def meaning(request: HttpRequest, status: int, *, sent_before: bool) -> Meaning:
    """What a status says. `sent_before`: a delivery with the same key may have arrived, with no answer known.

    Never AGAIN after a 4xx, but for one: 409 to a repeated delivery, by which an endpoint that knows keys
    says that it is still at work on the first (and others say that it has been done).
    """
    if status in request.expect or (not request.expect and 200 <= status < 300):
        return Meaning.DONE
    if 400 <= status < 500 and not sent_before:
        return Meaning.REFUSED
    if request.repeatable and (status >= 500 or status == 409):
        return Meaning.AGAIN
    return Meaning.UNKNOWN


def request_faults(
    request: HttpRequest, parameters: Mapping[str, bool], place: Path
) -> tuple[FieldError, ...]:
    """All that is wrong with a request by itself. `parameters`: by name, whether it is a secret."""
    faults = [*_path_faults(request.path, (*place, "path")), *_header_faults(request, place)]
    if request.body is not None and request.text is not None:
        faults.append(_fault((*place, "text"), "a request has one body: `body` or `text`"))
    # A database cannot hold NUL in what a package is kept as.
    for field in ("body", "text"):
        if _holds_nul(getattr(request, field)):
            faults.append(_fault((*place, field), "cannot contain a NUL character"))
    if not _is_port(request.port):
        faults.append(_fault((*place, "port"), "is the number or the name of a port"))
    unwritable = [*_unwritable(request.body, (*place, "body"))]
    faults += [_fault(where, "is a number that JSON cannot hold") for where in unwritable]
    if not unwritable and len(_written(request)) > LONGEST_BODY:
        which = "body" if request.text is None else "text"
        faults.append(_fault((*place, which), f"is longer than {LONGEST_BODY} bytes"))
    if any(not 200 <= status <= 499 for status in request.expect):
        faults.append(_fault((*place, "expect"), "a status of success is one from 200 to 499"))
    if not 1 <= request.timeout_seconds <= LONGEST_ANSWER_SECONDS:
        message = f"is a whole number from 1 to {LONGEST_ANSWER_SECONDS}"
        faults.append(_fault((*place, "timeoutSeconds"), message))
    for where, told in _filled_places(request, place):
        for name in _used(told):
            if name not in parameters:
                faults.append(_fault(where, f'no parameter is called "{name[:100]}"', "declare it"))
            elif parameters[name] and where[-1] == "path":
                message = "a secret stands in no path: applications write that into their logs"
                faults.append(_fault(where, message, "put it into a header or the body"))
    return tuple(faults)


def value_faults(request: HttpRequest, values: Mapping[str, ParameterValue]) -> tuple[FieldError, ...]:
    """What is wrong with plain values in their places; those of secrets are known in the cluster alone."""
    faults: list[FieldError] = []
    target = _target(request.path, values)
    if _climbs(target):
        faults.append(_fault(("http", "path"), "its values make `.` or `..` a part of the path"))
    if len(target) > LONGEST_HEADER:
        faults.append(_fault(("http", "path"), f"is longer than {LONGEST_HEADER} characters with its values"))
    if _grown(request, values) > LONGEST_SENT:
        faults.append(_fault(("http", "body"), f"is longer than {LONGEST_SENT} characters with its values"))
    for name, told in request.headers.items():
        for each in _used(told):
            if each in values and not _VALUE.fullmatch(value_text(values[each])):
                message = f"the header {name} takes printable ASCII"
                faults.append(_fault(("parameters", each), message))
    return tuple(faults)


def tcp_port(service: Service, wanted: int | str | None) -> Port | None:
    """The declared TCP port that a request goes to; None when the service, as it runs, declares no such."""
    ports = [port for port in service.ports if port.protocol is Protocol.TCP]
    if wanted is None:
        exposed = service.exposed_port
        return exposed if exposed in ports else next(iter(ports), None)
    return next((port for port in ports if wanted in (port.container_port, port.name)), None)


def delivery_key(run_key: str, operation_id: str) -> str:
    """The Idempotency-Key of a run that an operation begins, a UUID: the same for each of its deliveries."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"perdure:{run_key}/{operation_id}"))


class ValueUnfit(ValueError):
    """A secret's value cannot stand where it was to be put; the message does not repeat it."""


@dataclass(frozen=True, slots=True)
class FilledRequest:
    """A request as it is sent."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def fill_request(
    request: HttpRequest,
    values: Mapping[str, ParameterValue],
    secrets: Mapping[str, str],
    *,
    host: str,
    key: str,
) -> FilledRequest:
    """Put values in the place of parameters. `secrets`: by parameter, the value itself.

    Raises ValueUnfit for a secret that no header can hold. KeyError for a parameter that is in neither.
    """
    all_values: dict[str, ParameterValue] = {**values, **secrets}
    if _grown(request, all_values) > LONGEST_SENT:
        raise ValueUnfit(f"with its secrets it is longer than {LONGEST_SENT} characters")
    headers: dict[str, str] = {}
    for name, told in request.headers.items():
        for each in _used(told):
            if each in secrets and not _VALUE.fullmatch(secrets[each]):
                message = f"{each} is not printable ASCII, as the header {name} has to be"
                raise ValueUnfit(f"the secret of its parameter {message}")
        # Spaces around a value are none of it, and cannot be sent.
        headers[name.lower()] = _put(told, all_values).strip(" ")
    body = _body(request, all_values)
    if body is not None:
        kind = "application/json" if request.text is None else "text/plain; charset=utf-8"
        headers.setdefault("content-type", kind)
    headers.setdefault("accept", "*/*")
    headers.setdefault("user-agent", "perdure-seed")
    headers |= {
        "host": host,
        "content-length": str(len(body or b"")),
        "connection": "close",
        IDEMPOTENCY_KEY.lower(): key,
    }
    return FilledRequest(
        method=str(request.method),
        target=_target(request.path, values).encode("ascii"),
        headers=tuple((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()),
        body=body or b"",
    )


def _body(request: HttpRequest, values: Mapping[str, ParameterValue]) -> bytes | None:
    if request.text is not None:
        return request.text.encode()
    return None if request.body is None else _json(filled(request.body, values))


def _written(request: HttpRequest) -> bytes:
    if request.text is not None:
        return request.text.encode()
    return b"" if request.body is None else _json(request.body)


def _json(value: JsonValue) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _target(path: str, values: Mapping[str, ParameterValue]) -> str:
    """The path with its values percent-encoded; one that is no plain value is left out."""

    def put(match: re.Match[str]) -> str:
        if match[1]:
            return quote(match[0][1:], safe="")
        return quote(value_text(values.get(match[2], "")), safe="")

    return REFERENCE.sub(put, path)


def _path_faults(path: str, place: Path) -> list[FieldError]:
    bare = REFERENCE.sub("x", path)
    if not _TARGET.fullmatch(bare):
        message = "begins with / and is printable ASCII without spaces and #"
        return [_fault(place, message, "percent-encode other characters")]
    if _climbs(bare):
        return [_fault(place, "has no part that is . or ..")]
    return (
        [_fault(place, f"is longer than {LONGEST_HEADER} characters")] if len(path) > LONGEST_HEADER else []
    )


def _climbs(target: str) -> bool:
    """Whether a part of the path (not its query) is `.` or `..`: servers would leave the path by it."""
    parts = unquote(target.partition("?")[0]).replace("\\", "/").split("/")
    return "." in parts or ".." in parts


def _header_faults(request: HttpRequest, place: Path) -> list[FieldError]:
    faults: list[FieldError] = []
    if len(request.headers) > MOST_HEADERS:
        faults.append(_fault((*place, "headers"), f"has more than {MOST_HEADERS} headers"))
    seen: set[str] = set()
    for name, value in request.headers.items():
        where: Path = (*place, "headers", name[:100])
        if not _TOKEN.fullmatch(name) or len(name) > 100:
            faults.append(_fault(where, "is no name of a header"))
        if name.lower() in _OURS:
            faults.append(_fault(where, "is not set by a seed: it belongs to the connection"))
        if name.lower() in seen:
            faults.append(_fault(where, "stands there twice: names of headers have no case"))
        seen.add(name.lower())
        if not _VALUE.fullmatch(value) or len(value) > LONGEST_HEADER:
            faults.append(
                _fault(where, f"has a value of at most {LONGEST_HEADER} printable ASCII characters")
            )
    return faults


def _filled_places(request: HttpRequest, place: Path) -> Iterator[tuple[Path, str]]:
    """Every text in which parameters stand, with its place."""
    yield (*place, "path"), request.path
    for name, value in request.headers.items():
        yield (*place, "headers", name), value
    yield from ((where, told) for where, told in _texts(request.body, (*place, "body")))


def _used(text: str) -> list[str]:
    return sorted({match[2] for match in REFERENCE.finditer(text) if not match[1]})


def _put(text: str, values: Mapping[str, ParameterValue]) -> str:
    return REFERENCE.sub(lambda match: match[0][1:] if match[1] else value_text(values[match[2]]), text)


def _grown(request: HttpRequest, values: Mapping[str, ParameterValue]) -> int:
    """About how many characters the request has with these values, which are not put in for that."""
    sizes = {name: len(value_text(value)) for name, value in values.items()}
    return len(_written(request)) + sum(
        sizes.get(match[2], 0)
        for _, told in _filled_places(request, ())
        for match in REFERENCE.finditer(told)
        if not match[1]
    )


def _texts(value: JsonValue, place: Path) -> Iterator[tuple[Path, str]]:
    """Every text of a document, keys left aside, with where it stands."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _texts(child, (*place, key[:100]))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*place, index))
    elif isinstance(value, str):
        yield place, value


def _unwritable(value: JsonValue, place: Path) -> Iterator[Path]:
    """Where numbers stand that are read (`1e400`, YAML's `.nan`) and cannot be written again."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _unwritable(child, (*place, key[:100]))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unwritable(item, (*place, index))
    elif not (math.isfinite(value) if isinstance(value, float) else _is_short(value)):
        yield place


def _is_short(value: JsonValue) -> bool:
    return not isinstance(value, int) or value.bit_length() <= _MOST_BITS


def _holds_nul(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(child) for key, child in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def _is_port(port: int | str | None) -> bool:
    if isinstance(port, str):
        return _PORT_NAME.fullmatch(port) is not None
    return port is None or 1 <= port <= 65_535


def _fault(path: Path, message: str, suggestion: str | None = None) -> FieldError:
    return FieldError(path=path, message=message, suggestion=suggestion)
