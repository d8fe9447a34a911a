"""What the storage has of a snapshot, taken away again: all of it, or what its manifest does not name.

The controllers do it, in steps of their own: a driver removes what lies in its storage once the content is
being deleted *and* is marked so by the snapshot controller, which does that while it deletes the snapshot. So
a group goes before its members, none before the controllers are done with making it, and a content whose
snapshot is gone without having been marked is marked by us: nobody else comes back to it.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from activities._step import fail
from activities.snapshots.csi_objects import (
    CONTENT,
    CONTENTS,
    GROUP,
    VOLUME,
    Patience,
    content_of,
    is_going,
    is_left_alone,
    listed,
    members_of,
    refers_to,
)
from clusters.errors import Conflict, NotFound
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ref_of
from workflows.domain import manifests
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import at, mapping, strings, text
from workflows.domain.names import RESTORED, SNAPSHOT
from workflows.domain.snapshot_manifest import SnapshotManifest

_GROUP_PROTECTION: Final = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection"
"""Finalizer that the snapshot controller puts on a group once it has a content: without it a group is gone
at once, and the controller does not mark what it leaves."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is of a snapshot. `members`: of the groups, and not in `singles`."""

    groups: list[Manifest]
    singles: list[Manifest]
    members: list[Manifest]
    contents: list[Manifest]

    @property
    def everything(self) -> list[Manifest]:
        return [*self.groups, *self.singles, *self.members, *self.contents]


async def release(
    cluster: Cluster, context: EnvironmentContext, manifest: SnapshotManifest, patience: Patience
) -> None:
    """Let go of the VolumeSnapshots once the manifest names what they are bound to: that stays without them.

    What it does not name goes as a whole: another attempt had it cut. Those of the group that it names stay
    until the namespace goes: its controller wants group and members together.

    Ends when what goes is on its way, or after `patience.rest`: a controller that knows a content from before
    it was told to take the data along lets go of its snapshot and leaves the content.
    """
    named = {each.content for each in manifest.volumes}
    named |= {each.group_content for each in manifest.volumes if each.group_content}
    began = datetime.now(UTC)
    while True:
        found = await _found(cluster, context, manifest.snapshot_id)
        rest = all(_is_at_rest(group, members_of(group, found.members)) for group in found.groups)
        if rest or datetime.now(UTC) > began + patience.rest:
            break
        await asyncio.sleep(patience.look)
    removal = _Removal(cluster, context, manifest.snapshot_id)
    for snapshot in (*found.groups, *found.singles):
        content = await content_of(cluster, snapshot)
        if content is None or text(content, "metadata", "name") not in named:
            await removal.snapshot(snapshot, members_of(snapshot, found.members))
        elif text(snapshot, "kind") == VOLUME:
            await removal.delete(snapshot)
    began = datetime.now(UTC)
    while True:
        contents = await _contents(cluster, manifest.snapshot_id)
        unnamed = [each for each in contents if text(each, "metadata", "name") not in named]
        for content in unnamed:
            await removal.content(content)
        if all(map(is_going, unnamed)) or datetime.now(UTC) > began + patience.rest:
            return
        await asyncio.sleep(patience.look)


async def discard(
    cluster: Cluster, context: EnvironmentContext, snapshot_id: str, patience: Patience
) -> None:
    """Remove all that the storage keeps of a snapshot, whether or not its environment is still there.

    Ends when nothing of it is in the cluster any more; what still stands after `patience.gone` is told, and
    the same again goes on with it.
    """
    began = datetime.now(UTC)
    removal = _Removal(cluster, context, snapshot_id)
    gone: list[Manifest] = []
    while True:
        found = await _found(cluster, context, snapshot_id, gone)
        # Members are let go one after the other, when their group is gone already.
        gone = found.groups or gone
        now = datetime.now(UTC)
        for group in found.groups:
            members = members_of(group, found.members)
            if _is_at_rest(group, members) or now > began + patience.rest:
                await removal.snapshot(group, members)
        for single in found.singles:
            await removal.snapshot(single, ())
        for content in found.contents:
            await removal.content(content)
        left = found.everything
        if not left:
            # Last, for it reads all contents of the cluster.
            left = await _strays(cluster, context)
            for content in left:
                await removal.content(content)
        if not left:
            await _take_back(removal)
            return
        if now > began + patience.gone:
            held = "; ".join(sorted(_standing(each) for each in left))
            fail(failure(FailureKind.TIMEOUT, f"The storage has not removed {held}."), final=True)
        await asyncio.sleep(patience.look)


