"""One live picture of a namespace per process, however many wait on it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from clusters.errors import ClusterError
from clusters.objects import Manifest, matches
from clusters.watch import Changed, Deleted, Listed, WatchEvent, watch
from workflows.domain.json_reading import mapping, text

if TYPE_CHECKING:
    from clusters.gateway import Cluster

KEPT: Final = ("Pod", "Deployment", "StatefulSet", "ReplicaSet", "Job", "ResourceQuota")
"""The kinds of every view."""

_REMEMBERED: Final = 512
_LINGER: Final = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    labels: Mapping[str, str] | None
    woken: asyncio.Future[None]


class NamespaceView:
    """The objects of one namespace, kept current by one watch per kind. From `Cluster.view`."""

    def __init__(self, cluster: "Cluster", namespace: str) -> None:
        self.namespace = namespace
        self._cluster = cluster
        self._objects: dict[str, dict[str, Manifest]] = {}
        self._listed: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._version = 0
        # Labels of what changed last, to see whether a waiter missed something while it was busy.
        self._recent: deque[tuple[int, Manifest | None]] = deque(maxlen=_REMEMBERED)
        self._waiters: set[_Waiter] = set()
        self._outages: dict[str, float] = {}
        self._error: ClusterError | None = None
        for kind in KEPT:
            self._follow(kind)

    @property
    def version(self) -> int:
        """Return the number of the latest change that was taken in."""
        return self._version

    @property
    def outage(self) -> float | None:
        """Return for how many seconds some kind has been without connection, None when all is well."""
        return time.monotonic() - min(self._outages.values()) if self._outages else None

    @property
    def failed(self) -> bool:
        """Return whether a watch has ended: the view is not current any more, and says so when asked."""
        return self._error is not None

    def objects(self, kind: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Return the known objects of a kind, by name. They are shared: do not change them.

        Of the kinds in `KEPT`; of others after `include`. Without managedFields.
        """
        known = self._objects.get(kind, {})
        return [known[name] for name in sorted(known) if matches(known[name], labels)]

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return one known object, None when there is none."""
        return self._objects.get(kind, {}).get(name)

    async def include(self, kind: str) -> None:
        """Keep one more kind current (EndpointSlice, Event, ..), and return when it is complete."""
        self._follow(kind)
        await self._complete(kind)

    async def synced(self) -> None:
        """Return when every kind has been listed once; `Forbidden` or `NotServed` when one cannot be."""
        for kind in tuple(self._listed):
            await self._complete(kind)

    async def changed(
        self,
        after: int,
        timeout: float,  # noqa: ASYNC109 - running out is no error
        *,
        labels: Mapping[str, str] | None = None,
    ) -> int:
        """Return the version once it is above `after`, or after `timeout` seconds as it is then.

        Changes that arrive together wake once. Read `version` before `objects`, and hand it in here. With
        `labels`, only changes of objects that carry them count, and whole new listings.
        """
        self._raise()
        if not self._missed(after, labels):
            waiter = _Waiter(labels, asyncio.get_running_loop().create_future())
            self._waiters.add(waiter)
            try:
                await asyncio.wait((waiter.woken,), timeout=timeout)
            finally:
                self._waiters.discard(waiter)
            self._raise()
        return self._version

    async def close(self) -> None:
        """End all watches."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _follow(self, kind: str) -> None:
        if kind not in self._tasks:
            self._listed[kind] = asyncio.Event()
            self._tasks[kind] = asyncio.create_task(
                self._keep_current(kind), name=f"view-{self.namespace}-{kind}"
            )

    async def _complete(self, kind: str) -> None:
        await self._listed[kind].wait()
        self._raise()

    async def _keep_current(self, kind: str) -> None:
        on_outage = partial(self._note_outage, kind)
        try:
            async for event in watch(self._cluster, kind, self.namespace, on_outage=on_outage):
                self._take(kind, event)
                if isinstance(event, Listed):
                    self._listed[kind].set()
        except ClusterError as error:
            self._error = error
            for listed in self._listed.values():
                listed.set()
            self._wake(None)

    def _take(self, kind: str, event: WatchEvent) -> None:
        known = self._objects.setdefault(kind, {})
        match event:
            case Listed(items):
                known.clear()
                known.update((text(item, "metadata", "name"), _slim(item)) for item in items)
                self._wake(None)
            case Changed(item):
                before = known.get(text(item, "metadata", "name"), {})
                known[text(item, "metadata", "name")] = _slim(item)
                # A label that was taken away concerns those who wait for it too.
                self._wake({**mapping(before, "metadata", "labels"), **mapping(item, "metadata", "labels")})
            case Deleted(item):
                known.pop(text(item, "metadata", "name"), None)
                self._wake(mapping(item, "metadata", "labels"))

    def _wake(self, labels: Manifest | None) -> None:
        """Count a change and wake those whom it concerns; None concerns all."""
        self._version += 1
        self._recent.append((self._version, labels))
        for waiter in tuple(self._waiters):
            if _concerns(labels, waiter.labels) and not waiter.woken.done():
                waiter.woken.set_result(None)

    def _missed(self, after: int, labels: Mapping[str, str] | None) -> bool:
        if self._version <= after:
            return False
        if labels is None or self._version - after > len(self._recent):
            return True
        return any(_concerns(changed, labels) for version, changed in self._recent if version > after)

    def _note_outage(self, kind: str, error: ClusterError | None) -> None:
        if error is None:
            self._outages.pop(kind, None)
        else:
            self._outages.setdefault(kind, time.monotonic())

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _concerns(changed: Manifest | None, wanted: Mapping[str, str] | None) -> bool:
    if changed is None or not wanted:
        return True
    return all(changed.get(key) == value for key, value in wanted.items())


def _slim(item: Manifest) -> Manifest:
    mapping(item, "metadata").pop("managedFields", None)
    return item


@dataclass(slots=True)
class _Entry:
    view: NamespaceView
    users: int = 0
    closing: asyncio.TimerHandle | None = None


class ViewPool:
    """The views of one process on one cluster: shared by namespace, kept a little longer than used.

    Services are deployed one after the other: the view of the first serves the next.
    """

    def __init__(self, cluster: "Cluster", linger: float = _LINGER) -> None:
        self._cluster = cluster
        self._linger = linger
        self._entries: dict[str, _Entry] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, namespace: str) -> AsyncIterator[NamespaceView]:
        """Share the view of a namespace for as long as the context lasts."""
        entry = self._entries.get(namespace)
        if entry is None or entry.view.failed:
            entry = self._entries[namespace] = _Entry(NamespaceView(self._cluster, namespace))
        if entry.closing is not None:
            entry.closing.cancel()
            entry.closing = None
        entry.users += 1
        try:
            yield entry.view
        finally:
            entry.users -= 1
            if entry.users == 0:
                loop = asyncio.get_running_loop()
                entry.closing = loop.call_later(self._linger, self._drop, namespace, entry)

    async def close(self) -> None:
        """End all views."""
        entries, self._entries = list(self._entries.values()), {}
        for entry in entries:
            if entry.closing is not None:
                entry.closing.cancel()
        await asyncio.gather(*(entry.view.close() for entry in entries), *self._closing)

    def _drop(self, namespace: str, entry: _Entry) -> None:
        if self._entries.get(namespace) is entry:
            del self._entries[namespace]
        task = asyncio.get_running_loop().create_task(entry.view.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
