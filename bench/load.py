"""The API under concurrent clients, over real sockets, from a process of its own."""

import asyncio
import json
import random
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import aiohttp

from bench.clock import at_rest, percentile
from tests.helpers.stack import ROOT, Stack

CLIENTS = 50
LISTS: Final[dict[str, dict[str, str]]] = {
    "newest": {},
    "200 a page": {"limit": "200"},
    "by phase": {"status": "stopped"},
    "by label": {"label": "team=search"},
    "by part of the name": {"q": "list-07"},
    "sorted by name": {"sort": "name"},
    "sorted by change": {"sort": "-updatedAt"},
}
"""Lists that are asked for, each from its first page to its last."""
IMAGE = "10.111.0.1:5000/perdure/tiny:1"


def apart(stack: Stack, what: str, *arguments: str) -> dict[str, Any]:
    """Run a load from another process, so that its work is not the API's, once the machine is at rest."""
    at_rest()
    token = stack.client.headers["Authorization"].removeprefix("Bearer ")
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", what, str(stack.client.base_url).rstrip("/"), token, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


async def statuses(url: str, token: str, environment_id: str, requests: int) -> dict[str, Any]:
    """Fifty clients ask for a status again and again, each as soon as it has its answer."""

    async def client(session: aiohttp.ClientSession) -> list[float]:
        times = []
        for _ in range(requests // CLIENTS):
            started = time.perf_counter()
            async with session.get(f"{url}/v1/environments/{environment_id}/status") as answer:
                await answer.read()
                assert answer.status == 200, await answer.text()
            times.append(time.perf_counter() - started)
        return times

    return await _run(token, client)


async def creations(url: str, token: str, requests: int, pause: float) -> dict[str, Any]:
    """Fifty clients create environments (zero replicas); `pause`: seconds each rests after an answer.

    With a pause they begin at random moments within one, so that they are no crowd that comes in waves.
    """

    async def client(session: aiohttp.ClientSession) -> list[float]:
        times = []
        await asyncio.sleep(random.uniform(0, pause))
        for _ in range(requests // CLIENTS):
            body = {
                "name": f"l-{uuid.uuid4().hex[:10]}",
                "services": {"a": {"image": IMAGE, "replicas": 0}},
            }
            started = time.perf_counter()
            async with session.post(f"{url}/v1/environments", json={"blueprint": body}) as answer:
                await answer.read()
                assert answer.status == 202, await answer.text()
            times.append(time.perf_counter() - started)
            await asyncio.sleep(pause)
        return times

    return await _run(token, client)


async def pages(url: str, token: str, clients: int, rounds: int) -> dict[str, Any]:
    """Walk through every list of `LISTS` page by page, `rounds` times; percentiles for each kind of list."""
    times: dict[str, list[float]] = defaultdict(list)

    async def client(session: aiohttp.ClientSession) -> list[float]:
        own: list[float] = []
        for _ in range(rounds):
            for kind, query in LISTS.items():
                cursor: str | None = ""
                while cursor is not None:
                    asked = query | ({"cursor": cursor} if cursor else {})
                    started = time.perf_counter()
                    async with session.get(f"{url}/v1/environments", params=asked) as answer:
                        text = await answer.text()
                        assert answer.status == 200, text
                    times[kind].append(time.perf_counter() - started)
                    own.append(times[kind][-1])
                    cursor = json.loads(text)["meta"].get("nextCursor")
        return own

    result = await _run(token, client, clients)
    return result | {"lists": {kind: _percentiles(some) for kind, some in times.items()}}


async def _run(
    token: str, client: Callable[[aiohttp.ClientSession], Awaitable[list[float]]], clients: int = CLIENTS
) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=clients)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        started = time.perf_counter()
        times = [
            each for some in await asyncio.gather(*(client(session) for _ in range(clients))) for each in some
        ]
        wall = time.perf_counter() - started
    return {
        "clients": clients,
        "requests": len(times),
        "perSecond": round(len(times) / wall, 1),
        **_percentiles(times),
    }


def _percentiles(times: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of `times` (seconds) in milliseconds."""
    return {f"p{part}Milliseconds": round(percentile(times, part / 100) * 1000, 1) for part in (50, 95, 99)}


def main() -> None:
    """`python -m bench.load status|create|pages URL TOKEN ...`: print the result as JSON."""
    what, url, token, *rest = sys.argv[1:]
    if what == "status":
        result = asyncio.run(statuses(url, token, rest[0], int(rest[1])))
    elif what == "pages":
        result = asyncio.run(pages(url, token, int(rest[0]), int(rest[1])))
    else:
        result = asyncio.run(creations(url, token, int(rest[0]), float(rest[1])))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
