"""Stubs: made from interfaces and recordings, the same each time, and served by the stub server."""

import datetime
import http.client
import importlib.util
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.support import Api, problem
from tests.helpers.tenants import Tenant
from workflows.domain.blueprint import parse_blueprint
from workflows.domain.mirror import mirrored_ports
from workflows.domain.stubs import Recorded, StubDefinition, StubInvalid, from_openapi, from_recordings

SERVER = Path(__file__).parents[2] / "devcluster" / "images" / "stub" / "stub.py"
PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "servers": [{"url": "https://api.example.com/v2"}],
    "paths": {
        "/pets/{id}": {
            "get": {
                "responses": {
                    "404": {"description": "none"},
                    "200": {
                        "headers": {"X-Rate": {"schema": {"type": "integer", "minimum": 7}}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                    },
                }
            },
            "delete": {"responses": {"204": {"description": "gone"}}},
        },
        "/pets/mine": {"get": {"responses": {"200": {"content": {"text/plain": {"example": "Rex"}}}}}},
        "/odd-{part}": {"get": {"responses": {"200": {}}}},
    },
    "components": {
        "schemas": {
            "Pet": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "born": {"type": "string", "format": "date"},
                    "kind": {"enum": ["cat", "dog"]},
                    "parent": {"$ref": "#/components/schemas/Pet"},
                },
            }
        }
    },
}


@contextmanager
def served(definition: StubDefinition) -> Iterator[http.client.HTTPConnection]:
    spec = importlib.util.spec_from_file_location("stub_server", SERVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Handler.log_message = lambda *_: None
    server = module.Server(("127.0.0.1", 0), module.Definition(json.loads(definition.rendered())))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        yield connection
    finally:
        connection.close()
        server.shutdown()
        thread.join()
        server.server_close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None) -> Any:
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.headers, response.read().decode()


@pytest.mark.parametrize(
    ("schema", "noted"),
    [
        ({"$ref": "other.yaml#/A"}, "other.yaml#/A leads out of the document"),
        ({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, "#/nowhere leads out"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 3}, "minItems 3"),
        ({"type": "string", "pattern": "^[0-9]{4}$"}, "the pattern ^[0-9]{4}$"),
        ({"type": "string", "minLength": 10**9}, "minLength 1000000000"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Pet"}}, "deeper than 8 levels"),
    ],
)
def test_what_is_not_made_as_the_schema_says_is_noted_once(schema: dict[str, Any], noted: str) -> None:
    answers = {"200": {"content": {"application/json": {"schema": schema}}}}
    document = {**PETS, "paths": {"/a": {"get": {"responses": answers}}}}
    [note] = from_openapi(document, port=8080).unsupported
    assert note.path == 'paths["/a"].get.responses["200"].content["application/json"]'
    assert note.reason.startswith(noted)


def test_paths_and_answers_of_other_documents_are_noted() -> None:
    paths = {
        "/a": {"$ref": "paths.yaml#/a"},
        "/b": {"get": {"responses": {"200": {"$ref": "answers.yaml#/b"}}}},
    }
    found = from_openapi({**PETS, "paths": paths}, port=8080).unsupported
    assert [note.path for note in found] == ['paths["/a"]', 'paths["/b"].get.responses["200"]']
    assert all("leads out of the document" in note.reason for note in found)


def test_an_openapi_document_is_served() -> None:
    definition = from_openapi(PETS, port=8080)
    assert [note.path for note in definition.unsupported] == [
        'paths["/pets/{id}"].get.responses["200"].content["application/json"]',  # a parent has a parent
        'paths["/odd-{part}"].get',
    ]
    assert definition.rendered() == from_openapi(json.loads(json.dumps(PETS)), port=8080).rendered()
    with served(definition) as connection:
        status, headers, body = ask(connection, "GET", "/v2/pets/7?x=1")
        assert (status, headers["content-type"], headers["x-rate"]) == (200, "application/json", "7")
        pet = json.loads(body)
        assert (pet["name"], pet["born"], pet["kind"]) == ("string", "2026-01-01", "cat")
        assert ask(connection, "GET", "/v2/pets/mine")[2] == "Rex"
        assert ask(connection, "DELETE", "/v2/pets/7", "a body")[0] == 204
        assert ask(connection, "HEAD", "/v2/pets/mine")[::2] == (200, "")
        status, headers, _ = ask(connection, "PUT", "/v2/pets/7", "{}")
        assert (status, headers["allow"]) == (405, "DELETE, GET")
        assert ask(connection, "GET", "/nothing")[0] == 404


def test_recordings_are_told_apart_by_their_query() -> None:
    definition = from_recordings(
        [
            Recorded(method="get", path="/search", status=200, body="all"),
            Recorded(method="get", path="/search?q=a%20b", status=200, body={"hits": 1}),
        ],
        port=80,
    )
    with served(definition) as connection:
        assert ask(connection, "GET", "/search")[2] == "all"
        assert json.loads(ask(connection, "GET", "/search?q=a+b&page=2")[2]) == {"hits": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=20,
)


@given(JSON, JSON)
def test_no_document_makes_it_fail_otherwise(item: Any, schema: Any) -> None:
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "paths": {
            "/a": item,
            "/b": {"get": {"responses": {"200": {"content": {"application/json": {"schema": schema}}}}}},
        },
    }
    for each in (item, document):
        try:
            definition = from_openapi(each, port=80)
        except StubInvalid:
            continue
        assert definition.routes


def test_what_yaml_makes_of_codes_and_dates_is_understood() -> None:
    media = {"application/json": {"example": {"day": datetime.date(2026, 1, 2), "odd": "\ud800"}}}
    document = {"openapi": "3.0.0", "paths": {"/a": {"get": {"responses": {200: {"content": media}}}}}}
    route = from_openapi(document, port=80).routes[0]
    assert (route.status, json.loads(route.body)) == (200, {"day": "2026-01-02", "odd": "?"})
    assert from_recordings([Recorded(method="GET", path="/a", status=200, body="x")], port=1).rendered()


async def test_the_answer_is_a_service_of_a_blueprint(api: Api, tenant: Tenant) -> None:
    body = {"service": "pets", "openapi": json.dumps(PETS), "port": 9000}
    made = await api.client.post("/v1/stubs/generate", json=body)
    assert made.status_code == 200, made.text
    blueprint = parse_blueprint({"name": "x", "services": [made.json()["data"]["service"]]})
    mock = blueprint.services[0].mock
    assert mock is not None
    assert json.loads(mock.files["stub.json"])["port"] == 9000


async def test_the_answer_is_a_service_that_a_stub_listens_to(api: Api, tenant: Tenant) -> None:
    body = {"service": "pets", "examples": [{"path": "/a"}], "port": 9000, "mode": "mirror"}
    made = await api.client.post("/v1/stubs/generate", json=body)
    assert made.status_code == 200, made.text
    service = parse_blueprint({"name": "x", "services": [made.json()["data"]["service"]]}).services[0]
    assert [port.container_port for port in mirrored_ports(service)] == [9000]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"examples": []}, 422, "validation_failed"),
        ({"examples": [], "openapi": {"openapi": "2.0"}}, 422, "validation_failed"),
        ({"openapi": {}}, 422, "validation_failed"),
    ],
)
async def test_what_no_stub_is_made_of_is_said(
    api: Api, tenant: Tenant, change: dict[str, Any], status: int, code: str
) -> None:
    body = {"service": "pets", "examples": [{"path": "/a"}], **change}
    problem(await api.client.post("/v1/stubs/generate", json=body), status, code)
