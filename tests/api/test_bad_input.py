"""Bad input: each gets a problem that lists all faults, and nothing is written."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from tests.api.support import Api, problem, shop_document
from tests.helpers.tenants import Tenant

pytestmark = pytest.mark.usefixtures("tenant")

LIMIT = 4 * 1024 * 1024
MANY = {"name": "many", "services": [{"name": f"s{n}", "image": "registry.test/s:1"} for n in range(500)]}
CYCLE = {
    "name": "round",
    "services": [
        {"name": "a", "image": "registry.test/a:1", "dependsOn": ["b"]},
        {"name": "b", "image": "registry.test/b:1", "dependsOn": ["a"]},
    ],
}
WRONG = {
    "name": "x" * 64,
    "descriptoin": "typo",
    "services": [
        {"name": "größe", "image": 5, "replicas": "many", "ports": "8080"},
        {"name": "b", "image": "registry.test/b:1", "dependsOn": ["nobody"], "resources": {"cpu": "lots"}},
    ],
}


@pytest.fixture(autouse=True)
async def nothing_is_written(api: Api, tenant: Tenant) -> AsyncIterator[None]:
    """The tables are as they were, and no workflow was started."""
    before = await api.row_counts()
    yield
    assert await api.row_counts() == before
    assert await api.started() == []


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        pytest.param(MANY, {"services"}, id="500 services"),
        pytest.param(CYCLE, {"services[0].dependsOn"}, id="cycle"),
        pytest.param(
            WRONG,
            {
                "name",
                "descriptoin",
                "services[0].name",
                "services[0].image",
                "services[0].replicas",
                "services[0].ports",
                "services[1].dependsOn[0]",
                "services[1].resources.cpu",
            },
            id="everything wrong",
        ),
        pytest.param("just text", {""}, id="text"),
        pytest.param({}, {"name", "services"}, id="empty"),
    ],
)
@pytest.mark.parametrize("kind", ["json", "yaml text"])
async def test_faults_of_a_blueprint_are_all_listed(
    api: Api, document: Any, paths: set[str], kind: str
) -> None:
    blueprint = document if kind == "json" else yaml.safe_dump(document)
    if kind == "json" and isinstance(document, str):
        return
    body = problem(
        await api.client.post("/v1/environments", json={"blueprint": blueprint}), 422, "blueprint_invalid"
    )
    assert paths <= {error["path"] for error in body["errors"]}
    assert all(error["message"] for error in body["errors"])


async def test_suggestions_reach_the_caller(api: Api) -> None:
    body = problem(
        await api.client.post("/v1/environments", json={"blueprint": WRONG}), 422, "blueprint_invalid"
    )
    found = {error["path"]: error.get("suggestion", "") for error in body["errors"]}
    assert "description" in found["descriptoin"]


@pytest.mark.parametrize(
    ("service", "fields", "path", "message"),
    [
        pytest.param(
            "db",
            {"mock": {"mode": "mirror", "image": "registry.test/mock:1"}},
            "services.db.mock.mode",
            "no port of this service is known to speak HTTP",
            id="a mock that would get nothing",
        ),
        pytest.param(
            "db",
            {"init": {"type": "sql", "script": "create table t(id int);\ncommit;"}},
            "services.db.init.script",
            "line 2: COMMIT",
            id="an init script that breaks its transaction",
        ),
    ],
)
async def test_what_would_fail_later_is_refused_by_both_doors(
    api: Api, service: str, fields: dict[str, Any], path: str, message: str
) -> None:
    document = shop_document()
    document["services"][service] |= fields
    answer = await api.client.post("/v1/environments/validate", json={"blueprint": document})
    (validated,) = answer.json()["data"]["errors"]
    refused = await api.client.post("/v1/environments", json={"blueprint": document})
    (error,) = problem(refused, 422, "blueprint_invalid")["errors"]
    assert error == validated
    assert error["path"] == path
    assert message in error["message"]
    assert error["suggestion"]


async def test_faults_of_the_wrapper_stand_beside_those_of_the_blueprint(api: Api) -> None:
    body = {"blueprint": {"name": "shop"}, "blueprnt": 1, "name": 7}
    found = problem(await api.client.post("/v1/environments", json=body), 422, "blueprint_invalid")
    assert {"blueprnt", "name", "services"} <= {error["path"] for error in found["errors"]}
    found = problem(
        await api.client.post("/v1/environments", json={"name": "shop"}), 422, "validation_failed"
    )
    assert [error["path"] for error in found["errors"]] == ["blueprint"]


async def test_an_unknown_plan_is_named(api: Api) -> None:
    body = {"blueprint": shop_document(), "plan": "large"}
    found = problem(await api.client.post("/v1/environments", json=body), 422, "blueprint_invalid")
    assert "large" in found["errors"][0]["message"]


@pytest.mark.parametrize(
    ("content", "kind", "place"),
    [
        ("name: [unclosed\nservices: {", "application/yaml", (2, None)),
        ("name: a\n  bad: indent", "application/yaml", (2, 6)),
        ("name: a\nname: b\n", "application/yaml", (2, 1)),
        ("a: &a [*a]\n", "application/yaml", (1, 8)),
        ("!!python/object/apply:os.system [id]\n", "application/yaml", (1, 1)),
        ("a: 1\n---\nb: 2\n", "application/yaml", (2, 1)),
        ("[" * 200_000, "application/yaml", (1, 101)),
        ("when: 2026-99-99\n", "application/yaml", (None, None)),
        ("tab: \x07\n", "application/yaml", (None, None)),
        ('{"blueprint": }', "application/json", (1, 15)),
        ('{"a": 1, "a": 2}', "application/json", (None, None)),
        ('{"blueprint": NaN}', "application/json", (None, None)),
        ("[" * 100_000, "application/json", (None, None)),
        (f'{{"a": {"9" * 5000}}}', "application/json", (None, None)),
        ("", "application/json", (None, None)),
    ],
)
async def test_malformed_bodies_are_answered_with_their_place(
    api: Api, content: str, kind: str, place: tuple[int | None, int | None]
) -> None:
    response = await api.client.post("/v1/environments", content=content, headers={"Content-Type": kind})
    body = problem(response, 400, "malformed_body")
    line, column = place
    assert body.get("line") == line
    if column is not None:
        assert body.get("column") == column


async def test_malformed_yaml_inside_json_names_the_field(api: Api) -> None:
    response = await api.client.post("/v1/environments", json={"blueprint": "a: [1\nb: }"})
    body = problem(response, 400, "malformed_body")
    assert "`blueprint`" in body["detail"]
    assert body["line"] == 2


async def test_bytes_that_are_no_text(api: Api) -> None:
    response = await api.client.post(
        "/v1/environments", content=b"name: \xff\xfe", headers={"Content-Type": "application/yaml"}
    )
    problem(response, 400, "malformed_body")


async def test_a_document_that_grows_by_aliases_is_refused(api: Api) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    response = await api.client.post(
        "/v1/environments", content="\n".join(lines), headers={"Content-Type": "application/yaml"}
    )
    body = problem(response, 400, "malformed_body")
    assert "aliases" in body["detail"]


async def test_harmless_aliases_are_understood(api: Api) -> None:
    text = (
        "blueprint: {name: shop, services: {a: &a {image: 'x:1', replicas: 0.5}, b: {<<: *a, image: 'y:1'}}}"
    )
    response = await api.client.post(
        "/v1/environments", content=text, headers={"Content-Type": "application/yaml"}
    )
    body = problem(response, 422, "blueprint_invalid")
    assert [error["path"] for error in body["errors"]] == ["services.a.replicas", "services.b.replicas"]


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", None])
async def test_other_media_types_are_refused(api: Api, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = await api.client.post("/v1/environments", content=b"name: shop", headers=headers)
    body = problem(response, 415, "unsupported_media_type")
    assert "application/yaml" in body["detail"]


async def test_five_mebibytes_are_too_large(api: Api) -> None:
    content = json.dumps({"blueprint": {"name": "x" * (5 * 1024 * 1024)}})
    response = await api.client.post(
        "/v1/environments", content=content, headers={"Content-Type": "application/json"}
    )
    problem(response, 413, "content_too_large")


async def test_five_mebibytes_in_chunks_are_too_large(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5 * 16):
            yield b"x" * 65536

    response = await api.client.post(
        "/v1/environments", content=chunks(), headers={"Content-Type": "application/json"}
    )
    problem(response, 413, "content_too_large")


async def test_a_large_body_below_the_limit_is_read(api: Api) -> None:
    document = {"name": "shop", "description": "x" * 3_000_000, "services": []}
    response = await api.client.post("/v1/environments", json={"blueprint": document})
    body = problem(response, 422, "blueprint_invalid")
    assert {"description", "services"} <= {error["path"] for error in body["errors"]}


async def test_import_faults_are_listed(api: Api) -> None:
    body = {"compose": 7, "envFiles": [], "unknown": 1}
    found = problem(await api.client.post("/v1/environments/import", json=body), 422, "validation_failed")
    assert {"envFiles", "unknown"} <= {error["path"] for error in found["errors"]}
    found = problem(
        await api.client.post("/v1/environments/import", json={"compose": "services: {", "name": "x"}),
        400,
        "malformed_body",
    )
    assert "`compose`" in found["detail"]
