"""WebSockets of applications through the service proxy, over real connections on both sides."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request
from websockets.http11 import Response as Answer
from websockets.protocol import Protocol, State
from websockets.typing import Subprotocol

from activities.db.repositories.keys import create_key, revoke_key
from activities.db.tables import Role
from api.access import upstream_socket
from api.access.upstream_socket import UpstreamSocket
from api.protocol import LARGEST_MESSAGE
from api.settings import ApiSettings
from clusters.errors import Unavailable
from clusters.tunnel import Refused, Tunnel
from tests.api.support import Api, create, pod, running_api
from tests.api.test_access import token_with
from tests.api.test_service_proxy import Serve, SocketTunnel, application, hangs, says
from tests.api.test_streams import closed, key, served
from tests.api.test_waking import asleep, come_up, environment_of, resume_of
from tests.helpers.tenants import Tenant, make_tenant
from tests.helpers.waiting import until

pytestmark = pytest.mark.slow

Handler = Callable[[ServerConnection], Awaitable[None]]
PIECE = b"x" * 65_536
PIECES = 1_000
"""More than all buffers on the way hold."""


class Behind:
    """An application that speaks WebSocket, behind the fake cluster of an API that is served."""

    def __init__(self, api: Api, environment: dict[str, Any], base: str, port: int) -> None:
        self.api = api
        self.environment_id: str = environment["id"]
        self.url = f"{base}/v1/environments/{self.environment_id}/services/web/proxy"
        self.port = port

    @asynccontextmanager
    async def tunnel(self, namespace: str, name: str, port: int) -> AsyncIterator[Tunnel]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield cast(Tunnel, SocketTunnel(reader, writer))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def behind(api: Api, handler: Handler, **options: Any) -> AsyncIterator[Behind]:
    """Serve `handler` as the service `web` of an environment."""
    environment = await create(api)
    api.cluster.pods = [pod(environment["id"], "web")]
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server, served(api) as base:
        made = Behind(api, environment, base, server.sockets[0].getsockname()[1])
        api.cluster.tunnel = made.tunnel  # type: ignore[method-assign,assignment]
        yield made


async def echo(connection: ServerConnection) -> None:
    """Say what is said."""
    async for message in connection:
        await connection.send(message)


async def refusal(url: str, **options: Any) -> Answer:
    """The answer with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, **options):
            pass
    return caught.value.response


async def test_messages_pass_whole_in_both_directions(api: Api, tenant: Tenant) -> None:
    messages: list[str | bytes] = [
        "",
        b"",
        "grüße ✓",
        bytes(range(256)),
        "y" * LARGEST_MESSAGE,
        b"\0" * 70_000,
    ]
    async with behind(api, echo) as made:
        async with connect(f"{made.url}/ws", additional_headers=key(tenant), max_size=None) as socket:
            for message in messages:
                await socket.send(message)
                assert await socket.recv() == message
            # In pieces, which an application sees as one message too.
            await socket.send(["one ", "two"])
            assert await socket.recv() == "one two"
            assert await (await socket.ping()) >= 0
        assert socket.close_code == 1000


async def test_pieces_and_pings_of_the_application_are_taken(api: Api, tenant: Tenant) -> None:
    async def pieces(connection: ServerConnection) -> None:
        await (await connection.ping())
        await connection.send([b"one ", b"two"])
        await connection.send(["three ", "four"])

    async with (
        behind(api, pieces) as made,
        connect(f"{made.url}/", additional_headers=key(tenant)) as socket,
    ):
        assert [await socket.recv(), await socket.recv()] == [b"one two", "three four"]


