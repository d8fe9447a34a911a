"""What a cluster's storage can do, as its classes say; those of every driver cannot be had on one cluster."""

from pathlib import Path

import pytest
from aiohttp import web

from clusters.objects import Manifest
from clusters.storage import FoundStorage, storage_of
from tests.clusters.fake_api import fake_cluster, listing, status

SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1"
GROUPS = "/apis/groupsnapshot.storage.k8s.io/v1beta2"
PLURALS = {
    "/apis/storage.k8s.io/v1": "storageclasses",
    SNAPSHOTS: "volumesnapshotclasses",
    GROUPS: "volumegroupsnapshotclasses",
}


def named(name: str, default: str = "", made: str = "2026-01-01T00:00:00Z", **more: str) -> Manifest:
    """Return a class; `default`: prefix of the annotation that makes it the default one."""
    annotations: Manifest = {f"{default}/is-default-class": "true"} if default else {}
    return {
        "metadata": {"name": name, "annotations": annotations, "creationTimestamp": made},
        **more,
    }


async def found(tmp_path: Path, answers: dict[str, list[Manifest] | int | None]) -> FoundStorage:
    """Look at a cluster that has these classes, refuses them (a status), or does not know the kind (None)."""

    async def handler(request: web.Request) -> web.StreamResponse:
        group, _, plural = request.path.rpartition("/")
        if request.path in PLURALS:
            if answers.get(PLURALS[request.path]) is None:
                return web.Response(status=404, text="404 page not found")
            return web.json_response({"resources": [{"name": PLURALS[request.path]}]})
        answer = answers.get(plural)
        assert PLURALS[group] == plural
        if answer is None:
            return web.Response(status=404, text="404 page not found")
        if isinstance(answer, int):
            return status(answer, "Forbidden", "no")
        return listing("1", *answer)

    async with fake_cluster(tmp_path, handler) as (_, cluster):
        return await storage_of(cluster)


async def test_without_the_kinds_it_takes_none_and_nothing_is_said(tmp_path: Path) -> None:
    looked = await found(tmp_path, {"storageclasses": [named("standard", provisioner="host-path")]})
    assert looked.storage.drivers == {"standard": "host-path"}
    assert not looked.storage.snapshots | looked.storage.groups
    assert looked.unread == ()


async def test_what_may_not_be_read_counts_as_none_and_is_said(tmp_path: Path) -> None:
    looked = await found(tmp_path, {"storageclasses": 403, "volumesnapshotclasses": 403})
    assert looked.storage.drivers == {}
    assert looked.unread == ("storageclasses.storage.k8s.io", "volumesnapshotclasses.snapshot.storage.k8s.io")


@pytest.mark.parametrize("prefix", ["storageclass.kubernetes.io", "storageclass.beta.kubernetes.io"])
async def test_the_newest_default_class_is_that_of_claims_without_one(tmp_path: Path, prefix: str) -> None:
    classes = [
        named("old", prefix, provisioner="old.csi"),
        named("new", prefix, "2026-02-01T00:00:00Z", provisioner="new.csi"),
        named("other", made="2026-03-01T00:00:00Z", provisioner="other.csi"),
    ]
    looked = await found(tmp_path, {"storageclasses": classes})
    assert looked.storage.drivers[None] == "new.csi"


async def test_the_default_class_of_a_driver_is_taken_else_the_first_by_name(tmp_path: Path) -> None:
    classes = [
        named("a", driver="fast.csi"),
        named("b", "snapshot.storage.kubernetes.io", driver="fast.csi"),
        named("z", driver="slow.csi"),
        named("y", driver="slow.csi"),
    ]
    groups = [named("g", driver="fast.csi")]
    looked = await found(
        tmp_path,
        {"storageclasses": [], "volumesnapshotclasses": classes, "volumegroupsnapshotclasses": groups},
    )
    assert looked.snapshot_classes == {"fast.csi": "b", "slow.csi": "y"}
    assert looked.group_classes == {"fast.csi": "g"}
    assert looked.storage.snapshots == {"fast.csi", "slow.csi"}
    assert looked.storage.groups == {"fast.csi"}
