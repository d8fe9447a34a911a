"""Each route of `contract.csv` answers as it says, by each of its addresses, and as `openapi.json` says."""

import asyncio
import csv
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from starlette.routing import WebSocketRoute
from starlette.types import Message

from api.app import create_app
from api.openapi import FILE, api_routes
from api.settings import ApiSettings
from tests.api.arrangements import ARRANGEMENTS, HTTP, ROWS, Call, Row, World
from tests.api.support import Api
from tests.helpers.examples import some
from tests.helpers.tenants import Tenant

DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())
AT_THE_ROOT = ("/health", "/ready", "/metrics")
SEE_OTHER = 303
ENDLESS = ("/environments/:id/events", "/environments/:id/logs/stream")
"""Streams that end with the environment: only the begin of their answers is read."""
PUBLIC = Path(__file__).with_name("public_contract.csv")
"""What the public contract lists of the parts that are whole: nothing here may ever be taken away."""
OTHER_SOCKETS = {f"/environments/{{}}/services/{{}}/{end}" for end in ("tunnel", "exec", "proxy/{}")}
"""Beyond the contract; tests/e2e has them, for they need pods."""


@pytest.fixture
def world(api: Api, tenant: Tenant) -> World:
    """An API whose cluster measures nothing."""

    async def served(kind: str) -> bool:
        return False

    api.cluster.served = served  # type: ignore[method-assign]
    return World(api)


def bare(path: str) -> str:
    """A path of the application without prefix and without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path.removeprefix("/v1"))


def spellings(row: Row) -> list[str]:
    """The prefixes by which the contract's route answers, the canonical one first."""
    return ["", "/v1", "/api/v1"] if row.path.startswith(AT_THE_ROOT) else ["/v1", "", "/api/v1"]


def operation_of(row: Row) -> dict[str, Any]:
    """What the document says about a route."""
    [found] = [
        operation
        for path, operations in DOCUMENT["paths"].items()
        if bare(path) == row.template and (operation := operations.get(row.method.lower()))
    ]
    return dict(found)


def documented(row: Row, status: int) -> dict[str, Any]:
    """What the document says about an answer."""
    answer: dict[str, Any] = operation_of(row)["responses"][str(status)]
    return answer


def check(row: Row, response: httpx2.Response) -> None:
    """Compare an answer with the document: status, media type, and the shape of JSON."""
    content = documented(row, response.status_code).get("content")
    if content is None or row.method == "HEAD" or response.status_code == SEE_OTHER:
        assert not response.content
        return
    kind = response.headers["content-type"].partition(";")[0]
    assert kind in content
    if "json" in kind and "schema" in content[kind]:
        validator(row, response.status_code, kind).validate(response.json())


def check_head(got: httpx2.Response, head: httpx2.Response) -> None:
    """Compare with the answer to GET what the same address answers to HEAD; a stream answers none."""
    kind = got.headers["content-type"].partition(";")[0]
    if kind == "text/event-stream":
        assert (head.status_code, head.headers["allow"]) == (405, "GET")
        return
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert {*head.headers} == {*got.headers}
    assert head.headers["content-type"] == got.headers["content-type"]


@cache
def validator(row: Row, status: int, kind: str) -> jsonschema_rs.Draft202012Validator:
    """What checks an answer; made once for all spellings of a route."""
    schema = documented(row, status)["content"][kind]["schema"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


async def first_message(api: Api, row: Row, kind: str, path: str) -> Message:
    """Open a stream or a WebSocket, and leave once it began; return what it began with."""
    came: asyncio.Queue[Message] = asyncio.Queue()
    left = asyncio.Event()
    first = {"type": f"{kind}.connect"} if kind == "websocket" else {"type": "http.request", "body": b""}
    to_come = [first]

    async def receive() -> Message:
        if to_come:
            return to_come.pop()
        await left.wait()
        return {"type": f"{kind}.disconnect", "code": 1000}

    scope = {
        "type": kind,
        "method": row.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", api.client.headers["authorization"].encode())],
        "subprotocols": [],
        "client": ("127.0.0.1", 1),
        "server": ("api.test", 80),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "state": {"app": api.state},
    }
    task = asyncio.create_task(api.app(scope, receive, came.put))
    async with asyncio.timeout(20):
        begun = await came.get()
        left.set()
        await task
    return begun


def cases(rows: Sequence[Row]) -> list[Any]:
    """Rows as parameters of a test."""
    return [pytest.param(row, id=f"{row.method} {row.path} {row.arrangement}") for row in some(rows)]


@pytest.mark.parametrize("row", cases(HTTP))
async def test_a_route_answers_by_each_of_its_addresses(world: World, row: Row) -> None:
    for prefix in spellings(row):
        call: Call = await ARRANGEMENTS[row.arrangement](world)
        path = prefix + call.path(row)
        if row.path in ENDLESS:
            begun = await first_message(world.api, row, "http", path)
            kind = dict(begun["headers"])[b"content-type"].decode().partition(";")[0]
            assert begun["status"] == row.status
            assert kind in documented(row, row.status)["content"]
            continue
        response = await world.api.client.request(row.method, path, **call.content())
        assert response.status_code == row.status, (path, response.text)
        check(row, response)
        if row.method == "GET" and not prefix.startswith("/api"):
            check_head(response, await world.api.client.head(path, **call.content()))


@pytest.mark.parametrize("row", cases([row for row in ROWS if row.method == "WS"]))
async def test_a_websocket_is_taken_by_each_of_its_addresses(world: World, row: Row) -> None:
    for prefix in spellings(row):
        call = await ARRANGEMENTS[row.arrangement](world)
        begun = await first_message(world.api, row, "websocket", prefix + call.path(row))
        assert begun["type"] == "websocket.accept", begun


def test_the_table_has_every_route_and_no_other() -> None:
    app = create_app(ApiSettings.model_construct())
    have = {
        (method, bare(route.path_format))
        for route in api_routes(app)
        if route.include_in_schema
        for method in route.methods or ()
    }
    have |= {("WS", bare(route.path)) for route in app.routes if isinstance(route, WebSocketRoute)}
    have -= {("WS", path) for path in OTHER_SOCKETS}
    assert {(row.method, row.template) for row in ROWS} == have
    assert {row.part for row in ROWS} == {"main job", "lifecycle", "snapshot and replay", "beyond"}


def test_every_route_of_the_public_contract_is_in_the_table() -> None:
    with PUBLIC.open(newline="") as file:
        listed = [Row(**line, arrangement="", status=0, audit="") for line in csv.DictReader(file)]
    built = {"main job", "lifecycle", "snapshot and replay"}
    assert {row.part for row in listed} == built
    assert len(listed) == 40
    have = {(row.part, row.method, row.template) for row in ROWS}
    assert {(row.part, row.method, row.template) for row in listed} - have == set()
    # And nothing claims to be the contract's that is not.
    claimed = {each for each in have if each[0] in built}
    assert claimed - {(row.part, row.method, row.template) for row in listed} == set()


async def test_no_arrangement_is_left_over() -> None:
    assert set(ARRANGEMENTS) == {row.arrangement for row in ROWS}
