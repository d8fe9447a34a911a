"""Snapshots of volumes as objects: names that follow from ids, and claims that are large enough."""

import pytest

from tests.helpers.contexts import CONTEXT
from workflows.domain import manifests
from workflows.domain.blueprint_models import Service, Volume, VolumeType
from workflows.domain.json_reading import mapping, text
from workflows.domain.snapshot_manifest import StoredVolume

DATA = Volume(name="data", mount_path="/data", type=VolumeType.PVC, size="1Gi", storage_class="fast")
CACHE = Volume(name="cache", mount_path="/cache", type=VolumeType.EMPTY_DIR)
DB = Service(name="db", image="postgres:16", volumes=(DATA, CACHE))
KEPT = StoredVolume(volume="data", driver="fast.csi", handle="h", content="snapcontent-1")


def test_claims_are_those_of_each_pod_and_lasting_volume() -> None:
    assert [(volume.name, ordinal, name) for volume, ordinal, name in manifests.claims(DB, 2)] == [
        ("data", 0, "data-db-0"),
        ("data", 1, "data-db-1"),
    ]


def test_names_follow_from_ids_and_differ_between_them() -> None:
    names = {
        manifests.volume_snapshot_name(snapshot, claim)
        for snapshot in ("s1", "s2")
        for claim in ("data-db-0", "data-db-1")
    }
    names |= {manifests.lent_name("e1", "s1", "data-db-0"), manifests.lent_name("e2", "s1", "data-db-0")}
    names |= {manifests.group_snapshot_name("s1"), manifests.group_snapshot_name("s1", 1)}
    names |= {manifests.volume_snapshot_name("s1", "data-db-0", window) for window in (1, 2)}
    assert len(names) == 10
    # The admission policy knows ours by it.
    assert all(name.startswith("perdure-") and len(name) <= 63 for name in names)


@pytest.mark.parametrize(
    ("least", "asked"),
    [(None, "1Gi"), (1 << 30, "1Gi"), (1000, "1Gi"), ((1 << 30) + 1, "1073741825")],
)
def test_no_claim_is_smaller_than_what_it_is_made_from(least: int | None, asked: str) -> None:
    stored = KEPT.model_copy(update={"restore_bytes": least})
    claim = manifests.restored_claim(CONTEXT, DB, "s1", "data-db-0", stored, DATA)
    assert text(claim, "spec", "resources", "requests", "storage") == asked
    assert text(claim, "spec", "storageClassName") == "fast"


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("VolumeSnapshotContent", "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted"),
        (
            "VolumeGroupSnapshotContent",
            "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted",
        ),
    ],
)
def test_a_content_is_marked_only_when_nobody_else_will(kind: str, mark: str) -> None:
    content: manifests.Manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "c", "uid": "u"}}
    kept = manifests.kept(CONTEXT, "s1", content)
    assert (text(kept, "spec", "deletionPolicy"), text(kept, "metadata", "uid")) == ("Retain", "u")
    going = manifests.let_go(CONTEXT, "s1", content, left_alone=False)
    assert text(going, "spec", "deletionPolicy") == "Delete"
    assert mapping(going, "metadata", "annotations") == {}
    left = manifests.let_go(CONTEXT, "s1", content, left_alone=True)
    assert mapping(left, "metadata", "annotations") == {mark: "yes"}


def test_what_is_lent_stays_when_it_is_given_back() -> None:
    content = manifests.lent_content(CONTEXT, "db", "s1", "data-db-0", KEPT)
    snapshot = manifests.lent_snapshot(CONTEXT, "db", "s1", "data-db-0")
    assert text(content, "spec", "deletionPolicy") == "Retain"
    name = text(snapshot, "metadata", "name")
    assert text(snapshot, "spec", "source", "volumeSnapshotContentName") == text(content, "metadata", "name")
    assert text(content, "spec", "volumeSnapshotRef", "name") == name
    assert text(content, "spec", "volumeSnapshotRef", "namespace") == CONTEXT.namespace
