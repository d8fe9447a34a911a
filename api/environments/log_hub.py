"""Live log lines: each container is read once per process, however many clients listen.

A watch on the environment's pods says which containers there are; each has one task that follows its log by
the time of the last line, over restarts of the container and cuts of the connection. All ends with the last
listener. Lines leave here redacted: the secret values are read again whenever a container starts, and those
known before stay known, for old pods still print old values.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog
from pydantic_core import to_json

from activities.db.engine import Database
from activities.db.records import EnvironmentRecord
from activities.db.repositories import environments, revisions
from activities.db.secret_material import secret_material
from activities.secrets import MasterKeys
from api.clusters import Clusters
from api.environments.schemas import LogEntry
from api.environments.shapes import read_blueprint
from clusters.errors import ClusterError, Invalid, NotFound
from clusters.objects import Manifest
from workflows.domain.json_reading import children, text
from workflows.domain.names import ENVIRONMENT, NAME
from workflows.domain.redaction import Redactor

if TYPE_CHECKING:
    from clusters.gateway import Cluster

QUEUE: Final = 5_000
"""Lines kept for a listener that reads slowly; beyond that it is dropped."""
KEPT_LENGTH: Final = 2 * 1024 * 1024
"""Length of the last lines of an environment that are kept, as they are written out."""
_PREVIOUS_LINES: Final = 1_000
_PREVIOUS_BYTES: Final = 4 * 1024 * 1024
_FIRST_RETRY_SECONDS: Final = 0.25
_LONGEST_RETRY_SECONDS: Final = 5.0
_LOOK_AGAIN_SECONDS: Final = 30.0
"""A log that ended is opened again when its pod changes, and after so long in any case."""
_DRAIN_SECONDS: Final = 10.0
"""What a pod wrote last may still come for so long after it is gone."""
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger("perdure.api.logs")


@dataclass(frozen=True, slots=True)
class Line:
    """One line, written out once for all listeners. `text`: its JSON."""

    service: str
    source: tuple[str, str]
    """Pod and container."""
    at: str
    text: str


def line_of(entry: LogEntry) -> Line:
    """Write a line out as every stream has it."""
    document = {
        "type": "log",
        "service": entry.service,
        "pod": entry.pod,
        "container": entry.container,
        "timestamp": entry.timestamp,
        "line": entry.line,
    }
    return Line(entry.service, (entry.pod, entry.container), entry.timestamp, to_json(document).decode())


@dataclass(slots=True, eq=False)
class _Kept:
    """The last lines of an environment; the oldest go when they are too long together.

    Each with the moment when it was written, or when it came: what is later, for the clocks are two, and a
    container may be read late. `lacks`: up to where lines of a container are not here, by the time of a line;
    `whole_after`: of none is any missing later than this.
    """

    lacks: dict[tuple[str, str], str] = field(default_factory=dict)
    whole_after: datetime = _LONG_AGO
    _lines: deque[tuple[datetime, Line]] = field(default_factory=deque)
    _length: int = 0

    def add(self, line: Line) -> None:
        self._lines.append((max(datetime.now(UTC), datetime.fromisoformat(line.at)), line))
        self._length += len(line.text)
        while self._length > KEPT_LENGTH:
            moment, gone = self._lines.popleft()
            self._length -= len(gone.text)
            self.lack(gone.source, gone.at, moment)

    def lack(self, source: tuple[str, str], at: str, moment: datetime) -> None:
        self.lacks[source] = at
        self.whole_after = max(self.whole_after, moment)

    def since(self, moment: datetime) -> list[Line]:
        return [
            line for at, line in self._lines if at >= moment and line.at > self.lacks.get(line.source, "")
        ]


@dataclass(slots=True, eq=False)
class LogListener:
    """One reader of an environment's lines, of one service if that is named."""

    service: str | None
    environment: _Environment
    slow: bool = False
    closed: bool = False
    _lines: deque[Line] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, line: Line) -> None:
        """Take a line; a listener whose queue is full is dropped."""
        if self.closed or not self._wants(line):
            return
        if len(self._lines) >= QUEUE:
            self._lines.clear()
            self.slow = True
            self.close()
            return
        self._lines.append(line)
        self._news.set()

    def close(self) -> None:
        """End it: whoever waits gets nothing."""
        self.closed = True
        self._news.set()

    async def positioned(self) -> None:
        """Wait until no line can slip between a log that is read now and those that come here.

        Returns early when the listener is closed.
        """
        await self.environment.positioned.wait()

    def has_all(self, since: datetime) -> bool:
        """Whether no container has lines from then on that `kept` lacks and `next` will not bring."""
        return self.environment.kept.whole_after < since

    def lacks(self) -> dict[tuple[str, str], str]:
        """Return up to where each container's lines are neither in `kept` nor will come by `next`."""
        return dict(self.environment.kept.lacks)

    def kept(self, since: datetime) -> list[Line]:
        """Return what was written or came since then and is here, in the order of each container."""
        return [line for line in self.environment.kept.since(since) if self._wants(line)]

    async def next(self, seconds: float) -> Sequence[Line]:
        """Return the lines that came; none after `seconds` without one, or when it is closed."""
        if not self._lines and not self.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        self._news.clear()
        lines = list(self._lines)
        self._lines.clear()
        return lines

    def _wants(self, line: Line) -> bool:
        return self.service in (None, line.service)


