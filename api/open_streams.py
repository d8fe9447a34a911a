"""The streams that are open in this process: how many a key has, and how they are ended from outside.

A stream outlives the check of its key by hours. So the keys of all open streams are looked at again together,
one query for all of them: what a revoked key has open ends within `RECHECK_SECONDS` and the query's time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from activities.db.engine import Database
from activities.db.records import Actor
from activities.db.repositories.keys import usable_keys
from api.problems import ProblemError
from workflows.domain.failures import FailureKind

RECHECK_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 5.0

_log = structlog.get_logger("perdure.api.streams")


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream was ended by us: close code of a WebSocket, name and reason for people."""

    code: int
    name: str
    reason: str


DONE: Final = Ending(1000, "done", "")
STOPPING: Final = Ending(1012, "stopping", "the server is stopping; connect again and resume")
FAILED: Final = Ending(1011, "failed", "the source of the stream failed; connect again and resume")
REVOKED: Final = Ending(4401, "key_invalid", "the API key is revoked or expired")
SLOW: Final = Ending(4408, "too_slow", "the client does not keep up; connect again and resume")


def _key(actor: Actor) -> str:
    if actor.key_id is None:
        raise AssertionError("a stream is opened with a key")
    return actor.key_id


class KeyCheck(Protocol):
    """Which keys are still good."""

    async def usable(self, key_ids: Collection[str]) -> frozenset[str]:
        """Those of the keys that are neither revoked nor expired."""
        ...


@dataclass(frozen=True, slots=True)
class DatabaseKeys:
    """The keys in the database, one query for all."""

    database: Database

    async def usable(self, key_ids: Collection[str]) -> frozenset[str]:
        """Those of the keys that are neither revoked nor expired."""
        async with self.database.reading() as session:
            return await usable_keys(session, key_ids)


@dataclass(slots=True, eq=False)
class OpenStream:
    """One stream. `ending`: set once it has been told to end."""

    key_id: str
    ending: Ending | None = None
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _listeners: list[Callable[[], None]] = field(default_factory=list)

    def end(self, ending: Ending) -> None:
        """Tell the stream to end; the first reason stays."""
        if self.ending is not None:
            return
        self.ending = ending
        self._told.set()
        for listener in self._listeners:
            listener()

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call this when the stream is told to end; at once when it was already."""
        self._listeners.append(listener)
        if self.ending is not None:
            listener()

    async def ended(self) -> None:
        """Wait until the stream is told to end."""
        await self._told.wait()


class OpenStreams:
    """All of them. `limit`: how many one key may have open in this process."""

    def __init__(self, keys: KeyCheck, *, limit: int, recheck_seconds: float = RECHECK_SECONDS) -> None:
        self._keys = keys
        self._limit = limit
        self._recheck_seconds = recheck_seconds
        self._open: set[OpenStream] = set()
        self._per_key: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def admit(self, actor: Actor) -> None:
        """Refuse one stream too many, before anything is answered. Raises ProblemError."""
        if self._per_key[_key(actor)] >= self._limit:
            raise ProblemError(
                FailureKind.QUOTA_EXCEEDED,
                f"The API key has {self._limit} streams open, as many as it may. Close one of them.",
                extensions={"cap": "streams", "limit": self._limit},
            )

    @contextmanager
    def open(self, actor: Actor) -> Iterator[OpenStream]:
        """Count a stream while it is open."""
        stream = OpenStream(_key(actor))
        if self._closed:
            stream.end(STOPPING)
        self._open.add(stream)
        self._empty.clear()
        self._per_key[_key(actor)] += 1
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._recheck(), name="stream-keys")
        try:
            yield stream
        finally:
            self._open.discard(stream)
            self._per_key[_key(actor)] -= 1
            if not self._per_key[_key(actor)]:
                del self._per_key[_key(actor)]
            if not self._open:
                self._empty.set()

    async def close(self) -> None:
        """End all streams and give them a moment to say so to their clients."""
        self._closed = True
        for stream in list(self._open):
            stream.end(STOPPING)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._empty.wait()
        except TimeoutError:
            _log.warning("streams_left_open", count=len(self._open))

    async def _recheck(self) -> None:
        while self._open:
            await asyncio.sleep(self._recheck_seconds)
            asked = frozenset(self._per_key)
            try:
                usable = await self._keys.usable(asked) if asked else asked
            except Exception:  # noqa: BLE001 - while the database is away, nobody can revoke a key either
                _log.warning("stream_keys_unchecked", exc_info=True)
                continue
            for stream in list(self._open):
                if stream.key_id in asked - usable:
                    stream.end(REVOKED)
        self._task = None
