"""The gateway's part in fencing: to say that a write came too late, and to read first without the policy."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from clusters.connection import APPLY, Call, Connection
from clusters.errors import ClusterError, Fenced, Forbidden, NamespaceTerminating, NotFound, Throttled
from clusters.objects import KINDS, Manifest
from workflows.domain.json_reading import at, children, text
from workflows.domain.names import FENCE, FIELD_MANAGER

_ENFORCED_FOR: Final = 600.0
_NOT_ENFORCED_FOR: Final = 60.0


def fence_of(manifest: Mapping[str, JsonValue]) -> int | None:
    """Return the number in an object's fence annotation, None without a readable one."""
    number = text(manifest, "metadata", "annotations", FENCE)
    try:
        return int(number)
    except ValueError:
        return None


class Fencing:
    """Knows whether the cluster's admission policy refuses late writes, and what a refusal was about."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._probing = asyncio.Lock()
        self._enforced = False
        self._known_until = 0.0

    async def check(self, namespace: str, ours: int | None) -> None:
        """Raise `Fenced` when the write is too late and no policy would say so.

        Reading before writing is not atomic: it narrows the gap, the policy closes it.
        """
        if ours is None or (self._enforced and time.monotonic() < self._known_until):
            return
        live = await self._namespace(namespace)
        theirs = None if live is None else fence_of(live)
        if theirs is None:
            return
        if ours < theirs:
            raise _fenced(namespace, ours, theirs)
        await self.enforced(namespace)

    async def enforced(self, namespace: str) -> bool:
        """Return whether the policy holds for our own writes in this namespace, which must have a fence.

        Found out by a dry run of a write that has to be refused: needs no right to read policies, and sees
        a policy that is there but not bound.
        """
        async with self._probing:
            if time.monotonic() >= self._known_until:
                self._enforced = await self._probe(namespace)
                lasts = _ENFORCED_FOR if self._enforced else _NOT_ENFORCED_FOR
                self._known_until = time.monotonic() + lasts
            return self._enforced

    async def explain(self, error: Forbidden, namespace: str, ours: int | None) -> ClusterError:
        """Return what a refusal in a namespace was about; the refusal itself when it was about rights."""
        try:
            live = await self._namespace(namespace)
        except ClusterError:
            return error
        if live is None:
            # Rights in a namespace go with it, so whatever is asked about it is refused.
            return NotFound(f"namespace {namespace!r} does not exist")
        theirs = fence_of(live)
        if ours is not None and theirs is not None and ours < theirs:
            return _fenced(namespace, ours, theirs)
        if text(live, "metadata", "deletionTimestamp"):
            return NamespaceTerminating(f"namespace {namespace!r} is being deleted: {error}")
        if await self._counting(namespace):
            return Throttled(f"the quota of namespace {namespace!r} is not counted yet: {error}", 0.5)
        return error

    async def _counting(self, namespace: str) -> bool:
        """Return whether a quota has no status yet: until then it refuses all that it counts."""
        call = Call("GET", KINDS["ResourceQuota"].path(namespace), idempotent=True)
        try:
            quotas = children((await self._connection.request(call)).body, "items")
        except ClusterError:
            return False
        return any(at(quota, "status", "hard") != at(quota, "spec", "hard") for quota in quotas)

    async def _probe(self, namespace: str) -> bool:
        theirs = fence_of(await self._namespace(namespace) or {})
        if theirs is None:
            return False
        below = theirs - 1
        kind = KINDS["ConfigMap"]
        name = "perdure-fence-probe"
        body: Manifest = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": name, "namespace": namespace, "annotations": {FENCE: str(below)}},
        }
        call = Call(
            "PATCH",
            kind.path(namespace, name),
            {"fieldManager": FIELD_MANAGER, "force": "true", "dryRun": "All"},
            body,
            content_type=APPLY,
            idempotent=True,
        )
        try:
            await self._connection.request(call)
        except Forbidden as error:
            return isinstance(await self.explain(error, namespace, below), Fenced)
        return False

    async def _namespace(self, name: str) -> Manifest | None:
        call = Call("GET", KINDS["Namespace"].path(name=name), idempotent=True)
        try:
            return (await self._connection.request(call)).body
        except NotFound:
            return None


def _fenced(namespace: str, ours: int, theirs: int) -> Fenced:
    return Fenced(
        f"a newer operation has taken over namespace {namespace!r}: fence {ours} is below {theirs}",
        ours,
        theirs,
    )
