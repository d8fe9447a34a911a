"""Which headers pass between a client and a service, and where a service may send the client."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from clusters.exchange import Headers

ANSWERED_BY: Final = b"x-perdure-answered-by"
"""`application`: the service itself answered, whatever the status. `perdure`: this API did."""
LOCATION_WITHHELD: Final = b"x-perdure-location"
"""Where the application wanted to send the client, when that is not inside the service."""
SANDBOX: Final = (
    # Without an origin of its own, a page of an application reaches nothing that the browser has for ours.
    (b"content-security-policy", b"sandbox"),
    (b"x-content-type-options", b"nosniff"),
)

_HOP_BY_HOP: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"trailers"),
        *(b"transfer-encoding", b"upgrade"),
    }
)
_NOT_SENT: Final = _HOP_BY_HOP | {
    # Ours: credentials for this API, and what says which of its organisations is meant.
    *(b"authorization", b"proxy-authorization", b"cookie", b"cookie2", b"x-organization-id"),
    # Said anew below, or by h11.
    *(b"host", b"content-length", b"expect", b"x-request-id", b"forwarded"),
}
_NOT_SENT_PREFIXES: Final = (b"x-forwarded-", b"x-perdure-", b"sec-websocket-")
_NOT_ANSWERED: Final = _HOP_BY_HOP | {
    # They would speak for the host of this API: its cookies, its passwords, its certificates, its storage.
    *(b"set-cookie", b"set-cookie2", b"www-authenticate", b"proxy-authenticate", b"authentication-info"),
    *(b"strict-transport-security", b"public-key-pins", b"expect-ct", b"alt-svc", b"clear-site-data"),
    *(b"service-worker-allowed", b"nel", b"report-to", b"reporting-endpoints", b"origin-agent-cluster"),
    # Sends a browser on like Location, in more dialects than can be checked.
    b"refresh",
    *(b"location", b"content-location"),
    # Said by our own middleware.
    *(b"x-request-id", b"x-api-version", b"x-content-type-options"),
}
_NOT_ANSWERED_PREFIXES: Final = (b"x-perdure-", b"access-control-", b"ratelimit-", b"x-accel-")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_LONGEST_LOCATION: Final = 2_048
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]*")


def request_headers(
    sent: Iterable[tuple[bytes, bytes]], *, host: str, prefix: str, request_id: str
) -> Headers:
    """The headers that the service gets: the client's without ours, and where it is reached.

    Raises ValueError when the length of the body is not clear.
    """
    headers = [(name.lower(), value) for name, value in sent]
    dropped = _named_by_connection(headers)
    kept = [
        (name, value)
        for name, value in headers
        if name not in _NOT_SENT and name not in dropped and not name.startswith(_NOT_SENT_PREFIXES)
    ]
    return [
        (b"host", host.encode()),
        *kept,
        (b"x-request-id", request_id.encode()),
        (b"x-forwarded-prefix", prefix.encode()),
        *_framing(headers),
    ]


def _framing(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    if any(name == b"transfer-encoding" for name, _ in headers):
        return [(b"transfer-encoding", b"chunked")]
    lengths = {value for name, value in headers if name == b"content-length"}
    if not lengths:
        return []
    [length, *others] = lengths
    if others or not _LENGTH.fullmatch(length):
        raise ValueError("the body's length is not clear")
    return [(b"content-length", length)]


def response_headers(
    answered: Iterable[tuple[bytes, bytes]], *, prefix: str, path: bytes, hosts: frozenset[str]
) -> Headers:
    """The headers that the client gets. `path`: what was asked for; `hosts`: names of the service itself."""
    headers = [(name.lower(), value) for name, value in answered]
    dropped = _named_by_connection(headers)
    kept = [
        (name, value)
        for name, value in headers
        if name not in _NOT_ANSWERED and name not in dropped and not name.startswith(_NOT_ANSWERED_PREFIXES)
    ]
    for name, value in headers:
        if name in (b"location", b"content-location"):
            rewritten = rewritten_location(
                value.decode("latin-1"), prefix=prefix, path=path.decode("latin-1"), hosts=hosts
            )
            if rewritten is not None:
                kept.append((name, rewritten.encode("latin-1")))
            elif name == b"location" and len(value) <= _LONGEST_LOCATION:
                kept.append((LOCATION_WITHHELD, value))
    return [*kept, *SANDBOX, (ANSWERED_BY, b"application")]


def rewritten_location(location: str, *, prefix: str, path: str, hosts: frozenset[str]) -> str | None:
    """Where a service sends the client, as an address below `prefix`; None when it is not in the service.

    A relative address is taken relative to `path`. Host names count as the service's own when they are in
    `hosts`; any other might be this API's, under a name that we do not know.
    """
    if len(location) > _LONGEST_LOCATION or "\\" in location or not _PRINTABLE.fullmatch(location):
        return None
    try:
        joined = urlsplit(urljoin(f"http://{_HERE}{path}", location))
        name = joined.hostname
    except ValueError:
        return None
    if joined.scheme not in ("http", "https") or joined.username is not None or name is None:
        return None
    if name != _HERE and name.rstrip(".") not in hosts:
        return None
    target = joined.path or "/"
    if not target.startswith("/") or _climbs(target):
        return None
    query = f"?{joined.query}" if joined.query else ""
    fragment = f"#{joined.fragment}" if joined.fragment else ""
    return f"{prefix}{target}{query}{fragment}"


_HERE: Final = "service.invalid"
_ROUNDS: Final = 5


def _climbs(path: str) -> bool:
    """Whether a client may read dot segments into a path, however it is encoded."""
    for _ in range(_ROUNDS):
        if any(part.partition(";")[0] in (".", "..") for part in path.replace("\\", "/").split("/")):
            return True
        further = unquote(path, encoding="latin-1")
        if further == path:
            return False
        path = further
    return True


def _named_by_connection(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Further hop-by-hop headers: those that `Connection` names. It cannot drop what frames the message."""
    named = {
        part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")
    }
    return frozenset(named - {b"content-length", b"host"})
