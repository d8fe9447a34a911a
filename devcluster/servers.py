"""Command lines of the embedded node's servers."""

from pathlib import Path

from devcluster.addresses import (
    API_PORT,
    CONTROLLERS_PORT,
    ETCD_HTTP_PORT,
    ETCD_PEER_PORT,
    ETCD_PORT,
    NODE_IP,
    NODE_NAME,
    POD_CIDR,
    SCHEDULER_PORT,
    SERVICE_CIDR,
)

_ETCD_URL = f"https://127.0.0.1:{ETCD_PORT}"
_ETCD_PEER_URL = f"https://127.0.0.1:{ETCD_PEER_PORT}"


def etcd(state: Path) -> list[str]:
    """etcd on loopback, without waiting for the disk: the cluster is thrown away anyway."""
    pki = state / "pki"
    tls = {
        "cert-file": pki / "apiserver.crt",
        "key-file": pki / "apiserver.key",
        "trusted-ca-file": pki / "ca.crt",
    }
    return [
        "--name=perdure",
        f"--data-dir={state / 'etcd'}",
        f"--listen-client-urls={_ETCD_URL}",
        f"--advertise-client-urls={_ETCD_URL}",
        # Without a port of its own for HTTP, gRPC is served by Go's HTTP/2 server, which costs a third more.
        f"--listen-client-http-urls=https://127.0.0.1:{ETCD_HTTP_PORT}",
        f"--listen-peer-urls={_ETCD_PEER_URL}",
        f"--initial-advertise-peer-urls={_ETCD_PEER_URL}",
        f"--initial-cluster=perdure={_ETCD_PEER_URL}",
        "--client-cert-auth",
        "--peer-client-cert-auth",
        *(f"--{name}={path}" for name, path in tls.items()),
        *(f"--peer-{name}={path}" for name, path in tls.items()),
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(state: Path) -> list[str]:
    """The API server, on the node's address only."""
    pki = state / "pki"
    return [
        f"--advertise-address={NODE_IP}",
        f"--bind-address={NODE_IP}",
        f"--secure-port={API_PORT}",
        f"--tls-cert-file={pki / 'server.crt'}",
        f"--tls-private-key-file={pki / 'server.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--token-auth-file={state / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        f"--etcd-servers={_ETCD_URL}",
        f"--etcd-cafile={pki / 'ca.crt'}",
        f"--etcd-certfile={pki / 'apiserver.crt'}",
        f"--etcd-keyfile={pki / 'apiserver.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver.crt'}",
        f"--kubelet-client-key={pki / 'apiserver.key'}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def controller_manager(state: Path) -> list[str]:
    """The controllers. No leader election: alone, it would only give up when the API server stands still."""
    return [
        f"--kubeconfig={state / 'controller-manager.kubeconfig'}",
        "--bind-address=127.0.0.1",
        f"--secure-port={CONTROLLERS_PORT}",
        f"--cert-dir={state / 'certs' / 'controller-manager'}",
        "--leader-elect=false",
        "--profiling=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={state / 'pki' / 'service-account.key'}",
        f"--root-ca-file={state / 'pki' / 'ca.crt'}",
        f"--cluster-cidr={POD_CIDR}",
        "--enable-hostpath-provisioner=true",
        f"--flex-volume-plugin-dir={state / 'volume-plugins'}",
        # The default of 20 requests a second caps Deployments at about as many pods a second.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def scheduler(state: Path) -> list[str]:
    """The scheduler, likewise without leader election."""
    return [
        f"--kubeconfig={state / 'scheduler.kubeconfig'}",
        "--bind-address=127.0.0.1",
        f"--secure-port={SCHEDULER_PORT}",
        f"--cert-dir={state / 'certs' / 'scheduler'}",
        "--leader-elect=false",
        "--profiling=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def kubelet(state: Path) -> list[str]:
    """The kubelet; what is not a flag is in its configuration file."""
    return [
        f"--config={state / 'kubelet.json'}",
        f"--kubeconfig={state / 'kubelet.kubeconfig'}",
        f"--root-dir={state / 'kubelet'}",
        f"--cert-dir={state / 'certs' / 'kubelet'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_IP}",
        "--v=1",
    ]


def proxy(state: Path) -> list[str]:
    """kube-proxy."""
    return [f"--config={state / 'proxy.json'}", f"--hostname-override={NODE_NAME}"]


def coredns(state: Path) -> list[str]:
    """CoreDNS, on the node's address."""
    return ["-conf", str(state / "Corefile")]