async def test_the_application_gets_the_request_without_what_is_ours(api: Api, tenant: Tenant) -> None:
    seen: list[Request] = []

    async def note(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request)

    headers = {**key(tenant), "Cookie": "session=1", "X-Own": "kept", "X-Organization-ID": tenant.id}
    async with behind(api, note) as made:
        async with connect(f"{made.url}/a%2Fb?x=1&y=%20", additional_headers=headers) as socket:
            await closed(socket)
        without_version = made.url.replace("/v1/", "/")
        async with connect(f"{without_version}/c", additional_headers=key(tenant)) as socket:
            await closed(socket)
    [request, second] = seen
    assert (request.path, second.path) == ("/a%2Fb?x=1&y=%20", "/c")
    assert request.headers["host"] == "web:8080"
    assert request.headers["x-own"] == "kept"
    assert request.headers["x-forwarded-prefix"].endswith("/services/web:8080/proxy")
    for ours in ("authorization", "cookie", "x-organization-id", "sec-websocket-protocol"):
        assert ours not in request.headers
    for once in ("host", "connection", "upgrade", "sec-websocket-key", "x-request-id"):
        assert len(request.headers.get_all(once)) == 1


@pytest.mark.parametrize(("speaks", "agreed"), [("chat.v2", "chat.v2"), ("other", "perdure.v1")])
async def test_subprotocols_pass_but_for_ours(api: Api, tenant: Tenant, speaks: str, agreed: str) -> None:
    offered: list[str] = []

    def choose(_: ServerConnection, names: list[Subprotocol]) -> Subprotocol | None:
        offered.extend(names)
        return Subprotocol(speaks) if speaks in names else None

    wanted = [
        Subprotocol(name) for name in ("perdure.v1", f"perdure.bearer.{tenant.token}", "chat", "chat.v2")
    ]
    async with (
        behind(api, echo, select_subprotocol=choose) as made,
        connect(f"{made.url}/", subprotocols=wanted) as socket,
    ):
        assert socket.subprotocol == agreed
    assert offered == ["chat", "chat.v2"]


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "restarting"), (1011, "oh"), (4123, "mine ✓")]
)
async def test_close_codes_pass_both_ways(api: Api, tenant: Tenant, code: int, reason: str) -> None:
    heard: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def closes(connection: ServerConnection) -> None:
        if await connection.recv() == "you":
            await connection.close(code, reason)
        with suppress(ConnectionClosed):
            await connection.recv()
        heard.put_nowait((connection.close_code, connection.close_reason))

    async with behind(api, closes) as made:
        async with connect(f"{made.url}/", additional_headers=key(tenant)) as socket:
            await socket.send("you")
            assert await closed(socket) == (code, reason)
        assert await heard.get() == (code, reason)
        async with connect(f"{made.url}/", additional_headers=key(tenant)) as socket:
            await socket.send("me")
            await socket.close(code, reason)
        assert await heard.get() == (code, reason)


async def test_a_connection_that_breaks_is_not_a_farewell(api: Api, tenant: Tenant) -> None:
    heard: asyncio.Queue[int | None] = asyncio.Queue()

    async def breaks(connection: ServerConnection) -> None:
        if await connection.recv() == "break":
            connection.transport.abort()
            return
        with suppress(ConnectionClosed):
            await connection.recv()
        heard.put_nowait(connection.close_code)

    async with behind(api, breaks) as made:
        async with connect(f"{made.url}/", additional_headers=key(tenant)) as socket:
            await socket.send("break")
            code, reason = await closed(socket)
        assert (code, reason.startswith("perdure: upstream_failed")) == (4502, True)
        async with connect(f"{made.url}/", additional_headers=key(tenant)) as socket:
            await socket.send("stay")
            socket.transport.abort()
        assert await heard.get() in (1001, 1005), "the application is told that the client is gone"


async def test_an_application_may_answer_the_handshake_otherwise(api: Api, tenant: Tenant) -> None:
    def deny(connection: ServerConnection, _: Request) -> Answer:
        answer = connection.respond(403, "not you\n")
        answer.headers["Set-Cookie"] = "a=b"
        return answer

    async with behind(api, echo, process_request=deny) as made:
        answer = await refusal(f"{made.url}/", additional_headers=key(tenant))
    assert (answer.status_code, bytes(answer.body or b"")) == (403, b"not you\n")
    assert answer.headers["x-perdure-answered-by"] == "application"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert "set-cookie" not in answer.headers


