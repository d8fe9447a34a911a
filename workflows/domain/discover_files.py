"""Which files of a repository a discovery looks at, told by their names alone."""

from __future__ import annotations

import posixpath
import re
from typing import Final

from workflows.domain.discover_report import SourceKind

MOST_FILES: Final = 500
"""Files of one discovery that are looked at."""
LARGEST_FILE: Final = 512 * 1024
"""Bytes of one of them."""
LARGEST_ALL: Final = 4 * 1024 * 1024
"""Bytes of all of them."""
LONGEST_PATH: Final = 500

_COMPOSE: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
"""As Compose prefers them."""
_COMPOSE_VARIANT: Final = re.compile(r"(?:docker-)?compose[._-].+\.ya?ml")
_DOCKERFILE: Final = re.compile(
    r"(?:dockerfile|containerfile)(?:[._-].+)?|.+\.(?:dockerfile|containerfile)", re.IGNORECASE
)
_ENV_FILE: Final = re.compile(r"\.env(?:\..+)?|.+\.env")
_SKIPPED: Final = frozenset(
    {"node_modules", "bower_components", "vendor", "venv", "__pycache__", "testdata", "fixtures"}
)


def skipped_directory(name: str) -> bool:
    """Whether a directory holds nothing that its project runs: other people's code, tools' own files."""
    return name in _SKIPPED or (name.startswith(".") and name not in (".", ".."))


def kind_by_name(path: str) -> SourceKind | None:
    """What a file is by its name; KUBERNETES for any YAML file, which may turn out to be something else."""
    name = posixpath.basename(path)
    if name in _COMPOSE or _COMPOSE_VARIANT.fullmatch(name):
        return SourceKind.COMPOSE
    if name == "Chart.yaml":
        return SourceKind.HELM
    if name in ("kustomization.yaml", "kustomization.yml", "Kustomization"):
        return SourceKind.KUSTOMIZE
    if _DOCKERFILE.fullmatch(name) and not name.endswith((".dockerignore", ".md", ".sh", ".yaml", ".yml")):
        return SourceKind.DOCKERFILE
    return SourceKind.KUBERNETES if name.endswith((".yaml", ".yml")) else None


def wanted(path: str) -> bool:
    """Whether a discovery looks at this file."""
    *directories, name = path.split("/")
    if len(path) > LONGEST_PATH or any(skipped_directory(directory) for directory in directories):
        return False
    return kind_by_name(path) is not None or _ENV_FILE.fullmatch(name) is not None


def compose_rank(path: str) -> tuple[int, int, str]:
    """Compose files in the order in which they are taken: near the root, then as Compose prefers them."""
    name = posixpath.basename(path)
    return (path.count("/"), _COMPOSE.index(name) if name in _COMPOSE else len(_COMPOSE), path)


def path_rank(path: str) -> tuple[int, str]:
    """Files in the order in which they are read: near the root first, then by name."""
    return (path.count("/"), path)


def below(path: str, directory: str) -> bool:
    """Whether a file is in a directory or further down; everything is below the empty one."""
    return not directory or path.startswith(f"{directory}/")
