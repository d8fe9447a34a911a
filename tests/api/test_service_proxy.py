"""The service proxy over a real connection: what passes, how it breaks, and what that is called."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from activities.db.repositories.environments import get_environment
from api.settings import ApiSettings
from clusters.errors import ClusterError, Forbidden, NotFound, Unavailable
from clusters.tunnel import Refused, Tunnel
from tests.api.support import Api, create, pod, problem, running_api
from tests.helpers.tenants import Tenant, make_tenant

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class SocketTunnel:
    """A tunnel to a server of the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        with suppress(OSError):
            self.writer.write(data)
            await self.writer.drain()

    async def receive(self) -> bytes:
        return await self.reader.read(65_536)


class Application:
    """A server behind the fake cluster: every tunnel of `api` leads to it."""

    def __init__(self, api: Api, environment: dict[str, Any], serve: Serve) -> None:
        self.api, self.serve = api, serve
        self.url = f"/v1/environments/{environment['id']}/services/web/proxy"
        self.opened: list[tuple[str, str, int]] = []
        self.closed = asyncio.Event()
        self.refusal: ClusterError | None = None

    @asynccontextmanager
    async def tunnel(self, namespace: str, name: str, port: int) -> AsyncIterator[Tunnel]:
        if self.refusal is not None:
            raise self.refusal
        self.opened.append((namespace, name, port))

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with suppress(OSError, asyncio.IncompleteReadError):
                    await self.serve(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(served, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield cast(Tunnel, SocketTunnel(reader, writer))
        finally:
            self.closed.set()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            server.close()
            await server.wait_closed()


async def application(api: Api, serve: Serve) -> Application:
    """Create an environment whose service `web` is ready and served by `serve`."""
    environment = await create(api)
    api.cluster.pods = [pod(environment["id"], "web"), pod(environment["id"], "db")]
    made = Application(api, environment, serve)
    api.cluster.tunnel = made.tunnel  # type: ignore[method-assign,assignment]
    return made


def says(answer: bytes) -> Serve:
    """A server that reads a head and says this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return serve


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that says nothing until the client goes."""
    while await reader.read(65_536):
        pass


async def test_an_answer_of_the_application_is_marked_and_sandboxed(api: Api, tenant: Tenant) -> None:
    made = await application(api, says(OK))
    answer = await api.client.get(f"{made.url}/x?y=1")
    assert (answer.status_code, answer.text) == (200, "ok")
    assert answer.headers["x-perdure-answered-by"] == "application"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    [(namespace, name, port)] = made.opened
    assert (name, port) == ("web-0", 8080)
    assert namespace.startswith("shop-")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", "no HTTP"),
    ],
)
async def test_what_is_no_answer_is_a_502_of_ours(api: Api, tenant: Tenant, answer: bytes, why: str) -> None:
    made = await application(api, says(answer))
    found = await api.client.get(f"{made.url}/")
    assert why in problem(found, 502, "upstream_failed")["detail"]
    assert found.headers["x-perdure-answered-by"] == "perdure"
    assert found.headers["content-security-policy"] == "sandbox"


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (Refused("port 8080 of pod web-0 takes no connection"), 502, "upstream_failed"),
        (NotFound("pod is gone"), 503, "service_not_ready"),
        (Unavailable("no connection"), 503, "cluster_unavailable"),
        (Forbidden("no right"), 403, "forbidden"),
    ],
)
async def test_what_the_cluster_refuses_keeps_its_own_name(
    api: Api, tenant: Tenant, refusal: ClusterError, status: int, code: str
) -> None:
    made = await application(api, says(OK))
    made.refusal = refusal
    problem(await api.client.get(f"{made.url}/"), status, code)
    made.refusal = None
    lists = api.cluster.lists
    assert (await api.client.get(f"{made.url}/")).status_code == 200
    assert api.cluster.lists == lists + (0 if code == "cluster_unavailable" or status == 403 else 1), (
        "after a pod that did not take the connection it looks for one again"
    )


async def test_silence_is_a_504_and_frees_the_connection(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"proxy_answer_seconds": 0.05})) as api:
        api.use(await make_tenant(api.database))
        made = await application(api, hangs)
        problem(await api.client.get(f"{made.url}/"), 504, "upstream_timeout")
        assert made.closed.is_set()


async def test_the_whole_exchange_has_a_limit_too(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"proxy_total_seconds": 0.05})) as api:
        api.use(await make_tenant(api.database))
        made = await application(api, hangs)
        problem(await api.client.get(f"{made.url}/"), 504, "upstream_timeout")


