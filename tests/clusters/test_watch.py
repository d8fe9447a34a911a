"""The watch loop against everything that a stream can do wrong."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web

from clusters.errors import ClusterError, Forbidden, NotServed
from clusters.gateway import Cluster
from clusters.objects import Manifest
from clusters.watch import Changed, Deleted, Listed, WatchEvent, WatchTimes, watch
from tests.clusters.fake_api import config_map, cut, fake_cluster, listing, status
from workflows.domain.json_reading import text

QUICK = WatchTimes(stream=1, grace=0.2, first_delay=0.01, longest_delay=0.05, forbidden=0.1)


def frame(kind: str, item: Manifest) -> dict[str, object]:
    return {"type": kind, "object": item}


def name(event: WatchEvent) -> str:
    match event:
        case Listed(items):
            return "listed:" + ",".join(text(item, "metadata", "name") for item in items)
        case Changed(item):
            return "changed:" + text(item, "metadata", "name")
        case Deleted(item):
            return "deleted:" + text(item, "metadata", "name")


async def take(cluster: Cluster, count: int, outages: list[ClusterError | None] | None = None) -> list[str]:
    """Return the names of the first events of a watch."""
    found: list[str] = []
    events = watch(
        cluster, "ConfigMap", "ns", times=QUICK, on_outage=None if outages is None else outages.append
    )
    async with asyncio.timeout(10), aclosing(events) as running:
        async for event in running:
            found.append(name(event))
            if len(found) == count:
                break
    return found


def is_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true"


@pytest.mark.slow
async def test_continues_from_the_last_version(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not is_watch(request):
            return listing("5", config_map("a"))
        match request.query["resourceVersion"]:
            case "5":
                asked = float(request.query["timeoutSeconds"])
                bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}}
                return await api.stream(
                    request, frame("ADDED", config_map("b", "6")), bookmark, lasting=asked
                )
            case "8":
                return await api.stream(request, frame("DELETED", config_map("a", "9")), lasting=None)
            case other:
                return status(400, "BadRequest", f"unexpected {other}")

    async with fake_cluster(tmp_path, handler) as (api, cluster):
        assert await take(cluster, 3) == ["listed:a", "changed:b", "deleted:a"]
        assert [is_watch(r) for r in api.seen] == [False, True, True]
        assert api.seen[1].query["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize("in_stream", [True, False])
async def test_expired_version_lists_again(tmp_path: Path, in_stream: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not is_watch(request):
            return listing(str(len(api.seen)), config_map(f"at{len(api.seen)}"))
        if len(api.seen) > 2:
            return await api.stream(request, lasting=None)
        if in_stream:
            expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            return await api.stream(request, {"type": "ERROR", "object": expired})
        return status(410, "Expired", "too old")

    outages: list[ClusterError | None] = []
    async with fake_cluster(tmp_path, handler) as (api, cluster):
        assert await take(cluster, 2, outages) == ["listed:at1", "listed:at3"]
    assert outages == []


@pytest.mark.slow
async def test_silent_stream_lists_again(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not is_watch(request):
            return listing(str(len(api.seen)), config_map(f"at{len(api.seen)}"))
        # Longer than it was asked for, and nothing is ever said.
        return await api.stream(request, lasting=None)

    outages: list[ClusterError | None] = []
    async with fake_cluster(tmp_path, handler) as (api, cluster):
        assert await take(cluster, 2, outages) == ["listed:at1", "listed:at3"]
    assert outages[0] is not None
    assert outages[1] is None


async def test_cut_stream_lists_again_and_reports_the_outage_once(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if len(api.seen) == 1:
            return listing("1", config_map("a"))
        if len(api.seen) < 6:
            cut(request)
        return listing("2", config_map("b"))

    outages: list[ClusterError | None] = []
    async with fake_cluster(tmp_path, handler) as (api, cluster):
        assert await take(cluster, 2, outages) == ["listed:a", "listed:b"]
    assert [error is None for error in outages] == [False, True]


async def test_line_in_pieces_is_one_event(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not is_watch(request):
            return listing("1")
        response = web.StreamResponse()
        await response.prepare(request)
        line = b'{"type":"ADDED","object":{"metadata":{"name":"big","resourceVersion":"2"},"x":"'
        for piece in (line, b"y" * 300_000, b'"}}\n'):
            await response.write(piece)
        return response

    async with fake_cluster(tmp_path, handler) as (_, cluster):
        assert await take(cluster, 2) == ["listed:", "changed:big"]


async def test_string_in_place_of_events(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not is_watch(request):
            return listing("1")
        return await api.stream(request, "404 page not found")

    async with fake_cluster(tmp_path, handler) as (api, cluster):
        with pytest.raises(NotServed):
            await take(cluster, 2)


async def test_kind_that_is_not_served(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="404 page not found\n")

    async with fake_cluster(tmp_path, handler) as (_, cluster):
        with pytest.raises(NotServed):
            await take(cluster, 1)


async def test_refusal_is_waited_out_for_a_moment_only(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/api/v1/namespaces/ns":
            return web.json_response({"metadata": {"name": "ns"}})
        if len(api.seen) > allowed_after:
            return listing("1", config_map("a"))
        return status(403, "Forbidden", "no", name="a")

    async with fake_cluster(tmp_path, handler) as (api, cluster):
        allowed_after = 2
        assert await take(cluster, 1) == ["listed:a"]
        allowed_after = 10_000
        with pytest.raises(Forbidden):
            await take(cluster, 1)


async def test_namespace_that_is_gone_has_no_objects(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/api/v1/namespaces/ns":
            return status(404, "NotFound", "no", name="ns")
        return status(403, "Forbidden", "no", name="a")

    async with fake_cluster(tmp_path, handler) as (_, cluster):
        assert await take(cluster, 1) == ["listed:"]


@pytest.mark.slow
async def test_stream_that_ends_at_once_is_not_hammered(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not is_watch(request):
            return listing(str(len(api.seen)))
        return await api.stream(request)

    async with fake_cluster(tmp_path, handler) as (api, cluster):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await take(cluster, 1000)
        # At most one list and one watch per pause of 25 ms and more.
        assert len(api.seen) < 90
