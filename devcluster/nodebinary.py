"""The one program that holds all servers of the embedded node: found in the cache or built with Go."""

import os
import shutil
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.layout import Layout, hash_of
from devcluster.progress import Progress
from devcluster.tools import run

KUBERNETES = "v1.35.4"
COREDNS = "v1.13.1"
ETCD = "v3.6.5"

_VERSION_FLAGS = " ".join(
    [
        "-s -w",
        *(
            f"-X {package}.{name}={value}"
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
            for name, value in (
                ("gitVersion", KUBERNETES),
                ("gitMajor", "1"),
                ("gitMinor", KUBERNETES.split(".")[1]),
                ("gitTreeState", "clean"),
            )
        ),
    ]
)


def location(layout: Layout) -> Path:
    """Where the binary for this checkout's sources is, or will be."""
    sources = layout.repo / "devcluster" / "node"
    files = [sources / "go.mod", sources / "go.sum", sources / "main.go"]
    return layout.cache / hash_of(files, _VERSION_FLAGS) / "perdure-node"


def ensure(layout: Layout, progress: Progress) -> Path:
    """The binary's path; builds it first when this version of it was never built here."""
    binary = location(layout)
    if binary.exists():
        return binary
    if shutil.which("go") is None:
        raise DevclusterError(
            "the Go toolchain is needed to build the embedded node (https://go.dev/dl, 1.25 or newer)"
        )
    binary.parent.mkdir(parents=True, exist_ok=True)
    unfinished = binary.with_name(f"perdure-node.{os.getpid()}")
    sources = layout.repo / "devcluster" / "node"
    with progress.step(
        "Downloading the Go modules of Kubernetes, etcd and CoreDNS", expect="1 to 2 min the first time"
    ):
        run("go", "mod", "download", cwd=sources)
    with progress.step("Building the embedded Kubernetes node", expect="about 9 min on 2 cores, once"):
        run(
            *(
                "go",
                "build",
                "-buildvcs=false",
                "-trimpath",
                "-ldflags",
                _VERSION_FLAGS,
                "-o",
                unfinished,
                ".",
            ),
            cwd=sources,
            env={"CGO_ENABLED": "0"},
        )
    unfinished.replace(binary)
    return binary
