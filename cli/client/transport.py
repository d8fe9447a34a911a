"""The transport below every request: typed answers, typed errors, careful retries.

What may be sent twice: GET (nothing changes), POST (its `Idempotency-Key` makes the second a repeat of the
first), DELETE only when the connection was never made.
"""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import JsonValue, TypeAdapter, ValidationError

from cli.errors import ApiUnreachable, CliError
from cli.problems import error_of
from cli.settings import Connection

T = TypeVar("T")
JsonObject = dict[str, JsonValue]

USER_AGENT: Final = "perdure-cli"
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
STREAM_SILENCE_SECONDS: Final = 45.0
"""The API pings every 15 s: three missed pings and the connection is taken for dead."""
ATTEMPTS: Final = 4
LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
LONGEST_OUTAGE_WAIT_SECONDS: Final = 1.0
"""Somebody waits for the answer, even if it is that the API has a fault."""
PAGE: Final = 200

_GATEWAY_STATUSES: Final = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A success: `value` as the command line reads it, `raw` as the API wrote it (what `-o json` prints)."""

    value: T
    raw: JsonValue


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waiting times between attempts: doubling from `first` to `longest` seconds, shortened at random."""

    first: float = 0.2
    longest: float = 5.0

    def seconds(self, attempt: int) -> float:
        """Return how long to wait after the `attempt`th failure, counted from 0."""
        return min(self.longest, self.first * 2.0 ** min(attempt, 16)) * random.uniform(0.5, 1.0)


