"""FreeStorage: what storages of clusters keep of snapshots of no use is removed there.

By itself, beside the sweep: a cluster that is away holds up neither policies and expiry nor other clusters.
"""

import asyncio
from typing import Final

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._options import FREE_STORAGE_BUDGET
from workflows._storage import free, kept_at_storage
from workflows.contracts.sweep_snapshots import FREE_STORAGE, AtStorage, StorageFreed
from workflows.domain.failures import FailureKind

_AWAY: Final = (FailureKind.CLUSTER_UNAVAILABLE, FailureKind.TIMEOUT)
"""After these nothing else is asked of the cluster this time."""


@workflow.defn(name=FREE_STORAGE, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class FreeStorage:
    """Asks each cluster once; its schedule starts it again, and then others come first."""

    @workflow.run
    async def run(self) -> StorageFreed:
        """Run once and say what was done."""
        kept = await kept_at_storage()
        by_cluster: dict[str, list[AtStorage]] = {}
        for each in kept.snapshots:
            by_cluster.setdefault(each.cluster, []).append(each)
        freed = await asyncio.gather(*(_free(theirs) for theirs in by_cluster.values()))
        return StorageFreed(asked=len(kept.snapshots), freed=sum(freed))


async def _free(theirs: list[AtStorage]) -> int:
    """Have one cluster remove what it keeps, for a while, one snapshot after the other; return how many."""
    freed = 0
    until = workflow.now() + FREE_STORAGE_BUDGET
    for each in theirs:
        if workflow.now() >= until:
            break
        failure = await free(each)
        if failure is None:
            freed += 1
        elif failure.kind in _AWAY:
            break
    return freed