@dataclass(frozen=True, slots=True)
class _Removal:
    """Removes objects of one snapshot. All of it may be said twice, also of what is gone meanwhile."""

    cluster: Cluster
    context: EnvironmentContext
    snapshot_id: str

    async def snapshot(self, snapshot: Manifest, members: Collection[Manifest]) -> None:
        """Delete a snapshot and with it what it and its members are bound to, at the storage as well."""
        for each in (snapshot, *members):
            content = await content_of(self.cluster, each)
            if content is not None:
                await self._let_go(content, left_alone=False)
        await self.delete(snapshot)

    async def content(self, content: Manifest) -> None:
        """Delete a content that is left; one whose snapshot is there is the controller's to delete."""
        if await is_left_alone(self.cluster, content):
            await self._let_go(content, left_alone=True)
            await self.delete(content)

    async def delete(self, live: Manifest) -> None:
        """Delete an object, unless that is under way."""
        if not is_going(live):
            await self.cluster.delete(
                ref_of(live), uid=text(live, "metadata", "uid"), propagation=Propagation.BACKGROUND
            )

    async def _let_go(self, content: Manifest, *, left_alone: bool) -> None:
        """Have a content take along what lies in the storage when it goes; nothing when it is gone."""
        said = manifests.let_go(self.context, self.snapshot_id, content, left_alone=left_alone)
        if _says(content, said):
            return
        try:
            await self.cluster.apply(said)
        except (Conflict, NotFound):
            # With a UID an apply does not make it anew.
            if await self.cluster.get(ref_of(content)) is not None:
                raise


async def _found(
    cluster: Cluster, context: EnvironmentContext, snapshot_id: str, gone: Sequence[Manifest] = ()
) -> _Found:
    """Look for all there is; `gone`: groups that there were, whose members may be there still."""
    labels = {SNAPSHOT: snapshot_id}
    groups = await listed(cluster, GROUP, labels, context.namespace)
    singles = await listed(cluster, VOLUME, labels, context.namespace)
    # The controller gives members no labels of ours.
    of = [*groups, *gone]
    others = await listed(cluster, VOLUME, None, context.namespace) if of else []
    return _Found(
        groups=groups,
        singles=singles,
        members=[each for each in others if any(members_of(group, [each]) for group in of)],
        contents=await _contents(cluster, snapshot_id),
    )


async def _contents(cluster: Cluster, snapshot_id: str) -> list[Manifest]:
    """Return all contents of a snapshot, those of groups too."""
    labels = {SNAPSHOT: snapshot_id}
    return [each for kind in CONTENTS for each in await listed(cluster, kind, labels)]


async def _strays(cluster: Cluster, context: EnvironmentContext) -> list[Manifest]:
    """Return contents without our label whose snapshot, one of ours in this namespace, is gone.

    A snapshot that was deleted while its controller made the content leaves such a one. What is kept has its
    label before its snapshot goes.
    """
    found: list[Manifest] = []
    for kind in CONTENTS:
        for content in await listed(cluster, kind, None):
            namespace, name = refers_to(content)
            labels = mapping(content, "metadata", "labels")
            ours = namespace == context.namespace and name.startswith(manifests.SNAPSHOT_PREFIX)
            if ours and not {SNAPSHOT, RESTORED} & set(labels) and await is_left_alone(cluster, content):
                found.append(content)
    return found


async def _take_back(removal: _Removal) -> None:
    """Delete what still lends the snapshot to environments that are gone: names that lead nowhere now."""
    for content in await listed(removal.cluster, CONTENT, {RESTORED: removal.snapshot_id}):
        if await is_left_alone(removal.cluster, content):
            await removal.delete(content)


def _is_at_rest(group: Manifest, members: Collection[Manifest]) -> bool:
    """Return whether the controllers are done with making a group, or have failed to.

    A member that does not say yet of which group it is would never be let go by its controller (8.4).
    """
    if is_going(group) or text(group, "status", "error", "message"):
        return True
    return (
        at(group, "status", "readyToUse") is True
        and _GROUP_PROTECTION in strings(group, "metadata", "finalizers")
        and all(text(each, "status", "volumeGroupSnapshotName") for each in members)
    )


def _says(content: Manifest, said: Manifest) -> bool:
    """Return whether a content says all that is to be said of it already."""
    return at(content, "spec", "deletionPolicy") == at(said, "spec", "deletionPolicy") and all(
        mapping(said, "metadata", part).items() <= mapping(content, "metadata", part).items()
        for part in ("labels", "annotations")
    )


def _standing(live: Manifest) -> str:
    """Say what stands, and what is known of why."""
    said = text(live, "status", "error", "message")
    finalizers = ", ".join(strings(live, "metadata", "finalizers"))
    why = said or (f"held by {finalizers}" if finalizers else "")
    return f"{ref_of(live).title}" + (f" ({why})" if why else "")
