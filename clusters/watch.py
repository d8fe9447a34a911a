"""List and watch that never ends and never lies: own loop over the raw stream.

The client's own watch retries an expired version with the same version, and takes a silent stream for a quiet
one. Here a stream ends by the server's clock or, a little later, by ours; what cannot be continued is listed
again.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from clusters.answers import failure_of_status
from clusters.connection import Call
from clusters.errors import ClusterError, Forbidden, Gone, NotFound, NotServed, Unavailable
from clusters.objects import Manifest, kind_of, selector
from workflows.domain.json_reading import mapping, text

if TYPE_CHECKING:
    from clusters.gateway import Cluster


@dataclass(frozen=True, slots=True)
class Listed:
    """The whole truth at this moment: replaces all that was known before."""

    items: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """An object was added or changed."""

    item: Manifest


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object is gone; `item` is its last state."""

    item: Manifest


WatchEvent = Listed | Changed | Deleted
OnOutage = Callable[[ClusterError | None], None]


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """Seconds. A stream lasts `stream` +- a fifth, and is given up `grace` after it should have ended.

    `forbidden`: how long a refusal is waited out, since rights take a moment to reach every API server.
    """

    stream: float = 30.0
    grace: float = 5.0
    first_delay: float = 0.1
    longest_delay: float = 3.0
    forbidden: float = 3.0


TIMES: Final = WatchTimes()


class _Pause:
    """Delays between failed tries, growing and jittered; tells about outages once."""

    def __init__(self, times: WatchTimes, on_outage: OnOutage | None) -> None:
        self._times = times
        self._on_outage = on_outage
        self._delay = times.first_delay
        self._down = False

    def steady(self) -> None:
        """Note that a stream works: the next failure is a new one."""
        self._delay = self._times.first_delay

    def answered(self) -> None:
        """Note that the cluster answers."""
        if self._down and self._on_outage is not None:
            self._on_outage(None)
        self._down = False

    async def outage(self, error: ClusterError) -> None:
        """Report an outage, when it is new, and wait."""
        if not self._down and self._on_outage is not None:
            self._on_outage(error)
        self._down = True
        await self.wait()

    async def wait(self) -> None:
        await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))
        self._delay = min(self._delay * 2, self._times.longest_delay)


async def watch(
    cluster: "Cluster",
    kind: str,
    namespace: str | None,
    *,
    labels: Mapping[str, str] | None = None,
    on_outage: OnOutage | None = None,
    times: WatchTimes = TIMES,
) -> AsyncGenerator[WatchEvent, None]:
    """Yield `Listed` first, then each change, and `Listed` again whenever changes may have been missed.

    Never ends by itself. Raises `Forbidden` and `NotServed` only; while the cluster is away it waits, calls
    `on_outage` with the error at the first failed try and with None once it is back. A namespace that does
    not exist has no objects.
    """
    pause = _Pause(times, on_outage)
    version: str | None = None
    refused_since: float | None = None
    while True:
        try:
            if version is None:
                listing = await cluster.list(kind, namespace, labels=labels)
                version, refused_since = listing.resource_version, None
                pause.answered()
                yield Listed(listing.items)
            async for line in _stream(cluster, kind, namespace, labels, version, times):
                event, at = _read(line)
                pause.steady()
                version = at or version
                if event is not None:
                    yield event
            pause.steady()
        except NotServed:
            raise
        except Gone:
            version = None
            await pause.wait()
        except NotFound:
            version = None
            yield Listed(())
            await pause.wait()
        except Forbidden as error:
            now = time.monotonic()
            refused_since = now if refused_since is None else refused_since
            if now - refused_since > times.forbidden:
                raise
            version = None
            await pause.outage(error)
        except ClusterError as error:
            # Also a silent stream: whether it missed something is not known, so the truth is read anew.
            version = None
            await pause.outage(error)


async def _stream(
    cluster: "Cluster",
    kind: str,
    namespace: str | None,
    labels: Mapping[str, str] | None,
    version: str,
    times: WatchTimes,
) -> AsyncIterator[bytes]:
    """Yield the lines of one watch request until it ends in time; `Unavailable` when it ends otherwise."""
    seconds = max(1, round(times.stream * random.uniform(0.8, 1.2)))
    params = {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(seconds),
    }
    if labels:
        params["labelSelector"] = selector(labels)
    call = Call("GET", kind_of(kind).path(namespace), params)
    opened = time.monotonic()
    deadline = asyncio.get_running_loop().time() + seconds + times.grace
    async with cluster.connection.stream(call) as content:
        rest = b""
        while True:
            async with asyncio.timeout_at(deadline):
                chunk = await content.readany()
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
    if time.monotonic() - opened < min(1.0, seconds / 2):
        raise Unavailable("the watch ended as soon as it was opened")


def _read(line: bytes) -> tuple[WatchEvent | None, str]:
    """Return what a line says and the version it takes us to; raises what an ERROR line means."""
    try:
        frame: JsonValue = json.loads(line)
    except ValueError as error:
        raise Unavailable("the watch sent a line that is not JSON") from error
    if not isinstance(frame, dict):
        # A path that is not served answers 404, and in the stream of some servers a bare string.
        raise NotServed("the watch sent text in place of events")
    item = mapping(frame, "object")
    match text(frame, "type"):
        case "ADDED" | "MODIFIED":
            return Changed(item), text(item, "metadata", "resourceVersion")
        case "DELETED":
            return Deleted(item), text(item, "metadata", "resourceVersion")
        case "BOOKMARK":
            return None, text(item, "metadata", "resourceVersion")
        case "ERROR":
            raise failure_of_status(item)
        case other:
            raise Unavailable(f"the watch sent an event of unknown type {other!r}")
