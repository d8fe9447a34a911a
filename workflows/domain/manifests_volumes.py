"""Snapshots of volumes as Kubernetes objects, and the claims that are made from them."""

import hashlib
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from workflows.domain import names
from workflows.domain.blueprint_models import Service, Volume, VolumeType
from workflows.domain.environment import EnvironmentContext
from workflows.domain.manifests_common import (
    Manifest,
    environment_labels,
    environment_object,
    service_labels,
    service_object,
)
from workflows.domain.manifests_workload import claim_name, claim_spec
from workflows.domain.quantity import parse_quantity
from workflows.domain.snapshot_manifest import StoredVolume

_SNAPSHOTS: Final = "snapshot.storage.k8s.io"
_API: Final = f"{_SNAPSHOTS}/v1"
_GROUPS_API: Final = "groupsnapshot.storage.k8s.io/v1beta2"
SNAPSHOT_PREFIX: Final = "perdure-"
"""Of the names of all snapshots of volumes that are ours; the admission policy goes by it."""
_BEING_DELETED: Final = {
    "VolumeSnapshotContent": "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted",
    "VolumeGroupSnapshotContent": "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted",
}


def volume_snapshot_name(snapshot_id: str, claim: str, window: int | None = None) -> str:
    """Name of the VolumeSnapshot of a claim: the same for every attempt, so that the first one's is found.

    `window`: the number of the quiesce window that it is cut in: what was cut in another has another point.
    """
    return f"{SNAPSHOT_PREFIX}{_digest(snapshot_id, claim, *_of(window))}"


def group_snapshot_name(snapshot_id: str, window: int | None = None) -> str:
    """Name of the VolumeGroupSnapshot of all claims; `window` as above."""
    return f"{SNAPSHOT_PREFIX}{_digest(snapshot_id, *_of(window))}"


def lent_name(environment_id: str, snapshot_id: str, claim: str) -> str:
    """Name of the pair that lends a snapshot of a volume to a claim of another environment."""
    return f"{SNAPSHOT_PREFIX}restore-{_digest(environment_id, snapshot_id, claim)}"


def claims(service: Service, replicas: int) -> tuple[tuple[Volume, int, str], ...]:
    """The claims of a service with so many pods: volume, ordinal of the pod, name."""
    return tuple(
        (volume, ordinal, claim_name(volume.name, service.name, ordinal))
        for ordinal in range(replicas)
        for volume in service.volumes
        if volume.type is VolumeType.PVC
    )


def volume_snapshot(
    context: EnvironmentContext,
    service_name: str,
    snapshot_id: str,
    claim: str,
    snapshot_class: str,
    window: int | None = None,
) -> Manifest:
    """The VolumeSnapshot of a claim. Its spec is immutable: the same again changes nothing."""
    spec: dict[str, JsonValue] = {
        "volumeSnapshotClassName": snapshot_class,
        "source": {"persistentVolumeClaimName": claim},
    }
    name = volume_snapshot_name(snapshot_id, claim, window)
    made = service_object(_API, "VolumeSnapshot", name, context, service_name, {"spec": spec})
    return _labelled(made, {names.SNAPSHOT: snapshot_id})


def group_snapshot(
    context: EnvironmentContext, snapshot_id: str, group_class: str, window: int | None = None
) -> Manifest:
    """The VolumeGroupSnapshot of all claims of an environment.

    The snapshot controller looks at matchLabels alone, so it cannot be of some services.
    """
    spec: dict[str, JsonValue] = {
        "volumeGroupSnapshotClassName": group_class,
        "source": {"selector": {"matchLabels": {names.ENVIRONMENT: context.environment_id}}},
    }
    name = group_snapshot_name(snapshot_id, window)
    made = environment_object(_GROUPS_API, "VolumeGroupSnapshot", name, context, {"spec": spec})
    return _labelled(made, {names.SNAPSHOT: snapshot_id})


def kept(context: EnvironmentContext, snapshot_id: str, content: Manifest) -> Manifest:
    """What we say of a content that is to outlive its snapshot: whose it is, and that its data stay behind.

    The one kind of object of which we write a part: the rest is the controller's.
    """
    return _said(context, snapshot_id, content, "Retain", {})


