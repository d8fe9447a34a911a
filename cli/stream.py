"""A stream of events as a feed that outlives its connections.

A thread reads the stream and puts what it sees into a queue: the reader of the feed can wait with a deadline,
redraw a clock and be interrupted, none of which a blocking read allows. After a cut the thread connects again
with the number of the last event, so that nothing is missed.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import httpx2

from cli.client import ApiClient, Backoff
from cli.errors import CliError
from cli.problems import ApiError

GIVE_UP_SECONDS: Final = 300.0
"""So long may the API be away before waiting for it is given up."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream is open: from now on no change is missed, so the state is worth reading anew."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change as the API wrote it; `data` is the JSON text."""

    id: str
    type: str
    data: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone and another is tried in `retry_in` seconds. `away`: seconds without the API."""

    retry_in: float
    away: float


@dataclass(frozen=True, slots=True)
class Refused:
    """No further attempt makes sense."""

    error: CliError


FeedItem = Connected | Event | Lost | Refused


Opening = Callable[
    [str | None], AbstractContextManager[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]
]
"""Opens the stream after the id of the last event, once; raises ApiError and httpx2.TransportError."""


class EventFeed(AbstractContextManager["EventFeed"]):
    """Reads one stream until it is closed; see the module."""

    def __init__(
        self,
        client: ApiClient,
        opened: Opening,
        *,
        after: str | None = None,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self._client = client
        self._opened = opened
        self._backoff: Backoff = client.backoff
        self._give_up_seconds = give_up_seconds
        self._items: queue.SimpleQueue[FeedItem] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._response: httpx2.Response | None = None
        self._last_id = after
        # A daemon: a reader stuck in a connect must not keep an interrupted command alive.
        self._thread = threading.Thread(target=self._read, name="perdure-events", daemon=True)

    def __enter__(self) -> "EventFeed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        response = self._response
        if response is not None:
            _wake_reader(response)
        self._thread.join(timeout=1.0)

    def next(self, timeout: float) -> FeedItem | None:
        """Return the next item, or None when `timeout` seconds passed without one."""
        try:
            return self._items.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return None

    def _read(self) -> None:
        failures = 0
        seen = time.monotonic()
        while not self._closing.is_set():
            cut: Exception | None = None
            try:
                for item in self._one_connection():
                    seen = time.monotonic()
                    if isinstance(item, Event):
                        failures = 0
                    self._items.put(item)
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    self._items.put(Refused(error))
                    return
                cut = error
            except (httpx2.TransportError, httpx2.StreamError) as error:
                cut = error
            if self._closing.is_set():
                return
            away = time.monotonic() - seen
            if cut is not None and away > self._give_up_seconds:
                self._items.put(Refused(cut if isinstance(cut, CliError) else self._client.unreachable(cut)))
                return
            wait = self._backoff.seconds(failures)
            failures += 1
            self._items.put(Lost(wait, away))
            self._closing.wait(wait)

    def _one_connection(self) -> Iterator[FeedItem]:
        with self._opened(self._last_id) as (response, events):
            self._response = response
            try:
                yield Connected()
                for event in events:
                    if event.id:
                        self._last_id = event.id
                    if event.data:
                        yield Event(event.id, event.event, event.data)
            finally:
                self._response = None


def _wake_reader(response: httpx2.Response) -> None:
    """End a read that blocks in the feed's thread: closing the response from here would only wait for it."""
    network = response.extensions.get("network_stream")
    connection = network.get_extra_info("socket") if network is not None else None
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
