"""`perdure env watch` and `perdure env logs -f`: streams of an environment, until somebody ends them."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue, ValidationError

from cli.client import ApiClient
from cli.errors import Interrupted
from cli.follow import fold, gone_of, read_operation, reread_after
from cli.models import LogEntry, Operation
from cli.output import tell
from cli.progress import QUIET_AWAY_SECONDS, ProgressView, progress_view
from cli.stream import Connected, Event, EventFeed, Lost, Refused

_TICK_SECONDS: Final = 1.0


def watch_environment(client: ApiClient, environment_id: str, *, once: bool) -> Operation:
    """Show the environment's operation and whichever comes after it, until Ctrl-C.

    `once`: return the last one as soon as it is over. Raises ApiError when the environment is gone or the key
    is refused, and ApiUnreachable after minutes.
    """
    try:
        with progress_view(screen=True) as view:
            return _watch(client, environment_id, view, once=once)
    except KeyboardInterrupt:
        raise Interrupted("Stopped watching; nothing else was changed.") from None


def _watch(client: ApiClient, environment_id: str, view: ProgressView, *, once: bool) -> Operation:
    latest = client.operations({"environmentId": environment_id}, limit=1).value
    operation: Operation | None = None
    wanted = latest[0].id if latest else None
    reread_at = time.monotonic()
    with EventFeed(client, lambda after: client.environment_events(environment_id, after=after)) as feed:
        while True:
            item = feed.next(_TICK_SECONDS)
            reread = wanted is not None and time.monotonic() >= reread_at
            match item:
                case Connected():
                    view.restored()
                    reread = wanted is not None
                case Event(type="gap", data=data):
                    view.missed(gone_of(data))
                    reread = wanted is not None
                case Event(data=data):
                    changed = None if operation is None else fold(operation, data)
                    about = _operation_of(data)
                    # Ids sort by the time they were made: what is older was told before.
                    if about is not None and (wanted is None or about > wanted):
                        wanted, reread = about, True
                    elif changed is not None and about == wanted:
                        reread = changed.terminal and operation is not None and not operation.terminal
                        operation = changed
                        view.updated(changed)
                        reread_at = min(reread_at, time.monotonic() + reread_after(changed))
                case Lost(away=away):
                    view.lost(away)
                case Refused(error=error):
                    raise error
                case None:
                    pass
            if reread and wanted is not None:
                answer = read_operation(client, wanted)
                reread_at = time.monotonic() + reread_after(None if answer is None else answer.value)
                if answer is not None:
                    operation = answer.value
                    view.updated(operation)
                    if once and operation.terminal:
                        return operation


def follow_logs(
    client: ApiClient, environment_id: str, params: Mapping[str, JsonValue]
) -> Iterator[LogEntry]:
    """Yield log lines as they are written, each once, over cuts of the connection; never ends by itself.

    Raises ApiError and ApiUnreachable as `EventFeed` refuses.
    """
    last: dict[tuple[str, str], str] = {}

    def opened(after: str | None):  # type: ignore[no-untyped-def]
        # A resumed stream begins by its own mark: what the first one began with would be read again.
        wanted = dict(params) if after is None else {"service": params.get("service")}
        return client.log_lines(environment_id, wanted, after=after)

    away_told = False
    with EventFeed(client, opened) as feed:
        while True:
            match feed.next(_TICK_SECONDS):
                case Event(type="log", data=data):
                    entry = _entry(data)
                    if entry is None:
                        continue
                    source = (entry.pod, entry.container)
                    # The stream resumes a little before its mark.
                    if entry.timestamp > last.get(source, ""):
                        last[source] = entry.timestamp
                        yield entry
                case Lost(away=away) if away >= QUIET_AWAY_SECONDS and not away_told:
                    away_told = True
                    tell("The API does not answer; trying again.")
                case Connected():
                    away_told = False
                case Refused(error=error):
                    raise error


def print_logs(
    client: ApiClient, environment_id: str, params: Mapping[str, JsonValue], *, as_json: bool, prefix: bool
) -> None:
    """Print lines as they come, until Ctrl-C; `prefix` puts the service before each."""
    from cli import views  # noqa: PLC0415 - tables are not needed by the rest

    try:
        for entry in follow_logs(client, environment_id, params):
            if as_json:
                text = json.dumps(entry.model_dump(mode="json", by_alias=True), ensure_ascii=False)
            else:
                [text] = views.log_lines([entry], prefix=prefix)
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise Interrupted("Stopped following; nothing else was changed.") from None


def _operation_of(data: str) -> str | None:
    try:
        about = json.loads(data).get("operationId")
    except (ValueError, AttributeError):
        return None
    return about if isinstance(about, str) else None


def _entry(data: str) -> LogEntry | None:
    try:
        return LogEntry.model_validate_json(data)
    except ValidationError:
        return None
