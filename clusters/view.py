"""One live picture of a namespace per process, however many wait on it."""

from collections.abc import Mapping

from clusters.objects import Manifest


class NamespaceView:
    """The objects of one namespace, kept current by one watch per kind. From `Cluster.view`."""

    @property
    def version(self) -> int:
        """Return the number of the latest change that was taken in."""
        raise NotImplementedError

    def objects(self, kind: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Return the known objects of a kind, by name. They are shared: do not change them.

        Of Pod, Deployment, StatefulSet, ReplicaSet, Job and ResourceQuota; of other kinds after `include`.
        """
        raise NotImplementedError

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return one known object, None when there is none."""
        raise NotImplementedError

    async def include(self, kind: str) -> None:
        """Keep one more kind current (EndpointSlice, Event, ..), and return when it is complete."""
        raise NotImplementedError

    async def synced(self) -> None:
        """Return when every kind has been listed once; `Forbidden` or `NotServed` when one cannot be."""
        raise NotImplementedError

    async def changed(self, after: int, timeout: float) -> int:  # noqa: ASYNC109 - running out is no error
        """Return the version once it is above `after`, or after `timeout` seconds as it is then.

        Changes that arrive together wake once. Read `version` before `objects`, and hand it in here.
        """
        raise NotImplementedError

    @property
    def outage(self) -> float | None:
        """Return for how many seconds some kind has been without connection, None when all is well."""
        raise NotImplementedError
