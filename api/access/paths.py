"""From the address of a proxied request to the path that the service is asked for.

The stream ends at the service's port whatever the path says, so nothing can climb out of it on our side. What
is refused here is for the sake of others: caches, logs and browsers that would read such a path differently.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from api.problems import ProblemError, ProblemField, RequestProblem

LONGEST: Final = 8_192
_ROUNDS: Final = 5
"""How often a segment is decoded to see what it may become; no honest one is encoded more often."""
_PLAIN: Final = re.compile(rb"[\x21-\x7e]*")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MARK: Final = b"proxy"


def service_path(raw_path: bytes) -> bytes:
    """The path after `/services/{service}/proxy` as the client wrote it, encoded slashes kept; at least `/`.

    Raises ProblemError 400 for dot segments in any encoding, backslashes, control characters, and addresses
    whose own part is encoded so that it is not plain where the service's path begins.
    """
    segments = raw_path.split(b"/")
    # The first segment is empty; the prefix may be `v1`, `api/v1` or none (api/middleware.py).
    start = 3 if segments[1:3] == [b"api", b"v1"] else 2 if segments[1:2] == [b"v1"] else 1
    own, rest = segments[start : start + 5], segments[start + 5 :]
    if len(own) < 5 or own[0] != b"environments" or own[2] != b"services" or own[4] != _MARK:
        raise _refused("the address before the service's path has to be written without escapes")
    path = b"/" + b"/".join(rest)
    if len(path) > LONGEST:
        raise _refused(f"it is longer than {LONGEST} bytes")
    if not _PLAIN.fullmatch(path) or _BROKEN_ESCAPE.search(path):
        raise _refused("it holds characters that have to be percent-encoded")
    for segment in rest:
        _check(segment)
    return path


def service_query(raw_query: bytes) -> bytes:
    """The query as the client wrote it. Raises ProblemError 400 when it is no query."""
    if len(raw_query) > LONGEST:
        raise _refused(f"the query is longer than {LONGEST} bytes")
    if not _PLAIN.fullmatch(raw_query):
        raise _refused("the query holds characters that have to be percent-encoded")
    return raw_query


def _check(segment: bytes) -> None:
    decoded = segment
    for _ in range(_ROUNDS):
        if any(byte < 0x20 or byte == 0x7F for byte in decoded):
            raise _refused("it holds control characters")
        # A semicolon begins parameters, which some servers cut off before they look for dots.
        pieces = decoded.replace(b"\\", b"/").split(b"/")
        if b"\\" in decoded or any(piece.partition(b";")[0] in (b".", b"..") for piece in pieces):
            raise _refused("it holds `.`, `..` or a backslash as a part of the path, plain or encoded")
        further = unquote_to_bytes(decoded)
        if further == decoded:
            return
        decoded = further
    raise _refused("it is encoded over and over")


def _refused(why: str) -> ProblemError:
    return ProblemError(
        RequestProblem.BAD_REQUEST,
        "The path cannot be handed on to the service.",
        errors=[ProblemField(path="path", message=why)],
    )