def let_go(context: EnvironmentContext, snapshot_id: str, content: Manifest, *, left_alone: bool) -> Manifest:
    """What we say of a content that is to go, and its data with it.

    `left_alone`: its snapshot is gone. The driver's sidecar waits for a mark that the snapshot controller
    makes while it deletes a snapshot; for this one it does not come any more.
    """
    mark = _BEING_DELETED[str(content["kind"])]
    return _said(context, snapshot_id, content, "Delete", {mark: "yes"} if left_alone else {})


def _said(
    context: EnvironmentContext,
    snapshot_id: str,
    content: Manifest,
    policy: str,
    annotations: Mapping[str, str],
) -> Manifest:
    metadata = content["metadata"]
    assert isinstance(metadata, dict)  # noqa: S101 - every object has some
    written: dict[str, JsonValue] = {
        # With its UID it is an update or nothing, never a new object.
        "name": metadata["name"],
        "uid": metadata["uid"],
        "labels": {**environment_labels(context), names.SNAPSHOT: snapshot_id},
    }
    if annotations:
        written["annotations"] = {**annotations}
    return {
        "apiVersion": content["apiVersion"],
        "kind": content["kind"],
        "metadata": written,
        "spec": {"deletionPolicy": policy},
    }


def lent_content(
    context: EnvironmentContext, service_name: str, snapshot_id: str, claim: str, stored: StoredVolume
) -> Manifest:
    """The pre-provisioned content that says where a kept snapshot lies; going, it leaves that alone."""
    name = lent_name(context.environment_id, snapshot_id, claim)
    spec: dict[str, JsonValue] = {
        "deletionPolicy": "Retain",
        "driver": stored.driver,
        "source": {"snapshotHandle": stored.handle},
        "volumeSnapshotRef": {"kind": "VolumeSnapshot", "name": name, "namespace": context.namespace},
    }
    if stored.volume_mode is not None:
        spec["sourceVolumeMode"] = stored.volume_mode
    if stored.snapshot_class is not None:
        spec["volumeSnapshotClassName"] = stored.snapshot_class
    labels = {**service_labels(context, service_name), names.RESTORED: snapshot_id}
    return {
        "apiVersion": _API,
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": name, "labels": {**labels}},
        "spec": spec,
    }


def lent_snapshot(context: EnvironmentContext, service_name: str, snapshot_id: str, claim: str) -> Manifest:
    """The VolumeSnapshot that a claim can be made from, bound to the content of the same name."""
    name = lent_name(context.environment_id, snapshot_id, claim)
    spec: dict[str, JsonValue] = {"source": {"volumeSnapshotContentName": name}}
    made = service_object(_API, "VolumeSnapshot", name, context, service_name, {"spec": spec})
    return _labelled(made, {names.RESTORED: snapshot_id})


def restored_claim(
    context: EnvironmentContext,
    service: Service,
    snapshot_id: str,
    claim: str,
    stored: StoredVolume,
    volume: Volume,
) -> Manifest:
    """The claim as the controller of the StatefulSet would make it, but filled from a snapshot.

    The controller takes a claim that is there by its name. No driver makes a volume that is smaller than what
    it is made from.
    """
    spec = claim_spec(volume)
    requests = _at_least(spec, stored.restore_bytes)
    source: dict[str, JsonValue] = {
        "apiGroup": _SNAPSHOTS,
        "kind": "VolumeSnapshot",
        "name": lent_name(context.environment_id, snapshot_id, claim),
    }
    body: dict[str, JsonValue] = {
        **spec,
        "resources": {"requests": {"storage": requests}},
        "dataSource": source,
    }
    return service_object("v1", "PersistentVolumeClaim", claim, context, service.name, {"spec": body})


def _at_least(spec: Mapping[str, JsonValue], least: int | None) -> str:
    resources = spec["resources"]
    assert isinstance(resources, dict)  # noqa: S101 - as claim_spec makes it
    requests = resources["requests"]
    assert isinstance(requests, dict)  # noqa: S101 - as claim_spec makes it
    size = str(requests["storage"])
    return size if least is None or parse_quantity(size) >= least else str(least)


def _labelled(manifest: Manifest, more: Mapping[str, str]) -> Manifest:
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)  # noqa: S101 - as service_object makes it
    labels = metadata["labels"]
    assert isinstance(labels, dict)  # noqa: S101 - as service_object makes it
    return {**manifest, "metadata": {**metadata, "labels": {**labels, **more}}}


def _of(window: int | None) -> tuple[str, ...]:
    return () if window is None else (f"window {window}",)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]
