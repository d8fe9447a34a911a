"""Configuration files of the embedded node's servers, as text."""

import json
from pathlib import Path

from devcluster.addresses import (
    CLUSTER_DOMAIN,
    DNS_HEALTH,
    KUBELET_PORT,
    NODE_IP,
    OPEN_REGISTRY,
    POD_CIDR,
    PRIVATE_REGISTRY,
    PROXY_HEALTH,
    PROXY_METRICS,
)

CNI_BINARIES = "/usr/lib/cni"
CNI_NETWORK = "perdure"
PAUSE_IMAGE = f"{OPEN_REGISTRY}/perdure/pause:1"


def containerd(state: Path) -> str:
    """containerd's settings: everything below ``state``, nothing shared with a containerd of the system."""
    root = state / "containerd"
    return f"""\
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "{containerd_socket(state)}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  # Without CAP_SYS_RESOURCE runc cannot lower a score and dies with "can't get final child's PID".
  restrict_oom_score_adj = true
  # So that `down` finds the network namespaces of all pods by their place.
  netns_mounts_under_state_dir = true
  max_concurrent_downloads = 8

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{root}/runc"
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BINARIES}"
    conf_dir = "{state}/cni"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{state}/certs.d"
"""


def containerd_socket(state: Path) -> Path:
    """The socket of our own containerd."""
    return state / "run" / "containerd.sock"


def registry_hosts() -> dict[str, str]:
    """containerd's settings per registry, by file name: ours speak plain http on the node's own address."""
    return {
        f"{address}/hosts.toml": (
            f'server = "http://{address}"\n[host."http://{address}"]\n  capabilities = ["pull", "resolve"]\n'
        )
        for address in (OPEN_REGISTRY, PRIVATE_REGISTRY)
    }


def cni(state: Path) -> str:
    """The pod network: one veth pair per pod, everything routed through the host.

    Point-to-point and not a shared bridge, so that answers between two pods of one service always pass the
    host's address translation, whether or not the kernel filters bridged traffic. Masquerading is one rule of
    ours for the whole range instead of a chain per pod, which costs several iptables calls in each pod start.
    """
    network = {
        "cniVersion": "0.4.0",
        "name": CNI_NETWORK,
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(state / "cni-leases"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    return json.dumps(network, indent=2)


def kubelet(state: Path) -> str:
    """The kubelet's configuration."""
    pki = state / "pki"
    return json.dumps(
        {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": NODE_IP,
            "port": KUBELET_PORT,
            "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1",
            "containerRuntimeEndpoint": f"unix://{containerd_socket(state)}",
            "tlsCertFile": str(pki / "server.crt"),
            "tlsPrivateKeyFile": str(pki / "server.key"),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [NODE_IP],
            "clusterDomain": CLUSTER_DOMAIN,
            "cgroupDriver": "cgroupfs",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "failCgroupV1": False,
            "makeIPTablesUtilChains": False,
            "podLogsDir": str(state / "pod-logs"),
            "volumePluginDir": str(state / "volume-plugins"),
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
            "maxPods": 500,
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
            "shutdownGracePeriod": "0s",
        },
        indent=2,
    )


def proxy(state: Path) -> str:
    """kube-proxy's configuration."""
    return json.dumps(
        {
            "kind": "KubeProxyConfiguration",
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "clientConnection": {"kubeconfig": str(state / "proxy.kubeconfig")},
            "mode": "iptables",
            "clusterCIDR": POD_CIDR,
            "bindAddress": NODE_IP,
            "nodePortAddresses": [f"{NODE_IP}/32"],
            "healthzBindAddress": PROXY_HEALTH,
            "metricsBindAddress": PROXY_METRICS,
            # A new service answers at once, not up to a second after the one before it.
            "iptables": {"minSyncPeriod": "100ms"},
            # The connection table is the machine's, not ours to resize.
            "conntrack": {"maxPerCore": 0, "min": 0},
        },
        indent=2,
    )


def corefile(state: Path, resolv_conf: str) -> str:
    """CoreDNS' configuration. Other names go to the machine's own resolvers, where it has any.

    The cluster's own names are not cached: they come from memory anyway, and a cached "no such name" would
    hold up an application that asked for its database a moment too early.
    """
    servers = [
        words[1]
        for line in resolv_conf.splitlines()
        if len(words := line.split()) >= 2 and words[0] == "nameserver" and words[1] != NODE_IP
    ]
    others = (
        f".:53 {{\n    bind {NODE_IP}\n    errors\n    cache 30\n    forward . {' '.join(servers)}\n}}\n"
        if servers
        else ""
    )
    return f"""\
{CLUSTER_DOMAIN}:53 in-addr.arpa:53 {{
    bind {NODE_IP}
    errors
    health {DNS_HEALTH}
    loadbalance
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {state}/coredns.kubeconfig perdure
        pods insecure
        ttl 5
    }}
}}
{others}"""


def registry(state: Path, address: str, name: str, users_file: Path | None) -> str:
    """A docker-registry's configuration; JSON, which its YAML reader takes."""
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(state / "registry" / name)},
            "delete": {"enabled": True},
        },
        "http": {"addr": address, "headers": {"X-Content-Type-Options": ["nosniff"]}},
    }
    if users_file is not None:
        config["auth"] = {"htpasswd": {"realm": "perdure", "path": str(users_file)}}
    return json.dumps(config, indent=2)
