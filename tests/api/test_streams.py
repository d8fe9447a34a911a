"""WebSockets over a real server: who may open one, what comes and in which order, and how each ends."""

import asyncio
import json
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import uvicorn
from sqlalchemy import delete
from sqlmodel import col
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from activities.db.repositories import events
from activities.db.repositories.keys import create_key, revoke_key
from activities.db.sweeping import forget_history
from activities.db.tables import Environment, Event, EventType, Role
from api import sockets
from api.__main__ import Server
from api.environments import log_hub
from api.protocol import LARGEST_MESSAGE
from clusters.objects import Manifest
from clusters.values import LogLine
from clusters.watch import Changed, Deleted, Listed, WatchEvent
from tests.api.support import Api, create, event_data, pod
from tests.helpers.tenants import Tenant, begin, environment_of, finish, record
from tests.helpers.waiting import until
from workflows.domain.operations import OperationState, StepChange, StepState


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[str]:
    """Serve the application on a port; yields the address for WebSockets."""

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await api.app({**scope, "state": {"app": api.state}}, receive, send)

    config = uvicorn.Config(
        with_state,
        port=0,
        lifespan="off",
        log_config=None,
        ws="websockets-sansio",
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started, "the server listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"ws://127.0.0.1:{port}"
    finally:
        await api.state.streams.close()
        server.should_exit = True
        await task


def key(tenant: Tenant) -> Mapping[str, str]:
    """The header of a tenant's key."""
    return {"Authorization": f"Bearer {tenant.token}"}


async def read(connection: ClientConnection) -> dict[str, Any]:
    """The next message."""
    async with asyncio.timeout(20):
        message: dict[str, Any] = json.loads(await connection.recv())
    return message


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Read to the end; close code and reason."""
    async with asyncio.timeout(20):
        with suppress(ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code or 0, connection.close_reason or ""


async def refused(url: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and problem with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, additional_headers=headers):
            pass
    response = caught.value.response
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, json.loads(response.body or b"")


async def work(api: Api, operation_id: str, attempts: range) -> None:
    """Write one event for each attempt."""
    for attempt in attempts:
        await record(
            api.database, operation_id, StepChange(step="namespace", state=StepState.RUNNING, attempt=attempt)
        )


@pytest.mark.parametrize("prefix", ["/v1", ""])
async def test_progress_begins_with_a_snapshot_and_resumes_after_a_number(
    api: Api, tenant: Tenant, prefix: str
) -> None:
    created = await create(api)
    operation_id = created["operation"]["id"]
    await begin(api.database, operation_id)
    async with served(api) as base:
        url = f"{base}{prefix}/environments/{created['id']}/progress"
        async with connect(url, additional_headers=key(tenant)) as connection:
            snapshot = await read(connection)
            assert snapshot["type"] == "snapshot"
            assert snapshot["data"]["status"] == "provisioning"
            numbers = [(await read(connection))["number"] for _ in range(snapshot["number"])]
        await work(api, operation_id, range(1, 4))
        async with connect(f"{url}?after={numbers[-1]}", additional_headers=key(tenant)) as connection:
            assert (await read(connection))["type"] == "snapshot"
            rest = [await read(connection) for _ in range(3)]
    assert [*numbers, *(event["number"] for event in rest)] == list(range(1, len(numbers) + 4))
    assert rest[-1]["data"]["attempt"] == 3
    assert rest[-1]["operationId"] == operation_id


async def write(api: Api, environment_id: str, count: int) -> None:
    """Write events that are no operation's."""
    async with api.database.transaction() as session:
        row = await session.get_one(Environment, environment_id, with_for_update=True)
        for _ in range(count):
            await events.append(session, row, None, EventType.SETTINGS, {})


async def forget(api: Api, environment_id: str, *numbers: int) -> None:
    """Forget events."""
    async with api.database.transaction() as session:
        of_it = col(Event.environment_id) == environment_id
        await session.exec(delete(Event).where(of_it, col(Event.number).in_(numbers)))


def gone(environment_id: str, first: int, last: int) -> dict[str, Any]:
    """What is told of forgotten events."""
    numbers = {"from": first, "to": last}
    return {"number": last, "type": "gap", "environmentId": environment_id, "data": numbers}


async def test_who_resumes_is_told_what_was_forgotten(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    operation_id = created["operation"]["id"]
    await begin(api.database, operation_id)
    await work(api, operation_id, range(1, 4))
    await finish(api.database, operation_id, OperationState.SUCCEEDED)
    last = (await environment_of(api.database, tenant, created["id"])).last_event
    async with api.database.transaction() as session:
        now = datetime.now(UTC)
        assert await forget_history(session, events_before=now, operations_before=now) == last
    over = await api.client.get(f"/v1/operations/{operation_id}/events?after=2", headers=key(tenant))
    assert event_data(over.text) == [gone(created["id"], 3, last)]
    assert f"id: {last}\nevent: gap\n" in over.text
    assert over.text.endswith(": end\n\n"), "there is nothing to wait for"
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/progress"
        async with connect(f"{url}?after=2", additional_headers=key(tenant)) as connection:
            assert (await read(connection))["number"] == last
            assert await read(connection) == gone(created["id"], 3, last), "before anything else happens"
            await write(api, created["id"], 3)
            assert [(await read(connection))["number"] for _ in range(3)] == [last + 1, last + 2, last + 3]
        await forget(api, created["id"], last + 2)

        async def resumed(after: int, count: int) -> list[Any]:
            address = f"{url}?after={after}"
            async with connect(address, additional_headers=key(tenant)) as connection:
                messages = [await read(connection) for _ in range(1 + count)][1:]
            return [each if each["type"] == "gap" else each["number"] for each in messages]

        between = [last + 1, gone(created["id"], last + 2, last + 2), last + 3]
        assert await resumed(last, 3) == between
        assert await resumed(1, 4) == [gone(created["id"], 2, last), *between]
        assert await resumed(last + 2, 1) == [last + 3], "a gap has a number to resume after"
        assert await resumed(0, 3) == between, "who begins has missed nothing of what was before"


async def test_the_twin_over_sse_tells_what_was_forgotten_too(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    await write(api, created["id"], 4)
    await forget(api, created["id"], 1, 2, 3)
    async with served(api) as base:
        url = f"{base.replace('ws', 'http', 1)}/v1/environments/{created['id']}/events"
        text = ""
        async with (
            httpx2.AsyncClient(timeout=20) as client,
            client.stream("GET", url, headers={**key(tenant), "Last-Event-ID": "1"}) as response,
        ):
            async for part in response.aiter_text():
                text += part
                if "id: 5\n" in text and not api.state.streams._closed:
                    await api.state.streams.close()
    first, *rest = event_data(text)
    assert first == gone(created["id"], 2, 3)
    assert [event["number"] for event in rest] == [4, 5]


async def test_the_key_may_come_as_a_subprotocol_but_not_in_the_address(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/progress"
        offered = [Subprotocol("perdure.v1"), Subprotocol(f"perdure.bearer.{tenant.token}")]
        async with connect(url, subprotocols=offered) as connection:
            assert connection.subprotocol == "perdure.v1"
            assert (await read(connection))["type"] == "snapshot"
        for name in ("token", "access_token", "key"):
            status, body = await refused(f"{url}?{name}={tenant.token}", {})
            assert (status, body["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("stream", ["progress", "logstream"])
async def test_refusals_are_problems_before_the_handshake(
    api: Api, tenant: Tenant, stranger: Tenant, stream: str
) -> None:
    created = await create(api)
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/{stream}"
        status, body = await refused(url, {"Authorization": "Bearer pdr_wrong"})
        assert (status, body["code"]) == (401, "unauthenticated")
        theirs, unknown = (
            await refused(url, key(stranger)),
            await refused(url.replace(created["id"], "env_unknown"), key(tenant)),
        )
        assert theirs[0] == unknown[0] == 404
        assert body["instance"].endswith(stream)
        assert {*theirs[1]} == {*unknown[1]}, "an environment of others looks like none"
        status, body = await refused(f"{url}?after=yesterday&nonsense=1", key(tenant))
        assert (status, body["code"]) == (422, "validation_failed")
        assert {fault["path"] for fault in body["errors"]} == {"query.after", "query.nonsense"}


async def test_an_address_without_a_websocket_is_a_problem_too(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    async with served(api) as base:
        for path, shown in (
            ("/v1/nothing", "/v1/nothing"),
            # What answers a request, and no WebSocket.
            (f"/environments/{created['id']}", f"/environments/{created['id']}"),
            # No answer has a share link's token.
            ("/v1/share/pds_planted/x", "/v1/share/(token)/x"),
        ):
            for headers in ({}, key(tenant)):
                status, body = await refused(f"{base}{path}?after=1", headers)
                assert (status, body["code"], body["instance"]) == (404, "not_found", shown)
                assert "pds_planted" not in body["detail"]


async def test_another_service_than_the_blueprints_is_refused(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/logstream?service=nothing"
        status, body = await refused(url, key(tenant))
    assert (status, body["errors"][0]["path"]) == (422, "query.service")


async def test_a_revoked_keys_streams_end_and_those_of_others_go_on(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    async with api.database.transaction() as session:
        second = await create_key(
            session, tenant.id, tenant.actor.principal_id, name="second", role=Role.VIEWER
        )
    api.state.streams._recheck_seconds = 0.05
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/progress"
        sse = asyncio.create_task(_sse(api, tenant, created["id"]))
        async with (
            connect(url, additional_headers=key(tenant)) as connection,
            connect(url, additional_headers={"Authorization": f"Bearer {second.token}"}) as other,
        ):
            await read(connection)
            await read(other)
            await until(lambda: len(api.state.streams._open) == 3, "all streams are open")
            async with api.database.transaction() as session:
                await revoke_key(session, tenant.id, str(tenant.actor.key_id))
            assert await closed(connection) == (4401, "the API key is revoked or expired")
            await begin(api.database, created["operation"]["id"])
            while (await read(other))["data"].get("state") != "running":
                pass
        async with asyncio.timeout(20):
            text = await sse
        assert '"name":"key_invalid"' in text.split("event: end\n")[1]
        status, _ = await refused(url, key(tenant))
        assert status == 401


async def _sse(api: Api, tenant: Tenant, environment_id: str) -> str:
    path = f"/v1/environments/{environment_id}/events"
    return (await api.client.get(path, headers=key(tenant))).text


async def test_a_key_has_so_many_streams_and_no_more(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    api.state.streams._limit = 1
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/progress"
        async with connect(url, additional_headers=key(tenant)) as connection:
            await read(connection)
            status, body = await refused(url, key(tenant))
            assert (status, body["code"], body["limit"]) == (409, "quota_exceeded", 1)
            answer = await api.client.get(f"/v1/environments/{created['id']}/events", headers=key(tenant))
            assert answer.status_code == 409
        await until(lambda: not api.state.streams._open, "the closed stream is not counted any more")
        async with connect(url, additional_headers=key(tenant)) as connection:
            await read(connection)


async def test_the_end_of_the_server_closes_streams_with_a_code(api: Api, tenant: Tenant) -> None:
    created = await create(api)
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/progress"
        async with connect(url, additional_headers=key(tenant)) as connection:
            await read(connection)
            await api.state.streams.close()
            code, reason = await closed(connection)
    assert (code, "resume" in reason) == (1012, True)


class Pods:
    """The pods of a scripted cluster: what the watch tells, and what their logs say to a follower."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self.logs: dict[str, asyncio.Queue[LogLine | None]] = defaultdict(asyncio.Queue)
        self.followed: list[str] = []
        self.watches = 0
        self._api = api
        monkeypatch.setattr("clusters.watch.watch", self._watch)
        monkeypatch.setattr(api.cluster, "follow_logs", self._follow)

    async def _watch(self, cluster: object, *_: object, **__: object) -> AsyncIterator[WatchEvent]:
        self.watches += 1
        try:
            yield Listed(tuple(self._api.cluster.pods))
            while True:
                yield await self.events.get()
        finally:
            self.watches -= 1

    async def _follow(self, namespace: str, pod: str, **_: object) -> AsyncIterator[LogLine]:
        self.followed.append(pod)
        while (line := await self.logs[pod].get()) is not None:
            yield line

    def add(self, environment_id: str, service: str, name: str, *, restarts: int = 0) -> Manifest:
        """A pod of this name; it is not told yet."""
        made = pod(environment_id, service, restarts=restarts)
        made["metadata"] |= {"name": name, "uid": f"uid-{name}"}  # type: ignore[operator]
        return made

    def write(self, name: str, second: int, text: str) -> None:
        """Let a pod write a line."""
        self.logs[name].put_nowait(LogLine(f"2026-01-01T00:00:{second:02d}.000000000Z", text))


@pytest.fixture
def pods(api: Api, monkeypatch: pytest.MonkeyPatch) -> Pods:
    return Pods(api, monkeypatch)


async def test_lines_of_old_new_and_restarted_pods_come_once_and_without_secrets(
    api: Api, tenant: Tenant, pods: Pods
) -> None:
    created = await create(api)
    first = pods.add(created["id"], "web", "web-1")
    api.cluster.pods = [first]
    api.cluster.log_text["web-1", "web"] = "2026-01-01T00:00:01.000000000Z before\n"
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/logstream"
        async with (
            connect(url, additional_headers=key(tenant)) as all_of_it,
            connect(f"{url}?service=db&tail=0", additional_headers=key(tenant)) as only_db,
        ):
            line = await read(all_of_it)
            assert (line["service"], line["pod"], line["container"]) == ("web", "web-1", "web")
            assert line["line"] == "before"
            pods.write("web-1", 1, "before")
            pods.write("web-1", 2, "token planted-7d1f-value sent")
            assert (await read(all_of_it))["line"] == "token [redacted] sent", "the seam repeats nothing"
            pods.events.put_nowait(Changed(pods.add(created["id"], "db", "db-1")))
            pods.write("db-1", 3, "a new pod")
            for connection in (all_of_it, only_db):
                line = await read(connection)
                assert (line["service"], line["pod"], line["line"]) == ("db", "db-1", "a new pod")
            # The container ends with a line that we never saw, and is started again.
            api.cluster.log_text["web-1", "web"] = (
                "2026-01-01T00:00:02.000000000Z seen\n2026-01-01T00:00:04.000000000Z last words\n"
            )
            pods.logs["web-1"].put_nowait(None)
            pods.events.put_nowait(Changed(pods.add(created["id"], "web", "web-1", restarts=1)))
            assert (await read(all_of_it))["line"] == "last words"
            pods.write("web-1", 5, "again")
            assert (await read(all_of_it))["line"] == "again"
            assert pods.watches == 1, "two clients, one reader"
            assert sorted(pods.followed) == ["db-1", "web-1", "web-1"]
        await until(lambda: pods.watches == 0, "nothing is read for nobody")
        assert not api.state.log_hub._environments


async def test_a_resumed_stream_has_what_the_cluster_does_not_have_any_more(
    api: Api, tenant: Tenant, pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await create(api)
    web, db = pods.add(created["id"], "web", "web-1"), pods.add(created["id"], "db", "db-1")
    api.cluster.pods = [web, db]
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/logstream"
        async with connect(f"{url}?tail=0", additional_headers=key(tenant)) as who_stays:
            for second, text in enumerate(("one", "two", "last words"), 1):
                pods.write("web-1", second, text)
                await read(who_stays)
            pods.write("db-1", 4, "other")
            await read(who_stays)
            api.cluster.pods = [db]
            pods.events.put_nowait(Deleted(web))
            api.cluster.log_text["db-1", "db"] = "2026-01-01T00:00:04.000000000Z other\n"

            async def resumed(query: str, count: int) -> list[str]:
                address = f"{url}?after=2026-01-01T00:00:01Z&{query}"
                async with connect(address, additional_headers=key(tenant)) as connection:
                    return [(await read(connection))["line"] for _ in range(count)]

            everything = ["one", "two", "last words", "other"]
            assert await resumed("", 4) == everything
            assert await resumed("tail=1", 4) == everything, "what a stream begins with is not asked again"
            assert await resumed("tail=0", 4) == everything
            assert await resumed("service=db", 1) == ["other"]
            monkeypatch.setattr(log_hub, "KEPT_LENGTH", 1)
            pods.write("db-1", 5, "more")
            await read(who_stays)
            assert await resumed("", 1) == ["other"], "no more is kept than so much"


async def test_the_twin_over_sse_has_the_lines_too(api: Api, tenant: Tenant, pods: Pods) -> None:
    created = await create(api)
    api.cluster.pods = [pods.add(created["id"], "web", "web-1")]
    pods.write("web-1", 2, "hello")
    async with served(api) as base:
        url = f"{base.replace('ws', 'http', 1)}/v1/environments/{created['id']}/logs/stream"
        text = ""
        async with (
            httpx2.AsyncClient(timeout=20) as client,
            client.stream("GET", url, headers=key(tenant)) as response,
        ):
            async for part in response.aiter_text():
                text += part
                if "hello" in text and not api.state.streams._closed:
                    await api.state.streams.close()
    assert "id: 2026-01-01T00:00:02.000000000Z\nevent: log\ndata: {" in text
    assert text.endswith(": the server is stopping; reconnect\n\n")


async def test_a_client_that_takes_nothing_is_dropped_and_slows_nobody(
    api: Api, tenant: Tenant, pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SEND_SECONDS", 60.0)
    monkeypatch.setattr(log_hub, "QUEUE", 50)
    created = await create(api)
    async with served(api) as base:
        url = f"{base}/v1/environments/{created['id']}/logstream?tail=0"
        # Its window and queue are as small as can be: the second message that it does not read blocks ours.
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", int(base.rpartition(":")[2])))
        stuck = await connect(url, additional_headers=key(tenant), max_queue=1, sock=plain, proxy=None)
        async with connect(url, additional_headers=key(tenant)) as quick:
            hub = api.state.log_hub
            await until(lambda: len(listeners(api)) == 2, "both listen")
            [environment] = hub._environments.values()
            await until(environment.positioned.is_set, "it has begun")
            line = log_hub.Line("web", ("web-0", "web"), "2026-01-01T00:00:00.000000001Z", "")
            got = 0
            for number in range(5_000):
                at = f"2026-01-01T00:00:00.{number + 1:09d}Z"
                text = json.dumps({"timestamp": at, "line": "x" * 10_000})
                for listener in list(environment.listeners):
                    listener.offer(log_hub.Line(line.service, line.source, at, text))
                assert (await read(quick))["timestamp"] == at
                got += 1
                if any(each.slow for each in environment.listeners):
                    break
            assert got < 5_000, "it was dropped before everything was sent"
            code, reason = await closed(stuck)
            assert (code, "keep up" in reason) == (4408, True)


def listeners(api: Api) -> set[log_hub.LogListener]:
    return {each for found in api.state.log_hub._environments.values() for each in found.listeners}
