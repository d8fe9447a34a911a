"""Log streams that go on where another one broke off: from ten seconds before the line that came last."""

import asyncio
import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from api.environments import log_hub
from clusters.values import LogLine
from clusters.watch import Deleted
from tests.api.support import Api, create, problem
from tests.api.test_streams import Pods, key, listeners, pods, read, served
from tests.helpers.tenants import Tenant, make_tenant
from tests.helpers.waiting import until

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


async def test_what_comes_while_the_past_is_read_is_told_in_its_place(
    api: Api, tenant: Tenant, pods: Pods, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One container is read long before the other: whoever is cut then has all up to its last line."""
    environment_id = await environment(api, pods)
    first_is_read = asyncio.Event()

    async def logs(namespace: str, pod: str, *, container: str, tail_lines: int, **more: Any) -> str:
        if tail_lines > 1 and container == "db":
            await first_is_read.wait()
            pods.logs["web-1"].put_nowait(LogLine(at(15), "meanwhile"))
            [following] = api.state.log_hub._environments.values()
            await until(lambda: bool(following.kept.since(LAST)), "the line has come")
            written.write("db", (30, "much later"))
        found = await written.logs(namespace, pod, container=container, tail_lines=tail_lines, **more)
        if tail_lines > 1 and container == "web":
            first_is_read.set()
        return found

    monkeypatch.setattr(api.cluster, "logs", logs)
    async with served(api) as base:
        url = f"{base}/v1/environments/{environment_id}/logstream"
        assert told(await lines(url, key(tenant), 8))[-2:] == [("web", "meanwhile"), ("db", "much later")]


async def test_a_line_that_comes_late_is_not_taken_for_one_that_is_known(
    api: Api, tenant: Tenant, pods: Pods, written: Written
) -> None:
    """The cluster has later lines of its container already when somebody resumes."""
    environment_id = await environment(api, pods)
    async with served(api) as base:
        url = f"{base}/v1/environments/{environment_id}/logstream"
        async with connect(f"{url}?tail=0", additional_headers=key(tenant)):
            await until(lambda: bool(api.state.log_hub._environments), "its containers are followed")
            [following] = api.state.log_hub._environments.values()
            await until(following.positioned.is_set, "from their last lines on")
            written.write("web", (1, "late"), (8, "later"))
            async with connect(f"{url}?after={at(13)}", additional_headers=key(tenant)) as resumed:
                assert (await read(resumed))["line"] == "while it was away"
                pods.logs["web-1"].put_nowait(LogLine(at(1), "late"))
                pods.logs["web-1"].put_nowait(LogLine(at(8), "later"))
                assert [(await read(resumed))["line"] for _ in range(2)] == ["late", "later"]


async def test_who_resumes_has_from_here_what_is_all_here(
    api: Api, tenant: Tenant, pods: Pods, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster is asked by the first who follows, and by those who resume before that."""
    environment_id = await environment(api, pods)
    reads, whole = 0, api.cluster.list

    async def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal reads
        reads += 1
        return await whole(*arguments, **more)

    monkeypatch.setattr(api.cluster, "list", counted)
    async with served(api) as base:
        url = f"{base}/v1/environments/{environment_id}/logstream"
        async with connect(f"{url}?tail=0", additional_headers=key(tenant)) as who_stays:
            for second in (11, 16, 21, 26):
                pods.logs["web-1"].put_nowait(LogLine(at(second), f"second {second}"))
                await read(who_stays)
            reads = 0
            later = [("web", f"second {second}") for second in (11, 16, 21, 26)]
            assert told(await lines(f"{url}?after={at(16)}", key(tenant), 4)) == later
            assert reads == 0
            earlier = await lines(f"{url}?after={at(12)}", key(tenant), 5)
            assert told(earlier) == [("db", "while it was away"), *later]
            assert reads == 1
            monkeypatch.setattr(log_hub, "KEPT_LENGTH", 1)
            pods.logs["web-1"].put_nowait(LogLine(at(27), "more"))
            await read(who_stays)
            again = await lines(f"{url}?after={at(12)}", key(tenant), 1)
            assert (told(again), reads) == ([("db", "while it was away")], 2), "not all is here any more"


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


CLIENTS, LINES = 200, 30
"""Each of two pods writes so many lines."""


async def comes_and_goes(
    url: str, headers: Mapping[str, str], chance: random.Random, leaves: int, got: dict[str, list[str]]
) -> None:
    """Follow until all lines are there, over connections of which the first ones end at random moments."""
    last, known, connections = "", set[tuple[str, str]](), 0
    while len(known) < 2 * LINES:
        connections += 1
        left = chance.randrange(1, LINES) if connections <= leaves else 2 * LINES
        query = f"after={last}" if last else "tail=0"
        # No limit to what waits here: a client that stopped reading would not see the answer to its close.
        async with connect(
            f"{url}?{query}",
            additional_headers=headers,
            compression=None,
            open_timeout=60,
            max_queue=None,
            proxy=None,
        ) as connection:
            while left and len(known) < 2 * LINES:
                line = json.loads(await connection.recv())
                last, mark = line["timestamp"], (line["pod"], line["timestamp"])
                if line["line"] == "before" or mark in known:
                    continue
                known.add(mark)
                got[line["service"]].append(line["line"])
                left -= 1
            if chance.random() < 0.5:
                connection.transport.abort()


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_two_hundred_clients_leave_twice_and_have_every_line_in_order(api: Api, pods: Pods) -> None:
    """One of the pods is gone meanwhile: what it wrote is nowhere else then."""
    tenant = await make_tenant(api.database, unlimited=True)
    api.use(tenant)
    created = await create(api)
    web, db = (pods.add(created["id"], name, f"{name}-1") for name in ("web", "db"))
    api.cluster.pods = [web, db]
    # Written before anybody followed: for that, who comes back soon asks the cluster.
    api.cluster.log_text["db-1", "db"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z before\n"
    api.state.streams._limit = 4 * CLIENTS
    got: list[dict[str, list[str]]] = [{"web": [], "db": []} for _ in range(1 + CLIENTS)]

    async def write(name: str, number: int) -> None:
        pods.logs[name].put_nowait(LogLine(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z", str(number)))
        await until(
            lambda: len(got[0][name.removesuffix("-1")]) == number, "it has come to who stays", within=60
        )

    async with served(api) as base, asyncio.timeout(150), asyncio.TaskGroup() as group:
        url = f"{base}/v1/environments/{created['id']}/logstream"
        for index, each in enumerate(got):
            leaves = 2 if index else 0
            group.create_task(comes_and_goes(url, key(tenant), random.Random(index), leaves, each))
        await until(lambda: len(listeners(api)) == len(got), "all of them listen", within=90)
        for number in range(1, LINES + 1):
            if number <= LINES // 2:
                await write("web-1", 2 * number - 1)
                await write("web-1", 2 * number)
            elif api.cluster.pods != [db]:
                api.cluster.pods = [db]
                pods.events.put_nowait(Deleted(web))
            await write("db-1", number)
    expected = [str(number) for number in range(1, LINES + 1)]
    wrong = [each for each in got if each != {"web": expected, "db": expected}]
    assert not wrong, f"{len(wrong)} clients missed lines or had them out of order, the first got {wrong[0]}"
