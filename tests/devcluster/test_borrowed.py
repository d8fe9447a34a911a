"""A borrowed cluster: the development cluster plays the one that is somebody's already."""

import json
import shutil
from pathlib import Path

import pytest

from devcluster.borrowed import BorrowedCluster
from devcluster.errors import DevclusterError
from devcluster.layout import Layout, default_layout
from devcluster.progress import Progress
from tests.devcluster.kube import Kube


def borrowed(tmp_path: Path, kubeconfig: Path | str, context: str = "") -> BorrowedCluster:
    layout = Layout(repo=default_layout().repo, state=tmp_path / "cluster", cache=tmp_path / "cache")
    return BorrowedCluster(layout, Progress(), str(kubeconfig), context)


@pytest.mark.cluster
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="a borrowed cluster is used through kubectl")
def test_it_gets_our_objects_and_keeps_everything_when_we_leave(tmp_path: Path, admin: Kube) -> None:
    cluster = borrowed(tmp_path, admin.kubeconfig, "perdure")
    cluster.check()
    cluster.up()
    cluster.up()
    account = Kube.of(cluster.layout.perdure_kubeconfig)
    assert account.call("GET", "/api/v1/namespaces/kube-system/secrets").code == 403
    assert "fencing policy: installed" in cluster.status()
    cluster.down()
    assert not cluster.layout.state.exists()
    assert admin.call("GET", "/api/v1/namespaces/perdure-system").code == 200


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match=r"absent\.yaml"):
        borrowed(tmp_path, tmp_path / "absent.yaml").check()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="a borrowed cluster is used through kubectl")
def test_only_the_context_asked_for_is_copied_and_a_dead_cluster_is_reported(tmp_path: Path) -> None:
    clusters = [{"name": n, "cluster": {"server": f"http://127.0.0.1:1/{n}"}} for n in ("a", "b")]
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": clusters,
        "users": [{"name": n, "user": {"token": f"token-{n}"}} for n in ("a", "b")],
        "contexts": [{"name": n, "context": {"cluster": n, "user": n}} for n in ("a", "b")],
        "current-context": "a",
    }
    file = tmp_path / "config"
    file.write_text(json.dumps(content))
    cluster = borrowed(tmp_path, file, "b")
    with pytest.raises(DevclusterError, match="does not answer"):
        cluster.up()
    copied = cluster.layout.admin_kubeconfig.read_text()
    assert "token-b" in copied
    assert "token-a" not in copied
