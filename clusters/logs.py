"""Container logs, at once or as they are written."""

from collections.abc import AsyncIterator
from typing import Final

from clusters.connection import Call, Connection
from clusters.objects import KINDS
from clusters.values import LogLine

_LINE_LIMIT: Final = 262_144


def log_call(namespace: str, pod: str, options: dict[str, str | int | bool | None]) -> Call:
    """Return the request for a log; options that are None or False are left out."""
    params = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if value is not None and value is not False
    }
    return Call("GET", KINDS["Pod"].path(namespace, pod, "log"), params, accept="*/*", idempotent=True)


async def follow(connection: Connection, call: Call, since: str | None) -> AsyncIterator[LogLine]:
    """Yield lines of a log that is written on, those after `since` only; ends with the container."""
    async with connection.stream(call) as content:
        rest = b""
        while chunk := await content.readany():
            *lines, rest = (rest + chunk).split(b"\n")
            # A line without end must not fill the memory: its middle is dropped.
            rest = rest[:_LINE_LIMIT]
            for line in lines:
                parsed = _parse(line)
                if since is None or parsed.at > since:
                    yield parsed
        if rest:
            yield _parse(rest)


def _parse(line: bytes) -> LogLine:
    at, _, content = line.decode(errors="replace").partition(" ")
    return LogLine(at, content)
