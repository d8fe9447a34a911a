"""The edge: request ids, unknown addresses, faults, health, metrics, registry credentials, the codec."""

import asyncio
import base64
import json
import os
from typing import Any, get_args

import pytest
from google.protobuf import json_format
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from temporalio.api.common.v1 import Payload

from activities.db.engine import Database
from activities.payload_codec import EncryptingCodec, PayloadKeys
from api.openapi import FILE, build, least_roles, rendered
from api.problems import EXTENSIONS, ExtensionName, Problem, all_kinds
from api.settings import ApiSettings
from tests.api.support import Api, create, problem, running_api
from tests.api.test_streams import served
from tests.helpers.tenants import Tenant, make_tenant

pytestmark = pytest.mark.usefixtures("tenant")


async def test_request_ids_are_kept_or_made(api: Api) -> None:
    kept = await api.client.get("/v1/environments", headers={"X-Request-ID": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    for odd in ("x" * 200, 'a"b', "a b"):
        made = await api.client.get("/v1/environments", headers={"X-Request-ID": odd})
        assert made.headers["x-request-id"].startswith("req_")


async def test_unknown_addresses_and_methods(api: Api) -> None:
    body = problem(await api.client.get("/v1/nothing?token=secret"), 404, "not_found")
    assert body["instance"] == "/v1/nothing"
    refused = await api.client.put("/v1/environments")
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"]
    problem(await api.client.get("/v1/problems/none"), 404, "not_found")
    body = problem(await api.client.get("/problems/none"), 404, "not_found")
    assert body["detail"] == "There is no problem kind 'none'."


async def test_a_refused_method_is_told_all_that_the_address_takes(api: Api) -> None:
    for path, methods in (
        ("/v1/environments", "GET, HEAD, POST"),
        ("/environments/env_1", "DELETE, GET, HEAD, PATCH"),
        ("/v1/environments/env_1/scale", "PATCH"),
        ("/v1/environments/env_1/events", "GET"),
        ("/health", "GET, HEAD"),
    ):
        refused = await api.client.request("TRACE", path)
        assert "TRACE" in problem(refused, 405, "method_not_allowed")["detail"]
        assert refused.headers["allow"] == methods


async def test_head_on_a_real_connection_is_get_without_the_body(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    path = f"/v1/environments/{created['id']}"
    async with served(api) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        for method, last in (("HEAD", "keep-alive"), ("HEAD", "keep-alive"), ("GET", "close")):
            lines = (f"{method} {path} HTTP/1.1", "Host: api", f"Authorization: Bearer {tenant.token}")
            writer.write("\r\n".join((*lines, f"Connection: {last}", "", "")).encode())
        async with asyncio.timeout(20):
            first, second, got, body = (await reader.read()).split(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert json.loads(body)["data"]["id"] == created["id"]
    heads = [dict(line.split(b": ") for line in each.split(b"\r\n")[1:]) for each in (first, second, got)]
    for each in heads:
        assert each[b"content-length"] == str(len(body)).encode()
        assert each[b"etag"] == heads[-1][b"etag"]
    known = {"If-None-Match": heads[0][b"etag"].decode()}
    assert (await api.client.head(path, headers=known)).status_code == 304
    stream = await api.client.head(f"{path}/events")
    assert (stream.status_code, stream.headers["allow"]) == (405, "GET")
    assert (await api.client.head("/v1/nothing")).status_code == 404
    text = (await api.client.get("/metrics")).text
    assert 'perdure_http_requests_total{method="HEAD",route="/v1/environments/{id}",status="200"} 2.0' in text


async def test_a_fault_of_ours_says_nothing_of_the_inside(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("inside-detail")

    monkeypatch.setattr(Database, "reading", broken)
    response = await api.client.get("/v1/environments", headers={"X-Request-ID": "abc-2"})
    assert problem(response, 500, "internal")["requestId"] == "abc-2"
    assert "inside-detail" not in response.text


async def test_a_database_that_is_away_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("no such host db.internal"))

    monkeypatch.setattr(Database, "reading", broken)
    response = await api.client.get("/v1/environments")
    problem(response, 503, "unavailable")
    assert response.headers["retry-after"]
    assert "db.internal" not in response.text


async def test_the_log_holds_no_token_and_no_query(api: Api, tenant: Tenant, capsys: Any) -> None:
    await api.client.get("/v1/environments?name=planted-name")
    logged = capsys.readouterr().out
    assert "/v1/environments" in logged
    assert tenant.token not in logged
    assert "planted-name" not in logged


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/health/details", "/ready"])
async def test_health_when_all_is_well(api: Api, path: str) -> None:
    response = await api.client.get(path)
    assert response.status_code == 200
    assert response.json()["status"] == "up"
    assert (await api.client.get(f"/v1{path}")).status_code == 200


async def test_health_names_what_is_down(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.cluster.away = api.recorder.away = True
    found = (await api.client.get("/health/details")).json()
    assert found["status"] == "degraded"
    assert found["parts"]["database"]["latencyMs"] >= 0
    assert found["parts"]["cluster/local"] == {"status": "down", "reason": "connection refused"}
    assert found["parts"]["temporal"]["reason"]
    assert (await api.client.get("/ready")).status_code == 200

    async def away(_: Database) -> None:
        raise OSError("no such host")

    monkeypatch.setattr(Database, "ping", away)
    for path in ("/health/ready", "/ready", "/health/details"):
        response = await api.client.get(path)
        assert (response.status_code, response.json()["status"]) == (503, "down")
    assert (await api.client.get("/health")).json()["status"] == "down"
    assert (await api.client.get("/health/live")).status_code == 200


async def test_metrics_count_by_route_template(api: Api) -> None:
    created = await create(api)
    await api.client.get(f"/environments/{created['id']}")
    text = (await api.client.get("/metrics")).text
    assert 'perdure_http_requests_total{method="GET",route="/v1/environments/{id}",status="200"} 1.0' in text
    assert 'perdure_operations{kind="provision",state="accepted"} 1.0' in text
    assert created["id"] not in text


async def test_every_kind_of_problem_has_a_page(api: Api) -> None:
    index = (await api.client.get("/problems")).text
    for kind in all_kinds():
        page = await api.client.get(f"/problems/{kind.value}")
        assert page.status_code == 200
        assert kind.value in index


def test_further_members_of_problems_hide_none_that_all_have() -> None:
    schema = json.loads(FILE.read_text())["components"]["schemas"]["Problem"]
    own = {field.alias for field in Problem.model_fields.values()}
    assert set(EXTENSIONS) == set(get_args(ExtensionName))
    assert own.isdisjoint(EXTENSIONS)
    assert set(schema["properties"]) == own | set(EXTENSIONS)
    assert set(schema["required"]) < own


async def test_registry_credentials(api: Api) -> None:
    body = {"name": "corp", "registry": "ghcr.io", "username": "robot", "password": "planted-pass-1"}
    headers = {"Idempotency-Key": "k1"}
    response = await api.client.post("/v1/registry-credentials", json=body, headers=headers)
    assert response.status_code == 201
    created = response.json()["data"]
    assert (created["name"], created["registry"], created["username"]) == ("corp", "ghcr.io", "robot")
    again = await api.client.post("/v1/registry-credentials", json=body, headers=headers)
    assert again.json()["data"] == created
    problem(await api.client.post("/v1/registry-credentials", json=body), 409, "conflict")
    listed = await api.client.get("/v1/registry-credentials")
    assert listed.json()["data"] == [created]
    for text in (response.text, again.text, listed.text):
        assert "planted-pass-1" not in text
    wrong = {"name": "Corp!", "registry": "https://x", "username": "", "pass": "y"}
    found = problem(await api.client.post("/v1/registry-credentials", json=wrong), 422, "validation_failed")
    paths = {error["path"] for error in found["errors"]}
    assert paths == {"name", "registry", "username", "password", "pass"}
    removed = await api.client.delete("/v1/registry-credentials/corp")
    assert removed.json()["data"] == created
    problem(await api.client.delete(f"/v1/registry-credentials/{created['id']}"), 404, "not_found")


def wire(*payloads: Payload) -> dict[str, Any]:
    """Payloads as the Temporal UI sends them."""
    return {"payloads": [json_format.MessageToDict(payload) for payload in payloads]}


async def test_the_codec_opens_what_a_worker_encrypted_and_passes_on_the_rest(settings: ApiSettings) -> None:
    keys = PayloadKeys(current="k2", keys={"k2": os.urandom(32), "k1": os.urandom(32)})
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b'"a summary"')
    [old] = await EncryptingCodec(PayloadKeys("k1", keys.keys)).encode([plain])
    async with running_api(settings, codec=keys) as api:
        api.use(await make_tenant(api.database))
        decoded = await api.client.post("/v1/codec/decode", json=wire(old, plain))
        assert decoded.json() == wire(plain, plain)
        encoded = (await api.client.post("/v1/codec/encode", json=wire(plain))).json()
        metadata = encoded["payloads"][0]["metadata"]
        assert base64.b64decode(metadata["encryption-key-id"]) == b"k2"
        assert b"summary" not in base64.b64decode(encoded["payloads"][0]["data"])
        assert (await api.client.post("/codec/decode", json=encoded)).json() == wire(plain)
        encoded["payloads"][0]["metadata"]["encryption-key-id"] = base64.b64encode(b"k9").decode()
        found = problem(await api.client.post("/v1/codec/decode", json=encoded), 422, "validation_failed")
        assert "not known" in found["errors"][0]["message"]
        problem(await api.client.post("/v1/codec/decode", json={"payloads": 7}), 422, "validation_failed")
        preflight = await api.client.options(
            "/v1/codec/decode",
            headers={
                "Origin": "http://127.0.0.1:8233",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type,x-namespace",
            },
        )
        assert preflight.headers["access-control-allow-origin"] == "http://127.0.0.1:8233"
        elsewhere = await api.client.get("/v1/environments", headers={"Origin": "http://evil.test"})
        assert "access-control-allow-origin" not in elsewhere.headers


async def test_the_committed_openapi_document_is_the_applications(api: Api) -> None:
    assert FILE.read_text() == rendered(), "run `make openapi` (python -m api.openapi) and commit"


async def test_openapi_names_every_route_and_its_problems(api: Api) -> None:
    document, roles = build(api.app), least_roles(api.app)
    seen = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["operationId"] not in seen
            seen.add(operation["operationId"])
            assert operation["summary"], path
            if roles[method.upper(), path] is not None:
                assert {"401", "403", "404", "422", "503"} <= set(operation["responses"]), (method, path)
                assert operation["security"] == [{"apiKey": []}]
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"], reference
    assert "HTTPValidationError" not in text


def test_settings_refuse_what_is_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    with pytest.raises(ValidationError, match="PERDURE_MASTER_KEYS"):
        ApiSettings(environment="production")
    with pytest.raises(ValidationError, match="needs PERDURE_PAYLOAD_KEYS"):
        ApiSettings(payload_encryption=True)
    with pytest.raises(ValidationError, match="one process"):
        ApiSettings(workers=2)
    monkeypatch.setenv("PERDURE_MASTER_KEYS", f"new:{key},old:{key}")
    monkeypatch.setenv("PERDURE_CORS_ORIGINS", "https://a.test, https://b.test")
    monkeypatch.setenv("PERDURE_CLUSTERS", '{"local": {"context": "kind"}}')
    settings = ApiSettings()
    assert settings.open_master_keys().current_id == "new"
    assert settings.cors_origins == ("https://a.test", "https://b.test")
    assert settings.all_clusters["local"].context == "kind"
    assert key not in repr(settings)
