"""Watches and shared views on the real cluster, also over a wire that fails."""

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from clusters.errors import ClusterError, Forbidden
from clusters.gateway import Cluster, ClusterConfig, Propagation, open_cluster
from clusters.view import NamespaceView, ViewPool
from clusters.watch import Changed, Deleted, Listed, WatchTimes, watch
from tests.clusters.conftest import Environment
from tests.clusters.proxy import proxied
from tests.helpers.waiting import eventually_async
from workflows.domain.json_reading import mapping, text

pytestmark = pytest.mark.cluster
QUICK = WatchTimes(stream=2, grace=0.5, first_delay=0.05, longest_delay=0.2)


async def shown(view: NamespaceView, name: str, there: bool = True) -> None:
    """Return when the view shows a ConfigMap, or shows it no more."""
    while (view.get("ConfigMap", name) is not None) != there:
        before = view.version
        assert await view.changed(before, 20) > before, f"{name} was not seen within 20 s"


class TestWatch:
    async def test_changes_and_clean_ends_are_seen_in_order(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        await perdure.apply(environment.config_map("before"))
        labels = {"app.kubernetes.io/name": "watched"}
        seen: list[str] = []
        times = WatchTimes(stream=1, grace=2)
        events = watch(perdure, "ConfigMap", environment.name, labels=labels, times=times)
        async with asyncio.timeout(20), aclosing(events) as running:
            async for event in running:
                match event:
                    case Listed(items):
                        seen.append(f"listed {len(items)}")
                        made = await perdure.apply(environment.config_map("watched", step="1"))
                        await perdure.apply(environment.config_map("other"))
                    case Changed(item) if mapping(item, "data") == {"step": "1"}:
                        seen.append("changed 1")
                        # Longer than the first stream lasts: the next one has to continue where it ended.
                        await asyncio.sleep(1.5)
                        await perdure.apply(environment.config_map("watched", step="2"))
                    case Changed(_):
                        seen.append("changed 2")
                        await perdure.delete(made.ref, propagation=Propagation.BACKGROUND)
                    case Deleted(item):
                        seen.append(f"deleted {text(item, 'metadata', 'name')}")
                        break
        assert seen == ["listed 0", "changed 1", "changed 2", "deleted watched"]

    async def test_frozen_wire(
        self, perdure: Cluster, environment: Environment, perdure_kubeconfig: Path, tmp_path: Path
    ) -> None:
        outages: list[ClusterError | None] = []
        async with (
            asyncio.timeout(40),
            proxied(perdure_kubeconfig, tmp_path) as (proxy, through),
            open_cluster(ClusterConfig(through, request_timeout=1)) as cluster,
            aclosing(
                watch(cluster, "ConfigMap", environment.name, on_outage=outages.append, times=QUICK)
            ) as running,
        ):
            assert isinstance(await anext(running), Listed)
            following = asyncio.ensure_future(anext(running))
            proxy.freeze()
            await perdure.apply(environment.config_map("missed"))

            async def noticed() -> bool:
                return bool(outages)

            await eventually_async(noticed, "the silence is noticed")
            proxy.cut()
            proxy.thaw()
            event = await following
        assert isinstance(event, Listed)
        assert "missed" in [text(item, "metadata", "name") for item in event.items]
        assert [error is None for error in outages] == [False, True]

    async def test_namespace_without_rights(self, perdure: Cluster) -> None:
        with pytest.raises(Forbidden):
            async with aclosing(watch(perdure, "Secret", "kube-system")) as running:
                await anext(running)


class TestView:
    async def test_shows_what_is_there_and_what_changes(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        await perdure.apply(environment.job("early", ["true"]))
        async with perdure.view(environment.name) as view:
            await view.synced()
            assert [text(job, "metadata", "name") for job in view.objects("Job")] == ["early"]
            assert view.objects("Job", labels={"app.kubernetes.io/name": "late"}) == []
            assert "managedFields" not in mapping(view.objects("Job")[0], "metadata")
            labels = {"app.kubernetes.io/name": "late"}
            before = view.version
            waiting = asyncio.create_task(view.changed(before, 20, labels=labels))
            await perdure.apply(environment.job("late", ["true"]))
            seen = await waiting
            assert seen > before
            # Its pod, with the same label, may be seen first: each kind has a watch of its own.
            while not (jobs := view.objects("Job", labels=labels)):
                seen = await view.changed(seen, 20, labels=labels)
            assert len(jobs) == 1
            assert view.outage is None

    async def test_waiting_ends_with_its_time(self, perdure: Cluster, environment: Environment) -> None:
        async with perdure.view(environment.name) as view:
            await view.synced()
            started = time.monotonic()
            after = await view.changed(view.version, 0.2, labels={"nobody": "has this"})
            assert 0.2 <= time.monotonic() - started < 15
            assert after == view.version

    async def test_kind_that_is_included_later(self, perdure: Cluster, environment: Environment) -> None:
        made = await perdure.apply(environment.config_map("a"))
        async with perdure.view(environment.name) as view:
            await view.synced()
            assert view.objects("ConfigMap") == []
            await view.include("ConfigMap")
            await view.include("ConfigMap")
            assert view.get("ConfigMap", "a") is not None
            await perdure.delete(made.ref, propagation=Propagation.BACKGROUND)
            await shown(view, "a", there=False)

    async def test_is_shared_and_lingers(self, perdure: Cluster, environment: Environment) -> None:
        async with perdure.view(environment.name) as first, perdure.view(environment.name) as second:
            assert first is second
        async with perdure.view(environment.name) as third:
            assert third is first
        brief = ViewPool(perdure, linger=0)
        async with brief.open(environment.name) as fourth:
            await fourth.synced()
        await asyncio.sleep(0.05)
        async with brief.open(environment.name) as fifth:
            assert fifth is not fourth
        await brief.close()

    async def test_broken_wire_loses_nothing(
        self, perdure: Cluster, environment: Environment, perdure_kubeconfig: Path, tmp_path: Path
    ) -> None:
        async with (
            asyncio.timeout(60),
            proxied(perdure_kubeconfig, tmp_path) as (proxy, through),
            open_cluster(ClusterConfig(through)) as cluster,
            cluster.view(environment.name) as view,
        ):
            await view.synced()
            await view.include("ConfigMap")
            made = await perdure.apply(environment.config_map("a"))
            await shown(view, "a")
            proxy.refusing = True
            proxy.cut()
            await perdure.apply(environment.config_map("b"))
            await perdure.delete(made.ref, propagation=Propagation.BACKGROUND)

            async def noticed() -> bool:
                return view.outage is not None

            await eventually_async(noticed, "the cut is noticed")
            assert view.get("ConfigMap", "a") is not None
            proxy.refusing = False
            await shown(view, "b")
            await shown(view, "a", there=False)
            while view.outage is not None:
                await view.changed(view.version, 0.5)

    async def test_says_when_it_may_not_look(self, perdure: Cluster) -> None:
        async with perdure.view("kube-system") as view:
            with pytest.raises(Forbidden):
                await view.synced()
            with pytest.raises(Forbidden):
                await view.changed(view.version, 1)
        async with perdure.view("kube-system") as again:
            assert again is not view
