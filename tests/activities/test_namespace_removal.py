"""What holds a namespace is searched for less often the longer it is held. The clock is virtual."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import pytest

from activities import _namespace
from activities._namespace import LONGEST_SEARCH_PAUSE_SECONDS, POLL_SECONDS, remove_namespace
from clusters.gateway import Cluster
from clusters.lease import Lease
from clusters.objects import Manifest
from clusters.values import Listing
from tests.helpers.contexts import CONTEXT
from workflows.contracts.delete import DeleteNamespace
from workflows.domain.failures import Blocker
from workflows.domain.names import ENVIRONMENT, INSTALLATION

HOUR = 3600
BLOCKER = Blocker(object="ConfigMap/held", finalizers=("example.com/hold",))


@dataclass
class HeldCluster:
    """A namespace whose pods end after `draining` seconds and which something holds for `held` of them."""

    draining: float
    held: float
    now: float = 0.0
    deleted: bool = False
    searches: list[float] = field(default_factory=list)

    def fenced(self, _lease: object) -> "HeldCluster":
        return self

    async def get(self, _ref: object) -> Manifest | None:
        labels = {ENVIRONMENT: CONTEXT.environment_id, INSTALLATION: CONTEXT.installation_id}
        return None if self.deleted else {"metadata": {"uid": "u", "labels": dict(labels)}}

    async def apply(self, _manifest: object) -> None:
        return

    async def inventory(self, _namespace: str) -> tuple[()]:
        return ()

    async def list(self, _kind: str, _namespace: str, **_: object) -> Listing:
        pods: tuple[Manifest, ...] = ({},) if self.now < self.draining else ()
        return Listing(items=pods, resource_version="1")

    async def blockers(self, _namespace: str) -> tuple[Blocker, ...]:
        self.searches.append(self.now)
        return (BLOCKER,) if self.now < self.held else ()

    async def delete(self, *_: object, **__: object) -> None:
        self.deleted = True


async def removed(cluster: HeldCluster, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Remove the namespace on the cluster's own clock; tells whether it is gone."""

    async def sleep(seconds: float) -> None:
        cluster.now += seconds

    monkeypatch.setattr(_namespace, "time", SimpleNamespace(monotonic=lambda: cluster.now))
    monkeypatch.setattr(_namespace, "asyncio", SimpleNamespace(sleep=sleep, gather=asyncio.gather))
    known = await cluster.blockers("")
    request = DeleteNamespace(context=CONTEXT, known_blockers=known, wait_seconds=HOUR)
    return (await remove_namespace(cast(Cluster, cluster), cast(Lease, None), request)).gone


@pytest.mark.parametrize("held", [0.0, 3.0, 20.0, 600.0])
async def test_it_goes_soon_after_it_is_let_go(monkeypatch: pytest.MonkeyPatch, held: float) -> None:
    cluster = HeldCluster(draining=0.0, held=held)
    assert await removed(cluster, monkeypatch)
    assert cluster.now <= held + LONGEST_SEARCH_PAUSE_SECONDS + 2 * POLL_SECONDS


async def test_it_goes_soon_after_its_pods_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = HeldCluster(draining=30.5, held=0.0)
    assert await removed(cluster, monkeypatch)
    assert cluster.now <= cluster.draining + 2 * POLL_SECONDS


async def test_hours_of_being_held_cost_few_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = HeldCluster(draining=0.0, held=2 * HOUR)
    assert not await removed(cluster, monkeypatch)
    assert len(cluster.searches) < 1.1 * HOUR / LONGEST_SEARCH_PAUSE_SECONDS
    pauses = [later - one for one, later in pairwise(cluster.searches)]
    assert max(pauses) <= LONGEST_SEARCH_PAUSE_SECONDS + POLL_SECONDS
