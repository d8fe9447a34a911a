"""Bad input to the API as it runs: a problem that lists all faults, and nothing is written anywhere."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from temporalio.client import Client

from tests.e2e.support import idle
from tests.helpers.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

PATH = "/v1/environments"
WRONG_TYPES = {
    "name": ["a"],
    "description": 7,
    "services": {
        "a": {"image": 5, "replicas": "many", "ports": "8080", "env": ["A=b"], "readyTimeoutSeconds": True},
        "b": "postgres:16",
        "c": {"image": "c:1", "resources": {"cpu": "lots", "memory": -1}, "dependsOn": 3},
    },
    "onFailure": "explode",
    "ttlMinutes": "soon",
}
CYCLE = {
    "name": "round",
    "services": {
        "a": {"image": "a:1", "dependsOn": ["b"]},
        "b": {"image": "b:1", "dependsOn": ["c"]},
        "c": {"image": "c:1", "dependsOn": ["a"]},
        "d": {"image": "d:1", "dependsOn": ["d"]},
    },
}


def _problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"/problems/{code}")
    assert body["title"]
    assert body["detail"]
    assert body["requestId"] == answer.headers["x-request-id"]
    return body


def _faults(answer: httpx2.Response) -> dict[str, dict[str, Any]]:
    return {error["path"]: error for error in _problem(answer, 422, "blueprint_invalid")["errors"]}


def _yaml(stack: Stack, text: str | bytes) -> httpx2.Response:
    return stack.client.post(PATH, content=text, headers={"Content-Type": "application/yaml"})


def _blueprint(stack: Stack, document: Any) -> httpx2.Response:
    return stack.client.post(PATH, json={"blueprint": document})


def _written(stack: Stack) -> dict[str, int]:
    tables = [name for (name,) in stack.rows("select name from sqlite_master where type = 'table'")]
    return {table: stack.rows(f'select count(*) from "{table}"')[0][0] for table in tables}


async def _operations_in_temporal(stack: Stack) -> set[str]:
    client = await Client.connect(stack.temporal_address)
    return {
        execution.id
        async for execution in client.list_workflows()
        if execution.workflow_type in ("ProvisionEnvironment", "DeleteEnvironment")
    }


@pytest.fixture(autouse=True)
def _nothing_is_written(stack: Stack) -> Iterator[None]:
    before = _written(stack)
    yield
    assert _written(stack) == before
    assert asyncio.run(_operations_in_temporal(stack)) == set()


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("name: shop\nservices:\n  api: {image: [}\n", 3, 17),
        ("name: shop\n  services: {}\n", 2, 11),
        ("name: shop\nname: shop\n", 2, 1),
        ("name: shop\nservices: *nothing\n", 2, 11),
        ("name: \tshop\n\tservices: {}\n", 2, 1),
    ],
)
def test_malformed_yaml_is_answered_with_its_place(stack: Stack, text: str, line: int, column: int) -> None:
    body = _problem(_yaml(stack, text), 400, "malformed_body")
    assert (body["line"], body["column"]) == (line, column)


def test_malformed_json_is_answered_with_its_place(stack: Stack) -> None:
    answer = stack.client.post(
        PATH, content='{"blueprint":\n {"name": }}', headers={"Content-Type": "application/json"}
    )
    body = _problem(answer, 400, "malformed_body")
    assert (body["line"], body["column"]) == (2, 11)


def test_five_mebibytes_are_refused(stack: Stack) -> None:
    five = b"x" * (5 * 1024 * 1024)
    _problem(_yaml(stack, b"name: " + five), 413, "content_too_large")

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(five), 65536):
            yield five[start : start + 65536]

    answer = stack.client.post(PATH, content=pieces(), headers={"Content-Type": "application/json"})
    _problem(answer, 413, "content_too_large")
    assert stack.client.get("/health/live").status_code == 200


def test_unknown_fields_are_all_named_with_what_was_meant(stack: Stack) -> None:
    document = {
        "name": "shop",
        "descripton": "typo",
        "services": {"api": {"image": "a:1", "replica": 2, "probes": {"readyness": {"tcp": {"port": 1}}}}},
    }
    found = _faults(_blueprint(stack, document))
    assert set(found) == {"descripton", "services.api.replica", "services.api.probes.readyness"}
    assert "description" in found["descripton"]["suggestion"]
    assert "replicas" in found["services.api.replica"]["suggestion"]
    assert "readiness" in found["services.api.probes.readyness"]["suggestion"]


def test_cycles_are_printed(stack: Stack) -> None:
    messages = " ".join(error["message"] for error in _faults(_blueprint(stack, CYCLE)).values())
    assert any(cycle in messages for cycle in ("a -> b -> c -> a", "a → b → c → a"))
    assert "d" in messages


def test_five_hundred_services_are_too_many(stack: Stack) -> None:
    many = {"name": "many", "services": [{"name": f"s{number}", "image": "a:1"} for number in range(500)]}
    found = _faults(_blueprint(stack, many))
    assert "200" in found["services"]["message"]


@pytest.mark.parametrize(
    "given", ["größe", "x" * 64, "Shop", "-shop", "shop_1", "", "シ", "shop\u200b", "a.b", "shop\n"]
)
def test_names_are_dns_labels(stack: Stack, given: str) -> None:
    found = _faults(_blueprint(stack, {"name": given, "services": {given: {"image": "a:1"}}}))
    assert "name" in found
    assert len(found) == 2, "the environment's name and the service's"


def test_wrong_types_are_all_listed(stack: Stack) -> None:
    found = _faults(_blueprint(stack, WRONG_TYPES))
    assert set(found) >= {
        *("name", "description", "onFailure", "ttlMinutes"),
        *(f"services.a.{key}" for key in ("image", "replicas", "ports", "env", "readyTimeoutSeconds")),
        *("services.b", "services.c.resources.cpu", "services.c.resources.memory", "services.c.dependsOn"),
    }
    assert all(error["message"] for error in found.values())


@pytest.mark.parametrize("document", [None, 7, "", [], {}, {"name": "a"}, {"services": {}}])
def test_what_is_no_blueprint_at_all(stack: Stack, document: Any) -> None:
    answer = _blueprint(stack, document)
    assert 400 <= answer.status_code < 500
    assert _problem(answer, answer.status_code, answer.json()["code"])["detail"]


def test_other_bodies_are_held_to_their_shape_too(stack: Stack) -> None:
    body = {"name": "ä", "registry": "not a host", "username": 5, "more": True}
    answer = stack.client.post("/v1/registry-credentials", json=body)
    found = {error["path"] for error in _problem(answer, 422, "validation_failed")["errors"]}
    assert found == {"name", "registry", "username", "password", "more"}


def test_parameters_are_held_to_their_shape(stack: Stack) -> None:
    answer = stack.client.get(PATH, params={"limit": "many", "status": "asleep"})
    found = {error["path"] for error in _problem(answer, 422, "validation_failed")["errors"]}
    assert len(found) == 2


def test_media_types_and_methods(stack: Stack) -> None:
    answer = stack.client.post(PATH, content=b"name: a", headers={"Content-Type": "text/plain"})
    _problem(answer, 415, "unsupported_media_type")
    _problem(stack.client.get("/v1/nothing/here"), 404, "not_found")
    _problem(stack.client.patch(PATH), 405, "method_not_allowed")


def test_without_a_key_or_with_a_wrong_one(stack: Stack) -> None:
    for header in ("", "Bearer", "Bearer pdr_nothing", "Basic dXNlcjpwYXNz"):
        body = {"blueprint": {"name": "a", "services": {"a": idle()}}}
        answer = stack.client.post(PATH, json=body, headers={"Authorization": header})
        _problem(answer, 401, "unauthenticated")


class TestAnotherOrganisation:
    """What belongs to others does not exist: the answer is the same as for an id that nobody has."""

    @pytest.fixture(autouse=True)
    def _nothing_is_written(self) -> None:
        """Here something is written: an environment, by its own organisation."""

    def test_all_its_routes_answer_404(self, stack: Stack, name: str) -> None:
        made = stack.create({"name": name, "services": {"web": idle()}})
        made.succeeded()
        before = _written(stack)
        headers = {"Authorization": f"Bearer {stack.another_organization()}"}
        environment, operation = f"{PATH}/{made.environment_id}", f"/v1/operations/{made.operation_id}"
        calls = [
            *(("GET", f"{environment}{tail}") for tail in ("", "/status", "/logs", "/topology", "/events")),
            *(("GET", operation), ("GET", f"{operation}/events")),
            *(("DELETE", environment), ("POST", f"{environment}/retry"), ("POST", f"{operation}/cancel")),
        ]
        for method, path in calls:
            theirs = stack.client.request(method, path, headers=headers)
            body = _problem(theirs, 404, "not_found")
            nobody = stack.client.request(method, path[:-1].replace("_", "_0") + "0", headers=headers)
            assert (nobody.status_code, nobody.json()["title"]) == (404, body["title"])
        for path in (PATH, "/v1/operations", "/v1/registry-credentials"):
            assert stack.client.get(path, headers=headers).json()["data"] == []
        chosen = {**headers, "X-Organization-ID": _organization(stack, made.environment_id)}
        assert stack.client.get(environment, headers=chosen).status_code in (403, 404)
        after = _written(stack)
        others = ("organizations", "principals", "api_keys")
        assert {key: value for key, value in after.items() if key not in others} == {
            key: value for key, value in before.items() if key not in others
        }
        assert made.status()["status"] == "running"


def _organization(stack: Stack, environment_id: str) -> str:
    [(found,)] = stack.rows("select organization_id from environments where id = ?", environment_id)
    return str(found)