async def drops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that hangs up once it was asked."""
    await reader.readuntil(b"\r\n\r\n")


WRONG_KEY = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"


@pytest.mark.parametrize(
    ("serves", "status", "code"),
    [
        (drops, 502, "upstream_failed"),
        (says(b"SSH-2.0-OpenSSH\r\n\r\n"), 502, "upstream_failed"),
        (says(b"HTTP/1.1 101 Switching Protocols\r\n" + WRONG_KEY), 502, "upstream_failed"),
        (hangs, 504, "upstream_timeout"),
    ],
)
async def test_what_is_no_handshake_keeps_its_own_name(
    settings: ApiSettings, serves: Serve, status: int, code: str
) -> None:
    async with running_api(settings.model_copy(update={"proxy_answer_seconds": 0.3})) as api:
        tenant = await make_tenant(api.database)
        api.use(tenant)
        made = await application(api, serves)
        async with served(api) as base:
            answer = await refusal(f"{base}{made.url}/", additional_headers=key(tenant))
    assert (answer.status_code, json.loads(answer.body or b"")["code"]) == (status, code)
    assert answer.headers["x-perdure-answered-by"] == "perdure"


async def test_what_may_not_be_opened_is_refused_as_a_request_is(api: Api, tenant: Tenant) -> None:
    opened: list[ServerConnection] = []

    async def note(connection: ServerConnection) -> None:
        opened.append(connection)

    async with behind(api, note) as made:
        nobody = made.url.replace("/web/", "/nobody/")
        elsewhere = made.url.replace(made.environment_id, "env_unknown")
        nul = made.url.replace(made.environment_id, "env%00")
        viewer = {"Authorization": f"Bearer {await token_with(api, tenant, Role.VIEWER)}"}
        for url, headers, status, code in (
            (made.url, {}, 401, "unauthenticated"),
            (made.url, {"Authorization": "Bearer pdr_wrong"}, 401, "unauthenticated"),
            (made.url, viewer, 403, "policy_denied"),
            (nobody, key(tenant), 404, "not_found"),
            (elsewhere, key(tenant), 404, "not_found"),
            (nul, key(tenant), 404, "not_found"),
            (f"{made.url}/%2e%2e", key(tenant), 400, "bad_request"),
        ):
            answer = await refusal(f"{url}/", additional_headers=headers)
            assert (answer.status_code, json.loads(answer.body or b"")["code"]) == (status, code), url
            assert answer.headers["x-perdure-answered-by"] == "perdure"
        for fault, status in ((Refused("nothing listens"), 502), (Unavailable("no cluster"), 503)):

            @asynccontextmanager
            async def refuses(*_: object, fault: Exception = fault) -> AsyncIterator[Tunnel]:
                raise fault
                yield

            api.cluster.tunnel = refuses  # type: ignore[method-assign,assignment]
            assert (await refusal(f"{made.url}/", additional_headers=key(tenant))).status_code == status
        api.cluster.pods = []
        api.forget_targets()
        assert (await refusal(f"{made.url}/", additional_headers=key(tenant))).status_code == 503
    assert opened == []


async def test_messages_that_are_too_large_end_it(api: Api, tenant: Tenant) -> None:
    heard: asyncio.Queue[int | None] = asyncio.Queue()

    async def large(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            if await connection.recv() == "large":
                await connection.send(b"x" * (LARGEST_MESSAGE + 1))
            await connection.recv()
        heard.put_nowait(connection.close_code)

    async with behind(api, large) as made:
        async with connect(f"{made.url}/", additional_headers=key(tenant)) as socket:
            await socket.send("large")
            code, reason = await closed(socket)
        assert (code, "more than" in reason) == (4502, True)
        assert await heard.get() == 1009
        async with connect(f"{made.url}/", additional_headers=key(tenant)) as socket:
            with suppress(ConnectionClosed):
                await socket.send(b"x" * (LARGEST_MESSAGE + 1))
            assert (await closed(socket))[0] == 1009
        assert await heard.get() == 1009


async def test_text_has_to_be_text(api: Api, tenant: Tenant) -> None:
    async def nonsense(connection: ServerConnection) -> None:
        await connection.send(b"\xff\xfe", text=True)
        with suppress(ConnectionClosed):
            await connection.recv()

    async with (
        behind(api, nonsense) as made,
        connect(f"{made.url}/", additional_headers=key(tenant)) as socket,
    ):
        code, reason = await closed(socket)
    assert (code, "UTF-8" in reason) == (4502, True)


@pytest.mark.parametrize("limit", ["proxy_idle_seconds", "proxy_total_seconds"])
async def test_what_is_open_for_too_long_is_closed(settings: ApiSettings, limit: str) -> None:
    async with running_api(settings.model_copy(update={limit: 0.3})) as api:
        tenant = await make_tenant(api.database)
        api.use(tenant)
        async with (
            behind(api, echo) as made,
            connect(f"{made.url}/", additional_headers=key(tenant)) as socket,
        ):
            code, reason = await closed(socket)
    assert (code, reason.startswith("perdure: upstream_timeout")) == (4504, True)
    assert api.state.access._inside == 0


@pytest.mark.parametrize("why", ["revoked", "stopping", "deleted"])
async def test_it_ends_with_its_key_its_environment_and_its_server(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    heard: asyncio.Queue[int | None] = asyncio.Queue()

    async def listen(connection: ServerConnection) -> None:
        await echo_until_closed(connection)
        heard.put_nowait(connection.close_code)

    monkeypatch.setattr(api.state.streams, "_recheck_seconds", 0.05)
    async with api.database.transaction() as session:
        other = await create_key(
            session, tenant.id, tenant.actor.principal_id, name="other", role=Role.DEVELOPER
        )
    async with behind(api, listen) as made:
        headers = {"Authorization": f"Bearer {other.token}"}
        async with connect(f"{made.url}/", additional_headers=headers) as socket:
            await socket.send("there")
            assert await socket.recv() == "there"
            if why == "revoked":
                async with api.database.transaction() as session:
                    await revoke_key(session, tenant.id, other.key.id)
            elif why == "deleted":
                assert (await api.client.delete(f"/v1/environments/{made.environment_id}")).status_code == 202
            else:
                await api.state.streams.close()
            code, reason = await closed(socket)
            expected = {"revoked": 4401, "stopping": 1012, "deleted": 4410}[why]
            assert (code, reason.startswith("perdure: ")) == (expected, True)
        assert await heard.get() == 1001
        if why == "deleted":
            api.forget_targets()
            answer = await refusal(f"{made.url}/", additional_headers=headers)
            assert answer.status_code == 409


async def echo_until_closed(connection: ServerConnection) -> None:
    """Echo; any end is fine."""
    with suppress(ConnectionClosed):
        await echo(connection)


async def stands_still(count: Callable[[], int]) -> int:
    """The number that it stays at for twenty looks."""
    seen: list[int] = []

    def same() -> bool:
        seen.append(count())
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    await until(same, "it stands still")
    return seen[-1]


async def test_who_reads_slowly_slows_the_other_side(api: Api, tenant: Tenant) -> None:
    sent, go, taken = 0, asyncio.Event(), 0

    async def floods(connection: ServerConnection) -> None:
        nonlocal sent, taken
        if await connection.recv() == "flood me":
            for _ in range(PIECES):
                await connection.send(PIECE)
                sent += 1
        else:
            await go.wait()
            async for _ in connection:
                taken += 1
                if taken == PIECES:
                    return

    async with behind(api, floods, max_queue=2) as made:
        async with connect(f"{made.url}/", additional_headers=key(tenant), max_queue=2) as socket:
            await socket.send("flood me")
            await until(lambda: sent > 0, "it sends")
            assert 0 < await stands_still(lambda: sent) < PIECES / 2
            for _ in range(PIECES):
                assert await socket.recv() == PIECE
        async with connect(f"{made.url}/", additional_headers=key(tenant)) as socket:
            put = await _flood(socket, go)
            assert 0 < put < PIECES / 2
            await closed(socket)
    assert taken == PIECES


async def _flood(socket: ClientConnection, go: asyncio.Event) -> int:
    """Send to who does not read; return how many pieces were taken before `go`, then send the rest."""
    put = 0

    async def flood() -> None:
        nonlocal put
        await socket.send("take")
        for _ in range(PIECES):
            await socket.send(PIECE)
            put += 1

    flooding = asyncio.create_task(flood())
    await until(lambda: put > 0, "it takes")
    stood = await stands_still(lambda: put)
    go.set()
    await flooding
    return stood


class Stuck:
    """A tunnel whose application takes nothing and goes on saying `says`."""

    def __init__(self, says: bytes) -> None:
        self.says, self.received = says, 0

    async def send(self, _: bytes) -> None:
        await asyncio.get_running_loop().create_future()

    async def receive(self) -> bytes:
        self.received += 1
        await asyncio.sleep(0)
        return self.says


async def test_answers_that_nobody_takes_do_not_pile_up() -> None:
    """Pongs to an application that pings and does not read would grow for ever."""
    tunnel = Stuck(b"\x89\x7d" + b"p" * 125)
    socket = UpstreamSocket(cast(Tunnel, tunnel), host="web:8080", subprotocols=[])
    socket._protocol.state = State.OPEN
    socket._protocol.parser = Protocol.parse(socket._protocol)
    next(socket._protocol.parser)
    async with socket.writing():
        reading = asyncio.create_task(socket.receive())
        await until(lambda: socket._replies > upstream_socket._MOST_REPLIES, "there are many")
        received = await stands_still(lambda: tunnel.received)
        reading.cancel()
    assert received < 2 * upstream_socket._MOST_REPLIES / 125 + 10


async def test_messages_are_use_and_pings_are_not(api: Api, tenant: Tenant) -> None:
    pinged, go = asyncio.Event(), asyncio.Event()

    async def pings(connection: ServerConnection) -> None:
        await connection.recv()
        await (await connection.ping())
        pinged.set()
        await go.wait()
        await connection.send("news")

    async with behind(api, pings) as made:
        seen = api.state.activity._seen
        where = (tenant.id, made.environment_id)
        async with connect(f"{made.url}/", additional_headers=key(tenant)) as socket:
            await until(lambda: where in seen, "to open one is use")
            del seen[where]
            await socket.send("hello")
            await until(lambda: where in seen, "what the client says is use")
            await asyncio.sleep(0)
            del seen[where]
            await pinged.wait()
            await (await socket.ping())
            assert where not in seen
            go.set()
            assert await socket.recv() == "news"
            assert where in seen


async def test_a_socket_wakes_what_sleeps(api: Api, tenant: Tenant) -> None:
    made = await asleep(api, tenant)
    environment_id = environment_of(made)
    async with serve(echo, "127.0.0.1", 0) as server, served(api) as base:
        shown = Behind(api, {"id": environment_id}, base, server.sockets[0].getsockname()[1])
        api.cluster.tunnel = shown.tunnel  # type: ignore[method-assign,assignment]

        async def talk() -> str | bytes:
            async with connect(f"{shown.url}/", additional_headers=key(tenant)) as socket:
                await socket.send("awake?")
                return await socket.recv()

        talking = asyncio.create_task(talk())
        await come_up(api, environment_id, await resume_of(api, environment_id))
        assert await talking == "awake?"
