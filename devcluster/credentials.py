"""Certificates and tokens of the embedded node, new for every cluster and readable by their owner only."""

import base64
import json
import secrets
from pathlib import Path

from devcluster.addresses import API_URL, FIRST_SERVICE_IP, NODE_IP, NODE_NAME
from devcluster.tools import run, write_private

# Bearer tokens: user and groups as Kubernetes' own roles expect them.
USERS = {
    "admin": ("devcluster:admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
    "coredns": ("devcluster:coredns", ""),
}

_DAYS = "3650"
_EXTENSIONS = f"""\
basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=IP:127.0.0.1,IP:{NODE_IP},IP:{FIRST_SERVICE_IP},DNS:localhost,DNS:{NODE_NAME},\
DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
"""


def make_certificates(directory: Path) -> None:
    """Write ca, server, apiserver (client of etcd and kubelet) and service-account, unless they are there."""
    if (directory / "complete").exists():
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _make_key(directory / "ca.key")
    run(
        *("openssl", "req", "-x509", "-new", "-key", directory / "ca.key", "-out", directory / "ca.crt"),
        *("-days", _DAYS, "-subj", "/CN=perdure-devcluster"),
    )
    (directory / "extensions").write_text(_EXTENSIONS)
    _sign(directory, "server", f"/CN={NODE_NAME}")
    _sign(directory, "apiserver", "/O=system:masters/CN=devcluster:apiserver")
    _make_key(directory / "service-account.key")
    run(
        "openssl",
        "pkey",
        "-in",
        directory / "service-account.key",
        "-pubout",
        "-out",
        directory / "service-account.pub",
    )
    (directory / "complete").touch()


def _make_key(path: Path) -> None:
    pem = run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    write_private(path, pem)


def _sign(directory: Path, name: str, subject: str) -> None:
    key, request = directory / f"{name}.key", directory / f"{name}.csr"
    _make_key(key)
    run("openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request)
    run(
        *("openssl", "x509", "-req", "-in", request, "-out", directory / f"{name}.crt", "-days", _DAYS),
        *(
            "-CA",
            directory / "ca.crt",
            "-CAkey",
            directory / "ca.key",
            "-set_serial",
            str(secrets.randbits(64)),
        ),
        *("-extfile", directory / "extensions"),
    )
    request.unlink()


def make_tokens(path: Path) -> dict[str, str]:
    """The bearer token of each user, from the API server's token file, which is made if it is missing."""
    if not path.exists():
        lines = [
            f'{secrets.token_hex(32)},{user},{name},"{groups}"' for name, (user, groups) in USERS.items()
        ]
        write_private(path, "\n".join(lines) + "\n")
    fields = (line.split(",") for line in path.read_text().splitlines())
    return {row[2]: row[0] for row in fields}


def kubeconfig(ca_file: Path, token: str, user: str, server: str = API_URL) -> str:
    """A kubeconfig for one user; JSON, which every reader of kubeconfigs takes as YAML."""
    authority = base64.b64encode(ca_file.read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "perdure", "cluster": {"server": server, "certificate-authority-data": authority}}
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "perdure", "context": {"cluster": "perdure", "user": user}}],
        "current-context": "perdure",
    }
    return json.dumps(content, indent=2) + "\n"
