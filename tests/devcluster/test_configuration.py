"""What the embedded node's servers are told."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from devcluster import nodeconfig, servers
from devcluster.addresses import NODE_IP

STATE = Path("/somewhere/.dev/cluster")


def test_containerd_keeps_everything_below_the_state_directory() -> None:
    config = tomllib.loads(nodeconfig.containerd(STATE))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    runc = cri["containerd"]["runtimes"]["runc"]["options"]
    places = [
        config["root"],
        config["state"],
        config["grpc"]["address"],
        cri["cni"]["conf_dir"],
        runc["Root"],
    ]
    assert all(place.startswith(f"{STATE}/") for place in places)
    assert cri["restrict_oom_score_adj"] is True
    assert cri["netns_mounts_under_state_dir"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        servers.etcd(STATE),
        servers.apiserver(STATE),
        servers.controller_manager(STATE),
        servers.scheduler(STATE),
    ],
)
def test_servers_listen_on_loopback_and_the_node_address_only(arguments: list[str]) -> None:
    listening = [a for a in arguments if re.match(r"--(bind-address|listen-\w+-urls)=", a)]
    assert listening
    assert all(re.search(rf"=(https://)?(127\.0\.0\.1|{re.escape(NODE_IP)})(:\d+)?$", a) for a in listening)


def test_kubelet_and_proxy_listen_on_loopback_and_the_node_address_only() -> None:
    kubelet = json.loads(nodeconfig.kubelet(STATE))
    proxy = json.loads(nodeconfig.proxy(STATE))
    assert (kubelet["address"], kubelet["healthzBindAddress"], kubelet["readOnlyPort"]) == (
        NODE_IP,
        "127.0.0.1",
        0,
    )
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert proxy["nodePortAddresses"] == [f"{NODE_IP}/32"]
    assert proxy["healthzBindAddress"].startswith("127.0.0.1:")
    assert proxy["metricsBindAddress"].startswith("127.0.0.1:")


@pytest.mark.parametrize("arguments", [servers.controller_manager(STATE), servers.scheduler(STATE)])
def test_no_server_gives_up_because_the_api_server_stands_still(arguments: list[str]) -> None:
    assert "--leader-elect=false" in arguments


def test_dns_forwards_to_the_resolvers_of_the_machine() -> None:
    text = nodeconfig.corefile(
        STATE, f"search a.b\nnameserver 192.0.2.1\nnameserver {NODE_IP}\nnameserver 192.0.2.2\n"
    )
    assert "forward . 192.0.2.1 192.0.2.2\n" in text


def test_dns_does_without_a_resolver() -> None:
    text = nodeconfig.corefile(STATE, "# nothing here\nnameserver\n")
    assert "forward" not in text
    assert "kubernetes cluster.local" in text


def test_only_the_private_registry_asks_for_a_login() -> None:
    users = STATE / "users"
    open_one = json.loads(nodeconfig.registry(STATE, "10.0.0.1:5000", "a", None))
    private = json.loads(nodeconfig.registry(STATE, "10.0.0.1:5001", "b", users))
    assert "auth" not in open_one
    assert private["auth"]["htpasswd"]["path"] == str(users)
    assert open_one["storage"] != private["storage"]


def test_containerd_trusts_the_registries_as_plain_http_and_may_not_push() -> None:
    for name, text in nodeconfig.registry_hosts().items():
        host = tomllib.loads(text)["host"]["http://" + name.split("/")[0]]
        assert host == {"capabilities": ["pull", "resolve"]}
