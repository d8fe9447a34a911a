"""What is committed before the answer, what follows the commit, and what an idempotency key repeats."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.engine import Database
from tests.api.support import Api, create, problem, shop_document
from tests.helpers.tenants import Tenant, begin

pytestmark = pytest.mark.usefixtures("tenant")


class CommitLost(Exception):
    """The commit that a test breaks."""


async def test_a_commit_that_fails_is_answered_with_5xx_and_starts_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Database.transaction

    @asynccontextmanager
    async def broken(self: Database) -> AsyncIterator[AsyncSession]:
        async with whole(self) as session:
            yield session
            raise CommitLost

    before = await api.row_counts()
    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", broken)
        response = await api.client.post("/v1/environments", json={"blueprint": shop_document()})
    body = problem(response, 500, "internal")
    assert "CommitLost" not in response.text
    assert "location" not in response.headers
    assert body["requestId"]
    assert await api.started() == []
    assert await api.row_counts() == before


async def test_the_row_is_committed_when_the_workflow_is_started(api: Api) -> None:
    seen = []
    whole = api.recorder.start

    async def look(operation: object) -> None:
        listed = await api.client.get("/v1/operations")
        seen.append(len(listed.json()["data"]))
        await whole(operation)  # type: ignore[arg-type]

    api.recorder.start = look  # type: ignore[method-assign]
    await create(api)
    await api.started()
    assert seen == [1]


async def test_without_temporal_the_operation_stays_accepted(api: Api) -> None:
    api.recorder.away = True
    created = await create(api)
    one = (await api.client.get(f"/v1/operations/{created['operation']['id']}")).json()["data"]
    assert one["state"] == "accepted"
    assert await api.started() == []
    metrics = (await api.client.get("/metrics")).text
    assert "perdure_workflow_starts_deferred_total 1.0" in metrics


async def test_one_name_one_environment(api: Api) -> None:
    created = await create(api)
    response = await api.client.post("/v1/environments", json={"blueprint": shop_document()})
    body = problem(response, 409, "conflict")
    assert body["existingId"] == created["id"]


async def test_a_second_mutation_names_the_one_that_runs(api: Api) -> None:
    created = await create(api)
    await begin(api.database, created["operation"]["id"])
    body = problem(await api.client.post(f"/v1/environments/{created['id']}/retry"), 409, "conflict")
    assert body["operationId"] == created["operation"]["id"]
    assert body["operationKind"] == "provision"


async def test_the_same_key_and_body_give_the_first_answer(api: Api) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await api.client.post("/v1/environments", json={"blueprint": shop_document()}, headers=headers)
    again = await api.client.post("/environments", json={"blueprint": shop_document()}, headers=headers)
    assert (again.status_code, again.json()["data"]) == (202, first.json()["data"])
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["meta"]["requestId"] != first.json()["meta"]["requestId"]
    assert len(await api.started()) == 1


async def test_the_same_key_with_another_body_is_refused(api: Api) -> None:
    await create(api, **{"Idempotency-Key": "k1"})
    response = await api.client.post(
        "/v1/environments", json={"blueprint": shop_document("other")}, headers={"Idempotency-Key": "k1"}
    )
    problem(response, 422, "idempotency_mismatch")


async def test_the_same_key_with_another_query_is_refused(api: Api) -> None:
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/yaml"}
    document = json.dumps({**shop_document(), "plans": {"large": {"services": {"web": {"replicas": 2}}}}})
    first = await api.client.post("/v1/environments", content=document, headers=headers)
    assert first.status_code == 202
    other = await api.client.post("/v1/environments?plan=large", content=document, headers=headers)
    problem(other, 422, "idempotency_mismatch")


async def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    headers = {"Idempotency-Key": "k1"}
    bad = {"blueprint": {"name": "shop"}}
    problem(await api.client.post("/v1/environments", json=bad, headers=headers), 422, "blueprint_invalid")
    await create(api, **headers)


async def test_twins_with_one_key_make_one_environment(api: Api) -> None:
    headers = {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(
        *(
            api.client.post("/v1/environments", json={"blueprint": shop_document()}, headers=headers)
            for _ in range(5)
        )
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["data"]["id"] for answer in answers}) == 1
    assert len(await api.started()) == 1


async def test_keys_of_others_do_not_meet(api: Api, stranger: Tenant) -> None:
    first = await create(api, **{"Idempotency-Key": "k1"})
    api.use(stranger)
    second = await create(api, **{"Idempotency-Key": "k1"})
    assert first["id"] != second["id"]


@pytest.mark.postgres
async def test_the_same_on_postgres(postgres_api: Api) -> None:
    from tests.helpers.tenants import make_tenant  # noqa: PLC0415 - the tenant fixture is SQLite's

    api = postgres_api
    api.use(await make_tenant(api.database))
    headers = {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(
        *(
            api.client.post("/v1/environments", json={"blueprint": shop_document()}, headers=headers)
            for _ in range(3)
        )
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["data"]["id"] for answer in answers}) == 1
    created = answers[0].json()["data"]
    assert (await api.client.get(f"/v1/environments/{created['id']}/status")).status_code == 200
    assert len((await api.client.get("/v1/operations?state=accepted&kind=provision")).json()["data"]) == 1
    assert (await api.client.delete(f"/v1/environments/{created['id']}")).status_code == 202
