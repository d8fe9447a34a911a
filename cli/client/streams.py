"""Streams of server-sent events: one try each, without retries."""

import contextlib
from collections.abc import Iterator, Mapping

import httpx2
from pydantic import JsonValue

from cli.client.transport import (
    CONNECT_SECONDS,
    STREAM_SILENCE_SECONDS,
    Transport,
    present,
    query_text,
    segment,
)
from cli.problems import error_of


class StreamCalls(Transport):
    """Streams of server-sent events: one try each, without retries."""

    @contextlib.contextmanager
    def operation_events(
        self, operation_id: str, *, after: str | None
    ) -> Iterator[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]:
        """Open the stream of an operation's events after number `after`; one try, no retries.

        Raises ApiError for a refusal, httpx2.TransportError for anything on the way.
        """
        with self._events(f"/v1/operations/{segment(operation_id)}/events", after=after) as opened:
            yield opened

    @contextlib.contextmanager
    def environment_events(
        self, environment_id: str, *, after: str | None
    ) -> Iterator[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]:
        """Open the stream of an environment's events, as `operation_events` does for an operation."""
        with self._events(f"/v1/environments/{segment(environment_id)}/events", after=after) as opened:
            yield opened

    @contextlib.contextmanager
    def log_lines(
        self, environment_id: str, params: Mapping[str, JsonValue], *, after: str | None
    ) -> Iterator[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]:
        """Open the stream of log lines; `after`: timestamp of the last line. `params` as for `logs`."""
        path = f"/v1/environments/{segment(environment_id)}/logs/stream"
        with self._events(path, after=after, params=present(params)) as opened:
            yield opened

    @contextlib.contextmanager
    def _events(
        self, path: str, *, after: str | None, params: Mapping[str, JsonValue] | None = None
    ) -> Iterator[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]:
        query = {name: query_text(value) for name, value in (params or {}).items()}
        headers = {"Last-Event-ID": after} if after else {}
        timeout = httpx2.Timeout(STREAM_SILENCE_SECONDS, connect=CONNECT_SECONDS)
        with self._http.sse(path, params=query, headers=headers, timeout=timeout) as source:
            self._trace(f"GET {path} {source.response.status_code} after={after or '-'}")
            if source.response.status_code != 200:
                source.response.read()
                raise error_of(source.response)
            yield source.response, iter(source)