class Transport:
    """Requests to one API as one key, for the modules beside this one. `trace` gets a line for each."""

    def __init__(
        self,
        connection: Connection,
        *,
        trace: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        backoff: Backoff = Backoff(),
        attempts: int = ATTEMPTS,
    ) -> None:
        headers = {"Authorization": f"Bearer {connection.api_key}", "User-Agent": USER_AGENT}
        if connection.organization:
            headers["X-Organization-ID"] = connection.organization
        self._connection = connection
        self._trace = trace
        self._sleep = sleep
        self.backoff = backoff
        self._attempts = attempts
        host = httpx2.URL(connection.url).host
        self._http = httpx2.Client(
            base_url=connection.url,
            headers=headers,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            # A proxy of the surroundings cannot reach this machine's own API.
            trust_env=host not in {"localhost", "127.0.0.1", "::1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def unreachable(self, error: Exception) -> ApiUnreachable:
        """Say in one sentence why there was no answer, and how to get one."""
        if isinstance(error, httpx2.ConnectTimeout):
            reason = f"no connection within {CONNECT_SECONDS:.0f} s"
        elif isinstance(error, httpx2.TimeoutException):
            reason = f"no answer within {ANSWER_SECONDS:.0f} s"
        else:
            reason = str(error) or type(error).__name__
        return ApiUnreachable(
            f"The Perdure API at {self._connection.url} cannot be reached: {reason}.",
            hints=[
                "In a checkout, `make dev-up` starts it; otherwise check --url, PERDURE_URL or the profile."
            ],
        )

    def _get(self, path: str, params: Mapping[str, JsonValue] | None = None) -> JsonValue:
        return data_of(self._send("GET", path, params=params))

    def _post(self, path: str, body: Mapping[str, JsonValue]) -> JsonValue:
        return data_of(self._send("POST", path, body=body, idempotency_key=str(uuid.uuid4())))

    def _all(
        self,
        item: type[T],
        path: str,
        params: Mapping[str, JsonValue] | None = None,
        *,
        limit: int | None = None,
    ) -> Answer[list[T]]:
        """Return the items of a list, over as many pages as that takes, at most `limit`."""
        found = list(self._pages(path, present(params or {}), limit=limit))
        return self._read(list[item], found)  # type: ignore[valid-type]

    def _pages(self, path: str, params: Mapping[str, JsonValue], *, limit: int | None) -> Iterator[JsonValue]:
        """Yield the items of a list, page after page, at most `limit`."""
        cursor: JsonValue = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            document = self._send("GET", path, params=present({**params, "limit": size, "cursor": cursor}))
            items = data_of(document)
            if not isinstance(items, list):
                raise _unreadable(path, "a list was expected")
            yield from items[:left]
            left = None if left is None else left - len(items)
            meta = document.get("meta") if isinstance(document, dict) else None
            cursor = meta.get("nextCursor") if isinstance(meta, dict) else None
            if not cursor:
                return

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, JsonValue] | None = None,
        body: Mapping[str, JsonValue] | None = None,
        idempotency_key: str | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> JsonValue:
        """Send a request, again where that is harmless; `seconds` for its answer.

        Raises ApiError and ApiUnreachable.
        """
        query = {
            name: [query_text(each) for each in value] if isinstance(value, list) else query_text(value)
            for name, value in (params or {}).items()
        }
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        timeout = httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
        request = self._http.build_request(
            method, path, params=query, json=body, headers=headers, timeout=timeout
        )
        for attempt in range(self._attempts):
            last = attempt == self._attempts - 1
            began = time.monotonic()
            try:
                response = self._http.send(request)
            except httpx2.TransportError as error:
                self._trace(f"{method} {path} {type(error).__name__}")
                never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                if last or not (never_sent or method == "GET" or idempotency_key):
                    raise self.unreachable(error) from error
                self._sleep(self.backoff.seconds(attempt))
                continue
            except (httpx2.RequestError, httpx2.InvalidURL) as error:
                raise self.unreachable(error) from error
            took = (time.monotonic() - began) * 1000
            self._trace(f"{method} {path} {response.status_code} {took:.0f} ms")
            wait = None if last else self._wait_before_repeat(method, response, attempt)
            if wait is None:
                return _document(response)
            self._sleep(wait)
        raise AssertionError("unreachable")

    def _wait_before_repeat(self, method: str, response: httpx2.Response, attempt: int) -> float | None:
        """Return how many seconds to wait before asking again; None: take this answer."""
        after = _retry_after(response)
        if response.status_code == 429:
            # Refused before anything was done: any method may be repeated.
            return after if after is not None else self.backoff.seconds(attempt)
        if response.status_code in _GATEWAY_STATUSES and method == "GET":
            wait = after if after is not None else self.backoff.seconds(attempt)
            return min(wait, LONGEST_OUTAGE_WAIT_SECONDS)
        return None

    def _read(self, model: type[T], raw: JsonValue) -> Answer[T]:
        try:
            return Answer(TypeAdapter(model).validate_python(raw), raw)
        except ValidationError as error:
            raise _unreadable(str(getattr(model, "__name__", model)), _first_fault(error)) from error


def _document(response: httpx2.Response) -> JsonValue:
    if not response.is_success:
        raise error_of(response)
    if not response.content:
        return None
    try:
        document: JsonValue = json.loads(response.content)
    except ValueError as error:
        raise _unreadable(response.request.url.path, "it is not JSON; is this URL a Perdure API?") from error
    return document


def data_of(document: JsonValue) -> JsonValue:
    return document.get("data", document) if isinstance(document, dict) else document


def segment(identifier: str) -> str:
    """Keep what a user typed within its place in the path."""
    return quote(identifier, safe="") if identifier.strip(".") else "-"


def query_text(value: JsonValue) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def present(values: Mapping[str, JsonValue]) -> JsonObject:
    return {name: value for name, value in values.items() if value is not None}


def _retry_after(response: httpx2.Response) -> float | None:
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _first_fault(error: ValidationError) -> str:
    # Location and reason only: the input itself might hold something that should not be shown.
    fault = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def _unreadable(what: str, reason: str) -> CliError:
    return CliError(
        f"The API's answer cannot be understood ({what}): {reason}.",
        hints=["`perdure` and the API may be of different versions."],
    )
