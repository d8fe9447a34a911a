"""Log streams that go on where another one broke off: from ten seconds before the line that came last."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from clusters.values import LogLine
from tests.api.support import Api, create, problem
from tests.api.test_streams import Pods, key, pods, read, served
from tests.helpers.tenants import Tenant

__all__ = ["pods"]

LAST = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
"""When the line was written that a client had last."""
STREAMS = ("/logstream", "/logs/stream")


def at(seconds: int) -> str:
    """So long after the last line, as a container's log writes it."""
    return f"{LAST + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.000000000Z"


class Written:
    """What containers have written, read as a cluster reads it: so many lines, not older than so long."""

    def __init__(self, *services: str) -> None:
        self._lines: dict[str, list[str]] = {service: [] for service in services}

    def write(self, service: str, *lines: tuple[int, str]) -> None:
        """Add lines, each with its second."""
        self._lines[service] += [f"{at(second)} {text}" for second, text in lines]

    async def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str,
        tail_lines: int,
        since_seconds: int | None = None,
        **_: object,
    ) -> str:
        """Read as the gateway does."""
        oldest = datetime.now(UTC) - timedelta(seconds=since_seconds or 86_400)
        lines = [line for line in self._lines[container] if datetime.fromisoformat(line.split()[0]) >= oldest]
        return "\n".join(lines[-tail_lines:])


@pytest.fixture
def written(api: Api, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Two pods; a client that had the line of second 0 may lack the one before it, of the other container."""
    made = Written("web", "db")
    monkeypatch.setattr(api.cluster, "logs", made.logs)
    made.write("web", (-60, "long ago"), (-2, "just before"), (0, "last"))
    made.write("db", (-80, "long ago too"), (-1, "read late"), (4, "while it was away"))
    return made


async def environment(api: Api, pods: Pods) -> str:
    """Create an environment with the two pods; return its id."""
    created = await create(api)
    api.cluster.pods = [pods.add(created["id"], name, f"{name}-1") for name in ("web", "db")]
    return str(created["id"])


async def lines(url: str, headers: Mapping[str, str], count: int) -> list[dict[str, Any]]:
    """The first lines of a stream of either kind; over SSE, each event's id is its line's time."""
    if url.endswith("/logstream") or "/logstream?" in url:
        async with connect(url, additional_headers=headers) as connection:
            return [await read(connection) for _ in range(count)]
    found: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(20),
        httpx2.AsyncClient(timeout=20) as client,
        client.stream("GET", url.replace("ws", "http", 1), headers=headers) as response,
    ):
        event: dict[str, str] = {}
        async for text in response.aiter_lines():
            name, _, value = text.partition(": ")
            event[name] = value
            if name == "data":
                found.append(json.loads(value))
                assert (event["event"], event["id"]) == ("log", found[-1]["timestamp"])
            if len(found) == count:
                return found
    raise AssertionError(f"it ended after {found}")


def told(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Service and text of lines."""
    return [(line["service"], line["line"]) for line in found]


RESUMED = [("web", "just before"), ("db", "read late"), ("web", "last"), ("db", "while it was away")]


@pytest.mark.parametrize("stream", STREAMS)
async def test_it_begins_ten_seconds_before_the_last_line_and_goes_on(
    api: Api, tenant: Tenant, pods: Pods, written: Written, stream: str
) -> None:
    url = f"/v1/environments/{await environment(api, pods)}{stream}"
    async with served(api) as base:
        assert told(await lines(f"{base}{url}?after={at(0)}", key(tenant), 4)) == RESUMED
        only = await lines(f"{base}{url}?after={at(0)}&service=db", key(tenant), 2)
        assert told(only) == [each for each in RESUMED if each[0] == "db"]
        whole = await lines(f"{base}{url}", key(tenant), 6)
        assert told(whole) == [("db", "long ago too"), ("web", "long ago"), *RESUMED]


@pytest.mark.parametrize("stream", STREAMS)
async def test_what_is_written_then_follows_without_a_gap_or_a_repeat(
    api: Api, tenant: Tenant, pods: Pods, written: Written, stream: str
) -> None:
    url = f"/v1/environments/{await environment(api, pods)}{stream}"
    # The follower has again what the past had, and then what is new.
    for second, text in ((0, "last"), (5, "new")):
        pods.logs["web-1"].put_nowait(LogLine(at(second), text))
    async with served(api) as base:
        found = await lines(f"{base}{url}?after={at(0)}", key(tenant), 5)
    assert told(found) == [*RESUMED, ("web", "new")]


async def test_browsers_resume_by_the_id_that_came_last(
    api: Api, tenant: Tenant, pods: Pods, written: Written
) -> None:
    url = f"/v1/environments/{await environment(api, pods)}/logs/stream"
    async with served(api) as base:
        resumed = {**key(tenant), "Last-Event-ID": at(0)}
        # They ask for the same address again, also when that says where to begin.
        for query in ("", f"?after={at(-75)}", "?sinceSeconds=3600"):
            assert told(await lines(f"{base}{url}{query}", resumed, 4)) == RESUMED
        empty = {**key(tenant), "Last-Event-ID": ""}
        whole = await lines(f"{base}{url}?after={at(-75)}", empty, 6)
        assert told(whole) == [("db", "long ago too"), ("web", "long ago"), *RESUMED]
    for wrong in ("7", "yesterday", "x" * 65):
        answer = await api.client.get(url, headers={"Last-Event-ID": wrong})
        body = problem(answer, 422, "validation_failed")
        assert [fault["path"] for fault in body["errors"]] == ["header.Last-Event-ID"]
