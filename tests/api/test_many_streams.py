"""Two hundred clients on one environment of a real API process: everything, in order, and no memory kept."""

import asyncio
import base64
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from activities.db.engine import Database
from activities.db.records import JsonObject
from activities.db.repositories import events
from activities.db.tables import Environment, EventType
from tests.helpers.forking import Forked
from tests.helpers.ports import free_port
from tests.helpers.stack import ROOT
from tests.helpers.tenants import Tenant, accept, make_tenant
from tests.helpers.waiting import eventually

CLIENTS = 200
EVENTS = 45
"""In each round."""
WARM_UP, ROUNDS = 1, 3
GROWTH_MIB = 24.0
"""Kept connections, tasks or events of the rounds after the warm-up would be far more: each client's task,
socket and buffers are about 0.2 MiB, so that a round that kept its clients would add 40 MiB."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def address(sqlite_url: str, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A real API process on the test's database; its address without scheme, and its pid."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    environment = inherited | {
        "PERDURE_ENVIRONMENT": "dev",
        "PERDURE_DATABASE_URL": sqlite_url,
        "PERDURE_OBJECT_STORE": str(tmp_path / "objects"),
        "PERDURE_MASTER_KEYS": f"test:{base64.b64encode(os.urandom(32)).decode()}",
        "PERDURE_PORT": str(port),
        # A client that comes back is counted twice until its old connection is seen to be gone.
        "PERDURE_STREAMS_PER_KEY": str(CLIENTS * 4),
        "PERDURE_LOG_LEVEL": "WARNING",
    }
    process = Forked(["api"], env=environment, cwd=ROOT, out=tmp_path / "api.log")
    try:
        eventually(lambda: _answers(port), "the API answers", within=60)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        code = process.wait(timeout=60)
        assert code in (0, -signal.SIGTERM), (tmp_path / "api.log").read_text()[-2000:]


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health/live", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def resident_mib(pid: int) -> float:
    """What a process holds in memory now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def write(database: Database, environment_id: str, operation_id: str, count: int) -> int:
    """Write events, a few per transaction, as a ledger does; return the number of the last."""
    number = 0
    for begin in range(0, count, 3):
        async with database.transaction() as session:
            row = await session.get_one(Environment, environment_id, with_for_update=True)
            for attempt in range(begin, min(begin + 3, count)):
                data: JsonObject = {"step": "service/web", "state": "running", "attempt": attempt}
                await events.append(session, row, operation_id, EventType.STEP, data)
            number = row.last_event
        await asyncio.sleep(0)
    return number


async def client(url: str, token: str, after: int, until: int, chance: random.Random) -> list[int]:
    """Read up to a number over connections that are cut at random; every number as it came."""
    got: list[int] = []
    while (got[-1] if got else after) < until:
        position = got[-1] if got else after
        leave_after = chance.randrange(1, EVENTS)
        headers = {"Authorization": f"Bearer {token}"}
        # No limit to what waits here: a client that stopped reading would not see the answer to its close.
        async with connect(
            f"{url}?after={position}",
            additional_headers=headers,
            compression=None,
            open_timeout=60,
            max_queue=None,
        ) as connection:
            try:
                async for message in connection:
                    event = json.loads(message)
                    if event["type"] != "snapshot":
                        got.append(event["number"])
                        leave_after -= 1
                    if leave_after == 0 and chance.random() < 0.5:
                        connection.transport.abort()
                        break
                    if leave_after == 0 or (got and got[-1] >= until):
                        break
            except ConnectionClosed:
                continue
    return got


async def test_two_hundred_clients_get_every_event_in_order(
    address: tuple[str, int], sqlite_url: str
) -> None:
    async with disposing(Database(sqlite_url)) as database:
        await many_clients(address, database)


@asynccontextmanager
async def disposing(database: Database) -> AsyncIterator[Database]:
    """Close a database's connections at the end, whatever that is."""
    try:
        yield database
    finally:
        await database.dispose()


async def many_clients(address: tuple[str, int], database: Database) -> None:
    """Let them all follow, leave at random moments and come back, round after round."""
    base, pid = address
    tenant: Tenant = await make_tenant(database, unlimited=True)
    accepted = await accept(database, tenant)
    environment, operation = accepted.environment, accepted.operation
    url = f"ws://{base}/v1/environments/{environment.id}/progress"
    async with database.reading() as session:
        after = (await session.get_one(Environment, environment.id)).last_event
    held: list[float] = []
    for turn in range(WARM_UP + ROUNDS):
        until = after + EVENTS
        clients = [
            asyncio.create_task(
                client(url, tenant.token, after, until, random.Random(turn * CLIENTS + index))
            )
            for index in range(CLIENTS)
        ]
        assert await write(database, environment.id, operation.id, EVENTS) == until
        async with asyncio.timeout(120):
            received = await asyncio.gather(*clients)
        expected = list(range(after + 1, until + 1))
        wrong = [got for got in received if got != expected]
        assert not wrong, f"{len(wrong)} clients missed or repeated events, the first got {wrong[0]}"
        after = until
        held.append(resident_mib(pid))
    growth = max(held[WARM_UP:]) - held[WARM_UP - 1]
    assert growth < GROWTH_MIB, f"the API grew by {growth:.0f} MiB: {held}"
