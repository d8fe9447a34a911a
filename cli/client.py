"""The one HTTP client of the command line: typed answers, typed errors, careful retries.

What may be sent twice: GET (nothing changes), POST (its `Idempotency-Key` makes the second a repeat of the
first), DELETE only when the connection was never made.
"""

import contextlib
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import JsonValue, TypeAdapter, ValidationError

from cli.errors import ApiUnreachable, CliError
from cli.models import (
    ApiKey,
    AuditEntry,
    Checkpoint,
    Checks,
    Diff,
    EndpointList,
    Environment,
    EnvironmentStatus,
    Health,
    Import,
    LogEntry,
    NewShare,
    Operation,
    RegistryCredential,
    Revision,
    Share,
    StoredSecret,
    Template,
    Topology,
    Update,
    ValidationReport,
)
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
IN_FLIGHT: Final = "idempotency_in_flight"

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


class ApiClient:
    """Requests to one API as one key. Use it as a context manager; `trace` gets a line for each request."""

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

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    # Environments

    def create_environment(
        self, blueprint: str, *, name: str | None, plan: str | None
    ) -> Answer[Environment]:
        """Create an environment from the text of a Blueprint; its `operation` provisions it."""
        body = _present({"blueprint": blueprint, "name": name, "plan": plan})
        return self._read(Environment, self._post("/v1/environments", body))

    def environments(self, *, name: str | None = None) -> Answer[list[Environment]]:
        """Return all environments, over as many pages as there are; with `name`, those of that name."""
        pages = self._pages("/v1/environments", _present({"name": name}), limit=None)
        found = [
            item for item in pages if name is None or (isinstance(item, dict) and item.get("name") == name)
        ]
        return self._read(list[Environment], found)

    def environment(self, environment_id: str) -> Answer[Environment]:
        """Return one environment."""
        return self._read(Environment, self._get(f"/v1/environments/{_segment(environment_id)}"))

    def status(self, environment_id: str) -> Answer[EnvironmentStatus]:
        """Return the live status of an environment and its services."""
        return self._read(EnvironmentStatus, self._get(f"/v1/environments/{_segment(environment_id)}/status"))

    def logs(self, environment_id: str, params: Mapping[str, JsonValue]) -> Answer[list[LogEntry]]:
        """Return recent log lines; `params`: service, tail (lines), previous, sinceSeconds."""
        raw = self._get(f"/v1/environments/{_segment(environment_id)}/logs", _present(params))
        return self._read(list[LogEntry], raw)

    def topology(self, environment_id: str) -> Answer[Topology]:
        """Return the graph of services."""
        return self._read(Topology, self._get(f"/v1/environments/{_segment(environment_id)}/topology"))

    def endpoints(self, environment_id: str, *, check: str) -> Answer[EndpointList]:
        """Return how each service is reached; `check`: `ready` or `http`, how it is seen if it answers."""
        path = f"/v1/environments/{_segment(environment_id)}/endpoints"
        return self._read(EndpointList, self._get(path, {"check": check}))

    def delete_environment(self, environment_id: str, *, force: bool) -> Answer[Operation]:
        """Delete an environment; answers the operation, the running one when there is one already.

        `force` takes off foreign finalizers that hold the deletion up.
        """
        document = self._send(
            "DELETE", f"/v1/environments/{_segment(environment_id)}", params={"force": True} if force else {}
        )
        return self._read(Operation, _data(document))

    def change_environment(
        self, environment_id: str, settings: Mapping[str, JsonValue]
    ) -> Answer[Environment]:
        """Change settings; those that are not named stay. Sending it twice is the same as once."""
        path = f"/v1/environments/{_segment(environment_id)}"
        return self._read(Environment, _data(self._send("PATCH", path, body=settings)))

    def retry_environment(self, environment_id: str) -> Answer[Operation]:
        """Go on from where the last operation failed."""
        return self._read(Operation, self._post(f"/v1/environments/{_segment(environment_id)}/retry", {}))

    # The life of an environment

    def put_environment(
        self, name: str, blueprint: str, *, plan: str | None, message: str | None
    ) -> Answer[Operation | Update]:
        """Create or update the environment of this name."""
        body = _present({"blueprint": blueprint, "plan": plan, "message": message})
        return self._updated("PUT", f"/v1/environments/by-name/{_segment(name)}", body)

    def preview_update(self, environment_id: str, blueprint: str, *, plan: str | None) -> Answer[Update]:
        """Say what an update would do."""
        path = f"/v1/environments/{_segment(environment_id)}/blueprint"
        body = _present({"blueprint": blueprint, "plan": plan})
        return self._read(Update, _data(self._send("PUT", path, params={"dry_run": True}, body=body)))

    def update_environment(
        self, environment_id: str, blueprint: str, *, plan: str | None, message: str | None, keep_failed: bool
    ) -> Answer[Operation | Update]:
        """Update an environment to another Blueprint."""
        on_failure = "keep" if keep_failed else None
        body = _present({"blueprint": blueprint, "plan": plan, "message": message, "onFailure": on_failure})
        return self._updated("PUT", f"/v1/environments/{_segment(environment_id)}/blueprint", body)

    def rollback(self, environment_id: str, target: str) -> Answer[Operation | Update]:
        """Go back to a revision (a number) or a checkpoint."""
        body: JsonObject = {"revision": int(target)} if target.isdecimal() else {"checkpoint": target}
        return self._updated("POST", f"/v1/environments/{_segment(environment_id)}/rollback", body)

    def clone(self, environment_id: str, name: str) -> Answer[Environment]:
        """Create another environment of the same Blueprint."""
        path = f"/v1/environments/{_segment(environment_id)}/clone"
        return self._read(Environment, self._post(path, {"name": name}))

    def act(self, environment_id: str, action: str, body: Mapping[str, JsonValue]) -> Answer[Operation]:
        """Stop, resume, restart or scale; `body` is the route's."""
        path = f"/v1/environments/{_segment(environment_id)}/{action}"
        method = "PATCH" if action == "scale" else "POST"
        document = self._send(method, path, body=body, idempotency_key=str(uuid.uuid4()))
        return self._read(Operation, _data(document))

    def extend(self, environment_id: str, minutes: int) -> Answer[Environment]:
        """Put off an environment's end."""
        path = f"/v1/environments/{_segment(environment_id)}/extend"
        return self._read(Environment, self._post(path, {"minutes": minutes}))

    def revisions(self, environment_id: str) -> Answer[list[Revision]]:
        """Return all revisions that are kept, newest first."""
        path = f"/v1/environments/{_segment(environment_id)}/revisions"
        return self._read(list[Revision], list(self._pages(path, {}, limit=None)))

    def diff(self, environment_id: str, *, source: int | None, target: int | None) -> Answer[Diff]:
        """Compare two revisions."""
        path = f"/v1/environments/{_segment(environment_id)}/diffs"
        return self._read(Diff, self._get(path, _present({"from": source, "to": target})))

    def add_checkpoint(self, environment_id: str, name: str, revision: int | None) -> Answer[Checkpoint]:
        """Name a revision."""
        path = f"/v1/environments/{_segment(environment_id)}/checkpoints"
        return self._read(Checkpoint, self._post(path, _present({"name": name, "revision": revision})))

    def remove_checkpoint(self, environment_id: str, name: str) -> None:
        """Take a checkpoint's name away."""
        self._send("DELETE", f"/v1/environments/{_segment(environment_id)}/checkpoints/{_segment(name)}")

    def _updated(self, method: str, path: str, body: Mapping[str, JsonValue]) -> Answer[Operation | Update]:
        """Send a change that may turn out to be none."""
        raw = _data(self._send(method, path, body=body, idempotency_key=str(uuid.uuid4())))
        if isinstance(raw, dict) and "noop" in raw:
            return Answer(self._read(Update, raw).value, raw)
        return Answer(self._read(Operation, raw).value, raw)

    # Blueprints

    def validate(self, blueprint: str, *, plan: str | None) -> Answer[ValidationReport]:
        """Check a Blueprint without writing anything."""
        body = _present({"blueprint": blueprint, "plan": plan})
        return self._read(ValidationReport, self._post("/v1/environments/validate", body))

    def import_compose(self, body: Mapping[str, JsonValue]) -> Answer[Import]:
        """Turn a Compose file into a Blueprint, and with `create` into an environment."""
        return self._read(Import, self._post("/v1/environments/import", _present(body)))

    # Operations

    def operations(self, *, environment_id: str | None, limit: int) -> Answer[list[Operation]]:
        """Return operations, newest first, at most `limit`."""
        params = _present({"environmentId": environment_id})
        return self._read(list[Operation], list(self._pages("/v1/operations", params, limit=limit)))

    def operation(self, operation_id: str) -> Answer[Operation]:
        """Return one operation with its steps."""
        return self._read(Operation, self._get(f"/v1/operations/{_segment(operation_id)}"))

    def cancel_operation(self, operation_id: str, *, cleanup: bool) -> Answer[Operation]:
        """Ask an operation to stop; with `cleanup`, to undo what it made."""
        return self._read(
            Operation, self._post(f"/v1/operations/{_segment(operation_id)}/cancel", {"cleanup": cleanup})
        )

    @contextlib.contextmanager
    def operation_events(
        self, operation_id: str, *, after: str | None
    ) -> Iterator[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]:
        """Open the stream of an operation's events after number `after`; one try, no retries.

        Raises ApiError for a refusal, httpx2.TransportError for anything on the way.
        """
        with self._events(f"/v1/operations/{_segment(operation_id)}/events", after=after) as opened:
            yield opened

    @contextlib.contextmanager
    def environment_events(
        self, environment_id: str, *, after: str | None
    ) -> Iterator[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]:
        """Open the stream of an environment's events, as `operation_events` does for an operation."""
        with self._events(f"/v1/environments/{_segment(environment_id)}/events", after=after) as opened:
            yield opened

    @contextlib.contextmanager
    def log_lines(
        self, environment_id: str, params: Mapping[str, JsonValue], *, after: str | None
    ) -> Iterator[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]:
        """Open the stream of log lines; `after`: timestamp of the last line. `params` as for `logs`."""
        path = f"/v1/environments/{_segment(environment_id)}/logs/stream"
        with self._events(path, after=after, params=_present(params)) as opened:
            yield opened

    @contextlib.contextmanager
    def _events(
        self, path: str, *, after: str | None, params: Mapping[str, JsonValue] | None = None
    ) -> Iterator[tuple[httpx2.Response, Iterator[httpx2.ServerSentEvent]]]:
        query = {name: _query(value) for name, value in (params or {}).items()}
        headers = {"Last-Event-ID": after} if after else {}
        timeout = httpx2.Timeout(STREAM_SILENCE_SECONDS, connect=CONNECT_SECONDS)
        with self._http.sse(path, params=query, headers=headers, timeout=timeout) as source:
            self._trace(f"GET {path} {source.response.status_code} after={after or '-'}")
            if source.response.status_code != 200:
                source.response.read()
                raise error_of(source.response)
            yield source.response, iter(source)

    # Share links

    def create_share(self, environment_id: str, wish: Mapping[str, JsonValue]) -> Answer[NewShare]:
        """Make a share link; `wish`: pin, expiresInSeconds, label, showImages, each absent when None."""
        path = f"/v1/environments/{_segment(environment_id)}/share"
        return self._read(NewShare, self._post(path, _present(wish)))

    def shares(self, environment_id: str) -> Answer[list[Share]]:
        """Return all share links of an environment, newest first."""
        path = f"/v1/environments/{_segment(environment_id)}/shares"
        return self._read(list[Share], list(self._pages(path, {}, limit=None)))

    def revoke_share(self, environment_id: str, share_id: str) -> Answer[Share]:
        """Revoke a share link."""
        path = f"/v1/environments/{_segment(environment_id)}/shares/{_segment(share_id)}"
        return self._read(Share, _data(self._send("DELETE", path)))

    # Registry credentials

    def registry_credentials(self) -> Answer[list[RegistryCredential]]:
        """Return the organisation's registry credentials, without passwords."""
        return self._read(
            list[RegistryCredential], list(self._pages("/v1/registry-credentials", {}, limit=None))
        )

    def add_registry_credential(
        self, *, name: str, registry: str, username: str, password: str
    ) -> Answer[RegistryCredential]:
        """Store a login for a container registry."""
        body: JsonObject = {"name": name, "registry": registry, "username": username, "password": password}
        return self._read(RegistryCredential, self._post("/v1/registry-credentials", body))

    def remove_registry_credential(self, name: str) -> None:
        """Remove a login."""
        self._send("DELETE", f"/v1/registry-credentials/{_segment(name)}")

    # Keys, secrets, audit

    def api_keys(self) -> Answer[list[ApiKey]]:
        """Return all keys, without tokens."""
        return self._read(list[ApiKey], self._get("/v1/api-keys"))

    def create_api_key(self, body: Mapping[str, JsonValue]) -> Answer[ApiKey]:
        """Make a key; this answer alone has its token."""
        return self._read(ApiKey, self._post("/v1/api-keys", _present(body)))

    def revoke_api_key(self, key_id: str) -> None:
        """Make a key useless."""
        self._send("DELETE", f"/v1/api-keys/{_segment(key_id)}")

    def secrets(self) -> Answer[list[StoredSecret]]:
        """Return the organisation's secrets, without values."""
        return self._read(list[StoredSecret], self._get("/v1/secrets"))

    def put_secret(self, name: str, value: str) -> None:
        """Store a secret of the organisation."""
        self._send("PUT", f"/v1/secrets/{_segment(name)}", body={"value": value})

    def delete_secret(self, name: str) -> None:
        """Destroy a secret of the organisation."""
        self._send("DELETE", f"/v1/secrets/{_segment(name)}")

    def audit(self, params: Mapping[str, JsonValue], *, limit: int) -> Answer[list[AuditEntry]]:
        """Return the newest entries of the audit trail."""
        return self._read(list[AuditEntry], list(self._pages("/v1/audit", _present(params), limit=limit)))

    # Templates

    def templates(self) -> Answer[list[Template]]:
        """Return the bundled templates and the organisation's own."""
        return self._read(list[Template], self._get("/v1/templates"))

    def template(self, key: str) -> Answer[Template]:
        """Return one template by id or name."""
        return self._read(Template, self._get(f"/v1/templates/{_segment(key)}"))

    def create_template(self, body: Mapping[str, JsonValue]) -> Answer[Template]:
        """Keep a new template."""
        return self._read(Template, self._post("/v1/templates", body))

    def update_template(self, key: str, body: Mapping[str, JsonValue]) -> Answer[Template]:
        """Put another content in a template's place."""
        document = self._send("PUT", f"/v1/templates/{_segment(key)}", body=body)
        return self._read(Template, _data(document))

    def delete_template(self, key: str) -> None:
        """Remove a template."""
        self._send("DELETE", f"/v1/templates/{_segment(key)}")

    def instantiate_template(self, key: str, body: Mapping[str, JsonValue]) -> Answer[Import]:
        """Make a Blueprint of a template, and with `create` an environment."""
        return self._read(Import, self._post(f"/v1/templates/{_segment(key)}/instantiate", _present(body)))

    # The installation

    def live(self) -> Answer[Health]:
        """Return what the API says without a key: that it is there, and its version."""
        return self._read(Health, self._get("/health/live"))

    def health(self) -> Answer[Health]:
        """Return whether each part is up; no key is needed. Raises ApiError while the API is not ready."""
        return self._read(Health, self._get("/health/details"))

    def checks(self) -> Answer[Checks]:
        """Return all checks of the installation; for administrators."""
        return self._read(Checks, self._get("/v1/status/checks"))

    # Transport

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
        return _data(self._send("GET", path, params=params))

    def _post(self, path: str, body: Mapping[str, JsonValue]) -> JsonValue:
        return _data(self._send("POST", path, body=body, idempotency_key=str(uuid.uuid4())))

    def _pages(self, path: str, params: Mapping[str, JsonValue], *, limit: int | None) -> Iterator[JsonValue]:
        """Yield the items of a list, page after page, at most `limit`."""
        cursor: JsonValue = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            document = self._send("GET", path, params=_present({**params, "limit": size, "cursor": cursor}))
            items = _data(document)
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
    ) -> JsonValue:
        """Send a request, again where that is harmless. Raises ApiError and ApiUnreachable."""
        query = {name: _query(value) for name, value in (params or {}).items()}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        request = self._http.build_request(method, path, params=query, json=body, headers=headers)
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
        if response.status_code == 409 and error_of(response).code == IN_FLIGHT:
            # The key is ours alone, so what is in flight is our own earlier try, whose answer was lost.
            return after if after is not None else self.backoff.seconds(attempt + 1)
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


def _data(document: JsonValue) -> JsonValue:
    return document.get("data", document) if isinstance(document, dict) else document


def _segment(identifier: str) -> str:
    """Keep what a user typed within its place in the path."""
    return quote(identifier, safe="") if identifier.strip(".") else "-"


def _query(value: JsonValue) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def _present(values: Mapping[str, JsonValue]) -> JsonObject:
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