@dataclass(slots=True, eq=False)
class _Pod:
    """A pod that is there or was a moment ago, and the tasks that follow its containers."""

    manifest: Manifest
    gone: bool = False
    changes: dict[str, asyncio.Event] = field(default_factory=dict)
    """By container: set when the pod has changed since its log was opened."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def name(self) -> str:
        return text(self.manifest, "metadata", "name")

    def restarts(self, container: str) -> int:
        """How often a container has been started again."""
        for kind in ("containerStatuses", "initContainerStatuses"):
            for status in children(self.manifest, "status", kind):
                if text(status, "name") == container:
                    count = status.get("restartCount")
                    return count if isinstance(count, int) else 0
        return 0

    def touch(self) -> None:
        for change in self.changes.values():
            change.set()


class _Environment:
    """Everything that is read of one environment."""

    def __init__(self, hub: LogHub, record: EnvironmentRecord) -> None:
        self.listeners: set[LogListener] = set()
        self.positioned = asyncio.Event()
        self.kept = _Kept()
        self.redactor = Redactor(())
        self._hub = hub
        self._record = record
        self._pods: dict[str, _Pod] = {}
        self._values: set[str] = set()
        self._positioning = 0
        self._task = asyncio.create_task(self._run(), name=f"logs/{record.id}")

    async def close(self) -> None:
        tasks = [self._task, *(task for pod in self._pods.values() for task in pod.tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._end()

    def _end(self) -> None:
        self.positioned.set()
        for listener in self.listeners:
            listener.close()

    async def _run(self) -> None:
        try:
            await self._watch()
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - listeners have to be told, whatever it was
            _log.warning("log_hub_failed", environmentId=self._record.id, exc_info=True)
        finally:
            self._hub.forget(self._record.id, self)
            for pod in self._pods.values():
                for task in pod.tasks:
                    task.cancel()
            self._end()

    async def _watch(self) -> None:
        # Late: with the Kubernetes client behind it.
        from clusters.watch import Changed, Deleted, Listed, watch  # noqa: PLC0415

        await self.learn_secrets()
        cluster = await self._hub.clusters.get(self._record.cluster)
        first = True
        async for event in watch(
            cluster, "Pod", self._record.namespace, labels={ENVIRONMENT: self._record.id}
        ):
            match event:
                case Listed(items=items):
                    for item in items:
                        self._see(cluster, item, new=not first)
                    there = {text(item, "metadata", "uid") for item in items}
                    for uid in self._pods.keys() - there:
                        self._lose(uid)
                    if first and not self._positioning:
                        self.positioned.set()
                    first = False
                case Changed(item=item):
                    self._see(cluster, item, new=True)
                case Deleted(item=item):
                    self._lose(text(item, "metadata", "uid"))

    def _see(self, cluster: Cluster, item: Manifest, *, new: bool) -> None:
        uid = text(item, "metadata", "uid")
        pod = self._pods.get(uid)
        if pod is None:
            pod = self._pods[uid] = _Pod(item)
        pod.manifest = item
        for container in [*children(item, "spec", "initContainers"), *children(item, "spec", "containers")]:
            name = text(container, "name")
            if name not in pod.changes:
                pod.changes[name] = asyncio.Event()
                self._positioning += not new
                task = asyncio.create_task(self._follow(cluster, pod, name, new=new))
                pod.tasks.add(task)
                task.add_done_callback(pod.tasks.discard)
        pod.touch()

    def _lose(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is None:
            return
        pod.gone = True
        pod.touch()
        for task in pod.tasks:
            asyncio.get_running_loop().call_later(_DRAIN_SECONDS, task.cancel)

    async def learn_secrets(self) -> None:
        """Read the secret values anew; until that has succeeded nothing may go out."""
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                values = await self._hub.secret_values(self._record)
                break
            except Exception:  # noqa: BLE001 - whatever it is: without the values, nothing goes out
                _log.warning("log_secrets_unread", environmentId=self._record.id, exc_info=True)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
        if not values <= self._values:
            self._values |= values
            self.redactor = await asyncio.to_thread(Redactor, self._values)

    async def _follow(self, cluster: Cluster, pod: _Pod, container: str, *, new: bool) -> None:
        """Hand on a container's lines: all of a pod that is new, else those from now on."""
        position: str | None = None
        if not new:
            try:
                position = await self._position(cluster, pod, container)
            finally:
                self._positioning -= 1
                if not self._positioning:
                    self.positioned.set()
        delay = _FIRST_RETRY_SECONDS
        restarts = pod.restarts(container)
        learned: int | None = None
        while True:
            pod.changes[container].clear()
            wait = _LOOK_AGAIN_SECONDS
            try:
                if learned != pod.restarts(container):
                    learned = pod.restarts(container)
                    await self.learn_secrets()
                if restarts != pod.restarts(container):
                    restarts = pod.restarts(container)
                    for entry in await self._previous(cluster, pod, container):
                        if position is None or entry.at > position:
                            position = entry.at
                            self._hand_on(pod, container, entry.at, entry.text)
                async for line in cluster.follow_logs(
                    self._record.namespace, pod.name, container=container, since=position
                ):
                    position = line.at
                    self._hand_on(pod, container, line.at, line.text)
                delay = _FIRST_RETRY_SECONDS
            except (NotFound, Invalid):
                pass  # not started yet, or gone: the watch tells when that changes
            except ClusterError:
                wait = delay
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
            if pod.gone:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await pod.changes[container].wait()

    async def _position(self, cluster: Cluster, pod: _Pod, container: str) -> str | None:
        """The time of the last line so far, up to which lines are not here; None when there is none."""
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                log = await cluster.logs(
                    self._record.namespace,
                    pod.name,
                    container=container,
                    tail_lines=1,
                    limit_bytes=256,
                    timestamps=True,
                )
            except (NotFound, Invalid):
                return None
            except ClusterError:
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
                continue
            at = log.partition(" ")[0]
            if not at:
                return None
            self.kept.lack((pod.name, container), at, datetime.fromisoformat(at))
            return at

    async def _previous(self, cluster: Cluster, pod: _Pod, container: str) -> list[_Raw]:
        """The last lines of the run before, which a cut connection or two quick restarts may have cost us."""
        try:
            log = await cluster.logs(
                self._record.namespace,
                pod.name,
                container=container,
                previous=True,
                tail_lines=_PREVIOUS_LINES,
                limit_bytes=_PREVIOUS_BYTES,
                timestamps=True,
            )
        except (NotFound, Invalid):
            return []
        return [_Raw(at, line) for at, _, line in (each.partition(" ") for each in log.splitlines())]

    def _hand_on(self, pod: _Pod, container: str, at: str, content: str) -> None:
        entry = LogEntry(
            service=text(pod.manifest, "metadata", "labels", NAME),
            pod=pod.name,
            container=container,
            timestamp=at,
            line=self.redactor.redact(content),
        )
        line = line_of(entry)
        self.kept.add(line)
        for listener in self.listeners:
            listener.offer(line)


