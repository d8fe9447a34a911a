"""The running development cluster, for the tests that need one."""

import pytest

from devcluster.layout import default_layout
from tests.devcluster.kube import Kube
from tests.helpers.missing import missing


def _kube(admin: bool) -> Kube:
    layout = default_layout()
    kubeconfig = layout.admin_kubeconfig if admin else layout.perdure_kubeconfig
    if not kubeconfig.exists():
        missing("no cluster: python -m devcluster up")
    return Kube.of(kubeconfig)


@pytest.fixture
def admin() -> Kube:
    """The cluster with all rights."""
    return _kube(admin=True)


@pytest.fixture
def perdure() -> Kube:
    """The cluster with the control plane's rights."""
    return _kube(admin=False)
