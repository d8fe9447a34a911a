"""The system packages the embedded node needs."""

import shutil
from pathlib import Path

from devcluster.nodeconfig import CNI_BINARIES

TOOLS = (
    "containerd",
    "runc",
    "ctr",
    "iptables",
    "conntrack",
    "ebtables",
    "ethtool",
    "socat",
    "ip",
    "openssl",
    "buildah",
    "mmdebstrap",
    "docker-registry",
)


def missing_tools() -> list[str]:
    """Names of tools that are not installed."""
    # Not everybody has the administrator's directories in the path, root by `su` for one.
    places = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"
    absent = [
        name for name in TOOLS if shutil.which(name) is None and shutil.which(name, path=places) is None
    ]
    if not (Path(CNI_BINARIES) / "ptp").exists():
        absent.append(f"{CNI_BINARIES}/ptp")
    return absent
