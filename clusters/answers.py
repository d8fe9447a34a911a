"""From an answer of the API server to this package's errors, by status, reason and details."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from clusters.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NamespaceTerminating,
    NotFound,
    NotServed,
    QuotaExceeded,
    Throttled,
    Unauthorized,
    Unavailable,
    bounded,
)
from clusters.objects import Manifest
from workflows.domain.json_reading import children, number, text

_QUOTED: Final = re.compile(r'"([^"]+)"')
_SCHEMA_FAULT: Final = re.compile(r"(?:^|[\s:])(\.[^\s:]+): ([^\n]+)")
_QUOTA: Final = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.+), "
    r"used: (?P<used>.+), limited: (?P<limited>.+)$"
)


class Unexplained(Unavailable):
    """A 500 without a reason: under apply mostly unknown fields or wrong types, which `faults` names."""

    def __init__(self, message: str, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(message)
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end. `body` is empty when it was not a JSON object."""

    status: int
    body: Manifest
    content: str
    retry_after: float | None = None
    date: datetime | None = None
    """When the server sent it, by its own clock."""

    @property
    def message(self) -> str:
        """Return what the server said, bounded."""
        return bounded(text(self.body, "message") or self.content.strip() or f"HTTP {self.status}")


def read_answer(status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    """Build an `Answer`; a body that claims to be JSON and is not counts as text."""
    body: Manifest = {}
    decoded = ""
    if headers.get("Content-Type", "").startswith("application/json"):
        try:
            parsed = json.loads(content)
        except ValueError:
            decoded = content.decode(errors="replace")
        else:
            body = parsed if isinstance(parsed, dict) else {}
    else:
        decoded = content.decode(errors="replace")
    after = headers.get("Retry-After", "")
    return Answer(
        status,
        body,
        decoded,
        float(after) if after.isdigit() else None,
        _moment(headers.get("Date", "")),
    )


def _moment(written: str) -> datetime | None:
    try:
        return parsedate_to_datetime(written)
    except ValueError:
        return None


def parse_quota(message: str) -> QuotaExceeded | None:
    """Return the parts of a quota refusal, also out of a FailedCreate event; None for other texts.

    The API server marks these refusals in no other way: reason and details are those of any Forbidden. The
    whole fixed format has to fit, not just a word of it.
    """
    found = _QUOTA.search(message)
    return QuotaExceeded(bounded(message), **found.groupdict()) if found else None


def error_for(answer: Answer) -> ClusterError:  # noqa: PLR0911 - one line per status
    """Return the error that an answer of 400 or above means."""
    message = answer.message
    match answer.status:
        case 400 | 413 | 422:
            return Invalid(message, _invalid_fields(answer))
        case 401:
            return Unauthorized(f"the cluster rejects our credentials: {message}")
        case 403:
            return _forbidden(answer)
        case 404:
            # A path that is not served is answered in plain text, or without naming what was not found.
            return NotFound(message) if text(answer.body, "details", "name") else NotServed(message)
        case 409:
            return _conflict(answer)
        case 410:
            return Gone(message)
        case 429:
            return Throttled(message, answer.retry_after or 1.0)
        case 500 if answer.body and not text(answer.body, "reason"):
            return Unexplained(message, _schema_faults(text(answer.body, "message")))
        case status if status >= 500:
            return Unavailable(message)
        case _:
            return ClusterError(message)


def _schema_faults(message: str) -> tuple[tuple[str, str], ...]:
    # The paths are nowhere but in the message: used to show them, not to decide.
    return tuple((path.lstrip("."), bounded(fault)) for path, fault in _SCHEMA_FAULT.findall(message))


def _invalid_fields(answer: Answer) -> tuple[tuple[str, str], ...]:
    causes = children(answer.body, "details", "causes")
    return tuple((text(cause, "field"), bounded(text(cause, "message"))) for cause in causes)


def _forbidden(answer: Answer) -> ClusterError:
    reasons = {text(cause, "reason") for cause in children(answer.body, "details", "causes")}
    if "NamespaceTerminating" in reasons:
        return NamespaceTerminating(answer.message)
    full = text(answer.body, "message")
    return parse_quota(full) or Forbidden(answer.message)


def _conflict(answer: Answer) -> ClusterError:
    if text(answer.body, "reason") == "AlreadyExists":
        return AlreadyExists(answer.message)
    causes = [
        cause
        for cause in children(answer.body, "details", "causes")
        if text(cause, "reason") == "FieldManagerConflict"
    ]
    # The manager's name is nowhere but in the message, in quotes: used to show it, not to decide.
    managers = {name for cause in causes for name in _QUOTED.findall(text(cause, "message"))[:1]}
    return Conflict(answer.message, tuple(sorted(managers)), tuple(text(cause, "field") for cause in causes))


def failure_of_status(body: Manifest) -> ClusterError:
    """Return the error for a Status object that came inside a stream."""
    return error_for(Answer(number(body, "code") or 500, body, ""))