async def test_many_at_once_look_for_pods_once(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await application(api, says(OK))
    lists, found = api.cluster.lists, api.cluster.list

    async def slow(*arguments: Any, **named: Any) -> Any:
        for _ in range(200):  # all others come as far as they can
            await asyncio.sleep(0)
        return await found(*arguments, **named)

    monkeypatch.setattr(api.cluster, "list", slow)
    answers = await asyncio.gather(*(api.client.get(f"{made.url}/") for _ in range(10)))
    assert {each.status_code for each in answers} == {200}
    assert api.cluster.lists == lists + 1


async def test_more_at_once_than_are_admitted_are_sent_away(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"access_at_once": 1})) as api:
        api.use(await make_tenant(api.database))
        arrived, go = asyncio.Event(), asyncio.Event()

        async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await go.wait()
            await says(OK)(reader, writer)

        made = await application(api, waits)
        first = asyncio.create_task(api.client.get(f"{made.url}/"))
        await arrived.wait()
        problem(await api.client.get(f"{made.url}/"), 503, "unavailable")
        go.set()
        assert (await first).status_code == 200
        assert (await api.client.get(f"{made.url}/")).status_code == 200


async def test_a_body_goes_on_as_it_comes_and_may_be_answered_early(api: Api, tenant: Tenant) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(2):
            size = int(await reader.readline(), 16)
            heard.put_nowait(await reader.readexactly(size))
            await reader.readline()
        writer.write(b"HTTP/1.1 413 No more\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await hangs(reader, writer)

    made = await application(api, serve)

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        assert await heard.get() == b"one"
        yield b"two"
        assert await heard.get() == b"two"
        for _ in range(3):
            yield b"more"

    answer = await api.client.post(f"{made.url}/", content=body())
    assert answer.status_code == 413
    assert answer.headers["x-perdure-answered-by"] == "application"


async def test_a_body_over_the_limit_of_the_api_is_refused_by_it(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"body_limit_bytes": 100_000})) as api:
        api.use(await make_tenant(api.database))
        made = await application(api, hangs)

        async def body() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 10_000

        answer = await api.client.post(f"{made.url}/", content=body())
        problem(answer, 413, "content_too_large")
        assert answer.headers["content-security-policy"] == "sandbox"
        assert made.closed.is_set()


async def test_only_declared_services_and_ports_are_reached(api: Api, tenant: Tenant) -> None:
    made = await application(api, says(OK))
    base = made.url.removesuffix("/web/proxy")
    for service in ("nobody", "web:81", "web:", "web:8080x", "db:8080", "web:5432", "kubernetes.default"):
        problem(await api.client.get(f"{base}/{service}/proxy/"), 404, "not_found")
    assert made.opened == []
    assert (await api.client.get(f"{base}/web:8080/proxy/")).status_code == 200
    assert (await api.client.get(f"{base}/db:5432/proxy/")).status_code == 200
    assert [port for _, _, port in made.opened] == [8080, 5432]


async def test_no_ready_pod_is_a_503_that_says_why(api: Api, tenant: Tenant) -> None:
    made = await application(api, says(OK))
    environment_id = made.url.split("/")[3]
    for pods, why in (
        ([], "it has no pods"),
        ([pod(environment_id, "web", ready=False, waiting="CrashLoopBackOff")], "web-0: CrashLoopBackOff"),
        ([pod(environment_id, "web", ready=False)], "web-0 is Running, not ready"),
        ([pod("env_other", "web")], "it has no pods"),
    ):
        api.cluster.pods = pods
        found = await api.client.get(f"{made.url}/")
        body = problem(found, 503, "service_not_ready")
        assert body["reason"] == why
        assert found.headers["retry-after"] == "2"
    api.cluster.refused = Forbidden("no rights")
    assert "namespace" in problem(await api.client.get(f"{made.url}/"), 503, "service_not_ready")["reason"]
    assert made.opened == []


async def test_a_request_is_activity_that_is_written_once_for_many(api: Api, tenant: Tenant) -> None:
    made = await application(api, says(OK))
    environment_id = made.url.split("/")[3]

    async def last_active() -> object:
        async with api.database.reading() as session:
            return (await get_environment(session, tenant.id, environment_id)).last_active_at

    created = await last_active()
    for _ in range(3):
        assert (await api.client.get(f"{made.url}/")).status_code == 200
    assert await last_active() == created, "noted in memory only"
    await api.state.activity.flush()
    first = await last_active()
    assert first != created
    await api.state.activity.flush()
    assert await last_active() == first


async def test_what_could_not_be_written_is_kept(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await application(api, says(OK))
    environment_id = made.url.split("/")[3]
    api.state.activity.note(tenant.id, environment_id)

    async def away(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr("api.activity.activity.touch", away)
        with pytest.raises(ConnectionError):
            await api.state.activity.flush()
    await api.state.activity.flush()
    async with api.database.reading() as session:
        assert (await get_environment(session, tenant.id, environment_id)).last_active_at is not None
