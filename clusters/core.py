"""What every access to a cluster goes through: the lease, the fence, and refusals that are explained."""

from collections.abc import Callable
from typing import Self

from clusters.answers import Answer
from clusters.connection import Call, Connection
from clusters.errors import Forbidden, NotFound
from clusters.fencing import Fencing, fence_of
from clusters.lease import Lease
from clusters.objects import Manifest, ObjectRef, kind_of
from workflows.domain.json_reading import text


class ClusterCore:
    """A connection, the lease that its writes are under, and how an answer is understood."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._fencing = Fencing(connection)
        self._lease: Lease | None = None

    def fenced(self, lease: Lease) -> Self:
        """Return the same cluster, whose every write calls `lease.check()` directly before it is sent."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._lease = lease
        return twin

    @property
    def connection(self) -> Connection:
        """Return the connection, for this package only."""
        return self._connection

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the live object, None when there is none."""
        call = Call("GET", kind_of(ref.kind).path(ref.namespace, ref.name), idempotent=True)
        try:
            return (await self._send(call, namespace=ref.namespace)).body
        except NotFound:
            return None

    @property
    def _guard(self) -> Callable[[], None] | None:
        return None if self._lease is None else self._lease.check

    async def _check_fence(self, manifest: Manifest) -> None:
        namespace = _home(manifest)
        if namespace:
            await self._fencing.check(namespace, fence_of(manifest))

    async def _send(
        self, call: Call, written: Manifest | None = None, *, namespace: str | None = None
    ) -> Answer:
        """Send a request; explain a refusal by the state of the namespace that it was about."""
        manifest = written or {}
        where = namespace or _home(manifest)
        try:
            return await self._connection.request(call)
        except Forbidden as error:
            if not where or type(error) is not Forbidden:
                raise
            explained = await self._fencing.explain(error, where, fence_of(manifest))
            if isinstance(explained, NotFound) and text(manifest, "kind") == "Namespace":
                raise
            raise explained from error


def _home(manifest: Manifest) -> str:
    """Return the namespace whose fence a manifest is under: of a Namespace, itself."""
    own = "name" if text(manifest, "kind") == "Namespace" else "namespace"
    return text(manifest, "metadata", own)
