"""The API under fifty concurrent clients, over real sockets, from a process of its own."""

import asyncio
import json
import random
import sys
import time
import uuid
from typing import Any

import aiohttp

from bench.clock import percentile

CLIENTS = 50
IMAGE = "10.111.0.1:5000/perdure/tiny:1"


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


async def _run(token: str, client: Any) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        started = time.perf_counter()
        times = [
            each for some in await asyncio.gather(*(client(session) for _ in range(CLIENTS))) for each in some
        ]
        wall = time.perf_counter() - started
    return {
        "clients": CLIENTS,
        "requests": len(times),
        "perSecond": round(len(times) / wall, 1),
        "p50Milliseconds": round(percentile(times, 0.50) * 1000, 1),
        "p95Milliseconds": round(percentile(times, 0.95) * 1000, 1),
        "p99Milliseconds": round(percentile(times, 0.99) * 1000, 1),
    }


def main() -> None:
    """`python -m bench.load status|create URL TOKEN ...`: print the result as JSON."""
    what, url, token, *rest = sys.argv[1:]
    if what == "status":
        result = asyncio.run(statuses(url, token, rest[0], int(rest[1])))
    else:
        result = asyncio.run(creations(url, token, int(rest[0]), float(rest[1])))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
