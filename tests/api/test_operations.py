"""Operations: read, cancelled, waited for, and followed event by event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn

from api.__main__ import Server
from api.events import BUFFER, EventTail
from tests.api.support import Api, create, event_data, problem
from tests.helpers.tenants import Tenant, begin, finish, record
from tests.helpers.waiting import eventually_async
from workflows.contracts.operation import CANCEL_SIGNAL, CancelRequest
from workflows.domain.failures import Blocker, FailureKind, failure
from workflows.domain.operations import OperationState, StepChange, StepState

pytestmark = pytest.mark.usefixtures("tenant")


async def failed(api: Api) -> str:
    """An operation that failed at a service, with evidence; its id."""
    operation_id: str = (await create(api))["operation"]["id"]
    await begin(api.database, operation_id)
    reason = failure(
        FailureKind.CRASH_LOOP,
        "web exited 3 times",
        step="service/web",
        evidence=("evidence/web.json", "gone"),
    )
    await record(
        api.database,
        operation_id,
        StepChange(step="namespace", state=StepState.RUNNING, attempt=1),
        StepChange(step="namespace", state=StepState.SUCCEEDED, attempt=1),
        StepChange(step="service/db", state=StepState.RUNNING, attempt=1),
        StepChange(step="service/web", state=StepState.FAILED, attempt=1, failure=reason),
    )
    await finish(api.database, operation_id, OperationState.FAILED, failure=reason)
    return operation_id


async def test_an_operation_with_steps_failure_and_evidence(api: Api) -> None:
    operation_id = await failed(api)
    api.objects.documents["evidence/web.json"] = {"pod": "web-0", "log": "boom"}
    one = (await api.client.get(f"/v1/operations/{operation_id}")).json()["data"]
    assert one["state"] == "failed"
    assert one["environmentName"] == "shop"
    assert one["failure"]["kind"] == "crash_loop"
    assert one["failure"]["help"]
    assert one["failure"]["evidence"] == [{"pod": "web-0", "log": "boom"}, "gone"]
    steps = {step["name"]: step for step in one["steps"]}
    assert steps["namespace"]["state"] == "succeeded"
    assert steps["service/web"]["failure"]["kind"] == "crash_loop"
    assert steps["service/web"]["dependsOn"]
    assert one["progress"]["total"] == len(steps)
    assert one["progress"]["done"] == 1


async def test_a_step_names_what_holds_it_up_while_it_runs(api: Api) -> None:
    operation_id: str = (await create(api))["operation"]["id"]
    await begin(api.database, operation_id)
    held = (Blocker(object="ConfigMap/held", finalizers=("example.test/hold",)),)
    running = StepChange(step="namespace", state=StepState.RUNNING, attempt=1, blocked_by=held)

    async def steps() -> dict[str, dict[str, object]]:
        found = (await api.client.get(f"/v1/operations/{operation_id}")).json()["data"]["steps"]
        return {step["name"]: step for step in found}

    await record(api.database, operation_id, running)
    now = await steps()
    assert now["namespace"]["blockedBy"] == [
        {"object": "ConfigMap/held", "finalizers": ["example.test/hold"]}
    ]
    assert "blockedBy" not in now["service/db"]
    await record(api.database, operation_id, running.model_copy(update={"blocked_by": ()}))
    assert "blockedBy" not in (await steps())["namespace"]


async def test_operations_are_listed_and_filtered(api: Api) -> None:
    first = await failed(api)
    second = (await create(api, "other"))["operation"]["id"]
    listed = (await api.client.get("/v1/operations")).json()["data"]
    assert [item["id"] for item in listed] == [second, first]
    assert [item["environmentName"] for item in listed] == ["other", "shop"]
    assert "steps" not in listed[0]
    only = (await api.client.get("/v1/operations?state=failed&state=cancelled&kind=provision")).json()["data"]
    assert [item["id"] for item in only] == [first]
    page = (await api.client.get("/v1/operations?limit=1")).json()
    rest = (await api.client.get("/v1/operations", params={"cursor": page["meta"]["nextCursor"]})).json()
    assert [item["id"] for item in [*page["data"], *rest["data"]]] == [second, first]
    problem(await api.client.get("/v1/operations?state=sleepy"), 422, "validation_failed")


async def test_cancel_before_it_began_ends_at_once(api: Api) -> None:
    operation_id = (await create(api))["operation"]["id"]
    response = await api.client.post(f"/v1/operations/{operation_id}/cancel")
    assert response.status_code == 202
    assert response.json()["data"]["state"] == "cancelled"
    assert api.recorder.signalled == []
    body = problem(await api.client.post(f"/v1/operations/{operation_id}/cancel"), 409, "conflict")
    assert body["state"] == "cancelled"


async def test_cancel_of_a_running_one_tells_the_workflow(api: Api) -> None:
    operation = (await create(api))["operation"]
    await begin(api.database, operation["id"])
    body = {"cleanup": True, "reason": "wrong branch"}
    response = await api.client.post(f"/v1/operations/{operation['id']}/cancel", json=body)
    assert response.json()["data"]["state"] == "running"
    assert response.json()["data"]["cancelRequestedAt"]
    request = CancelRequest(cleanup=True, reason="wrong branch")
    assert api.recorder.signalled == [(operation["workflowId"], CANCEL_SIGNAL, request)]


async def test_cancel_while_temporal_is_away_is_recorded(api: Api) -> None:
    operation_id = (await create(api))["operation"]["id"]
    await begin(api.database, operation_id)
    api.recorder.away = True
    response = await api.client.post(f"/v1/operations/{operation_id}/cancel", json={})
    assert response.status_code == 202
    assert response.json()["data"]["cancelRequestedAt"]
    api.recorder.away = False
    await api.client.post(f"/v1/operations/{operation_id}/cancel", json={})
    await api.client.post(f"/v1/operations/{operation_id}/cancel", json={})
    assert [name for _, name, _ in api.recorder.signalled] == [CANCEL_SIGNAL], "told late, and once"


async def test_bad_cancels(api: Api) -> None:
    created = await create(api)
    path = f"/v1/operations/{created['operation']['id']}/cancel"
    wrong = {"cleanup": "maybe", "later": 1}
    found = problem(await api.client.post(path, json=wrong), 422, "validation_failed")
    assert {error["path"] for error in found["errors"]} == {"cleanup", "later"}
    headers = {"Content-Type": "application/yaml"}
    problem(
        await api.client.post(path, content="cleanup: true", headers=headers), 415, "unsupported_media_type"
    )
    delete = (await api.client.delete(f"/v1/environments/{created['id']}")).json()["data"]
    problem(await api.client.post(f"/v1/operations/{delete['id']}/cancel"), 409, "conflict")


@pytest.mark.slow
async def test_wait_holds_the_answer_until_the_end(api: Api) -> None:
    async def work() -> None:
        async def started() -> bool:
            return bool(api.recorder.started)

        await eventually_async(started, "the workflow is started")
        operation_id = api.recorder.started[0].operation_id
        await begin(api.database, operation_id)
        await finish(api.database, operation_id, OperationState.SUCCEEDED)

    worker = asyncio.create_task(work())
    response = await api.client.post(
        "/v1/environments?wait=30",
        json={"blueprint": {"name": "one", "services": [{"name": "a", "image": "registry.test/a:1"}]}},
    )
    await worker
    assert response.status_code == 200
    data = response.json()["data"]
    assert data["operation"]["state"] == "succeeded"
    assert data["operation"]["steps"]
    assert data["status"] in ("running", "degraded")
    problem(await api.client.delete(f"/v1/environments/{data['id']}?wait=61"), 422, "validation_failed")
    late = await api.client.delete(f"/v1/environments/{data['id']}?wait=1")
    assert late.status_code == 202
    assert late.json()["data"]["state"] == "accepted"


async def test_the_stream_of_an_ended_operation_ends(api: Api) -> None:
    operation_id = await failed(api)
    response = await api.client.get(f"/v1/operations/{operation_id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = event_data(response.text)
    numbers = [event["number"] for event in events]
    assert numbers == sorted(numbers)
    assert events[-1]["data"]["state"] == "failed"
    assert response.text.endswith(": end\n\n")
    resumed = await api.client.get(
        f"/v1/operations/{operation_id}/events", headers={"Last-Event-ID": str(numbers[1])}
    )
    assert [event["number"] for event in event_data(resumed.text)] == numbers[2:]
    after = await api.client.get(f"/v1/operations/{operation_id}/events?after={numbers[-1]}")
    assert event_data(after.text) == []
    wrong = await api.client.get(
        f"/v1/operations/{operation_id}/events", headers={"Last-Event-ID": "yesterday"}
    )
    problem(wrong, 422, "validation_failed")


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[tuple[httpx2.AsyncClient, Server]]:
    """The same application behind a real socket: streams that do not end need one."""

    async def with_state(scope, receive, send):  # type: ignore[no-untyped-def]
        await api.app({**scope, "state": {"app": api.state}}, receive, send)

    config = uvicorn.Config(with_state, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=5)
    server = Server(config)
    running = asyncio.create_task(server.serve())

    async def listening() -> bool:
        return server.started

    await eventually_async(listening, "the server listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"Authorization": api.client.headers["Authorization"]}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
        yield client, server
    server.should_exit = True
    await running


async def test_events_arrive_while_they_happen_and_the_stream_resumes(api: Api) -> None:
    operation_id = (await create(api))["operation"]["id"]
    async with served(api) as (client, _):
        path = f"/v1/operations/{operation_id}/events"
        seen: list[dict[str, object]] = []
        async with client.stream("GET", path) as response:
            lines = response.aiter_lines()
            async for line in lines:
                seen += event_data(line)
                if seen:
                    break
            await begin(api.database, operation_id)
            async for line in lines:
                seen += event_data(line)
                if any(event["data"]["state"] == "running" for event in seen):  # type: ignore[index]
                    break
        last = str(seen[-1]["number"])
        await record(
            api.database, operation_id, StepChange(step="namespace", state=StepState.RUNNING, attempt=1)
        )
        await finish(api.database, operation_id, OperationState.SUCCEEDED)
        rest = event_data((await client.get(path, headers={"Last-Event-ID": last})).text)
    numbers = [event["number"] for event in [*seen, *rest]]
    assert numbers == list(range(1, len(numbers) + 1)), "none missed, none twice"
    assert rest[-1]["data"]["state"] == "succeeded"


async def test_an_environments_stream_ends_with_the_server(api: Api) -> None:
    created = await create(api)
    path = f"/v1/environments/{created['id']}/events"
    text = ""
    async with served(api) as (client, server), client.stream("GET", path) as response:
        async for chunk in response.aiter_text():
            text += chunk
            if event_data(text):
                await api.state.tail.close()
                server.should_exit = True
    assert text.endswith(": the server is stopping; reconnect\n\n")


async def test_many_listeners_are_one_reader(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    created = await create(api)
    reads = 0
    tail = EventTail(api.state.tail._log, poll_seconds=0.01)
    whole = type(tail._log).latest

    async def counted(self, environments):  # type: ignore[no-untyped-def]
        nonlocal reads
        reads += 1
        assert environments == [created["id"]]
        return await whole(self, environments)

    monkeypatch.setattr(type(tail._log), "latest", counted)

    async def listen() -> int:
        async with tail.subscribe(created["organizationId"], created["id"], 0) as events:
            got: list[int] = []
            while not got or got[-1] < 3:
                got += [event.number for event in await events.next(10)]
            assert got == list(range(1, len(got) + 1))
            return len(got)

    listeners = [asyncio.create_task(listen()) for _ in range(50)]
    await begin(api.database, created["operation"]["id"])
    await record(
        api.database,
        created["operation"]["id"],
        StepChange(step="namespace", state=StepState.RUNNING, attempt=1),
        StepChange(step="namespace", state=StepState.SUCCEEDED, attempt=1),
    )
    assert all(await asyncio.gather(*listeners))
    assert reads < 500
    await tail.close()


async def test_a_reader_whose_buffer_runs_full_is_dropped_and_resumes(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    tail = EventTail(api.state.tail._log, poll_seconds=0.01)
    async with tail.subscribe(created["organizationId"], created["id"], 0) as events:
        first = await events.next(10)
        await begin(api.database, created["operation"]["id"])
        log = await tail._log.after(tenant.id, created["id"], 0, 100)
        while events.position < len(log):
            await events.next(10)
        events.offer(list(log) * (BUFFER // len(log) + 1))
        assert (events.slow, events.closed) == (True, True)
        assert not await events.next(10)
    async with tail.subscribe(created["organizationId"], created["id"], first[-1].number) as resumed:
        got = [event.number for event in first]
        while got[-1] < len(log):
            got += [event.number for event in await resumed.next(10)]
        assert got == [event.number for event in log]
    await tail.close()
