"""Clients of an environment's events that do not take them: dropped, and told why once they read again."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import closing

import pytest
from websockets.asyncio.client import connect

from activities.db.engine import Database
from activities.db.repositories import events
from activities.db.tables import Environment, EventType
from api import events as tail
from api import sockets
from tests.api.support import Api, create
from tests.api.test_streams import closed, key, read, served
from tests.helpers.tenants import Tenant
from tests.helpers.waiting import until

AT_ONCE = 20
TEXT = "x" * 50_000
"""What makes an event so large that a few are more than all buffers on the way hold."""


def narrow(base: str) -> socket.socket:
    """A connection whose window is as small as can be."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", int(base.rpartition(":")[2])))
    return plain


async def write(database: Database, environment_id: str, operation_id: str) -> int:
    """Write large events in one transaction; return the number of the last."""
    async with database.transaction() as session:
        row = await session.get_one(Environment, environment_id, with_for_update=True)
        for _ in range(AT_ONCE):
            await events.append(session, row, operation_id, EventType.STEP, {"text": TEXT})
        return row.last_event


def subscriptions(api: Api, environment_id: str) -> Sequence[tail.Subscription]:
    """Those who listen to an environment."""
    return [*api.state.tail._subscriptions.get(environment_id, ())]


async def test_who_takes_no_events_is_dropped_and_slows_nobody(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SEND_SECONDS", 60.0)
    monkeypatch.setattr(tail, "BUFFER", 2 * AT_ONCE)
    api.state.tail._poll_seconds = 0.01
    created = await create(api)
    environment_id, operation_id = created["id"], created["operation"]["id"]
    async with served(api) as base:
        url = f"{base}/v1/environments/{environment_id}/progress"
        stuck = await connect(url, additional_headers=key(tenant), max_queue=1, sock=narrow(base), proxy=None)
        with closing(narrow(base)) as over_sse:
            over_sse.sendall(
                f"GET /v1/environments/{environment_id}/events HTTP/1.1\r\nHost: api\r\n"
                f"Authorization: Bearer {tenant.token}\r\n\r\n".encode()
            )
            async with connect(url, additional_headers=key(tenant)) as quick:
                await until(lambda: len(subscriptions(api, environment_id)) == 3, "all three listen")
                numbers = [(await read(quick))["number"] for _ in range((await read(quick))["number"])]
                for _ in range(60):
                    last = await write(api.database, environment_id, operation_id)
                    while numbers[-1] < last:
                        numbers.append((await read(quick))["number"])
                    if [each.slow for each in subscriptions(api, environment_id)].count(True) == 2:
                        break
                assert numbers == list(range(1, last + 1)), "nothing is lost on who keeps up"
                assert [each.slow for each in subscriptions(api, environment_id)].count(True) == 2
                code, reason = await closed(stuck)
                assert (code, "keep up" in reason) == (4408, True)
                text = await asyncio.to_thread(_rest, over_sse)
    ended = text.split("event: end\n")[1]
    assert '"code":4408,"name":"too_slow"' in ended
    assert TEXT not in ended, "it is the last"


def _rest(connection: socket.socket) -> str:
    """Everything up to the end of an answer that comes in chunks."""
    connection.settimeout(20)
    text = b""
    while not text.endswith(b"\r\n0\r\n\r\n"):
        part = connection.recv(65536)
        assert part, text[-200:]
        text += part
    return text.decode()
