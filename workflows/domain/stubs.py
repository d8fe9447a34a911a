"""Stub definitions: routes with canned answers, from an OpenAPI document or from recorded requests.

The same input gives the same definition, byte by byte. What no answer could be made of is listed, never left
out in silence. The stub server (devcluster/images/stub) tries the routes in their order here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue

from workflows.domain.errors import Path, render_path
from workflows.domain.json_reading import mapping, text

MOST_ROUTES: Final = 1_000
MOST_BYTES: Final = 512 * 1024
"""Of a whole definition: it becomes a file in a ConfigMap."""
DEFINITION_FILE: Final = "stub.json"
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_LONGEST: Final = 1_000
_QUOTED: Final = 100
_DEEPEST: Final = 8
_MOST_VALUES: Final = 400
_PARAMETER: Final = re.compile(r"\{[^{}/]+\}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HOP: Final = frozenset(
    {"connection", "content-length", "content-encoding", "keep-alive", "transfer-encoding", "upgrade", "date"}
)
_FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "user@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "byte": "ZXhhbXBsZQ==",
}


class StubRoute(BaseModel):
    """One canned answer; `path` has `{name}` for a segment, `query` are parameters that have to be there."""

    model_config = ConfigDict(frozen=True)

    method: str
    path: str
    query: dict[str, str] = {}
    status: int
    headers: dict[str, str] = {}
    body: str = ""


class StubNote(BaseModel):
    """Something of the input that the stub does not do, and why."""

    model_config = ConfigDict(frozen=True)

    path: str
    reason: str


class Recorded(BaseModel):
    """One recorded request with its answer; `path` may have a query."""

    model_config = ConfigDict(frozen=True)

    method: str
    path: str
    status: int
    headers: dict[str, str] = {}
    body: JsonValue = None


class StubDefinition(BaseModel):
    """What the stub server reads, and what it could not be given."""

    model_config = ConfigDict(frozen=True)

    port: int
    routes: tuple[StubRoute, ...]
    unsupported: tuple[StubNote, ...] = ()

    def rendered(self) -> str:
        """The file that the server reads."""
        routes = [route.model_dump() for route in self.routes]
        return json.dumps({"port": self.port, "routes": routes}, ensure_ascii=False, indent=1)


class StubInvalid(ValueError):
    """Nothing can be made of the input."""


@dataclass(slots=True)
class _Account:
    notes: list[StubNote] = field(default_factory=list)

    def refuse(self, path: Path, reason: str) -> None:
        self.notes.append(StubNote(path=render_path(path), reason=reason))


@dataclass(slots=True)
class _Making:
    """Making what stands at one place of a document; each thing that is not understood is noted once."""

    document: JsonValue
    account: _Account
    place: Path
    left: int = _MOST_VALUES
    noted: set[str] = field(default_factory=set)

    def note(self, reason: str) -> None:
        if reason not in self.noted:
            self.noted.add(reason)
            self.account.refuse(self.place, reason)

    def resolved(self, value: JsonValue) -> JsonValue:
        """What a local `$ref` names; None, which is noted, for one that cannot be followed."""
        found = _resolved(self.document, value)
        if found is None and isinstance(value, dict):
            self.note(f"{text(value, '$ref')[:_QUOTED]} leads out of the document, nowhere or in a circle")
        return found


def plain(value: object) -> JsonValue:
    """A document as JSON has it: `200:` is the key "200", a date is its text, half a character is `?`."""
    if isinstance(value, Mapping):
        return {_plain_text(key): plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    return _plain_text(value)


def _plain_text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


def from_openapi(document: object, *, port: int) -> StubDefinition:
    """A route for each operation, with its first success as the answer. Raises StubInvalid."""
    document = plain(document)
    if not isinstance(document, dict):
        raise StubInvalid("an OpenAPI document is a mapping")
    version = document.get("openapi")
    if not isinstance(version, str) or not version.startswith(("3.0", "3.1")):
        raise StubInvalid("this is no OpenAPI document of version 3.0 or 3.1: its `openapi` does not say so")
    paths = mapping(document, "paths")
    account, routes = _Account(), []
    prefix = _prefix(document)
    for path, item in paths.items():
        if not path.startswith("/"):
            account.refuse(("paths", path), "a path begins with /")
            continue
        found = _Making(document, account, ("paths", path)).resolved(item)
        operations = found if isinstance(found, dict) else {}
        for method in operations:
            if method not in _METHODS:
                if method not in ("parameters", "summary", "description", "servers") and method[:2] != "x-":
                    account.refuse(("paths", path, method), "is no method")
                continue
            route = _operation(document, prefix, path, method, operations[method], account)
            if route is not None:
                routes.append(route)
    return _definition(routes, port, account)


def from_recordings(recordings: Sequence[Recorded], *, port: int) -> StubDefinition:
    """A route for each recorded request; of those that are alike the last. Raises StubInvalid."""
    account = _Account()
    found: dict[tuple[str, str, tuple[tuple[str, str], ...]], StubRoute] = {}
    for index, written in enumerate(recordings):
        recorded = Recorded.model_validate(plain(written.model_dump()))
        path, _, raw = recorded.path.partition("?")
        pairs = [part.partition("=") for part in raw.split("&") if part]
        query = {_decoded(name): _decoded(value) for name, _, value in pairs}
        if not path.startswith("/"):
            account.refuse(("examples", index, "path"), "a path begins with /")
            continue
        headers = _headers(recorded.headers, ("examples", index, "headers"), account)
        body = "" if recorded.body is None else recorded.body
        if not isinstance(body, str):
            body = json.dumps(body, ensure_ascii=False)
            if not any(name.lower() == "content-type" for name in headers):
                headers = {"Content-Type": "application/json", **headers}
        key = (recorded.method.upper(), path, tuple(sorted(query.items())))
        if key in found:
            account.refuse(
                ("examples", index), "the same request as an earlier one: this answer takes its place"
            )
        found[key] = StubRoute(
            method=key[0], path=path, query=query, status=recorded.status, headers=headers, body=body
        )
    return _definition(list(found.values()), port, account)


def _definition(routes: list[StubRoute], port: int, account: _Account) -> StubDefinition:
    if not routes:
        raise StubInvalid("there is no request in it that a stub could answer")
    if len(routes) > MOST_ROUTES:
        raise StubInvalid(f"it has {len(routes)} routes; a stub has at most {MOST_ROUTES}")
    # What is more particular is asked first: words before parameters, wanted queries before none.
    routes.sort(key=lambda route: (_shape(route.path), -len(route.query), route.path, route.method))
    definition = StubDefinition(port=port, routes=tuple(routes), unsupported=tuple(account.notes))
    if len(definition.rendered().encode()) > MOST_BYTES:
        raise StubInvalid(f"its answers are larger than {MOST_BYTES // 1024} KiB together")
    return definition


def _shape(path: str) -> tuple[bool, ...]:
    return tuple(segment.startswith("{") for segment in path.strip("/").split("/"))


def _operation(
    document: JsonValue, prefix: str, path: str, method: str, operation: JsonValue, account: _Account
) -> StubRoute | None:
    place: Path = ("paths", path, method)
    if any(_PARAMETER.search(segment) and not _PARAMETER.fullmatch(segment) for segment in path.split("/")):
        account.refuse(place, "a parameter that is only a part of a segment is not understood")
        return None
    responses = mapping(operation, "responses")
    code = _success(responses)
    if code is None:
        account.refuse(place, "it declares no answer")
        return None
    place = (*place, "responses", code)
    response = _Making(document, account, place).resolved(responses[code])
    status = 200 if code == "default" else int(code[0] + "00" if code.upper().endswith("XX") else code)
    headers: dict[str, str] = {}
    for name, header in mapping(response, "headers").items():
        making = _Making(document, account, (*place, "headers", name))
        value = _example(making, making.resolved(header))
        if not isinstance(value, dict | list) and value is not None:
            headers[name] = _word(value)
    headers = _headers(headers, (*place, "headers"), account)
    content = mapping(response, "content")
    body = ""
    if content:
        kind = next((each for each in content if "json" in each), next(iter(content)))
        body = _body(_Making(document, account, (*place, "content", kind)), kind, content[kind])
        headers = {
            "Content-Type": kind,
            **{key: value for key, value in headers.items() if key.lower() != "content-type"},
        }
    return StubRoute(method=method.upper(), path=prefix + path, status=status, headers=headers, body=body)


def _success(responses: Mapping[str, JsonValue]) -> str | None:
    codes = sorted(code for code in responses if re.fullmatch(r"[1-5]([0-9]{2}|XX|xx)", code))
    good = [code for code in codes if code.startswith("2")]
    if good:
        return good[0]
    return "default" if "default" in responses else next(iter(codes), None)


def _body(making: _Making, kind: str, media: JsonValue) -> str:
    value = _example(making, media)
    if "json" in kind:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict | list):
        making.note("a body of this type is not made from a schema; it is empty")
        return ""
    return "" if value is None else _word(value)


def _example(making: _Making, carrier: JsonValue) -> JsonValue:
    """The example that stands at a media type, header or schema; else one made from the schema."""
    if not isinstance(carrier, dict):
        return None
    if "example" in carrier:
        return carrier["example"]
    examples = carrier.get("examples")
    if isinstance(examples, dict) and examples:
        first = making.resolved(next(iter(examples.values())))
        if isinstance(first, dict) and "value" in first:
            return first["value"]
    return _sample(making, carrier.get("schema"), 0)


def _sample(making: _Making, schema: JsonValue, depth: int) -> JsonValue:  # noqa: PLR0911, PLR0912 - a table
    schema = making.resolved(schema)
    making.left -= 1
    if not isinstance(schema, dict):
        return None
    if depth > _DEEPEST or making.left < 0:
        making.note(f"deeper than {_DEEPEST} levels or more than {_MOST_VALUES} values: the rest is null")
        return None
    for key in ("example", "const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        listed = schema.get(key)
        if isinstance(listed, list) and listed:
            return listed[0]
    for key in ("oneOf", "anyOf"):
        listed = schema.get(key)
        if isinstance(listed, list) and listed:
            return _sample(making, listed[0], depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    parts = schema.get("allOf")
    if kind == "object" or "properties" in schema or isinstance(parts, list):
        made: dict[str, JsonValue] = {}
        for part in parts if isinstance(parts, list) else ():
            value = _sample(making, part, depth + 1)
            if not isinstance(value, dict):
                return value
            made |= value
        for name, child in mapping(schema, "properties").items():
            if not (isinstance(child, dict) and child.get("writeOnly") is True):
                made[name] = _sample(making, child, depth + 1)
        return made
    if kind == "array":
        if (least := schema.get("minItems")) and isinstance(least, int) and least > 1:
            making.note(f"minItems {least}: one item is made")
        return [_sample(making, schema.get("items"), depth + 1)] if schema.get("items") else []
    if kind in ("integer", "number"):
        least = schema.get("minimum")
        return least if isinstance(least, int | float) and not isinstance(least, bool) else 0
    if kind == "boolean":
        return True
    if kind == "string":
        value = _FORMATS.get(text(schema, "format"), "string")
        if "pattern" in schema:
            making.note(f"the pattern {str(schema['pattern'])[:_QUOTED]} is not looked at")
        least = schema.get("minLength")
        if not isinstance(least, int):
            return value
        if least > _LONGEST:
            making.note(f"minLength {least}: the text has {_LONGEST} characters")
        return value.ljust(min(least, _LONGEST), "x")
    return None


def _resolved(document: JsonValue, value: JsonValue) -> JsonValue:
    """What a local `$ref` names; None for one that leads elsewhere, nowhere or in a circle."""
    for _ in range(16):
        if not isinstance(value, dict) or not isinstance(reference := value.get("$ref"), str):
            return value
        if not reference.startswith("#/"):
            return None
        value = document
        for part in reference[2:].split("/"):
            key = _decoded(part).replace("~1", "/").replace("~0", "~")
            value = value.get(key) if isinstance(value, dict) else None
    return None


def _headers(headers: Mapping[str, str], place: Path, account: _Account) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() in _HOP:
            continue
        if not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable():
            account.refuse((*place, name), "is no header that can be sent")
            continue
        kept[name] = value
    return kept


def _prefix(document: JsonValue) -> str:
    servers = document.get("servers") if isinstance(document, dict) else None
    url = text(servers[0], "url") if isinstance(servers, list) and servers else ""
    path = re.sub(r"^[a-z][a-z0-9+.-]*://[^/]*", "", url)
    return path.rstrip("/") if path.startswith("/") and "{" not in path else ""


def _decoded(part: str) -> str:
    raw = re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), part.replace("+", " ").encode()
    )
    return raw.decode("utf-8", "replace")


def _word(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)
