"""Which error an answer becomes, and when a request is sent again."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from clusters.answers import parse_quota
from clusters.connection import Call
from clusters.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Fenced,
    Forbidden,
    Gone,
    Invalid,
    LeaseLost,
    NamespaceTerminating,
    NotFound,
    NotServed,
    PreconditionFailed,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unavailable,
)
from clusters.gateway import Propagation
from clusters.lease import Lease
from clusters.objects import Manifest, ObjectRef
from tests.clusters.fake_api import config_map, cut, fake_cluster, listing, status, write_kubeconfig
from workflows.domain.failures import FailureKind
from workflows.domain.names import FENCE

REF = ObjectRef("ConfigMap", "a", "ns")
MANIFEST: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}}
QUOTA = (
    'configmaps "a" is forbidden: exceeded quota: plan, requested: count/configmaps=1, '
    "used: count/configmaps=5, limited: count/configmaps=5"
)


def fenced_manifest(fence: int) -> Manifest:
    return {**MANIFEST, "metadata": {"name": "a", "namespace": "ns", "annotations": {FENCE: str(fence)}}}


def namespace(**metadata: object) -> web.Response:
    return web.json_response({"kind": "Namespace", "metadata": {"name": "ns", **metadata}})


@pytest.mark.parametrize(
    ("answer", "expected", "kind"),
    [
        (lambda: status(400, "BadRequest", "no"), Invalid, FailureKind.BLUEPRINT_INVALID),
        (lambda: status(404, "NotFound", "no", name="a"), NotFound, FailureKind.CONFLICT),
        (
            lambda: web.Response(status=404, text="404 page not found\n"),
            NotServed,
            FailureKind.CONFIG_MISSING,
        ),
        (lambda: status(409, "AlreadyExists", "no"), AlreadyExists, FailureKind.CONFLICT),
        (lambda: status(410, "Expired", "no"), Gone, FailureKind.CLUSTER_UNAVAILABLE),
        (lambda: status(403, "Forbidden", QUOTA, name="a"), QuotaExceeded, FailureKind.QUOTA_EXCEEDED),
        (
            lambda: status(403, "Forbidden", "no", causes=[{"reason": "NamespaceTerminating"}]),
            NamespaceTerminating,
            FailureKind.CONFLICT,
        ),
        (lambda: status(500, "InternalError", "no"), Unavailable, FailureKind.CLUSTER_UNAVAILABLE),
        (lambda: web.Response(status=503), Unavailable, FailureKind.CLUSTER_UNAVAILABLE),
    ],
)
async def test_status_becomes_error(
    tmp_path: Path,
    answer: Callable[[], web.Response],
    expected: type[ClusterError],
    kind: FailureKind,
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return answer()

    async with fake_cluster(tmp_path, handler) as (_, cluster):
        with pytest.raises(expected) as caught:
            await cluster.create(MANIFEST)
    assert type(caught.value) is expected
    assert caught.value.kind is kind


async def test_long_answers_are_cut(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return status(422, "Invalid", "x" * 5000, causes=[{"field": "spec.a", "message": "y" * 5000}])

    async with fake_cluster(tmp_path, handler) as (_, cluster):
        with pytest.raises(Invalid) as caught:
            await cluster.create(MANIFEST)
    assert len(str(caught.value)) == 256
    assert caught.value.fields[0][0] == "spec.a"
    assert len(caught.value.fields[0][1]) == 256


async def test_quota_parts() -> None:
    found = parse_quota(QUOTA)
    assert found is not None
    assert (found.quota, found.used) == ("plan", "count/configmaps=5")
    assert parse_quota("exceeded quota") is None


@pytest.mark.slow
class TestRetry:
    async def test_idempotent_is_sent_again_after_a_cut(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if len(api.seen) < 3:
                cut(request)
            return web.json_response(config_map("a"), status=201)

        async with fake_cluster(tmp_path, handler) as (api, cluster):
            assert (await cluster.apply(MANIFEST)).created
            assert api.methods() == ["PATCH"] * 3

    async def test_create_is_not_sent_again_after_a_cut(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            cut(request)
            return web.Response()

        async with fake_cluster(tmp_path, handler) as (api, cluster):
            with pytest.raises(Unavailable) as caught:
                await cluster.create(MANIFEST)
            assert caught.value.sent
            assert api.methods() == ["POST"]

    async def test_throttled_waits_as_told_and_gives_up_in_time(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            after = "1" if len(api.seen) == 1 else "30"
            return web.Response(status=429, headers={"Retry-After": after})

        async with fake_cluster(tmp_path, handler) as (api, cluster):
            started = time.monotonic()
            with pytest.raises(Throttled) as caught:
                await cluster.create(MANIFEST)
            assert 1.0 <= time.monotonic() - started < 15, "it waited for the second, too"
            assert caught.value.retry_after == 30
            assert len(api.seen) == 2

    async def test_refused_connection_was_not_sent(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            return web.json_response(config_map("a"))

        async with fake_cluster(tmp_path, handler) as (_, cluster):
            pass
        async with fake_cluster(tmp_path, handler) as (_, cluster):
            cluster.connection._endpoint = type(cluster.connection._endpoint)(
                "http://127.0.0.1:1", cluster.connection._endpoint.tls, None, None, True
            )
            with pytest.raises(Unavailable) as caught:
                await cluster.get(REF)
            assert not caught.value.sent

    async def test_rotated_token_is_read_again(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.headers["Authorization"] != "Bearer second":
                return status(401, "Unauthorized", "Unauthorized")
            return web.json_response(config_map("a"))

        async with fake_cluster(tmp_path, handler) as (_, cluster):
            cluster.connection._renewed -= 60
            write_kubeconfig(tmp_path / "kubeconfig", cluster.connection._endpoint.url, "second")
            assert await cluster.get(REF) is not None

    async def test_token_that_stays_wrong(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            return status(401, "Unauthorized", "Unauthorized")

        async with fake_cluster(tmp_path, handler) as (api, cluster):
            with pytest.raises(Unauthorized):
                await cluster.get(REF)
            assert len(api.seen) == 2


class TestForbidden:
    async def test_server_that_is_still_starting(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            return status(403, "Forbidden", "clusterrole not found", name="a")

        async with fake_cluster(tmp_path, handler) as (api, cluster):
            api.ready = False
            with pytest.raises(Unavailable):
                await cluster.create(MANIFEST)

    async def test_late_write_is_fenced(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.path == "/api/v1/namespaces/ns":
                return namespace(annotations={FENCE: "7"})
            return status(403, "Forbidden", "denied", name="a")

        async with fake_cluster(tmp_path, handler) as (_, cluster):
            with pytest.raises(Fenced) as caught:
                await cluster.create(fenced_manifest(6))
            assert (caught.value.ours, caught.value.namespace) == (6, 7)
            with pytest.raises(Forbidden) as rights:
                await cluster.create(fenced_manifest(7))
            assert type(rights.value) is Forbidden

    async def test_without_policy_the_fence_is_read_first(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.path == "/api/v1/namespaces/ns":
                return namespace(annotations={FENCE: "7"})
            return web.json_response(config_map("a"), status=201)

        async with fake_cluster(tmp_path, handler) as (api, cluster):
            with pytest.raises(Fenced):
                await cluster.apply(fenced_manifest(6))
            assert api.methods() == ["GET"]
            await cluster.apply(fenced_manifest(7))
            assert not await cluster.fence_enforced("ns")

    async def test_with_policy_writes_are_not_preceded_by_reads(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.path == "/api/v1/namespaces/ns":
                return namespace(annotations={FENCE: "7"})
            if json.loads(await request.text())["metadata"]["annotations"][FENCE] == "6":
                return status(403, "Forbidden", "denied", name="a")
            return web.json_response(config_map("a"), status=201)

        async with fake_cluster(tmp_path, handler) as (api, cluster):
            await cluster.apply(fenced_manifest(7))
            api.seen.clear()
            await cluster.apply(fenced_manifest(7))
            assert api.methods() == ["PATCH"]

    async def test_namespace_that_is_gone_is_not_about_rights(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.path == "/api/v1/namespaces/ns":
                return status(404, "NotFound", "no", name="ns")
            return status(403, "Forbidden", "no RoleBinding", name="a")

        async with fake_cluster(tmp_path, handler) as (_, cluster):
            assert await cluster.get(REF) is None
            assert not await cluster.delete(REF, propagation=Propagation.BACKGROUND)
            with pytest.raises(NotFound):
                await cluster.apply(MANIFEST)

    async def test_quota_that_is_not_counted_yet_is_waited_for(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.path == "/api/v1/namespaces/ns":
                return namespace()
            if request.path.endswith("/resourcequotas"):
                return web.json_response({"items": [{"spec": {"hard": {"pods": "1"}}, "status": counted}]})
            return status(403, "Forbidden", "status unknown for quota", name="a")

        counted: dict[str, object] = {}
        async with fake_cluster(tmp_path, handler) as (_, cluster):
            with pytest.raises(Throttled):
                await cluster.apply(MANIFEST)
            counted = {"hard": {"pods": "1"}}
            with pytest.raises(Forbidden):
                await cluster.apply(MANIFEST)

    async def test_namespace_that_is_going(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.path == "/api/v1/namespaces/ns":
                return namespace(deletionTimestamp="2026-11-22T00:00:00Z")
            return status(403, "Forbidden", "no RoleBinding", name="a")

        async with fake_cluster(tmp_path, handler) as (_, cluster):
            with pytest.raises(NamespaceTerminating):
                await cluster.get(REF)


class TestApplyWithoutReason:
    async def test_wrong_manifest(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.method == "GET":
                return status(404, "NotFound", "no", name="a")
            return status(
                500, "", "failed to create typed patch object (ns/a; v1): .spec.x: field not declared"
            )

        async with fake_cluster(tmp_path, handler) as (api, cluster):
            with pytest.raises(Invalid) as caught:
                await cluster.apply(MANIFEST)
            assert caught.value.fields == (("spec.x", "field not declared"),)
            assert [r.query.get("dryRun") for r in api.seen] == [None, "All", None]

    async def test_storage_in_trouble(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            return status(500, "", "etcdserver: leader changed")

        async with fake_cluster(tmp_path, handler) as (_, cluster):
            with pytest.raises(Unavailable):
                await cluster.apply(MANIFEST)

    async def test_storage_that_only_reads(self, tmp_path: Path) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if "dryRun" in request.query:
                return web.json_response(config_map("a"))
            return status(500, "", "etcdserver: mvcc: database space exceeded")

        async with fake_cluster(tmp_path, handler) as (_, cluster):
            with pytest.raises(Unavailable):
                await cluster.apply(MANIFEST)


async def test_conflict_names_the_managers(tmp_path: Path) -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl" using v1', "field": ".data.a"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "helm" using v1', "field": ".data.b"},
    ]

    async def handler(request: web.Request) -> web.StreamResponse:
        return status(409, "Conflict", "conflicts", causes=causes)

    async with fake_cluster(tmp_path, handler) as (api, cluster):
        with pytest.raises(Conflict) as caught:
            await cluster.apply(MANIFEST, force=False)
        assert caught.value.managers == ("helm", "kubectl")
        assert caught.value.fields == (".data.a", ".data.b")
        assert len(api.seen) == 1


async def test_delete_of_another_object(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(config_map("a"))
        return status(409, "Conflict", "Precondition failed", name="a")

    async with fake_cluster(tmp_path, handler) as (_, cluster):
        with pytest.raises(PreconditionFailed):
            await cluster.delete(REF, uid="other", propagation=Propagation.BACKGROUND)
        with pytest.raises(PreconditionFailed):
            await cluster.delete(REF, uid="uid-a", resource_version="0", propagation=Propagation.BACKGROUND)


async def test_list_reads_all_pages_and_starts_again_when_one_expired(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        match request.query.get("continue"), request.query.get("limit"):
            case None, None:
                return listing("9", config_map("a"), config_map("b"), config_map("c"))
            case None, _:
                return listing("5", config_map("a"), following="page2")
            case "page2", _:
                return listing("5", config_map("b"), following="page3")
            case _:
                return status(410, "Expired", "too old")

    async with fake_cluster(tmp_path, handler) as (_, cluster):
        found = await cluster.list("ConfigMap", "ns", labels={"b": "2", "a": "1"})
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b", "c"]  # type: ignore[index,call-overload]
    assert {item["kind"] for item in found.items} == {"ConfigMap"}
    assert found.resource_version == "9"


class TestLease:
    async def test_lost_when_the_ticker_stood_still(self, tmp_path: Path) -> None:
        now = [100.0]

        async def handler(request: web.Request) -> web.StreamResponse:
            return web.json_response(config_map("a"))

        async with (
            fake_cluster(tmp_path, handler) as (api, cluster),
            Lease(limit=8, clock=lambda: now[0]) as lease,
        ):
            guarded = cluster.fenced(lease)
            now[0] += 7
            await guarded.apply(MANIFEST)
            now[0] += 9
            with pytest.raises(LeaseLost):
                await guarded.apply(MANIFEST)
            with pytest.raises(LeaseLost):
                await guarded.delete(REF, propagation=Propagation.BACKGROUND)
            assert await guarded.get(REF) is not None
            assert api.methods() == ["PATCH", "GET"]

    async def test_stays_lost_when_the_ticker_goes_on(self) -> None:
        now = [0.0]
        async with Lease(limit=8, interval=0, clock=lambda: now[0]) as lease:
            now[0] += 9
            assert lease._task is not None
            await lease._task
            now[0] -= 9
            with pytest.raises(LeaseLost):
                lease.check()

    async def test_is_over_with_its_context(self) -> None:
        async with Lease() as lease:
            lease.check()
        with pytest.raises(LeaseLost):
            lease.check()


async def test_request_without_answer_ends(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    release = asyncio.Event()
    async with fake_cluster(tmp_path, handler) as (_, cluster):
        with pytest.raises(Unavailable):
            await cluster.connection.request(Call("GET", "/slow", timeout=0.1))
        release.set()
