"""What the gateway is given and what it answers."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from clusters.objects import Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """How to reach a cluster. `kubeconfig` None: from inside the cluster. `name` is for messages."""

    kubeconfig: Path | None
    context: str | None = None
    name: str = "default"
    connections: int = 256
    """Most ordinary requests at once; watches, log streams and exec have connections besides."""
    request_timeout: float = 15.0
    """Seconds for one ordinary request, answer included."""


class Propagation(StrEnum):
    """What a delete does to the objects that the deleted one owns."""

    FOREGROUND = "Foreground"
    BACKGROUND = "Background"
    ORPHAN = "Orphan"


@dataclass(frozen=True, slots=True)
class Applied:
    """What the cluster has after a write. `created`: it was not there before. `live`: as answered."""

    ref: ObjectRef
    uid: str
    resource_version: str
    created: bool
    live: Manifest


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects that were asked for, and the version from which to watch."""

    items: tuple[Manifest, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a container's log. `at`: RFC 3339 with nanoseconds, as the node wrote it."""

    at: str
    text: str


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended. `truncated`: there was more output than the limit; the rest was dropped."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool
