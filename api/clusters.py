"""The clusters that this process reads live: opened at the first use, one connection pool each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol

from activities.settings import ClusterSettings
from clusters.errors import Unavailable

if TYPE_CHECKING:
    from clusters.gateway import Cluster


class Clusters(Protocol):
    """Where gateways come from."""

    async def get(self, name: str) -> Cluster:
        """Return the gateway of a cluster. Raises ClusterError when it cannot be opened."""
        ...


class OpenedClusters:
    """The real `Clusters`. Close it at the end of the process."""

    def __init__(self, settings: Mapping[str, ClusterSettings]) -> None:
        self._settings = settings
        self._opened: dict[str, Cluster] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def get(self, name: str) -> Cluster:
        """Return the gateway of a cluster, opened if need be."""
        known = self._opened.get(name)
        if known is not None:
            return known
        if name not in self._settings:
            raise Unavailable(f"the API has no settings for the cluster {name!r}")
        async with self._opening:
            if name not in self._opened:
                self._opened[name] = await self._open(name)
        return self._opened[name]

    async def _open(self, name: str) -> Cluster:
        # Late: the Kubernetes client takes a second and 60 MB, and nothing else needs it.
        from clusters.gateway import ClusterConfig, open_cluster  # noqa: PLC0415

        settings = self._settings[name]
        config = ClusterConfig(kubeconfig=settings.kubeconfig, context=settings.context, name=name)
        try:
            return await self._stack.enter_async_context(open_cluster(config))
        except (OSError, ValueError) as error:
            raise Unavailable(f"the cluster {name!r} cannot be opened: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._stack.aclose()
