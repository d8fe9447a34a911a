"""Where things are: the repository, the state of the cluster, the cache."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

# A Unix socket's path has room for 107 bytes, and the longest suffix we and the kubelet put below the state
# directory takes about 40 of them.
MAX_STATE_PATH = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """Directories of one checkout. ``down`` throws ``state`` away; ``cache`` is kept for the next ``up``."""

    repo: Path
    state: Path
    cache: Path

    @property
    def short(self) -> Path:
        """The state directory by a path short enough for sockets: itself, or a link to it in /run."""
        if len(str(self.state)) <= MAX_STATE_PATH:
            return self.state
        digest = hashlib.sha256(str(self.state).encode()).hexdigest()[:8]
        return Path("/run") / f"perdure-{digest}"

    @property
    def admin_kubeconfig(self) -> Path:
        """Kubeconfig with all rights."""
        return self.state / "admin.kubeconfig"

    @property
    def perdure_kubeconfig(self) -> Path:
        """Kubeconfig of the service account the control plane runs as."""
        return self.state / "perdure.kubeconfig"

    @property
    def registry_file(self) -> Path:
        """Addresses and credentials of the registry, as JSON."""
        return self.state / "registry.json"

    @property
    def provider_file(self) -> Path:
        """Name of the provider that ``up`` chose."""
        return self.state / "provider"

    @property
    def manifests(self) -> Path:
        """Objects that every cluster gets, shared with the production chart."""
        return self.repo / "deploy" / "cluster"

    @property
    def images(self) -> Path:
        """One directory with a Dockerfile per image."""
        return self.repo / "devcluster" / "images"


def default_layout() -> Layout:
    """The layout of the checkout this file belongs to."""
    return layout_of(Path(__file__).resolve().parent.parent)


def layout_of(repo: Path) -> Layout:
    """The layout of a checkout.

    Where its ``.dev`` is a link, the state is called by its real path: so does every checkout that shares it,
    and so does the kernel in its list of mounts.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    state = (repo / ".dev" / "cluster").resolve()
    return Layout(repo=repo, state=state, cache=caches / "perdure" / "devcluster")


def hash_of(paths: list[Path], *extra: str) -> str:
    """A short hash over names, contents and execute bits of files (or all in a directory), and words."""
    digest = hashlib.sha256()
    for root in paths:
        files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
        for file in files:
            if "__pycache__" in file.parts:
                continue
            name = str(file.relative_to(root.parent))
            executable = "x" if os.access(file, os.X_OK) else "-"
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{name}\0{executable}\0{content}\n".encode())
    for word in extra:
        digest.update(f"{word}\0".encode())
    return digest.hexdigest()[:16]
