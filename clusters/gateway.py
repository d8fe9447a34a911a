"""The cluster as the rest of the product sees it: apply, read, delete, logs, exec, rights."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from clusters.lease import Lease
from clusters.objects import Manifest, ObjectRef
from workflows.domain.environment import ObjectIdentity
from workflows.domain.failures import Blocker

if TYPE_CHECKING:
    from clusters.view import NamespaceView


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """How to reach a cluster. `kubeconfig` None: from inside the cluster. `name` is for messages."""

    kubeconfig: Path | None
    context: str | None = None
    name: str = "default"
    connections: int = 256
    """Most connections at once; each running watch, log stream and exec holds one."""
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


class Cluster:
    """One cluster. Every method raises `clusters.errors` only. Made by `open_cluster`."""

    def fenced(self, lease: Lease) -> "Cluster":
        """Return the same cluster, whose every write calls `lease.check()` directly before it is sent."""
        raise NotImplementedError

    async def apply(self, manifest: Manifest, *, force: bool = True, dry_run: bool = False) -> Applied:
        """Server-side apply of a full manifest under our field manager.

        Fields that an earlier apply set and this one leaves out are removed. Without `force`, a field that
        another manager owns gives `Conflict` with the managers' names. Unknown fields and wrong types give
        `Invalid`. `dry_run` stores nothing and answers what would be stored.
        """
        raise NotImplementedError

    async def create(self, manifest: Manifest) -> Applied:
        """Create the object; `AlreadyExists` when it is there. `metadata.generateName` works."""
        raise NotImplementedError

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the live object, None when there is none."""
        raise NotImplementedError

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Listing:
        """Return all objects of a kind (all namespaces without `namespace`), read in pages.

        `fields` is a field selector (`{"involvedObject.uid": ..}`); `limit` stops after so many objects.
        """
        raise NotImplementedError

    async def delete(
        self,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation,
        grace_seconds: int | None = None,
    ) -> bool:
        """Ask for deletion; return False when the object was gone already.

        `PreconditionFailed` when the object there has another UID or resourceVersion. True says that the
        deletion was accepted: finalizers and grace periods may keep the object for a while.
        """
        raise NotImplementedError

    async def release_finalizers(self, ref: ObjectRef, *, uid: str, finalizers: Sequence[str]) -> None:
        """Take these finalizers off the object with this UID, for a deletion with `force=true` only.

        Nothing happens when the object is gone; `PreconditionFailed` when another has its name.
        """
        raise NotImplementedError

    async def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        previous: bool = False,
        tail_lines: int | None = 200,
        limit_bytes: int | None = 32_768,
        since_seconds: int | None = None,
        timestamps: bool = False,
    ) -> str:
        """Return a container's log, undecodable bytes replaced.

        `NotFound` when there is no such pod; `Invalid` when the container has no log: not yet, or no
        previous run.
        """
        raise NotImplementedError

    def follow_logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        tail_lines: int | None = None,
        since: str | None = None,
    ) -> AsyncIterator[LogLine]:
        """Yield a container's log lines until it ends.

        `since`: go on after the line with this `at`. `Unavailable` when the stream is cut: call again with
        the last line's `at`.
        """
        raise NotImplementedError

    async def execute(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes = b"",
        timeout: float,  # noqa: ASYNC109 - the limit is enforced inside the container too
        output_limit: int = 1_048_576,
    ) -> ExecResult:
        """Run a command in a running container and return how it ended.

        The container needs `sh`. The command ends with its caller: when this process dies or the time
        (seconds) is over, the command and its children are killed. `output_limit`: bytes kept of each stream.
        Never tried twice. `Unavailable` when no exit status arrived: it may have run; `TimedOut` after
        `timeout`; `NotFound` without the pod; `NotStarted` when it cannot be run there.
        """
        raise NotImplementedError

    async def allowed(
        self, namespace: str | None, verb: str, kind: str, subresource: str | None = None
    ) -> bool:
        """Return whether our own credentials may do this (SelfSubjectAccessReview)."""
        raise NotImplementedError

    async def inventory(
        self, namespace: str, *, labels: Mapping[str, str] | None = None
    ) -> tuple[ObjectIdentity, ...]:
        """Return all objects of the kinds in `OURS` in a namespace, sorted by kind and name."""
        raise NotImplementedError

    async def blockers(self, namespace: str) -> tuple[Blocker, ...]:
        """Return what keeps a namespace Terminating: objects with finalizers, and its own finalizers.

        Empty when the namespace is gone or not being deleted, or when nothing holds it any more. A kind that
        we may not list is reported as the cluster's own summary has it.
        """
        raise NotImplementedError

    async def served(self, kind: str) -> bool:
        """Return whether the cluster serves a kind of the registry (cached)."""
        raise NotImplementedError

    async def version(self) -> str:
        """Return the API server's version, for example `v1.35.4`."""
        raise NotImplementedError

    async def ping(self) -> None:
        """Return when the API server answers, raise otherwise."""
        raise NotImplementedError

    def view(self, namespace: str) -> AbstractAsyncContextManager["NamespaceView"]:
        """Share the live picture of a namespace: `async with cluster.view(namespace) as view`."""
        raise NotImplementedError


@asynccontextmanager
async def open_cluster(config: ClusterConfig) -> AsyncIterator[Cluster]:
    """Open a cluster: one connection pool for as long as the context lasts. Does not connect yet."""
    raise NotImplementedError
    yield