@dataclass(frozen=True, slots=True)
class _Raw:
    at: str
    text: str


class LogHub:
    """All environments whose logs somebody listens to."""

    def __init__(self, database: Database, clusters: Clusters, master_keys: MasterKeys) -> None:
        self.clusters = clusters
        self._database = database
        self._master_keys = master_keys
        self._environments: dict[str, _Environment] = {}

    @asynccontextmanager
    async def listen(self, record: EnvironmentRecord, service: str | None) -> AsyncIterator[LogListener]:
        """Listen to an environment's lines from now on."""
        environment = self._environments.get(record.id)
        if environment is None:
            environment = self._environments[record.id] = _Environment(self, record)
        listener = LogListener(service, environment)
        environment.listeners.add(listener)
        try:
            yield listener
        finally:
            environment.listeners.discard(listener)
            if not environment.listeners and self.forget(record.id, environment):
                await environment.close()

    def forget(self, environment_id: str, environment: _Environment) -> bool:
        """Let the next listener begin anew; False when it would have anyway."""
        if self._environments.get(environment_id) is not environment:
            return False
        del self._environments[environment_id]
        return True

    async def secret_values(self, record: EnvironmentRecord) -> set[str]:
        """Read the values that the environment's current revision uses."""
        async with self._database.reading() as session:
            current = await environments.get_environment(session, record.organization_id, record.id)
            revision = await revisions.get_revision(
                session, record.organization_id, record.id, current.revision
            )
            material = await secret_material(
                session,
                record.organization_id,
                record.id,
                read_blueprint(revision.blueprint),
                self._master_keys,
                revision=current.revision,
            )
        return set(material.values.values())

    async def close(self) -> None:
        """End everything that is read."""
        for environment in list(self._environments.values()):
            await environment.close()
