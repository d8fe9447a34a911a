"""What is left of connections when a cluster is closed: nothing, also of those that were broken off."""

import asyncio
from pathlib import Path

import pytest

from clusters.gateway import ClusterConfig, open_cluster
from clusters.objects import ObjectRef
from tests.clusters.conftest import kubeconfig
from tests.clusters.proxy import proxied
from tests.helpers.waiting import until

pytestmark = pytest.mark.cluster

DEFAULT = ObjectRef("ServiceAccount", "default", "default")


async def test_a_request_that_was_broken_off_leaves_no_socket_open(tmp_path: Path) -> None:
    """The other side is silent, so that the farewell of TLS is not answered."""
    admin = kubeconfig("PERDURE_TEST_ADMIN_KUBECONFIG", "admin")
    async with proxied(admin, tmp_path) as (proxy, redirected):
        async with open_cluster(ClusterConfig(redirected)) as cluster:
            await cluster.get(DEFAULT)
            proxy.freeze()
            waiting = [asyncio.create_task(cluster.get(DEFAULT)) for _ in range(3)]
            sockets = cluster.connection._sockets
            await until(lambda: proxy.accepted == 3, "each request has its connection")
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            made = sockets.open()
            assert made
        assert not sockets.open()
        assert all(each.fileno() == -1 for each in made)
